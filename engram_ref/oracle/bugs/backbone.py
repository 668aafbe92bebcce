"""Wrong backbones: RoPE, attention, experts, hyper-connections."""

import math
from dataclasses import replace

import numpy as np

from engram_ref.ops.rope import yarn_mscale

# rotary positions

def half_split(original, x, angle):
    """Pairs channel i with channel i + dim/2, though the weights have adjacent pairs."""
    half = x.shape[-1] // 2
    pairs = np.stack([x[..., :half], x[..., half:]], axis=-1).reshape(x.shape)
    rotated = original(pairs, angle)
    return np.concatenate([rotated[..., 0::2], rotated[..., 1::2]], axis=-1)


def ramp_swapped(original, dim, theta, yarn):
    """Interpolates high frequencies and keeps low ones."""
    plain = original(dim, theta)
    return plain if yarn is None else plain * (1 + 1 / yarn.factor) - original(dim, theta, yarn)


def ramp_not_rounded(original, dim, theta, yarn):
    if yarn is None:
        return original(dim, theta)
    low, high = (dim * math.log(yarn.original_length / (2 * math.pi * beta)) / (2 * math.log(theta))
                 for beta in (yarn.beta_fast, yarn.beta_slow))
    low, high = max(low, 0), min(high, dim - 1)
    ramp = np.clip((np.arange(dim // 2) - low) / (high - low or 0.001), 0, 1)
    return original(dim, theta) * (1 - ramp + ramp / yarn.factor)


def attending(change):
    """Return the changes for attention with changed q_nope, q_pe and scale: change(q_nope, q_pe, scale)."""
    def wrong(original, q_nope, q_pe, c_kv, k_pe, w_uk, w_uv, allowed, scale, *record):
        nope, pe, scale = change(q_nope, q_pe, scale)
        return original(nope, pe, c_kv, k_pe, w_uk, w_uv, allowed, scale, *record)
    return {"attend_expanded": wrong, "attend_absorbed": wrong}


def factor_of_yarn(q_nope, q_pe, scale):
    """m^2, the factor by which YaRN has enlarged the scale."""
    return scale * (q_nope.shape[-1] + q_pe.shape[-1]) ** 0.5


def yarn_on_the_rotary_part(q_nope, q_pe, scale):
    squared = factor_of_yarn(q_nope, q_pe, scale)
    return q_nope, q_pe * q_pe.dtype.type(squared), scale / squared


def with_yarn_power(power):
    """Return the changes for m to another power than 2."""
    return attending(lambda nope, pe, scale: (nope, pe, scale * factor_of_yarn(nope, pe, scale) ** (power / 2 - 1))) | {
        "softmax_scale": lambda original, dim, yarn: original(dim) * yarn_mscale(yarn) ** power}


# attention

def keys_then_values(original, parameters, config):
    """Reads the key rows of all heads first, then the value rows of all heads."""
    rows, dn = parameters["wkv_b.weight"], config.n_heads * config.qk_nope_head_dim
    return (rows[:dn].reshape(config.n_heads, -1, config.kv_lora_rank),
            rows[dn:].reshape(config.n_heads, -1, config.kv_lora_rank))


def rope_part_first(original, parameters, x, angle, config):
    name = "wq.weight" if config.q_lora_rank is None else "wq_b.weight"
    heads = parameters[name].reshape(config.n_heads, config.qk_head_dim, -1)
    rolled = np.roll(heads, -config.qk_rope_head_dim, axis=1).reshape(parameters[name].shape)
    return original(dict(parameters) | {name: rolled}, x, angle, config)


def rope_key_normalised(original, parameters, x, angle, config):
    c_kv, k_pe = original(parameters, x, angle, config)
    return c_kv, k_pe * original.__self__.inverse_rms(k_pe, config.latent_norm_eps)


# experts

def biased_weights(original, parameters, x, config):
    chosen, weights = original(parameters, x, config)
    if not config.router_bias:
        return chosen, weights
    scores = original.__self__.router_scores(x, parameters["gate.weight"], config.scoring_func)
    return chosen, original.__self__.expert_weights(scores + parameters["gate.bias"], chosen, config)


def weights_by_subtraction(original, parameters, x, config):
    """Computes an expert's score as (score + bias) - bias."""
    chosen, _ = original(parameters, x, config)
    bias = parameters["gate.bias"] if config.router_bias else x.dtype.type(0)
    scores = original.__self__.router_scores(x, parameters["gate.weight"], config.scoring_func)
    return chosen, original.__self__.expert_weights((scores + bias) - bias, chosen, config)


def weights_without_a_floor(original, scores, chosen, config):
    """Computes 0 / 0 if every chosen score is 0."""
    if not config.norm_topk_prob:
        return original(scores, chosen, config)
    picked = original(scores, chosen, replace(config, norm_topk_prob=False))
    with np.errstate(invalid="ignore"):
        return picked / (picked.sum(axis=-1, keepdims=True) / config.routed_scaling_factor)


def normalised_over_all(original, scores, chosen, config):
    if not config.norm_topk_prob:
        return original(scores, chosen, config)
    picked = original(scores, chosen, replace(config, norm_topk_prob=False))
    with np.errstate(invalid="ignore"):
        return picked / scores.sum(axis=-1, keepdims=True)


def with_experts(op, **changes):
    """Return the changes for an op that is called with a changed configuration of the experts."""
    return {op: lambda original, *arguments: original(*arguments[:-1], replace(arguments[-1], **changes))}


def by_groups(best, masked_with):
    """Return a `select_experts` that scores groups by their `best` best experts (None: all), masking the others."""
    def wrong(original, scores, bias, config):
        if config.n_group == 1:
            return original(scores, bias, config)
        biased = scores if bias is None else scores + bias
        groups = biased.reshape(len(biased), config.n_group, biased.shape[-1] // config.n_group)
        strength = np.sort(groups, axis=-1)[..., -(best or groups.shape[-1]) :].sum(axis=-1)
        kept = np.argsort(-strength, axis=-1, kind="stable")[:, : config.topk_group]
        opened = (np.arange(config.n_group) == kept[..., None]).any(axis=1)
        masked = np.where(opened[..., None], groups, masked_with).reshape(biased.shape)
        return np.argsort(-masked, axis=-1, kind="stable")[:, : config.num_experts_per_tok]
    return {"select_experts": wrong}


def ties_to_the_highest(original, scores, bias, config):
    flipped = original(scores[:, ::-1], None if bias is None else bias[::-1], config)
    return scores.shape[-1] - 1 - flipped


def shared_times(weight):
    """Return a `moe` whose shared experts are multiplied by weight(config)."""
    def wrong(original, parameters, x, config, *record, **named):
        if not config.n_shared_experts:
            return original(parameters, x, config, *record, **named)
        muted = dict(parameters) | {"shared_experts.w2.weight": np.zeros_like(parameters["shared_experts.w2.weight"])}
        routed = original(muted, x, config, *record, **named)
        return routed + weight(config) * (original(parameters, x, config) - routed)
    return {"moe": wrong}


def overflowing(original, x):
    with np.errstate(all="ignore"):
        return original(x) + 0 * np.exp(x)           # 0 times infinity is NaN


def scores_by(form, instead_of):
    """Return a `router_scores` that uses one function instead of another."""
    return {"router_scores": lambda original, x, weight, scoring_func: original(
        x, weight, form if scoring_func == instead_of else scoring_func)}


# hyper-connections

def divided_by(sums):
    """Return a `sinkhorn` that divides by sums(sum) and only subtracts one maximum per matrix."""
    def wrong(original, logits, iterations, eps):
        if eps:
            return original(logits, iterations, eps)
        with np.errstate(all="ignore"):
            matrix = original.__self__.exp(logits - logits.max(axis=(-1, -2), keepdims=True))
            for _ in range(iterations):
                matrix = matrix / sums(matrix.sum(axis=-2, keepdims=True))
                matrix = matrix / sums(matrix.sum(axis=-1, keepdims=True))
        return matrix
    return {"sinkhorn": wrong}


CHANGES = {
    "rope-half-split": {"rotate": half_split},
    "rope-backwards": {"rotate": lambda original, x, angle: original(x, -angle)},
    "angles-in-float32": {"angles": lambda original, positions, frequency: original(
        positions.astype(np.float32), frequency.astype(np.float32)).astype(np.float64)},
    "yarn-missing": {"frequencies": lambda original, dim, theta, yarn: original(dim, theta)},
    "yarn-ramp-swapped": {"frequencies": ramp_swapped},
    "yarn-ramp-not-rounded": {"frequencies": ramp_not_rounded},
    "yarn-mscale-half": attending(yarn_on_the_rotary_part),
    "yarn-mscale-once": with_yarn_power(1),
    "yarn-m2-missing": with_yarn_power(0),

    "score-scale-nope": attending(lambda nope, pe, scale: (
        nope, pe, scale * ((nope.shape[-1] + pe.shape[-1]) / nope.shape[-1]) ** 0.5)),
    "kv-split-order": {"up_projections": keys_then_values},
    "query-rope-first": {"queries": rope_part_first},
    "k-pe-normalised": {"latents": rope_key_normalised},
    "latent-not-normalised": {"latents": lambda original, parameters, x, angle, config: (
        original.__self__.linear(x, parameters["wkv_a.weight"][: config.kv_lora_rank]),
        original(parameters, x, angle, config)[1])},
    "mask-from-chunk": {"visible": lambda original, positions, n_keys: original(positions - positions[:, :1], n_keys)},
    "mask-of-row-0": {"visible": lambda original, positions, n_keys: original(
        np.broadcast_to(positions[:1], positions.shape), n_keys)},
    "mask-strict": {"visible": lambda original, positions, n_keys: original(np.maximum(positions - 1, 0), n_keys)},
    "mask-missing": {"visible": lambda original, positions, n_keys: np.ones_like(original(positions, n_keys))},

    "route-biased-weight": {"route": biased_weights},
    "route-bias-missing": {"select_experts": lambda original, scores, bias, config: original(scores, None, config)},
    "weights-by-subtraction": {"route": weights_by_subtraction},
    "weights-without-floor": {"expert_weights": weights_without_a_floor},
    "norm-topk-ignored": with_experts("expert_weights", norm_topk_prob=False),
    "norm-topk-always": with_experts("expert_weights", norm_topk_prob=True),
    "weights-over-all-experts": {"expert_weights": normalised_over_all},
    "group-mask-zero": by_groups(2, 0.0),
    "group-score-max": by_groups(1, -np.inf),
    "group-score-sum2": with_experts("select_experts", group_score="best_two"),
    "group-score-sum": by_groups(None, -np.inf),
    "groups-ignored": with_experts("select_experts", n_group=1, topk_group=1),
    "topk-ties": {"select_experts": ties_to_the_highest},
    "sigmoid-overflow": {"sigmoid": overflowing},
    "sigmoid-for-softmax": scores_by("sigmoid", instead_of="softmax"),
    "sigmoid-for-softplus": scores_by("sigmoid", instead_of="sqrt_softplus"),
    "shared-scaled": shared_times(lambda config: config.routed_scaling_factor),
    "shared-missing": shared_times(lambda config: 0.0),
    "gate-and-up-swapped": {"swiglu": lambda original, x, w1, w2, w3: original(x, w3, w2, w1)},

    "mhc-untransposed": {"write_branches": lambda original, X, y, post, res: original(
        X, y, post, res.swapaxes(-1, -2))},
    "mhc-not-applied": {"write_branches": lambda original, X, y, post, res: original(
        X, y, post, np.broadcast_to(np.eye(X.shape[2], dtype=X.dtype), res.shape))},
    "sinkhorn-10": {"sinkhorn": lambda original, logits, iterations, *eps: original(
        logits, min(iterations, 10), *eps)},
    "sinkhorn-rows-first": {"sinkhorn": lambda original, logits, *rest: original(
        logits.swapaxes(-1, -2), *rest).swapaxes(-1, -2)},
    "sinkhorn-clamp": divided_by(lambda total: np.maximum(total, 1e-6)),
    "sinkhorn-overflow": divided_by(lambda total: total),
    "post-mult-1": {"branch_maps": lambda original, parameters, X, eps, config: original(
        parameters, X, eps, replace(config, post_mult=1.0))},
    "alphas-swapped": {"branch_maps": lambda original, parameters, *rest: original(
        dict(parameters) | {"alpha": parameters["alpha"][[1, 0, 2]]}, *rest)},
    "branches-normalised-apart": {"branch_maps": lambda original, parameters, X, eps, config: original(
        parameters, X * original.__self__.inverse_rms(X, eps), eps, config)},
    "collapse-mean": {"collapse": lambda original, X, form, *rest: original(
        X, "mean" if form == "sum" else form, *rest)},
    "collapse-sum-for-head": {"collapse": lambda original, X, form, *rest: original(
        X, "sum" if form == "head" else form, *rest)},
}
"""Bug -> target -> wrong implementation."""
