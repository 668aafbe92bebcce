"""The comparator of the tests whose bounds are derived, not measured: by counting roundings.

exact      no difference; NaN equals NaN, and 0.0 differs from -0.0
f64        float64; difference at most 2 (terms + 16) 2^-53 scale. A sum of n products carries at most n roundings of
           u = 2^-53 relative to the sum of their absolute values (Higham, Accuracy and Stability, section 3.1), in
           either of two float64 computations; the elementwise functions around it add fewer than 16 roundings.
f32        float32, compared with float64; difference at most 2 (terms + 16) 2^-24 scale + 2^-126. Only one of the two
           rounds noticeably, so n + 32 roundings are left for elementwise functions.
bf16       bfloat16 numbers in float32, between the roundings of expected - d and expected + d, d as for f32
model      float64; difference at most 1e-10 times the largest expected magnitude: whole models, computed in two orders
golden     floats recorded from an independent implementation in float64: within 1e-13 of the largest recorded
           magnitude, as stated in the file. The recorded module chains three sums of at most 36, 20 and 20 terms and a
           root that amplifies.
forms      one layer of attention in float64, computed in two orders as for `model`. The chain has one layer, so
           the project guarantees 1e-12 of the largest expected magnitude.
internals  a third-party float64 model whose norms, softmax, router and rotations compute in float32: `terms`
           roundings of u = 2^-24, counted by the caller, each relative to `scale`.

If a function amplifies errors, the scale includes the amplification: for a chain of stages it is, per element, the size
of the result plus its condition, and `terms` is the total length of all sums. tests/bounds.py computes such scales.
"""

from dataclasses import dataclass

import numpy as np

from engram_ref.errors import check_name
from engram_ref.oracle.compare import COMPUTED_IN, same, to_bf16, ulp_distance

UNIT_ROUNDOFF = {"f64": 2.0**-53, "f32": 2.0**-24, "bf16": 2.0**-24}
"""Unit roundoff u of the classes with a computed bound."""

SMALLEST_NORMAL = dict.fromkeys(("f32", "bf16"), 2.0**-126)
"""Added to the bound of the float32 classes: below it, numbers lose digits or are flushed to zero."""

COMPUTED_IN = COMPUTED_IN | {"model": np.float64}
PROMISE = 1e-10
"""Largest difference of class `model`, relative to the largest expected magnitude."""

CLASSES = ("exact", *COMPUTED_IN)


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


def worst(expected: np.ndarray, found: np.ndarray, error: np.ndarray, allowed: np.ndarray) -> Difference | None:
    """Return the element whose error exceeds its allowance the most, or None."""
    if (error <= allowed).all():
        return None
    at = np.unravel_index(np.argmax(error - allowed), error.shape)       # the first NaN, if any
    return Difference(tuple(map(int, at)), expected[at].item(), found[at].item(), float(allowed[at]),
                      ulp_distance(expected[at], found[at]))


def allowance(expected: np.ndarray, tolerance_class: str, terms: float,
              scale: "np.ndarray | float | None") -> "np.ndarray | float":
    """Return the largest difference that the class allows: a number, or one per element."""
    scale = np.abs(expected).max(initial=0.0) if scale is None else scale
    if tolerance_class == "model":
        return PROMISE * scale
    return 2 * (terms + 16) * UNIT_ROUNDOFF[tolerance_class] * scale + SMALLEST_NORMAL.get(tolerance_class, 0.0)


def assert_close(name, expected, found, tolerance_class, terms=1, scale=None):
    """Raise AssertionError if the arrays differ by more than the class allows, relative to the scale."""
    bound = {"golden": 1e-13, "forms": 1e-12, "internals": terms * 2.0**-24}.get(tolerance_class)
    shown = tolerance_class
    if bound is not None:
        tolerance_class, terms = "f64", bound / 2.0**-52 - 16           # which allows 2 (terms + 16) 2^-53
    difference = compare(expected, found, tolerance_class, terms, scale)
    if difference is not None:
        raise AssertionError(f"{name} [{shown}]: {difference}")
