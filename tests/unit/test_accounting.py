"""Parameter counts: every published number, parts that sum to the total, and the allocation in both directions."""

from dataclasses import replace

import pytest

from engram_ref import InputError, preset
from engram_ref.model.accounting import (
    PARTS,
    PRINTED,
    agreement,
    allocate,
    allocation,
    count,
    expert_parameters,
    summarise,
)
from engram_ref.model.parameters import shapes
from engram_ref.model_presets import model_preset, model_presets
from scripts.builders.small_models import DENSE, FULL, HEAD, MODELS, PLAIN, random_model

FIGURES = [
    ("dense-4b", "total_one_vocab", 4_133_528_660, "4.1B", "rounded"),
    ("dense-4b", "active", 3_802_571_860, "3.8B", "rounded"),
    ("moe-27b", "total_one_vocab", 26_717_336_660, "26.7B", "rounded"),
    ("moe-27b", "active", 3_807_917_140, "3.8B", "rounded"),
    ("moe-27b", "total", 27_048_293_460, "27.0B", "rounded"),
    ("moe-27b", "active_one_vocab", 4_138_873_940, "4.14B", "rounded"),
    ("engram-27b", "total_one_vocab", 26_725_659_860, "26.7B", "rounded"),
    ("engram-27b", "active", 3_839_566_420, "3.8B", "rounded"),
    ("engram-27b", "tables", 5_792_338_560, "5.7B", "truncated"),
    ("engram-40b", "total_one_vocab", 39_467_632_660, "39.5B", "rounded"),
    ("engram-40b", "active", 3_839_566_420, "3.8B", "rounded"),
    ("engram-40b", "tables", 18_534_311_360, "18.5B", "rounded"),
    ("mhc-3b", "total", 2_972_931_976, "2.97B", "rounded"),
    ("mhc-3b", "active_one_vocab", 612_325_256, "612M", "rounded"),
    ("mhc-9b", "total", 9_178_455_372, "9.18B", "rounded"),
    ("mhc-9b", "active_one_vocab", 1_660_656_972, "1.66B", "rounded"),
]
"""Model, summary field, our count, published number, and how the two agree."""


@pytest.mark.parametrize(("name", "field", "counted", "printed", "how"), FIGURES,
                         ids=[f"{name} {field}" for name, field, *_ in FIGURES])
def test_published_numbers(name, field, counted, printed, how):
    assert getattr(summarise(model_preset(name)), field) == counted
    assert agreement(counted, printed) == how
    assert printed in [figure for known, figure, _ in PRINTED[name] if known == field]


def test_every_published_number_is_covered():
    listed = {(name, field) for name, entries in PRINTED.items() for field, _, _ in entries}
    assert listed == {(name, field) for name, field, *_ in FIGURES} | {("engram-27b", "rho")}
    assert agreement(allocation(model_preset("engram-27b")), "74.3%") == "rounded"


def matrices_by_hand(b):
    """Parameters (total, active per token) of a backbone without vocabulary and Engram, from its fields."""
    a, D, L = b.attention, b.hidden_size, b.n_layers
    query = a.n_heads * (a.qk_nope_head_dim + a.qk_rope_head_dim)
    attention = D * query if a.q_lora_rank is None else a.q_lora_rank * (D + 1 + query)
    attention += D * (a.kv_lora_rank + a.qk_rope_head_dim) + a.kv_lora_rank
    attention += a.kv_lora_rank * a.n_heads * (a.qk_nope_head_dim + a.v_head_dim) + a.n_heads * a.v_head_dim * D
    # attention, norms and dense feed-forward parts: every token uses all of them
    total = used = L * (attention + 2 * D) + D + b.n_dense_layers * 3 * D * b.intermediate_size
    if b.hyper is not None:
        M = b.hyper.hc_mult
        maps = 2 * L * ((2 * M + M * M) * (M * D + 1) + 3)
        maps += M * M * D + M + 1 if b.hyper.collapse == "head" else 0
        total, used = total + maps, used + maps
    if b.experts is not None:
        e, layers = b.experts, L - b.n_dense_layers
        one = 3 * D * e.moe_intermediate_size
        total += layers * (D * e.n_routed_experts + one * (e.n_routed_experts + e.n_shared_experts))
        used += layers * (D * e.n_routed_experts + one * (e.num_experts_per_tok + e.n_shared_experts))
    return total, used


def module_by_hand(config):
    """Parameters (total, active per token without table rows, in tables) of the Engram modules."""
    e = config.engram
    if e is None:
        return 0, 0, 0
    rows = sum(s[0] for n, s in shapes(config).items() if n.endswith(("engram.table", "engram.table_codes")))
    M, D = e.n_branches, e.hidden_size
    dense = (M + 1) * D * e.memory_width + 2 * M * D + (M + 1) * D * e.projection_bias
    dense += M * D * (1 + e.conv_kernel) if e.conv_kernel else 0
    dense *= len(e.layer_ids)
    return rows * e.row_width + dense, dense, rows * e.row_width


@pytest.mark.parametrize("config", [*map(model_preset, model_presets()), *MODELS.values()], ids=lambda c: c.name)
def test_totals_against_an_independent_count(config):
    b, result = config.backbone, summarise(config)
    vocabulary = b.vocab_size * b.hidden_size
    backbone, used = matrices_by_hand(b)
    module, module_used, tables = module_by_hand(config)
    assert result.total == backbone + module + vocabulary * (1 if b.tie_embeddings else 2)
    assert result.total_one_vocab == backbone + module + vocabulary
    assert result.active == used + module_used
    assert result.active_one_vocab == used + module_used + vocabulary
    assert result.tables == tables
    assert result.sparse == backbone + module - used - module_used


@pytest.mark.parametrize("config", [*map(model_preset, model_presets()), *MODELS.values()], ids=lambda c: c.name)
def test_parts_sum_to_the_total(config):
    parts, result = count(config), summarise(config)
    assert list(parts) == [name for name in PARTS if name in parts], "in the order of PARTS"
    assert sum(part.total for part in parts.values()) == result.total
    assert sum(part.flops for part in parts.values()) == result.flops
    assert all(part.active <= part.total or name == "output matrix" for name, part in parts.items())
    outside = ("embedding", "output matrix", "engram tables")
    assert sum(part.active for name, part in parts.items() if name not in outside) == result.active


@pytest.mark.parametrize("config", [PLAIN, FULL, HEAD, DENSE], ids=lambda c: c.name)
def test_total_equals_the_size_of_all_arrays(config):
    """The router's bias and integer offsets are state, not parameters."""
    held = sum(array.size for name, array in random_model(config).items()
               if not name.endswith(("gate.bias", "column_offsets")))
    assert summarise(config).total == held


def test_tied_embeddings_are_counted_once_and_used_twice():
    parts = count(HEAD)
    assert parts["output matrix"].total == 0
    assert parts["output matrix"].flops == 2 * parts["embedding"].total
    assert parts["embedding"].flops == 0
    assert summarise(HEAD).total == summarise(HEAD).total_one_vocab


def test_unused_experts_add_to_the_total_only():
    base, more = PLAIN, replace(PLAIN, backbone=replace(
        PLAIN.backbone, experts=replace(PLAIN.backbone.experts, n_routed_experts=50)))
    one, other = count(base)["routed experts"], count(more)["routed experts"]
    assert other.total == 10 * one.total
    assert (other.active, other.flops) == (one.active, one.flops)


def test_flops_per_cached_token():
    a, L = model_preset("moe-27b").backbone.attention, 30
    assert summarise(model_preset("moe-27b")).flops_per_cached_token == L * a.n_heads * 2 * (192 + 128)


def test_table_rows_and_bytes():
    result = summarise(model_preset("engram-27b"))
    assert result.table_rows == 72_404_232
    assert result.table_bytes == 4 * result.tables == 4 * 80 * 72_404_232


def test_rho_is_the_fraction_of_idle_expert_parameters():
    config = model_preset("engram-27b")
    idle = 49 * 3 * 2560 * 1536 * 29
    assert allocation(config) == idle / (idle + 5_792_338_560)
    assert allocation(model_preset("moe-27b")) == 1.0
    assert allocation(model_preset("dense-4b")) is None
    assert expert_parameters(config) == 3 * 2560 * 1536 * 29


@pytest.mark.parametrize(("experts", "at_40_percent"), [(106, 46), (99, 43)])
def test_both_budgets_of_the_paper(experts, at_40_percent):
    """The budget buys `experts` experts at rho = 1 and `at_40_percent` at rho = 0.4; 6 of them are active."""
    expert, engram = 51_300_000, preset("paper")
    total, active = 568e6 + (experts - 6) * expert, 568e6
    assert allocate(total, active, 1.0, expert, 6, engram) == (experts, 0)
    result, rows = allocate(total, active, 0.4, expert, 6, engram)
    assert result == at_40_percent
    spent = rows * engram.memory_width * len(engram.layer_ids)
    assert abs(spent - 0.6 * (total - active)) <= engram.memory_width * len(engram.layer_ids) / 2
    fewest, most_rows = allocate(total, active, 0.0, expert, 6, engram)
    assert fewest == 6
    assert most_rows > rows


@pytest.mark.parametrize("name", ["engram-27b", "engram-40b", "tiny", "small"])
def test_allocate_inverts_allocation(name):
    """From a preset's budget and rho, `allocate` returns its number of experts and about its number of table rows."""
    config = model_preset(name)
    result, experts = summarise(config), config.backbone.experts
    idle = (experts.n_routed_experts - experts.num_experts_per_tok) * expert_parameters(config)
    total = result.active + idle + result.tables
    n_experts, rows = allocate(total, result.active, result.rho, expert_parameters(config), experts.num_experts_per_tok,
                               config.engram)
    assert n_experts == experts.n_routed_experts
    assert abs(rows - result.table_rows / config.engram.columns / len(config.engram.layer_ids)) < 1


@pytest.mark.parametrize(("changes", "message"), [
    ({"rho": -0.1}, "rho"), ({"rho": 1.1}, "rho"), ({"rho": float("nan")}, "rho"), ({"p_active": 2e9}, "p_active"),
    ({"p_active": 0}, "p_active"), ({"p_total": -1.0}, "p_active")], ids=str)
def test_impossible_budgets_raise(changes, message):
    with pytest.raises(InputError, match=message):
        allocate(**{"p_total": 1e9, "p_active": 1e8, "rho": 0.5, "expert": 1e6, "top_k": 2,
                    "engram": preset("paper")} | changes)


@pytest.mark.parametrize(("result", "printed", "how"), [
    (1.25e9, "1.2B", "rounded"), (1.26e9, "1.2B", "truncated"), (1.31e9, "1.2B", "no"), (1.16e9, "1.2B", "rounded"),
    (999.6e6, "1000M", "rounded"), (999.6e6, "999M", "truncated"), (0.743, "74.3%", "rounded"),
    (0.7436, "74.3%", "truncated"), (0.7400, "74%", "rounded"), (2e9, "2.00B", "rounded")], ids=str)
def test_agreement_is_rounded_truncated_or_no(result, printed, how):
    assert agreement(result, printed) == how
