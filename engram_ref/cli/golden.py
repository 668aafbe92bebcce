"""engram-ref golden: hold a backend against the frozen answers, or write them out for other people's tests."""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from engram_ref.backends import BACKENDS, load
from engram_ref.cli.streams import is_terminal, say
from engram_ref.cli.terminal import BOLD, escaped, style, width, wrap
from engram_ref.errors import InputError
from engram_ref.oracle.flags import FLAGS
from engram_ref.oracle.run import adapter_of
from engram_ref.oracle.vectors import GOLDEN, export, read
from engram_ref.oracle.verify import Result, verify

HELP = "check a backend against frozen answers, or export them"
DESCRIPTION = """verify: run every golden case and name the first stage that differs, the worst element and its
distance. export DIR: write the vectors, JSON and safetensors, to a new or an empty folder for other languages'
tests."""

PATIENCE = 2.0
"""Seconds after which a terminal is told how far it is."""


def arguments(command: argparse.ArgumentParser) -> None:
    """The options of `golden`."""
    command.add_argument("action", choices=("verify", "export"), metavar="ACTION", help="verify or export")
    command.add_argument("folder", nargs="?", metavar="DIR", help="export: a folder that is new or empty")
    command.add_argument("--backend", metavar="NAME", help=f"verify: {', '.join(BACKENDS)} (default: numpy)")
    command.add_argument("--from", dest="source", metavar="DIR", help="verify: exported vectors instead of the shipped")


def run(options: argparse.Namespace) -> int:
    """Verify or export; exit code 1 where a case differs."""
    if options.action == "export":
        return run_export(options)
    if options.folder is not None:
        raise InputError("DIR", "nothing, for verify", options.folder, f"golden verify --from {options.folder}?")
    name = "numpy" if options.backend is None else options.backend
    namespace = load(name)
    vectors = read(GOLDEN if options.source is None else Path(options.source))
    results = verify(namespace, adapter_of(namespace), vectors, told_to_terminal())
    print(json.dumps(as_json(name, results)) if options.json else "\n".join(report(name, results)))
    return 0 if all(result.ok for result in results) else 1


def run_export(options: argparse.Namespace) -> int:
    """Write the vectors that ship, all or nothing."""
    if not options.folder:
        raise InputError("DIR", "a folder to write to", "none" if options.folder is None else "an empty name",
                         "engram-ref golden export DIR")
    for option, given in (("--backend", options.backend), ("--from", options.source)):
        if given is not None:
            raise InputError(option, "nothing, for export", given, "it belongs to verify")
    names = export(Path(options.folder))
    print(json.dumps({"folder": options.folder, "files": names}) if options.json else
          "\n  ".join([f"{escaped(options.folder)}: {len(names)} files", *names]))
    return 0


def told_to_terminal() -> Callable[[int, int], None]:
    """A progress function: one line on a terminal that is rewritten, once it has taken a while."""
    started = time.monotonic()

    def progress(done: int, total: int) -> None:
        if is_terminal(sys.stderr) and time.monotonic() - started > PATIENCE:
            say(f"\r{done} of {total} runs", end="\n" if done == total else "")

    return progress


def report(name: str, results: list[Result]) -> Iterator[str]:
    """How many runs of each op agree; every failure with what it usually means; other acceptable answers."""
    cases = len({result.case.name for result in results})
    yield style(f"backend {name}: {cases} cases, {len(results)} runs (with a trace and without)", BOLD)
    runs, good = Counter(r.case.op for r in results), Counter(r.case.op for r in results if r.ok)
    cells = [f"{op} {good[op]}/{runs[op]}" for op in sorted(runs)]
    room = max(map(len, cells), default=0) + 2
    per_line = max(width() // room, 1)
    for i in range(0, len(cells), per_line):
        yield "".join(cell.ljust(room) for cell in cells[i : i + per_line]).rstrip()
    yield ""
    failed = [result for result in results if not result.ok]
    for result in failed:
        for text in (str(result), *(f"  {flag}: {FLAGS.get(flag, flag)}" for flag in result.case.flags)):
            yield from wrap(text)
        yield ""
    accepted = [f"  {result}" for result in results if result.accepted is not None]
    if accepted:
        for text in (f"{len(accepted)} of {len(results)} runs gave another acceptable answer:", *accepted):
            yield from wrap(text)
        yield ""
    yield style(f"{len(failed)} of {len(results)} runs differ" if failed else "all agree", BOLD)


def as_json(name: str, results: list[Result]) -> dict[str, object]:
    """The same for programs. Elements are written as text, since JSON has neither NaN nor large integers."""
    failures = []
    for r in (result for result in results if not result.ok):
        failure = {"case": r.case.name, "op": r.case.op, "traced": r.traced, "flags": list(r.case.flags),
                   "stage": r.stage, "error": r.error}
        if (worst := r.difference) is not None:
            failure |= {"index": worst.index, "expected": repr(worst.expected), "found": repr(worst.found),
                        "ulps": worst.ulps, "allowed": worst.allowed}
        failures.append(failure)
    return {"backend": name, "runs": len(results), "ok": not failures, "failures": failures,
            "accepted": [{"case": r.case.name, "traced": r.traced, "answer": r.accepted}
                         for r in results if r.accepted is not None]}
