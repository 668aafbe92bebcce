"""Invalid inputs of Addressing, presets and configurations, and their error messages."""

from dataclasses import FrozenInstanceError, asdict, replace

import numpy as np
import pytest

from engram_ref import Addressing, EngramConfig, InputError, Vocabulary, preset, presets
from engram_ref.ops.canonical import DEAD
from engram_ref.presets import GATES

TINY = Addressing(preset("tiny"))
DEMO = Addressing(preset("demo"))

BAD_IDS = {
    "no axis": (np.array(5), r"shape \[B, T\] or \[T\], found shape \[\]"),
    "three axes": (np.zeros((1, 1, 1), dtype=int), r"found shape \[1, 1, 1\]"),
    "float": (np.array([1.0]), r"integers \(int64\), found float64"),
    "bool": (np.array([True]), "found bool"),
    "too large for int64": (np.array([2**63], dtype=np.uint64), r"integers below 2\^63, found 9223372036854775808"),
    "text": (np.array(["a"]), "real numbers of at most 64 bits, found ndarray of dtype <U1"),
    "too large for any dtype": ([10**30], "real numbers of at most 64 bits, found list of dtype object"),
    "past the last class": ([1, 99_092], r"values in \[0, 99092\), found 99092 at position 1"),
    "negative": ([[1, 2], [3, -2]], r"found -2 at position \(1, 1\)"),
}

BAD_HISTORIES = {
    "too short": (np.array([3]), r"history: expected shape \[2\], found shape \[1\] .*preceding ids"),
    "too long": (np.array([1, 2, 3]), r"found shape \[3\]"),
    "empty": ([], r"found shape \[0\]"),
    "with a batch axis": (np.array([[1, 2]]), r"found shape \[1, 2\]"),
    "float": (np.array([1.0, 2.0]), "history: expected integers"),
    "past the last class": ([5, 99_092], r"history: .*found 99092 at position 1"),
    "negative": ([-2, 5], r"history: .*found -2 at position 0"),
}

BAD_CONFIGS = {
    "hidden size 0": ({"hidden_size": 0}, "hidden_size: expected an integer of at least 1, found 0"),
    "no branches": ({"n_branches": 0}, "n_branches"),
    "no heads": ({"n_heads": 0}, "n_heads"),
    "row width 0": ({"row_width": 0}, "row_width"),
    "row multiple 0": ({"row_multiple": 0}, "row_multiple"),
    "empty vocabulary": ({"vocab_size": 0}, "vocab_size"),
    "no classes": ({"canonical_size": 0}, "canonical_size"),
    "1-grams": ({"max_ngram": 1}, "max_ngram: expected an integer of at least 2, found 1"),
    "too few sizes": ({"table_sizes": (997,)}, "table_sizes: expected 2 sizes, one per order, found 1"),
    "too many sizes": ({"max_ngram": 2}, "table_sizes: expected 1 sizes"),
    "a size of 0": ({"table_sizes": (997, 0)}, "table_sizes"),
    "pad id out of range": ({"pad_id": 129_280}, r"pad_id: expected a raw id in \[0, 129280\), found 129280"),
    "negative pad id": ({"pad_id": -1}, "pad_id"),
    "EOS out of range": ({"eos_id": 129_280}, "eos_id"),
    "row width 40": ({"table_codec": "fp8_e8m0", "row_width": 40}, "row_width: expected a multiple of 32"),
    "negative kernel": ({"conv_kernel": -1}, "conv_kernel"),
    "dilation 0": ({"conv_dilation": 0}, "conv_dilation"),
    "no layers": ({"layer_ids": ()}, "layer_ids"),
    "duplicate layer": ({"layer_ids": (1, 1)}, "layer_ids: expected distinct block numbers of at least 1"),
    "a layer below the base": ({"layer_ids": (0, 1)}, "layer_ids"),
    "literals for one layer only": ({"multipliers": ((1, 3, 5),)}, "multipliers: expected 2 tuples of 3 integers"),
    "literals too short": ({"multipliers": ((1, 3), (5, 7))}, "multipliers"),
    "unknown generator": ({"multiplier_generator": "mt19937"}, "multiplier_generator: expected one of pcg64"),
    "unknown seed index": ({"seed_index": "depth"}, "seed_index"),
    "unknown codec": ({"table_codec": "int4"}, "table_codec"),
    "unknown gate": ({"gate_form": "tanh"}, "gate_form"),
    "unknown rounding": ({"rounding": "fp4"}, "rounding"),
}


@pytest.mark.parametrize("ids, message", BAD_IDS.values(), ids=BAD_IDS)
def test_bad_ids_raise(ids, message):
    for call in (lambda: TINY.rows(ids, 1), lambda: TINY.advance(None, ids)):
        with pytest.raises(InputError, match="canonical_ids: .*" + message):
            call()


@pytest.mark.parametrize("history, message", BAD_HISTORIES.values(), ids=BAD_HISTORIES)
def test_bad_histories_raise(history, message):
    for call in (lambda: TINY.rows([5], 1, history), lambda: TINY.advance(history, [5])):
        with pytest.raises(InputError, match=message):
            call()


def test_history_with_the_wrong_batch_size_raises():
    with pytest.raises(InputError, match=r"history: expected shape \[2, 2\].*found shape \[1, 2\]"):
        TINY.rows(np.array([[5], [6]]), 1, np.array([[1, 2]]))


def test_dead_without_a_barrier_raises():
    with pytest.raises(InputError, match=r"found -1 at position 1 \(this dialect has no DEAD mark\)"):
        DEMO.rows([5, DEAD], 1)


def test_dead_in_the_history_without_a_barrier_raises():
    with pytest.raises(InputError, match="history"):
        DEMO.rows([5], 1, [7, DEAD])


@pytest.mark.parametrize("layer", [0, 3, -1, "1", None], ids=repr)
def test_unknown_layer_raises(layer):
    for call in (lambda: TINY.rows([5], layer), lambda: TINY.stepper(layer)):
        with pytest.raises(InputError, match=r"one of 1, 2, the layers of tiny, .*counts blocks from 1"):
            call()


@pytest.mark.parametrize("fields, message", BAD_CONFIGS.values(), ids=BAD_CONFIGS)
def test_bad_configurations_raise(fields, message):
    with pytest.raises(InputError, match=message):
        replace(preset("tiny"), **fields)


@pytest.mark.parametrize("fields", [{"vocabulary": "deepseek-v3"}, {"canonical_size": 10}, {"vocab_size": 5}],
                         ids=["V4's sizes for V3's map", "too few classes", "too few ids"])
def test_sizes_must_match_the_vocabulary(fields):
    with pytest.raises(InputError):
        Addressing(replace(preset("tiny"), **fields))


def test_unknown_vocabulary_raises():
    with pytest.raises(InputError, match="vocabulary: expected a Vocabulary named llama, found None"):
        Addressing(replace(preset("tiny"), vocabulary="llama"))


def test_the_wrong_known_vocabulary_raises():
    with pytest.raises(InputError, match="canonical map: expected the map of deepseek-v4"):
        Addressing(preset("tiny"), Vocabulary.load("deepseek-v3"))


@pytest.mark.parametrize("name, nearest", [("demos", "demo"), ("engram-27", "engram-27b"), ("papers", "paper"),
                                           ("deepseek-v4.1", "deepseek-v4.1-flash"), ("qwen4exp", "qwen4exp-ple")])
def test_unknown_preset_suggests_the_nearest(name, nearest):
    with pytest.raises(InputError, match=rf"preset: expected one of .*tiny.*\(did you mean {nearest}\?\)"):
        preset(name)


def test_unknown_preset_without_a_near_match_gets_no_suggestion():
    with pytest.raises(InputError, match=r"found '%%%'$"):
        preset("%%%")


def test_paper_is_an_alias():
    assert preset("paper") is preset("engram-27b")
    assert "paper" not in presets()


@pytest.mark.parametrize("name", presets())
def test_presets_have_a_name_and_a_source_and_are_immutable(name):
    config = preset(name)
    assert config.name == name and config.source
    with pytest.raises(FrozenInstanceError):
        config.seed = 1
    assert EngramConfig(**asdict(config)) == config


@pytest.mark.parametrize("gate", GATES)
def test_every_gate_can_be_set_on_a_preset(gate):
    assert replace(preset("tiny"), **GATES[gate]).gate_form == GATES[gate]["gate_form"]


def test_derived_sizes():
    config = preset("deepseek-v4.1-flash")
    assert (config.orders, config.columns, config.memory_width, config.bytes_per_row) == ((2, 3, 4), 24, 6144, 264)
    assert config.conv_span == 0
    assert (preset("demo").conv_span, preset("engram-27b").memory_width) == (9, 1280)
