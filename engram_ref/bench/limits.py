"""What the machine allows: the same bytes or operations with nothing else around them.

Each limit is a side like any other, so it is measured in the same rounds as what is held against it.
"""

import ctypes
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba import njit

from engram_ref.backends.numba.vectors.memory import prefetch
from engram_ref.bench.clock import Side

AHEAD = 16          # rows that are asked for before they are read
WORDS = 8           # int64 numbers in a cache line

_pools: dict[int, ThreadPoolExecutor] = {}


def split(kernel: Callable[[int, int], object], count: int, threads: int) -> Side:
    """A side that calls kernel(start, stop) for pieces of range(count), one a thread."""
    if threads == 1:
        return lambda: kernel(0, count)
    pool = _pools.setdefault(threads, ThreadPoolExecutor(threads - 1))
    edges = list(itertools.pairwise(i * count // threads for i in range(threads + 1)))

    def run() -> None:
        others = [pool.submit(kernel, a, b) for a, b in edges[1:]]
        kernel(*edges[0])
        for other in others:
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
    """Touch each cache line of these rows, asking for rows ahead of time; a row is a multiple of 64 bytes."""
    words, flat = table.view(np.int64).reshape(-1), rows.reshape(-1)
    width = table.nbytes // len(table) // 8
    return split(lambda a, b: touch_rows(words, flat, width, a, b), len(flat), threads)


def read_all(array: np.ndarray, threads: int) -> Side:
    """Touch each cache line of an array, from its first to its last."""
    words = array.view(np.int64).reshape(-1)
    return split(lambda a, b: touch_lines(words, a * WORDS, b * WORDS), words.size // WORDS, threads)


def divides(values: np.ndarray, divisors: np.ndarray) -> Side:
    """One 64-bit remainder of each value by each divisor, kept nowhere."""
    return lambda: sum_of_remainders(values.view(np.uint64), divisors.view(np.uint64))


def dispatch(*arrays: np.ndarray) -> Side:
    """Call a compiled function that does nothing with these arrays."""
    return lambda: nothing(*arrays)


def sgemm(a: np.ndarray, b: np.ndarray) -> Side:
    """a @ b into an array that is there already."""
    out = aligned_product(a, b)
    return lambda: np.matmul(a, b, out=out)


def aligned_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """An array for a @ b."""
    return np.zeros((a.shape[0], b.shape[1]), dtype=a.dtype)


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
def sum_of_remainders(values, divisors):
    """The sum of value % divisor over all pairs."""
    total = np.uint64(0)
    for i in range(len(values)):
        for j in range(len(divisors)):
            total += values[i] % divisors[j]
    return total


@njit
def nothing(*arrays):
    """Nothing: what remains is the call."""
