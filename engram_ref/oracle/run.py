"""Run one golden case with a namespace of ops: NumPy, a backend, or your own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from engram_ref.model.engram import engram, residual
from engram_ref.model.state import DecodeState
from engram_ref.ops.namespace import CONSTANTS, Ops
from engram_ref.oracle.cases import Case, Vectors
from engram_ref.oracle.encoding import decode_all
from engram_ref.oracle.gradients import flattened, model_gradients, model_steps, module_gradients, module_steps
from engram_ref.oracle.streams import STREAMS, ModelStream, ModuleStream, play
from engram_ref.trace import Trace, copied

Stages = dict[str, np.ndarray]
Record = Callable[[str, object], None] | None
HOST_ARGUMENTS = ("lengths",)
"""Arguments that are NumPy arrays in every backend, because a state keeps its lengths on the host."""


@dataclass(frozen=True)
class Adapter:
    """Conversion of arrays and dtypes between NumPy and a namespace.

    to      NumPy array -> argument of the functions
    back    result of the functions -> NumPy array; the default also handles tensors on any device
    dtype   NumPy dtype -> dtype of the namespace
    """

    to: Callable[[np.ndarray], object] = lambda array: array
    back: Callable[[object], np.ndarray] = copied
    dtype: Callable[[type], object] = lambda dtype: dtype


@dataclass(frozen=True)
class Setting:
    """What a runner needs besides the arguments of its case."""

    namespace: Ops                  # the functions under test
    adapter: Adapter
    record: Record                  # receives each stage and its name; None without a trace
    streams: Mapping[str, type]     # classes that keep state between calls, named as in oracle/streams.py


def adapter_of(namespace: Ops) -> Adapter:
    """Return the adapter of a backend: it converts to tensors if the backend has `tensors`, else to NumPy arrays."""
    tensors = getattr(namespace, "tensors", None)
    if tensors is None:
        return Adapter()
    to = lambda array: tensors({"array": array})["array"]
    return Adapter(to, dtype=lambda dtype: to(np.zeros(0, dtype=dtype)).dtype)


def run(case: Case, vectors: Vectors, namespace: Ops, adapter: Adapter, traced: bool,
        streams: Mapping[str, type] = STREAMS) -> Stages:
    """Return the stages of the trace, if `traced`, and the outputs of the call.

    Cases of the whole model or module pass the namespace as `ops`. With a trace, backends call the small ops instead
    of fused kernels, so run a case with a trace both ways. `streams` are the classes that keep state between calls.
    """
    namespace = getattr(namespace, "NAMESPACE", namespace)
    if traced:
        namespace = getattr(namespace, "steps", namespace)
    if case.op in CONSTANTS:
        adapter = Adapter()         # every backend computes these with NumPy
    arguments = decode_all(case.arguments, vectors.arrays, vectors.configurations)
    moved = {name: part if name in HOST_ARGUMENTS else convert(part, adapter) for name, part in arguments.items()}
    return call(case.op, moved, case.outputs, namespace, adapter, traced, streams)


def convert(argument: object, adapter: Adapter) -> object:
    """Convert every array and dtype in an argument to the namespace's own."""
    if isinstance(argument, np.ndarray):
        return adapter.to(argument)
    if isinstance(argument, type):
        return adapter.dtype(argument)
    if isinstance(argument, Mapping):
        return {name: convert(part, adapter) for name, part in argument.items()}
    if isinstance(argument, list | tuple):
        return type(argument)(convert(part, adapter) for part in argument)
    return argument


def call(op: str, arguments: Mapping[str, object], outputs: tuple[str, ...], namespace: Ops,
         adapter: Adapter, traced: bool, streams: Mapping[str, type] = STREAMS) -> Stages:
    """Call a function of the namespace, or one of RUNNERS, with arguments by name."""
    stages: Stages = {}

    def record(stage: str, array: object) -> None:
        stages[stage] = adapter.back(array)

    if op in RUNNERS:
        result = RUNNERS[op](Setting(namespace, adapter, record if traced else None, streams), **arguments)
    else:
        result = getattr(namespace, op)(**arguments, **({"record": record} if traced else {}))
    if isinstance(result, dict):
        return stages | {name: adapter.back(result[name]) for name in outputs if name in result}
    parts = [array for part in (result if isinstance(result, tuple) else (result,)) for _, array in flattened(part)]
    return stages | {name: adapter.back(part) for name, part in zip(outputs, parts, strict=True)}


def run_stepper(setting: Setting, ids: object, history: object, **constants: object) -> object:
    """Run one decode step with the function that `stepper` returns: rows [B, C]."""
    return setting.namespace.stepper(**constants)(ids, history)


def run_addressing(setting: Setting, config: object, canonical_ids: object, layer_id: int, history: object,
                   flat: bool) -> tuple:
    """Return the constants of one layer, and the rows [B, T, C] of `canonical_ids`.

    raises   InputError for canonical_ids outside [0, canonical_size), except -1 if the field dead_barrier is true; a
             history with elements outside [-1, canonical_size), or, without dead_barrier, with -1 after an id
    """
    addressing = setting.streams["addressing"](config, ops=setting.namespace)
    rows = addressing.rows(canonical_ids, layer_id, history, flat=flat)
    return (addressing.multipliers[layer_id], addressing.primes[layer_id], addressing.offsets[layer_id],
            np.asarray(addressing.table_rows[layer_id]), rows)


def run_engram(setting: Setting, parameters: dict, hidden: object, rows: object, config: object, dead: object, chunks:
               list[int]) -> tuple:
    """Run the module over a stream in `chunks`; return Y of the last chunk and the taps after it.

    raises   InputError for rows outside their column's table: below 0, or not below the column's prime
    """
    stream = setting.streams["module"](parameters, config, hidden, setting.namespace)
    Y = feed_chunks(stream, {"hidden": hidden, "rows": rows, "dead": dead}, chunks, setting.record)
    return Y, stream.state


def run_residual(setting: Setting, parameters: dict, hidden: object, rows: object, config: object,
                 dead: object) -> object:
    """Run the module from the start of a text; return H + Y, with the dialect's rounding."""
    trace = None if setting.record is None else Trace()
    Y = engram(parameters, hidden, rows, config, dead=dead, ops=setting.namespace, trace=trace)
    answer = residual(hidden, Y, config, ops=setting.namespace, trace=trace)
    for stage in trace or ():
        setting.record(stage, trace[stage])
    return answer


def run_model(setting: Setting, parameters: dict, ids: object, config: object, dead: object, chunks: list[int],
              absorbed: bool) -> object:
    """Run the whole model over a text in `chunks`; return the logits of the last chunk.

    raises   InputError for ids outside [0, vocab_size)
    """
    stream = model_stream(setting, parameters, len(ids), config, absorbed)
    return feed_chunks(stream, {"ids": ids, "dead": dead}, chunks, setting.record)


def model_stream(setting: Setting, parameters: dict, batch: int, config: Any, absorbed: bool) -> ModelStream:
    """Return a stream of the whole model before its first token."""
    ops, engram = setting.namespace, config.engram
    addressing = None if engram is None else setting.streams["addressing"](engram, ops=ops)
    return setting.streams["model"](parameters, config, DecodeState.start(batch), ops, absorbed, addressing)


def feed_chunks(stream: ModuleStream | ModelStream, columns: dict, chunks: list[int], record: Record) -> object:
    """Feed all chunks; record the stages of the last one and return its answer."""
    start = 0
    for length in chunks:
        part, start = slice(start, start + length), start + length
        trace = None if record is None else Trace()
        answer = stream.feed(**{name: None if x is None else x[:, part] for name, x in columns.items()}, trace=trace)
    for stage in trace or ():
        record(stage, trace[stage])
    return answer


def run_row_stream(setting: Setting, config: object, layer_id: int, canonical_ids: object, steps: list) -> tuple:
    """Compute the rows of one layer, step by step.

    raises   InputError for the same ids as `addressing`
    """
    addressing = setting.streams["addressing"](config, ops=setting.namespace)
    stream = setting.streams["rows"](addressing, layer_id, len(canonical_ids))
    return play(steps, {"canonical_ids": canonical_ids}, stream, setting.adapter.back)


def run_module_stream(setting: Setting, parameters: dict, hidden: object, rows: object, config: object, dead: object,
                      steps: list) -> tuple:
    """Run the module, step by step."""
    stream = setting.streams["module"](parameters, config, hidden, setting.namespace)
    return play(steps, {"hidden": hidden, "rows": rows, "dead": dead}, stream, setting.adapter.back)


def run_model_stream(setting: Setting, parameters: dict, ids: object, config: object, dead: object, steps: list,
                     absorbed: bool) -> tuple:
    """Run the whole model, step by step."""
    stream = model_stream(setting, parameters, len(ids), config, absorbed)
    return play(steps, {"ids": ids, "dead": dead}, stream, setting.adapter.back)


def run_released_project(setting: Setting, memory: object, weight: object, bias: object, config: object) -> object:
    """Project the memory onto some output channels: `weight` has their rows."""
    ops, emulated = setting.namespace, config.rounding == "fp8_bf16"
    y = ops.linear(ops.requantise(memory, config.quantise_floor) if emulated else memory, weight, bias)
    return ops.round_bf16(y) if emulated else y


def run_released_gate(setting: Setting, parameters: dict, hidden: object, key: object, value: object, config: object,
                      channels: list[int]) -> tuple:
    """Return score and gate [B, T, M], and H + gate * value of some channels."""
    ops = setting.namespace
    s = ops.gate_score(parameters, hidden, key, config)
    alpha = ops.gate(s, config.gate_form)
    return s, alpha, ops.add_residual(hidden, ops.apply_gate(alpha, value), config.rounding)[..., channels]


def run_released_conv(setting: Setting, parameters: dict, gated: object, taps: object, config: object,
                      channels: list[int]) -> tuple:
    """Return Y and the normalised gated values of some channels."""
    return tuple(x[..., channels] for x in setting.namespace.gated_conv(parameters, gated, taps, config))


RUNNERS: dict[str, Callable[..., object]] = {
    "stepper": run_stepper, "addressing": run_addressing, "engram": run_engram, "forward": run_model,
    "engram_residual": run_residual, "addressing_stream": run_row_stream, "engram_stream": run_module_stream,
    "forward_stream": run_model_stream, "released_project": run_released_project,
    "released_gate": run_released_gate, "released_conv": run_released_conv,
    "engram_gradients": module_gradients, "forward_gradients": model_gradients,
    "engram_steps": module_steps, "forward_steps": model_steps,
}
"""Functions for ops that are not plain functions; each takes a Setting, then the arguments."""
