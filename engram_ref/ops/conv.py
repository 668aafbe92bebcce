"""The short convolution: combine the gated values of nearby positions, such as those of one phrase.

Each channel of each branch is filtered separately along time (depthwise), using only the current and earlier positions
(causal), with taps `dilation` positions apart. With kernel 4 and dilation 3, output t reads t, t-3, t-6 and t-9:

    y[t] = sum_j  w[j] * x[t - (L-1-j) * dilation],     so the last weight applies to the current position

    Y = SiLU(conv(RMSNorm(u))) + u

Positions before the start of the sequence are zero. To continue a sequence, the last (L-1)*dilation inputs are needed.
"""

import numpy as np

from engram_ref.checks import check_shapes
from engram_ref.ops.gate import Gate


def short_conv(x: np.ndarray, weight: np.ndarray, dilation: int, taps: np.ndarray) -> np.ndarray:
    """Dilated causal depthwise convolution.

    x          [B, T, M, D] normalised gated values
    weight     [M, D, L], oldest tap first (PyTorch's cross-correlation order)
    dilation   positions between taps
    taps       [B, (L-1)*dilation, M, D] the inputs before x, oldest first; zeros at the start of a sequence
    returns    [B, T, M, D]
    source     Paper Eq. 5; demo

    >>> x = np.arange(1.0, 5.0).reshape(1, 4, 1, 1)
    >>> short_conv(x, np.array([[[10.0, 1.0]]]), 2, np.zeros((1, 2, 1, 1))).ravel()
    array([ 1.,  2., 13., 24.])
    """
    (B, T, M, D), L = x.shape, weight.shape[-1]
    check_shapes(weight=(weight, (M, D, L)), taps=(taps, (B, (L - 1) * dilation, M, D)))
    inputs = np.concatenate([taps, x], axis=1)                       # [B, (L-1)*dilation + T, M, D]
    y = np.zeros_like(x)
    for j in range(L):
        y = y + weight[..., j] * inputs[:, j * dilation : j * dilation + T]
    return y


def next_taps(x: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """Return the taps of the next chunk: the last inputs of the stream so far.

    x         [B, T, M, D]
    taps      [B, (L-1)*dilation, M, D], oldest first
    returns   [B, (L-1)*dilation, M, D]
    source    this project; the inputs that a decode step of the demo's convolution would need
    """
    inputs = np.concatenate([taps, x], axis=1)
    return inputs[:, inputs.shape[1] - taps.shape[1] :]


class Conv(Gate):
    """The convolution, and the activation after it."""

    __slots__ = ()
    short_conv = staticmethod(short_conv)
    next_taps = staticmethod(next_taps)

    def silu(self, x: np.ndarray) -> np.ndarray:
        """x * sigma(x): [...] -> [...].  Source: Hendrycks and Gimpel 2016."""
        return x * self.sigmoid(x)

    def conv_silu(self, x: np.ndarray, weight: np.ndarray, dilation: int, taps: np.ndarray) -> np.ndarray:
        """SiLU(conv(x)); arguments and result as for short_conv.  Source: paper Eq. 5."""
        return self.silu(self.short_conv(x, weight, dilation, taps))
