"""Caches: stored values of a stream, one slot per position.

Rows of a batch may have different lengths: row b contains positions 0 to lengths[b]-1, and the contents of later slots
are undefined. Rolling back therefore only reduces a row's length; no data is moved.

`place` copies the cache, so its cost grows with every token. `append` writes in place and doubles the cache when it is
full, so the average cost per token does not depend on the length of the text.
"""

from collections.abc import Sequence

import numpy as np


def positions_after(lengths: np.ndarray, T: int) -> np.ndarray:
    """Return the positions of the next T tokens of each row: int64 [B] -> int64 [B, T]."""
    return lengths[:, None] + np.arange(T)


def place(cache: np.ndarray, new: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return a copy of the cache with the new tokens stored after each row's end.

    cache     [B, S, ...]
    new       [B, T, ...]
    lengths   int64 [B], tokens already stored in each row
    returns   [B, S', ...], a new array with S' = max(lengths) + T slots

    >>> place(np.array([[1, 2], [3, 0]]), np.array([[7], [8]]), np.array([2, 1]))
    array([[1, 2, 7],
           [3, 8, 0]])
    """
    return _written(_resized(cache, new, slots_needed(new, lengths)), new, lengths)


def append(cache: np.ndarray, new: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Store the new tokens after each row's end, in place if there is room.

    cache     [B, S, ...], modified; slots after a row's end must not be in use elsewhere
    new       [B, T, ...]
    lengths   int64 [B], tokens already stored in each row
    returns   `cache`, or a copy with at least twice as many slots if it has fewer than max(lengths) + T

    >>> cache = np.array([[1, 2, 0], [3, 0, 0]])
    >>> append(cache, np.array([[7], [8]]), np.array([2, 1])) is cache
    True
    >>> append(cache, np.array([[9], [9]]), np.array([3, 2]))
    array([[1, 2, 7, 9, 0, 0],
           [3, 8, 9, 0, 0, 0]])
    """
    slots, S = slots_needed(new, lengths), cache.shape[1]
    return _written(cache if slots <= S else _resized(cache, new, max(slots, 2 * S)), new, lengths)


def slots_needed(new: np.ndarray, lengths: np.ndarray) -> int:
    """Return the number of slots that the longest row needs, including the new tokens: max(lengths) + T."""
    return int(lengths.max(initial=0)) + new.shape[1]


def _resized(cache: np.ndarray, new: np.ndarray, slots: int) -> np.ndarray:
    """Return a copy with this number of slots; new ones contain zeros, because attention reads them with weight 0."""
    resized = np.zeros((len(cache), slots, *cache.shape[2:]), dtype=new.dtype)
    kept = min(slots, cache.shape[1])
    resized[:, :kept] = cache[:, :kept]
    return resized


def _written(cache: np.ndarray, new: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Store the new tokens after each row's end, in place, and return the cache."""
    slots = lengths[:, None] + np.arange(new.shape[1])       # [B, T]
    cache[np.arange(len(cache))[:, None], slots] = new
    return cache


def writable(arrays: Sequence[np.ndarray]) -> bool:
    """Return whether a cache computed from these arrays may be modified in place: false if gradients are recorded.

    >>> writable([np.zeros(1)])
    True
    """
    return True


def last(cache: np.ndarray, lengths: np.ndarray, count: int, before: object) -> np.ndarray:
    """Return the last `count` entries of each row, oldest first, padded on the left with `before`.

    cache     [B, S, ...]
    lengths   int64 [B]
    returns   [B, count, ...]

    >>> last(np.array([[1, 2, 3], [4, 5, 6]]), np.array([3, 1]), 2, before=-1)
    array([[ 2,  3],
           [-1,  4]])
    """
    slots = lengths[:, None] - count + np.arange(count)      # [B, count], negative before the start
    exists = (slots >= 0).reshape(*slots.shape, *(1,) * (cache.ndim - 2))
    if cache.shape[1] == 0:
        return np.full((len(cache), count, *cache.shape[2:]), before, dtype=cache.dtype)
    rows = np.arange(len(cache))[:, None]
    return np.where(exists, cache[rows, np.maximum(slots, 0)], np.asarray(before, dtype=cache.dtype))
