"""The short convolution and its SiLU in one pass over the channels.

Fast versions of ops/conv.py. Inside the module the convolution's input is RMSNorm(alpha v), with the same v for every
branch, and mean((alpha v)^2) = alpha^2 mean(v^2). So a branch needs only one factor per token,

    RMSNorm(alpha v) = gain * f * v,    f = alpha / sqrt(alpha^2 mean(v^2) + eps)

and the convolution reads the D-wide v and M factors instead of M times D normalised values.
"""

from typing import NamedTuple

import numpy as np

from engram_ref.backends.numba._buffers import aligned, result, streams
from engram_ref.backends.numba._threads import jit, over_tokens
from engram_ref.backends.numba.vectors.exp import sigmoid
from engram_ref.backends.numba.vectors.instructions import BYTES, inlined
from engram_ref.backends.numba.vectors.lines import Lines, add_lines, write_line
from engram_ref.backends.numba.vectors.memory import prefetch
from engram_ref.backends.numba.vectors.sums import dot
from engram_ref.checks import check_shapes

CHANNELS = 2560     # convolved at a time


class Convolution(NamedTuple):
    """A short convolution over C = M*D channels, and the values it reads before each sequence.

    weight           [L*C], one line of channels per tap
    before           [B*span*C], already normalised; span is (L-1) * dilation
    T, span, C       sizes
    """

    weight: np.ndarray
    before: np.ndarray
    T: int
    span: int
    C: int
    dilation: int


def convolution(weight: np.ndarray, taps: np.ndarray, dilation: int, shape: tuple[int, ...],
                dtype: np.dtype) -> Convolution:
    """The constants for x of that shape [B, T, M, D]: weight [M, D, L], taps [B, span, M, D]."""
    (_, T, M, D), L = shape, weight.shape[-1]
    lines = np.ascontiguousarray(weight.reshape(M * D, L).T, dtype=dtype)                  # [L, M*D]
    before = np.ascontiguousarray(taps, dtype=dtype)
    return Convolution(lines.reshape(-1), before.reshape(-1), T, taps.shape[1], M * D, dilation)


def silu(x: np.ndarray) -> np.ndarray:
    """Fast version of ops.conv.silu."""
    x = np.ascontiguousarray(x)
    y = result(None, x.shape, x.dtype)
    flat, written = x.reshape(-1), y.reshape(-1)
    over_tokens(lambda a, b: _silu(flat[a:b], written[a:b]), x.size, y.nbytes)
    return y


def conv_silu(x: np.ndarray, weight: np.ndarray, dilation: int, taps: np.ndarray,
              out: np.ndarray | None = None) -> np.ndarray:
    """Fast version of ops.conv.conv_silu."""
    (B, T, M, D), L, dtype = x.shape, weight.shape[-1], np.result_type(x, weight, taps)
    check_shapes(weight=(weight, (M, D, L)), taps=(taps, (B, (L - 1) * dilation, M, D)))
    conv = convolution(weight, taps, dilation, x.shape, dtype)
    y, lines = result(out, x.shape, dtype, x, taps), np.ascontiguousarray(x, dtype=dtype).reshape(-1)
    stream = streams_lines(y, M * D)
    over_tokens(lambda a, b: _conv_silu(lines, conv, stream, y.reshape(-1), a, b), B * T, y.nbytes)
    return y


def streams_lines(y: np.ndarray, length: int) -> bool:
    """Whether to write lines of that length with non-temporal stores: each must start on a cache line."""
    return streams(y) and length * y.itemsize % BYTES == 0


@jit
def _silu(x, y):
    one = x.dtype.type(1)
    for i in range(x.size):
        y[i] = x[i] * sigmoid(x[i], one)


@jit
def _activate(total):
    """silu in place; with _silu, LLVM would test for the overlap and not vectorise."""
    one = total.dtype.type(1)
    for c in range(total.size):
        total[c] = total[c] * sigmoid(total[c], one)


@inlined
def _convolve(conv, position, channel, weight, source, factor, one, total):
    """total = the convolution at a position, counted through all sequences, for the channels from `channel` on.

    weight           [L*C], for the positions of the sequence; those before it have conv.weight
    source, factor   Lines: a line of these channels and a factor per position
    one              [1], the factor of the positions before the sequence
    """
    b = position // conv.T
    t = position - b * conv.T
    held = max((conv.span - t + conv.dilation - 1) // conv.dilation, 0)      # taps that fall before the sequence
    first = position - conv.span + held * conv.dilation                      # where the others begin
    add_lines(Lines(weight, held * conv.C + channel, conv.C),
              Lines(source.array, source.first + first * source.step, conv.dilation * source.step),
              Lines(factor.array, factor.first + first * factor.step, conv.dilation * factor.step),
              weight.size // conv.C - held, True, total)
    add_lines(Lines(conv.weight, channel, conv.C),
              Lines(conv.before, (b * conv.span + t) * conv.C + channel, conv.dilation * conv.C),
              Lines(one, 0, 0), held, False, total)


@jit
def _conv_silu(x, conv, stream, y, start, stop):
    """Positions `start` to `stop`-1, counted through all sequences: x and y [B*T*M*D].

    A block of channels at a time, so that their sum stays in the first-level cache.
    """
    one, space = np.ones(1, x.dtype), np.empty(min(CHANNELS, conv.C), x.dtype)
    for position in range(start, stop):
        for first in range(0, conv.C, CHANNELS):
            # Sum the taps
            total = space[: min(CHANNELS, conv.C - first)]
            _convolve(conv, position, first, conv.weight, Lines(x, first, conv.C), Lines(one, 0, 0), one, total)
            # Prefetch the next position; after the last one there is nothing, which is harmless
            for c in range(0, total.size, BYTES // x.itemsize):
                prefetch(x, (position + 1) * conv.C + first + c)
            # Activate and store
            _activate(total)
            write_line(total, stream, y, position * conv.C + first)


def update(value: np.ndarray, alpha: np.ndarray, gain: np.ndarray, weight: np.ndarray, dilation: int, taps: np.ndarray,
           eps: float, keep: int, y: np.ndarray) -> np.ndarray:
    """y = SiLU(conv(RMSNorm(alpha v))) + alpha v, without writing the normalised values of all positions.

    value     [B, T, D], alpha [B, T, M], gain [M, D] effective, weight [M, D, L], taps [B, (L-1)*dilation, M, D]
    y         [B, T, M, D], written
    returns   RMSNorm(alpha v) of the last `keep` positions [B, min(keep, T), M, D]
    """
    (B, T, M, D), dtype = y.shape, y.dtype
    # One factor per token and branch
    squares, flat, gates = aligned((B * T, 1), dtype), value.reshape(B * T, D), alpha.reshape(B * T, M)
    over_tokens(lambda a, b: _mean_squares(flat[a:b], squares[a:b]), B * T, value.nbytes)
    factor = branch_factors(gates, squares, dtype.type(eps))
    # Convolve: the norm's gain is multiplied into the weights of v; the taps have it already
    conv, gains = convolution(weight, taps, dilation, y.shape, dtype), np.ascontiguousarray(gain, dtype=dtype)
    normed_weight = (conv.weight.reshape(-1, M * D) * gains.reshape(-1)).reshape(-1)
    stream = streams_lines(y, D)
    over_tokens(lambda a, b: _update(flat, gates, factor, conv, normed_weight, stream, y.reshape(-1), a, b), B * T,
                y.nbytes)
    # Only the last normalised values are needed: they are the next call's taps
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
def _update(value, alpha, factor, conv, normed_weight, stream, y, start, stop):
    """Positions `start` to `stop`-1, counted through all sequences: the convolution reads v and one factor a token.

    value           [B*T, D], alpha and factor [B*T, M], y [B*T*M*D]
    normed_weight   conv.weight times the norm's gain, for v
    """
    D, M = value.shape[1], alpha.shape[1]
    flat, factors = value.reshape(value.size), factor.reshape(factor.size)
    one, total = np.ones(1, value.dtype), np.empty(D, value.dtype)
    for position in range(start, stop):
        for m in range(M):
            # Sum the taps of one branch
            _convolve(conv, position, m * D, normed_weight, Lines(flat, 0, D), Lines(factors, m, M), one, total)
            # Activate, add the gated value and store
            _finish(total, value[position], alpha[position, m])
            write_line(total, stream, y, (position * M + m) * D)


@jit
def _finish(total, value, alpha):
    """total = silu(total) + alpha * value."""
    one = total.dtype.type(1)
    for c in range(total.size):
        total[c] = total[c] * sigmoid(total[c], one) + alpha * value[c]
