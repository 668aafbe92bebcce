"""What lies between and around the experts' matrix products, in one pass each.

The twin of ops/experts.py. The products are BLAS's.
"""

import numpy as np

from engram_ref.backends.numba._threads import jit, over_tokens
from engram_ref.backends.numba.vectors.exp import sigmoid


def swiglu(x: np.ndarray, w1: np.ndarray, w2: np.ndarray, w3: np.ndarray) -> np.ndarray:
    """Twin of ops.swiglu; the product of both halves overwrites the first."""
    gate, up = x @ w1.T, x @ w3.T
    halves = gate.reshape(-1, gate.shape[-1]), up.reshape(-1, gate.shape[-1])
    over_tokens(lambda a, b: _swiglu(halves[0][a:b].reshape(-1), halves[1][a:b].reshape(-1)), len(halves[0]),
                gate.nbytes)
    return gate @ w2.T


def combine(answer: np.ndarray, token: np.ndarray, share: np.ndarray, y: np.ndarray) -> None:
    """y[token[i]] += share[i] * answer[i]; no token comes twice."""
    over_tokens(lambda a, b: _combine(answer, token, share, y, a, b), len(token), answer.nbytes)


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
