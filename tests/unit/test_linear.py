"""Projections, and the residual sum, which is rounded once."""

from fractions import Fraction

import numpy as np
import pytest

from engram_ref.ops import add_residual, linear
from engram_ref.oracle.slow import codecs as slow_codecs
from engram_ref.oracle.slow import module as slow
from tests.compare import assert_close


@pytest.mark.parametrize("biased", [False, True], ids=["plain", "biased"])
@pytest.mark.parametrize(("count", "inner", "outer"), [(0, 3, 2), (1, 1, 1), (5, 13, 7), (3, 40, 1)], ids=str)
def test_linear_matches_exact_sums(count, inner, outer, biased):
    rng = np.random.default_rng(count)
    x, weight = rng.standard_normal((count, inner)), rng.standard_normal((outer, inner))
    bias = rng.standard_normal(outer)
    added = bias if biased else np.zeros(outer)
    expected = np.array([slow.linear(weight.tolist(), added.tolist(), line) for line in x.tolist()])
    scale = np.abs(x) @ np.abs(weight).T + np.abs(added)
    result = linear(x, weight, bias if biased else None)
    assert_close("linear", expected.reshape(count, outer), result, "f64", inner + 1, scale)


def test_linear_contracts_the_last_axis_of_both():
    assert linear(np.array([1.0, 10.0]), np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])).tolist() == [21, 43, 65]


def test_residual_is_a_plain_sum_without_rounding():
    rng = np.random.default_rng(1)
    hidden, update = rng.standard_normal((2, 1, 3, 2, 5))
    assert_close("sum", hidden + update, add_residual(hidden, update), "exact")


def slow_residual(hidden, update):
    """The sum rounded to float32, then to bfloat16, from exact fractions."""
    single = slow_codecs.to_float32(Fraction(hidden) + Fraction(update))
    return slow_codecs.to_bfloat16(single)


def test_residual_is_rounded_once():
    """Rounding the update to bfloat16 before the sum would change the first values and many others."""
    rng = np.random.default_rng(2)
    hidden = np.concatenate([[1.0, 1.0, 256.0], rng.integers(-200, 200, 300)]).astype(np.float32)
    update = np.concatenate([[2.0**-8 + 2.0**-20, -(2.0**-9) - 2.0**-20, 1.0 + 2.0**-10],
                             rng.standard_normal(300)]).astype(np.float32)
    result = add_residual(hidden.reshape(1, 3, 1, 101), update.reshape(1, 3, 1, 101), "fp8_bf16").ravel()
    assert result.dtype == np.float32
    assert result[:3].tolist() == [1.0078125, 0.99609375, 258.0]
    expected = [slow_residual(float(h), float(u)) for h, u in zip(hidden, update, strict=True)]
    assert_close("residual", np.float32(expected), result, "exact")
