"""Gradients of the basic array operations.

If an input was broadcast, its gradient is summed over the axes along which it was repeated.
"""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from engram_ref.ops.branches import Branches


def summed(gradient: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Sum a gradient over the axes along which an input of this shape was broadcast: [...] -> shape.

    >>> summed(np.ones((2, 3)), (3,))
    array([2., 2., 2.])
    """
    if gradient.shape == shape:
        return gradient
    gradient = gradient.sum(axis=tuple(range(gradient.ndim - len(shape))))
    repeated = tuple(i for i, n in enumerate(shape) if n == 1 and gradient.shape[i] != 1)
    return gradient.sum(axis=repeated, keepdims=True)


def placed(gradient: np.ndarray, x: np.ndarray, index: int | tuple[slice, ...]) -> np.ndarray:
    """Return zeros with the shape of x, with the gradient at `index`."""
    result = np.zeros(x.shape, dtype=gradient.dtype)
    result[index] = gradient
    return result


def add_vjp(upstream: np.ndarray, x: np.ndarray, y: "np.ndarray | float") -> tuple:
    """Gradients of x + y: upstream for both, summed where an input was broadcast."""
    return summed(upstream, x.shape), summed(upstream, np.shape(y))


def multiply_vjp(upstream: np.ndarray, x: "np.ndarray | float", y: np.ndarray) -> tuple:
    """Gradients of x * y: upstream times the other factor."""
    return summed(upstream * y, np.shape(x)), summed(upstream * x, y.shape)


def exp_vjp(upstream: np.ndarray, x: np.ndarray) -> tuple:
    """Gradient of e^x, which is its own derivative."""
    return (upstream * np.exp(x),)


def cast_vjp(upstream: np.ndarray, x: np.ndarray, dtype: DTypeLike) -> tuple:
    """Gradient of a conversion, in the dtype of x; the rounding passes it straight through."""
    return upstream.astype(x.dtype, copy=False), None


def stack_vjp(upstream: np.ndarray, arrays: Sequence[np.ndarray], axis: int) -> tuple:
    """Gradients of the stacked arrays, as a list: upstream, cut along the new axis."""
    return list(np.moveaxis(upstream, axis, 0)), None


def take_vjp(upstream: np.ndarray, x: np.ndarray, index: int) -> tuple:
    """Gradient of x[index]: zero in all other elements of the first axis."""
    return placed(upstream, x, index), None


def tail_vjp(upstream: np.ndarray, x: np.ndarray, count: int) -> tuple:
    """Gradient of the last positions: zero in the earlier ones."""
    return placed(upstream, x, (slice(None), slice(x.shape[1] - upstream.shape[1], None))), None


def split_vjp(upstream: tuple[np.ndarray, np.ndarray], x: np.ndarray, first: int, axis: int = -1) -> tuple:
    """Gradient of x from those of its two parts: the parts, joined again."""
    return np.concatenate(upstream, axis), None, None


def reshape_vjp(upstream: np.ndarray, x: np.ndarray, shape: tuple[int, ...]) -> tuple:
    """Gradient of a reshape: upstream in the shape of x."""
    return upstream.reshape(x.shape), None


def repeat_vjp(upstream: np.ndarray, x: np.ndarray, counts: Sequence[int]) -> tuple:
    """Gradient of repeated elements: the sum over each element's copies."""
    starts = np.cumsum([0, *counts])
    return np.array([upstream[i:j].sum() for i, j in itertools.pairwise(starts)], upstream.dtype), None


class BasicVjp(Branches):
    """Gradients of the basic array operations."""

    __slots__ = ()
    add_vjp = staticmethod(add_vjp)
    cast_vjp = staticmethod(cast_vjp)
    exp_vjp = staticmethod(exp_vjp)
    multiply_vjp = staticmethod(multiply_vjp)
    repeat_vjp = staticmethod(repeat_vjp)
    reshape_vjp = staticmethod(reshape_vjp)
    split_vjp = staticmethod(split_vjp)
    stack_vjp = staticmethod(stack_vjp)
    tail_vjp = staticmethod(tail_vjp)
    take_vjp = staticmethod(take_vjp)

    def einsum_vjp(self, upstream: np.ndarray, axes: str, *arrays: np.ndarray) -> tuple:
        """Gradient of each array: an einsum of upstream and the other arrays, over the axes that the array lacks.

        Every axis of an array occurs in the result or in another array.
        """
        operands, result = axes.split("->")
        names = operands.split(",")
        gradients = [self.einsum(f"{','.join([result, *names[:i], *names[i + 1:]])}->{name}", upstream,
                                 *arrays[:i], *arrays[i + 1 :]) for i, name in enumerate(names)]
        return (None, *gradients)
