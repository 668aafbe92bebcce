"""Basic array operations as ops.

Compositions with parameters consist of ops only, so that every step can be recorded, replaced and differentiated.
This file contains the ops that no formula of Engram names. An op that implements a formula, such as `rms_norm`, uses
operators and is differentiated as a whole.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike


def add(x: np.ndarray, y: np.ndarray | float) -> np.ndarray:
    """x + y with NumPy's broadcasting: [...] and [...] -> [...]."""
    return x + y


def multiply(x: np.ndarray | float, y: np.ndarray) -> np.ndarray:
    """x * y with NumPy's broadcasting: [...] and [...] -> [...]."""
    return x * y


def exp(x: np.ndarray) -> np.ndarray:
    """e^x: [...] -> [...]."""
    return np.exp(x)


def einsum(axes: str, *arrays: np.ndarray) -> np.ndarray:
    """Sum of products over named axes, such as "btd,ed->bte"; axes missing from the result are summed."""
    return np.einsum(axes, *arrays)


def cast(x: np.ndarray, dtype: DTypeLike) -> np.ndarray:
    """Convert to float32 or float64: [...] -> [...]; x itself if it has that dtype."""
    return x.astype(dtype, copy=False)


def stack(arrays: Sequence[np.ndarray], axis: int) -> np.ndarray:
    """Stack arrays of equal shape along a new axis."""
    return np.stack(arrays, axis)


def take(x: np.ndarray, index: int) -> np.ndarray:
    """Return one element of the first axis: [A, ...] -> [...]."""
    return x[index]


def tail(x: np.ndarray, count: int) -> np.ndarray:
    """Return the last `count` positions, or all if there are fewer: [B, T, ...] -> [B, min(count, T), ...]."""
    return x[:, max(x.shape[1] - count, 0) :]


def split(x: np.ndarray, first: int, axis: int = -1) -> tuple[np.ndarray, np.ndarray]:
    """Split an axis, the last or the second to last, into its first `first` elements and the others."""
    if axis == -1:
        return x[..., :first], x[..., first:]
    return x[..., :first, :], x[..., first:, :]


def reshape(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the same elements, in the same order, in a new shape."""
    return x.reshape(shape)


def repeat(x: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """Repeat each element of a vector the given number of times: [A] -> [sum of counts].

    >>> repeat(np.array([1.0, 2.0]), (2, 1))
    array([1., 1., 2.])
    """
    return np.repeat(x, counts)
