"""Absorbed attention: matrix products for many tokens, one pass over the latents for a few new tokens.

Fast versions of ops.attend_absorbed. The definition writes each sum over named axes, which NumPy computes
in a plain loop; for many tokens, BLAS matrix products replace it. For a few tokens, the latents are read from memory
only once: a chunk of positions stays in the cache while the scores, the exponentials and the weighted sum of the
latents are computed for all heads. Each chunk has its own maximum; finally all sums are rescaled to the overall one:

    m_i = max_s score[s],  z_i = sum_s e^(score[s] - m_i),  x_i = sum_s e^(score[s] - m_i) c[s]     for s in chunk i
    context = sum_i f_i x_i / sum_i f_i z_i,   f_i = e^(m_i - m),   m = max_i m_i
"""

import numpy as np
from numpy.lib.stride_tricks import as_strided

from engram_ref.backends.numba._buffers import aligned
from engram_ref.backends.numba._threads import in_parallel, jit
from engram_ref.backends.numba.vectors.atomics import fetch_add
from engram_ref.backends.numba.vectors.exp import exp_negative
from engram_ref.backends.numba.vectors.instructions import BYTES
from engram_ref.backends.numba.vectors.products import product_of
from engram_ref.backends.numba.vectors.sums import dot
from engram_ref.backends.numba.vectors.taps import Strided
from engram_ref.checks import check_shapes

MAX_TOKENS = 2      # new tokens per sequence; with more, one pass is not faster
CHUNK = 256         # positions: 512 KB of float32 latents, which fit into the second-level cache
POLLS = 5000        # of the other threads' progress, about ten microseconds, before a thread sleeps briefly
POSITIONS = ROWS = 8        # per product: with more, the sums would not stay in registers
WEIGHT_ROWS = 8     # rows of a weight that are read at a time

one_row, one_vector, two_vectors = product_of(1, 2), product_of(POSITIONS, 1, ahead=True), product_of(ROWS, 2)


def flatten_heads(x: np.ndarray) -> np.ndarray:
    """Flatten heads and tokens into the rows of one matrix: [B, A, T, n] -> [B, A*T, n]."""
    B, A, T, n = x.shape
    return x.reshape(B, A * T, n)


def blocks(x: np.ndarray) -> tuple[np.ndarray, int]:
    """Flatten x [n, i, j]; return the flat array and the distance between its blocks [i, j].

    Nothing is copied if x is contiguous or a slice along its second axis.
    """
    n, i, j = x.shape
    step, between = divmod(x.strides[0], x.itemsize)
    if x.flags.c_contiguous or x.strides[1:] != (j * x.itemsize, x.itemsize) or step < i * j or between:
        return np.ascontiguousarray(x).reshape(-1), i * j
    return as_strided(x, ((n - 1) * step + i * j,), (x.itemsize,)), step


def is_small(q_nope: np.ndarray, q_pe: np.ndarray, c_kv: np.ndarray, k_pe: np.ndarray, w_uk: np.ndarray,
             w_uv: np.ndarray) -> bool:
    """Whether `absorbed` accepts these: few tokens, one dtype, a latent width that is a multiple of two vectors."""
    T, (_, S, r), dtype = q_nope.shape[1], c_kv.shape, c_kv.dtype
    return (0 < T <= MAX_TOKENS and S > 0 and r % (2 * BYTES // dtype.itemsize) == 0
            and dtype in (np.float32, np.float64)
            and all(array.dtype == dtype for array in (q_nope, q_pe, k_pe, w_uk, w_uv)))


def absorbed(q_nope: np.ndarray, q_pe: np.ndarray, c_kv: np.ndarray, k_pe: np.ndarray, w_uk: np.ndarray,
             w_uv: np.ndarray, allowed: np.ndarray, scale: float) -> np.ndarray:
    """Fast version of ops.attend_absorbed for a few new tokens, if `is_small` accepts the arguments."""
    (B, T, A, dn), (_, S, r), dr, dv, dtype = q_nope.shape, c_kv.shape, k_pe.shape[2], w_uv.shape[1], c_kv.dtype
    check_shapes(q_pe=(q_pe, (B, T, A, dr)), c_kv=(c_kv, (B, S, r)), k_pe=(k_pe, (B, S, dr)),
                 w_uk=(w_uk, (A, dn, r)), w_uv=(w_uv, (A, dv, r)), allowed=(allowed, (B, T, S)))
    lanes, chunks = BYTES // dtype.itemsize, -(-S // CHUNK)
    rows = -(-T * A // lanes) * lanes
    buffer, size = aligned((B * (r + dr + chunks * r) * rows,), dtype), B * (r + dr) * rows
    queries, contexts = buffer[:size].reshape(B, r + dr, rows), buffer[size:].reshape(B, chunks, rows, r)
    queries[..., T * A :] = 0
    maxima, out = np.empty((2, B, chunks, rows), dtype), np.empty((B, T, A, dv), dtype)
    q_nope, q_pe, allowed = (np.ascontiguousarray(x) for x in (q_nope, q_pe, allowed))
    keys, values, latents, positions = blocks(w_uk), blocks(w_uv), blocks(c_kv), blocks(k_pe)
    scaled, counters, read = dtype.type(scale), np.zeros(6, np.int64), w_uk.nbytes + c_kv.nbytes + w_uv.nbytes
    in_parallel(lambda: _attend(q_nope, q_pe, keys, latents, positions, values, allowed, scaled, queries, contexts,
                                maxima, out, counters), 2 * read)      # multiplying takes as long as reading
    return out


@jit
def _attend(q_nope, q_pe, keys, latents, positions, values, allowed, scale, queries, contexts, maxima, out, counters):
    """Run one thread's part of three consecutive phases; counters [6]: tasks started and tasks finished, per phase."""
    heads, chunks = q_nope.shape[2], contexts.shape[0] * contexts.shape[1]
    for phase in range(3):
        tasks = chunks if phase == 1 else heads
        i = fetch_add(counters, phase, 1)
        while i < tasks:
            if phase == 0:
                _queries(q_nope, q_pe, keys, scale, queries, i)
            elif phase == 1:
                _chunk(queries, latents, positions, allowed, heads, contexts, maxima, i)
            else:
                _head(contexts, maxima, values, out, i)
            fetch_add(counters, 3 + phase, 1)
            i = fetch_add(counters, phase, 1)
        # Poll until the other threads have finished their last tasks; give up after a while
        polls = POLLS
        while fetch_add(counters, 3 + phase, 0) < tasks:
            polls -= 1
            if polls == 0:
                return False
    return True


@jit
def _queries(q_nope, q_pe, keys, scale, queries, a):
    """Project the queries of head a into the latent space and store them in queries [B, r + dr, rows]."""
    (B, T, A, dn), dr, r = q_nope.shape, q_pe.shape[3], queries.shape[1] - q_pe.shape[3]
    (weight, step), nope, projected = keys, q_nope.reshape(q_nope.size), np.zeros(r, q_nope.dtype)
    pair = 2 * BYTES // projected.itemsize
    for row in range(B * T):
        # Multiply by W_UK, a few of its rows at a time, so that memory is read sequentially
        for n in range(0, dn, WEIGHT_ROWS):
            factors = Strided(nope, (row * A + a) * dn + n, 0)
            for k in range(0, r, pair):
                one_row(factors, 1, 0, Strided(weight, a * step + n * r + k, r), min(WEIGHT_ROWS, dn - n),
                        n == 0, Strided(projected, k, 0))
        # Scale, and store transposed: one column per token and head
        b = row // T
        t = row - b * T
        for k in range(r):
            queries[b, k, t * A + a] = scale * projected[k]
        for k in range(dr):
            queries[b, r + k, t * A + a] = scale * q_pe[b, t, a, k]


@jit
def _chunk(queries, latents, positions, allowed, A, contexts, maxima, i):
    """Compute contexts [B, chunks, rows, r], maxima and sums of chunk i, numbered across all sequences."""
    (_, chunks, rows, r), S = contexts.shape, allowed.shape[2]
    dr, query, written = queries.shape[1] - r, queries.reshape(queries.size), contexts.reshape(contexts.size)
    weights = np.empty(CHUNK * rows, contexts.dtype)
    lanes = BYTES // contexts.itemsize
    b = i // chunks
    chunk = i - b * chunks
    first = chunk * CHUNK
    count = min(CHUNK, S - first)
    # Compute scores [positions, rows], eight positions at a time: the latent part, then the rotary part
    for s in range(0, count, POSITIONS):
        last = min(POSITIONS, count - s) - 1
        latent = Strided(latents[0], b * latents[1] + (first + s) * r, r)
        key = Strided(positions[0], b * positions[1] + (first + s) * dr, dr)
        for row in range(0, rows, lanes):
            at = b * (r + dr) * rows + row
            scores = Strided(weights, s * rows + row, rows)
            one_vector(latent, 1, last, Strided(query, at, rows), r, True, scores)
            one_vector(key, 1, last, Strided(query, at + r * rows, rows), dr, False, scores)
    # Replace the scores by exponentials
    used = weights[: count * rows].reshape(count, rows)
    _mask(allowed[b, :, first : first + count], A, used)
    _exponentials(used, maxima[0, b, chunk], maxima[1, b, chunk])
    # Compute the weighted sum of the latents while they are in the cache
    for row in range(0, rows, ROWS):
        for k in range(0, r, 2 * lanes):
            two_vectors(Strided(weights, row, 1), rows, ROWS - 1,
                        Strided(latents[0], b * latents[1] + first * r + k, r), count, True,
                        Strided(written, (i * rows + row) * r + k, r))


@jit
def _mask(allowed, A, scores):
    """Set scores [n, rows] to -inf in place wherever `allowed` [T, n] is False."""
    T, n = allowed.shape
    for s in range(n):
        for t in range(T):
            if not allowed[t, s]:
                for row in range(t * A, t * A + A):
                    scores[s, row] = -np.inf


@jit
def _exponentials(scores, largest, total):
    """Replace scores [n, rows] by e^(score - row maximum); store row maxima and sums. Rows of only -inf become 0."""
    n, rows = scores.shape
    largest[:] = -np.inf
    for s in range(n):
        for row in range(rows):
            largest[row] = max(largest[row], scores[s, row])
    for s in range(n):
        for row in range(rows):
            scores[s, row] -= 0 if largest[row] == -np.inf else largest[row]
    _exponentiate(scores.reshape(scores.size))
    total[:] = 0
    for s in range(n):
        for row in range(rows):
            total[row] += scores[s, row]


@jit
def _exponentiate(x):
    """Replace x <= 0 by e^x in place; a separate loop, so that LLVM vectorises it."""
    for i in range(x.size):
        x[i] = exp_negative(x[i])


@jit
def _head(contexts, maxima, values, out, a):
    """Combine the chunks of head a and project them into out [B, T, A, dv]."""
    (B, chunks, rows, r), (_, T, A, dv) = contexts.shape, out.shape
    (weight, step), summed = values, contexts.reshape(contexts.size)
    context, factors = np.empty(r, out.dtype), np.empty(chunks, out.dtype)
    for b in range(B):
        for t in range(T):
            # Rescale the chunks from their own maxima to the overall maximum, and add them
            row = t * A + a
            largest, total = maxima[0, b, :, row].max(), out.dtype.type(0)
            for i in range(chunks):
                factors[i] = exp_negative(maxima[0, b, i, row] - largest)
                total += factors[i] * maxima[1, b, i, row]
            for k in range(0, r, 2 * BYTES // context.itemsize):
                one_row(Strided(factors, 0, 0), 1, 0, Strided(summed, (b * chunks * rows + row) * r + k, rows * r),
                        chunks, True, Strided(context, k, 0))
            # Multiply by W_UV
            for v in range(dv):
                out[b, t, a, v] = dot(context, 0, weight, a * step + v * r, r) / total
