"""Addressing: known answers of the releases and the demo, shapes, and canonical pad and EOS ids."""

import json
from dataclasses import replace

import numpy as np
import pytest

from engram_ref import Addressing, Vocabulary, preset, presets
from engram_ref.literals import MULTIPLIERS
from engram_ref.ops.canonical import DEAD, canonicalise
from engram_ref.oracle.slow import addressing as slow_addressing
from engram_ref.oracle.slow.addressing import digest
from engram_ref.text.maps import int64_digest
from tests.compare import assert_close
from tests.conftest import DEMO_MODULE, GOLDEN

RELEASE = "deepseek-v4.1-flash"


def known(name=RELEASE):
    return json.loads((GOLDEN / "addressing.json").read_text(encoding="utf-8"))[name]


def flat_rows_of_the_release(ids, history=None):
    """Flat rows [B, T, layer, C], the axes of the published digests."""
    addressing = Addressing(preset(RELEASE))
    return np.stack([addressing.rows(ids, layer, history, flat=True) for layer in (1, 14)], axis=2)


def test_published_rows():
    rows = flat_rows_of_the_release(np.array([[0, 3]]))
    assert rows.shape == (1, 2, 2, 24)
    assert digest(rows) == known()["digests"]["rows_of_0_3"]


def test_published_first_rows():
    rows = flat_rows_of_the_release(np.array([[0, 3]]))[0]
    result = {f"layer {layer}, position {t}": rows[t, i, :3].tolist()
              for i, layer in enumerate((1, 14)) for t in (0, 1)}
    expected = known()["first_flat_rows"]
    assert {key: result[key] for key in expected} == expected


def test_published_decode_step():
    rows = flat_rows_of_the_release(np.array([[15]]), np.array([[DEAD, 0, 3]]))
    assert digest(rows) == known()["digests"]["step_15_after_0_3"]


def test_published_decode_step_by_advancing():
    addressing = Addressing(preset(RELEASE))
    history = addressing.advance(None, np.array([[0, 3]]))
    assert digest(flat_rows_of_the_release(np.array([[15]]), history)) == known()["digests"]["step_15_after_0_3"]


def test_digest_uses_little_endian_int64():
    assert int64_digest(np.array([1, -1], dtype=np.int32)) == digest([1, -1])
    assert int64_digest(np.array([1, -1], dtype=">i8")) == digest([1, -1])
    assert int64_digest(np.arange(6).reshape(2, 3).T) == digest([0, 3, 1, 4, 2, 5])


def demo_module():
    """Configuration, layer, raw ids and rows of the demo's small module, read from its file."""
    from safetensors import safe_open

    with safe_open(DEMO_MODULE, framework="numpy") as stored:
        meta = json.loads(stored.metadata()["config"])
        ids, rows = stored.get_tensor("input_ids"), stored.get_tensor("rows")
    config = replace(
        preset("demo"), layer_ids=tuple(meta["layer_ids"]), max_ngram=meta["max_ngram"], n_heads=meta["heads"],
        table_sizes=tuple(meta["table_sizes"]), seed=meta["seed"], pad_id=meta["pad_id"],
        row_width=meta["dims_per_ngram"] // meta["heads"], hidden_size=meta["hidden"], n_branches=meta["branches"],
        conv_kernel=meta["kernel"], conv_dilation=meta["max_ngram"], vocabulary=meta["vocabulary"],
        multipliers=None,
    )  # fmt: skip
    return config, meta["layer"], ids, rows


def test_rows_of_the_demo_module():
    config, layer, ids, rows = demo_module()
    canonical = canonicalise(ids, Vocabulary.load(config.vocabulary).canonical)
    assert_close("rows", rows, Addressing(config).rows(canonical, layer), "exact")


def test_demo_module_hashes_canonical_ids_not_raw_ones():
    config, layer, ids, rows = demo_module()
    assert (Addressing(config).rows(ids, layer) != rows).any()


@pytest.mark.parametrize("name", presets())
def test_presets_against_the_slow_oracle(name):
    """Each text has no token, one token, fewer than N, exactly N, or more."""
    config, addressing = preset(name), Addressing(preset(name))
    rng = np.random.default_rng(5)
    for layer in config.layer_ids:
        for T in (0, 1, 2, 3, 9):
            ids = rng.integers(0, config.canonical_size, T)
            for flat in (False, True):
                expected = slow_addressing.rows(config, layer, ids.tolist(), addressing.pad_id, flat=flat,
                                                eos_id=addressing.eos_id)
                assert addressing.rows(ids, layer, flat=flat).tolist() == expected, (layer, T, flat)


def test_a_layer_number_off_by_one_gives_different_rows():
    """The paper counts blocks from 1, the demo from 0; the layer number seeds the multipliers."""
    right, shifted = [Addressing(replace(preset("demo"), layer_ids=layers, multipliers=None))
                   for layers in ((1, 15), (2, 16))]
    assert (right.multipliers[1] != shifted.multipliers[2]).all()
    assert np.array_equal(right.primes[1], shifted.primes[2])
    assert (right.rows([5, 6, 7], 1) != shifted.rows([5, 6, 7], 2)).any()


def test_ordinal_seeds_count_from_zero():
    config = replace(preset("qwen4exp-ple"), layer_ids=(5, 9), multipliers=None)
    result = {layer: m.tolist() for layer, m in Addressing(config).multipliers.items()}
    assert result[5] == list(MULTIPLIERS["splitmix64", 1234, 0, 248_320])
    assert result == slow_addressing.drawn_multipliers(config)


def test_windows_are_padded_with_the_canonical_pad_id():
    """Raw id 455 is " The", class 237. The presets' pad id, 2, maps to itself and would not show the difference."""
    config = replace(preset("tiny"), pad_id=455)
    addressing = Addressing(config)
    assert addressing.pad_id == 237
    ids = [10, 11, 12]
    assert addressing.rows(ids, 1).tolist() == slow_addressing.rows(config, 1, ids, 237)
    assert addressing.rows(ids, 1).tolist() != slow_addressing.rows(config, 1, ids, 455)


def test_a_document_ends_with_the_canonical_eos():
    config = replace(preset("tiny"), eos_id=455)
    addressing = Addressing(config)
    assert addressing.eos_id == 237
    ids = [10, 11, 237, 12, 13]
    assert addressing.rows(ids, 1).tolist() == slow_addressing.rows(config, 1, ids, 2, eos_id=237)


def test_rows_past_two_to_the_31():
    config = replace(preset("tiny"), table_sizes=(2**31, 2**33))
    ids = list(range(20))
    rows = Addressing(config).rows(ids, 2, flat=True)
    assert rows.tolist() == slow_addressing.rows(config, 2, ids, 2, flat=True)
    assert rows.max() > 2**33


def test_products_that_wrap_give_rows_in_range():
    literals = ((2**62 + 1, 2**61 + 5, 2**60 + 7), (2**63 - 1, 3, 5))
    config = replace(preset("tiny"), multipliers=literals)
    ids = list(range(90_000, 90_020))
    for layer in (1, 2):
        rows = Addressing(config).rows(ids, layer)
        assert rows.tolist() == slow_addressing.rows(config, layer, ids, 2)
        assert ((rows >= 0) & (rows < Addressing(config).primes[layer])).all()


def test_flat_rows_add_the_offsets():
    addressing = Addressing(preset("tiny"))
    ids = np.arange(7)
    assert np.array_equal(addressing.rows(ids, 2, flat=True) - addressing.offsets[2], addressing.rows(ids, 2))
    assert addressing.rows(ids, 2, flat=True).max() < addressing.table_rows[2]


@pytest.mark.parametrize("shape", [(0,), (1,), (2,), (0, 4), (1, 0), (3, 0), (1, 1), (2, 5)], ids=str)
def test_shapes_with_and_without_batch(shape):
    addressing = Addressing(preset("tiny"))
    ids = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    rows, history = addressing.rows(ids, 1), addressing.advance(None, ids)
    assert (rows.shape, rows.dtype) == ((*shape, 8), np.int64)
    assert (history.shape, history.dtype) == ((*shape[:-1], 2), np.int64)


def test_sequences_of_a_batch_are_independent():
    addressing = Addressing(preset("tiny"))
    ids = np.arange(15).reshape(3, 5)
    history = np.array([[DEAD, DEAD], [DEAD, 7], [8, 9]])
    together = addressing.rows(ids, 1, history)
    for one in range(3):
        assert np.array_equal(together[one], addressing.rows(ids[one], 1, history[one]))


@pytest.mark.parametrize("ids", [[], [5], [5, 6]], ids=["no token", "one", "two"])
def test_lists_are_accepted(ids):
    addressing = Addressing(preset("tiny"))
    assert addressing.rows(ids, 1).tolist() == addressing.rows(np.array(ids, dtype=np.int32), 1).tolist()


def test_inputs_are_not_modified():
    addressing = Addressing(preset("tiny"))
    ids, history = np.array([[4, DEAD, 5]]), np.array([[3, DEAD]])
    addressing.rows(ids, 1, history, flat=True)
    addressing.advance(history, ids)
    assert (ids.tolist(), history.tolist()) == ([[4, DEAD, 5]], [[3, DEAD]])


def test_layers_differ_in_multipliers_and_primes():
    addressing = Addressing(preset("tiny"))
    assert (addressing.multipliers[1] != addressing.multipliers[2]).all()
    assert not set(addressing.primes[1].tolist()) & set(addressing.primes[2].tolist())


def test_ordinals_follow_ascending_layer_numbers():
    """HF's qwen4_exp sorts the layer list before it numbers modules and assigns primes."""
    config = replace(preset("qwen4exp-ple"), layer_ids=(9, 5), table_sizes=(97, 97))
    shuffled, ascending = Addressing(config), Addressing(replace(config, layer_ids=(5, 9)))
    assert list(shuffled.primes) == [9, 5]
    for layer in config.layer_ids:
        assert shuffled.multipliers[layer].tolist() == ascending.multipliers[layer].tolist()
        assert shuffled.primes[layer].tolist() == ascending.primes[layer].tolist()
    by_layer_id = replace(config, seed_index="layer_id")
    assert Addressing(by_layer_id).primes[9].tolist() == ascending.primes[5].tolist()
