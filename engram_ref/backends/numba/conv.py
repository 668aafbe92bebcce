"""The short convolution and its SiLU in one pass over the channels.

Fast versions of ops/conv.py. Inside the module the convolution's input is RMSNorm(alpha v), with the same v for every
branch, and mean((alpha v)^2) = alpha^2 mean(v^2). So a branch needs only one factor per token,

    RMSNorm(alpha v) = gain * f * v,    f = alpha / sqrt(alpha^2 mean(v^2) + eps)

and the convolution reads the D-wide v and M factors instead of M times D normalised values.
"""

from typing import NamedTuple

import numpy as np

from engram_ref import ops
from engram_ref.backends.numba._buffers import aligned, result, streams
from engram_ref.backends.numba._threads import jit, over_tokens
from engram_ref.backends.numba.vectors.exp import store_silu
from engram_ref.backends.numba.vectors.instructions import BYTES
from engram_ref.backends.numba.vectors.lines import Lines, Taps, store_convolved
from engram_ref.backends.numba.vectors.sums import dot
from engram_ref.checks import check_shapes

POSITIONS, CHANNELS = 16, 512       # of a block
AHEAD = 1                           # positions from the one being computed to the one being prefetched


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
    """Fast version of ops.conv.silu; integers and unusual floats go through the definition."""
    x = np.asarray(x)
    if x.dtype not in (np.float32, np.float64):
        return ops.silu(x)
    y = result(None, x.shape, x.dtype)
    flat, written = np.ascontiguousarray(x).reshape(-1), y.reshape(-1)
    over_tokens(lambda a, b: _silu(flat, written, a, b), x.size, y.nbytes)
    return y


def conv_silu(x: np.ndarray, weight: np.ndarray, dilation: int, taps: np.ndarray,
              out: np.ndarray | None = None) -> np.ndarray:
    """Fast version of ops.conv.conv_silu."""
    (B, T, M, D), L, dtype = x.shape, weight.shape[-1], np.result_type(x, weight, taps)
    check_shapes(weight=(weight, (M, D, L)), taps=(taps, (B, (L - 1) * dilation, M, D)))
    conv = convolution(weight, taps, dilation, x.shape, dtype)
    y, lines = result(out, x.shape, dtype, x, taps), np.ascontiguousarray(x, dtype=dtype).reshape(B * T, M * D)
    stream = streams_lines(y, M * D)
    over_tokens(lambda a, b: _convolve(lines, None, None, conv, conv.weight, stream, y.reshape(-1), a, b), B * T,
                y.nbytes)
    return y


def streams_lines(y: np.ndarray, length: int) -> bool:
    """Whether to write lines of that length with non-temporal stores: each must start on a cache line."""
    return streams(y) and length * y.itemsize % BYTES == 0


@jit
def _silu(x, y, start, stop):
    """Elements `start` to `stop`-1."""
    store_silu(x, start, stop - start, y)


@jit
def _convolve(x, alpha, factor, conv, weight, stream, y, start, stop):
    """Positions `start` to `stop`-1, counted through all sequences: y = silu(conv(factor * x)) + alpha * x.

    x               [B*T, D], read by every branch
    alpha, factor   [B*T*M], or None: nothing is added, the factor is 1
    weight          [L*C], for x; the values before a sequence have conv.weight
    y               [B*T*C]
    """
    (total, D), flat = x.shape, x.reshape(x.size)
    M, L = conv.C // D, weight.size // conv.C
    # Blocks of positions and channels: their weights and the values they read stay in the first-level cache
    for block in range(start, stop, POSITIONS):
        for m in range(M):
            for channel in range(0, D, CHANNELS):
                c, size = m * D + channel, min(CHANNELS, D - channel)
                for position in range(block, min(block + POSITIONS, stop)):
                    # Where the taps are: some may fall before the sequence
                    b = position // conv.T
                    t = position - b * conv.T
                    held = max((conv.span - t + conv.dilation - 1) // conv.dilation, 0)
                    first = position - conv.span + held * conv.dilation                      # of the others
                    # Sum, activate and store; meanwhile a later position is prefetched
                    store_convolved(
                        Taps(Lines(weight, held * conv.C + c, conv.C),
                             Lines(flat, first * D + channel, conv.dilation * D),
                             Lines(factor, first * M + m, conv.dilation * M), L - held),
                        Taps(Lines(conv.weight, c, conv.C),
                             Lines(conv.before, (b * conv.span + t) * conv.C + c, conv.dilation * conv.C),
                             Lines(None, 0, 0), held),
                        Lines(alpha, position * M + m, 0), Lines(flat, position * D + channel, 0),
                        min(position + AHEAD, total - 1) * D + channel,
                        size, stream, y, position * conv.C + c)


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
    over_tokens(lambda a, b: _convolve(flat, gates.reshape(-1), factor.reshape(-1), conv, normed_weight, stream,
                                       y.reshape(-1), a, b), B * T, y.nbytes)
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
