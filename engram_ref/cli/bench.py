"""engram-ref bench: how fast it is here, beside frozen rivals and the machine's own limits."""

import argparse
import json
import os
from collections.abc import Mapping

from engram_ref.backends import load
from engram_ref.checks import integer
from engram_ref.cli.source import output_path
from engram_ref.cli.streams import say
from engram_ref.cli.terminal import BOLD, DIM, table, wrap
from engram_ref.errors import InputError
from engram_ref.files import write_whole
from engram_ref.packages import require

HELP = "measure speed beside plain versions and the machine's limits"
DESCRIPTION = """Measure every row of the performance table: ours, a plain version of the same work, and what the
machine itself allows, in turns in one process. Prints ratios with their quartiles; goals assume AVX-512.
Takes some minutes; --quick shows in seconds that everything works."""

LEAST_ROUNDS, MOST_ROUNDS = 7, 10_000
JIT_OFF = "NUMBA_DISABLE_JIT"


def arguments(command: argparse.ArgumentParser) -> None:
    """The options of `bench`."""
    command.add_argument("--only", metavar="ROWS", help="rows to measure, such as P1,P5 (default: all)")
    command.add_argument("--rounds", type=int, default=LEAST_ROUNDS, metavar="N",
                         help=f"rounds, {LEAST_ROUNDS} to {MOST_ROUNDS:,} (default {LEAST_ROUNDS})")
    command.add_argument("--threads", type=int, metavar="N", help="threads (default: 2, or 1 on a single core)")
    command.add_argument("--quick", action="store_true", help="small sizes: shows that it works, judges nothing")
    command.add_argument("--out", metavar="FILE.json", help="write the result as JSON")
    command.add_argument("--plot", metavar="FILE.svg", help="write a chart: how near each row comes to its limit")


def run(options: argparse.Namespace) -> int:
    """Measure; exit code 1 where a judged goal is missed."""
    out = output_path(options.out, ".json", "--out")
    plot = output_path(options.plot, ".svg", "--plot")
    integer("--rounds", options.rounds, LEAST_ROUNDS, MOST_ROUNDS)
    if os.environ.get(JIT_OFF, "0") != "0":
        raise InputError(JIT_OFF, "not set: there is nothing to measure without the compiler", os.environ[JIT_OFF])
    load("numba")                       # the side under test: its absence is said before anything is measured
    if plot is not None:
        require("matplotlib", "--plot")
    from engram_ref.bench import report
    from engram_ref.bench import run as benchmark
    from engram_ref.bench.setting import Setting, cores, load_rivals

    names = benchmark.chosen_rows(options.only)
    threads = min(benchmark.MOST_THREADS, cores()) if options.threads is None else options.threads
    if not 1 <= threads <= cores():
        raise InputError("--threads", f"from 1 to {cores()}, the cores there are", threads)
    setting = Setting(options.rounds, options.quick, threads, load_rivals())
    result = benchmark.measure(names, setting, benchmark.Progress(say))
    text = json.dumps(result, indent=1)
    if out is not None:
        write_whole(out, f"{text}\n".encode())
    if plot is not None:
        write_whole(plot, report.chart_svg(result))
    print(text if options.json else "\n".join(lines(result)))
    return 1 if report.verdicts(result)["missed"] else 0


def lines(result: Mapping[str, object]) -> list[str]:
    """The result for a terminal: row by row, then notes, the machine and a sum."""
    from engram_ref.bench import report

    shown = []
    for row in result["rows"]:
        threads = f"{row['threads']} thread{'s' * (row['threads'] > 1)}"
        shown += ["", *wrap(f"{row['id']}  {row['what']}, {threads}", BOLD), *wrap(report.sizes_text(row), DIM)]
        for what, quartiles, goal, verdict in map(report.comparison_cells, row["comparisons"]):
            shown += wrap(f"  {what}" + (f", quartiles {quartiles}" if quartiles else ""))
            shown += [f"      goal {goal}: {verdict}"] if goal else []
    shown += ["", *(line for note in report.notes(result) for line in wrap(note))]
    shown += ["", *wrap(report.machine_text(result)), ""]
    counts = report.verdicts(result)
    return [*shown, *table(["<goals", *(f">{verdict}" for verdict in counts)], [["", *counts.values()]])]
