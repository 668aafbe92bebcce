"""The only comparator: the tolerance classes of RULES. docs/reference/golden.md has the reason for each bound.

If a function amplifies errors, the scale includes the amplification. For a chain of stages it is, per element, the
size of the result plus its condition, and `terms` is the total length of all sums in the chain.
"""

from dataclasses import dataclass

import numpy as np

from engram_ref.errors import check_name

UNIT_ROUNDOFF = {"f64": 2.0**-53, "f32": 2.0**-24, "bf16": 2.0**-24}
"""Unit roundoff u of the classes with a computed bound."""

SMALLEST_NORMAL = dict.fromkeys(("f32", "bf16"), 2.0**-126)
"""Added to the bound of the float32 classes: below it, numbers lose digits or are flushed to zero."""

COMPUTED_IN = {"f64": np.float64, "f32": np.float32, "bf16": np.float32, "model": np.float64}
"""Dtype of the compared results, by class."""

PROMISE = 1e-10
"""Largest difference of class `model`, relative to the largest expected magnitude."""

CLASSES = ("exact", *COMPUTED_IN)
RULES = {
    "exact": "no difference; NaN equals NaN, and 0.0 differs from -0.0",
    "f64": "float64; difference at most 2 * (terms + 16) * 2**-53 * scale",
    "f32": "float32; difference at most 2 * (terms + 16) * 2**-24 * scale + 2**-126",
    "bf16": "bfloat16 numbers in float32, between the roundings of expected - d and expected + d, d as for f32",
    "model": "float64; difference at most 1e-10 times the largest expected magnitude",
}
"""Rules of the classes, one line each: dtype of the answer and largest difference."""


@dataclass(frozen=True)
class Difference:
    """The worst difference between two arrays that differ by more than their class allows.

    index     of the worst element; None if shape or dtype differ, or an array is missing
    expected  that element, or the expected shape or dtype
    found     likewise
    allowed   the largest difference that the class allows for this element
    ulps      distance in ULP of the found dtype; None if undefined
    """

    index: tuple[int, ...] | None
    expected: object
    found: object
    allowed: float | None = None
    ulps: int | None = None

    def __str__(self) -> str:
        if self.index is None:
            return f"expected {self.expected}, found {self.found}"
        distance = "" if self.ulps is None else f", {self.ulps:,} ULP apart"
        return (f"at {self.index} expected {self.expected!r}, found {self.found!r}{distance}; "
                f"allowed difference {self.allowed:.3g}")


def compare(expected: np.ndarray, found: np.ndarray, tolerance_class: str, terms: float = 1,
            scale: "np.ndarray | float | None" = None) -> Difference | None:
    """Return the worst element of `found` that differs from `expected` by more than the class allows, or None.

    expected          [...]
    found             [...] of the dtype of the class
    tolerance_class   one of CLASSES
    terms             total length n of the sums (classes f64, f32 and bf16)
    scale             magnitude relative to which rounding errors are bounded, a number or one per element: the
                      largest intermediate sum of absolute values. Default: the largest expected magnitude, which is
                      right unless a sum cancels
    raises            InputError if the class is unknown

    >>> print(compare(np.ones(2), np.array([1.0, 1.5]), "f64"))
    at (1,) expected 1.0, found 1.5, 2,251,799,813,685,248 ULP apart; allowed difference 3.77e-15
    """
    check_name("tolerance class", tolerance_class, CLASSES)
    expected, found = np.asarray(expected), np.asarray(found)
    if expected.shape != found.shape:
        return Difference(None, f"shape {list(expected.shape)}", f"shape {list(found.shape)}")
    if tolerance_class == "exact":
        if expected.dtype.kind != found.dtype.kind:
            return Difference(None, f"dtype {expected.dtype}", f"dtype {found.dtype}")
        error, allowed = np.where(same(expected, found), 0.0, np.inf), 0.0
    else:
        dtype = np.dtype(COMPUTED_IN[tolerance_class])
        if found.dtype != dtype:
            return Difference(None, f"dtype {dtype}", f"dtype {found.dtype}")
        with np.errstate(invalid="ignore"):                      # Inf - Inf is NaN, and NaN fails unless both are
            error = np.abs(expected - found.astype(np.float64))
        allowed = allowance(expected, tolerance_class, terms, scale)
        equal = same(expected, found)                            # also NaN and infinities
        if tolerance_class == "bf16":
            error, allowed = from_cell(expected, found, error, allowed)
            equal &= ~np.isfinite(expected)                      # an answer that is not rounded fails
        error, allowed = np.where(equal, 0.0, error), np.where(equal, 0.0, allowed)
    return worst(expected, found, error, np.broadcast_to(allowed, error.shape))


def from_cell(expected: np.ndarray, found: np.ndarray, error: np.ndarray,
              allowed: "np.ndarray | float") -> tuple[np.ndarray, np.ndarray]:
    """Return error and allowance of class bf16; the error is infinite for a number that bfloat16 does not have."""
    with np.errstate(invalid="ignore"):
        nearest = np.where(found > expected, to_bf16(expected + allowed), to_bf16(expected - allowed))
        return np.where(to_bf16(found) == found, error, np.inf), np.abs(nearest - expected)


def to_bf16(x: np.ndarray) -> np.ndarray:
    """Round numbers of any dtype once to bfloat16, ties to even; float64 [...]."""
    fraction, exponent = np.frexp(np.asarray(x, dtype=np.float64))
    last = np.maximum(exponent - 8, -133)                    # exponent of the last bit; it is fixed for subnormals
    rounded = np.ldexp(np.rint(np.ldexp(fraction, exponent - last)), last)
    return np.where(np.abs(rounded) >= 2.0**128, np.copysign(np.inf, rounded), rounded)


def worst(expected: np.ndarray, found: np.ndarray, error: np.ndarray, allowed: np.ndarray) -> Difference | None:
    """Return the element whose error exceeds its allowance the most, or None."""
    if (error <= allowed).all():
        return None
    at = np.unravel_index(np.argmax(error - allowed), error.shape)       # the first NaN, if any
    return Difference(tuple(map(int, at)), expected[at].item(), found[at].item(), float(allowed[at]),
                      ulp_distance(expected[at], found[at]))


def same(expected: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Elementwise equality, bool [...]: NaN equals NaN, and zeros must have the same sign."""
    if expected.dtype.kind != "f":
        return expected == found
    equal = (expected == found) & (np.signbit(expected) == np.signbit(found))
    return equal | (np.isnan(expected) & np.isnan(found))


def allowance(expected: np.ndarray, tolerance_class: str, terms: float,
              scale: "np.ndarray | float | None") -> "np.ndarray | float":
    """Return the largest difference that the class allows: a number, or one per element."""
    scale = np.abs(expected).max(initial=0.0) if scale is None else scale
    if tolerance_class == "model":
        return PROMISE * scale
    return 2 * (terms + 16) * UNIT_ROUNDOFF[tolerance_class] * scale + SMALLEST_NORMAL.get(tolerance_class, 0.0)


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


def assert_close(name: str, expected: np.ndarray, found: np.ndarray, tolerance_class: str, terms: float = 1,
                 scale: "np.ndarray | float | None" = None) -> None:
    """Raise AssertionError with the worst element if `compare` returns a difference; arguments as for `compare`."""
    difference = compare(expected, found, tolerance_class, terms, scale)
    if difference is not None:
        raise AssertionError(f"{name} [{tolerance_class}]: {difference}")
