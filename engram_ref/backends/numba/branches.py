"""Sinkhorn's normalisation and its gradient, LANES matrices at a time with all of their half-steps.

Fast versions of ops/branches.py and ops/vjp/branches.py, for the form without eps. Equal elements of the matrices of a
block are adjacent, so that every step is computed with vectors. Dividing by sums needs no logarithm and no exponential,
except for the first column sums. Where a sum is so small that underflow could matter, the matrix is computed again in
logarithms, as the definition does.
"""

import numpy as np

from engram_ref.backends.numba._threads import jit, over_tokens
from engram_ref.backends.numba.vectors.exp import exp_negative

SMALLEST_SUM = 1e-20        # numbers that underflow in float32 are smaller than this by a factor of 2^-59
LANES = 16                  # matrices in a block


def sinkhorn(logits: np.ndarray, iterations: int) -> np.ndarray:
    """Fast version of ops.sinkhorn with eps 0: float [..., M, M]."""
    flat, y = matrices(logits), np.empty(logits.shape, logits.dtype)
    in_blocks(flat, flat, iterations, False, y.reshape(flat.shape))
    return y


def sinkhorn_vjp(upstream: np.ndarray, logits: np.ndarray, iterations: int) -> np.ndarray:
    """Fast version of the gradient in ops.sinkhorn_vjp with eps 0."""
    flat, given = matrices(logits), matrices(np.asarray(upstream, logits.dtype))
    found = np.empty(logits.shape, logits.dtype)
    in_blocks(given, flat, iterations, True, found.reshape(flat.shape))
    return found


def matrices(x: np.ndarray) -> np.ndarray:
    """View [..., M, M] as contiguous [n, M, M]."""
    return np.ascontiguousarray(x).reshape(x.size // max(x.shape[-1] ** 2, 1), *x.shape[-2:])


def in_blocks(upstream: np.ndarray, logits: np.ndarray, iterations: int, backward: bool, written: np.ndarray) -> None:
    """Write the results or the gradients of matrices [n, M, M]; the blocks do not depend on the number of threads."""
    over_tokens(lambda a, b: _sinkhorn(upstream, logits, iterations, backward, written, a, b),
                -(-len(logits) // LANES), iterations * logits.nbytes)


@jit
def _sinkhorn(upstream, logits, iterations, backward, written, start, stop):
    """Compute blocks `start` to `stop`-1."""
    n, M, _ = logits.shape
    steps = 2 * iterations
    results, block = np.empty((steps, M, M, LANES), logits.dtype), np.zeros((M, M, LANES), logits.dtype)
    for first in range(start * LANES, min(stop * LANES, n), LANES):
        lanes = min(LANES, n - first)
        _transpose(logits, first, lanes, block)
        _half_steps(block, lanes, results)
        if backward:
            _transpose(upstream, first, lanes, block)
            _backward(results, block)
        for lane in range(lanes):
            for i in range(M):
                for j in range(M):
                    written[first + lane, i, j] = block[i, j, lane] if backward else results[steps - 1, i, j, lane]


@jit
def _transpose(x, first, lanes, block):
    """Copy matrices x[first : first + lanes] to block [M, M, LANES]; other lanes keep their numbers."""
    for lane in range(lanes):
        for i in range(len(block)):
            for j in range(len(block)):
                block[i, j, lane] = x[first + lane, i, j]


@jit
def _half_steps(logits, lanes, results):
    """Write the matrices [M, M, LANES] after each half-step to results; even half-steps normalise columns."""
    M, one = len(logits), logits.dtype.type(1)
    total = np.empty(LANES, logits.dtype)
    smallest = np.full(LANES, np.inf, logits.dtype)
    # Start with exp(logits - column maximum)
    for j in range(M):
        total[:] = logits[0, j]
        for i in range(1, M):
            for lane in range(LANES):
                total[lane] = max(total[lane], logits[i, j, lane])
        for i in range(M):
            for lane in range(LANES):
                results[0, i, j, lane] = exp_negative(logits[i, j, lane] - total[lane])
    # Divide by sums of columns or rows
    for step in range(len(results)):
        before = results[max(step - 1, 0)]
        for line in range(M):
            total[:] = 0
            for k in range(M):
                i, j = (k, line) if step % 2 == 0 else (line, k)
                for lane in range(LANES):
                    total[lane] += before[i, j, lane]
            for lane in range(LANES):
                smallest[lane] = min(smallest[lane], total[lane])
                total[lane] = one / total[lane]
            for k in range(M):
                i, j = (k, line) if step % 2 == 0 else (line, k)
                for lane in range(LANES):
                    results[step, i, j, lane] = before[i, j, lane] * total[lane]
    for lane in range(lanes):
        if not smallest[lane] > SMALLEST_SUM:
            _half_steps_in_logarithms(logits[:, :, lane], results[:, :, :, lane])


@jit
def _backward(results, gradient):
    """Replace the gradients of the last results by those of the logits, [M, M, LANES]."""
    steps, M = results.shape[:2]
    total = np.empty(LANES, gradient.dtype)
    for i in range(M):
        for j in range(M):
            for lane in range(LANES):
                gradient[i, j, lane] *= results[steps - 1, i, j, lane]         # of the logarithms
    for step in range(steps - 1, -1, -1):
        for line in range(M):
            total[:] = 0
            for k in range(M):
                i, j = (k, line) if step % 2 == 0 else (line, k)
                for lane in range(LANES):
                    total[lane] += gradient[i, j, lane]
            for k in range(M):
                i, j = (k, line) if step % 2 == 0 else (line, k)
                for lane in range(LANES):
                    gradient[i, j, lane] -= results[step, i, j, lane] * total[lane]


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
