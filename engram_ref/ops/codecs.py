"""Codecs: the storage formats of table rows, and the rounding functions of low precision.

The released tables store FP8 numbers with one power-of-two scale per 32 channels:

    E4M3FN   1 sign, 4 exponent (bias 7), 3 mantissa bits; no infinity, 0x7F and 0xFF are NaN
    E8M0     8 exponent bits: 2^(byte - 127); byte 255 is NaN
    value    = e4m3(code) * e8m0(scale)

Low precision is implemented as rounding functions, never as the dtype of a computation: float32 arrays contain values
that the narrow format can represent.
"""

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike

from engram_ref.errors import InputError
from engram_ref.ops.small import Small

BLOCK = 32          # channels that share one scale
E4M3_MAX = 448.0    # the largest finite E4M3FN number
E8M0_NAN = 255      # the scale byte of NaN
QUANTISE_FLOOR = 1e-4
"""Lower bound on a block's max|x| in the release's quantiser (act_quant, TileKernels, NeMo)."""


def _e4m3_values() -> np.ndarray:
    """Return the value of each of the 256 E4M3FN codes: float32 [256]."""
    codes = np.arange(256)
    exponent, mantissa = (codes >> 3) & 15, codes & 7
    normal = np.ldexp(1.0 + mantissa / 8, exponent - 7)
    magnitude = np.where(exponent == 0, np.ldexp(mantissa / 8, -6), normal)
    magnitude[(codes & 127) == 127] = np.nan
    return np.where(codes < 128, magnitude, -magnitude).astype(np.float32)


def _e8m0_values() -> np.ndarray:
    """Return the value of each of the 256 E8M0 bytes: float32 [256]; byte 0 is subnormal."""
    values = np.ldexp(1.0, np.arange(256) - 127)
    values[E8M0_NAN] = np.nan
    return values.astype(np.float32)


E4M3_VALUES = _e4m3_values()
E8M0_VALUES = _e8m0_values()


def round_bf16(x: np.ndarray) -> np.ndarray:
    """Round to the nearest bfloat16, ties to even, and return float32.

    x         [...] float32
    returns   [...] float32
    raises    InputError for any other dtype, since wider values would be rounded twice
    source    V4.1 release, its rounding boundaries

    >>> round_bf16(np.array([1.0, 1.00390625, 3.1415927], dtype=np.float32))
    array([1.      , 1.      , 3.140625], dtype=float32)
    """
    if x.dtype != np.float32:
        raise InputError("x", "float32", str(x.dtype), "a wider number would be rounded twice")
    return x.astype(ml_dtypes.bfloat16).astype(np.float32)


def dequantise(codes: np.ndarray, scales: np.ndarray, dtype: DTypeLike = np.float32) -> np.ndarray:
    """Convert stored FP8 numbers to values.

    codes     uint8 [..., W], E4M3FN
    scales    uint8 [..., W/32], E8M0, one per 32 consecutive channels
    dtype     float32: as in the release, which may overflow to Inf; float64: exact
    returns   [..., W] of that dtype; NaN codes and NaN scales give NaN
    raises    InputError for a wrong dtype or number of scales
    source    V4.1 release; OCP 8-bit floating point and microscaling specifications

    >>> dequantise(np.array([0x38] * 32, dtype=np.uint8), np.array([128], dtype=np.uint8))[:2]
    array([2., 2.], dtype=float32)
    """
    if codes.dtype != np.uint8 or scales.dtype != np.uint8:
        raise InputError("codes, scales", "uint8", f"{codes.dtype}, {scales.dtype}")
    if codes.shape != (*scales.shape[:-1], scales.shape[-1] * BLOCK):
        raise InputError("scales", f"one scale per {BLOCK} codes of shape {list(codes.shape)}",
                         f"shape {list(scales.shape)}")
    values = E4M3_VALUES[codes].astype(dtype)
    scale = np.repeat(E8M0_VALUES[scales], BLOCK, axis=-1).astype(dtype)   # [..., W]
    with np.errstate(over="ignore", under="ignore"):                       # 448 * 2^120 is Inf in float32
        return values * scale


def quantise(x: np.ndarray, floor: float = QUANTISE_FLOOR) -> tuple[np.ndarray, np.ndarray]:
    """Convert values to FP8 with the smallest power-of-two scale that keeps each block of 32 in range.

        scale = 2^ceil(log2(max(max|x|, floor) / 448)), its exponent within [-127, 127]
        code  = the E4M3FN number nearest to x / scale, ties to even, at most 448 in magnitude

    x         [..., W] float32, W a multiple of 32
    floor     lower bound on max|x|. With the default, as in the release, no scale is below 2^-22 (byte 105), even for
              an all-zero block, and values far below the floor round to zero
    returns   codes uint8 [..., W], scales uint8 [..., W/32]
    raises    InputError if W is not a multiple of 32, or x is not float32
    source    V4.1 release, the input of its key-value projection; DeepSeek's act_quant

    This project's choices for inputs that do not occur in the release: a block with NaN or Inf gets the NaN scale and
    codes 0; with floor 0, an all-zero block gets scale 1.

    >>> codes, scales = quantise(np.full(32, 3.0, dtype=np.float32))
    >>> hex(codes[0]), scales, dequantise(codes, scales)[0]
    ('0x7c', array([120], dtype=uint8), np.float32(3.0))
    """
    if x.shape[-1] % BLOCK:
        raise InputError("x", f"a last axis whose length is a multiple of {BLOCK}", f"shape {list(x.shape)}")
    if x.dtype != np.float32:
        raise InputError("x", "float32", str(x.dtype), "a wider number would be rounded twice")
    blocks = x.astype(np.float64).reshape(*x.shape[:-1], x.shape[-1] // BLOCK, BLOCK)
    # Scale: frexp gives the exponent exactly, without log2
    largest = np.maximum(np.abs(blocks).max(axis=-1), floor)               # [..., W/32], NaN is kept
    finite = np.isfinite(largest)
    fraction, exponent = np.frexp(np.where(finite & (largest > 0), largest, E4M3_MAX) / E4M3_MAX)
    exponent = np.clip(np.where(fraction == 0.5, exponent - 1, exponent), -127, 127)
    scales = np.where(finite, exponent + 127, E8M0_NAN).astype(np.uint8)
    # Codes: clip first, since larger numbers would become NaN
    scaled = np.where(finite[..., None], blocks, 0.0) / np.ldexp(1.0, exponent)[..., None]
    narrow = np.clip(scaled, -E4M3_MAX, E4M3_MAX).astype(np.float32).astype(ml_dtypes.float8_e4m3fn)
    return narrow.view(np.uint8).reshape(x.shape), scales


class Codecs(Small):
    """The codecs, including the composition `requantise`."""

    __slots__ = ()
    round_bf16 = staticmethod(round_bf16)
    dequantise = staticmethod(dequantise)
    quantise = staticmethod(quantise)

    def requantise(self, x: np.ndarray, floor: float = QUANTISE_FLOOR) -> np.ndarray:
        """Round to the values that FP8 with one scale per 32 channels can represent: quantise, then dequantise.

        x         [..., W] float32
        floor     as for quantise
        returns   [..., W] float32. Rows of an FP8 table, in blocks of 32, are unchanged if their scales are at least
                  the smallest for this floor (byte 105 for the default); rows with smaller scales lose digits
        raises    as quantise
        source    V4.1 release
        """
        return self.dequantise(*self.quantise(x, floor))
