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

import numpy as np
from numba import types

from engram_ref.backends.numba.vectors.instructions import F64, I32, I64, Code, every, lanes, vector_code

FAST_PRIMES = (2**12, 2**31)
"""The trick is proved for primes strictly between these two."""

WIDTH = 8
SHIFT = 1.5 * 2.0**52


def is_fast(primes: np.ndarray) -> bool:
    """Whether the trick holds for all of these primes."""
    low, high = FAST_PRIMES
    return bool(((primes > low) & (primes < high)).all())


def plain_remainders(mix, real, primes, inverses, offsets, column, rows, index):
    """rows[index + i] = mix mod primes[column + i] + offsets[column + i], for i in 0..7."""
    here = slice(column, column + WIDTH)
    rows[index : index + WIDTH] = int(mix) % primes[here].astype(np.int64) + offsets[here]


def remainders(stream: bool):
    """The vector code of `plain_remainders`; `stream` writes past the cache, to 64-byte aligned places.

    mix, real  int64, and the nearest float64
    primes     uint32 [...], inverses float64 [...] of them, offsets int64 [...]; `column` is the first used
    rows       int64 [...], written from `index` on
    """
    def build(typing, mix, real, primes, inverses, offsets, column, rows, index):
        def generate(context, builder, signature, arguments):
            code, whole, half = Code(context, builder, signature, arguments), lanes(I64, WIDTH), lanes(I32, WIDTH)
            x, nearest, _, _, _, first, _, at = arguments
            p, inverse = code.load(2, first, half), code.load(3, first, lanes(F64, WIDTH))
            t = code.multiply_add(code.spread(nearest, inverse.type), inverse, every(F64, WIDTH, SHIFT))
            q = builder.trunc(builder.bitcast(t, whole), half)
            r = builder.sub(code.spread(builder.trunc(x, I32), half), builder.mul(q, p))
            wrapped = builder.add(r, p)
            r = builder.select(builder.icmp_unsigned("<", r, wrapped), r, wrapped)
            code.store(builder.add(builder.zext(r, whole), code.load(4, first, whole)), 6, at, stream)
            return context.get_dummy_value()

        signature = types.void(types.int64, types.float64, primes, inverses, offsets, types.intp, rows, types.intp)
        return signature, generate

    return vector_code(plain_remainders)(build)


store_remainders, stream_remainders = remainders(stream=False), remainders(stream=True)
