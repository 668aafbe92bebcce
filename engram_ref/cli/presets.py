"""engram-ref presets: list the presets, their table sizes and their dialects."""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict

from engram_ref.cli.terminal import DIM, bytes_text, table, width, wrap
from engram_ref.config import EngramConfig
from engram_ref.dialects import DIALECT_FIELDS, sizes
from engram_ref.presets import ALIASES, GATES, preset, presets

HELP = "list the presets and their differences"
DESCRIPTION = "List the presets with the sizes of their tables, and compare their dialects field by field."


def run(options: argparse.Namespace) -> int:
    """Print the table sizes and the comparison of dialects."""
    configs = [preset(name) for name in presets()]
    print(json.dumps({"aliases": ALIASES, "presets": [asdict(c) | {"sizes": sizes(c)} for c in configs]})
          if options.json else "\n".join(lines(configs)))
    return 0


def lines(configs: list[EngramConfig]) -> Iterator[str]:
    """Rows, parameters and bytes of each preset's tables; then the dialects, several columns per table."""
    per_preset = [(c.name, sizes(c)) for c in configs]
    yield from table(["<preset", ">rows of each layer's table", ">parameters", ">stored"],
                     ([name, " + ".join(f"{r:,}" for r in size["rows"]), f"{size['parameters']:,}",
                       bytes_text(size["bytes"])] for name, size in per_preset))
    aliases = ", ".join(f"{alias} = {name}" for alias, name in ALIASES.items())
    yield from wrap(f"alias: {aliases}; named gates, for dataclasses.replace: {', '.join(GATES)}", DIM)
    for config in configs:
        yield from wrap(f"{config.name}: {config.source}", DIM)
    per_line = 3 if width() < 110 else 4
    for i in range(0, len(configs), per_line):
        group = configs[i : i + per_line]
        yield ""
        yield from table(["<", *(f"<{c.name}" for c in group)],
                         ([label, *(value(c) for c in group)] for label, value in DIALECT_FIELDS))
