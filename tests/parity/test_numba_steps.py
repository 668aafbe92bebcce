"""Numba's fast gradients of compositions and its optimiser step against the definition in float64.

The bound of a result is the number of its roundings, times the largest number that the same formula gives for absolute
values. An error of the scores is multiplied by their exponential, so they count in addition.
"""

import numpy as np
import pytest

from engram_ref import ops
from engram_ref.backends.tape import NAMESPACE, Value, gradients, tape
from engram_ref.errors import InputError
from engram_ref.ops.namespace import NUMPY

pytest.importorskip("numba", reason="numba is not installed")
from engram_ref.backends import load, replace
from engram_ref.backends import numba as fast

STEPS = fast.NAMESPACE.steps
DTYPES = pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=lambda dtype: dtype.__name__)
NAMES = "q_nope", "q_pe", "c_kv", "k_pe", "w_uk", "w_uv"
ATTENTION = {"texts": (3, 7, 7, 4), "one token": (1, 1, 1, 1), "after others": (2, 3, 8, 2), "no texts": (0, 4, 4, 2),
             "no tokens": (2, 0, 0, 2)}
"""Name -> B, T, S, heads."""


def largest(x):
    return np.abs(x).max(initial=0)


def check(found, expected, roundings, size):
    """Assert that the difference is at most this number of roundings, relative to `size`."""
    assert found.shape == expected.shape
    assert largest(found - expected) <= roundings * np.finfo(found.dtype).eps / 2 * size


def attention_inputs(name, dtype):
    (B, T, S, A), (dn, dr, r, dv), rng = ATTENTION[name], (5, 2, 6, 3), np.random.default_rng(3)
    shapes = (B, T, A, dn), (B, T, A, dr), (B, S, r), (B, S, dr), (A, dn, r), (A, dv, r)
    positions = np.tile(np.arange(S - T, S), (B, 1))
    arrays = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    return rng.standard_normal((B, T, A, dv)).astype(dtype), arrays, ops.visible(positions, S)


def attention_bound(upstream, arrays, scale):
    """Return the number of roundings, and the sizes of the result and of the six gradients."""
    q, p, c, k, uk, uv = map(np.abs, arrays)
    B, T, A, _ = q.shape
    roundings = 4 * (c.shape[2] + q.shape[3] + p.shape[3] + T + A * (q.shape[3] + uv.shape[1]) + B * T + 8)
    key, value = np.einsum("bsr,anr->bsan", c, uk), np.einsum("bsr,avr->bsav", c, uv)
    scores = scale * (np.einsum("btan,bsan->bats", q, key) + np.einsum("btap,bsp->bats", p, k))
    of_scores = 2 * scale * np.einsum("btav,bsav->bats", np.abs(upstream), value)           # p is at most 1
    of_key, of_value = np.einsum("bats,btan->bsan", of_scores, q), np.einsum("bats,btav->bsav", 1 + 0 * scores,
                                                                             np.abs(upstream))
    sizes = (np.einsum("bsav->bav", value), np.einsum("bats,bsan->btan", of_scores, key),
             np.einsum("bats,bsp->btap", of_scores, k),
             np.einsum("bsan,anr->bsr", of_key, uk) + np.einsum("bsav,avr->bsr", of_value, uv),
             np.einsum("bats,btap->bsp", of_scores, p), np.einsum("bsan,bsr->anr", of_key, c),
             np.einsum("bsav,bsr->avr", of_value, c))
    return roundings * (1 + largest(scores)), [largest(x) for x in sizes]


@DTYPES
@pytest.mark.parametrize("name", ATTENTION)
def test_attention_and_its_gradient(name, dtype):
    upstream, arrays, allowed = attention_inputs(name, dtype)
    exact = [x.astype(np.float64) for x in (upstream, *arrays)]
    values = dict(zip(NAMES, map(Value, exact[1:]), strict=True))
    expected = NAMESPACE.attend_expanded(*values.values(), allowed, 0.3)
    by_name = gradients(expected, exact[0], values)
    roundings, (size, *sizes) = attention_bound(exact[0], exact[1:], 0.3)
    kept = []
    found = STEPS.attend_expanded(*arrays, allowed, 0.3, lambda _, x: kept.append(x))
    check(found, expected.array, roundings, size)
    assert kept[0].shape == allowed.shape[:1] + arrays[0].shape[2:3] + allowed.shape[1:]
    assert not kept[0][np.broadcast_to(~allowed[:, None], kept[0].shape)].any()
    for of, g, size in zip(NAMES, STEPS.attend_expanded_vjp(upstream, *arrays, allowed, 0.3), sizes, strict=False):
        assert g.dtype == dtype, of
        check(g, by_name[of], roundings, size)


@pytest.mark.filterwarnings("ignore:invalid value")           # of the definition
def test_a_token_without_visible_positions_is_nan_as_in_the_definition():
    _, arrays, allowed = attention_inputs("texts", np.float64)
    allowed[1, 2] = False
    found, expected = (namespace.attend_expanded(*arrays, allowed, 0.3) for namespace in (STEPS, NUMPY))
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    assert np.isnan(found[1, 2]).all() and np.isfinite(found[0]).all()


def test_a_tape_records_attention_as_one_op_unless_a_step_is_replaced():
    _, arrays, allowed = attention_inputs("texts", np.float64)
    names = []
    for namespace in (fast.NAMESPACE, replace(load("numba"), softmax=ops.softmax), NUMPY):
        output = tape(namespace).attend_expanded(*map(Value, arrays), allowed, 0.3)
        names.append(output.node.name)
    assert names == ["attend_expanded", "einsum", "einsum"]


def expert_inputs(dtype, N=70, K=2, D=6, E=5, F=4):
    """No token chooses the last expert."""
    rng = np.random.default_rng(4)
    shapes = {"experts.w1": (E, F, D), "experts.w2": (E, D, F), "experts.w3": (E, F, D)}
    parameters = {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}
    chosen = np.argsort(rng.random((N, E - 1)), axis=1)[:, :K]
    x, upstream, weights = (rng.standard_normal(shape).astype(dtype) for shape in ((N, D), (N, D), (N, K)))
    return upstream, parameters, x, chosen, weights


@DTYPES
def test_experts(dtype):
    upstream, parameters, x, chosen, weights = expert_inputs(dtype)
    wide = lambda a: a.astype(np.float64)
    exact = {name: wide(a) for name, a in parameters.items()}
    expected = NUMPY.routed_grouped_vjp(wide(upstream), exact, wide(x), chosen, wide(weights))
    found = STEPS.routed_grouped_vjp(upstream, parameters, x, chosen, weights)
    (N, D), F = x.shape, parameters["experts.w1"].shape[1]
    w1, w2, w3 = (D * largest(w) for w in exact.values())
    inner = largest(x) * max(w1, w3)                                 # of gate and up; silu and its slope are below 1.1
    hidden = largest(upstream) * w2
    of_inner = 1.1 * largest(weights) * hidden * inner * (1 + inner)
    sizes = {"experts.w1": N * of_inner * largest(x), "experts.w2": N * largest(upstream) * largest(weights) * inner**2,
             "experts.w3": N * of_inner * largest(x)}
    roundings = 8 * (N + D + F + 8)
    for name, size in sizes.items():
        assert found[0][name].dtype == dtype
        check(found[0][name], expected[0][name], roundings, size)
    assert not found[0]["experts.w1"][-1].any() and found[2] is None
    check(found[1], expected[1], roundings, 2 * chosen.shape[1] * F * of_inner * max(w1, w3))
    check(found[3], expected[3], roundings, F * hidden * inner**2)


def test_experts_of_no_tokens():
    upstream, parameters, x, chosen, weights = expert_inputs(np.float32)
    found = STEPS.routed_grouped_vjp(upstream[:0], parameters, x[:0], chosen[:0], weights[:0])
    assert found[1].shape == (0, 6) and found[3].shape == (0, 2) and not found[0]["experts.w2"].any()
    with pytest.raises(InputError, match="upstream"):
        STEPS.routed_grouped_vjp(upstream[:1], parameters, x, chosen, weights)


@DTYPES
@pytest.mark.parametrize("shape", [(2, 3, 9), (300, 1000), (0, 4), (5, 1)], ids=str)
def test_cross_entropy(shape, dtype):
    rng = np.random.default_rng(5)
    upstream, logits = (rng.standard_normal(s).astype(dtype) for s in (shape[:-1], shape))
    targets = rng.integers(0, shape[-1], shape[:-1])
    expected = NUMPY.cross_entropy_vjp(upstream.astype(np.float64), logits.astype(np.float64), targets)[0]
    found, none = STEPS.cross_entropy_vjp(upstream, logits, targets)
    assert found.dtype == dtype and none is None
    check(found, expected, 4 * (shape[-1] + 8) + 2 * largest(logits), largest(upstream))


@DTYPES
@pytest.mark.parametrize("shape", [(40_000,), (3, 5, 7), (0, 4), ()], ids=str)
def test_adam_is_bit_equal_to_the_definition(shape, dtype):
    rng = np.random.default_rng(6)
    arrays = [np.asarray(rng.standard_normal(shape), dtype) for _ in range(3)]
    arrays.append(np.asarray(rng.random(shape), dtype))
    before = [x.copy() for x in arrays]
    options = 3, 1e-3, 0.9, 0.95, 1e-8, 0.1
    for found, expected in zip(fast.adam_update(*arrays, *options), NUMPY.adam_update(*arrays, *options), strict=True):
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_equal(arrays, before)


def test_threads_give_the_same_bits(monkeypatch):
    monkeypatch.setattr("engram_ref.backends.numba._threads.MIN_PARALLEL_BYTES", 0)
    inputs, results = expert_inputs(np.float32, N=333), set()
    for count in (1, 2, 3):
        with fast.threads(count):
            of_parameters, of_x, _, of_weights = STEPS.routed_grouped_vjp(*inputs)
            results.add((of_x.tobytes(), of_weights.tobytes(), *(x.tobytes() for x in of_parameters.values())))
    assert len(results) == 1
