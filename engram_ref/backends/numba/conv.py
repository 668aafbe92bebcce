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
from engram_ref.backends.numba.vectors.sums import dot
from engram_ref.backends.numba.vectors.taps import Strided, Taps, store_convolved
from engram_ref.checks import check_shapes

POSITIONS, CHANNELS = 16, 512       # per block
AHEAD = 1                           # distance, in positions, between computing and prefetching


class Convolution(NamedTuple):
    """A short convolution over C = M*D channels, and the values before each sequence."""

    weight: np.ndarray      # [L*C], one row of channels per tap
    before: np.ndarray      # [B*span*C], already normalised
    T: int
    span: int               # (L-1) * dilation
    C: int
    dilation: int


def convolution(weight: np.ndarray, taps: np.ndarray, dilation: int, shape: tuple[int, ...],
                dtype: np.dtype) -> Convolution:
    """Prepare the convolution of x [B, T, M, D] from weight [M, D, L] and taps [B, span, M, D]."""
    (_, T, M, D), L = shape, weight.shape[-1]
    by_tap = np.ascontiguousarray(weight.reshape(M * D, L).T, dtype=dtype)                 # [L, M*D]
    before = np.ascontiguousarray(taps, dtype=dtype)
    return Convolution(by_tap.reshape(-1), before.reshape(-1), T, taps.shape[1], M * D, dilation)


def silu(x: np.ndarray) -> np.ndarray:
    """Fast version of ops.conv.silu; integers and unusual floats use the definition."""
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
    y, flat = result(out, x.shape, dtype, x, taps), np.ascontiguousarray(x, dtype=dtype).reshape(B * T, M * D)
    stream = streams_rows(y, M * D)
    over_tokens(lambda a, b: _convolve(flat, None, None, conv, conv.weight, stream, y.reshape(-1), a, b), B * T,
                y.nbytes)
    return y


def streams_rows(y: np.ndarray, length: int) -> bool:
    """Whether to write rows of this length with non-temporal stores: each must start on a cache line."""
    return streams(y) and length * y.itemsize % BYTES == 0


@jit
def _silu(x, y, start, stop):
    """Compute SiLU of elements `start` to `stop`-1."""
    store_silu(x, start, stop - start, y)


@jit
def _convolve(x, alpha, factor, conv, weight, stream, y, start, stop):
    """y = silu(conv(factor * x)) + alpha * x at positions `start` to `stop`-1, numbered across all sequences.

    x               [B*T, D], the same for every branch
    alpha, factor   [B*T*M], or None: nothing is added, and the factor is 1
    weight          [L*C], for x; conv.weight is for the values before a sequence
    y               [B*T*C]
    """
    (total, D), flat = x.shape, x.reshape(x.size)
    M, L = conv.C // D, weight.size // conv.C
    # Compute blocks of positions and channels, whose weights and inputs stay in the first-level cache
    for block in range(start, stop, POSITIONS):
        for m in range(M):
            for channel in range(0, D, CHANNELS):
                c, size = m * D + channel, min(CHANNELS, D - channel)
                for position in range(block, min(block + POSITIONS, stop)):
                    # Locate the taps; some may be before the sequence
                    b = position // conv.T
                    t = position - b * conv.T
                    outside = max((conv.span - t + conv.dilation - 1) // conv.dilation, 0)
                    first = position - conv.span + outside * conv.dilation                   # of the other taps
                    # Sum, activate and store, while a later position is prefetched
                    store_convolved(
                        Taps(Strided(weight, outside * conv.C + c, conv.C),
                             Strided(flat, first * D + channel, conv.dilation * D),
                             Strided(factor, first * M + m, conv.dilation * M), L - outside),
                        Taps(Strided(conv.weight, c, conv.C),
                             Strided(conv.before, (b * conv.span + t) * conv.C + c, conv.dilation * conv.C),
                             Strided(None, 0, 0), outside),
                        Strided(alpha, position * M + m, 0), Strided(flat, position * D + channel, 0),
                        min(position + AHEAD, total - 1) * D + channel,
                        size, stream, y, position * conv.C + c)


def update(value: np.ndarray, alpha: np.ndarray, gain: np.ndarray, weight: np.ndarray, dilation: int, taps: np.ndarray,
           eps: float, keep: int, y: np.ndarray) -> np.ndarray:
    """Compute y = SiLU(conv(RMSNorm(alpha v))) + alpha v without storing the normalised values of all positions.

    value     [B, T, D], alpha [B, T, M], gain [M, D] effective, weight [M, D, L], taps [B, (L-1)*dilation, M, D]
    y         [B, T, M, D], written
    returns   RMSNorm(alpha v) of the last `keep` positions [B, min(keep, T), M, D]
    """
    (B, T, M, D), dtype = y.shape, y.dtype
    # Compute one factor per token and branch
    squares, flat, gates = aligned((B * T, 1), dtype), value.reshape(B * T, D), alpha.reshape(B * T, M)
    over_tokens(lambda a, b: _mean_squares(flat[a:b], squares[a:b]), B * T, value.nbytes)
    factor = branch_factors(gates, squares, dtype.type(eps))
    # Convolve: the norm's gain is multiplied into the weights for v; the taps already include it
    conv, gains = convolution(weight, taps, dilation, y.shape, dtype), np.ascontiguousarray(gain, dtype=dtype)
    normed_weight = (conv.weight.reshape(-1, M * D) * gains.reshape(-1)).reshape(-1)
    stream = streams_rows(y, D)
    over_tokens(lambda a, b: _convolve(flat, gates.reshape(-1), factor.reshape(-1), conv, normed_weight, stream,
                                       y.reshape(-1), a, b), B * T, y.nbytes)
    # Return only the last normalised values, which are the taps of the next call
    last = slice(max(T - keep, 0), T)
    return gains * (factor.reshape(B, T, M)[:, last, :, None] * value[:, last, None, :])


def branch_factors(alpha: np.ndarray, squares: np.ndarray, eps: np.floating) -> np.ndarray:
    """f = alpha / sqrt(alpha^2 mean(v^2) + eps): [n, M], [n, 1] -> [n, M]; eps is not scaled by the gate."""
    return alpha / np.sqrt(alpha * alpha * squares + eps)


@jit
def _mean_squares(value, squares):
    """Mean of the squares of each row: [n, D] -> [n, 1]."""
    n, D = value.shape
    flat = value.reshape(value.size)
    for i in range(n):
        squares[i, 0] = dot(flat, i * D, flat, i * D, D) / value.dtype.type(D)
