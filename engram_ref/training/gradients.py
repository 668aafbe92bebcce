"""Gradients between the backward pass and the optimiser: the mean over several batches, and clipping."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from engram_ref.checks import Range, number
from engram_ref.errors import InputError
from engram_ref.ops.namespace import NUMPY, Ops
from engram_ref.ops.vjp.tables import RowGradient


def scaled(gradient: Any, factor: float) -> Any:
    """Return factor * gradient, of the same kind."""
    if isinstance(gradient, RowGradient):
        return RowGradient(gradient.rows, factor * gradient.values, gradient.shape)
    return factor * gradient


def mean_of_batches(gradients: Sequence[Mapping[str, Any]], tokens: Sequence[int], ops: Ops = NUMPY) -> dict[str, Any]:
    """Combine the gradients of several batches into that of one large batch.

    gradients   of the mean loss of each batch: name -> array or RowGradient, the same names in each
    tokens      number of tokens that each mean was taken over; batches with more tokens count more
    ops         namespace of NumPy functions
    raises      InputError for no batch, different names or lengths, or a number of tokens below 1
    """
    if not gradients or len(gradients) != len(tokens):
        raise InputError("tokens", f"one number for each of the batches, at least one ({len(gradients)})", len(tokens))
    counts = [number(f"tokens[{i}]", n, int, Range(1, math.inf)) for i, n in enumerate(tokens)]
    total: dict[str, Any] = {}
    weights = ops.batch_weights(np.array(counts, dtype=np.float64))
    for i, (batch, weight) in enumerate(zip(gradients, weights.tolist(), strict=True)):
        if i and set(batch) != set(total):
            listed = ", ".join(sorted(set(batch) ^ set(total))[:3])
            raise InputError(f"gradients[{i}]", "the names of the first batch", f"a difference in {listed}")
        parts = {name: scaled(gradient, weight) for name, gradient in batch.items()}
        total = {name: total[name] + part if i else part for name, part in parts.items()}
    return total


def clip(gradients: Mapping[str, Any], limit: float) -> tuple[dict[str, Any], float]:
    """Scale all gradients down together, so that their common norm is at most `limit`.

    returns   the gradients, and their norm before: the root of the sum of the squares of all numbers
    raises    InputError for a limit that is not positive, or a norm that is not finite
    """
    limit = number("limit", limit, float, Range(0.0, math.inf, above=True))
    values = {name: g.values if isinstance(g, RowGradient) else g for name, g in gradients.items()}
    squares = {name: float((x * x).sum()) for name, x in values.items()}
    for name, square in squares.items():
        if not math.isfinite(square):
            raise InputError(f"gradient {name}", "a finite norm", "NaN or infinity")
    norm = math.sqrt(sum(squares.values()))
    factor = limit / norm if norm > limit else 1.0
    return {name: scaled(gradient, factor) for name, gradient in gradients.items()}, norm
