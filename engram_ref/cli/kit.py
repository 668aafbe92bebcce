"""engram-ref kit: write inputs and answers for tests in any language."""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from engram_ref.cli.terminal import BOLD, bytes_text, escaped, progress_line, style, wrap
from engram_ref.errors import InputError
from engram_ref.oracle.kit.cases import dialects
from engram_ref.oracle.kit.write import Written, write_kit

HELP = "write inputs and answers for a port in any language"
DESCRIPTION = """Write a self-contained folder for tests of a port in any language: specification, constants, cases as
JSON and safetensors and as plain files, a README, and a reader in C. Then engram-ref check compares the port's
answers."""


def arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of `kit`."""
    command.add_argument("folder", metavar="DIR", help="the folder to write, new or empty")
    command.add_argument("--dialect", metavar="NAME",
                         help=f"only the cases and files of this dialect: {', '.join(dialects())} (default: all)")


def run(options: argparse.Namespace) -> int:
    """Write the kit and print its size and the next steps."""
    if not options.folder:
        raise InputError("DIR", "the name of a new folder", "an empty name")
    written = write_kit(Path(options.folder), options.dialect, progress_line("cases"))
    print(json.dumps({"folder": options.folder, "dialect": options.dialect} | asdict(written)) if options.json else
          "\n".join(report(options.folder, options.dialect, written)))
    return 0


def report(folder: str, dialect: str | None, written: Written) -> Iterator[str]:
    """Lines: size, cases by kind and topic, digest, and what to do next."""
    name, cases = escaped(folder), sum(written.groups.values())
    yield style(f"{name}: {cases:,} cases for {dialect or 'every dialect'}", BOLD)
    yield f"{written.files:,} files, {bytes_text(written.bytes)}"
    yield f"sha256 {written.digest}"
    kinds = {group.split("/")[0]: {} for group in written.groups}
    for group, count in written.groups.items():
        kinds[group.split("/")[0]][group.split("/")[1]] = count
    for kind, topics in kinds.items():
        yield from wrap(f"{kind}: {sum(topics.values())}: " + ", ".join(f"{t} {n}" for t, n in topics.items()))
    yield ""
    yield f"Read {name}/README.md, write your answers to a folder, then run"
    yield f"  engram-ref check {name} ANSWERS"
