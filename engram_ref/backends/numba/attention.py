"""Axes brought side by side, so that every sum over channels or positions is a matrix product that BLAS does.

The definition writes each sum over named axes, which NumPy computes as a plain loop.
"""

import numpy as np


def per_head(c_kv: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Every head's projection of the latents: [B, S, r], [A, d, r] -> [B, A, S, d], one product for all heads."""
    (B, S, r), (A, d, _) = c_kv.shape, weight.shape
    projected = c_kv.reshape(B * S, r) @ weight.reshape(A * d, r).T          # [B*S, A*d]
    return projected.reshape(B, S, A, d).transpose(0, 2, 1, 3)


def together(x: np.ndarray) -> np.ndarray:
    """Heads and tokens as the rows of one matrix: [B, A, T, n] -> [B, A*T, n]."""
    B, A, T, n = x.shape
    return x.reshape(B, A * T, n)
