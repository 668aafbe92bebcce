"""Gradients of hyper-connections.

Sinkhorn's iterations are differentiated one half-step at a time, from the last to the first. In logarithms, a half-step
subtracts the log-sum-exp, so with p = exp(result), which sums to one along the axis,

    d logits = upstream - p * sum(upstream)
"""

import numpy as np

from engram_ref.ops.vjp.experts import ExpertsVjp


def expand_vjp(upstream: np.ndarray, x: np.ndarray, n_branches: int) -> tuple:
    """Gradient of the copied embedding: the sum over branches, [B, T, M, D] -> [B, T, D]."""
    return upstream.sum(axis=2), None


def merge_branches_vjp(upstream: np.ndarray, X: np.ndarray, form: str) -> tuple:
    """Gradient of the sum or mean of the branches: the same for every branch."""
    share = upstream if form == "sum" else upstream / X.shape[2]
    return np.repeat(share[:, :, None], X.shape[2], axis=2), None


def read_single_vjp(upstream: np.ndarray, X: np.ndarray) -> tuple:
    """Gradient of the only branch."""
    return (upstream[:, :, None],)


def write_single_vjp(upstream: np.ndarray, X: np.ndarray, y: np.ndarray) -> tuple:
    """Gradients of X + y."""
    return upstream, upstream[:, :, 0]


class BranchesVjp(ExpertsVjp):
    """Gradients of hyper-connections."""

    __slots__ = ()
    expand_vjp = staticmethod(expand_vjp)
    merge_branches_vjp = staticmethod(merge_branches_vjp)
    read_single_vjp = staticmethod(read_single_vjp)
    write_single_vjp = staticmethod(write_single_vjp)

    def log_normalise_vjp(self, upstream: np.ndarray, logits: np.ndarray, axis: int) -> tuple:
        """Gradient of a half-step: upstream - exp(result) * sum(upstream along the axis)."""
        p = np.exp(self.log_normalise(logits, axis))
        return upstream - p * upstream.sum(axis=axis, keepdims=True), None

    def sinkhorn_vjp(self, upstream: np.ndarray, logits: np.ndarray, iterations: int, eps: float = 0.0) -> tuple:
        """Gradient of Sinkhorn's normalisation, through every half-step.

        upstream, logits   [..., M, M]
        returns            [..., M, M], None, None
        """
        if eps:
            return self._with_eps_vjp(upstream, logits, iterations, eps), None, None
        inputs = []
        for axis in (-2, -1) * iterations:
            inputs.append((logits, axis))
            logits = self.log_normalise(logits, axis)
        gradient = upstream * np.exp(logits)
        for before, axis in reversed(inputs):
            gradient, _ = self.log_normalise_vjp(gradient, before, axis)
        return gradient, None, None

    def _with_eps_vjp(self, upstream: np.ndarray, logits: np.ndarray, iterations: int, eps: float) -> np.ndarray:
        """Gradient of DeepSeek-V4's form, in which every half-step is Y = M / R with R = sum(M) + eps.

            d M = (upstream - sum(upstream * Y)) / R
        """
        matrix = np.exp(self.log_normalise(logits, axis=-2)) + eps
        steps = []
        for axis in (-1, *(-2, -1) * (iterations - 1)):
            total = matrix.sum(axis=axis, keepdims=True) + eps
            matrix = matrix / total
            steps.append((matrix, total, axis))
        for result, total, axis in reversed(steps):
            upstream = (upstream - np.sum(upstream * result, axis=axis, keepdims=True)) / total
        first = np.exp(self.log_normalise(logits, axis=-2))
        return self.log_normalise_vjp(upstream * first, logits, -2)[0]
