"""Golden cases in memory: what is called with which arguments, and which answers are acceptable."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Stage:
    """One expected array, and how near to it an answer must be: see oracle/compare.py."""

    name: str
    array: np.ndarray
    tolerance_class: str
    terms: int
    scale: np.ndarray | None


@dataclass(frozen=True)
class Alternative:
    """A second acceptable answer of a case.

    why      what speaks for it
    stages   all stages of the case, with this answer's arrays
    """

    name: str
    why: str
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class Case:
    """One call and its answers.

    op          a function of engram_ref.ops, or one of oracle.run.RUNNERS
    arguments   by name, as JSON, arrays and configurations by their keys: see oracle/encoding.py
    stages      in the order they are computed; those named in `outputs` are what the call returns
    flags       which kind of bug a failure points to: see oracle/flags.py
    accept      other answers that are right as well
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
        """Are there stages that only a trace shows?"""
        return len(self.stages) > len(self.outputs)


@dataclass(frozen=True)
class Vectors:
    """A whole set: the arrays of all files and the configurations, by key, and the cases."""

    arrays: Mapping[str, np.ndarray]
    configurations: Mapping[str, object]
    cases: tuple[Case, ...]
