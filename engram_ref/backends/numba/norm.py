"""RMSNorm in one pass over each vector.

Fast versions of ops/norm.py.
"""

import numpy as np

from engram_ref import ops
from engram_ref.backends.numba._buffers import aligned
from engram_ref.backends.numba._threads import jit, over_tokens
from engram_ref.backends.numba.vectors.sums import dot


def rms_norm(x: np.ndarray, gain: np.ndarray, eps: float | None) -> np.ndarray:
    """Fast version of ops.norm.rms_norm; gains of a different dtype or of an unusual shape use the definition."""
    x, gain = np.asarray(x), np.asarray(gain)
    if x.dtype.kind != "f" or x.dtype != gain.dtype or x.shape[-gain.ndim :] != gain.shape or gain.ndim == 0:
        return ops.rms_norm(x, gain, eps)
    D, y = x.shape[-1], aligned(x.shape, x.dtype)
    flat, gains, written = np.ascontiguousarray(x).reshape(-1), np.ascontiguousarray(gain).reshape(-1), y.reshape(-1)
    eps = machine_eps(x.dtype, eps)
    over_tokens(lambda a, b: _norm(flat, gains, D, eps, written, a, b), x.size // max(D, 1), x.nbytes)
    return y


def machine_eps(dtype: np.dtype, eps: float | None) -> np.floating:
    """Convert eps to the dtype; None means the dtype's machine epsilon."""
    return dtype.type(np.finfo(dtype).eps if eps is None else eps)


@jit
def _norm(x, gain, D, eps, y, start, stop):
    """Normalise vectors `start` to `stop`-1 of x [n*D]; gain is as long as one or several vectors."""
    one = x.dtype.type(1)
    for i in range(start, stop):
        # Reduce, then scale: the second read hits the cache
        inverse = one / np.sqrt(dot(x, i * D, x, i * D, D) / x.dtype.type(D) + eps)
        first = i * D % gain.size
        for d in range(D):
            y[i * D + d] = gain[first + d] * (x[i * D + d] * inverse)
