"""From what was measured to a verdict: a case names its sides and what is asked of them.

Values are taken round by round, from measurements made one right after the other, and only then
summarised; so the spread of a ratio is its own, not that of its parts.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from engram_ref.bench.clock import Side, spread

OURS = "engram_ref"


@dataclass(frozen=True)
class Kind:
    """One way to compare two sides."""

    value: Callable[[float, float], float]     # of the side looked at and the one it is compared with
    at_least: bool                             # is more better?


KINDS = {
    "faster": Kind(lambda ours, other: other / ours, True),             # times as fast as a rival
    "limit": Kind(lambda ours, other: other / ours, True),              # share of what the machine allows
    "memory": Kind(lambda ours, output: ours / output, False),          # times the output's size
    "later": Kind(lambda ours, other: 1000 * (ours - other), False),    # milliseconds more
}


@dataclass(frozen=True)
class Comparison:
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
    sides        what to call, by name; ours, rivals and limits. Rivals give the same answer as ours
    compare      what is asked of them
    missing      {side: why it is not there}
    uses_blas    whether a matrix product stands in some side
    unit         of the measured values, "s" or "B"
    collect      measures by itself, given the number of rounds; None: the sides are called in turn
    failed       why its goals are missed, however fast it is; "" where nothing else is asked
    note         a fact that the reader of the result should know
    """

    what: str
    sizes: Mapping[str, int | str]
    threads: int
    sides: Mapping[str, Side]
    compare: list[Comparison]
    missing: Mapping[str, str] = field(default_factory=dict)
    uses_blas: bool = False
    unit: str = "s"
    collect: Callable[[int], dict[str, list[float]]] | None = None
    failed: str = ""
    note: str = ""


def record(row: str, case: Case, values: Mapping[str, list[float]], excuse: str) -> dict[str, object]:
    """What the result file says of one case.

    values   {side: one value a round}
    excuse   why nothing here is judged; "" where it is
    """
    return {
        "id": row, "what": case.what, "sizes": dict(case.sizes), "threads": case.threads, "unit": case.unit,
        "sides": {name: spread(measured)._asdict() for name, measured in values.items()},
        "comparisons": [compared(asked, values, case, excuse) for asked in case.compare],
        "note": case.note,
    }


def compared(asked: Comparison, values: Mapping[str, list[float]], case: Case, excuse: str) -> dict[str, object]:
    """One comparison with its median, quartiles and verdict.

    >>> asked = Comparison("faster", "a rival", goal=3.0)
    >>> measured = {"engram_ref": [1.0, 2.0, 1.0], "a rival": [4.0, 4.0, 5.0]}
    >>> found = compared(asked, measured, Case("an example", {}, 1, {}, [asked]), "")
    >>> found["median"], found["verdict"]
    (4.0, 'met')
    """
    entry: dict[str, object] = {"kind": asked.kind, "of": asked.of, "against": asked.against, "goal": asked.goal}
    absent = next((case.missing[name] for name in (asked.of, asked.against) if name in case.missing), "")
    if absent:
        return entry | {"median": None, "q1": None, "q3": None, "verdict": "not judged", "why": absent}
    kind = KINDS[asked.kind]
    found = spread([kind.value(a, b) for a, b in zip(values[asked.of], values[asked.against], strict=True)])
    why = (excuse or case.failed) if asked.goal is not None else ""
    return entry | found._asdict() | {"verdict": verdict(found.median, asked.goal, kind, excuse, case.failed),
                                      "why": why}


def verdict(median: float, goal: float | None, kind: Kind, excuse: str = "", failed: str = "") -> str:
    """ "met", "missed" or "not judged"."""
    if goal is None or excuse:
        return "not judged"
    return "met" if not failed and (median >= goal if kind.at_least else median <= goal) else "missed"
