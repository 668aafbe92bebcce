"""Eight remainders at once, without division.

The processor divides 64-bit integers one at a time. For any int64 x and a prime p in (2^12, 2^31), one fused
multiply-add of doubles gives the quotient with an error of less than one:

    t = fma(double(x), 1/p, 1.5 * 2^52),   q = the low 32 bits of t's bit pattern
    r = x - q p   in 32 bits,              x mod p = min(r, r + p)   read as unsigned

The result is exact. With u = 2^-53, double(x) and 1/p each have a relative error of at most u / (1 + u), so the
exact product inside fma is x/p (1 + e) with |e| < 2u. As |x|/p <= 2^63 / 4097 < 2^51 - 2^38, its error is less than
1/2. The sum with 1.5 * 2^52 is between 2^52 and 2^53, where doubles are integers, so rounding it adds an error of at
most 1/2. So q is an integer with |q - x/p| < 1, and -p < x - q p < p. The low 32 bits of the pattern are those of q,
since those of 1.5 * 2^52 are zero, and 32 bits represent x - q p exactly, since |x - q p| < 2^31. A negative r, read
as unsigned, exceeds r + p; for r >= 0, r + p < 2^32 exceeds r. So the smaller of the two is the remainder, in
[0, p) even if x is negative.
"""

from typing import NamedTuple

import numpy as np

from engram_ref.backends.numba.vectors.instructions import F64, I32, I64, every, lanes, vector_code

FAST_PRIMES = (2**12, 2**31)    # the proof holds for primes strictly between these bounds
WIDTH = 8
SHIFT = 1.5 * 2.0**52


class Columns(NamedTuple):
    """Constants of columns, for `store_remainders`."""

    primes: np.ndarray          # int64 [C]
    inverses: np.ndarray        # float64 [C], 1 / primes
    offsets: np.ndarray         # int64 [C]
    fast: bool      # whether the vector code may be used: primes in its range, and a multiple of eight columns per mix


def is_fast(primes: np.ndarray) -> bool:
    """Whether the proof holds for all of these primes."""
    low, high = FAST_PRIMES
    return bool(((primes > low) & (primes < high)).all())


def store_remainders(mix, columns, column, rows, index, stream):
    """rows[index + i] = mix mod primes[column + i] + offsets[column + i], for i in 0..7.

    mix      int64
    rows     int64 [...], written from `index` on
    stream   whether to use a non-temporal store, which requires 64-byte alignment
    """
    here = slice(column, column + WIDTH)
    primes = columns.primes[here] & (2**32 - 1)         # only the low 32 bits are used, as in the vector code
    rows[index : index + WIDTH] = int(mix) % primes + columns.offsets[here]


@vector_code(store_remainders)
def store_remainders(code, mix, columns, column, rows, index, stream):
    """The formulas at the top of this file, in the low half of each 64-bit lane; the high halves are cleared.

    A product of two masked lanes is one instruction, and no vector has to be narrowed or widened.
    """
    builder, whole, halves = code.builder, lanes(I64, WIDTH), lanes(I32, 2 * WIDTH)
    p, low = code.load(columns.primes, column), every(I64, WIDTH, 2**32 - 1)
    t = code.multiply_add(code.spread(builder.sitofp(mix, F64), lanes(F64, WIDTH)), code.load(columns.inverses, column),
                          every(F64, WIDTH, SHIFT))
    product = builder.mul(builder.and_(builder.bitcast(t, whole), low), builder.and_(p, low))
    r = builder.bitcast(builder.sub(code.spread(mix, whole), product), halves)
    wrapped = builder.add(r, builder.bitcast(p, halves))
    r = builder.select(builder.icmp_unsigned("<", r, wrapped), r, wrapped)
    row = builder.add(builder.and_(builder.bitcast(r, whole), low), code.load(columns.offsets, column))
    code.store(row, rows, index, stream)
