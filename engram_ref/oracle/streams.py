"""Streams: step-by-step tests of the state that a wrapper around the ops keeps between calls.

docs/reference/golden.md lists the steps. The answers of a feed are the outputs of its real tokens, row by row, and the
state after it: of the rows of one layer the history, of a module the taps, of a model both for each Engram layer. The
answer of a prefix is the history. Only the model accepts counts and rolls rows back by different amounts; the other
streams roll back whole feeds. Only rows accept a prefix.
"""

import copy
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from engram_ref.addressing import Addressing
from engram_ref.errors import InputError
from engram_ref.model.engram import EngramState, engram, start_state
from engram_ref.model.state import Caches, DecodeState
from engram_ref.model.transformer import forward
from engram_ref.ops.namespace import Ops
from engram_ref.trace import Trace


class SnapshotStream:
    """A stream with one immutable state, which every feed replaces."""

    state_name: str

    def __init__(self, state: object):
        self.state, self.past = state, []          # past: (tokens of a feed, the state before it)

    @property
    def batch(self) -> int:
        """Number of rows."""
        return len(self.state)

    def states(self) -> dict[str, np.ndarray]:
        """Return the state by name."""
        return {self.state_name: self.state}

    def rollback(self, tokens: Sequence[int]) -> None:
        """Forget the newest feeds, which have tokens[0] tokens in total."""
        left = tokens[0]
        while left > 0:
            length, self.state = self.past.pop()
            left -= length

    def reorder(self, rows: list[int]) -> None:
        """Select these rows as the new batch; later rollbacks cannot go back past this step."""
        self.state, self.past = self.state[rows], []

    def fork(self) -> "SnapshotStream":
        """Return an independent copy."""
        copied = copy.copy(self)
        copied.past = list(self.past)
        return copied


class RowStream(SnapshotStream):
    """The rows of one layer; the state is the history, int64 [B, N-1]."""

    state_name = "history"

    def __init__(self, addressing: Addressing, layer_id: int, batch: int):
        super().__init__(addressing.start(batch))
        self.addressing, self.layer_id = addressing, layer_id

    def feed(self, canonical_ids: np.ndarray) -> np.ndarray:
        """Return the rows of the next ids: int64 [B, T] -> int64 [B, T, C]."""
        rows = self.addressing.rows(canonical_ids, self.layer_id, self.state)
        self.past.append((canonical_ids.shape[1], self.state))
        self.state = self.addressing.advance(self.state, canonical_ids)
        return rows

    def prefix(self, texts: Sequence[Sequence[int]]) -> None:
        """Start after these raw ids, one text per row."""
        ops, canonical = self.addressing.ops, self.addressing.canonical
        longest = max(map(len, texts), default=0)
        ids = np.array([[ops.DEAD] * (longest - len(text)) + list(text) for text in texts], dtype=np.int64)
        ids = ops.as_int64("ids", ids.reshape(len(texts), longest))
        self.state = ops.next_history(self.addressing.start(len(texts)),
                                      ids if canonical is None else ops.canonicalise(ids, canonical))


class ModuleStream(SnapshotStream):
    """The Engram module; the state is its taps."""

    state_name = "taps"

    def __init__(self, parameters: Mapping, config: object, hidden: np.ndarray, ops: Ops):
        """Start before the first token; batch size, dtype and device are those of `hidden`."""
        super().__init__(start_state(config, len(hidden), hidden.dtype, like=hidden, ops=ops).taps)
        self.parameters, self.config, self.ops = parameters, config, ops

    def feed(self, hidden: np.ndarray, rows: np.ndarray, dead: np.ndarray | None,
             trace: Trace | None = None) -> np.ndarray:
        """Return Y of the next tokens: [B, T, M, D]."""
        state = EngramState(self.state)
        Y = engram(self.parameters, hidden, rows, self.config, state=state, dead=dead, ops=self.ops, trace=trace)
        self.past.append((hidden.shape[1], self.state))
        self.state = state.taps
        return Y


class ModelStream:
    """The whole model; its DecodeState holds all state."""

    def __init__(self, parameters: Mapping, config: object, state: DecodeState, ops: Ops, absorbed: bool,
                 addressing: Addressing | None = None):
        self.parameters, self.config, self.state, self.ops, self.absorbed = parameters, config, state, ops, absorbed
        self.addressing = addressing

    def feed(self, ids: np.ndarray, dead: np.ndarray | None, counts: Sequence[int] | None = None,
             trace: Trace | None = None) -> np.ndarray:
        """Return the logits of the next tokens: int64 [B, T] -> [B, T, V]."""
        return forward(self.parameters, ids, self.config, state=self.state, counts=counts, dead=dead,
                       absorbed=self.absorbed, addressing=self.addressing, ops=self.ops, trace=trace)

    @property
    def batch(self) -> int:
        """Number of rows."""
        return self.state.batch

    def states(self) -> dict[str, np.ndarray]:
        """Return history and taps of every Engram layer; the state keeps its arrays and still writes in place."""
        named, config = {}, self.config.engram
        caches = Caches(self.state, (self.batch, 0), (), True, self.ops)
        last = lambda name, count, before: caches.last(name, caches.arrays[name], count, before)
        for index in range(self.config.backbone.n_layers):
            if self.config.engram_layer(index) is not None:
                named[f"layers.{index}.history"] = last("canonical_ids", config.max_ngram - 1, self.ops.DEAD)
                if config.conv_kernel:
                    named[f"layers.{index}.taps"] = last(f"layers.{index}.conv_norm", config.conv_span, 0)
        return named

    def rollback(self, tokens: Sequence[int]) -> None:
        """Forget the newest tokens of each row."""
        self.state.rollback(tokens)

    def reorder(self, rows: list[int]) -> None:
        """Select these rows as the new batch."""
        self.state.reorder(rows)

    def fork(self) -> "ModelStream":
        """Return an independent copy."""
        copied = copy.copy(self)
        copied.state = self.state.fork()
        return copied


STREAMS: dict[str, type] = {"rows": RowStream, "module": ModuleStream, "model": ModelStream, "addressing": Addressing}
"""The stream classes by name, and the class that computes the constants of a configuration."""


def play(steps: Sequence[Sequence], columns: Mapping[str, np.ndarray | None], stream: object,
         back: Callable[[object], np.ndarray]) -> tuple[np.ndarray, ...]:
    """Return the answers of all feeds and prefixes, in order: outputs, then the state.

    steps     as in docs/reference/golden.md
    columns   arguments of the feeds, each [B, all columns, ...] or None
    stream    the stream called "main"
    back      array of the namespace -> NumPy array
    returns   per feed the outputs [real tokens, ...]; per feed or prefix each part of the state [B, ...]
    """
    streams, answers, used = {"main": stream}, [], 0
    for name, action, argument, *counts in steps:
        if action == "feed":
            part, used = slice(used, used + argument), used + argument
            batch = streams[name].batch
            taken = {key: array if array is None else array[:batch, part] for key, array in columns.items()}
            answer = back(streams[name].feed(**taken, **({"counts": counts[0]} if counts else {})))
            lengths = counts[0] if counts else [argument] * len(answer)
            answers.append(np.concatenate([row[:n] for row, n in zip(answer, lengths, strict=True)]))
        elif action == "fork":
            streams[argument] = streams[name].fork()
        elif action == "rollback":
            streams[name].rollback(argument)
        elif action == "reorder":
            streams[name].reorder(argument)
        else:
            streams[name].prefix(argument)
        if action in ("feed", "prefix"):
            answers += map(back, streams[name].states().values())
    return tuple(answers)


def check_steps(steps: object) -> None:
    """Raise InputError unless the steps have the documented form."""
    known = {"main"}
    for step in steps if isinstance(steps, list) else [steps]:
        match step:
            case [str(name), "feed", int(), *counts] if name in known and len(counts) < 2:
                lists = counts
            case [str(name), "rollback" | "reorder", list(numbers)] if name in known:
                lists = [numbers]
            case [str(name), "prefix", list(texts)] if name in known:
                lists = texts
            case [str(name), "fork", str(new)] if name in known:
                lists = []
                known.add(new)
            case _:
                raise InputError("steps", "[stream, feed | prefix | rollback | reorder | fork, argument] of a "
                                 "known stream", repr(step)[:60])
        if any(type(numbers) is not list or any(type(n) is not int for n in numbers) for numbers in lists):
            raise InputError("steps", "integers, one per row", repr(step)[:60])
