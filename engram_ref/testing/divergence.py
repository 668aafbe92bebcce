"""The first stage at which two models differ."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from engram_ref.backends import load
from engram_ref.checks import as_ops, check_kinds
from engram_ref.errors import InputError
from engram_ref.ops.arrays import as_array
from engram_ref.ops.namespace import Ops
from engram_ref.oracle.cases import Case
from engram_ref.oracle.check.difference import difference
from engram_ref.oracle.check.judge import StageResult
from engram_ref.oracle.compare import same
from engram_ref.oracle.noise import CONFIDENCE
from engram_ref.oracle.run import Stages, adapter_of, run
from engram_ref.testing.answers import NO_VECTORS, answers_of, case_of, prepared

ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
"""Unit roundoff of the formats in which a model may store its stages."""


@dataclass(frozen=True)
class Divergence:
    """A stage at which two models differ, and a text that says where."""

    stage: str
    text: str

    def __str__(self) -> str:
        return self.text


def first_divergence(model_a: Ops | str | Callable[..., Any], model_b: Ops | str | Callable[..., Any],
                     inputs: Mapping[str, Any]) -> Divergence | None:
    """Run two models on the same inputs and find the first stage, in order of computation, at which they differ.

    model_a, model_b   each a namespace of ops, the name of a backend, or a function of the inputs, by name, that
                       returns {stage: array}; stages that only one of them has are skipped
    inputs             arguments by name: parameters, hidden, rows, config and possibly dead, as for `engram`; or
                       parameters, ids, config and possibly dead, as for `forward`. All arrays have a batch axis
    returns            None if no stage differs by more than the rounding of both models explains
    raises             AssertionError if a function does not return stages, or the models have none in common;
                       InputError for invalid arguments
    """
    case = traced_case(inputs)
    a, b = (stages_of(model, case, inputs) for model in (model_a, model_b))
    known = [stage.name for stage in case.stages]
    if not a.keys() & b.keys() & {*known}:
        raise AssertionError(f"the models have no stage of {case.op} in common; its stages are {', '.join(known)}")
    for stage in case.stages:
        if stage.name not in a or stage.name not in b:
            continue
        one, other = a[stage.name], b[stage.name]
        if one.shape != other.shape:
            return Divergence(stage.name, f"{stage.name}: shape {list(one.shape)} and {list(other.shape)}")
        differ = ~same(one, other)
        if stage.noise is not None:
            u = sum(ROUNDOFF.get(x.dtype.name, 0.0) for x in (one, other))
            allowed = CONFIDENCE * u * (stage.noise + np.abs(stage.array))          # the inputs may be rounded, too
            with np.errstate(invalid="ignore"):
                differ &= ~(np.abs(one.astype(np.float64) - other.astype(np.float64)) <= allowed)
        if differ.any():
            result = StageResult(stage.name, "differs", differ, one, other)
            return Divergence(stage.name, "\n".join(difference(NO_VECTORS, case, result)))
    return None


def traced_case(inputs: Mapping[str, Any]) -> Case:
    """Return the inputs as a case of `engram` or `forward`, with all stages of the definition."""
    check_kinds(inputs=(inputs, Mapping))
    op, tokens = ("forward", "ids") if "ids" in inputs else ("engram", "hidden")
    allowed = {"parameters", "config", tokens} | ({"rows"} if op == "engram" else set())
    if not allowed <= inputs.keys() <= allowed | {"dead"}:
        raise InputError("inputs", f"the arguments {', '.join(sorted(allowed))} of {op}", ", ".join(map(str, inputs)))
    arrays = {name: as_array(name, x) for name, x in inputs.items() if name not in ("parameters", "config", "dead")}
    if arrays[tokens].ndim < 2:
        raise InputError(tokens, "batch and token axes", f"shape {list(arrays[tokens].shape)}")
    arguments = {"dead": None, **inputs, **arrays, "parameters": {"parameters": inputs["parameters"]},
                 "chunks": [arrays[tokens].shape[1]]}
    extra, outputs = ({"absorbed": False}, ("logits",)) if op == "forward" else ({}, ("output", "taps"))
    return case_of(op, op, arguments | extra, outputs, traced=True)


def stages_of(model: Ops | str | Callable[..., Any], case: Case, inputs: Mapping[str, Any]) -> Stages:
    """Return the stages of one model as NumPy arrays."""
    if callable(model) and not isinstance(model, Ops):
        return answers_of(prepared(model, inputs, None), ["stages"])
    namespace = load(model) if isinstance(model, str) else as_ops(model)
    return run(case, NO_VECTORS, namespace, adapter_of(namespace), True)
