"""Gradients of the short convolution and its activation.

The output at t reads the inputs at t - (L-1-j) * dilation with weight j, so an input receives gradient from the outputs
at later positions, through the same weights:

    d x[t]    = sum_j  w[j] upstream[t + (L-1-j) * dilation]
    d w[j]    = sum over batch and t of  upstream[t] x[t - (L-1-j) * dilation]
"""

import numpy as np

from engram_ref.ops.vjp.gate import GateVjp


def short_conv_vjp(upstream: np.ndarray, x: np.ndarray, weight: np.ndarray, dilation: int, taps: np.ndarray) -> tuple:
    """Gradients of the convolution.

    upstream, x   [B, T, M, D]
    weight        [M, D, L]
    taps          [B, (L-1)*dilation, M, D]
    returns       gradients of x and weight, None, the gradient of taps
    """
    T, span, L = x.shape[1], taps.shape[1], weight.shape[-1]
    inputs = np.concatenate([taps, x], axis=1)                       # [B, (L-1)*dilation + T, M, D]
    of_inputs, of_weight = np.zeros_like(inputs), np.zeros_like(weight)
    for j in range(L):
        read = slice(j * dilation, j * dilation + T)
        of_inputs[:, read] += weight[..., j] * upstream
        of_weight[..., j] = np.einsum("btmd,btmd->md", upstream, inputs[:, read])
    return of_inputs[:, span:], of_weight, None, of_inputs[:, :span]


def next_taps_vjp(upstream: np.ndarray, x: np.ndarray, taps: np.ndarray) -> tuple:
    """Gradients of the next taps: upstream for the inputs that they contain, 0 for older ones."""
    inputs = np.zeros((len(x), taps.shape[1] + x.shape[1], *x.shape[2:]), dtype=upstream.dtype)
    inputs[:, x.shape[1] :] = upstream
    return inputs[:, taps.shape[1] :], inputs[:, : taps.shape[1]]


class ConvVjp(GateVjp):
    """Gradients of the convolution."""

    __slots__ = ()
    short_conv_vjp = staticmethod(short_conv_vjp)
    next_taps_vjp = staticmethod(next_taps_vjp)

    def silu_vjp(self, upstream: np.ndarray, x: np.ndarray) -> tuple:
        """Gradient of x sigma(x): sigma(x) (1 + x sigma(-x))."""
        return (upstream * self.sigmoid(x) * (1 + x * self.sigmoid(-x)),)

    def conv_silu_vjp(self, upstream: np.ndarray, x: np.ndarray, weight: np.ndarray, dilation: int,
                      taps: np.ndarray) -> tuple:
        """Gradients of SiLU(conv(x)); arguments and results as for short_conv_vjp."""
        (inner,) = self.silu_vjp(upstream, self.short_conv(x, weight, dilation, taps))
        return self.short_conv_vjp(inner, x, weight, dilation, taps)
