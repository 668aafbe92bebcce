"""engram-ref bench: measure speed on this machine."""

import argparse
import json
import os
from collections.abc import Mapping

from engram_ref.backends import load
from engram_ref.checks import integer
from engram_ref.cli.source import output_path
from engram_ref.cli.streams import print_stderr
from engram_ref.cli.terminal import BOLD, DIM, table, wrap
from engram_ref.errors import InputError
from engram_ref.files import write_whole
from engram_ref.packages import require

HELP = "compare speed with plain implementations and with the machine's limits"
DESCRIPTION = """Measure the speed of each operation, of a plain implementation of the same work, and of the limit set
by the machine. The variants alternate in one process. Prints ratios with their quartiles; the goals assume AVX-512.
A full run takes several minutes; --quick takes seconds and only checks that everything runs."""

LEAST_ROUNDS, MOST_ROUNDS = 7, 10_000
JIT_OFF = "NUMBA_DISABLE_JIT"


def arguments(command: argparse.ArgumentParser) -> None:
    """The options of `bench`."""
    command.add_argument("--only", metavar="ROWS", help="rows to measure, such as gather,rows-bulk (default: all)")
    command.add_argument("--rounds", type=int, default=LEAST_ROUNDS, metavar="N",
                         help=f"number of rounds, {LEAST_ROUNDS} to {MOST_ROUNDS:,} (default {LEAST_ROUNDS})")
    command.add_argument("--threads", type=int, metavar="N", help="number of threads (default: 2; 1 on a single core)")
    command.add_argument("--quick", action="store_true", help="use small sizes, to check that everything runs")
    command.add_argument("--out", metavar="FILE.json", help="write the result as JSON")
    command.add_argument("--plot", metavar="FILE.svg", help="write a chart: speed as a fraction of each limit")


def run(options: argparse.Namespace) -> int:
    """Measure and print; the exit code is 1 if a judged goal was missed."""
    out = output_path(options.out, ".json", "--out")
    plot = output_path(options.plot, ".svg", "--plot")
    integer("--rounds", options.rounds, LEAST_ROUNDS, MOST_ROUNDS)
    if os.environ.get(JIT_OFF, "0") != "0":
        raise InputError(JIT_OFF, "it to be unset", os.environ[JIT_OFF], "the benchmark measures compiled code")
    load("numba")                       # fail before measuring if Numba is missing
    if plot is not None:
        require("matplotlib", "--plot")
    from engram_ref.bench import report
    from engram_ref.bench import run as benchmark
    from engram_ref.bench.setting import Setting, cores, load_baselines

    names = benchmark.chosen_rows(options.only)
    threads = min(benchmark.MOST_THREADS, cores()) if options.threads is None else options.threads
    if not 1 <= threads <= cores():
        raise InputError("--threads", f"an integer from 1 to {cores()}, the number of cores", threads)
    setting = Setting(options.rounds, options.quick, threads, load_baselines())
    result = benchmark.measure(names, setting, benchmark.Progress(print_stderr))
    text = json.dumps(result, indent=1)
    if out is not None:
        write_whole(out, f"{text}\n".encode())
    if plot is not None:
        write_whole(plot, report.chart_svg(result))
    print(text if options.json else "\n".join(lines(result)))
    return 1 if report.status_counts(result)["missed"] else 0


def lines(result: Mapping[str, object]) -> list[str]:
    """The result for a terminal: rows, notes, machine, and the number of goals met."""
    from engram_ref.bench import report

    shown = []
    for row in result["rows"]:
        shown += ["", *wrap(report.heading(row), BOLD), *wrap(f"{row['row']}: {report.sizes_text(row)}", DIM)]
        for text, quartiles, goal, status in map(report.comparison_cells, row["comparisons"]):
            shown += wrap(f"  {text}" + (f", quartiles {quartiles}" if quartiles else ""))
            shown += [f"      goal {goal}: {status}"] if goal else []
    shown += ["", *(line for note in report.notes(result) for line in wrap(note))]
    shown += ["", *wrap(report.machine_text(result)), ""]
    counts = report.status_counts(result)
    return [*shown, *table(["<goals", *(f">{status}" for status in counts)], [["", *counts.values()]])]
