"""Basic array operations, each an op by itself.

A composition over parameters computes with ops alone, so that every step it takes can be recorded, replaced and
differentiated. What other ops are too large for is done by these. A formula that calls another op, such as `rms_norm`,
writes its arithmetic out, and is differentiated as a whole.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike


def add(x: np.ndarray, y: np.ndarray | float) -> np.ndarray:
    """x + y, broadcast as NumPy does: [...] and [...] -> [...]."""
    return x + y


def multiply(x: np.ndarray | float, y: np.ndarray) -> np.ndarray:
    """x * y, broadcast as NumPy does: [...] and [...] -> [...]."""
    return x * y


def exp(x: np.ndarray) -> np.ndarray:
    """e^x: [...] -> [...]."""
    return np.exp(x)


def einsum(axes: str, *arrays: np.ndarray) -> np.ndarray:
    """A sum of products over named axes, such as "btd,ed->bte"; axes left out of the result are summed."""
    return np.einsum(axes, *arrays)


def cast(x: np.ndarray, dtype: DTypeLike) -> np.ndarray:
    """The values in float32 or float64: [...] -> [...]; x itself where it has that dtype."""
    return x.astype(dtype, copy=False)


def stack(arrays: Sequence[np.ndarray], axis: int) -> np.ndarray:
    """Arrays of one shape side by side along a new axis."""
    return np.stack(arrays, axis)


def take(x: np.ndarray, index: int) -> np.ndarray:
    """One element of the first axis: [A, ...] -> [...]."""
    return x[index]


def tail(x: np.ndarray, count: int) -> np.ndarray:
    """The last `count` positions, or all where there are fewer: [B, T, ...] -> [B, min(count, T), ...]."""
    return x[:, max(x.shape[1] - count, 0) :]


def split(x: np.ndarray, first: int, axis: int = -1) -> tuple[np.ndarray, np.ndarray]:
    """An axis cut in two: its first `first` elements, and the others. The axis is the last one or the one before."""
    if axis == -1:
        return x[..., :first], x[..., first:]
    return x[..., :first, :], x[..., first:, :]


def reshape(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The same elements in the same order under another shape."""
    return x.reshape(shape)


def repeat(x: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """Each element of a vector that many times: [A] -> [sum of counts].

    >>> repeat(np.array([1.0, 2.0]), (2, 1))
    array([1., 1., 2.])
    """
    return np.repeat(x, counts)
