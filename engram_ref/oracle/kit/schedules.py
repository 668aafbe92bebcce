"""Schedules: golden texts that are cut, split, repeated and continued in many more ways than the golden streams.

A text is a golden stream that reads one token per feed. The output of a token and the state after it do not depend on
how the text was fed, so the answers of every schedule are selected from the text's own.
"""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from engram_ref.addressing import addressing_of
from engram_ref.config import EngramConfig
from engram_ref.ops.canonical import DEAD
from engram_ref.oracle.cases import Case, Stage, Vectors
from engram_ref.oracle.encoding import decode_all
from engram_ref.oracle.noise import with_noise

COLUMNS = {"addressing_stream": ("canonical_ids",), "engram_stream": ("hidden", "rows", "dead"),
           "forward_stream": ("ids", "dead")}
"""Op -> the arguments that the feeds read."""

Steps = list[list]


@dataclass(frozen=True)
class Text:
    """A golden stream of one-token feeds.

    columns   the tokens, name -> [B, T, ...]
    feeds     stages per feed; the first feed is empty, so feeds[n] has the outputs of the n-th token and the state
              after n tokens
    """

    case: Case
    config: EngramConfig
    columns: Mapping[str, np.ndarray]
    feeds: list[tuple[Stage, ...]]


def with_schedules(vectors: Vectors) -> Vectors:
    """Return the vectors with the schedules of every golden text, and the arrays that these read."""
    arrays, cases = dict(vectors.arrays), []
    for case in vectors.cases:
        given: dict[str, Any] = decode_all(case.arguments, vectors.arrays, vectors.configurations)
        cases.append(case)
        if case.op in COLUMNS and all(step == ["main", "feed", int(i > 0)] for i, step in enumerate(given["steps"])):
            cases[-1] = case = with_noise(case, vectors)
            size = len(case.stages) // len(given["steps"])
            text = Text(case, given["config"], {key: given[key] for key in COLUMNS[case.op] if given[key] is not None},
                        [case.stages[i : i + size] for i in range(0, len(case.stages), size)])
            cases += [recut(text, *schedule, arrays) for schedule in schedules(case.op, len(text.feeds) - 1)]
    return replace(vectors, arrays=arrays, cases=tuple(cases))


def schedules(op: str, T: int) -> Iterator[tuple[str, str, Steps]]:
    """Yield title, flags and steps of every schedule; a prefix gives the number of tokens of each row."""
    feeds = lambda *lengths: [["main", "feed", n] for n in lengths]
    for cut in range(T + 1):
        yield f"cut-{cut}", "", feeds(cut, T - cut)
        if op == "addressing_stream" and cut % 2:
            yield f"prefix-{cut}", "prefix", [["main", "prefix", [cut, T - cut]], *feeds(min(cut, T - cut))]
    for cycle in ((3, 1, 2), (0, 1)):
        lengths: list[int] = []
        while sum(lengths) < T:
            lengths.append(min(cycle[len(lengths) % len(cycle)], T - sum(lengths)))
        yield f"cycle-{'-'.join(map(str, cycle))}", "", feeds(*lengths)
    for cut in range(1, T - 3, 3) if op == "addressing_stream" else range(4, T - 3, 9):
        both = [*feeds(cut), ["main", "fork", "second"]]
        yield f"fork-{cut}", "fork", [*both, *feeds(1), ["second", "feed", 2], *feeds(2), ["second", "feed", 1]]
        yield f"microbatches-{cut}", "microbatches", [
            *both, ["main", "reorder", [0]], ["second", "reorder", [1]], ["second", "feed", 2], *feeds(1, 2),
            ["second", "feed", 1]]
        yield f"rollback-{cut}", "rollback", [*feeds(cut, 2, 1), ["main", "rollback", [3, 3]], *feeds(1, 2)]
        yield f"reorder-{cut}", "reorder", [*feeds(cut), ["main", "reorder", [1, 0]], *feeds(1),
                                            ["main", "reorder", [1, 1]], *feeds(2)]
        if op == "forward_stream":
            yield f"ragged-{cut}", "ragged", [["main", "feed", cut, [cut, 0]], ["main", "feed", 3, [1, 3]], *feeds(1)]
            yield f"ragged-reorder-{cut}", "ragged reorder", [["main", "feed", cut, [cut, 0]],
                                                              ["main", "reorder", [1, 0]], *feeds(1, 2)]
            yield f"drafts-{cut}", "ragged rollback", [*feeds(cut, 3), ["main", "rollback", [1, 3]], *feeds(1)]


def recut(text: Text, title: str, flags: str, steps: Steps, arrays: dict[str, np.ndarray]) -> Case:
    """Return the case of one schedule, and add the columns that it reads to `arrays`."""
    name, batch = f"{text.case.name.replace('-one-by-one', '')}-{title}", len(next(iter(text.columns.values())))
    streams = {"main": [(b, 0) for b in range(batch)]}      # per row: row of the text, number of tokens read
    written, stages, columns = [], [], [np.zeros((batch, 2, 0), dtype=np.int64)]
    for i, (stream, action, argument, *counts) in enumerate(steps):
        rows = streams[stream]
        if action == "feed":
            new = counts[0] if counts else [argument] * len(rows)
            columns.append(np.array([[[row] * argument, range(start, start + argument)] for row, start in
                                     (rows * batch)[:batch]], dtype=np.int64).reshape(batch, 2, argument))
            stages.append(picked(text, i, 0, [(row, start + t) for (row, start), n in zip(rows, new, strict=True)
                                              for t in range(1, n + 1)]))
            rows = [(row, start + n) for (row, start), n in zip(rows, new, strict=True)]
        elif action == "rollback":
            rows = [(row, start - n) for (row, start), n in zip(rows, argument, strict=True)]
        elif action == "reorder":
            rows = [rows[b] for b in argument]
        elif action == "prefix":
            rows = list(enumerate(argument))
            argument = [[raw_of(text.config)[c] for c in text.columns["canonical_ids"][b, :n].tolist()]
                        for b, n in rows]
        streams[argument if action == "fork" else stream] = rows
        written.append([stream, action, argument, *counts])
        if action in ("feed", "prefix"):
            stages += [picked(text, i, part, rows) for part in range(1, len(text.feeds[0]))]
    taken = np.concatenate(columns, axis=-1)
    taken[:, 1] = np.minimum(taken[:, 1], len(text.feeds) - 2)       # padding repeats the last token
    arguments = dict(text.case.arguments) | {"steps": written}
    for column, array in text.columns.items():
        arrays[f"{name}/{column}"] = array[taken[:, 0], taken[:, 1]]
        arguments[column] = {"array": f"{name}/{column}"}
    lengths = {step[2] for step in written if step[1] == "feed"}
    flags = f"{flags}{' empty' * (0 in lengths)}{' one-token' * (1 in lengths)}"
    kept = [flag for flag in text.case.flags if flag not in ("empty", "one-token")]
    return replace(text.case, name=name, arguments=arguments, stages=tuple(stages), flags=(*kept, *flags.split()),
                   outputs=tuple(stage.name for stage in stages))


def picked(text: Text, step: int, part: int, places: list[tuple[int, int]]) -> Stage:
    """Return a stage with the answers of the given (row, feed) places; `part` is its position in a feed."""
    first = text.feeds[0][part]
    select = lambda field: np.concatenate([getattr(first, field)[:0], *(
        getattr(text.feeds[n][part], field)[b : b + 1] for b, n in places)])
    return replace(first, name=f"{step}.{first.name.split('.', 1)[1]}", array=select("array"),
                   noise=None if first.noise is None else select("noise"))


@functools.cache
def raw_of(config: EngramConfig) -> dict[int, int]:
    """Return the last raw id of each canonical id; DEAD stays DEAD."""
    canonical = addressing_of(config).canonical
    ids = range(config.vocab_size) if canonical is None else canonical.tolist()
    return {DEAD: DEAD} | {c: raw for raw, c in enumerate(ids)}
