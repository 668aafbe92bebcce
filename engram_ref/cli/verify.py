"""engram-ref verify: run a backend of this package on the golden vectors."""

import argparse
import json
from collections import Counter
from collections.abc import Iterator

from engram_ref.backends import BACKENDS, RECORDING, load
from engram_ref.cli.terminal import BOLD, progress_line, style, width, wrap
from engram_ref.oracle.check.difference import worst
from engram_ref.oracle.check.judge import StageResult
from engram_ref.oracle.compare import ulp_distance
from engram_ref.oracle.flags import FLAGS
from engram_ref.oracle.run import adapter_of
from engram_ref.oracle.vectors import read
from engram_ref.oracle.verify import Result, verify

HELP = "verify a backend against golden vectors"
DESCRIPTION = """Run all golden cases with a backend, and report for each failure the first stage that differs, with the
worst element and its distance. To test a port in another language, use kit and check."""


def arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of `verify`."""
    command.add_argument("--backend", default="numpy", metavar="NAME",
                         help=f"{', '.join(BACKENDS)}, or {RECORDING}, which records for gradients (default: numpy)")


def run(options: argparse.Namespace) -> int:
    """Verify a backend; the exit code is 1 if a case differs."""
    namespace = load(options.backend)
    results = verify(namespace, adapter_of(namespace), read(), progress_line("runs"))
    print(json.dumps(as_json(options.backend, results)) if options.json else
          "\n".join(report(options.backend, results)))
    return 0 if all(result.ok for result in results) else 1


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
        for text in (*str(result).splitlines(), *(f"  {flag}: {FLAGS.get(flag, flag)}" for flag in result.case.flags)):
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
        if r.difference is not None:
            failure |= worst_of(r.difference)
        failures.append(failure)
    return {"backend": name, "runs": len(results), "ok": not failures, "failures": failures,
            "accepted": [{"case": r.case.name, "traced": r.traced, "answer": r.accepted}
                         for r in results if r.accepted is not None]}


def worst_of(result: StageResult) -> dict[str, object]:
    """The worst element of a stage that differs; its index is null if the arrays cannot be compared."""
    if result.wrong is None:
        return {"index": None, "expected": str(result.expected), "found": str(result.found), "ulps": None,
                "allowed": None}
    index = worst(result)
    expected, found = result.expected[index], result.found[index]
    return {"index": index, "expected": repr(expected.item()), "found": repr(found.item()),
            "ulps": ulp_distance(expected, found),
            "allowed": None if result.allowed is None else float(result.allowed[index])}
