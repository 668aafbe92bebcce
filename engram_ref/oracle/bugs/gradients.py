"""Wrong gradients: one term is missing or wrong."""

import numpy as np

from engram_ref.ops.experts import NORM_FLOOR
from engram_ref.ops.loss import choice_shares
from engram_ref.ops.vjp.basic import summed
from engram_ref.ops.vjp.tables import RowGradient


def part(i, change):
    """Return a VJP with one other gradient: change(the right one, upstream, *inputs) for input number i."""
    def wrong(original, upstream, *inputs):
        right = original(upstream, *inputs)
        return *right[:i], change(right[i], upstream, *inputs), *right[i + 1 :]
    return wrong


def zeros(right, *rest):
    return np.zeros_like(right)


# norm

def norm_with(mean_of):
    """Return rms_norm_vjp with another mean in the second term: mean_of(x, upstream, gain) [..., 1]."""
    def wrong(original, upstream, x, gain, eps):
        r = original.__self__.inverse_rms(x, eps)
        of_x = r * upstream * gain - x * r**3 * mean_of(x, upstream, gain)
        return of_x, *original(upstream, x, gain, eps)[1:]
    return wrong


def gain_without_r(original, upstream, x, gain, eps):
    return original(upstream, x, gain, eps)[0], summed(upstream * x, gain.shape), None


def gain_of_the_last_token(original, upstream, x, gain, eps):
    each = upstream * x * original.__self__.inverse_rms(x, eps)
    return original(upstream, x, gain, eps)[0], each.reshape(-1, *gain.shape)[-1], None


def power_2(original, upstream, x, eps):
    return -upstream * original.__self__.inverse_rms(x, eps) ** 2 * x / x.shape[-1], None


# gate

def both_roots(wrong):
    return {"signed_sqrt_vjp": wrong, "copysign_sqrt_vjp": wrong}


def slope_in_the_clamp(original, upstream, s):
    return (upstream * 0.5 / np.sqrt(np.maximum(np.abs(s), s.dtype.type(1e-6))),)


def norm_is_constant(i):
    """Return factored_score_vjp without the second term of hidden (0) or key (1)."""
    def wrong(right, upstream, *inputs, ops):
        gains, eps = inputs[2] * inputs[3], inputs[4]
        r = ops.inverse_rms(inputs[0], eps) * ops.inverse_rms(inputs[1], eps) / inputs[0].shape[-1] ** 0.5
        return (upstream[..., None] * r * gains * inputs[1 - i]).astype(right.dtype)
    return lambda original, *arguments: part(i, lambda *a: wrong(*a, ops=original.__self__))(original, *arguments)


# convolution

def from_earlier_outputs(original, upstream, x, *rest):
    return original(upstream[:, ::-1], x, *rest)[0][:, ::-1], *original(upstream, x, *rest)[1:]


# tables and products

def overwritten(original, upstream, table, *places):
    """Keeps the last of several gradients of one row."""
    right, *others = original(upstream, table, *places)
    dense = np.zeros(right.shape, dtype=upstream.dtype)
    dense[sum(places).reshape(-1)] = upstream.reshape(-1, right.shape[-1])
    return RowGradient(right.rows, dense[right.rows], right.shape), *others


def bias_of_the_last_token(right, upstream, *inputs):
    return None if right is None else upstream.reshape(-1, upstream.shape[-1])[-1]


def no_gradient_of(operand):
    """Return an einsum_vjp that gives 0 to an operand with these axes."""
    def wrong(original, upstream, axes, *arrays):
        operands = axes.partition("->")[0].split(",")
        return None, *(0 * right if axes == operand else right
                       for right, axes in zip(original(upstream, axes, *arrays)[1:], operands, strict=True))
    return {"einsum_vjp": wrong}


def first_head_only(original, upstream, axes, *arrays):
    """Gives the key that all heads share, "bsp", the gradient of the first head."""
    first, *others = original(upstream, axes, *arrays)[1:]
    if axes.startswith("btap,bsp->"):
        others = original(upstream[:, :1], axes, arrays[0][:, :, :1], arrays[1])[2:]
    return None, first, *others


def cosines_only(original, upstream, x, angle):
    return (original(upstream, x, angle)[0] + original(upstream, x, -angle)[0]) / 2, None


# experts

def constant_total(right, upstream, scores, chosen, config):
    total = np.take_along_axis(scores, chosen, axis=-1).sum(axis=-1, keepdims=True) + NORM_FLOOR
    total = total if config.norm_topk_prob else 1
    gradient = np.zeros_like(scores)
    np.put_along_axis(gradient, chosen, upstream * config.routed_scaling_factor / total, axis=-1)
    return gradient


def total_of_all(right, upstream, scores, chosen, config):
    """Gives the unchosen scores what the chosen ones get as parts of the total."""
    if not config.norm_topk_prob:
        return right
    selected = np.take_along_axis(scores, chosen, axis=-1)
    total = selected.sum(axis=-1, keepdims=True) + NORM_FLOOR
    of_total = -np.sum(upstream * selected, axis=-1, keepdims=True) * config.routed_scaling_factor / total**2
    unchosen = np.ones(scores.shape, dtype=bool)
    np.put_along_axis(unchosen, chosen, False, axis=-1)
    return np.where(unchosen, of_total, right).astype(right.dtype)


def in_order_of_index(original, upstream, scores, chosen, config):
    """Sorts the experts but not their gradients."""
    of_chosen = np.take_along_axis(original(upstream, scores, chosen, config)[0], chosen, axis=-1)
    gradient = np.zeros_like(scores)
    np.put_along_axis(gradient, np.sort(chosen, axis=-1), of_chosen, axis=-1)
    return gradient, None, None


def unscaled(right, upstream, scores, chosen, config):
    return right / right.dtype.type(config.routed_scaling_factor)


def both_routed(wrong):
    """Changes both forms; routed_naive_vjp calls routed_grouped_vjp."""
    return {"routed_grouped_vjp": wrong}


def constant_shares(right, upstream, scores, chosen):
    """Divides the scores of a token by their total as if it were a constant."""
    f = choice_shares(chosen, scores.shape[-1], scores.dtype)[:, None]
    return upstream[:, None, None] * f / (scores.sum(axis=-1, keepdims=True) * scores.shape[1])


def gated_path_only(original, upstream, x, w1, w2, w3):
    of_x, of_w1, *rest = original(upstream, x, w1, w2, w3)
    ops = original.__self__
    of_u = (upstream @ w2) * ops.silu(ops.linear(x, w1))
    return of_x - of_u @ w3, of_w1, *rest


# hyper-connections

def last_half_step(original, upstream, logits, iterations, eps):
    p = original.__self__.sinkhorn(logits, iterations, eps)
    return p * (upstream - np.sum(upstream * p, axis=-1, keepdims=True)), None, None


def first_half_step(original, upstream, logits, iterations, eps):
    """Divides the gradient by the total of every later half-step as if it were a constant."""
    ops = original.__self__
    first = np.exp(ops.log_normalise(logits, -2))
    of_first = upstream * ops.sinkhorn(logits, iterations, eps) / (first + eps)
    return ops.log_normalise_vjp(of_first * first, logits, -2)[0], None, None


def of_logarithms(original, upstream, logits, iterations, eps):
    """Passes the gradient of the matrix to that of its logarithm unchanged; the form with eps has no logarithms."""
    if eps:
        return original(upstream, logits, iterations, eps)
    inputs, ops = [], original.__self__
    for axis in (-2, -1) * iterations:
        inputs.append((logits, axis))
        logits = ops.log_normalise(logits, axis)
    for before, axis in reversed(inputs):
        upstream, _ = ops.log_normalise_vjp(upstream, before, axis)
    return upstream, None, None


def first_branch(original, upstream, x, n_branches):
    return upstream[:, :, 0], None


CHANGES = {
    "norm-vjp-r-constant": {"rms_norm_vjp": norm_with(lambda x, upstream, gain: 0)},
    "norm-vjp-gain-outside": {"rms_norm_vjp": norm_with(
        lambda x, upstream, gain: gain * np.mean(upstream * x, axis=-1, keepdims=True))},
    "gain-vjp-unnormalised": {"rms_norm_vjp": gain_without_r},
    "gain-vjp-last-token": {"rms_norm_vjp": gain_of_the_last_token},
    "inverse-rms-vjp-power-2": {"inverse_rms_vjp": power_2},
    "root-vjp-no-slope": both_roots(lambda original, upstream, s: (upstream,)),
    "clamp-vjp-slope": both_roots(slope_in_the_clamp),
    "sigmoid-vjp-one-factor": {"sigmoid_vjp": lambda original, upstream, x: (upstream * original.__self__.sigmoid(x),)},
    "dead-vjp-not-zero": {"zero_dead_vjp": lambda original, upstream, alpha, dead: (upstream, None)},
    "score-vjp-unscaled": {"score_vjp": lambda original, upstream, query, key: (
        upstream[..., None] * key, upstream[..., None] * query)},
    "score-vjp-query-norm-constant": {"factored_score_vjp": norm_is_constant(0)},
    "score-vjp-key-norm-constant": {"factored_score_vjp": norm_is_constant(1)},
    "value-vjp-one-branch": {"apply_gate_vjp": part(1, lambda right, upstream, alpha, value: (
        alpha[:, :, 0, None] * upstream[:, :, 0]))},
    "conv-vjp-weight-reversed": {"short_conv_vjp": part(1, lambda right, *rest: right[..., ::-1])},
    "conv-vjp-earlier-outputs": {"short_conv_vjp": from_earlier_outputs},
    "conv-vjp-taps-constant": {"short_conv_vjp": part(3, zeros)},
    "silu-vjp-no-product": {"silu_vjp": lambda original, upstream, x: (upstream * original.__self__.sigmoid(x),)},
    "conv-vjp-silu-missing": {"conv_silu_vjp": lambda original, *arguments: original.__self__.short_conv_vjp(
        *arguments)},
    "scatter-overwrites": {"gather_vjp": overwritten, "embed_vjp": overwritten},
    "weight-vjp-transposed": {"linear_vjp": part(1, lambda right, *rest: right.T.reshape(right.shape))},
    "rounding-vjp-zero": {"round_bf16_vjp": part(0, zeros), "requantise_vjp": part(0, zeros)},
    "bias-vjp-last-token": {"linear_vjp": part(2, bias_of_the_last_token)},
    "softmax-vjp-no-sum": {"softmax_vjp": lambda original, upstream, scores, allowed: (
        upstream * original.__self__.softmax(scores, allowed), None)},
    "softmax-vjp-unmasked": {"softmax_vjp": lambda original, upstream, scores, allowed: original(upstream, scores)},
    "rotate-vjp-no-sines": {"rotate_vjp": cosines_only},
    "rotate-vjp-forwards": {"rotate_vjp": lambda original, upstream, x, angle: original(upstream, x, -angle)},
    "shared-key-vjp-one-head": {"einsum_vjp": first_head_only},
    "up-projection-vjp-no-keys": no_gradient_of("anr"),
    "up-projection-vjp-no-values": no_gradient_of("avr"),
    "weights-vjp-total-constant": {"expert_weights_vjp": part(0, constant_total)},
    "weights-vjp-unchosen": {"expert_weights_vjp": part(0, total_of_all)},
    "weights-vjp-sorted": {"expert_weights_vjp": in_order_of_index},
    "weights-vjp-unscaled": {"expert_weights_vjp": part(0, unscaled)},
    "router-vjp-missing": both_routed(part(3, zeros)),
    "swiglu-vjp-one-path": {"swiglu_vjp": gated_path_only},
    "sqrt-softplus-vjp-no-root": {"sqrt_softplus_vjp": lambda original, upstream, z: (
        upstream * original.__self__.sigmoid(z),)},
    "balance-vjp-total-constant": {"balance_loss_vjp": part(0, constant_shares)},
    "sinkhorn-vjp-last-step": {"sinkhorn_vjp": last_half_step},
    "sinkhorn-vjp-first-step": {"sinkhorn_vjp": first_half_step},
    "sinkhorn-vjp-no-exp": {"sinkhorn_vjp": of_logarithms},
    "normalise-vjp-no-sum": {"log_normalise_vjp": lambda original, upstream, *rest: (upstream, None)},
    "expand-vjp-one-branch": {"expand_vjp": first_branch},
    "merge-vjp-undivided": {"merge_branches_vjp": lambda original, upstream, X, form: original(upstream, X, "sum")},
    "cross-entropy-vjp-sum": {"cross_entropy_vjp": lambda original, upstream, *rest: original(
        np.ones_like(upstream), *rest)},
    "cross-entropy-vjp-no-one": {"cross_entropy_vjp": lambda original, upstream, logits, targets: (
        original.__self__.softmax(logits) * upstream[..., None], None)},
}
"""Bug -> target -> wrong implementation."""
