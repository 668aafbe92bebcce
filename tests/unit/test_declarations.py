"""Declared parameters: every array of every model has a known part, kind and group."""

from collections import Counter
from dataclasses import replace

import pytest

from engram_ref import model_preset, model_presets, preset
from engram_ref.model import declarations
from engram_ref.model.accounting import PARTS
from scripts.builders.small_models import V2_EXPERTS

GROUPS = {"weight": {"matrix", "vector", "conv", "embedding", "output"}, "table": {"table"},
          "constant": {"table", ""}, "statistic": {""}}


@pytest.mark.parametrize("name", model_presets())
def test_every_array_is_declared_once_with_known_attributes(name):
    declared = list(declarations.model(model_preset(name)))
    assert len({p.name for p in declared}) == len(declared)
    for p in declared:
        assert p.part in PARTS
        assert p.group in GROUPS[p.kind]
        assert len(p.shape) >= 2 or p.group not in ("matrix", "embedding", "output", "table")
        assert (p.layer is not None) == (p.part.startswith("engram "))


def test_arrays_without_optimiser_or_gradient_are_marked():
    model = model_preset("tiny")
    result = {p.name.split(".", 2)[-1]: (p.kind, p.group) for p in declarations.model(model)}
    assert result["engram.column_offsets"] == ("constant", "")
    assert result["engram.table"] == ("table", "table")
    assert result["ffn.gate.bias"] == ("statistic", "")
    codes = {p.name: p.kind for p in declarations.engram_module(preset("deepseek-v4.1-flash"), 14)}
    assert (codes["table_codes"], codes["table_scales"]) == ("table", "constant")


def test_groups_of_the_tiny_model():
    """Group `matrix` is for Muon; some arrays with two or more axes are not matrices."""
    counted = Counter(p.group for p in declarations.model(model_preset("tiny")))
    assert counted == {"matrix": 26, "vector": 25, "conv": 2, "table": 2, "embedding": 1, "output": 1, "": 3}
    by_name = {p.name: p.group for p in declarations.engram_module(preset("demo"), 1)}
    assert (by_name["query_gain"], by_name["key_bias"], by_name["conv_weight"]) == ("vector", "vector", "conv")


def test_shapes_follow_the_configuration():
    assert declarations.expert_shapes(V2_EXPERTS, 5).keys() == (
        declarations.expert_shapes(replace(V2_EXPERTS, router_bias=True), 5).keys() - {"gate.bias"})
