"""Names of axes, and the columns of data by which wrong elements are described: see check/locate.py."""

import re
from collections.abc import Iterator, Mapping

import numpy as np

from engram_ref.ops.canonical import DEAD
from engram_ref.ops.namespace import Ops
from engram_ref.oracle.cases import Case, topic_of
from engram_ref.stages import stage_of

WORDS = {"B": "sequence", "T": "t", "S": "s", "M": "branch", "N": "shift", "N-1": "order", "C": "column", "A": "head",
         "L": "tap", "V": "token id", "K": "rank", "Y": "layer", "D": "channel", "W": "channel", "C*W": "channel",
         "out": "channel", "(L-1)*dilation": "tap", "S'": "slot", "count": "slot", "layers": "layer", "r": "channel",
         "dn": "channel", "dr": "channel"}
"""Axis letters of engram_ref/axes.py -> word in a description."""

STATES = {"history": "B slot", "taps": "B L M D", "kept": "B T M D", "codes": "... W", "scales": "... block",
          "result": "B T C", "next_history": "B slot", "hidden": "B T M D", "query_gain": "M D", "key_gain": "M D",
          "conv_gain": "M D", "key_bias": "M D", "key_weight": "M out input", "value_weight": "out input",
          "conv_weight": "M D L", "values": "row W"}
"""Axes of stages that are neither in engram_ref/stages.py nor documented as the answer of an op."""


def axes_of(case: Case, stage: str, n_axes: int) -> tuple[str, ...]:
    """Return a name per axis of a stage; "axis 0" and so on if it is unknown.

    >>> from engram_ref.oracle.vectors import read
    >>> case = next(case for case in read().cases if case.op == "score")
    >>> axes_of(case, "output", 3)
    ('sequence', 't', 'branch')
    """
    name, known = stage.rsplit(".", 1)[-1], stage_of(stage)
    documented = re.search(r"returns .*?\[([^]]+)\]", getattr(getattr(Ops, case.op, None), "__doc__", None) or "")
    letters = STATES.get(name, known.axes if known else STATES.get(case.op, "")).split()
    if name == "output" and documented and case.op not in STATES:
        letters = documented[1].split(", ")
    if letters[:1] == ["..."]:
        leading = n_axes - len(letters) + 1
        letters = (["B", "T", "M"] if leading == 3 else [f"axis {i}" for i in range(leading)]) + letters[1:]
    if case.op.endswith("_stream") and letters[:2] == ["B", "T"]:             # the real tokens of all sequences
        letters = ["token", *letters[2:]]
    elif len(letters) != n_axes:
        letters = [f"axis {i}" for i in range(n_axes)]
    names = [WORDS.get(letter, letter) for letter in letters]
    return tuple(name if names.index(name) == i else f"axis {i}" for i, name in enumerate(names))


def side_columns(case: Case, stage: str, arguments: Mapping[str, object],
                 expected: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the columns of data that broadcast against a stage, by name.

    arguments   of the case, decoded
    expected    the stages of the case by name
    returns     names of columns of booleans complete "with ..."; others are compared with numbers
    """
    shape, columns = expected[stage].shape, {}
    if case.op.endswith("_stream"):                               # the answers have one axis for the tokens of all rows
        arguments = {name: value for name, value in arguments.items() if not isinstance(value, np.ndarray)}
    for name, column in (*float_columns(stage, arguments, expected), *code_columns(arguments, shape),
                         *token_columns(case, stage, arguments, shape)):
        if column.ndim > 1 and len(shape) > 1 and column.shape[1] > shape[1]:
            column = column[:, column.shape[1] - shape[1] :]                    # the stages are those of the last chunk
        column = column.reshape(column.shape + (1,) * (len(shape) - column.ndim))
        if all(size in (1, whole) for size, whole in zip(column.shape, shape, strict=False)):
            columns[name] = column
    return {name: column for name, column in columns.items() if column.ndim == len(shape)}


Columns = Iterator[tuple[str, np.ndarray]]


def float_columns(stage: str, arguments: Mapping, expected: Mapping[str, np.ndarray]) -> Columns:
    """Yield the score, the root mean square of the vector that is normalised, and the largest value of each block."""
    path, dot, name = stage.rpartition(".")
    scores = arguments.get("s", expected.get(f"{path}{dot}score"))
    if isinstance(scores, np.ndarray) and name in ("gate", "gated", "conv_norm", "conv", "output"):
        yield "score", scores
    vectors = arguments.get("hidden", arguments.get("x"))
    if isinstance(vectors, np.ndarray) and vectors.dtype.kind == "f" and vectors.ndim > 1:
        yield "rms", np.sqrt(np.mean(vectors.astype(np.float64) ** 2, axis=-1))
        if "floor" in arguments and vectors.size:
            largest = np.abs(vectors).reshape(*vectors.shape[:-1], -1, 32).max(axis=-1)
            yield "block maximum", largest if stage == "scales" else largest.repeat(32, axis=-1)


def code_columns(arguments: Mapping, shape: tuple[int, ...]) -> Columns:
    """Yield the parts of the FP8 codes and their scale bytes."""
    codes, scales = arguments.get("codes"), arguments.get("scales")
    parameters, rows = arguments.get("parameters"), arguments.get("rows")
    if parameters is not None and "table_codes" in parameters and rows is not None:
        flat = rows + parameters["column_offsets"]
        codes, scales = (parameters[f"table_{part}"][flat].reshape(*flat.shape[:2], -1) for part in ("codes", "scales"))
    if codes is not None and codes.shape[-1] == shape[-1]:
        yield "scale byte", scales.repeat(codes.shape[-1] // scales.shape[-1], axis=-1).astype(int)
        yield "code exponent", (codes >> 3 & 15).astype(int)
        yield "a NaN code", codes & 127 == 127
        yield "a subnormal code", (codes & 0x78 == 0) & (codes & 7 > 0)


def token_columns(case: Case, stage: str, arguments: Mapping, shape: tuple[int, ...]) -> Columns:
    """Yield order and head of each column, marks of tokens, and what the windows of the tokens contain."""
    dead, name, config = arguments.get("dead"), stage.rpartition(".")[2], arguments.get("config")
    ids, history = arguments.get("canonical_ids", arguments.get("ids")), arguments.get("history")
    if isinstance(dead, np.ndarray):
        yield "a DEAD token", dead
    hashed = name in ("windows", "mix", "rows", "result")
    span = orders_of(arguments) if hashed or topic_of(case.op) in ("addressing", "hashing") else 0
    column = np.arange(shape[-1] if shape else 0)
    reach = column                                            # tokens back to the oldest one that an element reads
    if span and (hashed or name == "output"):
        if shape[-1] % span == 0 and name != "windows":
            heads = shape[-1] // span
            reach = 1 + column // heads
            yield "order", (reach + 1).reshape((1,) * (len(shape) - 1) + (-1,))
            yield from [("head", (column % heads).reshape((1,) * (len(shape) - 1) + (-1,)))] * (heads > 1)
        if isinstance(ids, np.ndarray) and isinstance(history, np.ndarray) and ids.ndim == 2 == len(shape) - 1:
            yield from window_columns(ids, history, reach, arguments.get("eos_id", getattr(config, "eos_id", None)))
    number, steps = stage.split(".")[0], arguments.get("steps") if case.op.endswith("_stream") else None
    if steps and number.isdigit() and name not in STATES and steps[int(number)][1] == "feed":
        yield from feed_columns(steps, int(number), shape, reach if span else None)


def orders_of(arguments: Mapping) -> int:
    """Return N-1, the number of n-gram orders, or 0 if the arguments do not determine it."""
    if "multipliers" in arguments:
        return np.shape(arguments["multipliers"])[-1] - 1
    if "mixes" in arguments:
        return arguments["mixes"].shape[-1]
    config = arguments.get("config")
    return getattr(getattr(config, "engram", config), "max_ngram", 1) - 1


def window_columns(ids: np.ndarray, history: np.ndarray, reach: np.ndarray, eos_id: int | None) -> Columns:
    """Yield what the tokens from each position back to `reach` contain: bool [B, T, elements]."""
    stream, N, T = np.concatenate([history, ids], axis=1), history.shape[1] + 1, ids.shape[1]
    if len(reach) == 0 or reach.max() >= N:
        return
    shifts = np.stack([stream[:, N - 1 - i : N - 1 - i + T] for i in range(N)], axis=-1)
    inside = np.arange(N) <= reach[:, None]                                       # [elements, N]
    contains = lambda marked: (marked[:, :, None, :] & inside).any(axis=-1)
    before = np.broadcast_to(np.arange(T)[:, None] < reach, (1, T, len(reach)))
    yield ("a window before the start" if (history == DEAD).all() else "a window across the cut"), before
    yield "DEAD in the window", contains((shifts == DEAD) & (np.arange(N) <= np.arange(T)[:, None]))
    yield "a DEAD token", (ids == DEAD)
    if eos_id is not None:
        yield "EOS in the window", contains(shifts == eos_id)


def feed_columns(steps: list, number: int, shape: tuple[int, ...], reach: np.ndarray | None) -> Columns:
    """Yield sequence and position of each real token that step `number` feeds, and if its window crosses the cut."""
    _, action, length, *counts = steps[number]
    if action != "feed":
        return
    sequences = len(counts[0]) if counts else shape[0] // max(length, 1) if shape else 0
    lengths = counts[0] if counts else [length] * sequences
    if not shape or sum(lengths) != shape[0]:
        return
    t = np.concatenate([np.arange(n) for n in lengths]) if lengths else np.zeros(0, int)
    yield "sequence", np.repeat(np.arange(len(lengths)), lengths)
    yield "t", t
    if reach is not None:
        yield ("a window across the cut" if number else "a window before the start"), t[:, None] < reach
