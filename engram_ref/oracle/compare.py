"""Classes of expected arrays, and what their comparison needs: equality, rounding to bfloat16, distance in ULP.

oracle/check/judge.py is the only comparator; docs/oracle/tolerances.md derives its bounds.
"""

import numpy as np

CLASSES = {
    "exact": "no difference; NaN equals NaN, and 0.0 differs from -0.0",
    "f64": "computed in float64; within the noise",
    "f32": "computed in float32, and given in float64; within the noise",
    "bf16": "computed in float32, given in float64 before the rounding to bfloat16, and then rounded; within the noise",
}
"""Class of a stage -> format of the computation, and which differences are allowed."""

COMPUTED_IN = {"f64": np.float64, "f32": np.float32, "bf16": np.float32}
"""Dtype of the results of this package, by class; that of an exact stage is the dtype of its array."""


def to_bf16(x: np.ndarray) -> np.ndarray:
    """Round numbers of any dtype once to bfloat16, ties to even; float64 [...]."""
    fraction, exponent = np.frexp(np.asarray(x, dtype=np.float64))
    last = np.maximum(exponent - 8, -133)                    # exponent of the last bit; it is fixed for subnormals
    rounded = np.ldexp(np.rint(np.ldexp(fraction, exponent - last)), last)
    return np.where(np.abs(rounded) >= 2.0**128, np.copysign(np.inf, rounded), rounded)


def same(expected: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Elementwise equality, bool [...]: NaN equals NaN, and zeros must have the same sign."""
    if expected.dtype.kind != "f":
        return expected == found
    equal = (expected == found) & (np.signbit(expected) == np.signbit(found))
    return equal | (np.isnan(expected) & np.isnan(found))


def ulp_distance(expected: np.generic, found: np.generic) -> int | None:
    """Return the number of steps between two floats, counted in the dtype of the second.

    expected, found   scalars; the first is rounded to the dtype of the second
    returns           0 if both are equal (as are -0.0 and 0.0); None for NaN and for non-float dtypes

    >>> ulp_distance(np.float64(1.0), np.float64(1.0) + 2**-52)
    1
    """
    if found.dtype not in (np.float32, np.float64):
        return None
    with np.errstate(over="ignore"):
        expected = expected.astype(found.dtype)
    if np.isnan(expected) or np.isnan(found):
        return None
    bits = {4: np.int32, 8: np.int64}[found.dtype.itemsize]
    steps = [int(np.abs(x).view(bits)) * (-1 if np.signbit(x) else 1) for x in (expected, found)]
    return abs(steps[0] - steps[1])
