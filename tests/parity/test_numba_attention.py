"""Latent attention of a few new tokens in one pass over the latents, compared with the definition in float64."""

import numpy as np
import pytest

from engram_ref import ops
from tests.compare import assert_close

pytest.importorskip("numba", reason="numba is not installed")
from engram_ref.backends import numba as fast
from engram_ref.backends.numba import attention

SHAPES = {       # B, T, A, S, r, dn, dr, dv
    "one of each": (1, 1, 1, 1, 32, 1, 1, 1),
    "one position short of a tile": (1, 1, 3, 7, 32, 5, 2, 3),
    "one position more than a tile": (2, 2, 3, 9, 32, 9, 3, 2),
    "one position short of a chunk": (1, 1, 2, 255, 32, 3, 2, 1),
    "one position more than a chunk": (1, 1, 2, 257, 32, 3, 2, 1),
    "three chunks, more rows than lanes": (2, 2, 9, 520, 64, 8, 4, 5),
}
KINDS = {np.float32: "f32", np.float64: "f64"}


def arguments(shape, rng, dtype=np.float64):
    """The arguments of attend_absorbed, except the scale."""
    B, T, A, S, r, dn, dr, dv = shape
    sizes = (B, T, A, dn), (B, T, A, dr), (B, S, r), (B, S, dr), (A, dn, r), (A, dv, r)
    return [*(rng.standard_normal(size).astype(dtype) for size in sizes), causal(B, T, S)]


def causal(B, T, S):
    return ops.visible(np.broadcast_to(np.arange(S - T, S), (B, T)), S)


def error_scale(q_nope, q_pe, c_kv, k_pe, w_uk, w_uv, allowed, scale):
    """Error scale of an output, from sums of absolute values; a weight has twice the error of its score."""
    q, pe, c, k, uk, uv = (np.abs(x).astype(np.float64) for x in (q_nope, q_pe, c_kv, k_pe, w_uk, w_uv))
    latent = np.einsum("btan,anr->btar", q, uk)
    score = scale * (np.einsum("btar,bsr->bats", latent, c) + np.einsum("btap,bsp->bats", pe, k))
    return (1 + 2 * score.max()) * c.max() * uv.sum(axis=2).max()


def compared(name, args, kind, scale=0.3):
    wide = [x.astype(np.float64) if x.dtype.kind == "f" else x for x in args]
    expected, found = ops.attend_absorbed(*wide, scale), fast.attend_absorbed(*args, scale)
    assert found.dtype == args[0].dtype
    terms = args[2].shape[1] + 2 * args[2].shape[2] + args[0].shape[3] + args[1].shape[3]
    assert_close(name, expected, found, kind, terms, error_scale(*args, scale))
    return found


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_few_tokens_equal_the_definition(shape, dtype, rng):
    args = arguments(SHAPES[shape], rng, dtype)
    assert attention.is_small(*args[:-1])
    compared("heads", args, KINDS[dtype])


def test_random_masks(rng):
    """One mask hides a whole chunk, one shows only the last position, and the rest is random."""
    args = arguments((3, 1, 2, 520, 32, 3, 2, 2), rng)
    args[-1] = rng.random((3, 1, 520)) < 0.5
    args[-1][1, :, :256], args[-1][2] = False, np.arange(520) == 519
    compared("heads", args, "f64")


def test_large_scores_do_not_overflow(rng):
    args = arguments(SHAPES["three chunks, more rows than lanes"], rng, np.float32)
    args[0] *= 1000
    with np.errstate(over="raise", invalid="raise"):
        found = fast.attend_absorbed(*args, 1.0)
    assert np.isfinite(found).all()


def test_a_fully_masked_token_is_nan_and_does_not_affect_others(rng):
    args = arguments((1, 2, 3, 300, 32, 3, 2, 2), rng)
    args[-1][0, 1] = False
    with np.errstate(invalid="ignore"):
        expected, found = ops.attend_absorbed(*args, 0.3), fast.attend_absorbed(*args, 0.3)
    assert np.isnan(expected[:, 1]).all() and np.array_equal(np.isnan(expected), np.isnan(found))


@pytest.mark.parametrize("where", [(2, (1, 299, 5)), (3, (1, 0, 1)), (0, (1, 0, 2, 0))], ids=["latent", "key", "query"])
def test_nan_and_infinity_propagate(where, rng):
    which, place = where
    for value in (np.nan, np.inf):
        args = arguments((2, 1, 3, 300, 32, 3, 2, 2), rng)
        args[which][place] = value
        with np.errstate(invalid="ignore"):
            expected, found = ops.attend_absorbed(*args, 0.3), fast.attend_absorbed(*args, 0.3)
        assert np.isnan(expected).any() and np.array_equal(np.isnan(expected), np.isnan(found))


def test_slices_of_weights_and_caches_give_identical_results(rng):
    """The weights are halves of wkv_b, the caches the first positions of longer ones."""
    B, A, S = 2, 3, 300
    args = arguments((B, 1, A, S, 32, 5, 2, 4), rng)
    expected = fast.attend_absorbed(*args, 0.3)
    both = np.concatenate(args[4:6], axis=1)
    args[4], args[5] = both[:, :5], both[:, 5:]
    args[2], args[3] = (np.concatenate([x, np.full((B, 9, x.shape[2]), np.nan)], axis=1)[:, :S] for x in args[2:4])
    assert not any(x.flags.c_contiguous for x in args[2:6])
    assert_close("heads", expected, fast.attend_absorbed(*args, 0.3), "exact")
    args[2:6] = [np.asfortranarray(x) for x in args[2:6]]
    assert_close("heads", expected, fast.attend_absorbed(*args, 0.3), "exact")


def test_fields_of_records_give_identical_results(rng):
    """The rows of such an array are separated by bytes that are not a multiple of the element size."""
    args = arguments((2, 1, 3, 9, 32, 5, 2, 4), rng)
    expected = fast.attend_absorbed(*args, 0.3)
    for i in range(2, 6):
        records = np.zeros(len(args[i]), [("flag", np.uint8), ("field", args[i].dtype, args[i].shape[1:])])
        records["field"] = args[i]
        args[i] = records["field"]
    assert_close("heads", expected, fast.attend_absorbed(*args, 0.3), "exact")


OTHERS = {"no tokens": (1, 0, 2, 3, 32, 3, 2, 2), "three tokens": (1, 3, 2, 4, 32, 3, 2, 2),
          "no positions": (1, 1, 2, 0, 32, 3, 2, 2), "odd width": (1, 1, 2, 4, 30, 3, 2, 2)}


@pytest.mark.parametrize("shape", OTHERS)
def test_unsupported_shapes_use_separate_ops(shape, rng):
    args = arguments(OTHERS[shape], rng)
    assert not attention.is_small(*args[:-1])
    assert_close("heads", fast.NAMESPACE.steps.attend_absorbed(*args, 0.3), fast.attend_absorbed(*args, 0.3), "exact")


def test_an_empty_batch(rng):
    assert fast.attend_absorbed(*arguments((0, 1, 2, 4, 32, 3, 2, 2), rng), 0.3).shape == (0, 1, 2, 2)


def test_unsupported_dtypes_use_separate_ops(rng):
    args = arguments(SHAPES["one of each"], rng, np.float32)
    assert not attention.is_small(*args[:2], args[2].astype(np.float64), *args[3:-1])
    assert not attention.is_small(*(x.astype(np.float16) for x in args[:-1]))


def test_a_recorded_call_uses_separate_ops(rng):
    args, stages = arguments(SHAPES["one of each"], rng), {}
    fast.attend_absorbed(*args, 0.3, record=stages.__setitem__)
    assert list(stages) == ["attention_weights"]


def test_a_phase_waits_for_chunks_taken_by_another_thread(rng, monkeypatch):
    original, calls = attention._attend, []
    monkeypatch.setattr(attention, "_attend", lambda *arguments: not calls.append(arguments))
    fast.attend_absorbed(*arguments(SHAPES["one position more than a chunk"], rng), 0.3)
    [[*others, counters]] = calls
    counters[0] = 1                                     # another thread has taken the first head
    assert not original(*others, counters)
    assert counters.tolist()[1:] == [0, 0, 1, 0, 0]     # the second head is finished, and no chunk was taken
    counters[3] += 1
    assert original(*others, counters)
    assert counters.tolist()[3:] == [2, 2, 2]
