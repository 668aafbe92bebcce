"""Rotary positions by complex numbers, and YaRN pair by pair."""

import cmath
import math


def turn(channels, position, speeds):
    """One vector at one position: each pair of neighbours as a complex number, turned."""
    turned = []
    for i, speed in enumerate(speeds):
        number = complex(channels[2 * i], channels[2 * i + 1]) * cmath.rect(1.0, position * speed)
        turned += [number.real, number.imag]
    return turned


def speeds(dim, theta, yarn=None):
    """Radians per position of each pair.

    `yarn` maps factor, original_length, beta_fast and beta_slow to numbers.
    """
    plain = [math.exp(-2 * i / dim * math.log(theta)) for i in range(dim // 2)]
    if yarn is None:
        return plain
    low, high = ramp_ends(dim, theta, yarn)
    found = []
    for i, speed in enumerate(plain):
        slowed = share_slowed(i, low, high)
        found.append(math.fsum([speed * (1 - slowed), speed * slowed / yarn["factor"]]))
    return found


def share_slowed(i, low, high):
    """0 before the ramp, 1 behind it."""
    if low == high:
        high = low + 0.001
    return min(max((i - low) / (high - low), 0.0), 1.0)


def ramp_ends(dim, theta, yarn):
    """Between which pairs the ramp rises: where a pair turns beta times over the trained length."""
    ends = [pair_that_turns(beta, dim, theta, yarn["original_length"])
            for beta in (yarn["beta_fast"], yarn["beta_slow"])]  # fmt: skip
    return max(math.floor(ends[0]), 0), min(math.ceil(ends[1]), dim - 1)


def pair_that_turns(times, dim, theta, length):
    """The i, found by halving, whose pair turns so many times: length * theta^(-2i/dim) = 2 pi times."""
    left, right = -4.0 * dim, 4.0 * dim
    for _ in range(200):
        middle = (left + right) / 2
        turns = length * math.exp(-2 * middle / dim * math.log(theta)) / (2 * math.pi)
        left, right = (middle, right) if turns > times else (left, middle)
    return (left + right) / 2


def sharpening(yarn):
    """m, by which YaRN multiplies queries and keys alike."""
    return 1.0 if yarn is None or yarn["factor"] <= 1 else 1 + yarn["mscale"] * math.log(yarn["factor"]) / 10
