"""The gate in one pass: each branch is read once for both norms, the dot product, the root and the sigmoid.

Fast versions of ops/gate.py. With the norms factored out of the dot product, one pass over the state and the key
computes all three sums of a score:

    s = sum(h (gq gk) k) / sqrt(mean h^2 + eps) / sqrt(mean k^2 + eps) / sqrt(D)
"""

import math

import numpy as np

from engram_ref.backends.numba._buffers import aligned, result
from engram_ref.backends.numba._threads import jit, over_tokens
from engram_ref.backends.numba.norm import machine_eps
from engram_ref.backends.numba.vectors.exp import sigmoid
from engram_ref.backends.numba.vectors.sums import triple
from engram_ref.checks import check_shapes
from engram_ref.errors import InputError
from engram_ref.ops.gate import ROOT_CLAMP

SCORE, SIGMOID, SIGNED_ROOT, COPYSIGN_ROOT = range(4)
FORMS = {"sigmoid": SIGMOID, "signed_sqrt": SIGNED_ROOT, "copysign_sqrt": COPYSIGN_ROOT}
"""Gate form -> its number in the kernel."""


def factored_score(hidden: np.ndarray, key: np.ndarray, query_gain: np.ndarray, key_gain: np.ndarray,
                   eps: float | None) -> np.ndarray:
    """Fast version of ops.gate.factored_score."""
    B, T, M, D = hidden.shape
    if hidden.dtype.kind != "f":
        raise InputError("hidden", "float32 or float64", str(hidden.dtype))
    check_shapes(key=(key, hidden.shape), query_gain=(query_gain, (M, D)), key_gain=(key_gain, (M, D)))
    scores = aligned((B * T, M), hidden.dtype)
    score_and_gate(hidden.reshape(B * T, M, D), key.reshape(B * T, M, D), query_gain * key_gain, eps, SCORE, scores)
    return scores.reshape(B, T, M)


def score_and_gate(hidden: np.ndarray, key: np.ndarray, gain: np.ndarray, eps: float | None, form: int,
                   gates: np.ndarray) -> None:
    """Compute the scores of some tokens, or the gates that a form computes from the scores.

    hidden, key   [n, M, D] of one dtype
    gain          [M, D], the product of both gains
    form          one of FORMS's numbers, or SCORE for the scores themselves
    gates         [n, M], written
    """
    arrays = [np.ascontiguousarray(array, dtype=hidden.dtype) for array in (hidden, key, gain)]
    eps = machine_eps(hidden.dtype, eps)
    over_tokens(lambda a, b: _gate(*arrays, eps, form, gates, a, b), len(hidden), 2 * hidden.nbytes)


def apply_gate(alpha: np.ndarray, value: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Fast version of ops.gate.apply_gate."""
    check_shapes(value=(value, (*alpha.shape[:-1], value.shape[-1])))
    gated = result(out, (*alpha.shape, value.shape[-1]), np.result_type(alpha, value), alpha, value)
    return np.multiply(alpha[..., None], value[:, :, None, :], out=gated)


@jit
def _gate(hidden, key, gain, eps, form, gates, start, stop):
    """Compute the scores or gates of tokens `start` to `stop`-1."""
    _, M, D = hidden.shape
    h, k, g = hidden.reshape(hidden.size), key.reshape(key.size), gain.reshape(gain.size)
    real = hidden.dtype.type
    one, width, root_width = real(1), real(D), real(math.sqrt(D))
    for t in range(start, stop):
        for m in range(M):
            # Compute all sums in one pass over state and key
            at = (t * M + m) * D
            hh, kk, hgk = triple(h, at, k, at, g, m * D, D)
            # Normalise the product, then apply the gate's form
            s = hgk * (one / np.sqrt(hh / width + eps)) * (one / np.sqrt(kk / width + eps)) / root_width
            gates[t, m] = s if form == SCORE else sigmoid(_root(s, form, real(ROOT_CLAMP)), one)


@jit
def _root(s, form, clamp):
    """Return the argument of the form's sigmoid: the score, or its signed root."""
    if form == SIGMOID or s != s:
        return s
    root = np.sqrt(max(abs(s), clamp))
    if form == SIGNED_ROOT:
        return root * np.sign(s)
    return math.copysign(root, s)
