"""Gradients of norm, softmax and tables, each in one pass.

Fast versions of ops/vjp. Sums over tokens are taken within blocks of TOKENS tokens, whose results are then added in
order. The blocks do not depend on the number of threads, so the results do not either.
"""

import numpy as np

from engram_ref.backends.numba._threads import jit, over_tokens
from engram_ref.backends.numba.norm import machine_eps
from engram_ref.backends.numba.vectors.sums import dot
from engram_ref.checks import check_shapes

TOKENS = 64      # in a block


def norms(upstream: np.ndarray, x: np.ndarray, gain: np.ndarray, eps: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the gradients of x and gain of rms_norm: float [..., D] and the shape of gain, all of one dtype."""
    check_shapes(upstream=(upstream, x.shape))
    (D, of_x), vectors = (x.shape[-1], np.empty(x.shape, x.dtype)), x.size // max(x.shape[-1], 1)
    per_block = TOKENS * (gain.size // max(D, 1))            # vectors
    blocks = -(-vectors // max(per_block, 1))
    of_gain = np.zeros((blocks, gain.size), x.dtype)
    arrays = tuple(np.ascontiguousarray(a).reshape(-1) for a in (upstream, x, gain))
    written, constants = of_x.reshape(-1), (D, machine_eps(x.dtype, eps), per_block)
    over_tokens(lambda a, b: _norms(*arrays, *constants, written, of_gain, a, b), blocks, x.nbytes)
    return of_x, of_gain.sum(axis=0).reshape(gain.shape)


def softmaxes(upstream: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Return p * (upstream - <upstream, p>) for the last axis of float arrays [..., S] of one dtype."""
    check_shapes(upstream=(upstream, p.shape))
    S, found = p.shape[-1], np.empty(p.shape, p.dtype)
    arrays, written = tuple(np.ascontiguousarray(a).reshape(-1) for a in (upstream, p)), found.reshape(-1)
    over_tokens(lambda a, b: _softmaxes(*arrays, S, written, a, b), p.size // max(S, 1), p.nbytes)
    return found


@jit
def _norms(upstream, x, gain, D, eps, per_block, of_x, of_gain, start, stop):
    """Compute blocks `start` to `stop`-1, with one sum of the gradients of gain each."""
    one, u = x.dtype.type(1), np.empty(D, x.dtype)
    for block in range(start, stop):
        for i in range(block * per_block, min((block + 1) * per_block, x.size // D)):
            first, g = i * D, i * D % gain.size
            r = one / np.sqrt(dot(x, first, x, first, D) / x.dtype.type(D) + eps)
            for d in range(D):
                u[d] = upstream[first + d] * gain[g + d]
            inner = r * r * dot(u, 0, x, first, D) / x.dtype.type(D)
            for d in range(D):
                of_x[first + d] = r * (u[d] - x[first + d] * inner)
                of_gain[block, g + d] += upstream[first + d] * x[first + d] * r


@jit
def _softmaxes(upstream, p, S, found, start, stop):
    """Compute rows `start` to `stop`-1."""
    for i in range(start, stop):
        total = dot(upstream, i * S, p, i * S, S)
        for s in range(i * S, (i + 1) * S):
            found[s] = p[s] * (upstream[s] - total)
