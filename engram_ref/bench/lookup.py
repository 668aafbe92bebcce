"""The rows of lookups: hashing (bulk, batch, released layout, one decode step), gather, and decode."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from engram_ref.addressing import Addressing
from engram_ref.bench import limits
from engram_ref.bench.case import NO_OUT, OURS, Case, Comparison
from engram_ref.bench.limits import aligned
from engram_ref.bench.setting import Setting
from engram_ref.config import EngramConfig
from engram_ref.memory import available
from engram_ref.ops.codecs import E4M3_VALUES
from engram_ref.presets import preset

DEMO, LOOP, NUMPY, TORCH = "the demo's code", "a C loop with %", "NumPy", "torch, eager"
MEMSET, DIVIDE, DISPATCH = "memset of the output", "one 64-bit divide per row", "calling an empty compiled function"
READ, MOVE = "reading equally many random rows", "copying equally many bytes"
TABLE_ROWS = 2**22      # of 256 bytes: 1 GiB
ENOUGH = 4 * 2**30      # bytes of free memory that the table needs


def bulk(setting: Setting) -> Iterator[Case]:
    """Rows of a corpus, with one thread and with several."""
    yield from against_demo(setting, "rows, bulk", setting.size((8, 65_536), (2, 700)), (20.0, 30.0))


def batch(setting: Setting) -> Iterator[Case]:
    """Rows of a batch, with one thread and with several."""
    yield from against_demo(setting, "rows, batch", setting.size((8, 4096), (3, 301)), (12.0, 16.0))


def against_demo(setting: Setting, title: str, shape: tuple[int, int], goals: tuple[float, float]) -> Iterator[Case]:
    """Rows of both layers of the paper's preset against the demo's code, with one thread and with `setting.threads`."""
    config, arguments, plain = hashing("engram-27b", np.random.default_rng(1), shape)
    ours = partial(setting.ops.address_layers, *arguments)
    whole = (len(config.layer_ids), *shape, config.columns)
    sizes = {"preset": config.name, "tokens": shape[0] * shape[1], "sequences": shape[0], "layers": whole[0],
             "columns": config.columns}
    out = aligned(whole, np.int64)
    for threads, goal in zip(dict.fromkeys((1, setting.threads)), goals, strict=False):
        yield Case(title, sizes, threads, {
            OURS: partial(ours, out=out), NO_OUT: ours,
            DEMO: setting.baseline(lambda base: partial(base.demo_rows, *plain)),
            MEMSET: limits.memset(aligned(whole, np.int64), threads),
        }, [Comparison("speedup", DEMO, goal), Comparison("speedup", DEMO, of=NO_OUT), Comparison("limit", MEMSET)])


def released_layout(setting: Setting) -> Iterator[Case]:
    """Rows of the released model's layout against a C loop, with one thread."""
    rng, tokens = np.random.default_rng(3), setting.size(131_072, 517)
    config, arguments, plain = hashing("deepseek-v4.1-flash", rng, (1, tokens))
    *_, primes, _ = plain
    out = aligned((len(primes), 1, tokens, config.columns), np.int64)
    sizes = {"preset": config.name, "tokens": tokens, "layers": len(primes), "columns": config.columns}
    yield Case("rows, V4.1 layout", sizes, 1, {
        OURS: partial(setting.ops.address_layers, *arguments, out=out),
        LOOP: setting.baseline(lambda base: base.c_rows(*plain), "gcc"),
        DIVIDE: partial(limits.divide, rng.integers(0, 2**62, tokens, np.uint64), primes.reshape(-1).view(np.uint64)),
    }, [Comparison("speedup", LOOP, 5.0), Comparison("limit", DIVIDE)],
        note="the kernel does not divide, so it can exceed the limit of one divide per row")


def step(setting: Setting) -> Iterator[Case]:
    """Rows of one new token after a history, with a stepper created once."""
    config, _, (_, _, multipliers, primes, pad) = hashing("engram-27b", np.random.default_rng(4), (1, 1))
    ids, history = np.array([1234]), np.array([[77, 4321]])
    yield Case("rows, one decode step", {"preset": config.name, "sequences": 1, "columns": config.columns}, 1, {
        OURS: partial(setting.ops.stepper(multipliers[0], primes[0], pad, None), ids, history),
        DEMO: setting.baseline(lambda base: partial(base.demo_step, ids, history, multipliers[0], primes[0], pad)),
        DISPATCH: lambda: limits.nothing(ids, history),
    }, [Comparison("speedup", DEMO, 60.0), Comparison("limit", DISPATCH)])


def hashing(name: str, rng: np.random.Generator, shape: tuple[int, int]) -> tuple[EngramConfig, tuple, tuple]:
    """A preset and, for random raw ids, the arguments of address_layers and of the baselines, with layers stacked."""
    config = preset(name)
    addressing = Addressing(config)
    ids = rng.integers(0, config.vocab_size, shape)
    multipliers, primes = (np.stack(list(each.values())) for each in (addressing.multipliers, addressing.primes))
    canonical, history, pad = addressing.canonical, addressing.start(len(ids)), addressing.pad_id
    return (config, (ids, canonical, history, multipliers, primes, None, pad),
            (ids, canonical, multipliers, primes, pad))


def gather(setting: Setting) -> Iterator[Case]:
    """Float32 rows of 256 bytes from a table of one GiB."""
    columns, width = 16, 64
    rows_in_table = setting.size(TABLE_ROWS if available() > ENOUGH else TABLE_ROWS // 8, 1024)
    rng = np.random.default_rng(5)
    table = aligned((rows_in_table, width), np.float32)
    rng.random(out=table, dtype=np.float32)
    rows, offsets = random_rows(rng, rows_in_table, setting.size(65_536, 300), columns)
    ours = partial(setting.ops.gather, table, rows, offsets)
    sizes = {"table bytes": table.nbytes, "row bytes": 4 * width, "rows read": rows.size}
    yield Case("gather, float32 rows", sizes, setting.threads, {
        OURS: partial(ours, out=aligned((*rows.shape, width), np.float32)), NO_OUT: ours,
        NUMPY: setting.baseline(lambda base: partial(base.numpy_gather, table, rows, offsets)),
        READ: limits.read_rows(table, rows + offsets, setting.threads),
    }, [Comparison("limit", READ, 0.75), Comparison("limit", READ, of=NO_OUT), Comparison("speedup", NUMPY)])


def dequantise(setting: Setting) -> Iterator[Case]:
    """FP8 rows with one scale per 32 channels, gathered and decoded to float32."""
    config, parameters, rows = fp8_rows(setting.size(2**20, 960), setting.size(4096, 70))
    codes, scales, offsets = parameters.values()
    out = aligned((1, rows.shape[1], config.memory_width), np.float32)
    ours = partial(setting.ops.gather_decode, parameters, rows, config, np.float32)
    half = ((rows.size * config.bytes_per_row + out.nbytes) // 2,)
    sizes = {"table bytes": codes.nbytes + scales.nbytes, "row width": config.row_width, "rows read": rows.size}
    yield Case("gather and decode, FP8 rows", sizes, setting.threads, {
        OURS: partial(ours, out=out), NO_OUT: ours,
        NUMPY: setting.baseline(lambda base: partial(base.numpy_dequantise, codes, scales, rows, offsets,
                                                     E4M3_VALUES)),
        TORCH: setting.baseline(lambda base: base.torch_dequantise(codes, scales, rows, offsets), "torch"),
        MOVE: limits.copy(aligned(half, np.uint8), aligned(half, np.uint8), setting.threads),
    }, [Comparison("speedup", TORCH, 15.0), Comparison("speedup", NUMPY, 8.0), Comparison("speedup", NUMPY, of=NO_OUT),
        Comparison("limit", MOVE)])


def fp8_rows(rows_in_table: int, tokens: int) -> tuple[EngramConfig, dict[str, np.ndarray], np.ndarray]:
    """The released configuration without rounding, a table of FP8 codes and scales, and random row indices."""
    config, rng = replace(preset("deepseek-v4.1-flash"), rounding="none"), np.random.default_rng(6)
    codes = rng.integers(0, 127, (rows_in_table, config.row_width), dtype=np.uint8) | rng.choice(
        np.array([0, 128], dtype=np.uint8), (rows_in_table, 1))
    scales = rng.integers(110, 140, (rows_in_table, config.row_width // 32), dtype=np.uint8)
    rows, offsets = random_rows(rng, rows_in_table, tokens, config.columns)
    return config, {"table_codes": codes, "table_scales": scales, "column_offsets": offsets}, rows


def random_rows(rng: np.random.Generator, rows: int, tokens: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Random row indices [1, tokens, columns] for a table of `rows` rows, and the offset of each column."""
    each = rows // columns
    return rng.integers(0, each, (1, tokens, columns)), np.arange(columns) * each
