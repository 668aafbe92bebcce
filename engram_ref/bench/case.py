"""A case: what is called, what is compared with what, and the verdict on what was measured.

Values are compared round by round, from measurements made one right after the other, and only then summarised;
so the spread of a ratio is its own, not that of its parts.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from engram_ref.bench.measure import Rounds, Side

OURS = "engram_ref"
FRESH = f"{OURS}, fresh output"


class Kind(NamedTuple):
    """One way to compare two sides."""

    value: Callable[[float, float], float]     # of the side looked at and the one it is compared with
    at_least: bool                             # is more better?


KINDS = {
    "faster": Kind(lambda ours, other: other / ours, True),             # times as fast as a rival
    "limit": Kind(lambda ours, other: other / ours, True),              # share of what the machine allows
    "memory": Kind(lambda ours, output: ours / output, False),          # times the output's size
    "later": Kind(lambda ours, other: 1000 * (ours - other), False),    # milliseconds more
}


class Comparison(NamedTuple):
    """One thing to find out about a case; without a goal it is shown and not judged."""

    kind: str
    against: str
    goal: float | None = None
    of: str = OURS


@dataclass
class Case:
    """One row of the table at one number of threads.

    what         the work, in words
    sizes        its sizes by name
    threads      of every side
    sides        ours, rivals and limits by name: what to call, or why it cannot run here. Rivals give the same
                 answer as ours
    compare      what is asked of them
    uses_blas    whether some side computes a matrix product
    unit         of the measured values, "s" or "B"
    rounds       how often to measure at least
    collect      measures the sides, given them and the number of rounds; None: they are called in turn and timed
    failed       why its goals are missed, however fast it is; "" if nothing else is asked
    note         a fact that the reader of the result should know
    """

    what: str
    sizes: Mapping[str, int | str]
    threads: int
    sides: Mapping[str, Side | str]
    compare: list[Comparison]
    uses_blas: bool = False
    unit: str = "s"
    rounds: int = 1
    collect: Callable[[Mapping[str, Side], int], Rounds] | None = None
    failed: str = ""
    note: str = ""

    def present(self) -> dict[str, Side]:
        """The sides that can run here."""
        return {name: side for name, side in self.sides.items() if not isinstance(side, str)}

    def missing(self) -> dict[str, str]:
        """{side: why it cannot run here}"""
        return {name: side for name, side in self.sides.items() if isinstance(side, str)}


def spread(values: list[float]) -> dict[str, float]:
    """Median and quartiles, linear between neighbours.

    >>> spread([4.0, 1.0, 2.0, 3.0])
    {'median': 2.5, 'q1': 1.75, 'q3': 3.25}
    """
    return {name: float(np.quantile(values, q)) for name, q in (("median", 0.5), ("q1", 0.25), ("q3", 0.75))}


def record(row: str, case: Case, values: Rounds, excuse: str) -> dict[str, object]:
    """What the result file says of one case.

    excuse   why nothing here is judged; "" if it is
    """
    return {
        "id": row, "what": case.what, "sizes": dict(case.sizes), "threads": case.threads, "unit": case.unit,
        "sides": {name: spread(measured) for name, measured in values.items()},
        "comparisons": [compared(asked, values, case, excuse) for asked in case.compare],
        "note": case.note,
    }


def compared(asked: Comparison, values: Rounds, case: Case, excuse: str) -> dict[str, object]:
    """One comparison with its median, quartiles and verdict: "met", "missed" or "not judged".

    >>> asked = Comparison("faster", "a rival", goal=3.0)
    >>> measured = {"engram_ref": [1.0, 2.0, 1.0], "a rival": [4.0, 4.0, 5.0]}
    >>> found = compared(asked, measured, Case("an example", {}, 1, {}, [asked]), "")
    >>> found["median"], found["verdict"]
    (4.0, 'met')
    """
    kind, against, goal, of = asked
    entry = {"kind": kind, "of": of, "against": against, "goal": goal}
    missing = case.missing()
    absent = missing.get(of) or missing.get(against)
    if absent:
        return entry | {"median": None, "q1": None, "q3": None, "verdict": "not judged", "why": absent}
    found = spread([KINDS[kind].value(a, b) for a, b in zip(values[of], values[against], strict=True)])
    verdict = "not judged"
    if goal is not None and not excuse:
        enough = found["median"] >= goal if KINDS[kind].at_least else found["median"] <= goal
        verdict = "met" if enough and not case.failed else "missed"
    return entry | found | {"verdict": verdict, "why": "" if goal is None else excuse or case.failed}
