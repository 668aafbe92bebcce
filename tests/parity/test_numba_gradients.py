"""Numba's gradients of norm and softmax against the definition in float64."""

import numpy as np
import pytest

from engram_ref import ops
from engram_ref.errors import InputError
from engram_ref.ops.vjp.basic import summed
from tests.compare import assert_close

pytest.importorskip("numba", reason="numba is not installed")
from engram_ref.backends import numba as fast

NORMS = {"tokens": ((3, 70, 5), (5,)), "branches": ((2, 50, 3, 17), (3, 17)), "one channel": ((4, 1), (1,)),
         "no tokens": ((2, 0, 5), (5,)), "one gain each": ((2, 3, 5), (2, 3, 5))}
ROWS = {"scores": (2, 3, 7, 9), "one": (1, 1), "no rows": (0, 4), "wide": (3, 1000)}
EPS = (1e-6, 1e-20, None)
KINDS = {np.float64: "f64", np.float32: "f32"}


def made(shapes, dtype):
    rng = np.random.default_rng(6)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


@pytest.mark.parametrize("eps", EPS, ids=str)
@pytest.mark.parametrize("dtype", KINDS, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("name", NORMS)
def test_norm(name, dtype, eps):
    """With D channels, r has an error of D/2 roundings and a few; r^3 mean(u x), for which r is used three times, of
    5/2 D and a few. The gradient of the gain adds one product per token.
    """
    shape, of_gain = NORMS[name]
    arrays = made((shape, shape, of_gain), dtype)
    upstream, x, gain = (a.astype(np.float64) for a in arrays)
    exact_eps = float(np.finfo(dtype).eps) if eps is None else eps
    expected, found = ops.rms_norm_vjp(upstream, x, gain, exact_eps), fast.rms_norm_vjp(*arrays, eps)
    D, r, u = shape[-1], ops.inverse_rms(x, exact_eps), upstream * gain
    scales = (r * np.abs(u) + np.abs(x) * r**3 * np.abs(u * x).mean(-1, keepdims=True),
              summed(np.abs(upstream * x * r), of_gain))
    for e, f, terms, scale in zip(expected, found, (2.5 * D, x.size // gain.size + D / 2), scales, strict=False):
        assert_close(name, e, f, KINDS[dtype], terms, scale)


@pytest.mark.parametrize("dtype", KINDS, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("name", ROWS)
def test_softmax(name, dtype):
    """A weight p = e^(s - m) / sum has an error of S roundings for the sum, of |s - m| for the difference, which e^x
    turns into a relative error, and of a few. p (upstream - <upstream, p>) uses p twice, and adds S products.
    """
    arrays = made((ROWS[name], ROWS[name]), dtype)
    upstream, scores = (a.astype(np.float64) for a in arrays)
    masks = [None]
    if scores.ndim == 4:
        masks.append(np.tril(np.ones((2, 7, 9), dtype=bool)))        # [B, T, S]: the same for every head
    terms = 3 * scores.shape[-1] + 4 * np.abs(scores).max(initial=0)                    # |s - m| <= 2 max|s|
    for mask in masks:
        p, size = ops.softmax(scores, mask), np.abs(upstream)
        scale = p * (size + (size * p).sum(-1, keepdims=True))
        assert_close(name, ops.softmax_vjp(upstream, scores, mask)[0], fast.softmax_vjp(*arrays, mask)[0],
                     KINDS[dtype], terms, scale)


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
