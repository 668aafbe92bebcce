"""Numba's Sinkhorn normalisation and its gradient against the definition in float64."""

import numpy as np
import pytest

from engram_ref import ops

pytest.importorskip("numba", reason="numba is not installed")
from engram_ref.backends import numba as fast

# without the compiler, NumPy's scalars warn where a sum of subnormal numbers is 0 and logarithms are used instead
pytestmark = pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
SHAPES = [(2, 3, 4, 4), (1, 1), (5, 2, 2), (7, 8, 8), (0, 4, 4), (3, 0, 4, 4)]
ITERATIONS = 20
PROBE, SAMPLES = 2.0**-30, 4


def inputs(shape, size, dtype):
    rng = np.random.default_rng(5)
    return rng.standard_normal(shape).astype(dtype), (size * rng.standard_normal(shape)).astype(dtype)


def sinkhorn(upstream, logits):
    return ops.sinkhorn(logits, ITERATIONS)


def gradient(upstream, logits):
    return ops.sinkhorn_vjp(upstream, logits, ITERATIONS)[0]


def bound(function, upstream, logits, dtype):
    """Return the largest difference of two computations in `dtype` and in float64.

    A half-step adds at most M + 3 roundings to each logarithm: of the difference from the largest element, exp, the sum
    and the division. In logarithms, each is of a number of up to twice the largest logit. What a change of all
    logarithms does is measured: logits and upstream are changed by 2^-30. A gradient takes as many half-steps back, and
    each of the two computations errs.
    """
    rng, exact = np.random.default_rng(1), function(upstream, logits)
    change = lambda x: PROBE * rng.choice((-1.0, 1.0), x.shape)
    near = [function(upstream * (1 + change(upstream)), logits + change(logits)) for _ in range(SAMPLES)]
    condition = max(np.abs(x - exact).max(initial=0) for x in near) / PROBE
    half_steps = 2 * ITERATIONS * (2 if function is gradient else 1)
    roundings = half_steps * (logits.shape[-1] + 3) * (1 + 2 * np.abs(logits).max(initial=0))
    return 2 * roundings * np.finfo(dtype).eps / 2 * (condition + np.abs(exact).max(initial=0))


@pytest.mark.parametrize("size", [1, 30, 400], ids=lambda size: f"logits of {size}")
@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sinkhorn_and_its_gradient(shape, dtype, size):
    upstream, logits = inputs(shape, size, dtype)
    exact = upstream.astype(np.float64), logits.astype(np.float64)
    found = fast.sinkhorn(logits, ITERATIONS), fast.sinkhorn_vjp(upstream, logits, ITERATIONS)[0]
    for function, f in zip((sinkhorn, gradient), found, strict=True):
        assert f.dtype == dtype and f.shape == shape
        assert np.abs(function(*exact) - f).max(initial=0) <= bound(function, *exact, dtype)


def test_a_row_of_subnormal_numbers_keeps_its_digits():
    """After the first column sums, the second row is e^-101 and e^-102.75, of which float32 has four and two bits."""
    logits = np.array([[0.0, 0.0], [-101.0, -102.75]])
    difference = np.abs(fast.sinkhorn(logits.astype(np.float32), ITERATIONS) - sinkhorn(None, logits)).max()
    assert difference <= bound(sinkhorn, np.ones(1), logits, np.float32)


def test_one_iteration_stops_after_the_rows():
    """A row of four quotients adds up to 1 with an error of two sums of three additions and a division."""
    _, logits = inputs((3, 4, 4), 1, np.float64)
    assert np.abs(fast.sinkhorn(logits, 1).sum(axis=-1) - 1).max() <= 7 * 2.0**-53
    assert np.abs(fast.sinkhorn(logits, 1).sum(axis=-2) - 1).max() > 1e-3


@pytest.mark.parametrize("size", [1, 400])
def test_threads_give_the_same_bits(monkeypatch, size):
    monkeypatch.setattr("engram_ref.backends.numba._threads.MIN_PARALLEL_BYTES", 0)
    upstream, logits = inputs((101, 4, 4), size, np.float32)
    results = []
    for count in (1, 2, 3):
        with fast.threads(count):
            results.append((fast.sinkhorn(logits, 20).tobytes(), fast.sinkhorn_vjp(upstream, logits, 20)[0].tobytes()))
    assert results[0] == results[1] == results[2]


def test_nan_stays_in_its_matrix_and_inputs_are_unchanged():
    upstream, logits = inputs((3, 4, 4), 1, np.float64)
    logits[1, 2, 2] = np.nan
    before = upstream.copy(), logits.copy()
    for found in (fast.sinkhorn(logits, 20), fast.sinkhorn_vjp(upstream, logits, 20)[0]):
        assert np.isnan(found[1]).all() and np.isfinite(found[[0, 2]]).all()
    np.testing.assert_equal((upstream, logits), before)


def test_the_form_with_eps_is_the_definition():
    upstream, logits = inputs((3, 4, 4), 1, np.float64)
    np.testing.assert_array_equal(fast.sinkhorn(logits, 20, 1e-6), ops.sinkhorn(logits, 20, 1e-6))
    np.testing.assert_array_equal(fast.sinkhorn_vjp(upstream, logits, 20, 1e-6)[0],
                                  ops.sinkhorn_vjp(upstream, logits, 20, 1e-6)[0])
