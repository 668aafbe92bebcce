"""The short convolution and its SiLU in one pass over the channels.

The twin of ops/conv.py. Inside the module the convolution's input is RMSNorm(alpha v), the same v for every
branch, and mean((alpha v)^2) = alpha^2 mean(v^2): so a branch needs only one factor a token,

    RMSNorm(alpha v) = gain * f * v,    f = alpha / sqrt(alpha^2 mean(v^2) + eps)

and the convolution reads the D-wide v and M factors instead of M times D normalised values.
"""

import numpy as np
from numba import njit

from engram_ref.backends.numba._buffers import aligned, result
from engram_ref.backends.numba._exp import sigmoid
from engram_ref.backends.numba._sums import dot
from engram_ref.backends.numba._threads import over_tokens

CHANNELS = 2048      # convolved at a time

jit = njit(nogil=True, error_model="numpy")


def silu(x: np.ndarray) -> np.ndarray:
    """Twin of ops.conv.silu."""
    x = np.ascontiguousarray(x)
    y = result(None, x.shape, x.dtype)
    flat, written = x.reshape(-1), y.reshape(-1)
    over_tokens(lambda a, b: _silu(flat[a:b], written[a:b]), x.size)
    return y


def conv_silu(x: np.ndarray, weight: np.ndarray, dilation: int, taps: np.ndarray,
              out: np.ndarray | None = None) -> np.ndarray:
    """Twin of ops.conv.conv_silu."""
    B, T, M, D = x.shape
    y = result(out, x.shape, x.dtype, x, taps)
    lines = np.ascontiguousarray(x).reshape(B, T, M * D)
    before = np.ascontiguousarray(taps, dtype=x.dtype).reshape(B, taps.shape[1], M * D)
    weights = tap_weights(weight, x.dtype)
    over_tokens(lambda a, b: _conv_silu(lines, before, weights, dilation, y.reshape(B * T, M * D), a, b), B * T)
    return y


def tap_weights(weight: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """[M, D, L] -> [L, M*D]: channels side by side, one line a tap."""
    return np.ascontiguousarray(weight.reshape(-1, weight.shape[-1]).T, dtype=dtype)


@jit
def _silu(x, y):
    one = x.dtype.type(1)
    for i in range(x.size):
        y[i] = x[i] * sigmoid(x[i], one)


@jit
def _conv_silu(x, taps, weight, dilation, y, start, stop):
    """Positions `start` to `stop`-1, counted through all sequences; x [B, T, M*D], y [B*T, M*D].

    A block of channels at a time, so that the sum over the taps grows in the first-level cache.
    """
    _, T, channels = x.shape
    L, span = weight.shape[0], taps.shape[1]
    space = np.empty(CHANNELS, x.dtype)
    for position in range(start, stop):
        b = position // T
        t = position - b * T
        for first in range(0, channels, CHANNELS):
            block = slice(first, min(first + CHANNELS, channels))
            total = space[: block.stop - first]
            total[:] = 0
            for j in range(L):
                s = t - (L - 1 - j) * dilation
                _add(weight[j, block], x[b, s, block] if s >= 0 else taps[b, span + s, block], total)
            _silu(total, y[position, block])


@jit
def _add(weight, source, total):
    for c in range(total.size):
        total[c] += weight[c] * source[c]


def update(value: np.ndarray, alpha: np.ndarray, gain: np.ndarray, weight: np.ndarray, dilation: int, taps: np.ndarray,
           eps: float, keep: int, y: np.ndarray) -> np.ndarray:
    """y = SiLU(conv(RMSNorm(alpha v))) + alpha v, without writing the normalised values of all positions.

    value     [B, T, D], alpha [B, T, M], gain [M, D] effective, weight [M, D, L], taps [B, (L-1)*dilation, M, D]
    y         [B, T, M, D], written
    returns   RMSNorm(alpha v) of the last `keep` positions [B, min(keep, T), M, D]
    """
    B, T, M, D = y.shape
    dtype = y.dtype
    squares = aligned((B * T, 1), dtype)
    flat, gates = value.reshape(B * T, D), alpha.reshape(B * T, M)
    over_tokens(lambda a, b: _mean_squares(flat[a:b], squares[a:b]), B * T)
    factor = branch_factors(gates, squares, dtype.type(eps))
    weights, gains = tap_weights(weight, dtype), np.ascontiguousarray(gain, dtype=dtype)
    before = np.ascontiguousarray(taps, dtype=dtype).reshape(B, taps.shape[1], M * D)
    normed_weights, lines = weights * gains.reshape(-1), y.reshape(B * T, M * D)
    over_tokens(lambda a, b: _update(value, gates, factor.reshape(B, T, M), before, normed_weights, weights, dilation,
                                     lines, a, b), B * T)
    last = slice(max(T - keep, 0), T)
    return gains * (factor.reshape(B, T, M)[:, last, :, None] * value[:, last, None, :])


def branch_factors(alpha: np.ndarray, squares: np.ndarray, eps: np.floating) -> np.ndarray:
    """f = alpha / sqrt(alpha^2 mean(v^2) + eps): [n, M], [n, 1] -> [n, M]; eps is not scaled by the gate."""
    return alpha / np.sqrt(alpha * alpha * squares + eps)


@jit
def _mean_squares(value, squares):
    """Mean of the squares of each line: [n, D] -> [n, 1]."""
    n, D = value.shape
    flat = value.reshape(value.size)
    for i in range(n):
        squares[i, 0] = dot(flat, i * D, flat, i * D, D) / value.dtype.type(D)


@jit
def _update(value, alpha, factor, taps, normed_weight, weight, dilation, y, start, stop):
    """Positions `start` to `stop`-1, counted through all sequences: the convolution reads v and one factor a token.

    normed_weight   [L, M*D], the taps' weights times the norm's gain; taps [B, (L-1)*dilation, M*D] have it already
    """
    (_, T, D), M = value.shape, alpha.shape[1]
    L, span = weight.shape[0], taps.shape[1]
    space, one = np.empty(D, y.dtype), y.dtype.type(1)
    for position in range(start, stop):
        b = position // T
        t = position - b * T
        for m in range(M):
            channels = slice(m * D, (m + 1) * D)
            space[:] = 0
            for j in range(L):
                s = t - (L - 1 - j) * dilation
                if s >= 0:
                    _add_scaled(normed_weight[j, channels], value[b, s], factor[b, s, m], space)
                else:
                    _add_scaled(weight[j, channels], taps[b, span + s, channels], one, space)
            _finish(space, value[b, t], alpha[position, m], y[position, channels])


@jit
def _add_scaled(weight, source, factor, total):
    for c in range(total.size):
        total[c] += weight[c] * (factor * source[c])


@jit
def _finish(total, value, alpha, y):
    one = total.dtype.type(1)
    for c in range(total.size):
        y[c] = total[c] * sigmoid(total[c], one) + alpha * value[c]
