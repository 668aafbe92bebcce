"""Run an experiment of engram_ref/lab: train and measure its models, one JSON file per run.

    python scripts/lab.py memory --list               print the plan
    python scripts/lab.py memory                      perform the runs that have no result yet, two at a time
    python scripts/lab.py memory --only 'world-*'

Interrupt it at any time; the same command continues. Results are in docs/results/NAME, unfinished runs in build/lab.
The file with the criteria must be committed, and every result states its commit.
"""

import argparse
import fnmatch
import importlib
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

os.environ |= {name: "1" for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")}      # before NumPy is imported

from engram_ref.backends import BACKENDS
from engram_ref.checks import integer
from engram_ref.errors import InputError, check_name
from engram_ref.lab import EXPERIMENTS
from engram_ref.lab.runs import Experiment, Run, perform_all, read_all

ROOT = Path(__file__).parents[1]
RESULTS, WORK = ROOT / "docs" / "results", ROOT / "build" / "lab"


def commit_of(path: Path) -> str:
    """Return the last commit that changed a file; raise InputError if the file differs from it."""
    git = lambda *arguments: subprocess.run(["git", "-C", ROOT, *arguments, "--", path], capture_output=True, text=True)
    found = git("log", "-1", "--format=%H").stdout.strip()
    if not found or git("status", "--porcelain").stdout:
        raise InputError(f"criteria {path.name}", "a committed file without changes", "one that git does not know so",
                         "commit the criteria before the first run")
    return found


def print_plan(runs: Sequence[Run], folder: Path, workers: int) -> None:
    """Print steps, expected seconds and state of every run."""
    seconds = [run.config.steps * run.seconds for run in runs]
    for run, expected in zip(runs, seconds, strict=True):
        done = "  finished" if (folder / f"{run.name}.json").exists() else ""
        print(f"{run.name:30} {run.config.steps:5} steps {expected:5.0f} s{done}")
    print(f"{len(runs)} runs, {sum(seconds) / workers / 60:.0f} minutes with {workers} workers, plus measurements")


def perform(experiment: Experiment, runs: Sequence[Run], folder: Path, options: argparse.Namespace) -> int:
    """Perform the runs that have no result; return the exit code: 2 if one failed."""
    module = importlib.import_module(f"engram_ref.lab.{experiment.name}")
    about = {"experiment": experiment.name, "command": f"python scripts/lab.py {experiment.name}",
             "criteria": commit_of(Path(module.__file__))}
    read_all(experiment, folder)                    # an unusable result is an error before the first step
    waiting = [run for run in runs if not (folder / f"{run.name}.json").exists()]
    started, failed = time.monotonic(), 0
    work = WORK / experiment.name
    for i, (run, found) in enumerate(perform_all(
            experiment, waiting, folder, work, options.backend, options.workers, about), 1):
        failed += isinstance(found, InputError)
        text = str(found) if isinstance(found, InputError) else (
            f"loss {found['evaluations'][-1]['loss']:.4f}, {found['seconds']:.0f} s")
        print(f"{time.monotonic() - started:6.0f} s  {i}/{len(waiting)}  {run.name}: {text}", flush=True)
    return 2 if failed else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", help=f"experiment: {', '.join(EXPERIMENTS)}")
    parser.add_argument("--only", metavar="PATTERN", default="*", help="names of runs, such as 'world-*-engram-*'")
    parser.add_argument("--workers", type=int, default=2, help="processes, each on one core; default 2")
    parser.add_argument("--backend", default="numba", help="numpy, numba or torch; default numba")
    parser.add_argument("--list", action="store_true", help="print the plan and stop")
    options = parser.parse_args(arguments)
    try:
        check_name("experiment", options.name, EXPERIMENTS)
        check_name("backend", options.backend, BACKENDS)
        integer("--workers", options.workers, 1)
        experiment = importlib.import_module(f"engram_ref.lab.{options.name}").EXPERIMENT
        runs = [run for run in experiment.runs if fnmatch.fnmatch(run.name, options.only)]
        if not runs:
            raise InputError("--only", "a pattern that matches a run", options.only, "--list prints their names")
        folder = RESULTS / experiment.name
        if options.list:
            print_plan(runs, folder, options.workers)
            return 0
        return perform(experiment, runs, folder, options)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
