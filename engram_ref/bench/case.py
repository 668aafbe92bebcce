"""A case: variants of the same work, the comparisons between them, and whether the goals were met.

Each round computes its ratios from measurements made one right after the other; the ratios of all rounds are then
summarised. The quartiles therefore describe the ratio itself, not its two parts.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from engram_ref.bench.timing import Rounds, Work

OURS = "engram_ref"
NO_OUT = f"{OURS}, without out="
NEW_MEMORY = f"{OURS}, new memory"         # without the memory of earlier results


class Metric(NamedTuple):
    """A way to compare two measured values."""

    compute: Callable[[float, float], float]     # from our value and the other variant's
    more_is_better: bool


METRICS = {
    "speedup": Metric(lambda ours, other: other / ours, True),              # times as fast as a baseline
    "limit": Metric(lambda ours, other: other / ours, True),                # fraction of the machine's limit
    "memory": Metric(lambda ours, output: ours / output, False),            # multiple of the output's size
    "delay": Metric(lambda ours, other: 1000 * (ours - other), False),      # additional milliseconds
}


class Comparison(NamedTuple):
    """Two variants and a metric. Without a goal, the result is reported but not judged."""

    metric: str
    against: str
    goal: float | None = None
    of: str = OURS


@dataclass
class Case:
    """One row of the benchmark, for one number of threads."""

    title: str                              # name of the work, as printed
    sizes: Mapping[str, int | str]          # by name
    threads: int                            # of every variant
    variants: Mapping[str, Work | str]      # ours, baselines with the same answer, limits; or why one cannot run here
    comparisons: list[Comparison]           # to report
    uses_blas: bool = False                 # whether a variant computes a matrix product
    unit: str = "s"                         # of the measured values, "s" or "B"
    rounds: int = 1                         # minimum number
    collect: Callable[[Mapping[str, Work], int], Rounds] | None = None      # None: time the variants alternately
    failure: str = ""                       # reason to count its goals as missed regardless of speed
    note: str = ""                          # printed after the results

    def available(self) -> dict[str, Work]:
        """The variants that can run here."""
        return {name: variant for name, variant in self.variants.items() if not isinstance(variant, str)}

    def missing(self) -> dict[str, str]:
        """The variants that cannot run here, with the reason."""
        return {name: variant for name, variant in self.variants.items() if isinstance(variant, str)}


def spread(values: list[float]) -> dict[str, float]:
    """Median and quartiles, interpolated linearly.

    >>> spread([4.0, 1.0, 2.0, 3.0])
    {'median': 2.5, 'q1': 1.75, 'q3': 3.25}
    """
    return {name: float(np.quantile(values, q)) for name, q in (("median", 0.5), ("q1", 0.25), ("q3", 0.75))}


def record(row: str, case: Case, values: Rounds, not_judged: str) -> dict[str, object]:
    """The entry of one case in the result file; `not_judged` is a reason not to judge its goals, or ""."""
    return {
        "row": row, "title": case.title, "sizes": dict(case.sizes), "threads": case.threads, "unit": case.unit,
        "variants": {name: spread(measured) for name, measured in values.items()},
        "comparisons": [compare(comparison, values, case, not_judged) for comparison in case.comparisons],
        "note": case.note,
    }


def compare(comparison: Comparison, values: Rounds, case: Case, not_judged: str) -> dict[str, object]:
    """One comparison with its median, quartiles and status: "met", "missed" or "not judged".

    >>> comparison = Comparison("speedup", "a baseline", goal=3.0)
    >>> measured = {"engram_ref": [1.0, 2.0, 1.0], "a baseline": [4.0, 4.0, 5.0]}
    >>> entry = compare(comparison, measured, Case("an example", {}, 1, {}, [comparison]), "")
    >>> entry["median"], entry["status"]
    (4.0, 'met')
    """
    name, against, goal, of = comparison
    metric, missing = METRICS[name], case.missing()
    entry = {"metric": name, "of": of, "against": against, "goal": goal}
    absent = missing.get(of) or missing.get(against)
    if absent:
        return entry | {"median": None, "q1": None, "q3": None, "status": "not judged", "reason": absent}
    ratios = spread([metric.compute(a, b) for a, b in zip(values[of], values[against], strict=True)])
    status = "not judged"
    if goal is not None and not not_judged:
        reached = ratios["median"] >= goal if metric.more_is_better else ratios["median"] <= goal
        status = "met" if reached and not case.failure else "missed"
    return entry | ratios | {"status": status, "reason": "" if goal is None else not_judged or case.failure}
