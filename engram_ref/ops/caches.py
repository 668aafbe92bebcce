"""Caches: what a stream has seen, one slot a position.

Rows of a batch may have different lengths: row b holds positions 0 .. lengths[b]-1, and what stands in
later slots means nothing. So rolling back is making a row shorter, and nothing is ever moved.
"""

import numpy as np


def positions_after(lengths: np.ndarray, T: int) -> np.ndarray:
    """Positions of the next T tokens of each row: int64 [B] -> int64 [B, T]."""
    return lengths[:, None] + np.arange(T)


def place(cache: np.ndarray, new: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The cache with new tokens in the slots after each row's end.

    cache     [B, S, ...]
    new       [B, T, ...]
    lengths   int64 [B], tokens that each row holds already
    returns   [B, S', ...], a new array with S' = max(lengths) + T slots

    >>> place(np.array([[1, 2], [3, 0]]), np.array([[7], [8]]), np.array([2, 1]))
    array([[1, 2, 7],
           [3, 8, 0]])
    """
    T = new.shape[1]
    slots = int(lengths.max(initial=0)) + T
    grown = np.zeros((len(cache), slots, *cache.shape[2:]), dtype=new.dtype)
    kept = min(slots, cache.shape[1])
    grown[:, :kept] = cache[:, :kept]
    rows = np.arange(len(cache))[:, None]
    grown[rows, positions_after(lengths, T)] = new
    return grown


def last(cache: np.ndarray, lengths: np.ndarray, count: int, before: object) -> np.ndarray:
    """The last `count` entries of each row, oldest first; `before` stands where a row is shorter.

    cache     [B, S, ...]
    lengths   int64 [B]
    returns   [B, count, ...]

    >>> last(np.array([[1, 2, 3], [4, 5, 6]]), np.array([3, 1]), 2, before=-1)
    array([[ 2,  3],
           [-1,  4]])
    """
    slots = lengths[:, None] - count + np.arange(count)      # [B, count], negative before the start
    there = (slots >= 0).reshape(*slots.shape, *(1,) * (cache.ndim - 2))
    if cache.shape[1] == 0:
        return np.full((len(cache), count, *cache.shape[2:]), before, dtype=cache.dtype)
    rows = np.arange(len(cache))[:, None]
    return np.where(there, cache[rows, np.maximum(slots, 0)], np.asarray(before, dtype=cache.dtype))
