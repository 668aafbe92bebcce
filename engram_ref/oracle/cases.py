"""Cases in memory: a call, its arguments and its acceptable answers."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from engram_ref.ops.namespace import Ops

TOPICS = dict.fromkeys(("engram", "engram_residual", "engram_stream", "released_project", "released_gate",
                        "released_conv", "engram_gradients", "engram_steps"), "module") | dict.fromkeys(
    ("forward", "forward_stream", "forward_gradients", "forward_steps"), "model") | dict.fromkeys(
    ("addressing", "addressing_stream", "stepper", "address", "address_layers"), "addressing")
"""Op -> topic, for ops that are not in the file of their topic."""


def topic_of(op: str) -> str:
    """Return the topic of an op: one of TOPICS, or the name of the file in engram_ref/ops that defines it."""
    return TOPICS.get(op) or getattr(Ops, op).__module__.rsplit(".", 1)[-1]


@dataclass(frozen=True)
class Stage:
    """One expected array.

    tolerance_class   one of oracle.compare.CLASSES
    noise             rounding noise of the whole computation up to this stage, per element, in units of the unit
                      roundoff: see oracle/noise.py. None if the stage is exact, or before it is measured
    """

    name: str
    array: np.ndarray
    tolerance_class: str
    noise: np.ndarray | None = None


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
    arguments   by name, as JSON; arrays and configurations are referenced by key: see docs/reference/golden.md
    stages      in order of computation; the call returns those named in `outputs`. None if the input is invalid
    flags       kinds of bug that a failure suggests: see oracle/flags.py
    accept      other acceptable answers
    kind        "plain", "solved" (inputs at the special points of a formula), "schedules" (one text in many calls),
                "released" (the shapes of a released model) or "gradients"
    result      "valid"; "acceptable" if there are other acceptable answers; "invalid" if the input must be refused
    """

    name: str
    op: str
    dialect: str
    arguments: Mapping[str, object]
    stages: tuple[Stage, ...]
    outputs: tuple[str, ...]
    flags: tuple[str, ...]
    accept: tuple[Alternative, ...] = ()
    kind: str = "plain"
    result: str = "valid"

    @property
    def group(self) -> str:
        """Kind and topic, such as "solved/gate"."""
        return f"{self.kind}/{topic_of(self.op)}"

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
