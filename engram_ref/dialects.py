"""The dialect table: the differences between the presets, for the command line and the docs."""

from collections.abc import Callable
from typing import Any

from engram_ref.config import EngramConfig
from engram_ref.layout import layouts


def _barrier(config: EngramConfig) -> str:
    barriers = [name for name, on in (("DEAD", config.dead_barrier), ("EOS", config.eos_id is not None)) if on]
    return ", ".join(barriers) or "none"


DIALECT_FIELDS: tuple[tuple[str, Callable[[EngramConfig], str]], ...] = (
    ("layers", lambda c: f"{', '.join(map(str, c.layer_ids))} ({c.layer_base}-based)"),
    ("vocabulary", lambda c: "raw ids" if c.vocabulary is None else c.vocabulary),
    ("hidden, branches", lambda c: f"{c.hidden_size} x {c.n_branches}"),
    ("n-gram orders", lambda c: f"2..{c.max_ngram}"),
    ("heads x row width", lambda c: f"{c.n_heads} x {c.row_width}"),
    ("nominal table size", lambda c: ", ".join(f"{size:,}" for size in dict.fromkeys(c.table_sizes))),
    ("multipliers", lambda c: f"{c.multiplier_generator} ({c.seed_index})"),
    ("window fill", lambda c: f"pad id {c.pad_id}" if c.eos_id is None else "EOS"),
    ("barriers", _barrier),
    ("table storage", lambda c: c.table_codec),
    ("projection bias", lambda c: "yes" if c.projection_bias else "no"),
    ("score", lambda c: c.score_form),
    ("gate", lambda c: c.gate_form),
    ("norm gain", lambda c: c.gain_form),
    ("query/key eps", lambda c: "machine epsilon" if c.norm_eps is None else f"{c.norm_eps:g}"),
    ("convolution", lambda c: f"{c.conv_kernel} taps, dilation {c.conv_dilation}" if c.conv_kernel else "none"),
    ("conv eps", lambda c: f"{c.conv_norm_eps:g}" if c.conv_kernel else "-"),
    ("conv init", lambda c: c.conv_init if c.conv_kernel else "-"),
    ("rounding", lambda c: c.rounding),
    ("quantiser floor", lambda c: "-" if c.rounding == "none" else f"{c.quantise_floor:g}"),
)
"""Label and value of every choice in which presets differ."""


def sizes(config: EngramConfig) -> dict[str, Any]:
    """Return layers, stored rows per layer, parameters and stored bytes of a preset's tables."""
    rows = [layout.table_rows for layout in layouts(config).values()]
    total = sum(rows)
    return {"layers": list(config.layer_ids), "rows": rows, "parameters": total * config.row_width,
            "bytes": total * config.bytes_per_row}
