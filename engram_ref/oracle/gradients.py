"""Gradients of the Engram module and of whole models: with the tape of this package, or with torch autograd.

A module has the loss sum(upstream * Y), a model the mean cross-entropy of its logits. The gradient of a table whose
rows are gathered is given by two arrays, `table.rows` and `table.values`: see RowGradient in engram_ref/ops/vjp.
"""

from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from engram_ref.backends.tape import as_value, gradients, tape
from engram_ref.checks import as_ops
from engram_ref.model.engram import engram
from engram_ref.model.transformer import forward
from engram_ref.ops.namespace import Ops
from engram_ref.ops.vjp.tables import RowGradient


def flattened(gradient: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield name and array of each part of a gradient: those of a dictionary by name, rows and values of a table."""
    if isinstance(gradient, Mapping):
        for key, part in gradient.items():
            yield from flattened(part, key)
    elif isinstance(gradient, RowGradient):
        yield f"{name}.rows", gradient.rows
        yield f"{name}.values", gradient.values
    elif gradient is not None:
        yield name, gradient


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


def module_gradients(setting: Any, parameters: dict, hidden: object, rows: object, config: object, dead: object,
                     upstream: object) -> dict:
    """Return the gradients of sum(upstream * Y) with respect to the hidden state and each parameter, by name.

    upstream   [B, T, M, D]
    """
    recorder = recorder_of(setting.namespace)
    values, wanted = differentiable({"hidden": hidden, **parameters}, recorder)
    hidden = values.pop("hidden")
    Y = engram(values, hidden, rows, config, dead=dead, ops=recorder.ops)
    return dict(flattened(recorder.gradients(Y, upstream, wanted)))


def model_gradients(setting: Any, parameters: dict, ids: object, targets: object, config: object, dead: object,
                    absorbed: bool) -> dict:
    """Return the mean cross-entropy, named loss, and its gradient with respect to each parameter, by name.

    targets   int64 [B, T], the next tokens
    """
    recorder = recorder_of(setting.namespace)
    values, wanted = differentiable(parameters, recorder)
    logits = forward(values, ids, config, dead=dead, absorbed=absorbed, ops=recorder.ops)
    losses = recorder.ops.cross_entropy(logits, targets)                                  # [B, T]
    upstream = setting.adapter.to(np.full(tuple(losses.shape), 1 / losses.shape[0] / losses.shape[1]))
    found = dict(flattened(recorder.gradients(losses, upstream, wanted)))
    return {"loss": np.mean(setting.adapter.back(losses))} | found
