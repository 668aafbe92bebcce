"""engram-ref count: how many parameters, what serves one token, and what the papers print."""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict

from engram_ref.cli.terminal import BOLD, bytes_text, style, table, wrap
from engram_ref.model.accounting import BUDGETS, PRINTED, agreement, budget_experts, count, summarise
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
    models = [counted(model_preset(n)) for n in (model_presets() if options.preset is None else [options.preset])]
    if options.json:
        print(json.dumps(models))
    else:
        print("\n".join(overview(models) if options.preset is None else in_full(*models)))
    return 0


def counted(config: ModelConfig) -> dict[str, object]:
    """Everything `count` shows of one model; what the papers print of it agrees rounded, truncated, or not."""
    summary = asdict(summarise(config))
    return {"model": config.name, "source": config.source,
            "parts": {name: asdict(part) for name, part in count(config).items()}, "summary": summary,
            "printed": [{"field": field, "printed": figure, "where": where, "found": summary[field],
                         "agrees": agreement(summary[field], figure)}
                        for field, figure, where in PRINTED.get(config.name, ())]}


def overview(models: list[dict]) -> Iterator[str]:
    """One line a model, then every printed figure beside the count, then the two budgets at rho = 40%."""
    summaries = {model["model"]: model["summary"] for model in models}
    yield from table(["<model", ">total", ">one vocab", ">active", ">tables", ">rho", ">FLOPs/token"],
                     ([name, short(s["total"]), short(s["total_one_vocab"]), short(s["active"]),
                       short(s["tables"]) if s["tables"] else "-", rho_text(s["rho"]), f"{s['flops']:.3g}"]
                      for name, s in summaries.items()))
    for model in models:
        if model["printed"]:
            yield from ("", style(model["model"], BOLD), *printed_lines(model))
    yield from ("", style("budgets of the allocation study (Engram, section 3)", BOLD))
    yield from table([">FLOPs", ">P_tot", ">P_act", ">rho 100%", ">rho 40%", ">printed"],
                     ([b.flops, short(b.p_total), short(b.p_active), b.experts_without_engram,
                       budget_experts(b, 0.4, preset("paper")), b.experts_at_40] for b in BUDGETS))


def in_full(model: dict) -> Iterator[str]:
    """Part by part, then the totals, then what is printed."""
    summary = model["summary"]
    yield from (*wrap(f"{model['model']}: {model['source']}", BOLD), "")
    yield from table(["<part", ">parameters", ">active a token", ">FLOPs a token"],
                     ([name, *(f"{part[field]:,}" for field in ("total", "active", "flops"))]
                      for name, part in model["parts"].items()))
    yield ""
    yield from table(["<total", ">"], [
        *([label, f"{summary[field]:,}"] for field, label in TOTALS.items()),
        ["their stored size", bytes_text(summary["table_bytes"])], ["rho", rho_text(summary["rho"])],
        ["FLOPs a token", f"{summary['flops']:,}"],
        ["and for each token in the cache", f"{summary['flops_per_cached_token']:,}"]])
    if model["printed"]:
        yield from ("", *printed_lines(model))


def printed_lines(model: dict) -> list[str]:
    """What the papers print of a model, beside our count."""
    value = lambda p: f"{100 * p['found']:.2f}%" if p["printed"].endswith("%") else short(p["found"])
    return table([">printed", ">counted", "<agrees", "<what", "<where"],
                 ([p["printed"], value(p), p["agrees"], TOTALS.get(p["field"], p["field"]), p["where"]]
                  for p in model["printed"]))


def short(number: float) -> str:
    """A count in billions or millions: 26.717B, 612.3M."""
    return f"{number / 1e9:.3f}B" if number >= 1e9 else f"{number / 1e6:.1f}M" if number >= 1e6 else f"{number:,}"


def rho_text(rho: float | None) -> str:
    """rho in per cent, or that there is none."""
    return "-" if rho is None else f"{100 * rho:.1f}%"
