"""Primes: the primality test, the search for table sizes, and the column offsets."""

import math

import numpy as np
import pytest

from engram_ref import Addressing, InputError, preset, presets
from engram_ref.dialects import sizes
from engram_ref.ops.primes import WITNESSES, column_offsets, is_prime, table_primes
from engram_ref.oracle.slow import primes as slow
from engram_ref.oracle.slow.addressing import digest

CARMICHAEL = (561, 1105, 1729, 2465, 2821, 6601, 8911, 41041, 825265, 321197185, 5394826801, 232250619601)
# The least composites that pass Miller-Rabin for all of the first 1, 2, ..., 7, 9 prime bases (OEIS A014233).
STRONG_PSEUDOPRIMES = (2047, 1373653, 25326001, 3215031751, 2152302898747, 3474749660383, 341550071728321,
                       3825123056546413051)
LARGE_PRIMES = (2**31 - 1, 2**61 - 1, 2**62 - 57, 2**63 - 25, 67_280_421_310_721)

SEARCHES = [
    ("one table", (7,), 1, 1),
    ("nominal size 1", (1, 1), 2, 2),
    ("nominal sizes that are prime", (11, 13), 2, 1),
    ("nominal size not prime", (14, 20), 3, 2),
    ("a later order starts below an earlier one", (101, 151, 97), 3, 2),
    ("overlapping searches", (10, 11, 12), 4, 3),
    ("one head, many layers", (997, 997), 1, 7),
]


def assert_composites(composites):
    assert [n for n in composites if is_prime(n)] == []


def test_small_numbers_against_trial_division():
    assert [n for n in range(-3, 5000) if is_prime(n) != slow.is_prime(n)] == []


def test_carmichael_numbers_are_composite():
    assert all(pow(2, n - 1, n) == 1 for n in CARMICHAEL), "they pass Fermat's test"
    assert_composites(CARMICHAEL)


def test_strong_pseudoprimes_are_composite():
    assert_composites(STRONG_PSEUDOPRIMES)


def test_squares_and_products_of_large_primes_are_composite():
    assert_composites([(2**31 - 1) ** 2, 3_037_000_493**2, 2_147_483_647 * 4_294_967_291])


@pytest.mark.parametrize("n", LARGE_PRIMES)
def test_large_primes(n):
    assert is_prime(n)


def test_the_witnesses_themselves_are_prime():
    assert all(is_prime(n) for n in WITNESSES)


@pytest.mark.parametrize("table_sizes, heads, layers", [case[1:] for case in SEARCHES], ids=[c[0] for c in SEARCHES])
def test_search_against_trial_division(table_sizes, heads, layers):
    result = table_primes(table_sizes, heads, layers)
    assert result.dtype == np.int64
    assert result.tolist() == slow.table_primes(table_sizes, heads, layers)
    assert len(np.unique(result)) == result.size, "all tables differ in size"


def test_a_prime_of_one_order_is_not_used_by_the_next():
    assert table_primes((7, 7), 2, 1).tolist() == [[7, 11, 13, 17]]


def test_a_prime_of_one_layer_is_not_used_by_the_next():
    assert table_primes((7,), 2, 2).tolist() == [[7, 11], [13, 17]]


def test_every_order_searches_from_its_own_nominal_size():
    assert table_primes((101, 5), 2, 1).tolist() == [[101, 103, 5, 7]]


def test_the_cached_result_is_read_only():
    with pytest.raises(ValueError, match="read-only"):
        table_primes((7, 7), 2, 1)[0, 0] = 8


@pytest.mark.parametrize("size", [0, -7, 2**62], ids=["zero", "negative", "too large"])
def test_nominal_size_out_of_range_raises(size):
    with pytest.raises(InputError, match="table_sizes: expected sizes of at least 1"):
        table_primes((7, size), 1, 1)


@pytest.mark.parametrize("primes, expected", [([], []), ([7], [0]), ([7, 11, 13], [0, 7, 18])],
                         ids=["none", "one", "three"])
def test_offsets_are_an_exclusive_sum(primes, expected):
    assert column_offsets(np.array(primes, dtype=np.int64)).tolist() == expected


def test_offsets_of_each_layer_start_at_zero():
    assert column_offsets(np.array([[7, 11], [13, 17]])).tolist() == [[0, 7], [0, 13]]


@pytest.mark.parametrize("name", presets())
def test_presets_against_trial_division(name):
    config = preset(name)
    result = list(Addressing(config).primes.values())
    expected = slow.table_primes(config.table_sizes, config.n_heads, len(config.layer_ids))
    assert [primes.tolist() for primes in result] == expected


@pytest.mark.parametrize("name", ["deepseek-v4.1-flash", "qwen4exp-ple"])
def test_published_primes_and_table_rows(name, known_addressing):
    known, addressing = known_addressing[name], Addressing(preset(name))
    assert [addressing.primes[layer].tolist() for layer in known["layers"]] == known["primes"]
    assert [addressing.table_rows[layer] for layer in known["layers"]] == known["table_rows"]


def test_published_digests(known_addressing):
    known, addressing = known_addressing["deepseek-v4.1-flash"]["digests"], Addressing(preset("deepseek-v4.1-flash"))
    assert digest([addressing.primes[layer] for layer in (1, 14)]) == known["primes"]
    assert digest([addressing.offsets[layer] for layer in (1, 14)]) == known["offsets"]


def test_padding_rounds_the_stored_table_up(known_addressing):
    config = preset("qwen4exp-ple")
    rows = Addressing(config).table_rows[2]
    assert sum(Addressing(config).primes[2]) == known_addressing["qwen4exp-ple"]["rows_before_padding"]
    assert rows == math.ceil(known_addressing["qwen4exp-ple"]["rows_before_padding"] / 128) * 128


@pytest.mark.parametrize("name, total", [
    ("engram-27b", 5_792_338_560), ("engram-40b", 18_534_311_360), ("deepseek-v4.1-flash", 196_613_849_600),
])  # fmt: skip
def test_table_parameters(name, total):
    assert sizes(preset(name))["parameters"] == total


def test_table_bytes_of_the_release():
    result = sizes(preset("deepseek-v4.1-flash"))
    assert result["bytes"] == 202_758_032_400
    assert result["bytes"] == 264 * sum(result["rows"])


def test_offsets_beyond_int64_raise():
    with pytest.raises(InputError):
        column_offsets(table_primes((2**61, 2**61), 4, 1))
