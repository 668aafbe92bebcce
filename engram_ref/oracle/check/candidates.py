"""Candidates of a diagnosis: bugs whose answers are compared with those of a port."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from engram_ref.ops.namespace import Ops
from engram_ref.oracle.bugs import Bug, namespace_with, streams_with
from engram_ref.oracle.cases import Case, Vectors
from engram_ref.oracle.run import Adapter, Stages, run

ROUGHLY = {"float64": 1e-6, "float32": 1e-3}
"""Rough tolerance by the format of an answer, relative to the root mean square; 0.02 in 16 bits."""


@dataclass(frozen=True)
class Candidate:
    """One bug or a pair of bugs, with the share of elements in which it agrees with the answers."""

    bugs: tuple[Bug, ...]
    share: float = 0.0

    @property
    def name(self) -> str:
        """The names of the bugs."""
        return " + ".join(bug.name for bug in self.bugs)

    @property
    def ops(self) -> Ops:
        """The namespace with all bugs."""
        return namespace_with(self.bugs)

    @property
    def streams(self) -> dict[str, type]:
        """The stream classes with all bugs."""
        return streams_with(self.bugs)

    def stages(self, case: Case, vectors: Vectors) -> Stages | None:
        """Return the stages of a case with the bugs, or None if they raise an error or give other shapes."""
        try:
            with np.errstate(all="ignore"):
                found = run(case, vectors, self.ops, Adapter(), case.traced, self.streams)
        except Exception:                                   # a wrong formula may not accept every input
            return None
        shapes = {stage.name: stage.array.shape for stage in case.stages}
        return found if all(array.shape == shapes.get(name) for name, array in found.items()) else None

    @property
    def changed(self) -> set[str]:
        """The ops and methods that the bugs change."""
        return {target for bug in self.bugs for target in bug.changes}


def with_last_rounding(noise: np.ndarray | None, found: np.ndarray) -> np.ndarray | None:
    """Return the noise, at least that of one rounding of the result, since wrong formulas round without noise."""
    return None if noise is None else np.maximum(noise, np.nan_to_num(np.abs(found), posinf=0.0))


def nearness(found: np.ndarray, answer: np.ndarray) -> float:
    """Return the share of elements that agree roughly; integers must be equal."""
    if found.dtype.kind != "f":
        return float(np.mean(found == answer))
    one, other = answer.astype(np.float64), found.astype(np.float64)
    with np.errstate(all="ignore"):
        allowed = ROUGHLY.get(answer.dtype.name, 0.02) * np.maximum(np.abs(other), np.sqrt(np.nanmean(other**2)))
        return float(np.mean((one == other) | (np.abs(one - other) <= allowed) | (np.isnan(one) & np.isnan(other))))


def equal(a: Stages | None, b: Stages | None) -> bool:
    """Whether the stages of two runs have the same values; NaN equals NaN."""
    return a is b or (a is not None and b is not None and all(
        name in b and np.array_equal(array, b[name], equal_nan=array.dtype.kind == "f") for name, array in a.items()))


def size(case: Case) -> int:
    """Return the number of elements of all stages."""
    return sum(stage.array.size for stage in case.stages)


def spread(cases: list[Case]) -> Iterator[Case]:
    """Yield the cases so that different kinds, dialects and titles come early, smaller cases first."""
    groups: dict[tuple, list[Case]] = {}
    for case in sorted(cases, key=size):
        groups.setdefault((case.kind, case.dialect), []).append(case)
    for round_ in range(max(map(len, groups.values()), default=0)):
        yield from (group[round_] for group in groups.values() if round_ < len(group))
