"""engram-ref presets: the named configurations, their sizes, and how their dialects differ."""

import argparse
import json
from dataclasses import asdict

from engram_ref.cli.terminal import bytes_text, style, table, width, wrap
from engram_ref.config import EngramConfig
from engram_ref.dialects import DIALECT_FIELDS, sizes
from engram_ref.presets import ALIASES, GATES, preset, presets

HELP = "the named configurations and how they differ"
DESCRIPTION = "The named configurations: sizes of their tables, and every choice in which their dialects differ."


def arguments(command: argparse.ArgumentParser) -> None:
    """`presets` has no options of its own."""


def run(options: argparse.Namespace) -> int:
    """Print the sizes, then the dialect table."""
    configs = [preset(name) for name in presets()]
    if options.json:
        print(json.dumps({"aliases": ALIASES, "presets": [asdict(c) | {"sizes": sizes(c)} for c in configs]}))
        return 0
    print("\n".join(size_lines(configs)))
    for group in groups(configs):
        print()
        print("\n".join(table(dialect_rows(group), "<" * (len(group) + 1))))
    return 0


def size_lines(configs: list[EngramConfig]) -> list[str]:
    """Rows, parameters and bytes of each preset's tables."""
    rows: list[list[object]] = [["preset", "rows of each layer's table", "parameters", "stored"]]
    for config in configs:
        found = sizes(config)
        rows.append([config.name, " + ".join(f"{r:,}" for r in found["rows"]), f"{found['parameters']:,}",
                     bytes_text(found["bytes"])])
    aliases = ", ".join(f"{alias} = {name}" for alias, name in ALIASES.items())
    notes = [f"alias: {aliases}; gates by name, for dataclasses.replace: {', '.join(GATES)}",
             *(f"{c.name}: {c.source}" for c in configs)]
    return [*table(rows, "<>>>"), *(style(line, "2") for note in notes for line in wrap(note))]


def groups(configs: list[EngramConfig]) -> list[list[EngramConfig]]:
    """As many presets side by side as the terminal holds."""
    per_line = 3 if width() < 110 else 4
    return [configs[i : i + per_line] for i in range(0, len(configs), per_line)]


def dialect_rows(configs: list[EngramConfig]) -> list[list[str]]:
    """The dialect table, presets side by side."""
    heading = ["", *(c.name for c in configs)]
    return [heading, *([label, *(value(c) for c in configs)] for label, value in DIALECT_FIELDS)]
