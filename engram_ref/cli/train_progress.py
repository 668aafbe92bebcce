"""What `train` shows of models in training, and the finding at the end."""

import shutil
import sys
import time
from collections.abc import Iterable, Mapping
from statistics import fmean

from engram_ref.cli.streams import is_terminal, print_stderr
from engram_ref.cli.terminal import bytes_text, columns, table, wrap
from engram_ref.cli.train_process import EVERY, Finished, Report, Started, Step
from engram_ref.model.accounting import summarise
from engram_ref.text.vocabulary import Vocabulary
from engram_ref.training.corpus import KINDS
from engram_ref.training.presets import TrainingConfig, fitted

RECENT = 10             # steps whose mean is shown
REDRAW = 0.1            # seconds between two tables on a terminal


class Run:
    """A model in training, as its process reports it.

    label        such as "with Engram"
    parameters   their number
    needed       bytes that a step needs, 0 before the process has started
    steps        the steps taken since then
    finished     the evaluation, None before the end
    """

    def __init__(self, label: str, config: TrainingConfig, vocabulary: Vocabulary):
        self.label, self.config = label, config
        self.parameters = summarise(fitted(config.model, vocabulary)).total
        self.needed = 0
        self.steps: list[Step] = []
        self.finished: Finished | None = None

    def take(self, report: Report) -> None:
        """Add a report."""
        if isinstance(report, Started):
            self.needed = report.needed
        elif isinstance(report, Step):
            self.steps.append(report)
        else:
            self.finished = report

    @property
    def tokens(self) -> int:
        """Number of tokens of the whole training."""
        return self.config.steps * self.config.batch * self.config.length


def kinds_of(runs: Iterable[Run]) -> list[str]:
    """Return the kinds of token that occur, in the order of KINDS, or none if the corpus has no labels."""
    found = {kind for run in runs for step in run.steps for kind in step.progress.by_kind}
    found |= {kind for run in runs if run.finished for kind in run.finished.held_out.by_kind}
    return [kind for kind in KINDS if kind in found] if len(found) > 1 else []


def finding(runs: Mapping[str, Run]) -> str:
    """Return the result as one sentence."""
    first, *others = runs.values()
    losses = ", ".join(f"{run.finished.held_out.loss:.3f}{unit} {run.label}"
                       for run, unit in zip(runs.values(), (" nats per token", ""), strict=False))
    sizes = list(dict.fromkeys(f"{run.parameters / 1e6:.2f}M" for run in runs.values()))
    each = " each" if others and len(sizes) == 1 else ""
    return (f"Held out after {first.tokens:,} tokens: {losses} (lower is better; {' and '.join(sizes)} parameters"
            f"{each})")


class Display:
    """Progress on standard error: a table that is redrawn on a terminal, elsewhere a line per model every 25 steps."""

    def __init__(self, runs: Mapping[str, Run], backend: str):
        self.runs, self.drawn, self.last = runs, 0, 0.0
        config = next(iter(runs.values())).config
        print_lines(wrap(f"{config.steps:,} steps of {config.batch} x {config.length} tokens on the corpus "
                         f"{config.corpus}, backend {backend}, one process and one thread per model"))
        for run in runs.values():
            print_lines(wrap(f"{run.label}: {run.parameters:,} parameters"))

    def update(self, run: Run, report: Report) -> None:
        """Show a report that the run has taken."""
        if isinstance(report, Started):
            again = f"; continues after step {report.done:,}" if report.done else ""
            print_lines([f"{run.label}: a step needs {bytes_text(report.needed)} of memory{again}"])
            self.drawn = 0
        elif isinstance(report, Step):
            step = report.progress.step
            if is_terminal(sys.stderr):
                self.redraw(step == run.config.steps)
            elif step % EVERY == 0 or step in (1, run.config.steps):
                cells = ", ".join(f"{title} {cell}" for title, cell in self.cells(run).items())
                print_lines([f"{run.label}: {cells}"])

    def redraw(self, now: bool) -> None:
        """Replace the table, unless the last one is recent."""
        if not now and time.monotonic() - self.last < REDRAW:
            return
        cells = {run.label: self.cells(run) for run in self.runs.values() if run.steps}
        titles = next(iter(cells.values()))
        lines = table(["<", *(f">{title}" for title in titles)], ([k, *row.values()] for k, row in cells.items()), True)
        if any(columns(line) > shutil.get_terminal_size().columns for line in lines):
            lines = [f"{label}: step {row['step']}, loss {row['loss']}" for label, row in cells.items()]
        back = f"\033[{self.drawn}A" if self.drawn else ""
        print_stderr(back + "".join(f"\r\033[K{line}\n" for line in lines), end="")
        self.drawn, self.last = len(lines), time.monotonic()

    def cells(self, run: Run) -> dict[str, str]:
        """Return title -> value of a run's latest steps."""
        recent = [step.progress for step in run.steps[-RECENT:]]
        seconds = fmean(step.seconds for step in run.steps[-RECENT:])
        kinds = {kind: [step.by_kind[kind] for step in recent if kind in step.by_kind]
                 for kind in kinds_of(self.runs.values())}
        others = {"gate": [step.gate for step in recent], "load": [step.load for step in recent]}
        return {"step": f"{recent[-1].step:,}", "tokens/s": f"{run.config.batch * run.config.length / seconds:,.0f}",
                "loss": mean([step.loss for step in recent]), **{kind: mean(values) for kind, values in kinds.items()},
                **{title: mean(values) for title, values in others.items()}}


def mean(values: list[float | None]) -> str:
    """Format the mean of values; "-" if there are none."""
    return "-" if not values or None in values else f"{fmean(values):.2f}"


def print_lines(lines: Iterable[str]) -> None:
    """Print lines to standard error."""
    for line in lines:
        print_stderr(line)
