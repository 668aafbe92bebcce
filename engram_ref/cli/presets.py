"""engram-ref presets: the named configurations, their sizes, and how their dialects differ."""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict

from engram_ref.cli.terminal import DIM, bytes_text, table, width, wrap
from engram_ref.config import EngramConfig
from engram_ref.dialects import DIALECT_FIELDS, sizes
from engram_ref.presets import ALIASES, GATES, preset, presets

HELP = "the named configurations and how they differ"
DESCRIPTION = "The named configurations: sizes of their tables, and every choice in which their dialects differ."


def run(options: argparse.Namespace) -> int:
    """Print the sizes, then the dialect table."""
    configs = [preset(name) for name in presets()]
    print(json.dumps({"aliases": ALIASES, "presets": [asdict(c) | {"sizes": sizes(c)} for c in configs]})
          if options.json else "\n".join(lines(configs)))
    return 0


def lines(configs: list[EngramConfig]) -> Iterator[str]:
    """Rows, parameters and bytes of each preset's tables; then the dialects, as many side by side as fit."""
    found = [(c.name, sizes(c)) for c in configs]
    yield from table(["<preset", ">rows of each layer's table", ">parameters", ">stored"],
                     ([name, " + ".join(f"{r:,}" for r in size["rows"]), f"{size['parameters']:,}",
                       bytes_text(size["bytes"])] for name, size in found))
    aliases = ", ".join(f"{alias} = {name}" for alias, name in ALIASES.items())
    yield from wrap(f"alias: {aliases}; gates by name, for dataclasses.replace: {', '.join(GATES)}", DIM)
    for config in configs:
        yield from wrap(f"{config.name}: {config.source}", DIM)
    per_line = 3 if width() < 110 else 4
    for i in range(0, len(configs), per_line):
        group = configs[i : i + per_line]
        yield ""
        yield from table(["<", *(f"<{c.name}" for c in group)],
                         ([label, *(value(c) for c in group)] for label, value in DIALECT_FIELDS))
