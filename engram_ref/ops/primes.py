"""Primes: the sizes of all tables are distinct primes.

All heads of an order reduce the same mix, each modulo the size of its own table. With equal sizes, two heads would
collide on exactly the same n-grams; with distinct primes, the collisions of different heads are nearly independent. The
nominal size is therefore only the start of the search.

    p[1] = smallest unused prime >= nominal size, p[k+1] = next unused prime
"""

import functools

import numpy as np

from engram_ref.config import ROW_LIMIT
from engram_ref.errors import InputError

WITNESSES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)
"""Bases with which the Miller-Rabin test is exact below 3.3e24 (Sorenson and Webster 2015)."""


def is_prime(n: int) -> bool:
    """Return whether n is prime, by the deterministic Miller-Rabin test.

    n         an integer below 2^63
    returns   True or False, always exact
    source    Miller 1976, Rabin 1980; the bases are Sorenson and Webster's

    >>> [n for n in range(30) if is_prime(n)]
    [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]
    """
    if n < 2:
        return False
    for p in WITNESSES:
        if n % p == 0:
            return n == p
    return all(_passes(n, base) for base in WITNESSES)


def _passes(n: int, base: int) -> bool:
    """Run one round of Miller-Rabin: with n - 1 = odd * 2^twos, check that base^odd reaches 1 as for a prime n."""
    twos = ((n - 1) & (1 - n)).bit_length() - 1      # exponent of 2 in n - 1, from its lowest set bit
    x = pow(base, (n - 1) >> twos, n)
    if x in (1, n - 1):
        return True
    for _ in range(twos - 1):
        x = x * x % n
        if x == n - 1:
            return True
    return False


@functools.cache
def table_primes(table_sizes: tuple[int, ...], n_heads: int, n_layers: int) -> np.ndarray:
    """Return the number of rows of every table in every layer: distinct primes, at or just above the nominal size.

    table_sizes   nominal rows of one head's table, one per order
    n_heads       H, tables per order
    n_layers      number of layers, in the order of the configuration
    returns       int64 [layers, C], order-major, then head; read-only, since the result is cached
    raises        InputError if a size is below 1, or if the row indices of a layer would not fit in int64
    source        Engram demo; V4.1 release

    >>> table_primes((7, 7), n_heads=2, n_layers=1)
    array([[ 7, 11, 13, 17]])
    """
    if min(table_sizes) < 1 or sum(table_sizes) * n_heads >= ROW_LIMIT:
        raise InputError("table_sizes", "sizes of at least 1 and fewer than 2^62 rows per layer", table_sizes)
    used: set[int] = set()
    sizes = [_next_primes(size, n_heads, used) for _ in range(n_layers) for size in table_sizes]
    primes = np.array(sizes, dtype=np.int64).reshape(n_layers, len(table_sizes) * n_heads)
    primes.setflags(write=False)
    return primes


def _next_primes(nominal: int, count: int, used: set[int]) -> list[int]:
    """Return the first `count` unused primes that are at least `nominal`, and add them to `used`."""
    primes: list[int] = []
    candidate = nominal
    while len(primes) < count:
        if candidate not in used and is_prime(candidate):
            primes.append(candidate)
            used.add(candidate)
        candidate += 1
    return primes


def column_offsets(primes: np.ndarray) -> np.ndarray:
    """Return where each column's table starts in the layer's flat table: an exclusive running sum.

    primes    int64 [..., C]
    returns   int64 [..., C]; the first is 0
    source    Engram demo; V4.1 release

    >>> column_offsets(np.array([7, 11, 13]))
    array([ 0,  7, 18])
    """
    return np.cumsum(primes, axis=-1) - primes
