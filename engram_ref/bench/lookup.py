"""P1 to P6, C1 and C2: rows, in bulk, in a batch, beside a C loop and one decode step; gather and decode them."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from engram_ref.addressing import Addressing
from engram_ref.backends import load
from engram_ref.bench import cuda, limits
from engram_ref.bench.case import FRESH, OURS, Case, Comparison
from engram_ref.bench.limits import aligned
from engram_ref.bench.setting import Setting
from engram_ref.config import EngramConfig
from engram_ref.memory import available
from engram_ref.ops.codecs import E4M3_VALUES
from engram_ref.presets import preset

DEMO, LOOP, NUMPY, TORCH = "the demo's way", "a C loop with %", "NumPy", "torch, eager"
MEMSET, DIVIDE, DISPATCH = "memset of the output", "a 64-bit divide for each row", "calling a compiled function"
READ, MOVE = "reading as many random rows", "copying as many bytes"
TABLE_ROWS = 2**22      # of 256 bytes: 1 GiB
ENOUGH = 4 * 2**30      # free bytes that allow it


def bulk(setting: Setting) -> Iterator[Case]:
    """P1: rows of a corpus, on one thread and on several."""
    yield from beside_demo(setting, "rows, bulk", setting.size((8, 65_536), (2, 700)), (20.0, 30.0))


def batch(setting: Setting) -> Iterator[Case]:
    """P2: rows of a batch, on one thread and on several."""
    yield from beside_demo(setting, "rows, a batch", setting.size((8, 4096), (3, 301)), (12.0, 16.0))


def beside_demo(setting: Setting, what: str, shape: tuple[int, int], goals: tuple[float, float]) -> Iterator[Case]:
    """Rows of both layers of the paper's preset beside the demo's way, on one thread, then on the setting's."""
    config, arguments, plain = hashing("engram-27b", np.random.default_rng(1), shape)
    ours = partial(setting.ops.address_layers, *arguments)
    whole = (len(config.layer_ids), *shape, config.columns)
    sizes = {"preset": config.name, "tokens": shape[0] * shape[1], "sequences": shape[0], "layers": whole[0],
             "columns": config.columns}
    out = aligned(whole, np.int64)
    for threads, goal in zip(dict.fromkeys((1, setting.threads)), goals, strict=False):
        yield Case(what, sizes, threads, {
            OURS: partial(ours, out=out),
            FRESH: ours,
            DEMO: setting.rival(lambda rivals: partial(rivals.demo_rows, *plain)),
            MEMSET: limits.memset(aligned(whole, np.int64), threads),
        }, [Comparison("faster", DEMO, goal), Comparison("faster", DEMO, of=FRESH), Comparison("limit", MEMSET)])


def beside_c(setting: Setting) -> Iterator[Case]:
    """P3: rows of the released model's layout beside a C loop, on one thread."""
    rng, tokens = np.random.default_rng(3), setting.size(131_072, 517)
    config, arguments, plain = hashing("deepseek-v4.1-flash", rng, (1, tokens))
    *_, primes, _ = plain
    out = aligned((len(primes), 1, tokens, config.columns), np.int64)
    sizes = {"preset": config.name, "tokens": tokens, "layers": len(primes), "columns": config.columns}
    yield Case("rows, the released layout", sizes, 1, {
        OURS: partial(setting.ops.address_layers, *arguments, out=out),
        LOOP: setting.rival(lambda rivals: rivals.c_rows(*plain), "gcc"),
        DIVIDE: partial(limits.divide, rng.integers(0, 2**62, tokens, np.uint64), primes.reshape(-1).view(np.uint64)),
    }, [Comparison("faster", LOOP, 5.0), Comparison("limit", DIVIDE)],
        note="a row without a division can pass the limit of one divide a row")


def step(setting: Setting) -> Iterator[Case]:
    """P4: the rows of one new token after a history, through a stepper made once."""
    config, _, (_, _, multipliers, primes, pad) = hashing("engram-27b", np.random.default_rng(4), (1, 1))
    ids, history = np.array([1234]), np.array([[77, 4321]])
    yield Case("rows, one decode step", {"preset": config.name, "sequences": 1, "columns": config.columns}, 1, {
        OURS: partial(setting.ops.stepper(multipliers[0], primes[0], pad, None), ids, history),
        DEMO: setting.rival(lambda rivals: partial(rivals.demo_step, ids, history, multipliers[0], primes[0], pad)),
        DISPATCH: lambda: limits.nothing(ids, history),
    }, [Comparison("faster", DEMO, 60.0), Comparison("limit", DISPATCH)])


def on_cuda(setting: Setting) -> Iterator[Case]:
    """C1: rows of both layers of the released model, from raw ids."""
    shape = (8, setting.size(4096, 64))
    config, arguments, (ids, *_) = hashing("deepseek-v4.1-flash", np.random.default_rng(1), shape)
    ours = partial(load("torch").address_layers, *map(cuda.on_device, arguments))
    yield cuda.case("rows, on a CUDA device", {"preset": config.name, "tokens": ids.size}, ours,
                    ids.nbytes * (1 + len(config.layer_ids) * config.columns))


def hashing(name: str, rng: np.random.Generator, shape: tuple[int, int]) -> tuple[EngramConfig, tuple, tuple]:
    """A preset, and for random raw ids the arguments of address_layers and those of the rivals, layers stacked."""
    config = preset(name)
    addressing = Addressing(config)
    ids = rng.integers(0, config.vocab_size, shape)
    multipliers, primes = (np.stack(list(each.values())) for each in (addressing.multipliers, addressing.primes))
    canonical, history, pad = addressing.canonical, addressing.start(len(ids)), addressing.pad_id
    return (config, (ids, canonical, history, multipliers, primes, None, pad),
            (ids, canonical, multipliers, primes, pad))


def gather(setting: Setting) -> Iterator[Case]:
    """P5: fp32 rows of 256 bytes from a table of a GiB."""
    columns, width = 16, 64
    rows_in_table = setting.size(TABLE_ROWS if available() > ENOUGH else TABLE_ROWS // 8, 1024)
    rng = np.random.default_rng(5)
    table = aligned((rows_in_table, width), np.float32)
    rng.random(out=table, dtype=np.float32)
    rows, offsets = random_rows(rng, rows_in_table, setting.size(65_536, 300), columns)
    ours = partial(setting.ops.gather, table, rows, offsets)
    sizes = {"table bytes": table.nbytes, "row bytes": 4 * width, "rows read": rows.size}
    yield Case("gather, fp32 rows", sizes, setting.threads, {
        OURS: partial(ours, out=aligned((*rows.shape, width), np.float32)),
        FRESH: ours,
        NUMPY: setting.rival(lambda rivals: partial(rivals.numpy_gather, table, rows, offsets)),
        READ: limits.read_rows(table, rows + offsets, setting.threads),
    }, [Comparison("limit", READ, 0.75), Comparison("limit", READ, of=FRESH), Comparison("faster", NUMPY)])


def dequantise(setting: Setting) -> Iterator[Case]:
    """P6: FP8 rows with a scale per 32 channels, gathered and decoded to float32."""
    config, parameters, rows = fp8_rows(setting.size(2**20, 960), setting.size(4096, 70))
    codes, scales, offsets = parameters.values()
    out = aligned((1, rows.shape[1], config.memory_width), np.float32)
    ours = partial(setting.ops.gather_decode, parameters, rows, config, np.float32)
    half = ((rows.size * config.bytes_per_row + out.nbytes) // 2,)
    sizes = {"table bytes": codes.nbytes + scales.nbytes, "row width": config.row_width, "rows read": rows.size}
    yield Case("gather and decode, FP8 rows", sizes, setting.threads, {
        OURS: partial(ours, out=out),
        FRESH: ours,
        NUMPY: setting.rival(lambda rivals: partial(rivals.numpy_dequantise, codes, scales, rows, offsets,
                                                    E4M3_VALUES)),
        TORCH: setting.rival(lambda rivals: rivals.torch_dequantise(codes, scales, rows, offsets), "torch"),
        MOVE: limits.copy(aligned(half, np.uint8), aligned(half, np.uint8), setting.threads),
    }, [Comparison("faster", TORCH, 15.0), Comparison("faster", NUMPY, 8.0), Comparison("faster", NUMPY, of=FRESH),
        Comparison("limit", MOVE)])


def dequantise_on_cuda(setting: Setting) -> Iterator[Case]:
    """C2: FP8 rows gathered and decoded."""
    config, parameters, rows = fp8_rows(setting.size(2**22, 960), setting.size(4096, 64))
    dtype = cuda.on_device(np.zeros(0, np.float32)).dtype
    ours = partial(load("torch").gather_decode, cuda.on_device(parameters), cuda.on_device(rows), config, dtype)
    yield cuda.case("gather and decode, on a CUDA device", {"rows read": rows.size, "row width": config.row_width},
                    ours, rows.size * (config.bytes_per_row + 4 * config.row_width))


def fp8_rows(rows_in_table: int, tokens: int) -> tuple[EngramConfig, dict[str, np.ndarray], np.ndarray]:
    """The released configuration without rounding, a table of FP8 codes and scales, and random rows of it."""
    config, rng = replace(preset("deepseek-v4.1-flash"), rounding="none"), np.random.default_rng(6)
    codes = rng.integers(0, 127, (rows_in_table, config.row_width), dtype=np.uint8) | rng.choice(
        np.array([0, 128], dtype=np.uint8), (rows_in_table, 1))
    scales = rng.integers(110, 140, (rows_in_table, config.row_width // 32), dtype=np.uint8)
    rows, offsets = random_rows(rng, rows_in_table, tokens, config.columns)
    return config, {"table_codes": codes, "table_scales": scales, "column_offsets": offsets}, rows


def random_rows(rng: np.random.Generator, rows: int, tokens: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows [1, tokens, columns] anywhere in a table of so many rows cut into columns, and the columns' offsets."""
    each = rows // columns
    return rng.integers(0, each, (1, tokens, columns)), np.arange(columns) * each
