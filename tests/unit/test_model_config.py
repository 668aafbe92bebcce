"""ModelConfig and its presets: published sizes, invalid configurations, and their error messages."""

from dataclasses import FrozenInstanceError, replace

import pytest

from engram_ref import InputError, preset
from engram_ref.model_config import BackboneConfig, ExpertsConfig, HyperConfig, ModelConfig
from engram_ref.model_presets import model_preset, model_presets
from scripts.builders.small_models import DENSE, ENGRAM, EXPERTS, FULL, MLA, PLAIN

NAMES = ("tiny", "small", "dense-4b", "moe-27b", "engram-27b", "engram-40b", "mhc-3b", "mhc-9b", "v3-like")


def test_presets_by_name():
    assert model_presets() == NAMES
    assert model_preset("paper") is model_preset("engram-27b")
    for name in NAMES:
        assert model_preset(name).name == name
        assert model_preset(name).source


def test_unknown_model_suggests_the_nearest():
    with pytest.raises(InputError, match=r"model: expected one of tiny, small.*did you mean engram-27b\?"):
        model_preset("engram-27")


@pytest.mark.parametrize(("name", "fields"), [
    ("mhc-3b", (12, 1, 1280, 16, 64, 896, 7168)), ("mhc-9b", (18, 1, 1920, 24, 64, 1280, 10_240)),
    ("moe-27b", (30, 1, 2560, 32, 72, 1536, 12_288)), ("engram-27b", (30, 1, 2560, 32, 55, 1536, 12_288)),
    ("engram-40b", (30, 1, 2560, 32, 55, 1536, 12_288)), ("v3-like", (61, 3, 7168, 128, 256, 2048, 18_432))])
def test_published_sizes(name, fields):
    b = model_preset(name).backbone
    result = (b.n_layers, b.n_dense_layers, b.hidden_size, b.attention.n_heads, b.experts.n_routed_experts,
              b.experts.moe_intermediate_size, b.intermediate_size)
    assert result == fields
    assert (b.attention.qk_nope_head_dim, b.attention.qk_rope_head_dim, b.attention.v_head_dim) == (128, 64, 128)
    assert b.attention.kv_lora_rank == 512
    assert b.attention.qk_head_dim == 192
    assert b.vocab_size == 129_280


def test_common_and_different_fields_of_presets():
    engram, moe, v3 = (model_preset(name).backbone for name in ("engram-27b", "moe-27b", "v3-like"))
    assert replace(engram, experts=moe.experts) == moe
    assert model_preset("engram-27b").engram == preset("engram-27b")
    assert model_preset("moe-27b").engram is model_preset("v3-like").engram is None
    assert moe.hyper == HyperConfig(4, 20, 2.0, alpha_init=0.01)
    assert (moe.n_branches, v3.n_branches) == (4, 1)
    assert (moe.attention.q_lora_rank, v3.attention.q_lora_rank) == (None, 1536)
    assert (v3.experts.n_group, v3.experts.topk_group, v3.experts.num_experts_per_tok) == (8, 4, 8)
    assert model_preset("dense-4b").backbone.experts is None


def test_engram_layer_numbers_start_at_the_base_of_the_dialect():
    """The paper's layers 2 and 15 count from 1; they are the blocks with index 1 and 14."""
    result = [index for index in range(30) if model_preset("engram-27b").engram_layer(index) is not None]
    assert result == [1, 14]
    assert [model_preset("engram-27b").engram_layer(index) for index in result] == [2, 15]
    assert [DENSE.engram_layer(0), FULL.engram_layer(0), FULL.engram_layer(1), FULL.engram_layer(2)] == [0, 1, None, 3]
    assert PLAIN.engram_layer(0) is None


EXPERT_FIELDS = {
    "experts that do not divide": ({"n_group": 4}, "n_group, topk_group: expected n_group to divide 6"),
    "no group": ({"n_group": 0}, "n_group"),
    "more groups kept than there are": ({"n_group": 3, "topk_group": 4}, "n_group, topk_group"),
    "no group kept": ({"n_group": 3, "topk_group": 0}, "topk_group: expected an integer of at least 1"),
    "groups of one": ({"n_group": 6, "topk_group": 3}, "at least two experts per group"),
    "more experts than the groups hold": ({"n_group": 3, "topk_group": 1, "num_experts_per_tok": 3},
                                          "num_experts_per_tok: expected at most 2, found 3"),
    "no expert": ({"num_experts_per_tok": 0}, "num_experts_per_tok"),
    "more experts than there are": ({"num_experts_per_tok": 7}, "num_experts_per_tok: expected at most 6"),
    "unknown score": ({"scoring_func": "relu"}, "scoring_func: expected one of sigmoid, sqrt_softplus, softmax"),
    "unknown group score": ({"group_score": "sum"}, "group_score: expected one of best_two, best"),
}


@pytest.mark.parametrize(("fields", "message"), EXPERT_FIELDS.values(), ids=EXPERT_FIELDS)
def test_invalid_expert_fields_raise(fields, message):
    with pytest.raises(InputError, match=message):
        ExpertsConfig(**{"n_routed_experts": 6, "num_experts_per_tok": 2, "n_shared_experts": 0,
                         "moe_intermediate_size": 3} | fields)


BACKBONE_FIELDS = {
    "no layers": ({"n_layers": 0, "n_dense_layers": 0}, "n_layers"),
    "more dense layers than layers": ({"n_dense_layers": 4}, "n_dense_layers: expected at most 3, the number"),
    "a negative number of dense layers": ({"n_dense_layers": -1}, "n_dense_layers: expected an integer of at least 0"),
    "layers without experts": ({"experts": None}, "n_dense_layers: expected 3, the number of layers"),
}


@pytest.mark.parametrize(("fields", "message"), BACKBONE_FIELDS.values(), ids=BACKBONE_FIELDS)
def test_invalid_backbones_raise(fields, message):
    with pytest.raises(InputError, match=message):
        replace(PLAIN.backbone, **fields)


@pytest.mark.parametrize(("fields", "message"), [
    ({"collapse": "max"}, "collapse: expected one of sum, mean, head, found 'max'"),
    ({"hc_mult": 0}, "hc_mult"), ({"iterations": 0}, "iterations")], ids=str)
def test_invalid_hyper_connections_raise(fields, message):
    with pytest.raises(InputError, match=message):
        HyperConfig(**fields)


ENGRAM_FIELDS = {
    "wrong width": ({"hidden_size": 8}, "engram.hidden_size, n_branches"),
    "wrong number of branches": ({"n_branches": 2}, "engram.hidden_size, n_branches"),
    "a layer past the end": ({"layer_ids": (1, 4)}, r"expected block numbers of at most 3, found \(1, 4\)"),
    "a layer past the end, from 0": ({"layer_ids": (3,), "layer_base": 0}, "expected block numbers of at most 2"),
    "a larger vocabulary": ({"vocab_size": 62, "canonical_size": 62}, "engram.vocab_size"),
}


@pytest.mark.parametrize(("fields", "message"), ENGRAM_FIELDS.values(), ids=ENGRAM_FIELDS)
def test_a_module_must_fit_its_backbone(fields, message):
    with pytest.raises(InputError, match=message):
        ModelConfig("unfit", "", FULL.backbone, replace(ENGRAM, **fields))


def test_configurations_are_immutable():
    with pytest.raises(FrozenInstanceError):
        FULL.backbone.n_layers = 4
    assert isinstance(hash(FULL), int)


def test_a_backbone_without_hyper_connections_has_one_branch():
    plain = BackboneConfig(1, 0, 9, 11, 5, MLA, EXPERTS, None, 1e-6)
    assert plain.n_branches == 1
    assert replace(plain, hyper=HyperConfig(3)).n_branches == 3
