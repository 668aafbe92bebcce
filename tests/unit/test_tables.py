"""Gather, decode, concatenate: which stored numbers a position reads, and in what order."""

import ml_dtypes
import numpy as np
import pytest

from engram_ref.errors import InputError
from engram_ref.ops import check_rows, concatenate, decode, gather
from engram_ref.oracle.slow import codecs as slow_codecs
from engram_ref.oracle.slow import module as slow
from tests.compare import assert_close

SIZES = np.array([5, 7, 11])
OFFSETS = np.array([0, 5, 12])


def numbered_table(width, dtype=np.float64):
    """A table in which each value encodes its row and channel."""
    return (100 * np.arange(23)[:, None] + np.arange(width)).astype(dtype)


def rows_of(batch, length):
    return np.random.default_rng(1).integers(0, SIZES, (batch, length, 3))


@pytest.mark.parametrize(("batch", "length", "width"), [(1, 0, 3), (0, 4, 3), (1, 1, 1), (2, 5, 13)], ids=str)
def test_memory_is_the_concatenated_rows(batch, length, width):
    table, rows = numbered_table(width), rows_of(batch, length)
    result = concatenate(decode((gather(table, rows, OFFSETS),), "fp32", np.float64))
    expected = [[slow.gather(table.tolist(), line, OFFSETS) for line in sequence] for sequence in rows.tolist()]
    assert_close("memory", np.reshape(np.array(expected, dtype=float), (batch, length, 3 * width)), result, "exact")


def test_columns_stay_in_order():
    result = concatenate(numbered_table(2)[None, None, :3])
    assert result.tolist() == [[[0, 1, 100, 101, 200, 201]]]


def test_first_and_last_row_of_every_column():
    rows = np.stack([np.zeros(3, dtype=np.int64), SIZES - 1])[None]
    assert gather(numbered_table(1), rows, OFFSETS)[0, :, :, 0].tolist() == [[0, 500, 1200], [400, 1100, 2200]]


def test_row_indices_beyond_two_to_the_31_work():
    table = np.broadcast_to(np.float32(1), (2**32, 3))          # one number, broadcast to 48 GiB
    result = gather(table, np.array([[[2**31, 2**32 - 2]]]), np.array([0, 1]))
    assert result.tolist() == [[[[1] * 3, [1] * 3]]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("stored", [np.float32, np.float64, ml_dtypes.bfloat16], ids=lambda d: np.dtype(d).name)
def test_plain_rows_are_only_cast(stored, dtype):
    rows = np.random.default_rng(2).standard_normal((1, 3, 2, 5)).astype(stored)
    codec = "bf16" if stored is ml_dtypes.bfloat16 else "fp32"
    result = decode((rows,), codec, dtype)
    assert result.dtype == dtype
    assert_close("cast", rows.astype(np.float64).astype(dtype), result, "exact")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fp8_rows_take_one_scale_per_32_channels(dtype):
    rng = np.random.default_rng(3)
    codes = rng.integers(0, 127, (1, 2, 3, 64), dtype=np.uint8)
    scales = rng.integers(100, 150, (1, 2, 3, 2), dtype=np.uint8)
    result = decode((codes, scales), "fp8_e8m0", dtype)
    expected = [slow_codecs.dequantise(int(codes[i]), int(scales[(*i[:-1], i[-1] // 32)]))[0]
                for i in np.ndindex(codes.shape)]
    assert result.dtype == dtype
    assert_close("decoded", np.reshape(expected, codes.shape), result.astype(np.float64), "exact")


@pytest.mark.parametrize("length", [0, 1, 4])
def test_rows_within_their_columns_are_accepted(length):
    check_rows(rows_of(2, length), SIZES)


BAD_ROWS = {
    "negative": (np.array([[[0, -1, 0]]]), r"\[0, 7\) in column 1, found -1 at position \(0, 0, 1\)"),
    "one past the end": (np.array([[[0, 0, 0], [5, 0, 0]]]), r"column 0, found 5 at position \(0, 1, 0\)"),
    "with offsets": (np.array([[[1, 1, 1]]]) + OFFSETS, "without column offsets"),
    "int32": (np.zeros((1, 1, 3), dtype=np.int32), "int64"),
    "floats": (np.zeros((1, 1, 3)), "int64"),
    "a missing column": (np.zeros((1, 1, 2), dtype=np.int64), r"\[B, T, 3\]"),
    "no batch": (np.zeros((1, 3), dtype=np.int64), r"\[B, T, 3\]"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_invalid_rows_raise(case):
    rows, message = BAD_ROWS[case]
    with pytest.raises(InputError, match=message):
        check_rows(rows, SIZES)
