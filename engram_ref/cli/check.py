"""engram-ref check: compare the answers of a port with a kit, and explain known bugs."""

import argparse
import json
from dataclasses import fields
from pathlib import Path

from engram_ref import __version__
from engram_ref.cli.terminal import wrap
from engram_ref.errors import InputError, check_name
from engram_ref.files import check_file, write_whole
from engram_ref.oracle.bugs import BUGS, Bug, explain
from engram_ref.oracle.check.answers import read_answers
from engram_ref.oracle.check.report import as_json, text, verdict_of
from engram_ref.oracle.kit.read import read_kit

HELP = "compare the answers of a port with a kit"
DESCRIPTION = """Compare the answers in folder RESULTS with a kit written by engram-ref kit: a table by stage, the first
stage that differs, which elements, and the known bug that gives the same numbers. Exit code 1 if a case fails."""

SCREEN = 24
"""Lines of a report without --all."""

MATRIX = Path(__file__).parents[1] / "data" / "kill_matrix.json"


def arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of `check`."""
    command.add_argument("kit", nargs="?", metavar="KIT", help="folder written by engram-ref kit")
    command.add_argument("results", nargs="?", metavar="RESULTS", help="folder with the answers of the port")
    command.add_argument("--all", action="store_true", help="show every stage and every failed case")
    command.add_argument("--verdict", metavar="FILE", help="also write the verdict as JSON")
    command.add_argument("--explain", metavar="NAME", help="explain a known bug")
    command.add_argument("--list", action="store_true", help="list the known bugs")


def run(options: argparse.Namespace) -> int:
    """Check, explain or list; the exit code is 1 if a case fails."""
    given = [option for option in ("explain", "list") if getattr(options, option)]
    if given and (options.kit is not None or options.verdict is not None or len(given) > 1):
        raise InputError(f"--{given[0]}", "no other argument", "one")
    if options.list:
        return print_list(options.json)
    if options.explain is not None:
        return print_bug(options.explain, options.json)
    if not options.kit or not options.results:
        raise InputError("KIT, RESULTS", "two folders", "fewer", "write a kit with engram-ref kit KIT")
    folder, results = Path(options.kit), Path(options.results)
    if options.verdict is not None:
        parents = check_file(options.verdict, "--verdict").parents
        if {folder.resolve(), results.resolve()} & set(parents):
            raise InputError("--verdict", "a file outside KIT and RESULTS", repr(options.verdict))
    verdict = verdict_of(read_kit(folder), read_answers(results, folder))
    data = json.dumps(as_json(verdict, __version__), indent=1)
    if options.verdict is not None:
        write_whole(options.verdict, f"{data}\n".encode())
    if options.json:
        print(data)
    else:
        lines = [part for line in text(verdict, options.all) for part in wrap(line)]
        if len(lines) > SCREEN and not options.all:
            lines[SCREEN - 1 :] = ["... --all shows the rest"]
        print("\n".join(lines))
    return 1 if verdict.failures else 0


def print_bug(name: str, as_data: bool) -> int:
    """Print what a known bug does, and how to see it."""
    check_name("--explain", name, BUGS)
    if as_data:
        entry = {field.name: getattr(BUGS[name], field.name) for field in fields(Bug) if field.name != "changes"}
        print(json.dumps(entry))
    else:
        print("\n".join(line for fact in explain(name) for line in wrap(fact)))
    return 0


def print_list(as_data: bool) -> int:
    """Print the known bugs; as JSON, also those that answers in some formats cannot show."""
    if as_data:
        survivors = json.loads(MATRIX.read_text(encoding="utf-8"))["survivors"]
        print(json.dumps({"bugs": sorted(BUGS), "survivors": survivors}))
    else:
        print("\n".join(line for name in sorted(BUGS) for line in wrap(f"{name}: {BUGS[name].symptom}")))
    return 0
