"""Wrong variants of the float ops: codecs, tables, norms, gate, roundings, convolution."""

import ml_dtypes
import numpy as np

CLAMP = 1e-6
QUIET = {"over": "ignore", "under": "ignore", "invalid": "ignore", "divide": "ignore"}


def result_in_bf16(original, *arguments):
    result = original(*arguments)
    return result.astype(ml_dtypes.bfloat16).astype(result.dtype)


# codecs

def shifted_scale(original, codes, scales, dtype=np.float32):
    """Computes the bits of a scale by shifting its byte: 0 becomes 0.0 and 255 infinity."""
    ones = original(codes, np.full_like(scales, 127), dtype)
    with np.errstate(**QUIET):
        return ones * np.repeat((scales.astype(np.uint32) << 23).view(np.float32), 32, axis=-1).astype(dtype)


def nan_codes_are_480(original, codes, scales, dtype=np.float32):
    decoded, largest = original(codes, scales, dtype), original(codes & 0x80 | 0x7C, scales, dtype)
    with np.errstate(**QUIET):
        return np.where(codes & 127 == 127, largest * dtype(480 / 384), decoded)


def fnuz_bias(original, codes, scales, dtype=np.float32):
    """Uses the exponent bias and the NaN of E4M3FNUZ."""
    with np.errstate(**QUIET):
        return np.where(codes == 0x80, np.nan, original(codes, scales, dtype) / 2).astype(dtype)


def flushed_subnormals(original, codes, scales, dtype=np.float32):
    return original(np.where(codes & 0x78 == 0, codes & 0x80, codes), scales, dtype)


def subnormals_with_a_hidden_one(original, codes, scales, dtype=np.float32):
    added = np.where((codes & 0x78 == 0) & (codes & 7 > 0), original(codes & 0x80 | 8, scales, dtype) / 2, 0)
    return original(codes, scales, dtype) + added.astype(dtype)


def scale_per_128_channels(original, codes, scales, dtype=np.float32):
    return original(codes, scales[..., np.arange(scales.shape[-1]) // 4], dtype)


def truncated_bf16(original, x):
    return (np.ascontiguousarray(x).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def scale_for_480(original, x, floor):
    """Computes the scale as if the largest representable value were 480, so that some blocks saturate."""
    return with_scales(x, original((x * np.float32(448 / 480)).astype(np.float32), floor)[1])


def scale_to_the_nearest_power(original, x, floor):
    """Rounds log2 to nearest instead of up."""
    return with_scales(x, original((x * np.float32(2**-0.5)).astype(np.float32), floor)[1])


def scale_of_the_power_below(original, x, floor):
    """Uses scales half as large, so that large values saturate."""
    return with_scales(x, original(x, floor)[1] - np.uint8(1))


def with_scales(x, scales):
    """Returns saturated codes for the given scales."""
    unit = np.ldexp(np.float32(1), np.repeat(scales.astype(int) - 127, 32, axis=-1))
    return np.clip(x / unit, -448, 448).astype(ml_dtypes.float8_e4m3fn).view(np.uint8), scales


# tables and projections

def inclusive_offsets(original, table, rows, offsets):
    return original(table, rows, np.append(offsets[1:], offsets[-1]))


def one_key_for_all_branches(original, parameters, memory, config):
    key, value = original(parameters, memory, config)
    return np.broadcast_to(key[:, :, :1], key.shape), value


# norms

def eps_replaced(stated, other):
    """Returns an `inverse_rms` that replaces the eps `stated` by `other`."""
    return lambda original, x, eps: original(x, other if eps == stated else eps)


def eps_outside(original, x, eps):
    eps = float(np.finfo(x.dtype).eps) if eps is None else eps
    return 1.0 / (np.sqrt(np.mean(x * x, axis=-1, keepdims=True)) + eps)


def joint_norm(original, x, eps):
    """Computes one mean square over all branches."""
    eps = float(np.finfo(x.dtype).eps) if eps is None else eps
    return 1.0 / np.sqrt(np.mean(x * x, axis=(-2, -1), keepdims=True) + eps)


def gain_of_branch_0(name):
    return with_parameter(name, lambda gain: np.broadcast_to(gain[:1], gain.shape))


def with_parameter(name, change):
    """Returns an op that calls the original with one of its parameters changed."""
    return lambda original, p, *rest: original(dict(p) | {name: change(p[name])}, *rest)


# the gate

def clamped_root(s):
    return np.sqrt(np.maximum(np.abs(s), CLAMP))


def sign_times_root(original, s):
    return np.sign(s) * clamped_root(s)


def copysign_of_root(original, s):
    return np.copysign(clamped_root(s), s)


def sign_by_comparison(original, s):
    """Loses the sign of -0.0: only s < 0 counts as negative."""
    return np.where(s < 0, -1.0, 1.0) * clamped_root(s)


def unclamped(original, s):
    return np.copysign(np.sqrt(np.abs(s)), original(s))


def clamp_added(original, s):
    """Adds the clamp to |s| instead of taking their maximum."""
    return np.sign(original(s)) * np.sqrt(np.abs(s) + CLAMP)


def clamped_after_the_root(original, s):
    """Takes the maximum after the root."""
    return np.sign(s) * np.maximum(np.sqrt(np.abs(s)), CLAMP)


def gate_of_form(form):
    return lambda original, s, _, dead=None: original(s, form, dead)


def dead_ignored(original, s, form, dead=None):
    return original(s, form)


def dead_score_is_zero(original, s, form, dead=None):
    """Sets the score of a DEAD position to 0, so that its gate is near 1/2."""
    return original(s if dead is None else s * ~dead[..., None], form)


def scaled_by(power):
    """Multiplies the score by a power of the width."""
    return lambda original, x, *rest: original(x, *rest) * x.shape[-1] ** power


# roundings

def product_rounded_first(original, hidden, update, rounding="none"):
    return original(hidden, update.astype(ml_dtypes.bfloat16).astype(np.float32), rounding)


def residual_not_rounded(original, hidden, update, rounding="none"):
    return original(hidden, update)


# the convolution

def reversed_taps(original, x, weight, *rest):
    return original(x, weight[..., ::-1], *rest)


def without_dilation(original, x, weight, dilation, taps):
    return original(x, weight, 1, taps[:, taps.shape[1] - (weight.shape[-1] - 1) :])


def non_causal(original, x, weight, dilation, taps):
    """Reads later positions instead of earlier ones."""
    return original(x[:, ::-1], weight, dilation, taps)[:, ::-1]


def one_kernel_for_all_branches(original, x, weight, *rest):
    return original(x, weight[:1], *rest)


def state_lost(original, x, taps):
    return np.zeros_like(taps)


def state_of_one_chunk(original, x, taps):
    """Computes the taps from the inputs of this call alone."""
    return original(x, np.zeros_like(taps))


def state_not_normalised(original, parameters, gated, taps, config, record):
    output = original(parameters, gated, taps, config, record)[0]
    return output, np.concatenate([taps, gated], axis=1)[:, gated.shape[1] :]


def gated_value_not_added(original, parameters, gated, *rest):
    output, taps = original(parameters, gated, *rest)
    return output - gated, taps


# parameter names, and trivial outputs

def key_and_value_swapped(original, *arguments):
    parameters = original(*arguments)
    keys = parameters["key_weight"].copy()
    keys[0], value = parameters["value_weight"], parameters["key_weight"][0]
    return parameters | {"key_weight": keys, "value_weight": value}


def channels_before_branches(original, *arguments):
    parameters = original(*arguments)
    M, D, L = parameters["conv_weight"].shape
    return parameters | {"conv_weight": parameters["conv_weight"].reshape(D, M, L).swapaxes(0, 1)}


def all_zeros(original, parameters, hidden, *rest, **named):
    return np.zeros_like(hidden)


def copy_of_input(original, parameters, hidden, *rest, **named):
    return hidden.copy()


def residual_included(original, parameters, hidden, *rest, **named):
    return original(parameters, hidden, *rest, **named) + hidden
