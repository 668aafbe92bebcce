"""Rotary position embeddings with complex numbers, and YaRN pair by pair."""

import cmath
import math


def rotate(channels, position, frequencies):
    """Rotate one vector at one position: channels 2i and 2i + 1 form a complex number."""
    rotated = []
    for i, frequency in enumerate(frequencies):
        number = complex(channels[2 * i], channels[2 * i + 1]) * cmath.rect(1.0, position * frequency)
        rotated += [number.real, number.imag]
    return rotated


def frequencies(dim, theta, yarn=None):
    """Return the radians per position of each pair.

    `yarn` maps factor, original_length, beta_fast and beta_slow to numbers.
    """
    plain = [math.exp(-2 * i / dim * math.log(theta)) for i in range(dim // 2)]
    if yarn is None:
        return plain
    low, high = ramp_ends(dim, theta, yarn)
    stretched = []
    for i, frequency in enumerate(plain):
        weight = interpolation_weight(i, low, high)
        stretched.append(math.fsum([frequency * (1 - weight), frequency * weight / yarn["factor"]]))
    return stretched


def interpolation_weight(i, low, high):
    """Return the weight of interpolation for pair i: 0 below the ramp, 1 above it."""
    if low == high:
        high = low + 0.001
    return min(max((i - low) / (high - low), 0.0), 1.0)


def ramp_ends(dim, theta, yarn):
    """Return the first and last pair of the ramp; they rotate beta_fast and beta_slow times over the trained length."""
    ends = [pair_that_rotates(beta, dim, theta, yarn["original_length"])
            for beta in (yarn["beta_fast"], yarn["beta_slow"])]
    return max(math.floor(ends[0]), 0), min(math.ceil(ends[1]), dim - 1)


def pair_that_rotates(times, dim, theta, length):
    """Return the i whose pair rotates `times` times, by bisection: length * theta^(-2i/dim) = 2 pi times."""
    left, right = -4.0 * dim, 4.0 * dim
    for _ in range(200):
        middle = (left + right) / 2
        rotations = length * math.exp(-2 * middle / dim * math.log(theta)) / (2 * math.pi)
        left, right = (middle, right) if rotations > times else (left, middle)
    return (left + right) / 2


def yarn_mscale(yarn):
    """Return m, the factor by which YaRN multiplies queries and keys."""
    return 1.0 if yarn is None or yarn["factor"] <= 1 else 1 + yarn["mscale"] * math.log(yarn["factor"]) / 10
