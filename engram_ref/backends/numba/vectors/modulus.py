"""Eight remainders at once, without dividing.

The processor divides 64-bit integers one at a time. For any int64 x and a prime p in (2^12, 2^31), one fused
multiply-add of doubles finds the quotient, off by less than one:

    t = fma(double(x), 1/p, 1.5 * 2^52),   q = the low 32 bits of t's bit pattern
    r = x - q p   in 32 bits,              x mod p = min(r, r + p)   read as unsigned

Why it is exact. With u = 2^-53, double(x) and 1/p each carry a relative error of at most u / (1 + u), so the
exact product that fma forms is x/p (1 + e) with |e| < 2u. As |x|/p <= 2^63 / 4097 < 2^51 - 2^38, it is off by
less than 1/2. Adding 1.5 * 2^52 lands between 2^52 and 2^53, where doubles are whole numbers: rounding there
moves it by at most 1/2 more. So q is a whole number with |q - x/p| < 1, and -p < x - q p < p. The low 32 bits
of the pattern are q's own, since 1.5 * 2^52 has none set; and |x - q p| < 2^31 means 32 bits keep it exactly. A
negative r, read as unsigned, exceeds r + p; for r >= 0, r + p < 2^32 exceeds r: the smaller is the remainder,
in [0, p) also where x is negative.
"""

from typing import NamedTuple

import numpy as np

from engram_ref.backends.numba.vectors.instructions import F64, I32, I64, every, lanes, vector_code

FAST_PRIMES = (2**12, 2**31)
"""The trick is proved for primes strictly between these two."""

WIDTH = 8
SHIFT = 1.5 * 2.0**52


class Columns(NamedTuple):
    """Constants of columns, for `store_remainders`.

    primes, offsets   int64 [C]
    inverses          float64 [C], 1 / primes
    fast              whether the vector code may be used: primes in its range, columns of a mix in eights
    """

    primes: np.ndarray
    inverses: np.ndarray
    offsets: np.ndarray
    fast: bool


def is_fast(primes: np.ndarray) -> bool:
    """Whether the trick holds for all of these primes."""
    low, high = FAST_PRIMES
    return bool(((primes > low) & (primes < high)).all())


def store_remainders(mix, columns, column, rows, index, stream):
    """rows[index + i] = mix mod primes[column + i] + offsets[column + i], for i in 0..7.

    mix      int64
    rows     int64 [...], written from `index` on
    stream   use a non-temporal store, which needs 64-byte alignment
    """
    here = slice(column, column + WIDTH)
    primes = columns.primes[here] & (2**32 - 1)         # only their low 32 bits are read, as in the vector code
    rows[index : index + WIDTH] = int(mix) % primes + columns.offsets[here]


@vector_code(store_remainders)
def store_remainders(code, mix, columns, column, rows, index, stream):
    """The formulas at the top of this file, in the low half of each 64-bit lane; what the high halves hold is cleared.

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
