"""The comparator: the bounds of the classes, and the report of the worst element."""

import math

import numpy as np
import pytest

from engram_ref.errors import InputError
from tests.compare import UNIT_ROUNDOFF, assert_close, compare, ulp_distance

ONE = np.ones(3)


@pytest.mark.parametrize(("kind", "dtype"), [("f64", np.float64), ("f32", np.float32)])
def test_bound_is_exact(kind, dtype):
    """A difference of exactly 2 (n + 16) u passes; the next float fails."""
    allowed = 2 * (5 + 16) * UNIT_ROUNDOFF[kind]
    inside = np.array([1, 1 + allowed, 1 - allowed], dtype=dtype)
    assert compare(ONE, inside, kind, terms=5) is None
    outside = inside.copy()
    outside[1] = np.nextafter(inside[1], dtype(2))
    difference = compare(ONE, outside, kind, terms=5)
    assert difference.index == (1,) and difference.ulps == round(allowed / np.finfo(dtype).eps) + 1


def test_scale_is_elementwise():
    assert compare(ONE, ONE + 1e-14, "f64", scale=np.array([10.0, 10.0, 10.0])) is None
    assert compare(ONE, ONE + 1e-14, "f64", scale=np.array([10.0, 10.0, 0.1])).index == (2,)


@pytest.mark.parametrize(("expected", "found"), [
    (np.array([0.0]), np.array([-0.0])), (np.array([1.0]), np.array([math.nan])), (np.array([1]), np.array([2])),
    (np.array([1]), np.array([1.0])), (np.array([1]), np.array([[1]])), (np.array("a"), np.array("b"))])
def test_class_exact_allows_no_difference(expected, found):
    assert compare(expected, found, "exact") is not None
    assert compare(expected, expected, "exact") is None


@pytest.mark.parametrize("name", ["exact", "f64", "f32", "bf16"])
def test_nan_and_infinities_equal_themselves_only(name):
    dtype = np.float64 if name in ("exact", "f64") else np.float32
    odd = np.array([math.nan, math.inf, -math.inf, 1.0])
    assert compare(odd, odd.astype(dtype), name, 1, np.ones(4)) is None
    for other in ([1.0, 1.0, 1.0, math.nan], [math.nan, -math.inf, -math.inf, 1.0], [math.nan, math.inf, 1.0, 1.0],
                  [0.0, math.inf, -math.inf, 1.0], [math.nan, math.inf, -math.inf, math.inf]):
        assert compare(odd, np.array(other, dtype), name, 1, np.ones(4)) is not None


@pytest.mark.parametrize(("y", "found", "passes"), [
    (1 + 2**-8 - 2**-18, 1.0, True), (1 + 2**-8 - 2**-18, 1 + 2**-7, True),         # either side of a tie
    (1 + 2**-9, 1.0, True), (1 + 2**-9, 1 + 2**-7, False), (1 + 2**-7, 1.0, False),
    (1 + 2**-9, 1 + 2**-9, False),                                                  # right, but not rounded
    (-0.0, 0.0, True), (2.0**-130, 0.0, True), (3.4e38, math.inf, True), (3.3e38, math.inf, False)])
def test_bf16_accepts_the_roundings_of_all_numbers_within_the_bound(y, found, passes):
    """The bound here is 2 * 17 * 2^-24, about 2^-19, relative to the number."""
    difference = compare(np.array([y]), np.array([found], np.float32), "bf16", 1, np.abs(np.array([y])) * 8)
    assert (difference is None) == passes


def test_wrong_dtype_and_shape_are_reported():
    assert str(compare(ONE, ONE.astype(np.float32), "f64")) == "expected dtype float64, found dtype float32"
    assert str(compare(ONE, ONE[:2], "f64")) == "expected shape [3], found shape [2]"


def test_worst_element_is_reported():
    with pytest.raises(AssertionError, match=r"gate \[f64\]: at \(2,\) expected 1.0, found 3.0, .* ULP apart"):
        assert_close("gate", ONE, np.array([1.0, 2.0, 3.0]), "f64")


def test_unknown_class_raises():
    with pytest.raises(InputError, match="did you mean f64"):
        compare(ONE, ONE, "f-64")


@pytest.mark.parametrize(("a", "b", "steps"), [
    (1.0, 1.0, 0), (0.0, -0.0, 0), (5e-324, -5e-324, 2), (1.0, math.nextafter(1.0, 0), 1), (math.nan, 1.0, None),
    (1.7976931348623157e308, math.inf, 1)])
def test_ulp_distance_across_zero_and_to_infinity(a, b, steps):
    assert ulp_distance(np.float64(a), np.float64(b)) == steps


def test_ulp_distance_uses_the_dtype_of_found():
    assert ulp_distance(np.float64(1.0), np.nextafter(np.float32(1), np.float32(2))) == 1
    assert ulp_distance(np.int64(1), np.int64(2)) is None
