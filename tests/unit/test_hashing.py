"""Hashing: multipliers, windows, mixes, rows and the history, one op at a time."""

from dataclasses import replace

import numpy as np
import pytest

from engram_ref import Addressing, preset, presets
from engram_ref.literals import MULTIPLIERS
from engram_ref.ops import hashing
from engram_ref.ops.canonical import DEAD
from engram_ref.oracle.slow import addressing as slow_addressing
from engram_ref.oracle.slow import hashing as slow
from engram_ref.oracle.slow.addressing import digest

FRESH = np.full((1, 3), DEAD)
PAD = 2

# (name, ids, history, EOS, windows newest first), N = 4
WINDOWS = [
    ("first token", [7], [DEAD, DEAD, DEAD], None, [[7, 2, 2, 2]]),
    ("shorter than N", [7, 8], [DEAD, DEAD, DEAD], None, [[7, 2, 2, 2], [8, 7, 2, 2]]),
    ("history of one", [7], [DEAD, DEAD, 5], None, [[7, 5, 2, 2]]),
    ("full history", [7], [3, 4, 5], None, [[7, 5, 4, 3]]),
    ("DEAD hides everything older", [7, DEAD, 8, 9], [3, 4, 5], None,
     [[7, 5, 4, 3], [2, 2, 2, 2], [8, 2, 2, 2], [9, 8, 2, 2]]),
    ("DEAD in the history hides everything older", [7, 8], [3, DEAD, 5], None, [[7, 5, 2, 2], [8, 7, 5, 2]]),
    ("two DEADs", [DEAD, DEAD, 8], [3, 4, 5], None, [[2, 2, 2, 2], [2, 2, 2, 2], [8, 2, 2, 2]]),
    ("the window of EOS contains its own document", [7, 1, 8, 9], [3, 4, 5], 1,
     [[7, 5, 4, 3], [1, 7, 5, 4], [8, 1, 1, 1], [9, 8, 1, 1]]),
    ("EOS in the history", [7, 8], [3, 1, 5], 1, [[7, 5, 1, 1], [8, 7, 5, 1]]),
    ("EOS after EOS", [1, 1, 7], [3, 4, 5], 1, [[1, 5, 4, 3], [1, 1, 1, 1], [7, 1, 1, 1]]),
    ("EOS pads the start of the stream", [7, 8], [DEAD, DEAD, 3], 1, [[7, 3, 1, 1], [8, 7, 3, 1]]),
    ("no reset without an EOS id", [7, 1, 8], [3, 4, 5], None, [[7, 5, 4, 3], [1, 7, 5, 4], [8, 1, 7, 5]]),
    ("DEAD right after EOS", [1, DEAD, 8], [3, 4, 5], 1, [[1, 5, 4, 3], [1, 1, 1, 1], [8, 1, 1, 1]]),
    ("EOS nearer than DEAD", [DEAD, 6, 1, 8], [3, 4, 5], 1, [[1, 1, 1, 1], [6, 1, 1, 1], [1, 6, 1, 1], [8, 1, 1, 1]]),
    ("DEAD nearer than EOS", [1, DEAD, 6, 8], [3, 4, 5], 1, [[1, 5, 4, 3], [1, 1, 1, 1], [6, 1, 1, 1], [8, 6, 1, 1]]),
]


@pytest.mark.parametrize("ids, history, eos, expected", [c[1:] for c in WINDOWS], ids=[c[0] for c in WINDOWS])
def test_windows(ids, history, eos, expected):
    result = hashing.windows(np.array([ids]), np.array([history]), PAD, eos)
    assert result.tolist() == [expected]
    assert [slow.window(ids, history, t, 4, PAD, eos) for t in range(len(ids))] == expected


def test_windows_of_no_tokens():
    assert hashing.windows(np.zeros((2, 0), dtype=np.int64), np.full((2, 3), DEAD), PAD).shape == (2, 0, 4)


def test_windows_do_not_modify_their_inputs():
    ids, history = np.array([[DEAD, 5]]), FRESH.copy()
    hashing.windows(ids, history, PAD, 5)
    assert ids.tolist() == [[DEAD, 5]] and (history == DEAD).all()


def test_mix_multiplies_the_newest_token_by_the_first_multiplier():
    windows, m = np.array([[[3, 5, 6, 7]]]), np.array([11, 13, 17, 19])
    two, three = 3 * 11 ^ 5 * 13, 3 * 11 ^ 5 * 13 ^ 6 * 17
    assert hashing.mix(windows, m).tolist() == [[[two, three, three ^ 7 * 19]]]


def test_mix_keeps_every_bit_of_a_product():
    # 129,091 * 46539438283891 needs 63 bits; a float64 keeps 53 of them.
    windows, m = np.array([[[99_091, 99_089]]]), np.array([93078876567781, 93078876567779])
    assert hashing.mix(windows, m).tolist() == [[[99_091 * 93078876567781 ^ 99_089 * 93078876567779]]]


def test_mix_wraps_at_64_bits():
    windows, m = np.array([[[2**40 + 1, 3]]]), np.array([2**40 + 5, 2**62 + 1])
    result = int(hashing.mix(windows, m)[0, 0, 0])
    assert result == slow.wrap64((2**40 + 1) * (2**40 + 5)) ^ slow.wrap64(3 * (2**62 + 1))
    assert result < 0


def test_rows_use_a_floor_modulus():
    result = hashing.table_rows(np.array([[[-1, -56]]]), np.array([11, 13, 11, 13]))
    assert result.tolist() == [[[10, 12, 10, 9]]]


def test_columns_are_order_major_then_head():
    result = hashing.table_rows(np.array([[[100, 200, 300]]]), np.array([7, 11, 7, 11, 7, 11]))
    assert result.tolist() == [[[100 % 7, 100 % 11, 200 % 7, 200 % 11, 300 % 7, 300 % 11]]]


def test_rows_of_a_63_bit_mix():
    mixes, prime = np.array([[[2**63 - 1]]]), 16_000_057
    assert hashing.table_rows(mixes, np.array([prime])).tolist() == [[[(2**63 - 1) % prime]]]


@pytest.mark.parametrize("new_ids, expected", [
    ([], [DEAD, 3, 4]), ([5], [3, 4, 5]), ([5, DEAD], [4, 5, DEAD]), ([5, 6, 7], [5, 6, 7]), ([5, 6, 7, 8], [6, 7, 8]),
], ids=["no token", "one", "one and a DEAD", "N-1", "N"])  # fmt: skip
def test_next_history(new_ids, expected):
    history = np.array([[DEAD, 3, 4]])
    result = hashing.next_history(history, np.array([new_ids], dtype=np.int64))
    assert result.tolist() == [expected]
    assert history.tolist() == [[DEAD, 3, 4]]


def test_splitmix_known_answers():
    # The reference generator's first outputs: seed 0, then seed 1234567 (Vigna's splitmix64.c).
    assert hashing.splitmix64(0) == 0xE220A8397B1DCDAF
    assert hashing.splitmix64(hashing.GOLDEN_GAMMA) == 0x6E789E6AA1B965F4
    assert hashing.splitmix64(1234567) == 6457827717110365317
    assert hashing.splitmix64(2**64 - 1) == slow.splitmix64(2**64 - 1)


@pytest.mark.parametrize("size", [1, 2, 99_092, 248_320, 2**62, 2**63 - 1])
def test_the_largest_multiplier_never_overflows(size):
    half = hashing.multiplier_range(size)
    assert half == slow.half_range(size) >= 1
    largest = 2 * (half - 1) + 1
    assert (size - 1) * largest < 2**63


@pytest.mark.parametrize("index", [0, 1, 14, 10_007])
@pytest.mark.parametrize("seed", [0, 7, 2**40])
def test_pcg_multipliers_against_plain_integers(seed, index):
    result = hashing.pcg64_multipliers(seed, index, 5, 99_092)
    assert result.dtype == np.int64
    assert result.tolist() == slow.pcg_multipliers(seed, index, 5, 99_092)
    assert (result % 2 == 1).all()


@pytest.mark.parametrize("index", [0, 1, 14, 2**30])
@pytest.mark.parametrize("seed", [0, 1234, 2**63])
def test_splitmix_multipliers_against_plain_integers(seed, index):
    result = hashing.splitmix64_multipliers(seed, index, 5, 248_320)
    assert result.dtype == np.int64
    assert result.tolist() == slow.splitmix_multipliers(seed, index, 5, 248_320)


@pytest.mark.parametrize("name", presets())
def test_preset_multipliers_match_the_slow_generators(name):
    config = preset(name)
    generate = hashing.GENERATORS[config.multiplier_generator]
    expected = slow_addressing.drawn_multipliers(config)
    for ordinal, layer in enumerate(config.layer_ids):
        index = layer if config.seed_index == "layer_id" else ordinal
        drawn = generate(config.seed, index, config.max_ngram, config.canonical_size)
        assert drawn.tolist() == expected[layer] == Addressing(config).multipliers[layer].tolist()


@pytest.mark.parametrize("name", presets())
def test_generated_multipliers_against_the_slow_oracle(name):
    """A configuration without literals has different multipliers in each layer."""
    config = replace(preset(name), multipliers=None)
    result = {layer: m.tolist() for layer, m in Addressing(config).multipliers.items()}
    assert result == slow_addressing.drawn_multipliers(config)


@pytest.mark.parametrize("name", ["deepseek-v4.1-flash", "qwen4exp-ple"])
def test_published_multipliers(name, known_addressing):
    known, addressing = known_addressing[name], Addressing(preset(name))
    assert [addressing.multipliers[layer].tolist() for layer in known["layers"]] == known["multipliers"]
    if "digests" in known:
        assert digest(list(addressing.multipliers.values())) == known["digests"]["multipliers"]


@pytest.mark.parametrize("name", presets())
def test_every_preset_ships_its_literals(name, monkeypatch):
    """Presets use stored multipliers and draw none."""
    config, drawn = preset(name), slow_addressing.drawn_multipliers(preset(name))
    indices = config.layer_ids if config.seed_index == "layer_id" else range(len(config.layer_ids))
    keys = [(config.multiplier_generator, config.seed, index, config.canonical_size) for index in indices]
    missing = {key: tuple(drawn[layer]) for key, layer in zip(keys, config.layer_ids, strict=True)
                 if config.multipliers is None and key not in MULTIPLIERS}
    assert missing == {}, "add these to engram_ref/literals.py"
    monkeypatch.setattr("engram_ref.addressing.GENERATORS", {})
    assert list(Addressing(preset(name)).multipliers) == list(preset(name).layer_ids)


@pytest.mark.parametrize("key", MULTIPLIERS, ids=str)
def test_literals_match_the_generators_and_the_slow_oracle(key):
    generator, seed, index, size = key
    N = len(MULTIPLIERS[key])
    drawn = {"pcg64": slow.pcg_multipliers, "splitmix64": slow.splitmix_multipliers}[generator]
    assert hashing.GENERATORS[generator](seed, index, N, size).tolist() == list(MULTIPLIERS[key])
    assert drawn(seed, index, N, size) == list(MULTIPLIERS[key])
