"""P5 and P6: gather rows from a table far larger than the cache, and decode FP8 rows."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from engram_ref.bench import limits
from engram_ref.bench.judge import OURS, Case, Comparison
from engram_ref.bench.rows import FRESH
from engram_ref.bench.setting import Setting, Sides, aligned
from engram_ref.memory import available
from engram_ref.ops.codecs import E4M3_VALUES
from engram_ref.presets import preset

READ = "reading as many random rows"
NUMPY, TORCH = "NumPy", "torch, eager"
MOVE = "copying as many bytes"
WANTED = 2**22          # rows of 256 bytes: 1 GiB
ENOUGH = 4 * 2**30      # free bytes that allow it


def gather(setting: Setting) -> Iterator[Case]:
    """P5: fp32 rows of 256 bytes from a table of a GiB."""
    columns, width = 16, 64
    rows_in_table = setting.size(WANTED if available() > ENOUGH else WANTED // 8, 1024)
    rng = np.random.default_rng(5)
    table = aligned((rows_in_table, width), np.float32)
    rng.random(out=table, dtype=np.float32)
    rows, offsets = random_rows(rng, rows_in_table, setting.size(65_536, 300), columns)
    out = aligned((*rows.shape, width), np.float32)
    sides = Sides(setting)
    sides.add(OURS, partial(setting.ops.gather, table, rows, offsets, out=out))
    sides.add(FRESH, partial(setting.ops.gather, table, rows, offsets))
    sides.rival(NUMPY, lambda rivals: partial(rivals.numpy_gather, table, rows, offsets))
    sides.add(READ, limits.read_rows(table, rows + offsets, setting.threads))
    sizes = {"table bytes": table.nbytes, "row bytes": 4 * width, "rows read": rows.size}
    yield Case("gather, fp32 rows", sizes, setting.threads, sides.there, [
        Comparison("limit", READ, 0.75), Comparison("limit", READ, of=FRESH), Comparison("faster", NUMPY),
    ], sides.missing)


def dequantise(setting: Setting) -> Iterator[Case]:
    """P6: FP8 rows with a scale per 32 channels, gathered and decoded to float32."""
    config = replace(preset("deepseek-v4.1-flash"), rounding="none")
    width, rng = config.row_width, np.random.default_rng(6)
    rows_in_table = setting.size(2**20, 960)
    codes = rng.integers(0, 127, (rows_in_table, width), dtype=np.uint8) | rng.choice(
        np.array([0, 128], dtype=np.uint8), (rows_in_table, 1))
    scales = rng.integers(110, 140, (rows_in_table, width // 32), dtype=np.uint8)
    rows, offsets = random_rows(rng, rows_in_table, setting.size(4096, 70), config.columns)
    parameters = {"table_codes": codes, "table_scales": scales, "column_offsets": offsets}
    out = aligned((1, rows.shape[1], config.memory_width), np.float32)
    moved = rows.size * config.bytes_per_row + out.nbytes
    sides, half = Sides(setting), (moved // 2,)
    ours = partial(setting.ops.gather_decode, parameters, rows, config, np.float32)
    sides.add(OURS, partial(ours, out=out))
    sides.add(FRESH, ours)
    sides.rival(NUMPY, lambda rivals: partial(rivals.numpy_dequantise, codes, scales, rows, offsets, E4M3_VALUES))
    sides.rival(TORCH, lambda rivals: rivals.torch_dequantise(codes, scales, rows, offsets), "torch")
    sides.add(MOVE, limits.copy(aligned(half, np.uint8), aligned(half, np.uint8), setting.threads))
    sizes = {"table bytes": codes.nbytes + scales.nbytes, "row width": width, "rows read": rows.size}
    yield Case("gather and decode, FP8 rows", sizes, setting.threads, sides.there, [
        Comparison("faster", TORCH, 15.0), Comparison("faster", NUMPY, 8.0), Comparison("faster", NUMPY, of=FRESH),
        Comparison("limit", MOVE),
    ], sides.missing)


def random_rows(rng: np.random.Generator, rows: int, tokens: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows [1, tokens, columns] anywhere in a table of so many rows cut into columns, and the columns' offsets."""
    each = rows // columns
    return rng.integers(0, each, (1, tokens, columns)), np.arange(columns) * each
