"""Run one golden case on a namespace of ops: NumPy's, a backend's, or one of your own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from engram_ref.addressing import Addressing
from engram_ref.model.state import DecodeState
from engram_ref.ops.namespace import CONSTANTS, Ops
from engram_ref.oracle.cases import Case, Vectors
from engram_ref.oracle.encoding import decode_all
from engram_ref.oracle.streams import ModelStream, ModuleStream, RowStream, play
from engram_ref.trace import Trace, copied

Stages = dict[str, np.ndarray]
Record = Callable[[str, object], None] | None
HOST = ("lengths",)
"""Arguments that are NumPy arrays in every backend: a state counts its tokens itself."""


@dataclass(frozen=True)
class Adapter:
    """How arrays get into a namespace and back.

    to      from a NumPy array to what the functions take
    back    from what they return to a NumPy array; as it stands, also from tensors of any device
    dtype   from a NumPy dtype to the namespace's own
    """

    to: Callable[[np.ndarray], object] = lambda array: array
    back: Callable[[object], np.ndarray] = copied
    dtype: Callable[[type], object] = lambda dtype: dtype


def adapter_of(namespace: Ops) -> Adapter:
    """The adapter of a backend: one that has a function `tensors` takes tensors, the others arrays."""
    tensors = getattr(namespace, "tensors", None)
    if tensors is None:
        return Adapter()
    to = lambda array: tensors({"array": array})["array"]
    return Adapter(to, dtype=lambda dtype: to(np.zeros(0, dtype=dtype)).dtype)


def run(case: Case, vectors: Vectors, namespace: Ops, adapter: Adapter, traced: bool) -> Stages:
    """What a namespace answers: the stages of the trace if asked for, then what the call returns.

    A case of the whole model or module hands the namespace over as `ops`; where a trace records, backends take
    the way of the small ops, so that a case with a trace is to be run both ways.
    """
    namespace = getattr(namespace, "NAMESPACE", namespace)
    if traced:
        namespace = getattr(namespace, "steps", namespace)
    if case.op in CONSTANTS:
        adapter = Adapter()         # every backend makes these by NumPy
    arguments = decode_all(case.arguments, vectors.arrays, vectors.configurations)
    moved = {name: part if name in HOST else convert(part, adapter) for name, part in arguments.items()}
    return call(case.op, moved, case.outputs, namespace, adapter, traced)


def convert(argument: object, adapter: Adapter) -> object:
    """An argument with every array and dtype in it turned into the namespace's own."""
    if isinstance(argument, np.ndarray):
        return adapter.to(argument)
    if isinstance(argument, type):
        return adapter.dtype(argument)
    if isinstance(argument, dict):
        return {name: convert(part, adapter) for name, part in argument.items()}
    if isinstance(argument, list | tuple):
        return type(argument)(convert(part, adapter) for part in argument)
    return argument


def call(op: str, arguments: Mapping[str, object], outputs: tuple[str, ...], namespace: Ops,
         adapter: Adapter, traced: bool) -> Stages:
    """Call a function of the namespace, or one of RUNNERS, with arguments by name."""
    stages: Stages = {}

    def record(stage: str, array: object) -> None:
        stages[stage] = adapter.back(array)

    if op in RUNNERS:
        found = RUNNERS[op](namespace, adapter, record if traced else None, **arguments)
    else:
        found = getattr(namespace, op)(**arguments, **({"record": record} if traced else {}))
    parts = found if isinstance(found, tuple) else (found,)
    parts = tuple(part for part in parts if part is not None)
    return stages | {name: adapter.back(part) for name, part in zip(outputs, parts, strict=True)}


def through_stepper(namespace: Ops, adapter: Adapter, record: Record, ids: object, history: object,
                    **constants: object) -> object:
    """One decoding step of the function that `stepper` makes: rows [B, C]."""
    return namespace.stepper(**constants)(ids, history)


def through_addressing(namespace: Ops, adapter: Adapter, record: Record, config: object, canonical_ids: object,
                       layer_id: int, history: object, flat: bool) -> tuple:
    """The constants of one layer, and the rows [B, T, C] of some canonical ids."""
    addressing = Addressing(config, ops=namespace)
    rows = addressing.rows(canonical_ids, layer_id, history, flat=flat)
    return (addressing.multipliers[layer_id], addressing.primes[layer_id], addressing.offsets[layer_id],
            np.asarray(addressing.table_rows[layer_id]), rows)


def through_engram(namespace: Ops, adapter: Adapter, record: Record, parameters: dict, hidden: object,
                   rows: object, config: object, dead: object, chunks: list[int]) -> tuple:
    """The module, in one go or in `chunks` of a stream: Y of the last chunk, and the taps after it."""
    stream = ModuleStream.start(parameters, config, hidden, namespace)
    Y = last_of_chunks(stream, {"hidden": hidden, "rows": rows, "dead": dead}, chunks, record)
    return Y, stream.state


def through_model(namespace: Ops, adapter: Adapter, record: Record, parameters: dict, ids: object,
                  config: object, dead: object, chunks: list[int], absorbed: bool) -> object:
    """The whole model, in one go or in `chunks` of a text: logits of the last chunk."""
    stream = ModelStream(parameters, config, DecodeState.start(len(ids)), namespace, absorbed)
    return last_of_chunks(stream, {"ids": ids, "dead": dead}, chunks, record)


def last_of_chunks(stream: ModuleStream | ModelStream, columns: dict, chunks: list[int], record: Record) -> object:
    """What the last chunk is answered; its stages are recorded."""
    start = 0
    for length in chunks:
        part, start = slice(start, start + length), start + length
        trace = None if record is None else Trace()
        answer = stream.feed(**{name: None if x is None else x[:, part] for name, x in columns.items()}, trace=trace)
    for stage in trace or ():
        record(stage, trace[stage])
    return answer


def through_row_stream(namespace: Ops, adapter: Adapter, record: Record, config: object, layer_id: int,
                       canonical_ids: object, steps: list) -> tuple:
    """Rows of one layer, step by step."""
    stream = RowStream(Addressing(config, ops=namespace), layer_id, len(canonical_ids))
    return play(steps, {"canonical_ids": canonical_ids}, stream, adapter.back)


def through_module_stream(namespace: Ops, adapter: Adapter, record: Record, parameters: dict, hidden: object,
                          rows: object, config: object, dead: object, steps: list) -> tuple:
    """The module, step by step."""
    stream = ModuleStream.start(parameters, config, hidden, namespace)
    return play(steps, {"hidden": hidden, "rows": rows, "dead": dead}, stream, adapter.back)


def through_model_stream(namespace: Ops, adapter: Adapter, record: Record, parameters: dict, ids: object,
                         config: object, dead: object, steps: list, absorbed: bool) -> tuple:
    """The whole model, step by step."""
    stream = ModelStream(parameters, config, DecodeState.start(len(ids)), namespace, absorbed)
    return play(steps, {"ids": ids, "dead": dead}, stream, adapter.back)


RUNNERS: dict[str, Callable[..., object]] = {
    "stepper": through_stepper, "addressing": through_addressing, "engram": through_engram, "forward": through_model,
    "addressing_stream": through_row_stream, "engram_stream": through_module_stream,
    "forward_stream": through_model_stream,
}
"""What is called in another way than a plain function: each takes namespace, adapter and record, then the arguments."""
