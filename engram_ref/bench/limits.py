"""What the machine allows: the same bytes or operations with nothing else around them.

Each limit is a side like any other, so it is measured in the same rounds as what is compared with it.
"""

import ctypes
import functools
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba import njit

from engram_ref.backends.numba import _buffers
from engram_ref.backends.numba.vectors.memory import prefetch
from engram_ref.bench.measure import Side

AHEAD = 16          # rows that are prefetched before they are read
WORDS = 8           # int64 numbers in a cache line

pool = functools.cache(ThreadPoolExecutor)
"""The same threads for every side that uses as many: starting one takes longer than some sides do."""


def aligned(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """An array that starts on a cache line, every page of it touched."""
    array = _buffers.aligned(shape, dtype)
    array.view(np.uint8).fill(1)
    return array


def split(kernel: Callable[[int, int], object], count: int, threads: int) -> Side:
    """A side that calls kernel(start, stop) for pieces of range(count), one per thread."""
    if threads == 1:
        return lambda: kernel(0, count)
    first, *others = itertools.pairwise(i * count // threads for i in range(threads + 1))
    submit = pool(threads - 1).submit

    def run() -> None:
        waiting = [submit(kernel, *piece) for piece in others]
        kernel(*first)
        for other in waiting:
            other.result()

    return run


def memset(array: np.ndarray, threads: int) -> Side:
    """Write every byte of an array once; ones, since some processors write zeros faster than anything else."""
    return split(lambda a, b: ctypes.memset(array.ctypes.data + a, 1, b - a), array.nbytes, threads)


def copy(target: np.ndarray, source: np.ndarray, threads: int) -> Side:
    """Copy an array onto another of the same size."""
    def piece(a: int, b: int) -> None:
        ctypes.memmove(target.ctypes.data + a, source.ctypes.data + a, b - a)

    return split(piece, source.nbytes, threads)


def read_rows(table: np.ndarray, rows: np.ndarray, threads: int) -> Side:
    """Touch each cache line of these rows, prefetching rows ahead; a row is a multiple of 64 bytes."""
    words, flat = table.view(np.int64).reshape(-1), rows.reshape(-1)
    width = table.nbytes // len(table) // 8
    return split(lambda a, b: touch_rows(words, flat, width, a, b), len(flat), threads)


def read_all(array: np.ndarray, threads: int) -> Side:
    """Touch each cache line of an array, from its first to its last."""
    words = array.view(np.int64).reshape(-1)
    return split(lambda a, b: touch_lines(words, a * WORDS, b * WORDS), words.size // WORDS, threads)


@njit(nogil=True)
def touch_rows(words, rows, width, start, stop):
    """The exclusive or of one word of each cache line of rows[start:stop]."""
    seen = 0
    for i in range(start, stop):
        if i + AHEAD < stop:
            ahead = rows[i + AHEAD] * width
            for j in range(0, width, WORDS):
                prefetch(words, ahead + j)
        here = rows[i] * width
        for j in range(0, width, WORDS):
            seen ^= words[here + j]
    return seen


@njit(nogil=True)
def touch_lines(words, start, stop):
    """The exclusive or of one word of each cache line of words[start:stop]."""
    seen = 0
    for i in range(start, stop, WORDS):
        seen ^= words[i]
    return seen


@njit(nogil=True, error_model="numpy")
def divide(values, divisors):
    """One 64-bit remainder of each value by each divisor: their sum."""
    total = np.uint64(0)
    for i in range(len(values)):
        for j in range(len(divisors)):
            total += values[i] % divisors[j]
    return total


@njit
def nothing(*arrays):
    """Nothing: what remains is the call."""
