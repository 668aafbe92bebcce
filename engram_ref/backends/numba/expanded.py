"""Expanded attention and its gradient, one text at a time, so that the scores of its heads stay in the cache.

Fast versions of ops.attend_expanded and, in place of the VJPs of its steps, of their composition. Queries q and keys k
consist of the channels without position and the rotary ones, and q is scaled. With p = softmax(q k^T),

    d scores = p (upstream v^T - <upstream v^T, p>)        d q = d scores k        d k = d scores^T q
"""

import numpy as np

from engram_ref.backends.numba._threads import jit, over_tokens
from engram_ref.backends.numba.gradients import softmaxes
from engram_ref.backends.numba.vectors.exp import exp_negative
from engram_ref.backends.numba.vectors.sums import dot
from engram_ref.checks import check_shapes
from engram_ref.ops.record import Record, ignore

LANES = 16      # maxima


def by_head(*parts: np.ndarray) -> np.ndarray:
    """Concatenate the channels of parts [B, T, A, n]; a part [B, T, n] is the same for all heads: -> [B, A, T, sum]."""
    heads = max(x.shape[2] for x in parts if x.ndim == 4)
    return np.concatenate([np.broadcast_to(x[:, :, None], (*x.shape[:2], heads, x.shape[2])) if x.ndim == 3 else x
                           for x in parts], axis=-1).transpose(0, 2, 1, 3).copy()


def project(c_kv: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Project the latents for all heads in one matrix product: [B, S, r], [A, d, r] -> [B, S, A, d]."""
    (B, S, r), (A, d, _) = c_kv.shape, weight.shape
    return (c_kv.reshape(B * S, r) @ weight.reshape(A * d, r).T).reshape(B, S, A, d)


def project_vjp(upstream: np.ndarray, c_kv: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the gradients of c_kv and weight: upstream [B, A, S, d]."""
    (B, S, r), (A, d, _) = c_kv.shape, weight.shape
    flat = upstream.transpose(0, 2, 1, 3).reshape(B * S, A * d)
    return ((flat @ weight.reshape(A * d, r)).reshape(B, S, r),
            (flat.T @ c_kv.reshape(B * S, r)).reshape(A, d, r))


def probabilities(query: np.ndarray, key: np.ndarray, allowed: np.ndarray, p: np.ndarray) -> None:
    """Write the attention weights of one text: scaled queries [A, T, n], [A, S, n], bool [T, S] -> p [A, T, S]."""
    np.matmul(query, key.swapaxes(1, 2), out=p)
    over_tokens(lambda a, b: _softmax(p, allowed, a, b), p.shape[0] * p.shape[1], p.nbytes)


def attend_expanded(q_nope: np.ndarray, q_pe: np.ndarray, c_kv: np.ndarray, k_pe: np.ndarray, w_uk: np.ndarray,
                    w_uv: np.ndarray, allowed: np.ndarray, scale: float, record: Record = ignore) -> np.ndarray:
    """Fast version of ops.attend_expanded."""
    query, key = scale * by_head(q_nope, q_pe), by_head(project(c_kv, w_uk), k_pe)
    value = project(c_kv, w_uv).transpose(0, 2, 1, 3)
    (B, A, T, _), S = query.shape, key.shape[2]
    check_shapes(allowed=(allowed, (B, T, S)), key=(key, (B, A, S, query.shape[3])))
    allowed, p = np.ascontiguousarray(allowed), np.empty((B, A, T, S), np.result_type(query, key))
    y = np.empty((B, A, T, value.shape[3]), np.result_type(p, value))
    for b in range(B):
        probabilities(query[b], key[b], allowed[b], p[b])
        np.matmul(p[b], value[b], out=y[b])
    record("attention_weights", p)
    return y.transpose(0, 2, 1, 3)


def attend_expanded_vjp(upstream: np.ndarray, q_nope: np.ndarray, q_pe: np.ndarray, c_kv: np.ndarray,
                        k_pe: np.ndarray, w_uk: np.ndarray, w_uv: np.ndarray, allowed: np.ndarray, scale: float,
                        record: Record = ignore) -> tuple:
    """Return the gradients of the first six inputs of attend_expanded: upstream [B, T, A, dv]."""
    query, key = scale * by_head(q_nope, q_pe), by_head(project(c_kv, w_uk), k_pe)
    value, of_y = (x.transpose(0, 2, 1, 3) for x in (project(c_kv, w_uv), upstream))
    (B, A, T, _), S, dn = query.shape, key.shape[2], q_nope.shape[3]
    allowed, p = np.ascontiguousarray(allowed), np.empty((A, T, S), query.dtype)
    of_query, of_key, of_value = (np.empty(x.shape, x.dtype) for x in (query, key, value))
    for b in range(B):
        probabilities(query[b], key[b], allowed[b], p)
        np.matmul(p.swapaxes(1, 2), of_y[b], out=of_value[b])
        of_scores = softmaxes(of_y[b] @ value[b].swapaxes(1, 2), p)
        np.matmul(of_scores, key[b], out=of_query[b])
        np.matmul(of_scores.swapaxes(1, 2), query[b], out=of_key[b])
    from_keys, of_w_uk = project_vjp(of_key[..., :dn], c_kv, w_uk)
    from_values, of_w_uv = project_vjp(of_value, c_kv, w_uv)
    of_query = scale * of_query.transpose(0, 2, 1, 3)
    return (of_query[..., :dn], of_query[..., dn:], from_keys + from_values, of_key[..., dn:].sum(axis=1),
            of_w_uk, of_w_uv, None, None, None)


@jit
def _softmax(scores, allowed, start, stop):
    """Replace rows `start` to `stop`-1 of scores [A, T, S] by their softmax over the positions allowed [T, S]."""
    _, T, S = scores.shape
    rows, ones = scores.reshape(scores.size // max(S, 1), S), np.ones(S, scores.dtype)
    lowest, best = scores.dtype.type(-np.inf), np.empty(LANES, scores.dtype)
    for i in range(start, stop):
        row, mask, end = rows[i], allowed[i % T], S
        while end > 1 and not mask[end - 1]:
            end -= 1
        for s in range(end):
            row[s] = row[s] if mask[s] else lowest
        # Compute the maximum in lanes, since the compiler does not vectorise a single one
        best[:] = lowest
        for first in range(0, end - LANES + 1, LANES):
            for lane in range(LANES):
                best[lane] = max(best[lane], row[first + lane])
        largest = best.max()
        for s in range(end - end % LANES, end):
            largest = max(largest, row[s])
        # Exponentiate and normalise
        for s in range(end):
            row[s] = exp_negative(row[s] - largest)
        factor = scores.dtype.type(1) / dot(row, 0, ones, 0, end)
        for s in range(end):
            row[s] *= factor
        row[end:] = 0 * factor          # NaN if no position is allowed
