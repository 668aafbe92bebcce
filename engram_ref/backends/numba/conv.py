"""The short convolution and its SiLU in one pass over the channels.

The twin of ops/conv.py. Inside the module the convolution's input is RMSNorm(alpha v), the same v for every
branch, and mean((alpha v)^2) = alpha^2 mean(v^2): so a branch needs only one factor a token,

    RMSNorm(alpha v) = gain * f * v,    f = alpha / sqrt(alpha^2 mean(v^2) + eps)

and the convolution reads the D-wide v and M factors instead of M times D normalised values.
"""

import numpy as np
from numba import njit

from engram_ref.backends.numba._buffers import aligned, result, streams
from engram_ref.backends.numba._threads import over_tokens
from engram_ref.backends.numba.vectors.exp import sigmoid
from engram_ref.backends.numba.vectors.instructions import BYTES
from engram_ref.backends.numba.vectors.lines import add_line, sum_lines, write_line
from engram_ref.backends.numba.vectors.memory import prefetch
from engram_ref.backends.numba.vectors.sums import dot
from engram_ref.checks import check_shapes

CHANNELS = 2560     # convolved at a time

jit = njit(nogil=True, error_model="numpy")


def silu(x: np.ndarray) -> np.ndarray:
    """Twin of ops.conv.silu."""
    x = np.ascontiguousarray(x)
    y = result(None, x.shape, x.dtype)
    flat, written = x.reshape(-1), y.reshape(-1)
    over_tokens(lambda a, b: _silu(flat[a:b], written[a:b]), x.size, y.nbytes)
    return y


def conv_silu(x: np.ndarray, weight: np.ndarray, dilation: int, taps: np.ndarray,
              out: np.ndarray | None = None) -> np.ndarray:
    """Twin of ops.conv.conv_silu."""
    (B, T, M, D), L = x.shape, weight.shape[-1]
    check_shapes(weight=(weight, (M, D, L)), taps=(taps, (B, (L - 1) * dilation, M, D)))
    dtype = np.result_type(x, weight, taps)
    y = result(out, x.shape, dtype, x, taps)
    lines, before = (np.ascontiguousarray(array, dtype=dtype).reshape(-1) for array in (x, taps))
    sizes, weights, stream = (T, M * D, taps.shape[1], dilation), tap_weights(weight, dtype), streams_lines(y, M * D)
    over_tokens(lambda a, b: _conv_silu(lines, before, weights, sizes, stream, y.reshape(-1), a, b), B * T,
                y.nbytes)
    return y


def streams_lines(y: np.ndarray, length: int) -> bool:
    """Whether to write lines of that length past the cache: each must begin on a cache line."""
    return streams(y) and length * y.itemsize % BYTES == 0


def tap_weights(weight: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """[M, D, L] -> [L * M*D]: channels side by side, one line a tap."""
    return np.ascontiguousarray(weight.reshape(-1, weight.shape[-1]).T, dtype=dtype).reshape(-1)


@jit
def _silu(x, y):
    one = x.dtype.type(1)
    for i in range(x.size):
        y[i] = x[i] * sigmoid(x[i], one)


@jit
def _conv_silu(x, taps, weight, sizes, stream, y, start, stop):
    """Positions `start` to `stop`-1, counted through all sequences: x [B*T*M*D], taps [B*span*M*D], y [B*T*M*D].

    A block of channels at a time, so that their sum stays in the first-level cache.
    """
    T, channels, span, dilation = sizes
    L, ones, space = weight.size // channels, np.ones(1, x.dtype), np.empty(min(CHANNELS, channels), x.dtype)
    for position in range(start, stop):
        b = position // T
        t = position - b * T
        for first in range(0, channels, CHANNELS):
            total = space[: min(CHANNELS, channels - first)]
            held = max((span - t + dilation - 1) // dilation, 0)         # taps that fall before the sequence
            sum_lines(weight, held * channels + first, channels, x,
                      (position - span + held * dilation) * channels + first, dilation * channels, ones, 0, 0, L - held,
                      total)
            for j in range(held):
                add_line(weight, j * channels + first, taps, (b * span + t + j * dilation) * channels + first, ones[0],
                         total)
            for c in range(0, total.size, BYTES // x.itemsize):
                prefetch(x, (position + 1) * channels + first + c)       # of nothing, after the last one: harmless
            _activate(total)
            write_line(total, stream, y, position * channels + first)


@jit
def _activate(total):
    one = total.dtype.type(1)
    for c in range(total.size):
        total[c] = total[c] * sigmoid(total[c], one)


def update(value: np.ndarray, alpha: np.ndarray, gain: np.ndarray, weight: np.ndarray, dilation: int, taps: np.ndarray,
           eps: float, keep: int, y: np.ndarray) -> np.ndarray:
    """y = SiLU(conv(RMSNorm(alpha v))) + alpha v, without writing the normalised values of all positions.

    value     [B, T, D], alpha [B, T, M], gain [M, D] effective, weight [M, D, L], taps [B, (L-1)*dilation, M, D]
    y         [B, T, M, D], written
    returns   RMSNorm(alpha v) of the last `keep` positions [B, min(keep, T), M, D]
    """
    (B, T, M, D), dtype = y.shape, y.dtype
    squares, flat, gates = aligned((B * T, 1), dtype), value.reshape(B * T, D), alpha.reshape(B * T, M)
    over_tokens(lambda a, b: _mean_squares(flat[a:b], squares[a:b]), B * T, value.nbytes)
    factor = branch_factors(gates, squares, dtype.type(eps))
    weights, gains = tap_weights(weight, dtype), np.ascontiguousarray(gain, dtype=dtype)
    normed_weights = (weights.reshape(-1, M * D) * gains.reshape(-1)).reshape(-1)
    before = np.ascontiguousarray(taps, dtype=dtype).reshape(-1)
    sizes, stream = (T, M, taps.shape[1], dilation), streams_lines(y, D)
    over_tokens(lambda a, b: _update(flat, gates, factor, before, normed_weights, weights, sizes, stream, y.reshape(-1),
                                     a, b), B * T, y.nbytes)
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
def _update(value, alpha, factor, taps, normed_weight, weight, sizes, stream, y, start, stop):
    """Positions `start` to `stop`-1, counted through all sequences: the convolution reads v and one factor a token.

    value [B*T, D], alpha and factor [B*T, M]; weight [L*M*D], and times the norm's gain for v: taps have it already
    """
    (T, M, span, dilation), D = sizes, value.shape[1]
    flat, one, total = value.reshape(value.size), value.dtype.type(1), np.empty(D, value.dtype)
    L, factors = weight.size // (M * D), factor.reshape(factor.size)
    for position in range(start, stop):
        b = position // T
        t = position - b * T
        for m in range(M):
            held = max((span - t + dilation - 1) // dilation, 0)         # taps that fall before the sequence
            first = position - span + held * dilation                    # where the others begin
            sum_lines(normed_weight, (held * M + m) * D, M * D, flat, first * D, dilation * D, factors, first * M + m,
                      dilation * M, L - held, total)
            for j in range(held):
                add_line(weight, (j * M + m) * D, taps, ((b * span + t + j * dilation) * M + m) * D, one, total)
            _finish(total, value[position], alpha[position, m])
            write_line(total, stream, y, (position * M + m) * D)


@jit
def _finish(total, value, alpha):
    """total = silu(total) + alpha * value."""
    one = total.dtype.type(1)
    for c in range(total.size):
        total[c] = total[c] * sigmoid(total[c], one) + alpha * value[c]
