"""Limits of the machine: kernels that only move the same bytes or only perform the same operations.

A limit is a variant like any other, so it is measured in the same rounds as the work that is compared with it.
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
from engram_ref.bench.timing import Work

AHEAD = 16          # prefetch distance in rows
WORDS = 8           # int64 numbers in a cache line

pool = functools.cache(ThreadPoolExecutor)
"""One thread pool per number of workers. Starting a thread can take longer than the measured work."""


def aligned(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """A cache-line-aligned array whose pages have all been touched."""
    array = _buffers.aligned(shape, dtype)
    array.view(np.uint8).fill(1)
    return array


def split(kernel: Callable[[int, int], object], count: int, threads: int) -> Work:
    """Work that calls kernel(start, stop) for equal pieces of range(count), one per thread."""
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


def memset(array: np.ndarray, threads: int) -> Work:
    """Write every byte of an array once. The value is 1, because some processors have a fast path for zeros."""
    return split(lambda a, b: ctypes.memset(array.ctypes.data + a, 1, b - a), array.nbytes, threads)


def copy(target: np.ndarray, source: np.ndarray, threads: int) -> Work:
    """Copy `source` to `target`, an array of the same size."""
    return split(lambda a, b: ctypes.memmove(target.ctypes.data + a, source.ctypes.data + a, b - a), source.nbytes,
                 threads)


def read_rows(table: np.ndarray, rows: np.ndarray, threads: int) -> Work:
    """Read each cache line of these rows, with prefetching; a row is a multiple of 64 bytes."""
    words, flat = table.view(np.int64).reshape(-1), rows.reshape(-1)
    width = table.nbytes // len(table) // 8
    return split(lambda a, b: touch_rows(words, flat, width, a, b), len(flat), threads)


def read_all(array: np.ndarray, threads: int) -> Work:
    """Read each cache line of an array in order."""
    words = array.view(np.int64).reshape(-1)
    return split(lambda a, b: touch_lines(words, a * WORDS, b * WORDS), words.size // WORDS, threads)


@njit(nogil=True)
def touch_rows(words, rows, width, start, stop):
    """XOR of one word from each cache line of rows[start:stop]."""
    folded = 0
    for i in range(start, stop):
        if i + AHEAD < stop:
            ahead = rows[i + AHEAD] * width
            for j in range(0, width, WORDS):
                prefetch(words, ahead + j)
        here = rows[i] * width
        for j in range(0, width, WORDS):
            folded ^= words[here + j]
    return folded


@njit(nogil=True)
def touch_lines(words, start, stop):
    """XOR of one word from each cache line of words[start:stop]."""
    folded = 0
    for i in range(start, stop, WORDS):
        folded ^= words[i]
    return folded


@njit(nogil=True, error_model="numpy")
def divide(values, divisors):
    """Sum of the 64-bit remainders of every value by every divisor."""
    total = np.uint64(0)
    for i in range(len(values)):
        for j in range(len(divisors)):
            total += values[i] % divisors[j]
    return total


@njit
def nothing(*arrays):
    """Empty kernel: measures only the call overhead."""
