"""Gradients and optimiser steps of the Engram module and of whole models, with the tape or with torch's autograd.

A module has the loss sum(upstream * Y), a model the mean cross-entropy of its logits. The gradient of a table whose
rows are gathered is given by two arrays, `table.rows` and `table.values`: see RowGradient in engram_ref/ops/vjp.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from engram_ref.backends.tape import bare
from engram_ref.checks import as_ops
from engram_ref.model.declarations import engram_module
from engram_ref.model.engram import engram
from engram_ref.model.transformer import forward
from engram_ref.ops.namespace import Ops
from engram_ref.ops.vjp.tables import RowGradient
from engram_ref.training.backward import differentiable, recorder_of
from engram_ref.training.groups import GroupedOptimiser, names_by_group, optimiser_of, paper_optimiser


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


def of_module(namespace: Ops, parameters: Mapping, hidden: object, rows: object, config: Any, dead: object,
              upstream: object) -> dict[str, Any]:
    """Return the gradients of sum(upstream * Y) with respect to hidden state and parameters; tables as RowGradient."""
    recorder = recorder_of(namespace)
    values, wanted = differentiable({"hidden": hidden, **parameters}, recorder)
    hidden = values.pop("hidden")
    Y = engram(values, hidden, rows, config, dead=dead, ops=recorder.ops)
    return recorder.gradients(Y, upstream, wanted)


def of_model(setting: Any, parameters: Mapping, ids: object, targets: object, config: Any, dead: object,
             absorbed: bool) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the mean cross-entropy, and its gradients with respect to the parameters; tables as RowGradient."""
    recorder = recorder_of(setting.namespace)
    values, wanted = differentiable(parameters, recorder)
    logits = forward(values, ids, config, dead=dead, absorbed=absorbed, ops=recorder.ops)
    losses = recorder.ops.cross_entropy(logits, targets)                                  # [B, T]
    upstream = setting.adapter.to(np.full(tuple(losses.shape), 1 / losses.shape[0] / losses.shape[1]))
    return np.mean(setting.adapter.back(losses)), recorder.gradients(losses, upstream, wanted)


def module_gradients(setting: Any, parameters: dict, hidden: object, rows: object, config: object, dead: object,
                     upstream: object) -> dict:
    """Return the gradients of sum(upstream * Y) with respect to the hidden state and each parameter, by name.

    upstream   [B, T, M, D]
    """
    return dict(flattened(of_module(setting.namespace, parameters, hidden, rows, config, dead, upstream)))


def model_gradients(setting: Any, parameters: dict, ids: object, targets: object, config: object, dead: object,
                    absorbed: bool) -> dict:
    """Return the mean cross-entropy, named loss, and its gradient with respect to each parameter, by name.

    targets   int64 [B, T], the next tokens
    """
    loss, found = of_model(setting, parameters, ids, targets, config, dead, absorbed)
    return {"loss": loss} | dict(flattened(found))


def module_steps(setting: Any, parameters: dict, hidden: Any, rows: Any, config: Any, upstream: Any, lr: float,
                 weight_decay: float) -> dict:
    """Return the parameters after one step of the paper's optimisers per batch, each with its own rows and upstream.

    hidden     [B, T, M, D], the same in every step
    rows       int64 [steps, B, T, C]
    upstream   [steps, B, T, M, D]
    """
    groups = names_by_group(engram_module(config, config.layer_ids[0]))
    optimiser = optimiser_of(groups, lr, weight_decay, "muon", as_ops(setting.namespace))
    for i in range(len(rows)):
        found = of_module(setting.namespace, parameters, hidden, rows[i], config, None, upstream[i])
        parameters = stepped(optimiser, parameters, found)
    return parameters


def model_steps(setting: Any, parameters: dict, ids: Any, targets: Any, config: Any, lr: float,
                weight_decay: float) -> dict:
    """Return the parameters after one step of the paper's optimisers per batch, and the loss before each: 0.loss, ...

    ids, targets   int64 [steps, B, T]
    """
    optimiser, losses = paper_optimiser(config, lr, weight_decay, ops=as_ops(setting.namespace)), {}
    for i in range(len(ids)):
        losses[f"{i}.loss"], found = of_model(setting, parameters, ids[i], targets[i], config, None, False)
        parameters = stepped(optimiser, parameters, found)
    return losses | parameters


def stepped(optimiser: GroupedOptimiser, parameters: Mapping, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters after one step; hidden states and statistics are not trained."""
    return optimiser.step(bare(parameters), {name: found[name] for name in optimiser.group_of})
