"""FP8 rows with every special scale byte and code, alone and inside the Engram module; and NaN in the projection.

V4.1 raises the largest magnitude of a block to 1e-4, so that all blocks with scale byte 0 become zeros in its module:
there, only the memory shows how byte 0 is read. A module that reads FP8 rows and computes in
float32 shows it in its output.
"""

from dataclasses import replace

import numpy as np

from engram_ref import ops
from engram_ref.oracle.compare import to_bf16
from scripts.builders.codecs import NO_FLOOR, slow_dequantise
from scripts.builders.planned import Other, bf16, case, rng_of
from scripts.builders.small_modules import slow_engram
from scripts.builders.solved_modules import (
    KEYS,
    PLAIN_FP8,
    RELEASE,
    D,
    M,
    parameters_of,
    slow_rounded,
    stages_of,
)

BYTES = (0, 1, 98, 104, 105, 127, 246, 247, 254, 255)
CODES = np.array([[*range(16), *range(0x80, 0x90)], [*range(0x10, 0x80, 4), 0x3B, 0x7D, 0x7E, 0x7F],
                  [*range(0x90, 0x100, 4), 0xBB, 0xFD, 0xFE, 0xFF]], dtype=np.uint8)
"""Codes of the three columns: zeros, subnormals and the smallest normal numbers, then larger ones up to NaN."""

FINITE = BYTES[:-1]
ODD = {"key byte 0": 0, "code 0x7f": 127, "code 0xff": 127, "byte 255": 255}
"""Rows of the batch after those of FINITE, and the scale byte of their values."""


def decoded():
    """Yield V4.1's memory for all bytes and codes; below 2^-126 its numbers are inexact in bfloat16."""
    T = len(BYTES)
    tables, rows = tables_of(RELEASE, np.tile(CODES, (T, 1, 1)), np.repeat(np.array(BYTES)[:, None], 3, axis=1))
    yield case("gather_decode/v4.1-like-edges", outputs=("memory",), kind="exact", dialect="v4.1-like",
               flags="all-codes nan subnormal rounding minus-zero", parameters=tables, rows=rows.swapaxes(0, 1),
               config=RELEASE, dtype=np.float32, kind_of_case="solved", slow=lambda parameters, rows, **_: bf16(
                   slow_dequantise(*(parameters[f"table_{part}"][rows + parameters["column_offsets"]]
                                     for part in ("codes", "scales")), np.float32).astype(np.float32)))


def tables_of(config, codes, scales):
    """Return the tables for codes [B, C, 32] and scales [B, C], and the rows [B, 1, C]: row b of each column."""
    offsets = np.concatenate([[0], np.cumsum(config.table_sizes)[:-1]])
    rows, R = np.broadcast_to(np.arange(len(codes))[:, None], codes.shape[:2]).copy(), sum(config.table_sizes)
    table = {"table_codes": np.zeros((R, 32), np.uint8), "table_scales": np.full((R, 1), 127, np.uint8)}
    table["table_codes"][rows + offsets] = codes
    table["table_scales"][rows + offsets] = scales[..., None].astype(np.uint8)
    return table | {"column_offsets": offsets}, rows[:, None]


def modules():
    """Yield the module with special bytes in the values' columns, with V4.1's roundings and without any."""
    for config in (RELEASE, PLAIN_FP8):
        rng, B = rng_of("scales"), len(FINITE) + len(ODD)
        codes = rng.integers(1, 0x58, (B, 3, 32)).astype(np.uint8)
        codes |= rng.choice(np.array([0, 0x80], np.uint8), codes.shape)
        scales = np.full((B, 3), 124)
        scales[:, 1:] = np.array([*FINITE, *ODD.values()])[:, None]
        codes[:2, 1:] = codes[:2, 1:] & 0x8F | 0x60              # far above the smallest normal number
        codes[[b for b, byte in enumerate(scales[:, 1]) if byte in (246, 247, 254)], 1:] &= 0x87     # stay finite
        for b, name in enumerate(ODD, len(FINITE)):
            codes[b, 1:] = {"code 0x7f": 0x7F, "code 0xff": 0xFF}.get(name, codes[b, 1:])
            if name == "key byte 0":
                codes[b, 0], scales[b, 0], scales[b, 1:] = 0x70 | codes[b, 0] & 0x87, 0, 124
        yield module_case(config, *tables_of(config, codes, scales))


def module_case(config, tables, rows):
    """Return the case of one configuration."""
    p = {name: array for name, array in parameters_of(config, np.float32).items() if name != "table"} | tables
    rng, B = rng_of("scales/hidden"), len(rows)
    h = rng.integers(1, 128, (B, 1, M, D)) * rng.choice([-0.0625, 0.0625], (B, 1, M, D))
    h[..., KEYS:] = 0.0
    b = len(FINITE)                                 # key byte 0: a negative score, and a magnifier as in solved_modules
    memory = ops.gather_decode(p, rows, config, np.float32)
    h[b, 0, :, :KEYS] = -np.sign(memory[b, 0, :KEYS] * (p["query_gain"] * p["key_gain"] * np.diagonal(
        p["key_weight"], axis1=1, axis2=2))[:, :KEYS])
    evaluate = stages_of(config, p, rows)
    wide = {name: array.astype(np.float64) if array.dtype == np.float32 else array for name, array in p.items()}
    Y = evaluate(parameters=wide, hidden=h, rows=rows, config=config, dead=None)["output"]
    h[b, ..., KEYS:] = -to_bf16(Y[b, ..., KEYS:])
    emulated = config.rounding != "none"
    accept = [Other("without a floor", NO_FLOOR, {"config": replace(config, quantise_floor=0.0)}, slow_rounded)]
    return case(f"engram_residual/{config.name}-scales", outputs=("residual",), traced=True,
                kind="f32", flags="nan subnormal floor rounding dialect" if emulated else "nan subnormal dialect",
                dialect=config.name, slow=slow_rounded if emulated else slow_wide, accept=accept if emulated else [],
                exact=("memory", "key", "value") if emulated else ("memory",), truth=evaluate,
                rounded=("residual",) if emulated else (), kind_of_case="solved", parameters=p,
                hidden=h.astype(np.float32), rows=rows, config=config, dead=None)


def slow_wide(parameters, hidden, rows, config, dead):
    """Return the answers of a module without roundings, with the table decoded by the slow version."""
    codes, scales = parameters["table_codes"], parameters["table_scales"]
    table = np.reshape(slow_dequantise(codes, scales, np.float32), codes.shape)
    Y = slow_engram(parameters | {"table": table}, hidden, rows, config, dead)
    return {"output": Y, "residual": hidden + Y}


def not_a_number():
    """Yield a projection of NaN and of infinity, which V4.1's quantiser stores as NaN; the last token is ordinary."""
    p = parameters_of(RELEASE, np.float32)
    memory = np.ones((1, 3, RELEASE.memory_width), np.float32)
    memory[0, 0, 40], memory[0, 1, 3] = np.nan, -np.inf
    answers = lambda parameters, memory, config: tuple(
        np.where(np.isfinite(memory).all(axis=-1).reshape(1, 3, *[1] * (w.ndim - 1)), w.sum(axis=-1), np.nan)
        for w in (parameters["key_weight"], parameters["value_weight"]))
    yield case("project/v4.1-like-nan", outputs=("key", "value"), kind="exact", dialect="v4.1-like", flags="nan",
               parameters={name: p[name] for name in ("key_weight", "value_weight")}, memory=memory, config=RELEASE,
               slow=answers, kind_of_case="solved")


AREA = (decoded, modules, not_a_number)
