"""e^x and silu(x) without calls, tables or branches, for one number or for every lane of a vector.

A loop that calls the library's exp stays scalar. In float32, with n the integer nearest to x / ln 2:

    e^x = 2^n e^r,   r = x - n ln 2 in [-ln 2 / 2, ln 2 / 2],   e^r ~ 1 + r + r^2 P(r)

ln 2 is split into two parts; the first has so few bits that its product with n is exact. P, of degree 4, was fitted to
minimise the relative error of e^r, which stays below 2^-28, far less than the rounding errors of its evaluation. Below
-87.3, where the result would be subnormal, e^x is 0. float64 uses the library's exp.
"""

import math
from functools import partial

import numpy as np
from numba.extending import register_jitable

from engram_ref.backends.numba.vectors.instructions import F64, I32, STRIP, constant, element_of, like, vector_code

LOWEST = np.float32(-87.3)                  # e^-87.3 is just above 2^-126, the smallest normal number
PER_LN2 = np.float32(1 / math.log(2))
LN2_HIGH = np.float32(0.693359375)          # 355/512: nine bits, so that n * LN2_HIGH is exact
LN2_LOW = np.float32(math.log(2) - 0.693359375)
ROUND = np.float32(1.5 * 2**23)             # adding it leaves an integer in the low bits of the pattern
P0, P1, P2, P3, P4 = (np.float32(c) for c in (0.4999999403953552, 0.1666652113199234, 0.04166838899254799,
                                              0.00836874544620514, 0.0013814540579915047))
MANTISSA_BITS, ONE_BITS = 23, int(np.float32(1).view(np.int32))


def exponential(code, x):
    """Instructions for e^x; float32 needs LOWEST <= x <= -LOWEST.

    In float32, the relative error is below 2 * 2^-24. In units of 2^-24, rounding the last multiply-add contributes at
    most 1, rounding the previous one 0.5, since |r| < 0.35 scales it, rounding r 0.25, and the polynomial 2^-4.
    """
    if element_of(x.type) == F64:
        return code.call("llvm.exp", x)
    builder, number, bits = code.builder, partial(constant, x.type), like(x.type, I32)
    # Compute n, which is also in the low bits of `moved`, and r
    moved = code.multiply_add(x, number(PER_LN2), number(ROUND))
    n = builder.fsub(moved, number(ROUND))
    r = code.multiply_add(n, number(-LN2_LOW), code.multiply_add(n, number(-LN2_HIGH), x))
    # Evaluate the polynomial by Horner's rule, then multiply by 2^n, built from its bit pattern
    power = number(P4)
    for coefficient in (P3, P2, P1, P0, 1, 1):
        power = code.multiply_add(power, r, number(coefficient))
    shifted = builder.shl(builder.bitcast(moved, bits), constant(bits, MANTISSA_BITS))
    return builder.fmul(power, builder.bitcast(builder.add(shifted, constant(bits, ONE_BITS)), x.type))


def silu_of(code, x):
    """Instructions for silu(x) = x / (1 + e^-x); e^-x is infinite for float32 numbers below LOWEST."""
    builder, number, small = code.builder, partial(constant, x.type), element_of(x.type) != F64
    inside = code.maximum(code.minimum(x, number(-LOWEST)), number(LOWEST)) if small else x
    power = exponential(code, builder.fneg(inside))
    if small:
        power = builder.select(builder.fcmp_ordered("<", x, number(LOWEST)), number(math.inf), power)
    return builder.fdiv(x, builder.fadd(number(1), power))


def exp_negative(x):
    """e^x for a float32 or float64 x <= 0."""
    if isinstance(x, np.float32):
        return np.float32(0 if x < LOWEST else math.exp(x))
    return math.exp(x)


@vector_code(exp_negative, lambda x: x)
def exp_negative(code, x):
    """The formula at the top of this file."""
    if x.type == F64:
        return exponential(code, x)
    number, builder = partial(constant, x.type), code.builder
    power = exponential(code, code.maximum(x, number(LOWEST)))
    # NaN is not below LOWEST, and the polynomial propagates it
    return builder.select(builder.fcmp_ordered("<", x, number(LOWEST)), number(0), power)


@register_jitable
def sigmoid(x, one):
    """1 / (1 + e^-x), in the form of ops.gate.sigmoid, in which exp never overflows; `one` is 1 in x's dtype."""
    small = exp_negative(-abs(x))
    return (one if x >= 0 else small) / (one + small)


def store_silu(x, first, count, y):
    """y[first + i] = silu(x[first + i]) for i < count."""
    here = slice(first, first + count)
    with np.errstate(over="ignore"):
        y[here] = x[here] / (1 + np.exp(-x[here]))


@vector_code(store_silu)
def store_silu(code, x, first, count, y):
    """Compute several vectors at a time, so that their divisions overlap."""
    for width, indices in code.strips(count, x.kind, STRIP):
        for index in indices:
            i = code.builder.add(first, index)
            code.store(silu_of(code, code.load(x, i, width)), y, i)
