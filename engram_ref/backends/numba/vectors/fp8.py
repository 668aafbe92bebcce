"""Decoding of sixteen FP8 codes to float32 at once, by bit operations.

Moving the sign of an E4M3FN code s eeee mmm to bit 15, and the rest to bits 7 to 13, gives a float16. Its exponent bias
is 15 instead of 7, so it is 2^8 times too small, even if subnormal. The processor widens float16 exactly, so

    value = widen(sign | rest) * 2^8 * scale

where the first product is exact and the second is rounded once, as in the definition. Codes 0x7F and 0xFF
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
    rounded  whether to round to the nearest bfloat16 numbers
    memory   float32 [...], written from `index` on
    stream   whether to use a non-temporal store, which requires 64-byte alignment
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        values = E4M3_VALUES[codes[first : first + WIDTH]] * np.float32(scale)
    memory[index : index + WIDTH] = round_bf16(values) if rounded else values


@vector_code(store_decoded)
def store_decoded(code, codes, first, scale, rounded, memory, index, stream):
    """Decode the bits as float16, then scale."""
    value = decode(code, code.load(codes, first, WIDTH), scale)
    value = code.builder.select(rounded, nearest_bf16(code.builder, value), value)
    code.store(code.builder.bitcast(value, lanes(F32, WIDTH)), memory, index, stream)


def decode(code, codes, scale):
    """Bit patterns of the float32 values of 16 codes."""
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
    """Round float32 bit patterns to the nearest bfloat16, ties to even; infinities and QUIET_NAN stay the same."""
    odd = builder.and_(builder.lshr(bits, every(I32, WIDTH, 16)), every(I32, WIDTH, 1))
    raised = builder.add(builder.add(bits, odd), every(I32, WIDTH, 0x7FFF))
    return builder.and_(raised, every(I32, WIDTH, 0xFFFF0000))
