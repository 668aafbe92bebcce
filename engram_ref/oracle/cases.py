"""Golden cases in memory: a call, its arguments and its acceptable answers."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Stage:
    """One expected array and its tolerance: see oracle/compare.py."""

    name: str
    array: np.ndarray
    tolerance_class: str
    terms: int
    scale: np.ndarray | None


@dataclass(frozen=True)
class Alternative:
    """A second acceptable answer of a case.

    why      reason that it is acceptable
    stages   all stages of the case, with this answer's arrays
    """

    name: str
    why: str
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class Case:
    """One call and its answers.

    op          a function of engram_ref.ops, or one of oracle.run.RUNNERS
    arguments   by name, as JSON; arrays and configurations are referenced by key: see oracle/encoding.py
    stages      in order of computation; the call returns those named in `outputs`
    flags       kinds of bug that a failure suggests: see oracle/flags.py
    accept      other acceptable answers
    """

    name: str
    op: str
    dialect: str
    arguments: Mapping[str, object]
    stages: tuple[Stage, ...]
    outputs: tuple[str, ...]
    flags: tuple[str, ...]
    accept: tuple[Alternative, ...] = ()

    @property
    def traced(self) -> bool:
        """True if some stages appear only in a trace."""
        return len(self.stages) > len(self.outputs)


@dataclass(frozen=True)
class Vectors:
    """A set of golden vectors: the arrays of all files and the configurations, both by key, and the cases."""

    arrays: Mapping[str, np.ndarray]
    configurations: Mapping[str, object]
    cases: tuple[Case, ...]
