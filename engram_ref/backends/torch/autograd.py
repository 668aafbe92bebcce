"""Gradients by torch autograd, in the form of engram_ref.backends.tape and of the VJPs of engram_ref.ops.

The torch backend has no VJPs of its own: `NAME_vjp` of its namespace differentiates the op NAME with autograd.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from engram_ref.ops.namespace import NUMPY, Ops
from engram_ref.ops.vjp.tables import RowGradient

CONSTANT = {"rotate": ("angle",)}
"""Op -> float inputs without a gradient."""


class Recorder:
    """A namespace that remembers which rows of its tables are read, and gradients by autograd.

    ops   the namespace, for the computation that is differentiated
    """

    def __init__(self, ops: Ops):
        from engram_ref.backends import replace

        self.rows: dict[int, list[torch.Tensor]] = {}           # id of a table -> flat rows of each call
        self.whole: set[int] = set()                            # ids of weights that are read as a whole
        self.small = ops.small
        self.ops = replace(ops, gather=self.gather, embed=self.embed, linear=self.linear)

    def value(self, array: torch.Tensor) -> torch.Tensor:
        """Return a tensor that gradients are wanted for; integers have none."""
        return array.detach().clone().requires_grad_() if array.dtype in (torch.float32, torch.float64) else array

    def gather(self, table: torch.Tensor, rows: torch.Tensor, offsets: "np.ndarray | torch.Tensor") -> torch.Tensor:
        """Torch version of ops.gather that remembers the rows."""
        self.rows.setdefault(id(table), []).append((rows + self.small.constant(offsets, rows)).reshape(-1))
        return self.small.gather(table, rows, offsets)

    def embed(self, table: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """Torch version of ops.embed that remembers the rows."""
        self.rows.setdefault(id(table), []).append(ids.reshape(-1))
        return self.small.embed(table, ids)

    def linear(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """Torch version of ops.linear that remembers the weight: with tied embeddings, a table is also one."""
        self.whole.add(id(weight))
        return self.small.linear(x, weight, bias)

    def gradients(self, output: Any, upstream: Any, wanted: Mapping[Any, torch.Tensor]) -> dict[Any, Any]:
        """Return the gradient of sum(upstream * output) with respect to each wanted tensor, as tape.gradients does.

        output, upstream   a tensor each, or tuples of them
        """
        found = torch.autograd.grad(output, list(wanted.values()), upstream, allow_unused=True, materialize_grads=True)
        result: dict[Any, Any] = {}
        for (name, table), gradient in zip(wanted.items(), found, strict=True):
            read = self.rows.get(id(table))
            if read is not None and id(table) not in self.whole:
                rows = torch.cat(read).unique()
                result[name] = RowGradient(rows, gradient[rows], tuple(table.shape))
            else:
                result[name] = gradient
        return result


def vjp_of(op: str) -> Callable[..., tuple]:
    """Return the torch version of the VJP of an op."""
    signature = inspect.signature(getattr(NUMPY, op))

    def vjp(self: Ops, upstream: Any, *arguments: Any, **named: Any) -> tuple:
        bound = signature.bind(*arguments, **named)
        recorder = Recorder(self)
        wanted: dict[tuple, torch.Tensor] = {}

        def value(place: tuple, x: Any) -> Any:
            if isinstance(x, Mapping):
                return {name: value((*place, name), part) for name, part in x.items()}
            if isinstance(x, torch.Tensor) and x.is_floating_point() and place[0] not in CONSTANT.get(op, ()):
                wanted[place] = x = recorder.value(x)
            return x

        inputs = {name: value((name,), x) for name, x in bound.arguments.items()}
        found = recorder.gradients(getattr(recorder.ops, op)(**inputs), upstream, wanted)
        return tuple({part: found[name, part] for part in x} if isinstance(x, Mapping) else found.get((name,))
                     for name, x in inputs.items())

    name = f"{op}_vjp"
    vjp.__name__, vjp.__qualname__, vjp.__doc__ = name, f"Small.{name}", f"Torch version of ops.{name}, by autograd."
    of_numpy, own = inspect.signature(getattr(NUMPY, name)), inspect.signature(vjp)
    vjp.__signature__ = of_numpy.replace(parameters=[own.parameters["self"], *of_numpy.parameters.values()])
    return vjp
