"""AdamW and Muon.

    optimiser = Adam(lr=1e-3)
    parameters = optimiser.step(parameters, gradients)

The rules themselves are ops (engram_ref.ops.updates). An optimiser keeps their state: running means by parameter name,
and the number of steps. `step` returns new arrays; neither its arguments nor the state change if it raises.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np

from engram_ref.checks import NonNegative, Positive, Range, check_fields, number
from engram_ref.errors import InputError
from engram_ref.ops.namespace import NUMPY, Ops
from engram_ref.ops.vjp.tables import RowGradient

Fraction = Annotated[float, Range(0.0, 1.0)]
Arrays = Mapping[str, Any]          # name -> array; among gradients also RowGradient


@dataclass
class Optimiser:
    """What Adam and Muon have in common.

    count   number of steps so far
    state   name -> the arrays that the rule keeps, in the order of KEPT
    """

    KEPT = ()
    lr: Positive
    weight_decay: NonNegative = 0.0

    def __post_init__(self) -> None:
        check_fields(self)
        self.count = 0
        self.state: dict[str, tuple] = {}

    def step(self, parameters: Arrays, gradients: Arrays, factor: float = 1.0) -> dict[str, Any]:
        """Return the parameters after one step.

        parameters   name -> float array
        gradients    name -> array of the same shape, or RowGradient; parameters without one are returned unchanged
        factor       of the learning rate in this step, from a schedule
        raises       InputError naming a gradient that belongs to no parameter, has another shape or is not finite
        """
        self.check(parameters, gradients)
        return self.apply(parameters, gradients, factor)

    def check(self, parameters: Arrays, gradients: Arrays) -> None:
        """Raise InputError for a gradient that `step` would refuse."""
        for name, gradient in gradients.items():
            check_gradient(name, gradient, parameters, self.ops)

    def apply(self, parameters: Arrays, gradients: Arrays, factor: float) -> dict[str, Any]:
        """Take the step with gradients that were checked."""
        lr = self.lr * number("factor", factor, float, Range(0.0, np.inf))
        new = {name: self.update(parameters[name], gradient, self.kept(name, parameters[name]), lr)
               for name, gradient in gradients.items()}
        self.count += 1
        self.state |= {name: tuple(kept) for name, (_, *kept) in new.items()}
        return {**parameters, **{name: parameter for name, (parameter, *_) in new.items()}}

    def kept(self, name: str, parameter: Any) -> tuple:
        """The state of a parameter; zeros before its first step."""
        return self.state.get(name) or tuple(0 * parameter for _ in self.KEPT)

    def update(self, parameter: Any, gradient: Any, kept: tuple, lr: float) -> tuple:
        """Return the new parameter and its new state."""
        raise NotImplementedError

    def arrays(self) -> dict[str, Any]:
        """The state as named arrays for a checkpoint: "count", and "mean/wq.weight" and the like."""
        named = {f"{kind}/{name}": array for name, kept in self.state.items()
                 for kind, array in zip(self.KEPT, kept, strict=True)}
        return {"count": np.array(self.count), **named}

    def restore(self, arrays: Arrays) -> None:
        """Take over a state that `arrays` returned. Raises InputError if an array is missing or unknown."""
        names = dict.fromkeys(key.partition("/")[2] for key in arrays if key != "count")
        expected = {"count", *(f"{kind}/{name}" for name in names for kind in self.KEPT)}
        if different := sorted(set(arrays) ^ expected):
            raise InputError("state", f"count and, for each parameter, {', '.join(self.KEPT)}",
                             f"a difference in {', '.join(different[:3])}")
        self.count = int(arrays["count"])
        self.state = {name: tuple(arrays[f"{kind}/{name}"] for kind in self.KEPT) for name in names}


def check_gradient(name: str, gradient: Any, parameters: Arrays, ops: Ops) -> None:
    """Raise InputError unless the gradient fits a float parameter and is finite."""
    if name not in parameters:
        raise InputError(f"gradient {name}", "the name of a parameter", "an unknown name")
    parameter = parameters[name]
    if not ops.dtype_name(parameter).startswith(("float", "bfloat")):
        raise InputError(f"parameter {name}", "a float array", ops.dtype_name(parameter), "codes cannot be trained")
    if tuple(gradient.shape) != tuple(parameter.shape):
        raise InputError(f"gradient {name}", f"shape {list(parameter.shape)}", f"shape {list(gradient.shape)}")
    values = gradient.values if isinstance(gradient, RowGradient) else gradient
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
    beta1: Fraction = 0.9
    beta2: Fraction = 0.95
    eps: NonNegative = 1e-8
    lazy: bool = True
    ops: Ops = field(default=NUMPY, repr=False)

    def update(self, parameter: Any, gradient: Any, kept: tuple, lr: float) -> tuple:
        """Apply adam_update, or lazy_adam_update to the rows of a RowGradient."""
        options = (*kept, self.count + 1, lr, self.beta1, self.beta2, self.eps, self.weight_decay)
        if isinstance(gradient, RowGradient):
            if self.lazy:
                return self.ops.lazy_adam_update(parameter, gradient.rows, gradient.values, *options)
            gradient = gradient.dense()
        return self.ops.adam_update(parameter, gradient, *options)


@dataclass
class Muon(Optimiser):
    """Muon, for matrices and for stacks of matrices, each by itself; see ops.muon_update."""

    KEPT = ("momentum",)
    momentum: Fraction = 0.95
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

    def update(self, parameter: Any, gradient: Any, kept: tuple, lr: float) -> tuple:
        """Apply muon_update."""
        return self.ops.muon_update(parameter, gradient, *kept, lr, self.weight_decay, self.momentum, self.nesterov,
                                    self.form, self.scale, self.steps)
