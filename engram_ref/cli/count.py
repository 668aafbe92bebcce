"""engram-ref count: parameter counts of the models, total and active per token, compared with the papers."""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict

from engram_ref.cli.terminal import BOLD, bytes_text, style, table, wrap
from engram_ref.model.accounting import BUDGETS, PRINTED, agreement, budget_experts, count, summarise
from engram_ref.model_config import ModelConfig
from engram_ref.model_presets import model_preset, model_presets
from engram_ref.presets import preset

HELP = "count a model's parameters, table rows, bytes and FLOPs"
DESCRIPTION = """Count a model's parameters part by part, in total and active per token, with table rows, bytes and
FLOPs, and compare the counts with the numbers in the papers. Without PRESET, print an overview of all models."""

TOTALS = {
    "total": "all parameters",
    "total_one_vocab": "one vocabulary matrix",
    "active": "active, no vocabulary matrix",
    "active_one_vocab": "active, with the output matrix",
    "sparse": "sparse: P_tot - P_act (Eq. 7)",
    "tables": "Engram tables",
    "table_rows": "Engram table rows",
}
"""Fields of Summary in the order of output, with their labels."""


def arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of `count`."""
    command.add_argument("preset", nargs="?", metavar="PRESET", help="model (default: all): " +
                         ", ".join(model_presets()))


def run(options: argparse.Namespace) -> int:
    """Print the full counts of one model, or an overview of all."""
    models = [counted(model_preset(n)) for n in (model_presets() if options.preset is None else [options.preset])]
    if options.json:
        print(json.dumps(models))
    else:
        print("\n".join(overview(models) if options.preset is None else details(*models)))
    return 0


def counted(config: ModelConfig) -> dict[str, object]:
    """All counts of one model, and how they agree with each published number: rounded, truncated or no."""
    summary = asdict(summarise(config))
    return {"model": config.name, "source": config.source,
            "parts": {name: asdict(part) for name, part in count(config).items()}, "summary": summary,
            "printed": [{"field": field, "printed": figure, "where": where, "found": summary[field],
                         "agrees": agreement(summary[field], figure)}
                        for field, figure, where in PRINTED.get(config.name, ())]}


def overview(models: list[dict]) -> Iterator[str]:
    """One line per model, then the published numbers next to our counts, then the two budgets at rho = 40%."""
    summaries = {model["model"]: model["summary"] for model in models}
    yield from table(["<model", ">total", ">one vocab", ">active", ">tables", ">rho", ">FLOPs/token"],
                     ([name, short(s["total"]), short(s["total_one_vocab"]), short(s["active"]),
                       short(s["tables"]) if s["tables"] else "-", rho_text(s["rho"]), f"{s['flops']:.3g}"]
                      for name, s in summaries.items()))
    for model in models:
        if model["printed"]:
            yield from ("", style(model["model"], BOLD), *printed_lines(model))
    yield from ("", style("budgets of the allocation study (Engram, section 3)", BOLD))
    yield from table([">FLOPs", ">P_tot", ">P_act", ">rho 100%", ">rho 40%", ">published"],
                     ([b.flops, short(b.p_total), short(b.p_active), b.experts_without_engram,
                       budget_experts(b, 0.4, preset("paper")), b.experts_at_40] for b in BUDGETS))


def details(model: dict) -> Iterator[str]:
    """Counts by part, then the totals, then the published numbers."""
    summary = model["summary"]
    yield from (*wrap(f"{model['model']}: {model['source']}", BOLD), "")
    yield from table(["<part", ">parameters", ">active per token", ">FLOPs per token"],
                     ([name, *(f"{part[field]:,}" for field in ("total", "active", "flops"))]
                      for name, part in model["parts"].items()))
    yield ""
    yield from table(["<total", ">"], [
        *([label, f"{summary[field]:,}"] for field, label in TOTALS.items()),
        ["Engram table size", bytes_text(summary["table_bytes"])], ["rho", rho_text(summary["rho"])],
        ["FLOPs per token", f"{summary['flops']:,}"],
        ["plus, per cached token", f"{summary['flops_per_cached_token']:,}"]])
    if model["printed"]:
        yield from ("", *printed_lines(model))


def printed_lines(model: dict) -> list[str]:
    """Table of the numbers published in the papers, next to our counts."""
    value = lambda p: f"{100 * p['found']:.2f}%" if p["printed"].endswith("%") else short(p["found"])
    return table([">published", ">counted", "<agrees", "<quantity", "<source"],
                 ([p["printed"], value(p), p["agrees"], TOTALS.get(p["field"], p["field"]), p["where"]]
                  for p in model["printed"]))


def short(number: float) -> str:
    """Format a count in billions or millions: 26.717B, 612.3M."""
    return f"{number / 1e9:.3f}B" if number >= 1e9 else f"{number / 1e6:.1f}M" if number >= 1e6 else f"{number:,}"


def rho_text(rho: float | None) -> str:
    """Format rho as a percentage; "-" for None."""
    return "-" if rho is None else f"{100 * rho:.1f}%"
