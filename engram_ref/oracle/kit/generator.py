"""Generated inputs: a counter-based generator of a few lines in any language, without floating-point functions.

    z = seed + tensor * 0xD1342543DE82EF95 + (i + 1) * 0x9E3779B97F4A7C15       all modulo 2^64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9
    z = (z ^ z >> 27) * 0x94D049BB133111EB
    z =  z ^ z >> 31
    element i = ((z & 127) + (z >> 8 & 127) - 127) * 2^exponent                 of a float array, i counted in C order
    element i = z & 255                                                         of a uint8 array

Float elements are -127..127 times a power of two: numbers of bfloat16, most often near 0.
"""

import math
from collections.abc import Sequence

import numpy as np

from engram_ref.errors import InputError

LIMIT = 2**24
"""Largest number of generated elements of one array."""


def mixed(seed: int, tensor: int, indices: np.ndarray) -> np.ndarray:
    """Return z of each element: uint64 [...], for the elements' indices, uint64 [...]."""
    z = np.uint64((seed + tensor * 0xD1342543DE82EF95) % 2**64) + (indices + 1) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ z >> 30) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ z >> 27) * np.uint64(0x94D049BB133111EB)
    return z ^ z >> 31


def generate(dtype: str, shape: Sequence[int], seed: int, tensor: int, exponent: int,
             rows: Sequence[int] | None = None) -> np.ndarray:
    """Return a generated array, or only some of its rows.

    dtype      "float32", "float64" or "uint8"
    shape      of the whole array
    seed       one per case
    tensor     one per array of a case
    exponent   power of two that multiplies float elements
    rows       indices on the first axis; None: the whole array
    returns    [...] of the shape, its first axis shortened to the rows
    raises     InputError for another dtype, rows out of range, or more than LIMIT elements

    >>> generate("float32", (4,), 7, 3, -6)
    array([-0.234375, -0.921875, -0.203125,  0.21875 ], dtype=float32)
    """
    numbers = [*shape, seed, tensor, exponent, *(rows or ())]
    if dtype not in ("float32", "float64", "uint8") or not shape or any(type(n) is not int for n in numbers):
        raise InputError("generated", "float32, float64 or uint8, and integers", f"{dtype} {list(shape)}")
    chosen = range(shape[0]) if rows is None else rows
    inner = math.prod(shape[1:])
    if min(shape) < 0 or len(chosen) * inner > LIMIT or any(not 0 <= row < shape[0] for row in chosen):
        raise InputError("generated", f"rows of the array and at most {LIMIT:,} elements", f"{dtype} {list(shape)}")
    starts = np.array(chosen, dtype=np.uint64) * np.uint64(inner)
    z = mixed(seed, tensor, starts[:, None] + np.arange(inner, dtype=np.uint64)).reshape(len(chosen), *shape[1:])
    if dtype == "uint8":
        return (z & 255).astype(np.uint8)
    return np.ldexp((z & 127).astype(np.int64) + (z >> 8 & 127).astype(np.int64) - 127, exponent).astype(dtype)
