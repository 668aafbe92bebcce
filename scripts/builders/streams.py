"""Streams: the steps of a case, the texts that result from them, and the answers.

The slow code, which has no state, computes every answer from a whole text in one call. engram_ref/oracle/streams.py
describes the steps.
"""

import numpy as np

from scripts.builders.planned import case, rng_of

ONE = ["main", "feed", 1]
STEPS = {
    "one-by-one": ("one-token", [["main", "feed", 3], *[ONE] * 5, ["main", "feed", 0], ["main", "feed", 2],
                                 *[ONE] * 4]),
    "rollback": ("rollback", [["main", "feed", 5], ONE, ["main", "feed", 2], ["main", "rollback", [3, 3]], ONE,
                              ["main", "feed", 3]]),
    "fork": ("fork one-token", [["main", "feed", 4], ["main", "fork", "draft"], ["draft", "feed", 1], ONE,
                                ["draft", "feed", 2], ["main", "feed", 2], ["draft", "feed", 1], ONE]),
    "reorder": ("reorder one-token", [["main", "feed", 4], ["main", "reorder", [1, 0]], ONE, ["main", "feed", 2],
                                      ["main", "reorder", [1, 1]], ONE, ["main", "feed", 2]]),
}
"""Title -> flags, and steps for two rows that all three kinds of stream support."""

RAGGED = {
    "ragged": ("ragged", [["main", "feed", 3, [3, 1]], ["main", "feed", 2, [0, 2]], ONE, ["main", "feed", 4, [1, 4]],
                          ONE, ["main", "feed", 1, [0, 1]], ["main", "feed", 2]]),
    "drafts": ("rollback ragged one-token", [["main", "feed", 4], ["main", "feed", 3], ["main", "rollback", [3, 1]],
                                             ONE, ["main", "feed", 3], ["main", "rollback", [0, 2]], ONE]),
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
            new = counts[0] if counts else [argument] * batch
            rows = [text + tuple((b, used + t) for t in range(new[b])) for b, text in enumerate(rows)]
            used += argument
            yield i, list(zip(rows, new, strict=True))
        elif action == "rollback":
            rows = [text[: len(text) - n] for text, n in zip(rows, argument, strict=True)]
        elif action == "reorder":
            rows = [rows[b] for b in argument]
        streams[argument if action == "fork" else name] = rows


def stream_case(name, stage, batch, steps, whole, columns, flags, **options):
    """Return one case; `whole` maps its arguments, with the columns of one text [1, T, ...], to an answer [T, ...]."""
    def slow(**arguments):
        known = {}

        def answer(text):
            if text not in known:
                place = [b for b, _ in text], [t for _, t in text]
                known[text] = whole(**arguments | {key: None if x is None else arguments[key][place][None]
                                                   for key, x in columns.items()})
            return known[text]

        return {f"{i}.{stage}": [line for text, new in rows for line in list(answer(text))[len(text) - new :]]
                for i, rows in feeds(steps, batch)}

    outputs = tuple(f"{i}.{stage}" for i, _ in feeds(steps, batch))
    return case(name, outputs=outputs, slow=slow, steps=steps, flags=f"chunked {flags}", **columns, **options)


def marked(name, config, shape):
    """Return canonical ids, about a fifth of them DEAD and a fifth EOS if the dialect has these."""
    rng = rng_of(name)
    ids, mark = rng.integers(0, config.canonical_size, shape), rng.random(shape)
    if config.dead_barrier:
        ids[mark < 0.2] = -1
    if config.eos_id is not None:
        ids[mark > 0.8] = config.eos_id
    return ids


def dead_of(name, config, shape):
    """Return random DEAD marks, or None if the dialect has no DEAD."""
    return np.array(rng_of(f"{name} dead").random(shape) < 0.2) if config.dead_barrier else None
