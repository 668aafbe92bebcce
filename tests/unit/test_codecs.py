"""FP8 rows, power-of-two scales and bfloat16 rounding: every pair of code and scale against exact fractions."""

import functools
import math

import ml_dtypes
import numpy as np
import pytest

from engram_ref.errors import InputError
from engram_ref.ops import dequantise, quantise, round_bf16
from engram_ref.oracle.slow import codecs as slow
from tests.compare import assert_close

WIDTH, BLOCKS = 256, 8
ALL_CODES = np.tile(np.arange(256, dtype=np.uint8), (256, 1))                         # [scale byte, code]
ALL_SCALES = np.repeat(np.arange(256, dtype=np.uint8)[:, None], BLOCKS, axis=1)       # [scale byte, block]


@functools.cache
def slow_pairs():
    """Every pair decoded by the slow version, in float32 and rounded to bfloat16: two [scale byte, code]."""
    pairs = [[slow.dequantise(code, byte) for code in range(256)] for byte in range(256)]
    return np.array(pairs).transpose(2, 0, 1).astype(np.float32)


@functools.cache
def exact_pairs():
    """Exact products of code and scale, all representable in float64."""
    numbers = np.array([np.nan if slow.e4m3(c) == slow.NAN else math.copysign(float(slow.e4m3(c)[1]), slow.e4m3(c)[0])
                        for c in range(256)])
    scales = np.array([np.nan if slow.e8m0(b) == slow.NAN else float(slow.e8m0(b)) for b in range(256)])
    return scales[:, None] * numbers


def test_every_pair_decodes_to_the_float32_product():
    assert_close("float32", slow_pairs()[0], dequantise(ALL_CODES, ALL_SCALES), "exact")


def test_every_pair_rounds_to_the_nearest_bfloat16():
    assert_close("bfloat16", slow_pairs()[1], round_bf16(dequantise(ALL_CODES, ALL_SCALES)), "exact")


def test_every_pair_decodes_exactly_in_float64():
    result = dequantise(ALL_CODES, ALL_SCALES, np.float64)
    assert result.dtype == np.float64
    assert_close("float64", exact_pairs(), result, "exact")


def test_every_code_and_every_scale_agree_with_ml_dtypes():
    codes = np.arange(256, dtype=np.uint8)
    unscaled = dequantise(codes, np.full(BLOCKS, 127, dtype=np.uint8))
    assert_close("codes", codes.view(ml_dtypes.float8_e4m3fn).astype(np.float32), unscaled, "exact")
    ones = dequantise(np.full_like(ALL_CODES, 0x38), ALL_SCALES)[:, 0]
    assert_close("scales", codes.view(ml_dtypes.float8_e8m0fnu).astype(np.float32), ones, "exact")


@pytest.mark.parametrize(("code", "byte", "expected"), [
    (0x01, 127, 2.0**-9), (0x07, 127, 7 * 2.0**-9), (0x08, 127, 2.0**-6), (0x7E, 127, 448.0), (0xFE, 127, -448.0),
    (0x80, 127, -0.0), (0x80, 254, -0.0), (0x38, 0, 2.0**-127), (0x01, 0, 2.0**-136), (0x7E, 246, 448 * 2.0**119),
    (0x7E, 247, np.inf), (0xFE, 247, -np.inf), (0x38, 254, 2.0**127), (0x7F, 127, np.nan), (0xFF, 127, np.nan),
    (0x38, 255, np.nan), (0x00, 255, np.nan)])
def test_edges_of_the_formats(code, byte, expected):
    result = dequantise(np.full(32, code, dtype=np.uint8), np.array([byte], dtype=np.uint8))
    assert_close("value", np.full(32, expected, dtype=np.float32), result, "exact")


def test_overflow_begins_at_scale_byte_247():
    infinite = np.isinf(dequantise(ALL_CODES, ALL_SCALES)).any(axis=1)
    assert infinite.tolist() == [247 <= byte < 255 for byte in range(256)]


def test_bfloat16_is_inexact_for_96_pairs_all_subnormal():
    exact = dequantise(ALL_CODES, ALL_SCALES)
    finite = np.isfinite(exact)
    moved = finite & (round_bf16(exact) != exact)
    assert moved.sum() == 96
    assert np.abs(exact[moved]).max() < 2.0**-126


def test_scales_belong_to_blocks_of_32_channels():
    scales = np.array([127, 128, 126, 130], dtype=np.uint8)
    result = dequantise(np.full(128, 0x38, dtype=np.uint8), scales)
    assert_close("blocks", np.repeat(np.float32([1, 2, 0.5, 8]), 32), result, "exact")


@pytest.mark.parametrize("shape", [(0, 32), (1, 0, 64), (3, 2, 96)], ids=str)
def test_leading_axes_are_kept(shape):
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 256, shape, dtype=np.uint8)
    scales = rng.integers(0, 256, (*shape[:-1], shape[-1] // 32), dtype=np.uint8)
    flat = dequantise(codes.reshape(-1, 32), scales.reshape(-1, 1))
    assert_close("shape", flat.reshape(shape), dequantise(codes, scales), "exact")
    assert [a.shape for a in quantise(np.zeros(shape, dtype=np.float32))] == [codes.shape, scales.shape]


BAD_STORED = {
    "codes as int64": (np.zeros(32, dtype=np.int64), np.zeros(1, dtype=np.uint8), "uint8"),
    "codes as int8": (np.zeros(32, dtype=np.int8), np.zeros(1, dtype=np.uint8), "uint8"),
    "scales as float": (np.zeros(32, dtype=np.uint8), np.ones(1), "uint8"),
    "a scale per 16": (np.zeros(32, dtype=np.uint8), np.zeros(2, dtype=np.uint8), "one scale per 32"),
    "a scale per 128": (np.zeros(128, dtype=np.uint8), np.zeros(1, dtype=np.uint8), "one scale per 32"),
    "31 channels": (np.zeros(31, dtype=np.uint8), np.zeros(1, dtype=np.uint8), "one scale per 32"),
    "wrong batch size": (np.zeros((2, 32), dtype=np.uint8), np.zeros((3, 1), dtype=np.uint8), "one scale per 32"),
}


@pytest.mark.parametrize("case", BAD_STORED)
def test_invalid_codes_and_scales_raise(case):
    codes, scales, message = BAD_STORED[case]
    with pytest.raises(InputError, match=message):
        dequantise(codes, scales)


@pytest.mark.parametrize("width", [1, 31, 33])
def test_quantise_raises_for_an_incomplete_block(width):
    with pytest.raises(InputError, match="multiple of 32"):
        quantise(np.zeros((2, width), dtype=np.float32))
