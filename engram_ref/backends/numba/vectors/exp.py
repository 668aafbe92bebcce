"""e^x in a form that LLVM can vectorise: no call, no table, no branch.

The library's exp is a call, so a loop around it stays scalar. In float32, with n the whole number nearest x / ln 2:

    e^x = 2^n e^r,   r = x - n ln 2 in [-ln 2 / 2, ln 2 / 2],   e^r ~ 1 + r + r^2 P(r)

n ln 2 is subtracted in two parts, the first so short that its product with n is exact. P, of degree 4, was fitted to
the relative error of e^r, which it keeps below 2^-28: far less than the roundings of its own evaluation. Below -87.3,
where the result would no longer be a normal number, it is 0.
"""

import math

import numpy as np
from numba import types
from numba.extending import overload, register_jitable

LOWEST = np.float32(-87.3)                  # e^-87.3 is just above 2^-126, the smallest normal number
PER_LN2 = np.float32(1 / math.log(2))
LN2_HIGH = np.float32(0.693359375)          # 355/512: nine bits, so that n * LN2_HIGH is exact
LN2_LOW = np.float32(math.log(2) - 0.693359375)
ROUND = np.float32(1.5 * 2**23)             # added, it leaves a whole number in the last bits of the pattern
ROUND_BITS = ROUND.view(np.int32)
P0, P1, P2, P3, P4 = (np.float32(c) for c in (0.4999999403953552, 0.1666652113199234, 0.04166838899254799,
                                              0.00836874544620514, 0.0013814540579915047))
ZERO, ONE, BIAS, MANTISSA_BITS = np.float32(0), np.float32(1), np.int32(127), np.int32(23)


@register_jitable
def exp32(x):
    """e^x for float32 x <= 0: three roundings of 2^-24 relative to the result at most, one of them the last sum's."""
    inside = max(x, LOWEST)
    moved = inside * PER_LN2 + ROUND
    n = moved - ROUND
    r = (inside - n * LN2_HIGH) - n * LN2_LOW
    p = (((P4 * r + P3) * r + P2) * r + P1) * r + P0
    power = np.int32((np.float32(moved).view(np.int32) - ROUND_BITS + BIAS) << MANTISSA_BITS).view(np.float32)
    return ZERO if x < LOWEST else (ONE + (r + r * r * p)) * power


def exp_negative(x):
    """e^x for x <= 0: the polynomial in float32, the library's in float64."""
    return exp32(x) if isinstance(x, np.float32) else math.exp(x)


@overload(exp_negative)
def compiled_exp_negative(x):
    """The same choice, made when the kernel is compiled."""
    return (lambda x: exp32(x)) if x == types.float32 else (lambda x: math.exp(x))


@register_jitable
def sigmoid(x, one):
    """1 / (1 + e^-x), as ops.gate.sigmoid writes it: exp never overflows. `one` is 1 of x's own dtype."""
    small = exp_negative(-abs(x))
    return (one if x >= 0 else small) / (one + small)
