"""Sinkhorn's normalisation and its gradient, one small matrix at a time with all of its half-steps.

Fast versions of ops/branches.py and ops/vjp/branches.py, for the form without eps. Dividing by sums needs no logarithm
and no exponential, except for the first column sums. Where a sum is so small that underflow could matter, the matrix is
computed again in logarithms, as the definition does.
"""

import numpy as np

from engram_ref.backends.numba._threads import jit, over_tokens

SMALLEST_SUM = 1e-20        # numbers that underflow in float32 are smaller than this by a factor of 2^-59


def sinkhorn(logits: np.ndarray, iterations: int) -> np.ndarray:
    """Fast version of ops.sinkhorn with eps 0: float [..., M, M]."""
    flat, y = matrices(logits), np.empty(logits.shape, logits.dtype)
    written = y.reshape(flat.shape)
    over_tokens(lambda a, b: _sinkhorn(flat, iterations, written, a, b), len(flat), iterations * flat.nbytes)
    return y


def sinkhorn_vjp(upstream: np.ndarray, logits: np.ndarray, iterations: int) -> np.ndarray:
    """Fast version of the gradient in ops.sinkhorn_vjp with eps 0."""
    flat, given = matrices(logits), matrices(np.asarray(upstream, logits.dtype))
    found = np.empty(logits.shape, logits.dtype)
    written = found.reshape(flat.shape)
    over_tokens(lambda a, b: _sinkhorn_vjp(given, flat, iterations, written, a, b), len(flat), iterations * flat.nbytes)
    return found


def matrices(x: np.ndarray) -> np.ndarray:
    """View [..., M, M] as contiguous [n, M, M]."""
    return np.ascontiguousarray(x).reshape(x.size // max(x.shape[-1] ** 2, 1), *x.shape[-2:])


@jit
def _sinkhorn(logits, iterations, y, start, stop):
    """Normalise matrices `start` to `stop`-1."""
    M = logits.shape[1]
    results = np.empty((2 * iterations, M, M), logits.dtype)
    for n in range(start, stop):
        _half_steps(logits[n], results)
        y[n] = results[2 * iterations - 1]


@jit
def _sinkhorn_vjp(upstream, logits, iterations, found, start, stop):
    """Go forward through all half-steps and keep their results, then backward."""
    M = logits.shape[1]
    results = np.empty((2 * iterations, M, M), logits.dtype)
    for n in range(start, stop):
        _half_steps(logits[n], results)
        gradient = upstream[n] * results[2 * iterations - 1]         # of the logarithms
        for i in range(2 * iterations - 1, -1, -1):
            for line in range(M):
                g = gradient[:, line] if i % 2 == 0 else gradient[line]
                p = results[i, :, line] if i % 2 == 0 else results[i, line]
                total = g.sum()
                for k in range(M):
                    g[k] -= p[k] * total
        found[n] = gradient


@jit
def _half_steps(logits, results):
    """Write the matrix after each half-step: [M, M] -> [2 * iterations, M, M]; even ones normalise columns."""
    M = len(logits)
    for j in range(M):
        largest = logits[:, j].max()
        for k in range(M):
            results[0, k, j] = np.exp(logits[k, j] - largest)
    for i in range(len(results)):
        if i:
            results[i] = results[i - 1]
        for j in range(M):
            line = results[i, :, j] if i % 2 == 0 else results[i, j]
            total = line.sum()
            if not total > SMALLEST_SUM:
                return _half_steps_in_logarithms(logits, results)
            for k in range(M):
                line[k] /= total
    return None


@jit
def _half_steps_in_logarithms(logits, results):
    """Compute the same in logarithms, which can represent every number."""
    M, matrix = len(logits), logits.copy()
    for i in range(len(results)):
        for j in range(M):
            line = matrix[:, j] if i % 2 == 0 else matrix[j]
            largest = line.max()
            shift = largest + np.log(np.exp(line - largest).sum())
            for k in range(M):
                line[k] -= shift
        results[i] = np.exp(matrix)
