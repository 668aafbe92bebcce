"""Parameter counts of a model, in total and active per token, and the FLOPs that follow from them.

Papers count differently, so each part is counted separately and each total states what it includes:

    total     all parameters; `total_one_vocab` counts the embedding and the output matrix as one
    active    parameters used by one token: of the routed experts only those selected, of the tables only rows read
    sparse    P_sparse = P_tot - P_act, both without the two vocabulary matrices (Engram paper, Eq. 7)
    rho       the fraction of P_sparse in inactive routed experts; the rest is in Engram tables
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engram_ref.config import EngramConfig
from engram_ref.dialects import sizes as table_sizes
from engram_ref.errors import InputError
from engram_ref.model import declarations
from engram_ref.model_config import ModelConfig

PARTS = ("embedding", "output matrix", "attention", "dense feed-forward", "router", "routed experts",
         "shared experts", "hyper-connections", "norms", "engram tables", "engram projections", "engram rest")
"""The kinds of parameters that are counted separately."""

MULTIPLIED = ("matrix", "conv", "output")       # parameter groups in which each value is multiplied once per token


@dataclass(frozen=True)
class Part:
    """Counts of one kind of parameter."""

    total: int
    active: int         # per token
    flops: int          # per token: 2 for each matrix weight that the token is multiplied by


def count(config: ModelConfig) -> dict[str, Part]:
    """Counts of each part of a model, in the order of PARTS; parts that the model lacks are omitted.

    Integer constants (column offsets) and the router's balancing bias, which has no gradient, are not counted.
    For an FP8 table the values are counted, not the scales.
    """
    counts = {part: [0, 0, 0] for part in PARTS}
    for p in declarations.model(config):
        if p.kind not in ("weight", "table"):
            continue
        total = math.prod(p.shape)
        active = active_parameters(p.part, total, config)
        for i, amount in enumerate((total, active, 2 * active * (p.group in MULTIPLIED))):
            counts[p.part][i] += amount
    if config.backbone.tie_embeddings:
        counts["output matrix"] = [0, 0, 2 * counts["embedding"][0]]
    return {part: Part(*amounts) for part, amounts in counts.items() if any(amounts)}


def active_parameters(part: str, total: int, config: ModelConfig) -> int:
    """Number of parameters of one array that one token uses; `total` is the size of the array."""
    if part == "routed experts":
        experts = config.backbone.experts
        return total // experts.n_routed_experts * experts.num_experts_per_tok
    if part == "engram tables":
        return config.engram.memory_width
    return config.backbone.hidden_size if part == "embedding" else total


@dataclass(frozen=True)
class Summary:
    """The totals of a model: numbers of parameters unless stated otherwise."""

    total: int
    total_one_vocab: int        # embedding and output matrix counted once
    active: int                 # without the two vocabulary matrices
    active_one_vocab: int       # with the output matrix
    sparse: int                 # P_tot - P_act, both without vocabulary matrices; includes the whole tables
    tables: int
    table_rows: int
    table_bytes: int            # in the dialect's table codec
    rho: float | None           # None without experts
    flops: int                  # per token, without FLOPs that grow with the context
    flops_per_cached_token: int     # per token for each cached token, expanded form


def summarise(config: ModelConfig) -> Summary:
    """Return the totals of a model."""
    parts, a = count(config), config.backbone.attention
    total = sum(part.total for part in parts.values())
    vocab, both = parts["embedding"].total, parts["embedding"].total + parts["output matrix"].total
    active = sum(part.active for name, part in parts.items()
                 if name not in ("embedding", "output matrix", "engram tables"))
    none: dict[str, Any] = {"rows": [], "parameters": 0, "bytes": 0}
    tables = none if config.engram is None else table_sizes(config.engram)
    return Summary(
        total=total, total_one_vocab=total - both + vocab, active=active, active_one_vocab=active + vocab,
        sparse=total - both - active, tables=tables["parameters"], table_rows=sum(tables["rows"]),
        table_bytes=tables["bytes"], rho=allocation(config), flops=sum(part.flops for part in parts.values()),
        flops_per_cached_token=2 * config.backbone.n_layers * a.n_heads * (a.qk_head_dim + a.v_head_dim))


def expert_parameters(config: ModelConfig) -> int:
    """Parameters of one routed expert, summed over all layers with experts."""
    backbone = config.backbone
    layers = backbone.n_layers - backbone.n_dense_layers
    return 3 * backbone.hidden_size * backbone.experts.moe_intermediate_size * layers


def allocation(config: ModelConfig) -> float | None:
    """rho: inactive expert parameters divided by the sum of these and the table parameters; None without experts."""
    experts = config.backbone.experts
    if experts is None:
        return None
    idle = (experts.n_routed_experts - experts.num_experts_per_tok) * expert_parameters(config)
    tables = 0 if config.engram is None else table_sizes(config.engram)["parameters"]
    return idle / (idle + tables)


def allocate(p_total: float, p_active: float, rho: float, expert: float, top_k: int,
             engram: EngramConfig) -> tuple[int, int]:
    """Split a sparse budget by rho into a number of routed experts and a table size; the inverse of `allocation`.

    p_total, p_active   parameter counts, excluding vocabulary matrices
    rho                 fraction of the sparse budget for routed experts, in [0, 1]
    expert              parameters of one routed expert over all layers (expert_parameters)
    top_k               experts per token
    engram              determines columns, row width and number of layers
    returns             n_routed_experts and rows of one table, each rounded to the nearest integer
    raises              InputError for rho outside [0, 1] or a budget below zero

    >>> from engram_ref.presets import preset
    >>> allocate(5.7e9, 568e6, 1.0, (5_700_000_000 - 568_000_000) // 100, 6, preset("paper"))
    (106, 0)
    """
    if not 0 <= rho <= 1:
        raise InputError("rho", "a fraction in [0, 1]", rho)
    if not 0 < p_active < p_total:
        raise InputError("p_active", f"a number between 0 and p_total, {p_total:g}", p_active)
    sparse = p_total - p_active
    experts = top_k + round(rho * sparse / expert)
    rows = round((1 - rho) * sparse / (engram.memory_width * len(engram.layer_ids)))
    return experts, rows


@dataclass(frozen=True)
class Budget:
    """One budget of the Engram paper's allocation study (section 3), with the expert counts of two splits."""

    flops: str                  # training FLOPs
    p_total: float
    p_active: float
    experts_without_engram: int
    experts_at_40: int          # routed experts stated for rho = 40%


BUDGETS = (Budget("2e20", 5.7e9, 568e6, 106, 46), Budget("6e20", 9.9e9, 993e6, 99, 43))
"""The two budgets of the paper's section 3, with its expert counts."""

BUDGET_TOP_K = 6            # routed experts per token, in both budgets


def budget_experts(budget: Budget, rho: float, engram: EngramConfig) -> int:
    """Number of routed experts for a budget and rho; the expert size follows from the paper's count at rho = 1."""
    expert = (budget.p_total - budget.p_active) / (budget.experts_without_engram - BUDGET_TOP_K)
    return allocate(budget.p_total, budget.p_active, rho, expert, BUDGET_TOP_K, engram)[0]


def agreement(counted: float, printed: str) -> str:
    """How a count agrees with a published number such as "26.7B": "rounded" or "truncated"; "no" if it does not.

    >>> agreement(5_792_338_560, "5.7B"), agreement(26_716_000_000, "26.7B")
    ('truncated', 'rounded')
    """
    unit = {"B": 1e9, "M": 1e6, "%": 0.01}[printed[-1]]
    digits = len(printed[:-1].partition(".")[2])
    value = counted / unit
    if f"{value:.{digits}f}" == printed[:-1]:
        return "rounded"
    truncated = math.floor(value * 10**digits + 1e-9) / 10**digits
    return "truncated" if f"{truncated:.{digits}f}" == printed[:-1] else "no"


PRINTED: Mapping[str, tuple[tuple[str, str, str], ...]] = {
    "dense-4b": (("total_one_vocab", "4.1B", "Engram, Table 5"), ("active", "3.8B", "Engram, Table 5")),
    "moe-27b": (("total_one_vocab", "26.7B", "Engram, Table 5"), ("active", "3.8B", "Engram, Table 5"),
                ("total", "27.0B", "mHC, Table 5"), ("active_one_vocab", "4.14B", "mHC, Table 5")),
    "engram-27b": (("total_one_vocab", "26.7B", "Engram, Table 5"), ("active", "3.8B", "Engram, Table 5"),
                   ("tables", "5.7B", "Engram, Table 5"), ("rho", "74.3%", "Engram, Table 5")),
    "engram-40b": (("total_one_vocab", "39.5B", "Engram, Table 5"), ("active", "3.8B", "Engram, Table 5"),
                   ("tables", "18.5B", "Engram, Table 5")),
    "mhc-3b": (("total", "2.97B", "mHC, Table 5"), ("active_one_vocab", "612M", "mHC, Table 5")),
    "mhc-9b": (("total", "9.18B", "mHC, Table 5"), ("active_one_vocab", "1.66B", "mHC, Table 5")),
}
"""Preset -> numbers published in the papers: (field of Summary, number, source)."""
