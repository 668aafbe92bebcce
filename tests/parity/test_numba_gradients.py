"""Numba's gradients of norm and softmax against the definition in float64."""

import numpy as np
import pytest

from engram_ref import ops
from engram_ref.errors import InputError

pytest.importorskip("numba", reason="numba is not installed")
from engram_ref.backends import numba as fast

NORMS = {"tokens": ((3, 70, 5), (5,)), "branches": ((2, 50, 3, 17), (3, 17)), "one channel": ((4, 1), (1,)),
         "no tokens": ((2, 0, 5), (5,)), "one gain each": ((2, 3, 5), (2, 3, 5))}
ROWS = {"scores": (2, 3, 7, 9), "one": (1, 1), "no rows": (0, 4), "wide": (3, 1000)}
EPS = (1e-6, 1e-20, None)


def made(shapes, dtype):
    rng = np.random.default_rng(6)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def bound(terms, dtype, *sizes):
    """A few roundings, and those of a sum of `terms` products, each at most the product of the largest elements."""
    return 4 * (terms + 8) * np.finfo(dtype).eps / 2 * np.prod([np.abs(x).max(initial=1) for x in sizes])


@pytest.mark.parametrize("eps", EPS, ids=str)
@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("name", NORMS)
def test_norm(name, dtype, eps):
    shape, of_gain = NORMS[name]
    upstream, x, gain = made((shape, shape, of_gain), dtype)
    exact_eps = float(np.finfo(dtype).eps) if eps is None else eps
    expected = ops.rms_norm_vjp(*(a.astype(np.float64) for a in (upstream, x, gain)), exact_eps)
    found = fast.rms_norm_vjp(upstream, x, gain, eps)
    r = 1 / np.sqrt((x.astype(np.float64) ** 2).mean(-1) + exact_eps)
    for e, f, terms in ((expected[0], found[0], shape[-1]), (expected[1], found[1], x.size // max(gain.size, 1))):
        assert f.dtype == dtype and f.shape == e.shape
        assert np.abs(e - f).max(initial=0) <= bound(terms + shape[-1], dtype, upstream, x, gain, r, r * np.abs(x).max(
            initial=1))


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("name", ROWS)
def test_softmax(name, dtype):
    upstream, scores = made((ROWS[name], ROWS[name]), dtype)
    masks = [None]
    if scores.ndim == 4:
        masks.append(np.tril(np.ones((2, 7, 9), dtype=bool)))        # [B, T, S]: the same for every head
    for mask in masks:
        expected, _ = ops.softmax_vjp(upstream.astype(np.float64), scores.astype(np.float64), mask)
        found, _ = fast.softmax_vjp(upstream, scores, mask)
        assert found.dtype == dtype
        assert np.abs(expected - found).max(initial=0) <= bound(ROWS[name][-1], dtype, upstream)


def test_threads_give_the_same_bits(monkeypatch):
    monkeypatch.setattr("engram_ref.backends.numba._threads.MIN_PARALLEL_BYTES", 0)
    upstream, x, gain = made(((3, 333, 2, 5), (3, 333, 2, 5), (2, 5)), np.float32)
    results = set()
    for count in (1, 2, 3):
        with fast.threads(count):
            of_x, of_gain, _ = fast.rms_norm_vjp(upstream, x, gain, 1e-6)
            results.add((of_x.tobytes(), of_gain.tobytes(), fast.softmax_vjp(upstream, x)[0].tobytes()))
    assert len(results) == 1


def test_nan_stays_in_its_token_and_inputs_are_unchanged():
    upstream, x, gain = made(((3, 5), (3, 5), (5,)), np.float64)
    x[1, 2] = np.nan
    before = [a.copy() for a in (upstream, x, gain)]
    for found in (fast.rms_norm_vjp(upstream, x, gain, 1e-6)[0], fast.softmax_vjp(upstream, x)[0]):
        assert np.isnan(found[1]).all() and np.isfinite(found[[0, 2]]).all()
    np.testing.assert_equal([upstream, x, gain], before)


def test_unusual_gains_use_the_definition():
    upstream, x, gain = made(((2, 3, 4), (2, 3, 4), (1, 4)), np.float64)
    for f, e in zip(fast.rms_norm_vjp(upstream, x, gain, 1e-6)[:2], ops.rms_norm_vjp(upstream, x, gain, 1e-6)[:2],
                    strict=True):
        np.testing.assert_array_equal(f, e)


@pytest.mark.parametrize("vjp", ["rms_norm_vjp", "softmax_vjp"])
def test_an_upstream_of_another_shape_is_refused(vjp):
    x = np.ones((2, 3))
    with pytest.raises(InputError, match="upstream"):
        getattr(fast, vjp)(np.ones((1, 3)), x, *((np.ones(3), 1e-6) if vjp == "rms_norm_vjp" else ()))
