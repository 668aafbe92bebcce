"""Sixteen stored FP8 numbers to float32 at once, from their bits.

An E4M3FN code s eeee mmm, its sign moved to bit 15 and the rest to bits 7 to 13, is a float16 whose exponent
bias is 15 instead of 7: 2^8 times too small, subnormals included. The processor widens float16 exactly, so

    value = widen(sign | rest) * 2^8 * scale

where the first product is exact and the second is the one rounding of the definition. Codes 0x7F and 0xFF
are NaN, not 480.
"""

import numpy as np

from engram_ref.backends.numba.vectors.instructions import F16, F32, I16, I32, every, lanes, vector_code
from engram_ref.ops.codecs import E4M3_VALUES, round_bf16

WIDTH = 16
REBIAS = 2.0**8
QUIET_NAN = 0x7FC00000


def store_decoded(codes, first, scale, rounded, memory, index, stream):
    """memory[index + i] = e4m3(codes[first + i]) * scale for i in 0..15.

    codes    uint8 [...], scale float32
    rounded  round to the nearest bfloat16 numbers
    memory   float32 [...], written from `index` on
    stream   use a non-temporal store, which needs 64-byte alignment
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        values = E4M3_VALUES[codes[first : first + WIDTH]] * np.float32(scale)
    memory[index : index + WIDTH] = round_bf16(values) if rounded else values


@vector_code(store_decoded)
def store_decoded(code, codes, first, scale, rounded, memory, index, stream):
    """The bits are decoded as float16, then scaled."""
    value = decode(code, code.load(codes, first, WIDTH), scale)
    value = code.builder.select(rounded, nearest_bf16(code.builder, value), value)
    code.store(code.builder.bitcast(value, lanes(F32, WIDTH)), memory, index, stream)


def decode(code, codes, scale):
    """Bit patterns of the float32 numbers that 16 codes stand for."""
    builder = code.builder
    bits = builder.zext(codes, lanes(I16, WIDTH))
    rest = builder.and_(bits, every(I16, WIDTH, 0x7F))
    sign = builder.shl(builder.and_(bits, every(I16, WIDTH, 0x80)), every(I16, WIDTH, 8))
    half = builder.bitcast(builder.or_(sign, builder.shl(rest, every(I16, WIDTH, 7))), lanes(F16, WIDTH))
    exact = builder.fmul(builder.fpext(half, lanes(F32, WIDTH)), every(F32, WIDTH, REBIAS))
    value = builder.bitcast(builder.fmul(exact, code.spread(scale, exact.type)), lanes(I32, WIDTH))
    is_nan = builder.icmp_unsigned("==", rest, every(I16, WIDTH, 0x7F))
    return builder.select(is_nan, every(I32, WIDTH, QUIET_NAN), value)


def nearest_bf16(builder, bits):
    """Bit patterns of float32 to those of the nearest bfloat16 numbers, ties to even; infinities and QUIET_NAN stay."""
    odd = builder.and_(builder.lshr(bits, every(I32, WIDTH, 16)), every(I32, WIDTH, 1))
    raised = builder.add(builder.add(bits, odd), every(I32, WIDTH, 0x7FFF))
    return builder.and_(raised, every(I32, WIDTH, 0xFFFF0000))
