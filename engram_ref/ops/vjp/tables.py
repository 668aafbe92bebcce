"""Gradients of tables, codecs and projections.

A gather touches few rows, so the gradient of a table is a list of rows and their values, never a dense table. The same
row may occur several times, since n-grams repeat and collide; its gradients are added in the order of the text, so the
sum does not depend on threads.

Roundings pass the gradient straight through: round_bf16 and requantise count as the identity. The gradient of FP8 rows
is that of the decoded numbers, since codes and scales are integers.
"""

from dataclasses import dataclass

import numpy as np

from engram_ref.ops.vjp.basic import BasicVjp


@dataclass(frozen=True)
class RowGradient:
    """The gradient of a table, in the rows that were read.

    rows     int64 [n] flat rows, ascending, each once
    values   [n, W]
    shape    of the table, (R, W)
    """

    rows: np.ndarray
    values: np.ndarray
    shape: tuple[int, ...]
    __array_ufunc__ = None          # so that array + RowGradient calls __radd__

    def dense(self) -> np.ndarray:
        """Return the gradient of the whole table, [R, W]: zero in the rows that were not read."""
        table = np.zeros(self.shape, dtype=self.values.dtype)
        table[self.rows] = self.values
        return table

    def __add__(self, other: "RowGradient | np.ndarray") -> "RowGradient | np.ndarray":
        """Return the sum with another gradient of the same table; with a dense one, a dense one."""
        if not isinstance(other, RowGradient):
            return self.dense() + other
        return scatter_add(np.concatenate([self.rows, other.rows]), np.concatenate([self.values, other.values]),
                           self.shape)

    __radd__ = __add__


def scatter_add(rows: np.ndarray, values: np.ndarray, shape: tuple[int, ...]) -> RowGradient:
    """Add the values of equal rows, in their order.

    rows     int64 [n], with duplicates
    values   [n, W]
    shape    of the table

    >>> scatter_add(np.array([3, 1, 3]), np.array([[1.0], [2.0], [4.0]]), (5, 1)).values
    array([[2.],
           [5.]])
    """
    unique, inverse = np.unique(rows, return_inverse=True)
    total = np.zeros((len(unique), *values.shape[1:]), dtype=values.dtype)
    np.add.at(total, inverse.reshape(-1), values)
    return RowGradient(unique, total, shape)


def gather_vjp(upstream: np.ndarray, table: np.ndarray, rows: np.ndarray, offsets: np.ndarray) -> tuple:
    """Gradient of the table in the rows that were read.

    upstream   [B, T, C, W]
    table      [R, W]
    rows       int64 [B, T, C], without offsets
    returns    RowGradient, None, None
    """
    W = table.shape[-1]
    return scatter_add((rows + offsets).reshape(-1), upstream.reshape(-1, W), table.shape), None, None


def embed_vjp(upstream: np.ndarray, table: np.ndarray, ids: np.ndarray) -> tuple:
    """Gradient of the embedding in the rows of these ids: [B, T, D] -> RowGradient, None."""
    return scatter_add(ids.reshape(-1), upstream.reshape(-1, table.shape[-1]), table.shape), None


def concatenate_vjp(upstream: np.ndarray, decoded: np.ndarray) -> tuple:
    """Gradient of the concatenated rows: [B, T, C*W] -> [B, T, C, W]."""
    return (upstream.reshape(decoded.shape),)


def round_bf16_vjp(upstream: np.ndarray, x: np.ndarray) -> tuple:
    """Straight through: upstream."""
    return (upstream,)


def requantise_vjp(upstream: np.ndarray, x: np.ndarray, floor: float = 0.0) -> tuple:
    """Straight through: upstream."""
    return upstream, None


def linear_vjp(upstream: np.ndarray, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None) -> tuple:
    """Gradients of x W^T + b.

    upstream   [..., out]
    returns    upstream W [..., in], upstream^T x [out, in], the sum of upstream over all tokens [out] or None
    """
    tokens, inputs = upstream.reshape(-1, upstream.shape[-1]), x.reshape(-1, x.shape[-1])
    return upstream @ weight, tokens.T @ inputs, None if bias is None else tokens.sum(axis=0)


class TablesVjp(BasicVjp):
    """Gradients of tables, codecs and projections."""

    __slots__ = ()
    gather_vjp = staticmethod(gather_vjp)
    embed_vjp = staticmethod(embed_vjp)
    concatenate_vjp = staticmethod(concatenate_vjp)
    round_bf16_vjp = staticmethod(round_bf16_vjp)
    requantise_vjp = staticmethod(requantise_vjp)
    linear_vjp = staticmethod(linear_vjp)
