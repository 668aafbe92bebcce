"""Latent attention as matrix products: every sum over channels or positions is one that BLAS does.

The twin of ops/attention.py. The definition writes each sum over named axes, which NumPy computes as a plain
loop; here axes are brought side by side first, and heads that share keys become the rows of one matrix.
"""

from collections.abc import Mapping

import numpy as np

from engram_ref import ops
from engram_ref.model_config import AttentionConfig
from engram_ref.ops.record import Record, ignore

Parameters = Mapping[str, np.ndarray]


def attend_expanded(q_nope: np.ndarray, q_pe: np.ndarray, c_kv: np.ndarray, k_pe: np.ndarray, w_uk: np.ndarray,
                    w_uv: np.ndarray, allowed: np.ndarray, scale: float, record: Record = ignore) -> np.ndarray:
    """Twin of ops.attention.attend_expanded: a matrix product for each head."""
    k_nope, value = per_head(c_kv, w_uk), per_head(c_kv, w_uv)               # [B, A, S, dn], [B, A, S, dv]
    q_nope, q_pe = q_nope.transpose(0, 2, 1, 3), q_pe.transpose(0, 2, 1, 3)  # [B, A, T, dn], [B, A, T, dr]
    scores = q_nope @ k_nope.swapaxes(2, 3) + q_pe @ k_pe[:, None].swapaxes(2, 3)      # [B, A, T, S]
    weights = ops.softmax(scale * scores, allowed)
    record("attention_weights", weights)
    return (weights @ value).transpose(0, 2, 1, 3)                           # [B, T, A, dv]


def attend_absorbed(q_nope: np.ndarray, q_pe: np.ndarray, c_kv: np.ndarray, k_pe: np.ndarray, w_uk: np.ndarray,
                    w_uv: np.ndarray, allowed: np.ndarray, scale: float, record: Record = ignore) -> np.ndarray:
    """Twin of ops.attention.attend_absorbed: all heads read the latents together, as rows of one matrix."""
    B, T, A, _ = q_nope.shape
    q_latent = np.matmul(q_nope.transpose(0, 2, 1, 3), w_uk)                 # [B, A, T, r]
    scores = together(q_latent) @ c_kv.swapaxes(1, 2) + together(q_pe.transpose(0, 2, 1, 3)) @ k_pe.swapaxes(1, 2)
    weights = ops.softmax(scale * scores.reshape(B, A, T, c_kv.shape[1]), allowed)     # [B, A, T, S]
    record("attention_weights", weights)
    context = (together(weights) @ c_kv).reshape(B, A, T, c_kv.shape[2])     # [B, A, T, r]
    return np.matmul(context, w_uv.swapaxes(1, 2)).transpose(0, 2, 1, 3)     # [B, T, A, dv]


def per_head(c_kv: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Every head's projection of the latents: [B, S, r], [A, d, r] -> [B, A, S, d], one product for all heads."""
    (B, S, r), (A, d, _) = c_kv.shape, weight.shape
    projected = c_kv.reshape(B * S, r) @ weight.reshape(A * d, r).T          # [B*S, A*d]
    return projected.reshape(B, S, A, d).transpose(0, 2, 1, 3)


def together(x: np.ndarray) -> np.ndarray:
    """Heads and tokens as the rows of one matrix: [B, A, T, n] -> [B, A*T, n]."""
    B, A, T, n = x.shape
    return x.reshape(B, A * T, n)


def mla(parameters: Parameters, x: np.ndarray, c_kv: np.ndarray, k_pe: np.ndarray, positions: np.ndarray,
        angle: np.ndarray, config: AttentionConfig, absorbed: bool = False, record: Record = ignore) -> np.ndarray:
    """Twin of ops.attention.mla."""
    q_nope, q_pe = ops.queries(parameters, x, angle, config)
    record("q_nope", q_nope)
    record("q_pe", q_pe)
    attend = attend_absorbed if absorbed else attend_expanded
    heads = attend(q_nope, q_pe, c_kv, k_pe, *ops.up_projections(parameters, config),
                   ops.visible(positions, c_kv.shape[1]), ops.softmax_scale(config.qk_head_dim, config.yarn), record)
    B, T, A, dv = heads.shape
    return ops.linear(heads.reshape(B, T, A * dv), parameters["wo.weight"])  # [B, T, A*dv] -> [B, T, D]
