"""Compiled wrappers of the Numba backend's private vector functions, for tests."""

import numpy as np
from numba import njit

from engram_ref.backends.numba.vectors import exp, fp8, memory, modulus, sums


@njit(error_model="numpy")
def remainders(mixes, columns, stream, rows):
    """Write the eight rows of every mix, one mix after another."""
    for i in range(mixes.size):
        modulus.store_remainders(mixes[i], columns, 0, rows, 8 * i, stream)


@njit(error_model="numpy")
def decoded(codes, scale, rounded, memory):
    for i in range(0, codes.size, fp8.WIDTH):
        fp8.store_decoded(codes, i, scale, rounded, memory, i, False)


@njit(error_model="numpy")
def copied(source, i, target, j):
    memory.prefetch(source, i)
    memory.copy_line(source, i, target, j, False)


@njit(error_model="numpy")
def exponentials(x, y):
    for i in range(x.size):
        y[i] = exp.exp_negative(x[i])


@njit(error_model="numpy")
def dots(a, i, b, j, count):
    return sums.dot(a, i, b, j, count)


@njit(error_model="numpy")
def triples(a, i, b, j, c, k, count):
    return sums.triple(a, i, b, j, c, k, count)


def rows_of(mixes, primes, stream=False):
    """Mixes [n] modulo eight primes: int64 [n, 8]."""
    from engram_ref.backends.numba._buffers import aligned

    rows = aligned((len(mixes), 8), np.int64)
    remainders(mixes, modulus.Columns(primes, 1.0 / primes, np.zeros(8, np.int64), True), stream, rows.reshape(-1))
    return rows
