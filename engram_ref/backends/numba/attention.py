"""Latent attention as matrix products, and for a few new tokens in one pass over the latents.

Fast versions of the two forms in ops/attention.py. The definition writes each sum over named axes, which NumPy computes
as a plain loop; for many tokens, BLAS multiplies matrices instead. A few tokens read the latents from memory once: a
chunk of positions stays in the cache while all heads compute their scores, the exponentials, and the weighted sum of
the latents. Every chunk has its own maximum, and the sums of all chunks are scaled to the largest one at the end:

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
from engram_ref.backends.numba.vectors.lines import Lines
from engram_ref.backends.numba.vectors.products import product_of
from engram_ref.backends.numba.vectors.sums import dot
from engram_ref.checks import check_shapes

MOST_TOKENS = 2     # new tokens of a sequence for which one pass pays
CHUNK = 256         # positions: 512 KB of float32 latents, which fit in the second-level cache
PATIENCE = 5000     # looks at the other threads' progress, some ten microseconds, before a thread sleeps for a moment
POSITIONS = ROWS = 8        # of one product: with more, their sums would not stay in registers
STREAMED = 8        # lines of a weight that are read at a time

one_line, one_vector, two_vectors = product_of(1, 2), product_of(POSITIONS, 1, ahead=True), product_of(ROWS, 2)


def per_head(c_kv: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Every head's projection of the latents: [B, S, r], [A, d, r] -> [B, A, S, d], one product for all heads."""
    (B, S, r), (A, d, _) = c_kv.shape, weight.shape
    projected = c_kv.reshape(B * S, r) @ weight.reshape(A * d, r).T          # [B*S, A*d]
    return projected.reshape(B, S, A, d).transpose(0, 2, 1, 3)


def together(x: np.ndarray) -> np.ndarray:
    """Heads and tokens as the rows of one matrix: [B, A, T, n] -> [B, A*T, n]."""
    B, A, T, n = x.shape
    return x.reshape(B, A * T, n)


def blocks(x: np.ndarray) -> tuple[np.ndarray, int]:
    """x [n, i, j] as a flat array, and the distance of its blocks [i, j] there.

    Nothing is copied if x is contiguous or a slice along its second axis.
    """
    n, i, j = x.shape
    step, between = divmod(x.strides[0], x.itemsize)
    if x.flags.c_contiguous or x.strides[1:] != (j * x.itemsize, x.itemsize) or step < i * j or between:
        return np.ascontiguousarray(x).reshape(-1), i * j
    return as_strided(x, ((n - 1) * step + i * j,), (x.itemsize,)), step


def is_small(q_nope: np.ndarray, q_pe: np.ndarray, c_kv: np.ndarray, k_pe: np.ndarray, w_uk: np.ndarray,
             w_uv: np.ndarray) -> bool:
    """Whether `absorbed` takes these: few tokens, one dtype, latents of whole pairs of vectors."""
    T, (_, S, r), dtype = q_nope.shape[1], c_kv.shape, c_kv.dtype
    return (0 < T <= MOST_TOKENS and S > 0 and r % (2 * BYTES // dtype.itemsize) == 0
            and dtype in (np.float32, np.float64)
            and all(array.dtype == dtype for array in (q_nope, q_pe, k_pe, w_uk, w_uv)))


def absorbed(q_nope: np.ndarray, q_pe: np.ndarray, c_kv: np.ndarray, k_pe: np.ndarray, w_uk: np.ndarray,
             w_uv: np.ndarray, allowed: np.ndarray, scale: float) -> np.ndarray:
    """Fast version of ops.attend_absorbed for a few new tokens; arguments as `is_small` wants them."""
    (B, T, A, dn), (_, S, r), dr, dv, dtype = q_nope.shape, c_kv.shape, k_pe.shape[2], w_uv.shape[1], c_kv.dtype
    check_shapes(q_pe=(q_pe, (B, T, A, dr)), c_kv=(c_kv, (B, S, r)), k_pe=(k_pe, (B, S, dr)),
                 w_uk=(w_uk, (A, dn, r)), w_uv=(w_uv, (A, dv, r)), allowed=(allowed, (B, T, S)))
    lanes, chunks = BYTES // dtype.itemsize, -(-S // CHUNK)
    rows = -(-T * A // lanes) * lanes
    space, size = aligned((B * (r + dr + chunks * r) * rows,), dtype), B * (r + dr) * rows
    queries, contexts = space[:size].reshape(B, r + dr, rows), space[size:].reshape(B, chunks, rows, r)
    queries[..., T * A :] = 0
    maxima, out = np.empty((2, B, chunks, rows), dtype), np.empty((B, T, A, dv), dtype)
    q_nope, q_pe, allowed = (np.ascontiguousarray(x) for x in (q_nope, q_pe, allowed))
    keys, values, latents, positions = blocks(w_uk), blocks(w_uv), blocks(c_kv), blocks(k_pe)
    scaled, counters, read = dtype.type(scale), np.zeros(6, np.int64), w_uk.nbytes + c_kv.nbytes + w_uv.nbytes
    in_parallel(lambda: _attend(q_nope, q_pe, keys, latents, positions, values, allowed, scaled, queries, contexts,
                                maxima, out, counters), 2 * read)      # it is also multiplied, which takes as long
    return out


@jit
def _attend(q_nope, q_pe, keys, latents, positions, values, allowed, scale, queries, contexts, maxima, out, counters):
    """One thread's part of all three phases, each of which needs the one before; counters: pieces taken, finished."""
    heads, chunks = q_nope.shape[2], contexts.shape[0] * contexts.shape[1]
    for phase in range(3):
        pieces = chunks if phase == 1 else heads
        i = fetch_add(counters, phase, 1)
        while i < pieces:
            if phase == 0:
                _queries(q_nope, q_pe, keys, scale, queries, i)
            elif phase == 1:
                _chunk(queries, latents, positions, allowed, heads, contexts, maxima, i)
            else:
                _head(contexts, maxima, values, out, i)
            fetch_add(counters, 3 + phase, 1)
            i = fetch_add(counters, phase, 1)
        # Others may still compute their last piece
        patience = PATIENCE
        while fetch_add(counters, 3 + phase, 0) < pieces:
            patience -= 1
            if patience == 0:
                return False
    return True


@jit
def _queries(q_nope, q_pe, keys, scale, queries, a):
    """Queries of head a in the latents' space: queries [B, r + dr, rows]."""
    (B, T, A, dn), dr, r = q_nope.shape, q_pe.shape[3], queries.shape[1] - q_pe.shape[3]
    (weight, step), nope, line = keys, q_nope.reshape(q_nope.size), np.zeros(r, q_nope.dtype)
    pair = 2 * BYTES // line.itemsize
    for row in range(B * T):
        # W_UK's part, some lines of it at a time: they are read from memory one after the other
        for n in range(0, dn, STREAMED):
            factors = Lines(nope, (row * A + a) * dn + n, 0)
            for k in range(0, r, pair):
                one_line(factors, 1, 0, Lines(weight, a * step + n * r + k, r), min(STREAMED, dn - n),
                         n == 0, Lines(line, k, 0))
        # Scaled, one column for each row
        b = row // T
        t = row - b * T
        for k in range(r):
            queries[b, k, t * A + a] = scale * line[k]
        for k in range(dr):
            queries[b, r + k, t * A + a] = scale * q_pe[b, t, a, k]


@jit
def _chunk(queries, latents, positions, allowed, A, contexts, maxima, i):
    """Chunk i, counted through all sequences: contexts [B, chunks, rows, r], maxima and sums."""
    (_, chunks, rows, r), S = contexts.shape, allowed.shape[2]
    dr, query, written = queries.shape[1] - r, queries.reshape(queries.size), contexts.reshape(contexts.size)
    weights = np.empty(CHUNK * rows, contexts.dtype)
    lanes = BYTES // contexts.itemsize
    b = i // chunks
    chunk = i - b * chunks
    first = chunk * CHUNK
    count = min(CHUNK, S - first)
    # Scores [positions, rows], eight positions at a time: the latents' part, then that of the rotary keys
    for s in range(0, count, POSITIONS):
        last = min(POSITIONS, count - s) - 1
        latent = Lines(latents[0], b * latents[1] + (first + s) * r, r)
        key = Lines(positions[0], b * positions[1] + (first + s) * dr, dr)
        for row in range(0, rows, lanes):
            at = b * (r + dr) * rows + row
            scores = Lines(weights, s * rows + row, rows)
            one_vector(latent, 1, last, Lines(query, at, rows), r, True, scores)
            one_vector(key, 1, last, Lines(query, at + r * rows, rows), dr, False, scores)
    # Their exponentials
    used = weights[: count * rows].reshape(count, rows)
    _mask(allowed[b, :, first : first + count], A, used)
    _exponentials(used, maxima[0, b, chunk], maxima[1, b, chunk])
    # The weighted sum of the latents, while they are in the cache
    for row in range(0, rows, ROWS):
        for k in range(0, r, 2 * lanes):
            two_vectors(Lines(weights, row, 1), rows, ROWS - 1,
                        Lines(latents[0], b * latents[1] + first * r + k, r), count, True,
                        Lines(written, (i * rows + row) * r + k, r))


@jit
def _mask(allowed, A, scores):
    """Scores [n, rows] of what a token [T, n] may not see become -inf."""
    T, n = allowed.shape
    for s in range(n):
        for t in range(T):
            if not allowed[t, s]:
                for row in range(t * A, t * A + A):
                    scores[s, row] = -np.inf


@jit
def _exponentials(scores, largest, total):
    """scores [n, rows] become e^(score - the row's largest); total is their sum. Where all are -inf, they become 0."""
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
    """e^x in place, x <= 0; one loop by itself, so that LLVM vectorises it."""
    for i in range(x.size):
        x[i] = exp_negative(x[i])


@jit
def _head(contexts, maxima, values, out, a):
    """The answers of head a: out [B, T, A, dv]."""
    (B, chunks, rows, r), (_, T, A, dv) = contexts.shape, out.shape
    (weight, step), summed = values, contexts.reshape(contexts.size)
    line, factors = np.empty(r, out.dtype), np.empty(chunks, out.dtype)
    for b in range(B):
        for t in range(T):
            # Chunks have weights relative to their own largest score
            row = t * A + a
            largest, total = maxima[0, b, :, row].max(), out.dtype.type(0)
            for i in range(chunks):
                factors[i] = exp_negative(maxima[0, b, i, row] - largest)
                total += factors[i] * maxima[1, b, i, row]
            for k in range(0, r, 2 * BYTES // line.itemsize):
                one_line(Lines(factors, 0, 0), 1, 0, Lines(summed, (b * chunks * rows + row) * r + k, rows * r),
                         chunks, True, Lines(line, k, 0))
            # W_UV's part
            for v in range(dv):
                out[b, t, a, v] = dot(line, 0, weight, a * step + v * r, r) / total
