"""Numba's Sinkhorn normalisation and its gradient against the definition in float64."""

import numpy as np
import pytest

from engram_ref import ops

pytest.importorskip("numba", reason="numba is not installed")
from engram_ref.backends import numba as fast

SHAPES = [(2, 3, 4, 4), (1, 1), (5, 2, 2), (7, 8, 8), (0, 4, 4), (3, 0, 4, 4)]
ITERATIONS = 20
STEPS = 2 * ITERATIONS


def inputs(shape, size, dtype):
    rng = np.random.default_rng(5)
    return rng.standard_normal(shape).astype(dtype), (size * rng.standard_normal(shape)).astype(dtype)


def bound(upstream, logits):
    """Each half-step adds a few roundings, of numbers up to the largest logit, and hands on those of the earlier ones.

    The logits enter with a relative error of u, so that exp multiplies it by their size.
    """
    u = np.finfo(logits.dtype).eps / 2
    return 8 * STEPS * u * (1 + np.abs(logits).max(initial=0)) * np.abs(upstream).max(initial=1)


@pytest.mark.parametrize("size", [1, 30, 400], ids=lambda size: f"logits of {size}")
@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sinkhorn_and_its_gradient(shape, dtype, size):
    upstream, logits = inputs(shape, size, dtype)
    exact = upstream.astype(np.float64), logits.astype(np.float64)
    found = fast.sinkhorn(logits, ITERATIONS), fast.sinkhorn_vjp(upstream, logits, ITERATIONS)[0]
    expected = ops.sinkhorn(exact[1], ITERATIONS), ops.sinkhorn_vjp(*exact, ITERATIONS)[0]
    for e, f, given in zip(expected, found, (np.ones(1), upstream), strict=True):
        assert f.dtype == dtype and f.shape == shape
        assert np.abs(e - f).max(initial=0) <= bound(given, logits)


def test_a_row_of_subnormal_numbers_keeps_its_digits():
    """After the first column sums, the second row is e^-99 and e^-101, of which float32 has only a few bits."""
    logits = np.float32([[0, 0], [-99, -101]])
    expected = ops.sinkhorn(logits.astype(np.float64), ITERATIONS)
    assert np.abs(fast.sinkhorn(logits, ITERATIONS) - expected).max() <= bound(np.ones(1), logits)


def test_one_iteration_stops_after_the_rows():
    _, logits = inputs((3, 4, 4), 1, np.float64)
    assert np.abs(fast.sinkhorn(logits, 1).sum(axis=-1) - 1).max() < 1e-15
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
