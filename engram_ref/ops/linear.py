"""Linear: projections, and the addition of a module's output to the residual stream."""

import numpy as np

from engram_ref.checks import check_shapes
from engram_ref.config import check_choice
from engram_ref.errors import InputError
from engram_ref.ops.tables import Tables


def linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """y = x W^T + b.

    x         [..., in] float
    weight    [out, in]
    bias      [out] or None
    returns   [..., out]
    source    Paper Eq. 3 (no bias); the demo (with biases)

    >>> linear(np.array([1.0, 2.0]), np.array([[3.0, 4.0]]), np.array([0.5]))
    array([11.5])
    """
    check_shapes(weight=(weight, (len(weight), x.shape[-1])))
    if bias is not None:
        check_shapes(bias=(bias, (len(weight),)))
    y = x @ weight.T
    return y if bias is None else y + bias


def embed(table: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Look up the embedding of each id, without scaling: [V, D], int64 [B, T] -> [B, T, D]."""
    return table[ids]


class Linear(Tables):
    """Projections, and the residual sum."""

    __slots__ = ()
    linear = staticmethod(linear)
    embed = staticmethod(embed)

    def add_residual(self, hidden: np.ndarray, update: np.ndarray, rounding: str = "none") -> np.ndarray:
        """Return H + Y, rounded once if the dialect rounds.

        hidden, update   [B, T, M, D] float
        rounding         "none"; or "fp8_bf16", which rounds only the sum to bfloat16
        returns          [B, T, M, D]
        raises           InputError for different shapes, an unknown rounding, or rounding of a dtype other than float32
        source           Paper section 2.4; V4.1 release (the rounding)
        """
        check_choice("rounding", rounding)
        if hidden.shape != update.shape:
            raise InputError("update", f"the shape of hidden, {list(hidden.shape)}", list(update.shape))
        total = self.add(hidden, update)
        return self.round_bf16(total) if rounding == "fp8_bf16" else total
