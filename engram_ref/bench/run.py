"""One run of the benchmark: the rows asked for, one after the other, as one result."""

import datetime
import time
from collections.abc import Callable, Iterable

from engram_ref.bench import cuda, lookup, model
from engram_ref.bench.case import Case, record
from engram_ref.bench.measure import Rounds, interleaved
from engram_ref.bench.setting import Setting, blas_threads, has_avx512, machine, versions
from engram_ref.errors import check_name

SCHEMA = 1
MOST_THREADS = 2        # the goals are stated for one and two

ROWS = {
    "P1": lookup.bulk, "P2": lookup.batch, "P3": lookup.beside_c, "P4": lookup.step, "P5": lookup.gather,
    "P6": lookup.dequantise, "P7": model.forward, "P8": model.memory, "P9": model.conv, "P10": model.experts,
    "P11": model.latent_attention, "P12": model.imports,
    "C1": lookup.on_cuda, "C2": lookup.dequantise_on_cuda, "C3": model.gate_on_cuda, "C4": model.forward_on_cuda,
}
"""What yields the cases of every row, by its id, in the order of the table; C rows need a CUDA device."""


def chosen_rows(text: str | None) -> list[str]:
    """The rows that "P1,p5" names, in the table's order; all of them for None.

    raises   InputError for a row that does not exist
    """
    names = list(ROWS) if text is None else [part.strip().upper() for part in text.split(",")]
    for name in names:
        check_name("--only", name, ROWS)
    return [name for name in ROWS if name in names]


def measure(names: Iterable[str], setting: Setting, said: Callable[[str], None]) -> dict[str, object]:
    """The result of these rows, ready to be written as JSON.

    names     ids of ROWS
    setting   rounds, sizes, threads, rivals
    said      is told what is being measured, many times
    """
    found = []
    notes = ["rivals are left out: there is no scripts/baselines.py"] if setting.rivals is None else []
    for name in names:
        absent = cuda.missing() if name.startswith("C") else ""
        if absent:
            notes.append(f"{name} is left out: {absent}")
            continue
        for case in ROWS[name](setting):
            label = f"{name}  {case.what}, {case.threads} thread{'s' * (case.threads > 1)}"
            found.append(record(name, case, values(case, setting, label, said), excuse(case, setting)))
    threading = {"threads": setting.threads, "kernels": "Python threads running serial kernels",
                 "blas": blas_threads(setting.threads)}
    return {"schema": SCHEMA, "date": datetime.date.today().isoformat(), "quick": setting.quick,
            "rounds": setting.rounds, "machine": machine(), "versions": versions(), "threading": threading,
            "rows": found, "notes": notes}


def values(case: Case, setting: Setting, label: str, said: Callable[[str], None]) -> Rounds:
    """What was measured of every side of a case, round by round."""
    said(label)
    if case.collect is not None:
        return case.collect(case.present(), setting.rounds)
    with setting.using(case.threads):
        return interleaved(case.present(), max(case.rounds, setting.rounds), setting.size(0.02, 0.0),
                           lambda text: said(f"{label}: {text}"))


def excuse(case: Case, setting: Setting) -> str:
    """Why a case's goals are not judged here; "" if they are."""
    if setting.quick:
        return "small sizes (--quick)"
    if not has_avx512():
        return "the goals assume AVX-512, which this processor does not have"
    if case.threads > MOST_THREADS:
        return f"the goals are stated for at most {MOST_THREADS} threads"
    if case.uses_blas and blas_threads(case.threads) != case.threads:
        return "BLAS takes another number of threads; threadpoolctl would set it"
    return ""


class Progress:
    """Says what is being measured, at most every two seconds: `write` gets a line."""

    def __init__(self, write: Callable[[str], object], clock: Callable[[], float] = time.monotonic):
        self.write, self.clock, self.last = write, clock, clock()

    def __call__(self, text: str) -> None:
        now = self.clock()
        if now - self.last >= 2.0:
            self.last = now
            self.write(text)
