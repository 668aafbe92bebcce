"""Caches: each row has its own length, and slots are indexed by position."""

import numpy as np
import pytest

from engram_ref.ops import append, last, place, positions_after


@pytest.mark.parametrize("inner", [(), (3,), (2, 5)], ids=lambda s: f"entries {list(s)}")
@pytest.mark.parametrize("T", [0, 1, 4])
@pytest.mark.parametrize("lengths", [[0], [3], [2, 0, 5], [5, 5]], ids=str)
def test_place_appends_to_each_row(lengths, T, inner):
    rng, B = np.random.default_rng(0), len(lengths)
    cache, new = rng.standard_normal((B, 6, *inner)), rng.standard_normal((B, T, *inner))
    before = cache.copy()
    result = place(cache, new, np.array(lengths))
    assert result.shape == (B, max(lengths) + T, *inner)
    for b, length in enumerate(lengths):
        assert result[b, :length].tolist() == cache[b, :length].tolist()
        assert result[b, length : length + T].tolist() == new[b].tolist()
    assert (cache == before).all()


def test_place_into_an_empty_cache():
    new = np.arange(6).reshape(2, 3)
    result = place(new[:, :0], new, np.zeros(2, dtype=np.int64))
    assert result.tolist() == new.tolist()
    assert result is not new


def test_place_overwrites_rolled_back_slots():
    cache = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
    assert place(cache, np.array([[9], [9]]), np.array([1, 3]))[0, :2].tolist() == [1, 9]
    assert place(cache, np.array([[9], [9]]), np.array([1, 3]))[1].tolist() == [5, 6, 7, 9]


@pytest.mark.parametrize("T", [0, 1, 4])
@pytest.mark.parametrize("spare", [0, 1, 3, 50])
@pytest.mark.parametrize("lengths", [[0], [3], [2, 0, 5], [5, 5]], ids=str)
def test_append_equals_place_with_spare_slots(lengths, spare, T):
    rng, B, used = np.random.default_rng(0), len(lengths), max(lengths)
    cache, new, lengths = rng.standard_normal((B, used + spare, 2)), rng.standard_normal((B, T, 2)), np.array(lengths)
    expected, before = place(cache, new, lengths), cache.copy()
    result = append(cache, new, lengths)
    assert result[:, : used + T].tolist() == expected.tolist()
    assert (result is cache) == (spare >= T)
    if spare < T:
        assert result.shape == (B, max(used + T, 2 * (used + spare)), 2)
        assert (cache == before).all()


def test_append_reallocates_only_to_double():
    cache, sizes = np.zeros((1, 0), dtype=np.int64), []
    for t in range(1000):
        grown = append(cache, np.array([[t]]), np.array([t]))
        if grown is not cache:
            sizes.append(grown.shape[1])
        cache = grown
    assert cache[0, :1000].tolist() == list(range(1000))
    assert sizes == [2**n for n in range(11)]


def test_spare_slots_are_zero():
    """Attention multiplies masked slots by 0, so they must be finite."""
    assert not append(np.ones((2, 3)), np.ones((2, 1)), np.array([3, 0]))[:, 4:].any()


@pytest.mark.parametrize("count", [0, 1, 3, 9])
@pytest.mark.parametrize("lengths", [[0], [3], [2, 0, 5], [5, 5]], ids=str)
def test_last_returns_the_end_of_each_row(lengths, count):
    cache = np.random.default_rng(0).integers(0, 99, (len(lengths), 5))
    result = last(cache, np.array(lengths), count, before=-1)
    for b, length in enumerate(lengths):
        expected = ([-1] * count + cache[b, :length].tolist())[len(cache[b, :length]) :] if count else []
        assert result[b].tolist() == (expected[-count:] if count else [])


def test_last_handles_vectors_and_empty_caches():
    cache = np.arange(12.0).reshape(1, 3, 2, 2)
    assert last(cache, np.array([2]), 3, 0)[0].tolist() == [[[0, 0], [0, 0]], *cache[0, :2].tolist()]
    assert last(cache[:, :0], np.array([0]), 2, 0).tolist() == np.zeros((1, 2, 2, 2)).tolist()
    assert last(np.zeros((2, 0), dtype=np.int64), np.zeros(2, dtype=np.int64), 2, -1).tolist() == [[-1, -1]] * 2


def test_positions_follow_each_rows_length():
    assert positions_after(np.array([0, 4]), 3).tolist() == [[0, 1, 2], [4, 5, 6]]
    assert positions_after(np.array([2]), 0).shape == (1, 0)
