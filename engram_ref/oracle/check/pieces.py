"""The ops between two stages: how each stage of the module and of addressing follows from the stages it reads."""

from collections.abc import Callable, Mapping

import ml_dtypes
import numpy as np

from engram_ref.ops.namespace import Ops
from engram_ref.oracle.cases import Case
from engram_ref.oracle.noise import FLOAT64
from engram_ref.oracle.run import convert

Piece = Callable[[Ops], np.ndarray]


def pieces_of(case: Case, arguments: Mapping[str, object], answers: Mapping[str, np.ndarray]) -> dict[str, Piece]:
    """Return the functions that compute stages from a port's answers, for the stages whose inputs it answered.

    Only cases of `engram`, `engram_residual` and `address` have any. An answer of a wrong shape or kind is missing.
    """
    if case.op not in ("engram", "engram_residual", "address"):
        return {}
    given = {}
    for stage in case.stages:
        array = answers.get(stage.name)
        if array is not None and array.shape == stage.array.shape and kind(array) == kind(stage.array):
            given[stage.name] = array.astype(np.float64 if kind(array) == "float" else np.int64)
    moved = {name: convert(value, FLOAT64) for name, value in arguments.items()}
    stages = (address_pieces(moved, given, case.outputs[0]) if case.op == "address" else module_pieces(moved, given))
    return {name: piece for name, (inputs, piece) in stages.items() if all(key in given for key in inputs)}


def kind(array: np.ndarray) -> str:
    """Return "float", "integer" (also for booleans), or the dtype's name."""
    if array.dtype.kind == "f" or array.dtype == ml_dtypes.bfloat16:
        return "float"
    return "integer" if array.dtype.kind in "iub" else array.dtype.name


def module_pieces(x: Mapping, given: Mapping[str, np.ndarray]) -> dict[str, tuple[tuple[str, ...], Piece]]:
    """Return stage -> the stages it reads and its function, for the last chunk of a module."""
    config, parameters, start = x["config"], x["parameters"], sum(x.get("chunks", ())[:-1])
    hidden, rows = x["hidden"][:, start:], x["rows"][:, start:]
    dead = None if x["dead"] is None else x["dead"][:, start:]
    gain = lambda ops, name: ops.effective_gain(parameters[f"{name}_gain"], config.gain_form)
    taps = np.zeros((len(hidden), config.conv_span, config.n_branches, config.hidden_size))
    factored = config.score_form == "factored"
    pieces: dict[str, tuple[tuple[str, ...], Piece]] = {
        "memory": ((), lambda ops: ops.gather_decode(parameters, rows, config, np.float64)),
        "key": (("memory",), lambda ops: ops.project(parameters, given["memory"], config)[0]),
        "value": (("memory",), lambda ops: ops.project(parameters, given["memory"], config)[1]),
        "query_norm": ((), lambda ops: ops.rms_norm(hidden, gain(ops, "query"), config.norm_eps)),
        "key_norm": (("key",), lambda ops: ops.rms_norm(given["key"], gain(ops, "key"), config.norm_eps)),
        "score": ((("key",), lambda ops: ops.gate_score(parameters, hidden, given["key"], config)) if factored else
                  (("query_norm", "key_norm"), lambda ops: ops.score(given["query_norm"], given["key_norm"]))),
        "gate": (("score",), lambda ops: ops.gate(given["score"], config.gate_form, dead)),
        "gated": (("gate", "value"), lambda ops: ops.apply_gate(given["gate"], given["value"])),
        "output": (("gated",), lambda ops: given["gated"]),
        "residual": (("output",), lambda ops: ops.add_residual(hidden, given["output"], config.rounding)),
    }
    if config.conv_kernel:
        pieces["conv_norm"] = (("gated",), lambda ops: ops.rms_norm(given["gated"], gain(ops, "conv"),
                                                                    config.conv_norm_eps))
        pieces["output"] = (("conv", "gated"), lambda ops: ops.add(given["conv"], given["gated"]))
        if start == 0:                                          # later chunks read taps that are no stage
            weight, dilation = parameters["conv_weight"], config.conv_dilation
            pieces["conv"] = (("conv_norm",), lambda ops: ops.conv_silu(given["conv_norm"], weight, dilation, taps))
            pieces["taps"] = (("conv_norm",), lambda ops: ops.next_taps(given["conv_norm"], taps))
    return pieces


def address_pieces(x: Mapping, given: Mapping[str, np.ndarray],
                   output: str) -> dict[str, tuple[tuple[str, ...], Piece]]:
    """Return stage -> the stages it reads and its function, for the rows of one layer."""
    return {
        "mix": (("windows",), lambda ops: ops.mix(given["windows"], x["multipliers"])),
        "rows": (("mix",), lambda ops: ops.table_rows(given["mix"], x["primes"])),
        output: (("rows",), lambda ops: given["rows"] if x["offsets"] is None else given["rows"] + x["offsets"]),
    }
