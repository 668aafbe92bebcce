"""Loss and gradients of one batch, on the tape or with torch's autograd."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from engram_ref.backends.tape import as_value, bare, gradients, tape
from engram_ref.checks import as_ops
from engram_ref.ops.namespace import Ops


def recorder_of(namespace: Ops) -> Any:
    """Return `ops`, which record, and the functions `value` and `gradients` of a namespace: see backends/tape.py."""
    namespace = as_ops(namespace)
    if namespace.backend == "torch":
        from engram_ref.backends.torch.autograd import Recorder

        return Recorder(namespace)
    return SimpleNamespace(ops=tape(namespace), value=as_value, gradients=gradients)


def differentiable(arrays: Mapping[str, Any], recorder: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arrays as values, and those of them that have a gradient."""
    values = {name: recorder.value(array) for name, array in arrays.items()}
    return values, {name: value for name, value in values.items() if value is not arrays[name]}


class Stages:
    """Stands in for a Trace, and keeps the values of some stages of all layers as they are, with their gradients.

    values   stage -> its values, in the order of the layers
    """

    def __init__(self, *stages: str):
        self.values: dict[str, list[Any]] = {stage: [] for stage in stages}

    def at(self, path: str) -> "Stages":
        """Return itself: the same stages of all layers are kept together."""
        return self

    def record(self, name: str, value: Any) -> None:
        """Keep the value if its stage is wanted."""
        if name in self.values:
            self.values[name].append(value)

    def arrays(self, stage: str, ops: Ops) -> list[np.ndarray]:
        """Return the values of a stage as NumPy arrays."""
        return [ops.to_numpy(bare(value)) for value in self.values[stage]]
