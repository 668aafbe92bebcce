"""The elementwise work between and after the experts' matrix products, one pass per step.

Fast versions of ops/experts.py. BLAS computes the products.
"""

import math

import numpy as np

from engram_ref.backends.numba._threads import jit, over_tokens
from engram_ref.backends.numba.vectors.exp import sigmoid
from engram_ref.checks import check_shapes


def swiglu(x: np.ndarray, w1: np.ndarray, w2: np.ndarray, w3: np.ndarray) -> np.ndarray:
    """Fast version of ops.swiglu; the gated product overwrites its first factor."""
    F, D = len(w1), x.shape[-1]
    check_shapes(w1=(w1, (F, D)), w2=(w2, (len(w2), F)), w3=(w3, (F, D)))
    tokens = x.reshape(math.prod(x.shape[:-1]), D)           # else the products may have a different memory order
    gate, up = tokens @ w1.T, tokens @ w3.T
    over_tokens(lambda a, b: _swiglu(gate[a:b].reshape(-1), up[a:b].reshape(-1)), len(gate), gate.nbytes)
    return (gate @ w2.T).reshape(*x.shape[:-1], len(w2))


def combine(output: np.ndarray, token: np.ndarray, weight: np.ndarray, y: np.ndarray) -> None:
    """y[token[i]] += weight[i] * output[i]; each token occurs once."""
    over_tokens(lambda a, b: _combine(output, token, weight, y, a, b), len(token), output.nbytes)


@jit
def _swiglu(gate, up):
    """gate = silu(gate) * up."""
    one = gate.dtype.type(1)
    for i in range(gate.size):
        gate[i] = gate[i] * sigmoid(gate[i], one) * up[i]


@jit
def _combine(output, token, weight, y, start, stop):
    for i in range(start, stop):
        target, source = y[token[i]], output[i]
        for d in range(source.size):
            target[d] += weight[i] * source[d]
