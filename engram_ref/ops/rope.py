"""RoPE: encode positions by rotating queries and keys.

Channels form adjacent pairs (x0, x1), (x2, x3), ... Each pair is treated as a complex number and rotated by an angle
proportional to the position; pair i has the frequency f[i] = theta^(-2i/d):

    (x[2i] + i x[2i+1]) * e^(i * position * f[i])

The score of two rotated vectors depends only on the distance between their positions. YaRN extends a trained model to
longer contexts: slow pairs (large i) rotate s times more slowly, fast pairs are unchanged, with a ramp in between, and
the softmax scale grows by m^2. Angles are computed in float64, since float32 is off by 1e-3 rad at 32k tokens.
"""

import math

import numpy as np

from engram_ref.checks import check_shapes
from engram_ref.errors import InputError
from engram_ref.model_config import YarnConfig


def frequencies(dim: int, theta: float, yarn: YarnConfig | None = None) -> np.ndarray:
    """Return the rotation frequency of each pair of channels, in radians per position.

    dim       channels of the rotary part, even
    theta     base of the geometric series, 10000 in all DeepSeek models
    yarn      slows down the slow pairs; None leaves all pairs unchanged
    returns   float64 [dim/2]
    raises    InputError if dim is odd
    source    Su et al. 2021; DeepSeek-V3 inference code (the ramp over channel indices)

    >>> frequencies(4, 10000.0)
    array([1.  , 0.01])
    """
    if dim % 2:
        raise InputError("dim", "an even number of rotary channels", dim)
    unscaled = theta ** (-np.arange(0, dim, 2) / dim)        # [dim/2]
    if yarn is None:
        return unscaled
    low, high = yarn_range(dim, theta, yarn)
    width = high - low if high != low else 0.001
    ramp = np.clip((np.arange(dim // 2) - low) / width, 0.0, 1.0)
    return unscaled * (1.0 - ramp) + unscaled / yarn.factor * ramp


def yarn_range(dim: int, theta: float, yarn: YarnConfig) -> tuple[int, int]:
    """Return the indices of the channel pairs between which YaRN's ramp rises.

    A pair with `beta` rotations over the original context has index d ln(L0 / (2 pi beta)) / (2 ln theta).

    >>> yarn_range(64, 10000.0, YarnConfig(factor=10.0, mscale=0.707))
    (10, 23)
    """
    def pair(rotations: float) -> float:
        return dim * math.log(yarn.original_length / (2 * math.pi * rotations)) / (2 * math.log(theta))

    return max(math.floor(pair(yarn.beta_fast)), 0), min(math.ceil(pair(yarn.beta_slow)), dim - 1)


def yarn_mscale(yarn: YarnConfig | None) -> float:
    """m = 0.1 * mscale * ln(s) + 1, by which YaRN scales queries and keys; 1 without YaRN.

    >>> round(yarn_mscale(YarnConfig(factor=10.0, mscale=0.707)) ** 2, 6)
    1.352087
    """
    if yarn is None or yarn.factor <= 1:
        return 1.0
    return 0.1 * yarn.mscale * math.log(yarn.factor) + 1.0


def softmax_scale(dim: int, yarn: YarnConfig | None = None) -> float:
    """(query width)^-1/2 * m^2, the factor of the score; m is squared because it scales both query and key.

    >>> round(softmax_scale(192, YarnConfig(factor=10.0, mscale=0.707)), 7)
    0.0975785
    """
    return dim**-0.5 * yarn_mscale(yarn) ** 2


def angles(positions: np.ndarray, frequency: np.ndarray) -> np.ndarray:
    """Return the rotation angle of every position and pair.

    positions   int64 [B, T], counted from 0
    frequency   float64 [dim/2]
    returns     float64 [B, T, dim/2], radians
    """
    return positions[..., None] * frequency


def rotate(x: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Rotate adjacent pairs of channels.

    x         [B, T, ..., dim] float
    angle     float64 [B, T, dim/2]
    returns   [B, T, ..., dim] same dtype, pairs still adjacent
    source    DeepSeek-V3 inference code

    >>> rotate(np.array([[[1.0, 0.0]]]), np.array([[[np.pi / 2]]])).round(3)
    array([[[0., 1.]]])
    """
    check_shapes(angle=(angle, (*x.shape[:2], x.shape[-1] // 2)))
    B, T, half = angle.shape
    angle = angle.reshape(B, T, *(1,) * (x.ndim - 3), half)
    cos, sin = np.cos(angle).astype(x.dtype), np.sin(angle).astype(x.dtype)
    even, odd = x[..., 0::2], x[..., 1::2]                   # [B, T, ..., dim/2]
    rotated = np.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1)
    return rotated.reshape(x.shape)                          # [B, T, ..., dim/2, 2] -> [B, T, ..., dim]


def half_split_order(dim: int) -> np.ndarray:
    """Return the row order that converts weights for adjacent pairs to weights for halves (x[i], x[i + dim/2]).

    With weight[half_split_order(dim)], the rotate-half form of other libraries gives the same scores.

    >>> half_split_order(6)
    array([0, 2, 4, 1, 3, 5])
    """
    return np.concatenate([np.arange(0, dim, 2), np.arange(1, dim, 2)])
