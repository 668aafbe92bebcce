"""Wrong storage: codecs, the quantiser, tables, projections and the order of stored weights."""

from dataclasses import replace

import ml_dtypes
import numpy as np

from engram_ref.oracle.bugs.values import QUIET, with_parameters

# codecs

def shifted_scale(original, codes, scales, dtype):
    """Computes a scale's bits by shifting its byte: 0 becomes 0.0 and 255 infinity."""
    ones = original(codes, np.full_like(scales, 127), dtype)
    with np.errstate(**QUIET):
        return ones * np.repeat((scales.astype(np.uint32) << 23).view(np.float32), 32, axis=-1).astype(dtype)


def nan_codes_are_480(original, codes, scales, dtype):
    decoded, largest = original(codes, scales, dtype), original(codes & 0x80 | 0x7C, scales, dtype)
    with np.errstate(**QUIET):
        return np.where(codes & 127 == 127, largest * np.dtype(dtype).type(480 / 384), decoded)


def fnuz_bias(original, codes, scales, dtype):
    with np.errstate(**QUIET):
        return np.where(codes == 0x80, np.nan, original(codes, scales, dtype) / 2).astype(dtype)


def subnormals_with_a_hidden_one(original, codes, scales, dtype):
    added = np.where((codes & 0x78 == 0) & (codes & 7 > 0), original(codes & 0x80 | 8, scales, dtype) / 2, 0)
    return original(codes, scales, dtype) + added.astype(dtype)


def quantised(scales_of, unit_of=None):
    """Return the changes for a wrong scale of the quantiser.

    scales_of   (largest magnitude of each block over 448) -> exponent of the scale
    unit_of     likewise -> what the values are divided by; default: the scale
    """
    def wrong(original, x, floor):
        right = original(x, floor)[1]
        blocks = np.abs(x).reshape(*right.shape, 32).astype(np.float64)
        with np.errstate(**QUIET):
            ratio = np.maximum(blocks.max(axis=-1), floor) / 448
            exponent = scales_of(ratio)
            usable = np.isfinite(exponent)
            scales = np.where(usable, np.clip(np.where(usable, exponent, 0), -127, 127) + 127, right).astype(np.uint8)
            unit = np.ldexp(1.0, scales.astype(int) - 127) if unit_of is None else np.where(usable, unit_of(ratio), 1.0)
            narrow = np.clip(np.nan_to_num(x) / np.repeat(unit, 32, axis=-1), -448, 448).astype(np.float32)
        codes = narrow.astype(ml_dtypes.float8_e4m3fn).view(np.uint8)
        return np.where(np.repeat(right == 255, 32, axis=-1), 0, codes).astype(np.uint8), scales

    return {"quantise": wrong}


# tables and projections

def unrounded_projection(original, parameters, memory, config):
    if config.rounding == "none":
        return original(parameters, memory, config)
    x = original.__self__.requantise(memory, config.quantise_floor)
    return original(parameters, x, replace(config, rounding="none"))


def value_first(parameters):
    """Read the rows of a fused projection as value, keys; they are stored as keys, value."""
    swapped = {}
    for part in ("weight", "bias") if "key_bias" in parameters else ("weight",):
        fused = np.concatenate([parameters[f"key_{part}"], parameters[f"value_{part}"][None]])
        swapped |= {f"value_{part}": fused[0], f"key_{part}": fused[1:]}
    return swapped


CHANGES = {
    "e8m0-shift": {"dequantise": shifted_scale},
    "e8m0-zero": {"dequantise": lambda original, codes, scales, dtype: original(
        codes, scales, dtype) * np.repeat(scales > 0, 32, axis=-1)},
    "e4m3-480": {"dequantise": nan_codes_are_480},
    "e4m3-fnuz": {"dequantise": fnuz_bias},
    "e4m3-subnormals": {"dequantise": lambda original, codes, *rest: original(
        np.where(codes & 0x78 == 0, codes & 0x80, codes), *rest)},
    "e4m3-subnormals-as-normal": {"dequantise": subnormals_with_a_hidden_one},
    "scale-block-128": {"dequantise": lambda original, codes, scales, dtype: original(
        codes, scales[..., np.arange(scales.shape[-1]) // 4], dtype)},
    "bf16-truncated": {"round_bf16": lambda original, x: (
        np.ascontiguousarray(x).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)},
    "scale-for-480": quantised(lambda ratio: np.ceil(np.log2(ratio * 448 / 480))),
    "scale-floor": quantised(lambda ratio: np.floor(np.log2(ratio))),
    "scale-nearest": quantised(lambda ratio: np.round(np.log2(ratio))),
    "scale-unrounded": quantised(lambda ratio: np.ceil(np.log2(ratio)), unit_of=lambda ratio: ratio),
    "log2-exponent": quantised(lambda ratio: np.ceil(np.log2(ratio.astype(np.float32)))),
    "requantise-missing": {"requantise": lambda original, x, floor: x},

    "memory-channels-first": {"concatenate": lambda original, rows: original(np.swapaxes(rows, 2, 3))},
    "projection-not-rounded": {"project": unrounded_projection},
    "bias-dropped": {"project": with_parameters(lambda p: {name: 0 * p[name] for name in p if name.endswith("_bias")})},
    "kv-swap": {"project": with_parameters(value_first)},
    "one-key-for-all-branches": {"project": lambda original, parameters, *rest: original(dict(parameters) | {
        name: np.repeat(p[:1], len(p), axis=0) for name, p in parameters.items() if name.startswith("key_")}, *rest)},
}
"""Bug -> target -> wrong implementation."""
