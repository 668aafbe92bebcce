"""Run one golden case on a namespace of ops: NumPy's, a backend's, or one of your own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from engram_ref import ops
from engram_ref.addressing import Addressing
from engram_ref.model.engram import EngramState, engram, start_state
from engram_ref.model.state import DecodeState
from engram_ref.model.transformer import forward
from engram_ref.oracle.encoding import decode_all
from engram_ref.oracle.vectors import Case, Vectors
from engram_ref.trace import Trace, copied

Stages = dict[str, np.ndarray]
HOST = ("lengths",)
"""Arguments that are NumPy arrays in every backend: a state counts its tokens itself."""

NOT_THERE = object()


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


def adapter_of(namespace: ModuleType) -> Adapter:
    """The adapter of a backend: one that has a function `tensors` takes tensors, the others arrays."""
    tensors = getattr(namespace, "tensors", None)
    if tensors is None:
        return Adapter()
    to = lambda array: tensors({"array": array})["array"]
    return Adapter(to, dtype=lambda dtype: to(np.zeros(0, dtype=dtype)).dtype)


def run(case: Case, vectors: Vectors, namespace: ModuleType, adapter: Adapter, traced: bool) -> Stages:
    """What a namespace answers: the stages of the trace if asked for, then what the call returns.

    A case of the whole model or module hands the namespace over as `ops`; where a trace records, backends take
    the way of the small ops, so that a case with a trace is to be run both ways.
    """
    if getattr(namespace, case.op, None) is getattr(ops, case.op, NOT_THERE):
        adapter = Adapter()         # what a backend takes over from NumPy, for constants, takes NumPy's arrays
    arguments = decode_all(case.arguments, vectors.arrays)
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


def call(op: str, arguments: Mapping[str, object], outputs: tuple[str, ...], namespace: ModuleType,
         adapter: Adapter, traced: bool) -> Stages:
    """Call a function of the namespace, or one of RUNNERS, with arguments by name."""
    stages: Stages = {}

    def record(stage: str, array: object) -> None:
        stages[stage] = adapter.back(array)

    if op in RUNNERS:
        found = RUNNERS[op](dict(arguments), namespace, adapter, record if traced else None)
    else:
        found = getattr(namespace, op)(**arguments, **({"record": record} if traced else {}))
    parts = found if isinstance(found, tuple) else (found,)
    parts = tuple(part for part in parts if part is not None)
    return stages | {name: adapter.back(part) for name, part in zip(outputs, parts, strict=True)}


Record = Callable[[str, object], None] | None


def through_stepper(arguments: dict, namespace: ModuleType, adapter: Adapter, record: Record) -> object:
    """One decoding step of the function that `stepper` makes: rows [B, C]."""
    ids, history = arguments.pop("ids"), arguments.pop("history")
    return namespace.stepper(**arguments)(ids, history)


def through_addressing(arguments: dict, namespace: ModuleType, adapter: Adapter, record: Record) -> tuple:
    """The constants of one layer, and the rows [B, T, C] of some canonical ids."""
    layer_id, history = arguments["layer_id"], arguments["history"]
    addressing = Addressing(arguments["config"], ops=namespace)
    rows = addressing.rows(arguments["canonical_ids"], layer_id, history, flat=arguments["flat"])
    return (addressing.multipliers[layer_id], addressing.primes[layer_id], addressing.offsets[layer_id],
            np.asarray(addressing.table_rows[layer_id]), rows)


def through_engram(arguments: dict, namespace: ModuleType, adapter: Adapter, record: Record) -> tuple:
    """The module, in one go or in `chunks` of a stream: Y of the last chunk, and the taps after it."""
    config, hidden, rows, dead = (arguments[name] for name in ("config", "hidden", "rows", "dead"))
    dtype = adapter.back(hidden).dtype.type
    state, start = EngramState(adapter.to(start_state(config, len(hidden), dtype).taps)), 0
    for length in arguments["chunks"]:
        part, start = slice(start, start + length), start + length
        trace = None if record is None else Trace()
        Y = engram(arguments["parameters"], hidden[:, part], rows[:, part], config, state=state, ops=namespace,
                   dead=None if dead is None else dead[:, part], trace=trace)
    pass_on(trace, record)
    return Y, state.taps


def through_model(arguments: dict, namespace: ModuleType, adapter: Adapter, record: Record) -> object:
    """The whole model, in one go or in `chunks` of a text: logits of the last chunk."""
    ids, dead = arguments["ids"], arguments["dead"]
    state, start = DecodeState.start(len(ids)), 0
    for length in arguments["chunks"]:
        part, start = slice(start, start + length), start + length
        trace = None if record is None else Trace()
        logits = forward(arguments["parameters"], ids[:, part], arguments["config"], state=state, ops=namespace,
                         dead=None if dead is None else dead[:, part], absorbed=arguments["absorbed"], trace=trace)
    pass_on(trace, record)
    return logits


def pass_on(trace: Trace | None, record: Record) -> None:
    """Every stage of a trace, in order."""
    if trace is not None and record is not None:
        for stage in trace:
            record(stage, trace[stage])


RUNNERS: dict[str, Callable[..., object]] = {
    "stepper": through_stepper, "addressing": through_addressing, "engram": through_engram, "forward": through_model,
}
"""What is called in another way than a plain function: each takes arguments, namespace, adapter and record."""
