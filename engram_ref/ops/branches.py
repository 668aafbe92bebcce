"""Hyper-connections: a residual stream of M branches, which are mixed at every site.

A site is one attention layer or one feed-forward network F. Three maps, computed from all branches together, combine
the branches into its input, mix them, and distribute its output to them:

    u = sum_i H_pre[i] X_i,     y = F(RMSNorm(u)),     X'_i = sum_j H_res[i, j] X_j + H_post[i] y

H_res is nearly doubly stochastic (rows and columns sum to one), so that mixing neither amplifies nor attenuates the
stream. Sinkhorn-Knopp achieves this by normalising columns, then rows, 20 times; at the end, rows sum to one exactly
and columns approximately.

Source: mHC, arXiv 2512.24880. DeepSeek's code computes the transpose of H_res and applies it transposed.
"""

import numpy as np

from engram_ref.checks import check_shapes
from engram_ref.model_config import HyperConfig
from engram_ref.ops.experts import Experts
from engram_ref.ops.record import Parameters

HEAD_FLOOR = 1e-6       # added to every weight of DeepSeek-V4's learned collapse


def expand(x: np.ndarray, n_branches: int) -> np.ndarray:
    """Copy the embedding to every branch: [B, T, D] -> [B, T, M, D]."""
    return np.repeat(x[:, :, None, :], n_branches, axis=2)


def log_normalise(logits: np.ndarray, axis: int) -> np.ndarray:
    """Subtract the log-sum-exp, so that the exponentials of the result sum to one along the axis."""
    largest = logits.max(axis=axis, keepdims=True)
    return logits - largest - np.log(np.exp(logits - largest).sum(axis=axis, keepdims=True))


def merge_branches(X: np.ndarray, form: str) -> np.ndarray:
    """Return the "sum" or the "mean" of all branches: [B, T, M, D] -> [B, T, D]."""
    return X.sum(axis=2) if form == "sum" else X.mean(axis=2)


def read_single(X: np.ndarray) -> np.ndarray:
    """Return the only branch of a plain residual stream: [B, T, 1, D] -> [B, T, D]."""
    return X[:, :, 0]


def write_single(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Add the output of a site to a plain residual stream, X + y: [B, T, 1, D], [B, T, D] -> [B, T, 1, D]."""
    check_shapes(y=(y, (*X.shape[:2], X.shape[-1])))
    return X + y[:, :, None]


class Branches(Experts):
    """Hyper-connections: how a site reads, mixes and writes the branches."""

    __slots__ = ()
    expand = staticmethod(expand)
    log_normalise = staticmethod(log_normalise)
    merge_branches = staticmethod(merge_branches)
    read_single = staticmethod(read_single)
    write_single = staticmethod(write_single)

    def sinkhorn(self, logits: np.ndarray, iterations: int, eps: float = 0.0) -> np.ndarray:
        """Normalise columns and rows of exp(logits) alternately: rows sum to one, columns approximately.

        logits       [..., M, M]
        iterations   number of iterations, each normalising columns, then rows
        eps          0: the paper's form, computed in logarithms so that large logits cannot cause 0/0;
                     otherwise added in every division, as in DeepSeek-V4's code
        returns      [..., M, M]
        source       mHC Eq. 8 and 9

        >>> from engram_ref import ops
        >>> ops.sinkhorn(np.array([[0.0, 1.0], [2.0, 3.0]]), 20).round(3)
        array([[0.5, 0.5],
               [0.5, 0.5]])
        """
        if eps:
            return self._with_eps(logits, iterations, eps)
        for _ in range(iterations):
            logits = self.log_normalise(self.log_normalise(logits, axis=-2), axis=-1)
        return self.exp(logits)

    def _with_eps(self, logits: np.ndarray, iterations: int, eps: float) -> np.ndarray:
        """DeepSeek-V4's form: add eps to the first column-normalised matrix and to every later sum."""
        matrix = self.exp(self.log_normalise(logits, axis=-2)) + eps
        matrix = matrix / (matrix.sum(axis=-1, keepdims=True) + eps)
        for _ in range(iterations - 1):
            matrix = matrix / (matrix.sum(axis=-2, keepdims=True) + eps)
            matrix = matrix / (matrix.sum(axis=-1, keepdims=True) + eps)
        return matrix

    def _mapped(self, parameters: Parameters, X: np.ndarray, alpha: np.ndarray, eps: float) -> np.ndarray:
        """Return alpha phi v/rms(v) + bias, where v concatenates all branches: [B, T, M, D] -> [B, T, maps]."""
        B, T, M, D = X.shape
        v = self.reshape(X, (B, T, M * D))                                       # branch after branch
        raw = self.linear(self.multiply(v, self.inverse_rms(v, eps)), parameters["phi"])
        return self.add(self.multiply(alpha, raw), parameters["bias"])

    def branch_maps(self, parameters: Parameters, X: np.ndarray, eps: float,
                    config: HyperConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Compute the three maps with which one site reads, writes and mixes the branches.

        parameters   "phi" [2M+M*M, M*D], "bias" [2M+M*M], rows ordered pre, post, res; "alpha" [3], in that order
        X            [B, T, M, D]
        eps          of the norm over all M*D channels together
        returns      H_pre [B, T, M], H_post [B, T, M], H_res [B, T, M, M], one row per written branch
        """
        B, T, M, _ = X.shape
        logits = self._mapped(parameters, X, self.repeat(parameters["alpha"], (M, M, M * M)), eps)    # [B, T, 2M+M*M]
        pre, others = self.split(logits, M)
        post, res = self.split(others, M)
        pre, post = self.add(self.sigmoid(pre), config.pre_eps), self.multiply(config.post_mult, self.sigmoid(post))
        return pre, post, self.sinkhorn(self.reshape(res, (B, T, M, M)), config.iterations, config.sinkhorn_eps)

    def read_branches(self, X: np.ndarray, pre: np.ndarray) -> np.ndarray:
        """u = sum_i H_pre[i] X_i: [B, T, M, D], [B, T, M] -> [B, T, D]."""
        return self.einsum("btm,btmd->btd", pre, X)

    def write_branches(self, X: np.ndarray, y: np.ndarray, post: np.ndarray, res: np.ndarray) -> np.ndarray:
        """X'_i = sum_j H_res[i, j] X_j + H_post[i] y.

        X           [B, T, M, D]
        y           [B, T, D]
        post, res   [B, T, M], [B, T, M, M]
        returns     [B, T, M, D]
        """
        return self.add(self.einsum("btij,btjd->btid", res, X), self.apply_gate(post, y))

    def collapse(self, X: np.ndarray, form: str, parameters: Parameters, eps: float) -> np.ndarray:
        """Merge the branches into one stream, before the final norm.

        X            [B, T, M, D]
        form         "sum", "mean", or "head": sum_i w_i X_i with w = sigmoid(alpha W v/rms(v) + b) + 1e-6
        parameters   for "head": "phi" [M, M*D], "bias" [M], "alpha" [1]
        returns      [B, T, D]
        source       "head": DeepSeek-V4; the mHC paper does not state how it merges the branches
        """
        if form != "head":
            return self.merge_branches(X, form)
        weights = self.sigmoid(self._mapped(parameters, X, parameters["alpha"], eps))
        return self.read_branches(X, self.add(weights, HEAD_FLOOR))
