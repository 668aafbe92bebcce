"""Cross-entropy in two passes over the logits: the maximum, then the sum of exponentials.

Fast versions of ops/loss.py.
"""

import numpy as np

from engram_ref import ops
from engram_ref.backends.numba._threads import jit, over_tokens
from engram_ref.backends.numba.vectors.exp import exp_negative
from engram_ref.backends.numba.vectors.sums import dot
from engram_ref.checks import check_shapes

CHUNK = 512     # exponentials that are computed and added at a time
ELEMENTS = 2**16        # logits whose gradient is computed at a time: they stay in the second-level cache


def cross_entropy(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Fast version of ops.loss.cross_entropy."""
    logits, targets = np.asarray(logits), np.asarray(targets)
    V = logits.shape[-1]
    ops.check_ids(targets, V, False, "targets")
    check_shapes(targets=(targets, logits.shape[:-1]))
    if logits.dtype not in (np.float32, np.float64):
        return ops.cross_entropy(logits, targets)
    flat, flat_targets = np.ascontiguousarray(logits).reshape(-1, V), targets.reshape(-1)
    losses = np.empty(len(flat), logits.dtype)
    over_tokens(lambda a, b: _cross_entropy(flat, flat_targets, losses, a, b), len(flat), flat.nbytes)
    return losses.reshape(targets.shape)


def cross_entropy_vjp(upstream: np.ndarray, logits: np.ndarray, targets: np.ndarray) -> tuple:
    """Fast version of ops.cross_entropy_vjp: a few rows at a time."""
    V, found = logits.shape[-1], np.empty(logits.shape, logits.dtype)
    given, flat, written, wanted = logits.reshape(-1, V), upstream.reshape(-1, 1), found.reshape(-1, V), targets.ravel()
    step = max(ELEMENTS // V, 1)
    for first in range(0, len(given), step):
        rows = slice(first, first + step)
        p = np.subtract(given[rows], given[rows].max(axis=-1, keepdims=True), out=written[rows])
        np.exp(p, out=p)
        p *= flat[rows] / p.sum(axis=-1, keepdims=True)
    written[np.arange(len(wanted)), wanted] -= flat[:, 0]
    return found, None


@jit
def _cross_entropy(logits, targets, losses, start, stop):
    """Compute log(sum(exp(x - max))) + max - x[target] for rows `start` to `stop`-1."""
    V = logits.shape[1]
    buffer, ones = np.empty(CHUNK, logits.dtype), np.ones(CHUNK, logits.dtype)
    for i in range(start, stop):
        row = logits[i]
        largest = row.max()
        total = logits.dtype.type(0)
        # Add exponentials a chunk at a time, so that `dot` determines the order of the sum
        for first in range(0, V, CHUNK):
            part = row[first : first + CHUNK]
            for v in range(part.size):
                buffer[v] = exp_negative(part[v] - largest)
            total += dot(buffer, 0, ones, 0, part.size)
        losses[i] = np.log(total) + largest - row[targets[i]]
