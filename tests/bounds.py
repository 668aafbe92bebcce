"""Error propagation through the stages of the Engram module.

`assert_close` allows a number of roundings times a scale. For a single sum, the scale is the sum of the absolute
values. For a chain of stages, it grows with each stage's slope, and three stages of the module are steep: the two norms
(a short vector is divided by its length) and the signed root (its slope at zero is infinite, but clamped at 1e-6).
Propagation is first-order, term by term; every function maps one rounding unit at its input to its output.
"""

import numpy as np


def norm_scale(x, x_scale, gain, eps):
    """RMSNorm: the error of x divided by its length, plus the error of the length itself."""
    length = rms(x, eps)
    of_length = x_scale.max(axis=-1, keepdims=True) / length
    return np.abs(gain) * (x_scale + np.abs(x) * (1 + of_length)) / length


def gate_scale(s, s_scale, form):
    """The sigmoid's slope is at most 1/4; the root's is 1 / (2 sqrt|s|), at most 500."""
    root = lambda size: 0.5 / np.sqrt(np.maximum(size, 1e-6))
    slopes = {"sigmoid": np.ones_like, "signed_sqrt": root, "copysign_sqrt": root}
    return 1.0 + 0.25 * slopes[form](np.abs(s)) * s_scale


def conv_scale(x, x_scale, weight, dilation):
    """SiLU's slope is below 1.1; each tap adds its own error and one rounding."""
    T, L = x.shape[1], weight.shape[-1]
    reach = (L - 1) * dilation
    left = np.zeros((len(x), reach, *x.shape[2:]))
    errors = np.concatenate([left, x_scale + np.abs(x)], axis=1)
    taps = [np.abs(weight[..., j]) * errors[:, j * dilation : j * dilation + T] for j in range(L)]
    return 1.1 * np.sum(taps, axis=0)


def module_scale(stages, parameters, config, hidden):
    """Return the elementwise scale of the module's output, from the arrays of a trace.

    stages       mapping with memory, key, value, score and gated
    parameters   parameters of the module in float64
    """
    e = np.abs(stages["memory"])
    shift = 1.0 if config.gain_form == "zero_centred" else 0.0
    eps = np.finfo(float).eps if config.norm_eps is None else config.norm_eps
    query_gain, key_gain = parameters["query_gain"] + shift, parameters["key_gain"] + shift
    key_scale = np.einsum("btw,mdw->btmd", e, np.abs(parameters["key_weight"])) + np.abs(stages["key"])
    value_scale = np.einsum("btw,dw->btd", e, np.abs(parameters["value_weight"])) + np.abs(stages["value"])
    query = np.abs(hidden / rms(hidden, eps) * query_gain)
    key = np.abs(stages["key"] / rms(stages["key"], eps) * key_gain)
    s_scale = np.sum(query * (key + norm_scale(stages["key"], key_scale, key_gain, eps)), axis=-1)
    s_scale = 2 * s_scale / np.sqrt(hidden.shape[-1])        # doubled, because the query norm rounds as well
    alpha_scale = gate_scale(stages["score"], s_scale, config.gate_form)[..., None]
    gated, value = stages["gated"], stages["value"][:, :, None]
    scale = alpha_scale * np.abs(value) + value_scale[:, :, None]
    scale = np.where(gated == 0, 0.0, scale)                 # a dead position is exactly zero
    if not config.conv_kernel:
        return scale
    conv_gain, conv_eps = parameters["conv_gain"] + shift, config.conv_norm_eps
    normalised = gated / rms(gated, conv_eps) * conv_gain
    x_scale = norm_scale(gated, scale, conv_gain, conv_eps)
    return scale + conv_scale(normalised, x_scale, parameters["conv_weight"], config.conv_dilation)


def rms(x, eps):
    """Root mean square over the last axis, eps inside the root: [..., 1]."""
    return np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps)
