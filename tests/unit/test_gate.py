"""The gate: scores, their roots, and the inputs at which the forms differ."""

import inspect
import math

import numpy as np
import pytest

from engram_ref.config import CHOICES
from engram_ref.ops import apply_gate, copysign_sqrt, factored_score, gate, rms_norm, score, sigmoid, signed_sqrt
from engram_ref.oracle.slow import module as slow
from tests.bounds import norm_scale
from tests.compare import assert_close

FORMS = CHOICES["gate_form"]
EPSILONS = (2.0**-52, 1e-20, 1e-6, 1e-5)
CLAMP = 1e-6
EDGES = np.array([0.0, -0.0, CLAMP, -CLAMP, np.nextafter(CLAMP, 0), np.nextafter(CLAMP, 1), -np.nextafter(CLAMP, 0),
                  1e-7, -1e-7, 1e-12, -1e-12, 5e-324, -5e-324, 2e-6, -2e-6, 1e-4, -1e-4, 1.0, -1.0, 4.0, -4.0,
                  900.0, -900.0, 1e6, -1e6, 1e300, -1e300])
"""Scores on both sides of every boundary between the cases of the roots."""


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_described(form):
    assert f"\n    {form} " in inspect.getmodule(signed_sqrt).__doc__ and f'"{form}"' in gate.__doc__


@pytest.mark.parametrize("form", FORMS)
def test_gate_at_the_edges(form):
    s = EDGES.reshape(3, 9, 1)
    expected = np.array([slow.gate(x, form) for x in EDGES.tolist()])
    for x, e, f in zip(EDGES, expected, gate(s, form).ravel(), strict=True):
        assert_close(f"gate of {x}", e, f, "f64")             # per element, so that tiny gates count too


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(1, 0, 2), (1, 1, 1), (3, 5, 4)], ids=str)
def test_gate_of_random_scores(shape, form):
    s = 3 * np.random.default_rng(1).standard_normal(shape)
    expected = np.array([slow.gate(x, form) for x in s.ravel().tolist()]).reshape(shape)
    assert_close("gate", expected, gate(s, form), "f64")


def test_gate_at_zero_for_each_form():
    """At zero two forms give exactly 0.5; copysign_sqrt gives a value above and a value below it."""
    zeros = np.array([[[0.0, -0.0]]])
    assert gate(zeros, "sigmoid").tolist() == [[[0.5, 0.5]]]
    assert gate(zeros, "signed_sqrt").tolist() == [[[0.5, 0.5]]]
    above, below = gate(zeros, "copysign_sqrt")[0, 0]
    assert (round(above, 8), round(below, 8)) == (0.50025, 0.49975)
    assert above > 0.5 > below


def test_scores_below_the_clamp_have_the_same_root():
    inside = np.array([1e-6, 9.99e-7, 1e-9, 5e-324])
    assert_close("inside", np.full(4, math.sqrt(CLAMP)), signed_sqrt(inside), "exact")
    assert_close("inside", np.full(4, -math.sqrt(CLAMP)), copysign_sqrt(-inside), "exact")
    outside = np.array([4e-6, 1.0, 16.0])
    assert_close("outside", np.sqrt(outside), signed_sqrt(outside), "exact")


def test_the_root_keeps_the_sign():
    s = np.array([-9.0, 9.0])
    assert signed_sqrt(s).tolist() == [-3, 3]
    assert copysign_sqrt(s).tolist() == [-3, 3]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sigmoid_of_extreme_inputs(dtype):
    """A plain exp would overflow; NumPy's warnings are errors in this suite."""
    x = np.array([1000, -1000, 100, -80, 1e30, -1e30, np.inf, -np.inf, 0], dtype=dtype)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        result = sigmoid(x)
    assert result.dtype == dtype
    assert result[[0, 4, 6, 8]].tolist() == [1, 1, 1, 0.5]
    assert result[[1, 5, 7]].tolist() == [0, 0, 0]
    assert_close("far below", math.exp(-80), result[3], "f32" if dtype is np.float32 else "f64")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sigmoid_is_accurate_on_both_sides_of_zero(dtype):
    x = np.linspace(-80, 80, 81).astype(dtype)
    for value, result in zip(x.tolist(), sigmoid(x), strict=True):
        assert_close(f"sigmoid of {value}", slow.sigmoid(value), result, "f32" if dtype is np.float32 else "f64")


def score_case(shape, magnitude=1.0):
    rng = np.random.default_rng(2)
    hidden, key = magnitude * rng.standard_normal((2, *shape))
    query_gain, key_gain = 1 + 0.3 * rng.standard_normal((2, *shape[2:]))
    return hidden, key, query_gain, key_gain


def slow_scores(hidden, key, query_gain, key_gain, eps):
    result = np.zeros(hidden.shape[:3])
    for b, t, m in np.ndindex(result.shape):
        h, k, gains = hidden[b, t, m], key[b, t, m], (query_gain[m], key_gain[m])
        result[b, t, m] = slow.score(h.tolist(), k.tolist(), *(gain.tolist() for gain in gains), eps)
    return result


def scale_of_score(hidden, key, query_gain, key_gain, eps):
    scaled = norm_scale(hidden, np.abs(hidden), query_gain, eps) * norm_scale(key, np.abs(key), key_gain, eps)
    return scaled.sum(axis=-1) / math.sqrt(hidden.shape[-1])


@pytest.mark.parametrize("form", ["normalised", "factored"])
@pytest.mark.parametrize("eps", EPSILONS, ids=str)
@pytest.mark.parametrize("magnitude", [1.0, 1e-3, 1e-8, 1e-10], ids=lambda m: f"states of {m}")
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 0, 2, 3), (2, 3, 4, 13)], ids=str)
def test_score_matches_exact_sums(shape, magnitude, eps, form):
    """Small states make every eps visible: for states of 1e-10, even an eps of 1e-20 doubles the mean square."""
    case = score_case(shape, magnitude)
    hidden, key, query_gain, key_gain = case
    result = factored_score(*case, eps) if form == "factored" else \
        score(rms_norm(hidden, query_gain, eps), rms_norm(key, key_gain, eps))
    assert_close("score", slow_scores(*case, eps), result, "f64", 2 * shape[-1], scale_of_score(*case, eps))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_factored_equals_the_normalised_score(dtype):
    case = [array.astype(dtype) for array in score_case((2, 3, 4, 65))]
    hidden, key, query_gain, key_gain = case
    scale = scale_of_score(*[array.astype(np.float64) for array in case], 1e-6)
    normalised = score(rms_norm(hidden, query_gain, 1e-6), rms_norm(key, key_gain, 1e-6))
    factored = factored_score(*case, 1e-6)
    assert factored.dtype == normalised.dtype == dtype
    kind = "f32" if dtype is np.float32 else "f64"
    assert_close("factored", normalised.astype(np.float64), factored, kind, 2 * 65, scale)


def test_score_is_divided_by_the_root_of_the_width():
    assert score(np.ones((1, 1, 1, 9)), np.ones((1, 1, 1, 9))).item() == 3.0


def test_scores_do_not_depend_on_the_scale_of_a_branch():
    hidden, key, query_gain, key_gain = score_case((1, 2, 3, 5))
    stretched = hidden * np.array([1e-3, 1.0, 1e9])[:, None]
    scale = scale_of_score(hidden, key, query_gain, key_gain, 0.0)
    same, other = (factored_score(h, key, query_gain, key_gain, 0.0) for h in (hidden, stretched))
    assert_close("factored", same, other, "f64", 10, scale)
    key_norm = rms_norm(key, key_gain, 0.0)
    same, other = (score(rms_norm(h, query_gain, 0.0), key_norm) for h in (hidden, stretched))
    assert_close("normalised", same, other, "f64", 10, scale)


@pytest.mark.parametrize("form", FORMS)
def test_a_dead_position_has_a_gate_of_zero(form):
    s = np.array([[[np.nan, 1.0], [1.0, -0.0], [1e9, 2.0]]])
    result = gate(s, form, np.array([[True, False, True]]))
    assert result[0, [0, 2]].tolist() == [[0, 0], [0, 0]]
    assert_close("alive", gate(s[:, 1:2], form), result[:, 1:2], "exact")
    assert result.dtype == s.dtype


@pytest.mark.parametrize("shape", [(1, 0, 2, 3), (1, 1, 1, 1), (2, 3, 4, 5)], ids=str)
def test_each_branch_gates_the_shared_value(shape):
    rng = np.random.default_rng(3)
    B, T, M, D = shape
    alpha, value = rng.uniform(size=(B, T, M)), rng.standard_normal((B, T, D))
    result = apply_gate(alpha, value)
    assert result.shape == shape
    for b, t, m, d in np.ndindex(shape):
        assert result[b, t, m, d] == alpha[b, t, m] * value[b, t, d]
