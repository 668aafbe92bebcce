"""Number formats and tables; oracle/slow/codecs.py computes the answers with exact fractions. All results are exact."""

import math

import ml_dtypes
import numpy as np

from engram_ref.oracle.slow import codecs as slow
from scripts.builders.planned import Other, case, each, lines, rng_of

SOME_CODES = (0, 128, 1, 129, 7, 8, 56, 126, 127, 255, 254, 64, 3, 131, 12, 88)
SOME_SCALES = (0, 1, 7, 118, 119, 127, 128, 240, 246, 247, 254, 255)
ROUNDED = [1.0, 1.00390625, 1.01171875, 3.1415927, -0.0, 1e-40, -1e-45, 3.4e38, 65535.0, 0.1, 1 + 2**-8 + 2**-20]
"""Ties to even in both directions, subnormals, a number that rounds to infinity, and a number just above a tie."""

NO_FLOOR = ("V4.1's own quantising kernel is not published; the floor is that of DeepSeek's act_quant, TileKernels and "
            "NeMo; without a floor, scales depend on the block's maximum alone, and an all-zero block has scale 1")


def formats():
    """Yield cases with every E4M3 code at some scales and every E8M0 scale at some codes, including NaN and Inf."""
    codes = np.tile(np.arange(256, dtype=np.uint8), (len(SOME_SCALES), 1))
    scales = np.repeat(np.array(SOME_SCALES, dtype=np.uint8)[:, None], 8, axis=1)
    few = np.tile(np.array(SOME_CODES * 2, dtype=np.uint8), (256, 1))
    every = np.arange(256, dtype=np.uint8)[:, None]
    for title, c, s, flags in (("every-code", codes, scales, "all-codes nan subnormal"), ("every-scale", few, every,
                               "all-codes nan subnormal"), ("empty", codes[:0], scales[:0], "empty")):
        for dtype in (np.float32, np.float64)[: 1 if title == "every-scale" else 2]:
            yield case(f"dequantise/{title}-{dtype.__name__}", kind="exact", flags=flags, codes=c,
                       scales=s, dtype=dtype, slow=slow_dequantise)


def slow_dequantise(codes, scales, dtype):
    wide = np.repeat(scales, 32, axis=-1)
    if dtype is np.float32:
        return each(lambda c, s: slow.dequantise(c, s)[0], codes, wide)
    return each(exact_value, codes, wide)


def exact_value(code, byte):
    number, scale = slow.e4m3(code), slow.e8m0(byte)
    return math.nan if slow.NAN in (number, scale) else math.copysign(float(number[1] * scale), number[0])


def rounded():
    """Yield cases for rounding to bfloat16, and to FP8 with one scale per block."""
    x = np.array(ROUNDED, dtype=np.float32)
    brain = lambda x: each(lambda v: math.copysign(slow.to_bfloat16(v), v), x)
    yield case("round_bf16/ties", kind="exact", flags="rounding subnormal minus-zero", x=x, slow=brain)
    yield case("round_bf16/random", kind="exact", flags="rounding", slow=brain,
               x=rng_of("round_bf16/random").standard_normal((3, 7)).astype(np.float32))
    rng = rng_of("quantise/blocks")
    blocks = rng.standard_normal((4, 64)).astype(np.float32) * np.float32([[1e-30], [1.0], [1e6], [1e-39]])
    blocks[1, 33] = -0.0
    blocks[2, :4] = [448.0, 449.0, -464.0, 8.5]
    faint = np.concatenate([blocks[[0, 3]], (blocks[1:2] * np.float32(2e-8)), np.zeros((1, 64), np.float32)])
    faint[3, 5], faint[3, 32] = -0.0, 1e-4
    for title, x, flags in (("blocks", blocks[1:3], "rounding minus-zero"), ("empty", blocks[:0], "empty"),
                            ("scale-edges", edges_of_scales(), "rounding")):
        yield case(f"quantise/{title}", outputs=("codes", "scales"), flags=flags, x=x, floor=1e-4, slow=slow_quantise)
        yield case(f"requantise/{title}", kind="exact", flags=flags, x=x, floor=1e-4, slow=slow_requantise)
    flags = "floor rounding subnormal minus-zero"
    yield case("quantise/faint", outputs=("codes", "scales"), flags=flags, x=faint, floor=1e-4, slow=slow_quantise,
               accept=[Other("without a floor", NO_FLOOR, {"floor": 0.0}, slow_quantise)])
    yield case("requantise/faint", kind="exact", flags=flags, x=faint, floor=1e-4, slow=slow_requantise,
               accept=[Other("without a floor", NO_FLOOR, {"floor": 0.0}, slow_requantise)])
    sums = rng.standard_normal((2, 1, 2, 3, 4)).astype(np.float32)
    yield case("add_residual/fp8_bf16", kind="exact", flags="rounding dialect", hidden=sums[0], update=sums[1],
               rounding="fp8_bf16", slow=lambda hidden, update, rounding: each(
                   lambda a, b: slow.to_bfloat16(slow.to_float32(a + b)), hidden, update))


def edges_of_scales():
    """Return blocks with maxima at and next to 448 * 2^k; a float32 logarithm gives a power one too low for some."""
    top = np.float32(448) * np.float32(2.0) ** np.array([-20, -9, -1, 0, 1, 7, 30, 100], dtype=np.float32)
    top = np.concatenate([top, np.nextafter(top, np.float32(0)), np.nextafter(top, np.float32(np.inf))])
    blocks = np.repeat(top[:, None], 32, axis=1) * np.float32(0.37)
    blocks[:, 9] = -top
    return blocks


def slow_requantise(x, floor):
    return slow_dequantise(*map(np.array, slow_quantise(x, floor)), np.float32)


def slow_quantise(x, floor):
    blocks = lines(list, x.reshape(*x.shape[:-1], x.shape[-1] // 32, 32))
    quantised = [slow.quantise_block(block, floor) for block in blocks]
    codes = np.array([c for c, _ in quantised], dtype=np.uint8).reshape(x.shape)
    return codes, np.array([s for _, s in quantised], dtype=np.uint8).reshape(*x.shape[:-1], x.shape[-1] // 32)


def tables():
    """Yield cases for gathering, decoding and concatenating rows."""
    rng = rng_of("gather/table")
    table, offsets = rng.standard_normal((12, 3)), np.array([0, 5])
    rows = np.array([[[4, 0], [1, 6]], [[0, 3], [2, 2]]])
    for title, r, flags in (("batch", rows, "batch flat"), ("empty", rows[:, :0], "empty")):
        yield case(f"gather/{title}", kind="exact", flags=flags, table=table, rows=r, offsets=offsets, slow=slow_gather)
        yield case(f"concatenate/{title}", kind="exact", flags=flags, decoded=table[r],
                   slow=lambda decoded: [row.ravel().tolist() for batch in decoded for row in batch])
    narrow = table[rows].astype(ml_dtypes.bfloat16)
    for dtype in (np.float32, np.float64):
        yield case(f"decode/bf16-{dtype.__name__}", kind="exact", gathered=(narrow,), codec="bf16", dtype=dtype,
                   slow=lambda gathered, codec, dtype: each(float, gathered[0]))
        codes = rng.integers(0, 127, (1, 2, 2, 64)).astype(np.uint8)
        scales = rng.integers(120, 130, (1, 2, 2, 2)).astype(np.uint8)
        yield case(f"decode/fp8-{dtype.__name__}", kind="exact", gathered=(codes, scales), codec="fp8_e8m0",
                   dtype=dtype, slow=lambda gathered, codec, dtype: slow_dequantise(*gathered, dtype))
    yield case("decode/fp32", kind="exact", gathered=(table[rows],), codec="fp32", dtype=np.float64,
               slow=lambda gathered, codec, dtype: gathered[0])


def slow_gather(table, rows, offsets):
    return [[[table[r + o].tolist() for r, o in zip(line, offsets.tolist(), strict=True)] for line in batch]
            for batch in rows.tolist()]


AREA = (formats, rounded, tables)
