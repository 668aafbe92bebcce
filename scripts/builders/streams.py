"""Streams: the steps of a case, the texts that result from them, and the answers.

The slow code, which has no state, computes every answer from a whole text in one call. docs/reference/golden.md
describes the steps.
"""

import numpy as np

from engram_ref.ops import DEAD
from engram_ref.oracle.slow import module as slow
from scripts.builders.planned import case, rng_of
from scripts.builders.small_modules import as_lists, demo_names

ONE = ["main", "feed", 1]
STEPS = {
    "one-by-one": ("one-token empty", [["main", "feed", 0], *[ONE] * 10]),
    "one-by-one-dead": ("one-token empty", [["main", "feed", 0], *[ONE] * 7]),
    "chunks": ("one-token empty", [["main", "feed", 3], ONE, ["main", "feed", 2], ["main", "feed", 0], ONE,
                                   ["main", "feed", 5]]),
    "rollback": ("rollback", [["main", "feed", 5], ONE, ["main", "feed", 2], ["main", "rollback", [3, 3]], ONE,
                              ["main", "feed", 3]]),
    "fork": ("fork one-token", [["main", "feed", 4], ["main", "fork", "draft"], ["draft", "feed", 1], ONE,
                                ["draft", "feed", 2], ["main", "feed", 2], ["draft", "feed", 1], ONE]),
    "reorder": ("reorder one-token", [["main", "feed", 4], ["main", "reorder", [1, 0]], ONE, ["main", "feed", 2],
                                      ["main", "reorder", [1, 1]], ONE, ["main", "feed", 2]]),
    "microbatches": ("microbatches", [["main", "feed", 3], ["main", "fork", "second"], ["main", "reorder", [0]],
                                      ["second", "reorder", [1]], ["second", "feed", 2], ONE, ["second", "feed", 1],
                                      ["main", "feed", 4]]),
}
"""Title -> flags, and steps for two rows that all three kinds of stream support. engram_ref/oracle/kit/schedules.py
cuts the texts that are fed one by one in many more ways."""

RAGGED = {
    "ragged": ("ragged", [["main", "feed", 3, [3, 1]], ["main", "feed", 2, [0, 2]], ONE, ["main", "feed", 4, [1, 4]],
                          ONE, ["main", "feed", 1, [0, 1]], ["main", "feed", 2]]),
    "drafts": ("rollback ragged one-token", [["main", "feed", 4], ["main", "feed", 3], ["main", "rollback", [3, 1]],
                                             ONE, ["main", "feed", 3], ["main", "rollback", [0, 2]], ONE]),
    "beams": ("reorder ragged one-token", [["main", "feed", 4, [4, 2]], ["main", "reorder", [1, 0]], ONE,
                                           ["main", "feed", 2, [1, 2]], ["main", "reorder", [1, 1]], ONE]),
}
"""The same for the model, whose rows may have different lengths."""


def columns_of(steps):
    """Return the number of token columns that the steps consume."""
    return sum(argument for _, action, argument, *_ in steps if action == "feed")


def feeds(steps, batch):
    """For each feed, yield its step and, per row, the whole text as [(row, column)] and the number of new tokens."""
    streams, used = {"main": [()] * batch}, 0
    for i, (name, action, argument, *counts) in enumerate(steps):
        rows = streams[name]
        if action == "feed":
            new = counts[0] if counts else [argument] * len(rows)
            rows = [text + tuple((b, used + t) for t in range(new[b])) for b, text in enumerate(rows)]
            used += argument
            yield i, list(zip(rows, new, strict=True))
        elif action == "rollback":
            rows = [text[: len(text) - n] for text, n in zip(rows, argument, strict=True)]
        elif action == "reorder":
            rows = [rows[b] for b in argument]
        streams[argument if action == "fork" else name] = rows


def stream_case(name, stage, batch, steps, whole, columns, flags, states, **options):
    """Return one case.

    whole    maps its arguments, with the columns of one text [1, T, ...], to the outputs [T, ...] and the states after
             the text
    states   names of the states
    """
    def slow(**arguments):
        known = {}

        def answer(text):
            if text not in known:
                place = [b for b, _ in text], [t for _, t in text]
                known[text] = whole(**arguments | {key: None if x is None else arguments[key][place][None]
                                                   for key, x in columns.items()})
            return known[text]

        stages = {}
        for i, rows in feeds(steps, batch):
            stages[f"{i}.{stage}"] = [line for text, new in rows for line in list(answer(text)[0])[len(text) - new :]]
            stages |= {f"{i}.{state}": [answer(text)[1][state] for text, _ in rows] for state in states}
        return stages

    outputs = tuple(f"{i}.{part}" for i, _ in feeds(steps, batch) for part in (stage, *states))
    flags = " ".join(["chunked", flags, *marks_in(columns, options["config"])])
    return case(name, outputs=outputs, slow=slow, steps=steps, flags=flags, kind_of_case="schedules", **columns,
                **options)


def marks_in(columns, config):
    """Return the flags "dead" and "eos" if the text has such marks."""
    ids, dead = columns.get("canonical_ids", columns.get("ids")), columns.get("dead")
    eos_id = getattr(config, "engram", config) and getattr(config, "engram", config).eos_id
    marked = (dead is not None and dead.any()) or (ids is not None and (ids == DEAD).any())
    ended = ids is not None and eos_id is not None and (ids == eos_id).any()
    return ["dead"] * bool(marked) + ["eos"] * bool(ended)


def history_of(ids, config):
    """Return the last N-1 canonical ids of a text; -1 marks DEAD positions and the time before the text."""
    return ([DEAD] * (config.max_ngram - 1) + list(ids))[-(config.max_ngram - 1) :]


def taps_of(parameters, gated, config):
    """Return the last (L-1) * dilation gated values [T][M][D] of a text, normalised; zeros before the text."""
    p, shape = as_lists(demo_names(parameters, config)), (config.n_branches, config.hidden_size)
    normalised = [slow.normalised_flat(p, u, config.conv_norm_eps) for u in gated]
    before = np.zeros((config.conv_span, *shape))
    return np.concatenate([before, np.reshape(normalised, (len(gated), *shape))])[len(gated) :]


def marked(name, config, shape):
    """Return canonical ids, about a fifth of them DEAD and a fifth EOS if the dialect has these."""
    rng = rng_of(name)
    ids, mark = rng.integers(0, config.canonical_size, shape), rng.random(shape)
    if config.dead_barrier:
        ids[mark < 0.2] = -1
    if config.eos_id is not None:
        ids[mark > 0.8] = config.eos_id
    return ids


def dead_of(name, shape):
    """Return random DEAD marks."""
    return np.array(rng_of(f"{name} dead").random(shape) < 0.2)
