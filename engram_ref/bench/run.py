"""One run of the benchmark: the rows asked for, one after the other, as one result."""

import datetime
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from engram_ref.bench import backbone, device, module, processes, rows, tables
from engram_ref.bench.clock import interleaved
from engram_ref.bench.judge import Case, record
from engram_ref.bench.machine import has_avx512, machine, threading, versions
from engram_ref.bench.setting import Setting, blas_threads, cores
from engram_ref.errors import check_name

SCHEMA = 1
LEAST_ROUNDS = 7
MOST_THREADS = 2        # the goals are stated for one and two


class Row(NamedTuple):
    """One row of the table: what it is, and what yields its cases."""

    what: str
    cases: Callable[[Setting], Iterator[Case]]


ROWS = {
    "P1": Row("rows, bulk", rows.bulk),
    "P2": Row("rows, a batch", rows.batch),
    "P3": Row("rows, the released layout", rows.beside_c),
    "P4": Row("rows, one decode step", rows.step),
    "P5": Row("gather, fp32 rows", tables.gather),
    "P6": Row("gather and decode, FP8 rows", tables.dequantise),
    "P7": Row("the whole Engram forward", module.forward),
    "P8": Row("the same, extra memory", processes.memory),
    "P9": Row("convolution and SiLU", module.conv),
    "P10": Row("mixture of experts", backbone.experts),
    "P11": Row("latent attention, one decode step", backbone.latent_attention),
    "P12": Row("import", processes.imports),
    "C1": Row("rows, on a CUDA device", device.rows),
    "C2": Row("gather and decode, on a CUDA device", device.dequantise),
    "C3": Row("gate, on a CUDA device", device.gate),
    "C4": Row("the whole Engram forward, on a CUDA device", device.forward),
}
"""Every row by its id, in the order of the table."""

DEVICE_ROWS = ("C1", "C2", "C3", "C4")


def chosen_rows(text: str | None) -> list[str]:
    """The rows that "P1,p5" names, in the table's order; all of them for None.

    raises   InputError for a row that does not exist
    """
    if text is None:
        return list(ROWS)
    names = [part.strip().upper() for part in text.split(",")]
    for name in names:
        check_name("--only", name, ROWS)
    return [name for name in ROWS if name in names]


def measure(names: Iterable[str], setting: Setting, said: Callable[[str], None]) -> dict[str, object]:
    """The result of these rows, ready to be written as JSON.

    names     ids of ROWS
    setting   rounds, sizes, threads, rivals
    said      is told what is being measured, many times
    """
    found, notes = [], []
    if setting.rivals is None:
        notes.append("rivals are left out: there is no scripts/baselines.py")
    for name in names:
        absent = device.lacking() if name in DEVICE_ROWS else ""
        if absent:
            notes.append(f"{name} is left out: {absent}")
            continue
        for case in ROWS[name].cases(setting):
            label = f"{name}  {case.what}, {case.threads} thread{'s' * (case.threads > 1)}"
            found.append(record(name, case, values(case, setting, label, said), excuse(case, setting)))
    return {"schema": SCHEMA, "date": datetime.date.today().isoformat(), "quick": setting.quick,
            "rounds": setting.rounds, "machine": machine(), "versions": versions(),
            "threading": threading(setting.threads), "rows": found, "notes": notes}


def values(case: Case, setting: Setting, label: str, said: Callable[[str], None]) -> dict[str, list[float]]:
    """What every side of a case took, round by round."""
    said(label)
    if case.collect is not None:
        return case.collect(setting.rounds)
    with setting.using(case.threads):
        return interleaved(case.sides, setting.rounds, setting.size(0.02, 0.0),
                           lambda text: said(f"{label}: {text}"))


def excuse(case: Case, setting: Setting) -> str:
    """Why a case's goals are not judged here; "" where they are."""
    if setting.quick:
        return "small sizes (--quick)"
    if not has_avx512():
        return "the goals assume AVX-512, which this processor does not have"
    if case.threads > MOST_THREADS:
        return f"the goals are stated for at most {MOST_THREADS} threads"
    if case.uses_blas and blas_threads(case.threads) != case.threads:
        return "BLAS takes another number of threads; threadpoolctl would set it"
    return ""


def default_threads() -> int:
    """As many as the goals are stated for, where there are so many cores."""
    return min(MOST_THREADS, cores())


class Progress:
    """Says what is being measured, at most every two seconds: `write` gets a line."""

    def __init__(self, write: Callable[[str], object], clock: Callable[[], float] = time.monotonic):
        self.write, self.clock, self.last = write, clock, clock()

    def __call__(self, text: str) -> None:
        now = self.clock()
        if now - self.last >= 2.0:
            self.last = now
            self.write(text)
