"""engram-ref count: how many parameters, what serves one token, and what the papers print."""

import argparse
import json
from dataclasses import asdict

from engram_ref.cli.terminal import bytes_text, style, table, wrap
from engram_ref.model.accounting import BUDGETS, PRINTED, Summary, agreement, budget_experts, count, summarise
from engram_ref.model_config import ModelConfig
from engram_ref.model_presets import model_preset, model_presets
from engram_ref.presets import preset

HELP = "parameters, table rows, bytes and FLOPs of a model"
DESCRIPTION = """Parameters of a model part by part, what serves one token, table rows, bytes and FLOPs, beside what
the papers print. Without PRESET, one line for each model."""

TOTALS = {
    "total": "all parameters",
    "total_one_vocab": "one vocabulary matrix",
    "active": "active, no vocabulary matrix",
    "active_one_vocab": "active, with the output matrix",
    "sparse": "sparse: P_tot - P_act (Eq. 7)",
    "tables": "Engram tables",
    "table_rows": "their rows",
}
"""Fields of Summary in the order they are shown, and their labels."""


def arguments(command: argparse.ArgumentParser) -> None:
    """The options of `count`."""
    command.add_argument("preset", nargs="?", metavar="PRESET", help="a model; without one, all: " +
                         ", ".join(model_presets()))


def run(options: argparse.Namespace) -> int:
    """Count one model in full, or all in brief."""
    configs = [model_preset(name) for name in (model_presets() if options.preset is None else [options.preset])]
    if options.json:
        print(json.dumps([as_json(config) for config in configs]))
    elif options.preset is None:
        print("\n".join(overview(configs)))
    else:
        print("\n".join(in_full(configs[0])))
    return 0


def as_json(config: ModelConfig) -> dict[str, object]:
    """Everything `count` shows of one model."""
    summary = summarise(config)
    return {"model": config.name, "source": config.source,
            "parts": {name: asdict(part) for name, part in count(config).items()}, "summary": asdict(summary),
            "printed": [{"field": field, "printed": figure, "where": where, "found": getattr(summary, field),
                         "agrees": agreement(getattr(summary, field), figure)}
                        for field, figure, where in PRINTED.get(config.name, ())]}


def short(number: float) -> str:
    """A count in billions or millions: 26.717B, 612.3M."""
    return f"{number / 1e9:.3f}B" if number >= 1e9 else f"{number / 1e6:.1f}M" if number >= 1e6 else f"{number:,}"


def rho_text(summary: Summary) -> str:
    """rho in per cent, or that there is none."""
    return "-" if summary.rho is None else f"{100 * summary.rho:.1f}%"


def overview(configs: list[ModelConfig]) -> list[str]:
    """One line a model, then every printed figure beside the count."""
    rows: list[list[object]] = [["model", "total", "one vocab", "active", "tables", "rho", "FLOPs/token"]]
    for config in configs:
        s = summarise(config)
        rows.append([config.name, short(s.total), short(s.total_one_vocab), short(s.active),
                     short(s.tables) if s.tables else "-", rho_text(s), f"{s.flops:.3g}"])
    lines = table(rows, "<>>>>>>")
    for config in configs:
        if config.name in PRINTED:
            lines += ["", style(config.name, "1"), *printed_lines(config)]
    return [*lines, "", style("budgets of the allocation study (Engram, section 3)", "1"), *budget_lines()]


def budget_lines() -> list[str]:
    """The two budgets: how many experts at rho = 40%, counted and printed."""
    rows: list[list[object]] = [["FLOPs", "P_tot", "P_act", "rho 100%", "rho 40%", "printed"]]
    for b in BUDGETS:
        rows.append([b.flops, short(b.p_total), short(b.p_active), b.experts_without_engram,
                     budget_experts(b, 0.4, preset("paper")), b.experts_at_40])
    return table(rows, ">>>>>>")


def in_full(config: ModelConfig) -> list[str]:
    """Part by part, then the totals, then what is printed."""
    summary = summarise(config)
    rows: list[list[object]] = [["part", "parameters", "active a token", "FLOPs a token"]]
    for name, part in count(config).items():
        rows.append([name, f"{part.total:,}", f"{part.active:,}", f"{part.flops:,}"])
    lines = [*(style(line, "1") for line in wrap(f"{config.name}: {config.source}")), "", *table(rows, "<>>>"), ""]
    totals = [[label, f"{getattr(summary, field):,}"] for field, label in TOTALS.items()]
    totals += [["their stored size", bytes_text(summary.table_bytes)], ["rho", rho_text(summary)],
               ["FLOPs a token", f"{summary.flops:,}"],
               ["and for each token in the cache", f"{summary.flops_per_cached_token:,}"]]
    lines += table([["total", ""], *totals], "<>")
    return [*lines, "", *printed_lines(config)] if config.name in PRINTED else lines


def printed_lines(config: ModelConfig) -> list[str]:
    """What the papers print of a model, and whether our count agrees by rounding, by truncation, or not."""
    summary = summarise(config)
    rows: list[list[object]] = [["printed", "counted", "agrees", "what", "where"]]
    for field, figure, where in PRINTED[config.name]:
        found = getattr(summary, field)
        shown = f"{100 * found:.2f}%" if figure.endswith("%") else short(found)
        rows.append([figure, shown, agreement(found, figure), TOTALS.get(field, field), where])
    return table(rows, ">><<<")
