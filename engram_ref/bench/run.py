"""One run of the benchmark: the requested rows, one after the other, as one result."""

import datetime
import time
from collections.abc import Callable, Iterable

from engram_ref.bench import cuda, lookup, model, training
from engram_ref.bench.case import Case, record
from engram_ref.bench.setting import Setting, blas_threads, has_avx512, machine, versions
from engram_ref.bench.timing import Rounds, interleaved
from engram_ref.errors import check_name

SCHEMA = 2
MOST_THREADS = 2        # the goals are stated for one and two threads

ROWS = {
    "rows-bulk": lookup.bulk, "rows-batch": lookup.batch, "rows-v4.1": lookup.released_layout, "rows-step": lookup.step,
    "gather": lookup.gather, "dequantise": lookup.dequantise, "forward": model.forward, "memory": model.memory,
    "conv": model.conv, "experts": model.experts, "attention": model.latent_attention, "train": training.step,
    "import": model.imports,
    "cuda-rows": cuda.rows, "cuda-dequantise": cuda.dequantise, "cuda-gate": cuda.gate, "cuda-forward": cuda.forward,
}
"""The generator of each row's cases, by the row's name, in the order of the table."""


def chosen_rows(text: str | None) -> list[str]:
    """Parse a list of rows, such as "gather, rows-bulk", and return it in table order; None means all rows."""
    names = list(ROWS) if text is None else [part.strip().lower() for part in text.split(",")]
    for name in names:
        check_name("--only", name, ROWS)
    return [name for name in ROWS if name in names]


def measure(names: Iterable[str], setting: Setting, progress: Callable[[str], None]) -> dict[str, object]:
    """Measure these keys of ROWS and return the result as JSON values; `progress` gets lines of text, often."""
    entries = []
    notes = ["there are no baselines: scripts/baselines.py is missing"] if setting.baselines is None else []
    no_cuda = cuda.missing() if any(name.startswith("cuda-") for name in names) else ""
    for name in names:
        if no_cuda and name.startswith("cuda-"):
            notes.append(f"{name} was skipped: {no_cuda}")
            continue
        for case in ROWS[name](setting):
            label = f"{case.title}, {case.threads} thread{'s' * (case.threads > 1)}"
            entries.append(record(name, case, values(case, setting, label, progress), not_judged(case, setting)))
    threading = {"threads": setting.threads, "kernels": "Python threads running serial kernels",
                 "blas": blas_threads(setting.threads)}
    return {"schema": SCHEMA, "date": datetime.date.today().isoformat(), "quick": setting.quick,
            "rounds": setting.rounds, "machine": machine(), "versions": versions(), "threading": threading,
            "rows": entries, "notes": notes}


def values(case: Case, setting: Setting, label: str, progress: Callable[[str], None]) -> Rounds:
    """The measured values of every variant of a case, one per round."""
    progress(label)
    if case.collect is not None:
        return case.collect(case.available(), setting.rounds)
    with setting.using(case.threads):
        return interleaved(case.available(), max(case.rounds, setting.rounds), setting.size(0.02, 0.0),
                           lambda text: progress(f"{label}: {text}"))


def not_judged(case: Case, setting: Setting) -> str:
    """Why a case's goals are not judged here; "" if they are."""
    if setting.quick:
        return "small sizes (--quick)"
    if not has_avx512():
        return "the goals assume AVX-512, which this processor lacks"
    if case.threads > MOST_THREADS:
        return f"the goals are stated for at most {MOST_THREADS} threads"
    if case.uses_blas and blas_threads(case.threads) != case.threads:
        return f"BLAS uses {blas_threads(case.threads)} threads; install threadpoolctl to set the number"
    return ""


class Progress:
    """Pass a line of text to `write` at most every two seconds."""

    def __init__(self, write: Callable[[str], object], clock: Callable[[], float] = time.monotonic):
        self.write, self.clock, self.last = write, clock, clock()

    def __call__(self, text: str) -> None:
        now = self.clock()
        if now - self.last >= 2.0:
            self.last = now
            self.write(text)
