"""Rows gathered by the fused kernels, as bytes and decoded, equal those of the definition."""

from dataclasses import replace

import numpy as np
import pytest

from engram_ref import InputError, ops
from tests.compare import assert_close

pytest.importorskip("numba", reason="numba is not installed")
from engram_ref.backends import numba as fast
from engram_ref.backends.numba import _buffers, tables
from scripts.builders.small_modules import V41, random_parameters
from tests.parity.numba_kernels import copied, decoded

SIZES = np.array([50, 70, 110])
OFFSETS = np.array([0, 50, 120])


def rows_of(rng, B, T):
    return rng.integers(0, SIZES, (B, T, 3))


WIDTHS = [1, 5, 16, 33, 64, 80]


@pytest.mark.parametrize("width", WIDTHS)
def test_gathered_rows_equal_the_definition(width, rng):
    for dtype in (np.float32, np.float64, np.uint8):
        table = rng.integers(0, 255, (230, width)).astype(dtype)
        for shape in ((1, 0), (0, 2), (1, 1), (2, 9), (2, 600)):
            rows = rows_of(rng, *shape)
            assert_close(f"{shape}", ops.gather(table, rows, OFFSETS), fast.gather(table, rows, OFFSETS), "exact")


@pytest.mark.parametrize("width", WIDTHS)
def test_non_temporal_stores_do_not_change_gathered_rows(width, rng, monkeypatch):
    monkeypatch.setattr(_buffers, "STREAM_ABOVE", 0)
    test_gathered_rows_equal_the_definition(width, rng)


def test_rows_of_a_non_contiguous_table(rng):
    table, rows = rng.random((10, 230)).T, rows_of(rng, 2, 9)
    assert_close("gathered", table[rows + OFFSETS], fast.gather(table, rows, OFFSETS), "exact")


def test_rows_beyond_two_to_the_31_bytes(tmp_path):
    """Use a sparse file of 3 GiB, of which only the end is written."""
    table = np.memmap(tmp_path / "table", dtype=np.float32, mode="w+", shape=(3 * 2**22, 64))
    table[-1] = np.arange(64)
    found = fast.gather(table, np.array([[[len(table) - 1, 0]]]), np.array([0, 0]))
    assert_close("last row", np.stack([np.arange(64.0), np.zeros(64)])[None, None].astype(np.float32), found, "exact")


@pytest.mark.parametrize("row", [-1, 230])
def test_a_row_outside_the_table_raises_before_anything_is_written(row, rng):
    rows, out = rows_of(rng, 1, 4), np.full((1, 4, 3, 5), 7.0)
    rows[0, 2] = row - OFFSETS
    with pytest.raises(InputError, match=rf"rows in \[0, 230\), found {row}"):
        fast.gather(rng.random((230, 5)), rows, OFFSETS, out=out)
    assert (out == 7).all()


CODES, SCALES = (array.ravel().astype(np.uint8) for array in np.meshgrid(np.arange(256), np.arange(256)))


@pytest.mark.parametrize("rounded", [False, True])
def test_every_pair_of_code_and_scale(rounded):
    """Test all 65,536 pairs, 32 codes per scale, with and without rounding."""
    codes, scales = CODES.reshape(-1, 32), SCALES.reshape(-1, 32)[:, :1]
    expected = ops.dequantise(codes, scales)
    expected = ops.round_bf16(expected) if rounded else expected
    rows = np.arange(len(codes)).reshape(1, -1, 1)
    found = tables.gather_dequantise(codes, scales, rows, np.zeros(1, np.int64), rounded)
    assert_close("pairs", expected.reshape(1, -1, 32), found, "exact")


@pytest.mark.parametrize("scale", [127, 1, 254])
def test_the_vector_decoder_equals_the_definition(scale):
    codes, memory = np.arange(256, dtype=np.uint8), np.empty(256, np.float32)
    power = ops.dequantise(np.full(32, 0x38, np.uint8), np.array([scale], np.uint8))[0]
    decoded(codes, power, False, memory)
    assert_close("codes", ops.dequantise(codes, np.full(8, scale, np.uint8)), memory, "exact")


def test_copy_line_writes_only_its_64_bytes():
    source, target = np.arange(200, dtype=np.uint8), np.zeros(200, np.uint8)
    copied(source, 3, target, 100)
    assert target.tolist() == [0] * 100 + list(range(3, 67)) + [0] * 36


@pytest.mark.parametrize("stream_above", [0, 2**22], ids=["streamed", "cached"])
@pytest.mark.parametrize("shape", [(1, 0), (1, 1), (2, 5), (1, 700)], ids=str)
def test_fp8_memory_equals_the_definition(shape, stream_above, rng, monkeypatch):
    monkeypatch.setattr(_buffers, "STREAM_ABOVE", stream_above)
    p = random_parameters(V41, rng)
    p["table_codes"] = rng.integers(0, 256, p["table_codes"].shape, dtype=np.uint8)
    p["table_scales"] = rng.integers(0, 256, p["table_scales"].shape, dtype=np.uint8)
    rows = rng.integers(0, 23, (*shape, V41.columns))
    for dtype in (np.float32,) if V41.rounding != "none" else (np.float32, np.float64):
        expected, found = (namespace.gather_decode(p, rows, V41, dtype) for namespace in (ops, fast))
        assert_close("memory", expected, found, "exact")


def test_an_fp32_table_is_rounded_if_the_configuration_rounds(rng):
    config = replace(V41, table_codec="fp32")
    p, rows = random_parameters(config, rng, dtype=np.float32), rng.integers(0, 23, (2, 5, config.columns))
    expected, found = (namespace.gather_decode(p, rows, config, np.float32) for namespace in (ops, fast))
    assert_close("memory", expected, found, "exact")


@pytest.mark.parametrize(("codes", "scales"), [((4, 64), (4, 1)), ((4, 64), (3, 2)), ((4, 32), (4, 2))], ids=str)
def test_scales_of_the_wrong_shape_raise(codes, scales):
    with pytest.raises(InputError, match="table_codes, table_scales"):
        tables.gather_dequantise(np.zeros(codes, np.uint8), np.zeros(scales, np.uint8), np.zeros((1, 1, 1), np.int64),
                                 np.zeros(1, np.int64), False)
