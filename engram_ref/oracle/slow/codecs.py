"""Eight-bit number formats and IEEE rounding, computed exactly with fractions."""

import math
from fractions import Fraction
from functools import cache

NAN = "nan"
E4M3_MAX = 448


def power_of_two(exponent):
    return Fraction(2) ** exponent


def ceil_log2(value):
    """Return the smallest integer e with 2**e >= value, for a positive fraction."""
    e = value.numerator.bit_length() - value.denominator.bit_length() - 1
    while power_of_two(e) < value:
        e += 1
    return e


def floor_log2(value):
    """Return the largest integer e with 2**e <= value, for a positive fraction."""
    return -ceil_log2(1 / Fraction(value))


@cache
def e4m3(code):
    """Return (sign, magnitude) of an E4M3FN code, or 'nan'.

    The sign is +1 or -1, also for zero; the magnitude is a Fraction.
    """
    sign = -1 if code >= 128 else 1
    exponent, mantissa = divmod(code % 128, 8)
    if exponent == 15 and mantissa == 7:
        return NAN
    if exponent == 0:
        return sign, mantissa * power_of_two(-9)
    return sign, (8 + mantissa) * power_of_two(exponent - 10)


def e8m0(byte):
    """Return the power of two that a scale byte encodes, or 'nan' for 255."""
    return NAN if byte == 255 else power_of_two(byte - 127)


def round_binary(value, digits):
    """Round to the nearest number with `digits` binary digits, ties to even; returns a float.

    The exponent range is that of float32: the last place is at least 2**(-125 - digits), and results of 2**128 or more
    become infinite. A NaN, an infinity or a zero of either sign is returned unchanged.
    """
    if not value or (isinstance(value, float) and not math.isfinite(value)):
        return float(value)
    value = Fraction(value)
    exponent = max(floor_log2(abs(value)), -126)
    last_place = power_of_two(exponent - digits + 1)
    magnitude = round(abs(value) / last_place) * last_place
    rounded = math.inf if magnitude >= 2**128 else float(magnitude)
    return -rounded if value < 0 else rounded


def to_float32(value):
    """Round a fraction to float32; returns a Python float."""
    return round_binary(value, 24)


def to_bfloat16(value):
    """Round a fraction to bfloat16; returns a Python float."""
    return round_binary(value, 8)


def dequantise(code, scale_byte):
    """Return the (float32, bfloat16) value of an E4M3FN code with an E8M0 scale.

    The product is rounded to float32, and that result to bfloat16. NaN in either byte gives NaN; zero keeps the sign of
    its code.
    """
    number, scale = e4m3(code), e8m0(scale_byte)
    if NAN in (number, scale):
        return math.nan, math.nan
    sign, magnitude = number
    single = to_float32(magnitude * scale)
    brain = single if math.isinf(single) else to_bfloat16(single)
    return math.copysign(single, sign), math.copysign(brain, sign)


def nearest_e4m3(x):
    """Return the code nearest to a fraction: ties to the even code, at most 448.

    Compares with every finite code. A negative x always gets the sign bit, even if its magnitude rounds to zero.
    """
    size = abs(x)
    nearest = min(range(127), key=lambda c: (abs(e4m3(c)[1] - size), c % 2))
    return nearest + 128 if x < 0 else nearest


def block_scale_byte(largest, floor):
    """Return the byte of the smallest power of two that scales max(largest, floor) to at most 448."""
    largest = max(Fraction(largest), Fraction(floor))
    if largest == 0:
        return 127
    exponent = ceil_log2(largest / E4M3_MAX)
    return min(max(exponent, -127), 127) + 127


def quantise_block(values, floor=1e-4):
    """Return (codes, scale_byte) of one block of numbers with a shared scale.

    The block's maximum counts as at least `floor`. A float -0.0 becomes code 128. With floor 0, an all-zero block has
    scale 1. A block with a NaN or an infinity has codes 0 and scale byte 255.
    """
    if not all(map(math.isfinite, values)):
        return [0] * len(values), 255
    exact = [Fraction(value) for value in values]
    scale_byte = block_scale_byte(max(map(abs, exact)), floor)
    scale = e8m0(scale_byte)
    codes = [nearest_e4m3(value / scale) for value in exact]
    minus_zero = [v == 0 and math.copysign(1, v) < 0 for v in values]
    return [128 if z else c for z, c in zip(minus_zero, codes, strict=True)], scale_byte
