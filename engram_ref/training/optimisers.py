"""AdamW and Muon.

    optimiser = Adam(lr=1e-3)
    parameters = optimiser.step(parameters, gradients)

The rules themselves are ops (engram_ref.ops.updates). An optimiser keeps their state by parameter name: running means,
and the number of steps. `step` returns new arrays; neither its arguments nor the state change if it raises.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np

from engram_ref.checks import NonNegative, Positive, Range, check_fields, integer, number
from engram_ref.errors import InputError
from engram_ref.ops.namespace import NUMPY, Ops
from engram_ref.ops.vjp.tables import RowGradient

BelowOne = Annotated[float, Range(0.0, math.nextafter(1.0, 0.0))]       # with 1, a mean would stay 0
Arrays = Mapping[str, Any]          # name -> array; among gradients also RowGradient


@dataclass
class Optimiser(ABC):
    """What Adam and Muon have in common.

    counts   name -> number of steps of this parameter
    state    name -> the arrays that the rule keeps, in the order of KEPT
    """

    KEPT = ()
    lr: Positive
    weight_decay: NonNegative = 0.0

    def __post_init__(self) -> None:
        check_fields(self)
        self.counts: dict[str, int] = {}
        self.state: dict[str, tuple] = {}

    def step(self, parameters: Arrays, gradients: Arrays, factor: float = 1.0) -> dict[str, Any]:
        """Return the parameters after one step.

        parameters   name -> float array
        gradients    name -> array of the same shape, or RowGradient; parameters without one are returned unchanged
        factor       of the learning rate in this step, from a schedule
        raises       InputError naming a gradient that belongs to no parameter, has another shape or dtype, or is not
                     finite, or a restored state of another shape
        """
        self.check(parameters, gradients)
        return self.apply(parameters, gradients, factor)

    def check(self, parameters: Arrays, gradients: Arrays) -> None:
        """Raise InputError for a gradient or a state that `step` would refuse."""
        for name, gradient in gradients.items():
            check_gradient(name, gradient, parameters, self.ops)
            for kind, array in zip(self.KEPT, self.state.get(name, ()), strict=False):
                check_shape(f"state {kind}/{name}", array, parameters[name].shape)

    def apply(self, parameters: Arrays, gradients: Arrays, factor: float) -> dict[str, Any]:
        """Take the step with gradients that were checked."""
        lr = self.lr * number("factor", factor, float, Range(0.0, np.inf))
        counts = {name: self.counts.get(name, 0) + 1 for name in gradients}
        new = {name: self.update(parameters[name], gradient, self.kept(name, parameters[name]), counts[name], lr)
               for name, gradient in gradients.items()}
        self.counts |= counts
        self.state |= {name: tuple(kept) for name, (_, *kept) in new.items()}
        return {**parameters, **{name: parameter for name, (parameter, *_) in new.items()}}

    def kept(self, name: str, parameter: Any) -> tuple:
        """The state of a parameter; zeros before its first step."""
        return self.state.get(name) or tuple(0 * parameter for _ in self.KEPT)

    @abstractmethod
    def update(self, parameter: Any, gradient: Any, kept: tuple, step: int, lr: float) -> tuple:
        """Return the new parameter and its new state, after the parameter's step of this number."""

    def arrays(self) -> dict[str, Any]:
        """The state as named arrays for a checkpoint: "count/wq.weight", "mean/wq.weight" and the like."""
        named = {f"{kind}/{name}": array for name, kept in self.state.items()
                 for kind, array in zip(self.KEPT, kept, strict=True)}
        return {f"count/{name}": np.array(count) for name, count in self.counts.items()} | named

    def restore(self, arrays: Arrays) -> None:
        """Take over a state that `arrays` returned; raises as `restored`, without a change."""
        self.counts, self.state = self.restored(arrays)

    def restored(self, arrays: Arrays) -> tuple[dict[str, int], dict[str, tuple]]:
        """Return the counts and the state in these arrays.

        raises   InputError if an array is missing, unknown or not finite, or a count is below 1
        """
        names = dict.fromkeys(key.partition("/")[2] for key in arrays)
        expected = {f"{kind}/{name}" for name in names for kind in ("count", *self.KEPT)}
        if different := sorted(set(arrays) ^ expected):
            raise InputError("state", f"count, {', '.join(self.KEPT)} of each parameter",
                             f"a difference in {', '.join(different[:3])}")
        for key, array in arrays.items():
            if not key.startswith("count/") and self.ops.first_non_finite(array) is not None:
                raise InputError(f"state {key}", "finite numbers", "NaN or infinity")
        counts = {name: integer(f"state count/{name}", arrays[f"count/{name}"].item(), 1) for name in names}
        return counts, {name: tuple(arrays[f"{kind}/{name}"] for kind in self.KEPT) for name in names}


def check_shape(what: str, array: Any, shape: Any) -> None:
    """Raise InputError unless the array has this shape."""
    if tuple(array.shape) != tuple(shape):
        raise InputError(what, f"shape {list(shape)}", f"shape {list(array.shape)}")


def check_gradient(name: str, gradient: Any, parameters: Arrays, ops: Ops) -> None:
    """Raise InputError unless the gradient fits a float parameter and is finite."""
    if name not in parameters:
        raise InputError(f"gradient {name}", "the name of a parameter", "an unknown name")
    parameter = parameters[name]
    if not ops.dtype_name(parameter).startswith(("float", "bfloat")):
        raise InputError(f"parameter {name}", "a float array", ops.dtype_name(parameter), "codes cannot be trained")
    check_shape(f"gradient {name}", gradient, parameter.shape)
    values = gradient.values if isinstance(gradient, RowGradient) else gradient
    if isinstance(gradient, RowGradient):
        rows = ops.to_numpy(gradient.rows)
        check_shape(f"gradient {name}", values, (len(rows), *parameter.shape[1:]))
        if not ((rows >= 0) & (rows < parameter.shape[0])).all() or (np.diff(rows) <= 0).any():
            raise InputError(f"gradient {name}", f"rows below {parameter.shape[0]}, ascending, each once", "other rows",
                             "add the values of equal rows with ops.vjp.tables.scatter_add")
    if ops.dtype_name(values) != ops.dtype_name(parameter):
        raise InputError(f"gradient {name}", f"dtype {ops.dtype_name(parameter)}", f"dtype {ops.dtype_name(values)}")
    if ops.first_non_finite(values) is not None:
        raise InputError(f"gradient {name}", "finite numbers", "NaN or infinity")


@dataclass
class Adam(Optimiser):
    """AdamW. A RowGradient updates only its rows if `lazy`, else every row of the table.

    eps    added to the root. With 1e-8, numbers whose gradient is only rounding noise, say 1e-12, hardly move. With
           DeepSeek's 1e-20 they move by the full learning rate in the direction of the noise
    lazy   rows without a gradient keep their values and state; if False, their old mean goes on moving them
    """

    KEPT = ("mean", "square")
    beta1: BelowOne = 0.9
    beta2: BelowOne = 0.95
    eps: Positive = 1e-8
    lazy: bool = True
    ops: Ops = field(default=NUMPY, repr=False)

    def update(self, parameter: Any, gradient: Any, kept: tuple, step: int, lr: float) -> tuple:
        """Apply adam_update, or lazy_adam_update to the rows of a RowGradient."""
        options = (*kept, step, lr, self.beta1, self.beta2, self.eps, self.weight_decay)
        if isinstance(gradient, RowGradient):
            if self.lazy:
                return self.ops.lazy_adam_update(parameter, gradient.rows, gradient.values, *options)
            gradient = gradient.dense()
        return self.ops.adam_update(parameter, gradient, *options)


@dataclass
class Muon(Optimiser):
    """Muon, for matrices and for stacks of matrices, each by itself; see ops.muon_update."""

    KEPT = ("momentum",)
    momentum: BelowOne = 0.95
    nesterov: bool = True
    scale: Literal["rms", "keller"] = "rms"
    steps: Literal["classic", "hybrid"] = "classic"
    form: Literal["sum", "ema"] = "sum"
    ops: Ops = field(default=NUMPY, repr=False)

    def check(self, parameters: Arrays, gradients: Arrays) -> None:
        """Raise InputError for a gradient that `step` would refuse, such as that of a vector."""
        super().check(parameters, gradients)
        for name, gradient in gradients.items():
            if len(gradient.shape) < 2 or isinstance(gradient, RowGradient):
                found = "a table" if isinstance(gradient, RowGradient) else f"shape {list(gradient.shape)}"
                raise InputError(f"parameter {name}", "a matrix [..., A, B] for Muon", found, "use Adam for it")

    def update(self, parameter: Any, gradient: Any, kept: tuple, step: int, lr: float) -> tuple:
        """Apply muon_update."""
        return self.ops.muon_update(parameter, gradient, *kept, lr, self.weight_decay, self.momentum, self.nesterov,
                                    self.form, self.scale, self.steps)
