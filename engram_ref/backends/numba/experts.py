"""Experts with their tokens grouped: sort once, one matrix product per expert and weight, one pass for SwiGLU.

The twin of ops/experts.py. The products are BLAS's; what is fused lies between and around them.
"""

from collections.abc import Mapping

import numpy as np
from numba import njit

from engram_ref import ops
from engram_ref.backends.numba._threads import over_tokens
from engram_ref.backends.numba.vectors.exp import sigmoid
from engram_ref.checks import check_shapes
from engram_ref.model_config import ExpertsConfig
from engram_ref.ops.record import Record, ignore

jit = njit(nogil=True, error_model="numpy")

Parameters = Mapping[str, np.ndarray]


def swiglu(x: np.ndarray, w1: np.ndarray, w2: np.ndarray, w3: np.ndarray) -> np.ndarray:
    """Twin of ops.experts.swiglu; the product of both halves overwrites the first."""
    gate, up = x @ w1.T, x @ w3.T
    halves = gate.reshape(-1, gate.shape[-1]), up.reshape(-1, gate.shape[-1])
    over_tokens(lambda a, b: _swiglu(halves[0][a:b].reshape(-1), halves[1][a:b].reshape(-1)), len(halves[0]),
                gate.nbytes)
    return gate @ w2.T


def routed_grouped(parameters: Parameters, x: np.ndarray, chosen: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Twin of ops.experts.routed_grouped; experts add to a token in the same order."""
    w1, w2, w3 = (parameters[f"experts.w{i}"] for i in (1, 2, 3))
    K, y = chosen.shape[1], np.zeros_like(x)
    check_shapes(chosen=(chosen, (len(x), K)), weights=(weights, (len(x), K)))
    order = np.argsort(chosen.reshape(-1), kind="stable")            # slots, expert by expert
    ends = np.cumsum(np.bincount(chosen.reshape(-1), minlength=len(w1)))
    token, share = order // K, weights.reshape(-1)[order]
    for e, end in enumerate(ends):
        slots = slice(ends[e - 1] if e else 0, end)
        if slots.start < end:
            answer = swiglu(x[token[slots]], w1[e], w2[e], w3[e])
            combine(answer, token[slots], share[slots], y)
    return y


def combine(answer: np.ndarray, token: np.ndarray, share: np.ndarray, y: np.ndarray) -> None:
    """y[token[i]] += share[i] * answer[i]; no token comes twice."""
    over_tokens(lambda a, b: _combine(answer, token, share, y, a, b), len(token), answer.nbytes)


def moe(parameters: Parameters, x: np.ndarray, config: ExpertsConfig, record: Record = ignore) -> np.ndarray:
    """Twin of ops.experts.moe."""
    B, T, D = x.shape
    tokens = x.reshape(B * T, D)
    chosen, weights = ops.route(parameters, tokens, config)
    record("experts", chosen.reshape(B, T, config.num_experts_per_tok))
    record("expert_weights", weights.reshape(B, T, config.num_experts_per_tok))
    y = routed_grouped(parameters, tokens, chosen, weights)
    if config.n_shared_experts:
        y += swiglu(tokens, *(parameters[f"shared_experts.w{i}.weight"] for i in (1, 2, 3)))
    return y.reshape(B, T, D)


@jit
def _swiglu(gate, up):
    """gate = silu(gate) * up."""
    one = gate.dtype.type(1)
    for i in range(gate.size):
        gate[i] = gate[i] * sigmoid(gate[i], one) * up[i]


@jit
def _combine(answer, token, share, y, start, stop):
    for i in range(start, stop):
        line, source = y[token[i]], answer[i]
        for d in range(source.size):
            line[d] += share[i] * source[d]
