"""engram-ref golden: verify a backend against the golden vectors, or export them for other implementations."""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from engram_ref.backends import BACKENDS, load
from engram_ref.cli.streams import is_terminal, print_stderr
from engram_ref.cli.terminal import BOLD, escaped, style, width, wrap
from engram_ref.errors import InputError
from engram_ref.oracle.flags import FLAGS
from engram_ref.oracle.run import adapter_of
from engram_ref.oracle.vectors import GOLDEN, export, read
from engram_ref.oracle.verify import Result, verify

HELP = "verify a backend against golden vectors, or export them"
DESCRIPTION = """verify: run all golden cases, and report for each failure the first stage that differs, with the worst
element and its distance. export DIR: write the vectors as JSON and safetensors to a new or empty folder, for tests in
other languages."""

PROGRESS_DELAY = 2.0
"""Seconds before progress is shown on a terminal."""


def arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of `golden`."""
    command.add_argument("action", choices=("verify", "export"), metavar="ACTION", help="verify or export")
    command.add_argument("folder", nargs="?", metavar="DIR", help="export: the folder to write, new or empty")
    command.add_argument("--backend", metavar="NAME", help=f"verify: {', '.join(BACKENDS)} (default: numpy)")
    command.add_argument("--from", dest="source", metavar="DIR", help="verify: read exported vectors from this folder")


def run(options: argparse.Namespace) -> int:
    """Verify or export; the exit code is 1 if a case differs."""
    if options.action == "export":
        return run_export(options)
    if options.folder is not None:
        raise InputError("DIR", "no folder with verify", options.folder,
                         f"to read from it, use --from {options.folder}")
    name = "numpy" if options.backend is None else options.backend
    namespace = load(name)
    vectors = read(GOLDEN if options.source is None else Path(options.source))
    results = verify(namespace, adapter_of(namespace), vectors, terminal_progress())
    print(json.dumps(as_json(name, results)) if options.json else "\n".join(report(name, results)))
    return 0 if all(result.ok for result in results) else 1


def run_export(options: argparse.Namespace) -> int:
    """Write the included vectors atomically."""
    if not options.folder:
        raise InputError("DIR", "the name of a new folder", "none" if options.folder is None else "an empty name",
                         "use engram-ref golden export DIR")
    for option, given in (("--backend", options.backend), ("--from", options.source)):
        if given is not None:
            raise InputError(option, "no value with export", given, "only verify has this option")
    names = export(Path(options.folder))
    print(json.dumps({"folder": options.folder, "files": names}) if options.json else
          "\n  ".join([f"{escaped(options.folder)}: {len(names)} files", *names]))
    return 0


def terminal_progress() -> Callable[[int, int], None]:
    """Return a progress function that updates one line on a terminal, starting after PROGRESS_DELAY seconds."""
    started = time.monotonic()

    def progress(done: int, total: int) -> None:
        if is_terminal(sys.stderr) and time.monotonic() - started > PROGRESS_DELAY:
            print_stderr(f"\r{done} of {total} runs", end="\n" if done == total else "")

    return progress


def report(name: str, results: list[Result]) -> Iterator[str]:
    """Passing runs per op, each failure with the explanation of its flags, and other acceptable answers."""
    cases = len({result.case.name for result in results})
    yield style(f"backend {name}: {cases} cases, {len(results)} runs (with and without a trace)", BOLD)
    runs, good = Counter(r.case.op for r in results), Counter(r.case.op for r in results if r.ok)
    cells = [f"{op} {good[op]}/{runs[op]}" for op in sorted(runs)]
    cell_width = max(map(len, cells), default=0) + 2
    per_line = max(width() // cell_width, 1)
    for i in range(0, len(cells), per_line):
        yield "".join(cell.ljust(cell_width) for cell in cells[i : i + per_line]).rstrip()
    yield ""
    failed = [result for result in results if not result.ok]
    for result in failed:
        for text in (str(result), *(f"  {flag}: {FLAGS.get(flag, flag)}" for flag in result.case.flags)):
            yield from wrap(text)
        yield ""
    accepted = [f"  {result}" for result in results if result.accepted is not None]
    if accepted:
        for text in (f"{len(accepted)} of {len(results)} runs gave a different but acceptable answer:", *accepted):
            yield from wrap(text)
        yield ""
    yield style(f"{len(failed)} of {len(results)} runs differ" if failed else "all agree", BOLD)


def as_json(name: str, results: list[Result]) -> dict[str, object]:
    """The JSON report. Elements are strings, since JSON has no NaN and no large integers."""
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
