"""Wrong variants of the backbone: RoPE, attention, experts, hyper-connections."""

from dataclasses import replace

import numpy as np

from engram_ref.ops import expert_weights, router_scores
from engram_ref.ops.linear import linear
from engram_ref.ops.norm import inverse_rms

# rotary positions

def rotated_by_halves(original, x, angle):
    """rotate_half: pairs channel i with channel i + dim/2, though the weights have adjacent pairs."""
    half = x.shape[-1] // 2
    pairs = np.stack([x[..., :half], x[..., half:]], axis=-1).reshape(x.shape)
    rotated = original(pairs, angle)
    return np.concatenate([rotated[..., 0::2], rotated[..., 1::2]], axis=-1)


def rotated_backwards(original, x, angle):
    return original(x, -angle)


def ramp_swapped(original, dim, theta, yarn=None):
    """Interpolates high frequencies and keeps low ones."""
    plain = original(dim, theta)
    return plain if yarn is None else plain * (1 + 1 / yarn.factor) - original(dim, theta, yarn)


def ramp_not_rounded(original, dim, theta, yarn):
    low, high = (dim * np.log(yarn.original_length / (2 * np.pi * beta)) / (2 * np.log(theta))
                 for beta in (yarn.beta_fast, yarn.beta_slow))
    return max(low, 0), min(high, dim - 1)


def yarn_on_the_rotary_part(original, q_nope, q_pe, c_kv, k_pe, w_uk, w_uv, allowed, scale, *record):
    """Applies m to cos and sin instead of the softmax scale."""
    squared = scale * (q_nope.shape[-1] + q_pe.shape[-1]) ** 0.5
    return original(q_nope, q_pe * squared, c_kv, k_pe, w_uk, w_uv, allowed, scale / squared, *record)


def angles_in_float32(original, positions, frequency):
    return original(positions.astype(np.float32), frequency.astype(np.float32))


def inverse_order(original, dim):
    return np.argsort(original(dim))


# attention

def mscale_not_squared(original, dim, yarn=None):
    """Uses m instead of m^2."""
    return (original(dim, yarn) * original(dim)) ** 0.5


def scaled_by_the_nope_width(original, q_nope, q_pe, c_kv, k_pe, w_uk, w_uv, allowed, scale, *record):
    wrong = scale * ((q_nope.shape[-1] + q_pe.shape[-1]) / q_nope.shape[-1]) ** 0.5
    return original(q_nope, q_pe, c_kv, k_pe, w_uk, w_uv, allowed, wrong, *record)


def keys_then_values(original, parameters, config):
    """Reads the K rows of all heads first, then the V rows of all heads."""
    rows, dn = parameters["wkv_b.weight"], config.n_heads * config.qk_nope_head_dim
    return (rows[:dn].reshape(config.n_heads, -1, config.kv_lora_rank),
            rows[dn:].reshape(config.n_heads, -1, config.kv_lora_rank))


def rope_part_first(original, parameters, x, angle, config):
    """Reads the rotary channels of each head before the others."""
    name = "wq.weight" if config.q_lora_rank is None else "wq_b.weight"
    heads = parameters[name].reshape(config.n_heads, config.qk_head_dim, -1)
    rolled = np.roll(heads, -config.qk_rope_head_dim, axis=1).reshape(parameters[name].shape)
    return original(dict(parameters) | {name: rolled}, x, angle, config)


def mask_from_chunk_start(original, positions, n_keys):
    """Counts positions from the start of the chunk."""
    return original(positions - positions[:, :1], n_keys)


def mask_of_the_first_row(original, positions, n_keys):
    return original(np.broadcast_to(positions[:1], positions.shape), n_keys)


def itself_masked(original, positions, n_keys):
    return original(np.maximum(positions - 1, 0), n_keys)


def nothing_masked(original, positions, n_keys):
    return np.ones_like(original(positions, n_keys))


def rope_key_normalised(original, parameters, x, angle, config):
    c_kv, k_pe = original(parameters, x, angle, config)
    return c_kv, k_pe * inverse_rms(k_pe, config.latent_norm_eps)


def latent_not_normalised(original, parameters, x, angle, config):
    return linear(x, parameters["wkv_a.weight"][: config.kv_lora_rank]), original(parameters, x, angle, config)[1]


def latent_eps(eps):
    return lambda original, parameters, x, angle, config: original(parameters, x, angle,
                                                                   replace(config, latent_norm_eps=eps))


# experts

def biased_weights(original, parameters, x, config):
    chosen, _ = original(parameters, x, config)
    biased = router_scores(x, parameters["gate.weight"], config.scoring_func) + parameters["gate.bias"]
    return chosen, expert_weights(biased, chosen, config)


def weights_by_subtraction(original, parameters, x, config):
    """Computes an expert's score as (score + bias) - bias."""
    chosen, _ = original(parameters, x, config)
    bias = parameters["gate.bias"] if config.router_bias else 0.0
    scores = router_scores(x, parameters["gate.weight"], config.scoring_func)
    return chosen, expert_weights((scores + bias) - bias, chosen, config)


def weights_without_a_floor(original, scores, chosen, config):
    """Computes 0 / 0 if every chosen score is 0."""
    picked = original(scores, chosen, replace(config, norm_topk_prob=False))
    with np.errstate(invalid="ignore"):
        total = picked.sum(axis=-1, keepdims=True) / config.routed_scaling_factor
        return picked / total if config.norm_topk_prob else picked


def normalised_for_all(original, scores, chosen, config):
    return original(scores, chosen, replace(config, norm_topk_prob=True))


def groups_by_best_two(original, scores, bias, config):
    """Scores a group by its two best experts and ignores the configuration."""
    return original(scores, bias, replace(config, group_score="best_two"))


def by_groups(original, scores, bias, config, best, masked_with):
    """Scores groups by the sum of their `best` best experts and fills the other groups with `masked_with`."""
    if config.n_group == 1:
        return original(scores, bias, config)
    biased = scores if bias is None else scores + bias
    groups = biased.reshape(len(biased), config.n_group, -1)
    strength = np.sort(groups, axis=-1)[..., -best:].sum(axis=-1)
    kept = np.argsort(-strength, axis=-1, kind="stable")[:, : config.topk_group]
    opened = (np.arange(config.n_group) == kept[..., None]).any(axis=1)
    masked = np.where(opened[..., None], groups, masked_with).reshape(biased.shape)
    return np.argsort(-masked, axis=-1, kind="stable")[:, : config.num_experts_per_tok]


def masked_with_zero(original, scores, bias, config):
    """Masks groups with 0, which wins if every biased score is negative."""
    return by_groups(original, scores, bias, config, 2, 0.0)


def groups_by_best_one(original, scores, bias, config):
    """Scores a group by its best expert alone."""
    return by_groups(original, scores, bias, config, 1, -np.inf)


def groups_by_all(original, scores, bias, config):
    """Scores a group by the sum over all its experts."""
    return by_groups(original, scores, bias, config, scores.shape[-1] // config.n_group, -np.inf)


def groups_ignored(original, scores, bias, config):
    return original(scores, bias, replace(config, n_group=1, topk_group=1))


def without_bias(original, scores, bias, config):
    return original(scores, np.zeros_like(bias), config)


def ties_to_the_highest(original, x):
    return np.argsort(x, axis=-1, kind="stable")[..., ::-1]


def with_shared_weight(weight):
    """Returns a `moe` whose shared experts are multiplied by `weight(config)`."""
    def wrong(original, parameters, x, config, *record, **named):
        if not config.n_shared_experts:
            return original(parameters, x, config, *record, **named)
        muted = dict(parameters) | {"shared_experts.w2.weight": np.zeros_like(parameters["shared_experts.w2.weight"])}
        routed = original(muted, x, config, *record, **named)
        return routed + weight(config) * (original(parameters, x, config) - routed)
    return wrong


def not_normalised(original, scores, chosen, config):
    return original(scores, chosen, replace(config, norm_topk_prob=False))


def normalised_over_all(original, scores, chosen, config):
    """Divides by the sum over all experts instead of the chosen ones."""
    picked = original(scores, chosen, replace(config, norm_topk_prob=False))
    return picked / scores.sum(axis=-1, keepdims=True)


def gate_and_up_swapped(original, x, w1, w2, w3):
    return original(x, w3, w2, w1)


# hyper-connections

def transposed(original, X, y, post, res):
    return original(X, y, post, res.swapaxes(-1, -2))


def not_applied(original, X, y, post, res):
    """Omits the residual map: branches are not mixed."""
    return X + post[..., None] * y[:, :, None, :]


def steps(count):
    """Returns a Sinkhorn-Knopp function with at most `count` iterations."""
    return lambda original, logits, iterations, *eps: original(logits, min(iterations, count), *eps)


def rows_first(original, logits, iterations, *eps):
    return original(logits.swapaxes(-1, -2), iterations, *eps).swapaxes(-1, -2)


def one_maximum_for_the_matrix(original, logits, iterations, *eps):
    """Only avoids overflow: a column far below the largest entry becomes 0 / 0."""
    with np.errstate(all="ignore"):
        matrix = np.exp(logits - logits.max(axis=(-1, -2), keepdims=True))
        for _ in range(iterations):
            matrix = matrix / matrix.sum(axis=-2, keepdims=True)
            matrix = matrix / matrix.sum(axis=-1, keepdims=True)
    return matrix


def post_without_its_two(original, parameters, X, eps, config):
    return original(parameters, X, eps, replace(config, post_mult=1.0))


def alphas_swapped(original, parameters, X, eps, config):
    return original(dict(parameters) | {"alpha": parameters["alpha"][[1, 0, 2]]}, X, eps, config)


def normalised_by_branch(original, parameters, X, eps, config):
    """Normalises each branch separately before the joint norm."""
    return original(parameters, X * inverse_rms(X, eps), eps, config)
