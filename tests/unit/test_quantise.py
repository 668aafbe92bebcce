"""Quantising to FP8 blocks: scales, codes, ties and edge cases."""

import ml_dtypes
import numpy as np
import pytest

from engram_ref.ops import dequantise, quantise, requantise, round_bf16
from engram_ref.oracle.slow import codecs as slow
from tests.compare import assert_close


def midpoints():
    """Midpoints of adjacent codes, 31 per block, with a 448 in each block that makes the scale 1."""
    numbers = np.array([float(slow.e4m3(code)[1]) for code in range(127)])
    halves = (numbers[1:] + numbers[:-1]) / 2
    padded = np.concatenate([halves, -halves, np.zeros(-2 * len(halves) % 31)])
    blocks = padded.reshape(-1, 31)
    return np.concatenate([blocks, np.full((len(blocks), 1), 448.0)], axis=1).astype(np.float32)


def edge_of_the_scale():
    """Blocks with maximum 448 * 2^k, or the next float32 below or above it, for k over the whole range."""
    rng = np.random.default_rng(2)
    top = np.float32(448) * np.float32(2.0) ** np.array([-149 + 9, -126, -20, -1, 0, 1, 30, 119], dtype=np.float32)
    top = np.concatenate([top, np.nextafter(top, np.float32(0)), np.nextafter(top[:-1], np.float32(np.inf))])
    blocks = (rng.uniform(-1, 1, (len(top), 32)) * top[:, None]).astype(np.float32)
    blocks[:, 5] = -top
    return blocks


def special_blocks():
    blocks = np.zeros((7, 32), dtype=np.float32)
    blocks[1] = -0.0
    blocks[2, ::2], blocks[2, 3] = -0.0, 1.0                       # zeros keep their sign in a nonzero block
    blocks[3, 7] = np.finfo(np.float32).smallest_subnormal
    blocks[4, :] = np.finfo(np.float32).max
    blocks[5, :16], blocks[5, 16:] = 1e30, -1e-30                  # far below the block's resolution
    blocks[6, 31] = -np.finfo(np.float32).tiny
    return blocks


def random_blocks():
    rng = np.random.default_rng(3)
    return (rng.standard_normal((24, 32)) * 10.0 ** rng.uniform(-30, 30, (24, 1))).astype(np.float32)


BLOCKS = {"random": random_blocks, "ties": midpoints, "edge of the scale": edge_of_the_scale,
          "special": special_blocks}


@pytest.mark.parametrize("floor", [1e-4, 0.0, 1e-30, 7.0], ids="floor={}".format)
@pytest.mark.parametrize("kind", BLOCKS)
def test_quantise_matches_exact_fractions(kind, floor):
    x = BLOCKS[kind]()
    codes, scales = quantise(x, floor)
    expected = [slow.quantise_block(block.tolist(), floor) for block in x]
    assert_close("scales", np.array([[byte] for _, byte in expected], dtype=np.uint8), scales, "exact")
    assert_close("codes", np.array([line for line, _ in expected], dtype=np.uint8), codes, "exact")


def released_float32(x):
    """Codes and scales as computed by DeepSeek's act_quant in float32: amax, times 1/448, exponent from the bits."""
    amax = np.maximum(np.abs(x).max(axis=-1), np.float32(1e-4))
    bits = (amax * np.float32(1 / 448)).view(np.uint32)
    exponent = (bits >> 23).astype(int) - 127 + ((bits & 0x7FFFFF) != 0)
    scaled = np.clip(x / np.ldexp(np.float32(1), exponent)[:, None], -448, 448)
    return scaled.astype(np.float32).astype(ml_dtypes.float8_e4m3fn).view(np.uint8), (exponent + 127)[:, None]


@pytest.mark.parametrize("kind", BLOCKS)
def test_the_default_matches_the_releases_arithmetic(kind):
    x = BLOCKS[kind]()
    for expected, result in zip(released_float32(x), quantise(x), strict=True):
        assert_close("release", expected.astype(np.uint8), result, "exact")


def test_no_scale_is_below_the_floors():
    x = np.zeros((4, 32), dtype=np.float32)
    x[1, 0], x[2, 0], x[3, 0] = 1e-4, 448 * 2.0**-22, np.nextafter(np.float32(448 * 2.0**-22), np.float32(1))
    assert quantise(x)[1].ravel().tolist() == [105, 105, 105, 106]
    assert quantise(x, 0.0)[1].ravel().tolist() == [127, 105, 105, 106]


def test_a_zero_keeps_its_sign_in_an_all_zero_block():
    zeros = np.repeat(np.float32([0.0, -0.0]), 16)
    for floor in (1e-4, 0.0):
        assert quantise(zeros, floor)[0].tolist() == [0] * 16 + [128] * 16


def test_blocks_are_independent():
    x = np.concatenate([np.full(32, 3.0), np.full(32, 3e-20), np.zeros(32)]).astype(np.float32)
    together = quantise(x)
    apart = [quantise(block) for block in x.reshape(3, 32)]
    assert_close("codes", np.concatenate([codes for codes, _ in apart]), together[0], "exact")
    assert_close("scales", np.concatenate([scales for _, scales in apart]), together[1], "exact")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf], ids=str)
def test_a_block_with_nan_or_infinity_gets_the_nan_scale(bad):
    x = np.ones(64, dtype=np.float32)
    x[40] = bad
    codes, scales = quantise(x)
    assert scales.tolist() == [119, 255]
    result = dequantise(codes, scales)
    assert np.isnan(result[32:]).all()
    assert (result[:32] == 1).all()


@pytest.mark.parametrize("kind", BLOCKS)
def test_requantise_is_idempotent(kind):
    once = requantise(BLOCKS[kind]())
    once = once[np.isfinite(once).all(axis=-1)]                    # the next test covers the others
    assert_close("twice", once, requantise(once), "exact")


def test_the_largest_floats_round_up_beyond_float32():
    codes, scales = quantise(np.full(32, np.finfo(np.float32).max, dtype=np.float32))
    assert (dequantise(codes, scales, np.float64) == 2.0**128).all()
    assert np.isinf(dequantise(codes, scales)).all()


def stored_rows(lowest, highest):
    """Rows of an FP8 table with scale bytes in [lowest, highest]."""
    rng = np.random.default_rng(4)
    codes = rng.integers(0, 127, (40, 64), dtype=np.uint8) | rng.integers(0, 2, (40, 64), dtype=np.uint8) << 7
    scales = rng.integers(lowest, highest + 1, (40, 2), dtype=np.uint8)
    return round_bf16(dequantise(codes, scales))


@pytest.mark.parametrize(("lowest", "floor"), [(105, 1e-4), (10, 0.0)], ids=["released", "without a floor"])
def test_stored_rows_at_or_above_the_floor_are_unchanged(lowest, floor):
    rows = stored_rows(lowest, 239)
    assert_close("rows", rows, requantise(rows, floor), "exact")


@pytest.mark.parametrize("byte", [104, 100, 90])
def test_stored_rows_below_the_floor_lose_digits(byte):
    rows = stored_rows(byte, byte)
    unit = 2.0**-22 * 2.0**-9                                # the smallest step with this floor
    assert (requantise(rows) != rows).any()
    assert (np.abs(requantise(rows) - rows) <= np.maximum(unit, np.abs(rows) * 2.0**-3) / 2).all()


def test_requantise_error_is_at_most_half_a_step():
    x = random_blocks()
    _, scales = quantise(x)
    exact, unit = x.astype(np.float64), np.ldexp(1.0, scales.astype(int) - 127)
    spacing = np.ldexp(unit, np.maximum(np.frexp(np.abs(exact) / unit)[1] - 1, -6) - 3)
    assert (np.abs(requantise(x) - exact) <= spacing / 2).all()


def bfloat16_cases():
    rng = np.random.default_rng(5)
    bits = rng.integers(0, 2**32, 3000, dtype=np.uint64).astype(np.uint32)
    ties = (rng.integers(0, 2**16, 500, dtype=np.uint64).astype(np.uint32) << 16) | 0x8000
    edges = np.array([0, 1 << 31, 1, 0x00007FFF, 0x00008000, 0x00018000, 0x7F7F7FFF, 0x7F7F8000, 0x7F800000,
                      0xFF800000, 0x7FC00000, 0xFFC00000], dtype=np.uint32)
    bits = np.concatenate([bits, ties, edges])
    nan = (bits & 0x7FFFFFFF) > 0x7F800000
    return np.where(nan, bits | 0x00400000, bits).view(np.float32)   # quiet NaN, because casting a signalling one warns


def slow_bfloat16(value):
    return np.copysign(slow.to_bfloat16(value), value) if np.isfinite(value) else value


def test_round_bf16_is_nearest_ties_to_even():
    x = bfloat16_cases()
    expected = np.array([slow_bfloat16(float(value)) for value in x]).astype(np.float32)
    assert_close("rounded", expected, round_bf16(x), "exact")


def test_round_bf16_agrees_with_ml_dtypes_and_is_idempotent():
    once = round_bf16(bfloat16_cases())
    assert once.dtype == np.float32
    assert_close("narrow", once, once.astype(ml_dtypes.bfloat16).astype(np.float32), "exact")
    assert_close("twice", once, round_bf16(once), "exact")
