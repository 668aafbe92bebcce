"""What lies between and around the experts' matrix products, in one pass each.

Fast versions of ops/experts.py. The products are BLAS's.
"""

import math

import numpy as np

from engram_ref.backends.numba._threads import jit, over_tokens
from engram_ref.backends.numba.vectors.exp import sigmoid
from engram_ref.checks import check_shapes


def swiglu(x: np.ndarray, w1: np.ndarray, w2: np.ndarray, w3: np.ndarray) -> np.ndarray:
    """Fast version of ops.swiglu; the product of both halves overwrites the first."""
    F, D = len(w1), x.shape[-1]
    check_shapes(w1=(w1, (F, D)), w2=(w2, (len(w2), F)), w3=(w3, (F, D)))
    tokens = x.reshape(math.prod(x.shape[:-1]), D)           # else the products may come in another order of axes
    gate, up = tokens @ w1.T, tokens @ w3.T
    over_tokens(lambda a, b: _swiglu(gate[a:b].reshape(-1), up[a:b].reshape(-1)), len(gate), gate.nbytes)
    return (gate @ w2.T).reshape(*x.shape[:-1], len(w2))


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
