"""Caches: every row has its own length, and a slot is a position."""

import numpy as np
import pytest

from engram_ref.ops import last, place, positions_after


@pytest.mark.parametrize("inner", [(), (3,), (2, 5)], ids=lambda s: f"entries {list(s)}")
@pytest.mark.parametrize("T", [0, 1, 4])
@pytest.mark.parametrize("lengths", [[0], [3], [2, 0, 5], [5, 5]], ids=str)
def test_place_appends_to_each_row(lengths, T, inner):
    rng, B = np.random.default_rng(0), len(lengths)
    cache, new = rng.standard_normal((B, 6, *inner)), rng.standard_normal((B, T, *inner))
    before = cache.copy()
    found = place(cache, new, np.array(lengths))
    assert found.shape == (B, max(lengths) + T, *inner)
    for b, length in enumerate(lengths):
        assert found[b, :length].tolist() == cache[b, :length].tolist()
        assert found[b, length : length + T].tolist() == new[b].tolist()
    assert (cache == before).all()


def test_place_starts_from_nothing():
    new = np.arange(6).reshape(2, 3)
    found = place(new[:, :0], new, np.zeros(2, dtype=np.int64))
    assert found.tolist() == new.tolist()
    assert found is not new


def test_place_writes_over_what_was_rolled_back():
    cache = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
    assert place(cache, np.array([[9], [9]]), np.array([1, 3]))[0, :2].tolist() == [1, 9]
    assert place(cache, np.array([[9], [9]]), np.array([1, 3]))[1].tolist() == [5, 6, 7, 9]


@pytest.mark.parametrize("count", [0, 1, 3, 9])
@pytest.mark.parametrize("lengths", [[0], [3], [2, 0, 5], [5, 5]], ids=str)
def test_last_looks_back_from_each_rows_end(lengths, count):
    cache = np.random.default_rng(0).integers(0, 99, (len(lengths), 5))
    found = last(cache, np.array(lengths), count, before=-1)
    for b, length in enumerate(lengths):
        expected = ([-1] * count + cache[b, :length].tolist())[len(cache[b, :length]) :] if count else []
        assert found[b].tolist() == (expected[-count:] if count else [])


def test_last_of_vectors_and_of_nothing():
    cache = np.arange(12.0).reshape(1, 3, 2, 2)
    assert last(cache, np.array([2]), 3, 0)[0].tolist() == [[[0, 0], [0, 0]], *cache[0, :2].tolist()]
    assert last(cache[:, :0], np.array([0]), 2, 0).tolist() == np.zeros((1, 2, 2, 2)).tolist()
    assert last(np.zeros((2, 0), dtype=np.int64), np.zeros(2, dtype=np.int64), 2, -1).tolist() == [[-1, -1]] * 2


def test_positions_follow_each_rows_length():
    assert positions_after(np.array([0, 4]), 3).tolist() == [[0, 1, 2], [4, 5, 6]]
    assert positions_after(np.array([2]), 0).shape == (1, 0)
