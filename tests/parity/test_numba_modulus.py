"""The vectorised modulus equals Python's integer arithmetic, tested at the limits of its proof."""

import numpy as np
import pytest

import engram_ref
from engram_ref.ops import is_prime
from tests.compare import assert_close

pytest.importorskip("numba", reason="numba is not installed")
from numba import config

from engram_ref.backends.numba import hashing
from engram_ref.backends.numba.vectors.modulus import FAST_PRIMES, is_fast
from tests.parity.numba_kernels import rows_of

TOP = 2**63 - 1
COUNT = 20 if config.DISABLE_JIT else 2000


def preset_primes(name):
    """Every prime of a preset's tables: int64 [columns of all layers]."""
    return np.concatenate(list(engram_ref.Addressing(engram_ref.preset(name)).primes.values()))


FAST_PRESETS = [name for name in engram_ref.presets() if is_fast(preset_primes(name))]


def probes(prime, rng):
    """Mixes whose quotient is most likely to be wrong: near multiples of the prime, at both ends, and random."""
    multiples = [m * prime for m in rng.integers(-(TOP // prime), TOP // prime, COUNT).tolist()]
    ends = [sign * end for end in (TOP // prime * prime, 2**62, 2**53, prime, TOP - 3, 0) for sign in (1, -1)]
    around = [m + d for m in multiples + ends for d in (-3, -2, -1, 0, 1, 2, 3) if -TOP - 1 <= m + d <= TOP]
    return np.array([*around, *rng.integers(-TOP - 1, TOP, COUNT)], dtype=np.int64)


def assert_exact(prime, rng, stream=False):
    mixes, primes = probes(prime, rng), np.full(8, prime, dtype=np.int64)
    expected = np.array([[x % prime] * 8 for x in mixes.tolist()])
    assert_close(f"modulo {prime}", expected, rows_of(mixes, primes, stream), "exact")


def test_all_large_presets_are_in_the_fast_range():
    assert sorted(set(engram_ref.presets()) - set(FAST_PRESETS)) == ["tiny"]


@pytest.mark.parametrize("name", FAST_PRESETS)
def test_remainders_for_every_prime_of_a_preset(name, rng):
    primes = preset_primes(name)
    assert len(primes) >= 16
    for prime in primes.tolist():
        assert_exact(prime, rng)


EDGES = [next(p for p in numbers if is_prime(p)) for numbers in (
    range(2**12 + 1, 2**13), range(2**31 - 1, 0, -1), range(2**30, 2**31))]


@pytest.mark.parametrize("prime", EDGES)
def test_remainders_at_the_ends_of_the_proved_range(prime, rng):
    assert is_fast(np.array([prime]))
    assert_exact(prime, rng)


def test_non_temporal_stores_do_not_change_remainders(rng):
    assert_exact(EDGES[0], rng, stream=True)


def test_each_lane_uses_its_prime(rng):
    primes, mixes = preset_primes("demo")[:8], rng.integers(0, TOP, 100)
    expected = np.array([[x % p for p in primes.tolist()] for x in mixes.tolist()])
    assert_close("lanes", expected, rows_of(mixes, primes), "exact")


@pytest.mark.parametrize("prime", [FAST_PRIMES[0], FAST_PRIMES[1], 2**31 + 11, 997, 2])
def test_other_primes_are_outside_the_fast_range(prime):
    assert not is_fast(np.array([4099, prime]))


ANY_PRIMES = {"small": [2, 3, 5, 7, 11, 13, 17, 4093], "above 2^31": [2**31 + 11] * 8, "2^61": [2**61 - 1] * 8,
              "seven heads": [4099] * 7, "fast": [4099] * 8}


@pytest.mark.parametrize("kind", ANY_PRIMES)
def test_rows_for_any_primes_and_signs(kind, rng):
    """Outside the fast range, with other numbers of heads and for negative mixes, the kernel uses integer division."""
    mixes = np.concatenate([rng.integers(-(2**63), TOP, 300), [-1, 0, 1, TOP, -TOP, -(2**63)]]).reshape(1, -1, 1)
    primes = ANY_PRIMES[kind]
    found = hashing.table_rows(mixes, np.array(primes, dtype=np.int64))
    expected = [[x % p for p in primes] for x in mixes.ravel().tolist()]
    assert_close("rows", np.array(expected, dtype=np.int64)[None], found, "exact")
