"""Wrong state between calls: history, convolution taps, caches, positions."""

from functools import partial

import numpy as np

from engram_ref.backends import replace
from engram_ref.ops.canonical import DEAD


def newest_first(original, history, ids):
    """Reverses the history; DEAD marks stay on the left, where Addressing requires those before the text."""
    reverse = original(history, ids)[:, ::-1]
    return np.take_along_axis(reverse, np.argsort(reverse != DEAD, axis=1, kind="stable"), axis=1)


def of_existing_rows(original, self, rows):
    """Selects existing rows, in case a shared state has lost some."""
    original(self, [row % self.batch for row in rows])


def concerned(columns, several):
    """Return whether a chunk has one token or, with `several`, more than one."""
    return columns.shape[1] > 1 if several else columns.shape[1] == 1


def first_rows(state, rows):
    """Return as many rows as a new batch has, in their old order."""
    return np.arange(len(rows)) % len(state)


# the state of rows and module: one array

def array_emptied(value):
    """Return a `fork` whose copy starts with an empty state."""
    def wrong(original, self):
        copied = original(self)
        copied.state = np.full_like(self.state, value)
        return copied
    return wrong


def history_not_filled(original, self, texts):
    self.state = self.addressing.start(len(texts))


def rows_without_history(several):
    """Return a `feed` that computes the rows of one token, or of `several`, without the history."""
    def wrong(original, self, canonical_ids):
        if not concerned(canonical_ids, several):
            return original(self, canonical_ids)
        state, self.state = self.state, np.full_like(self.state, DEAD)
        rows = original(self, canonical_ids)
        self.past[-1] = (canonical_ids.shape[1], state)
        if not several:
            self.state = self.addressing.advance(state, canonical_ids)
        return rows
    return wrong


def overwritten(original, self, canonical_ids):
    """Writes the new history into the array of the old one, which a rollback or fork still needs."""
    state = self.state
    rows = original(self, canonical_ids)
    state[:] = self.state
    self.state = state
    return rows


# the state of the model: caches by name

def caches_not_reordered(last_name):
    """Return a `reorder` that leaves the caches of this last name in the old order of rows."""
    def wrong(original, self, rows):
        old = {name: cache for name, cache in self.state.caches.items() if name.endswith(last_name)}
        original(self, rows)
        self.state.caches = self.state.caches | {name: cache[first_rows(cache, rows)] for name, cache in old.items()}
    return wrong


def lengths_not_reordered(original, self, rows):
    lengths = self.state.lengths
    original(self, rows)
    self.state.lengths = lengths[first_rows(lengths, rows)]


def caches_emptied(last_name, value):
    """Return a `fork` whose copy has empty caches of this last name."""
    def wrong(original, self):
        copied = original(self)
        copied.state.caches = {name: np.full_like(cache, value) if name.endswith(last_name) else cache
                               for name, cache in copied.state.caches.items()}
        return copied
    return wrong


def padding_counted(original, self, ids, dead, counts=None, **named):
    """Counts the padding of short rows as tokens."""
    before = self.state.lengths
    logits = original(self, ids, dead, counts=counts, **named)
    self.state.lengths = before + ids.shape[1]
    return logits


def within_feed(several, name, function):
    """Return a `feed` during which one op is wrong if the chunk has one token, or `several`."""
    def wrong(original, self, *arguments, **named):
        ops = self.ops
        if concerned([*arguments, *named.values()][0], several):
            self.ops = replace(ops, **{name: partial(function, getattr(ops, name))})
        try:
            return original(self, *arguments, **named)
        finally:
            self.ops = ops
    return wrong


# ops

def lost(dimensions, value):
    """Return a `last` that finds an empty cache if the cache has this number of dimensions: 2 ids, 4 taps."""
    def wrong(original, cache, lengths, wanted, before):
        tail = original(cache, lengths, wanted, before)
        return np.full_like(tail, value) if cache.ndim == dimensions else tail
    return wrong


def stale(dimensions):
    """Return a `last` that reads the last slots of a cache even if they were rolled back."""
    def wrong(original, cache, lengths, wanted, before):
        lengths = np.full_like(lengths, cache.shape[1]) if cache.ndim == dimensions else lengths
        return original(cache, lengths, wanted, before)
    return wrong


def zeros_for_missing(original, cache, lengths, wanted, before):
    tail = original(cache, lengths, wanted, before)
    return np.where(tail == DEAD, 0, tail) if cache.ndim == 2 else tail


def not_normalised(original, parameters, gated, *rest):
    """Keeps the gated values themselves as taps."""
    return original(parameters, gated, *rest)[0], gated


def angles_of_row_0(original, positions, frequency):
    one_token = positions.shape[1] == 1 and len(positions)
    return original(np.broadcast_to(positions[:1], positions.shape) if one_token else positions, frequency)


NOTHING = lambda original, self, *arguments: None
NOT_REORDERED = lambda original, self, rows: original(self, first_rows(self.state, rows).tolist())

CHANGES = {
    "chunk-amnesia": {"next_history": lambda original, history, ids: np.full_like(history, DEAD),
                      "last": lost(2, DEAD)},
    "history-of-last-chunk": {"next_history": lambda original, history, ids: original(
        np.full_like(history, DEAD), ids)},
    "history-newest-first": {"next_history": newest_first},
    "dead-as-pad-history": {"next_history": lambda original, history, ids: original(
        history, np.where(ids == DEAD, 2, ids))},
    "history-of-zeros": {"last": zeros_for_missing},
    "history-overwritten": {"rows.feed": overwritten},
    "history-lost-T1": {"rows.feed": rows_without_history(False),
                        "model.feed": within_feed(False, "last", lost(2, DEAD))},
    "history-multi-token-reset": {"rows.feed": rows_without_history(True),
                                  "model.feed": within_feed(True, "last", lost(2, DEAD))},
    "rollback-stale": {"rows.rollback": NOTHING, "last": stale(2)},
    "beam-reorder": {"rows.reorder": NOT_REORDERED, "model.reorder": caches_not_reordered("canonical_ids")},
    "prefix-hit-empty": {"rows.fork": array_emptied(DEAD), "rows.prefix": history_not_filled,
                         "model.fork": caches_emptied("canonical_ids", DEAD)},

    "conv-state-lost": {"next_taps": lambda original, x, taps: np.zeros_like(taps), "last": lost(4, 0)},
    "conv-state-of-one-chunk": {"next_taps": lambda original, x, taps: original(x, np.zeros_like(taps))},
    "conv-state-reversed": {"short_conv": lambda original, x, weight, dilation, taps: original(
        x, weight, dilation, taps[:, ::-1])},
    "conv-state-not-normalised": {"gated_conv": not_normalised},
    "taps-ignored-T1": dict.fromkeys(("module.feed", "model.feed"), within_feed(
        False, "short_conv", lambda original, x, weight, dilation, taps: original(x, weight, dilation, 0 * taps))),
    "drafts-in-conv-state": {"module.rollback": NOTHING, "last": stale(4)},
    "beam-reorder-taps": {"module.reorder": NOT_REORDERED, "model.reorder": caches_not_reordered("conv_norm")},
    "prefix-hit-empty-taps": {"module.fork": array_emptied(0), "model.fork": caches_emptied("conv_norm", 0)},

    "rollback-ignored": {"model.rollback": NOTHING},
    "reorder-ignored": {"model.reorder": lambda original, self, rows: original(
        self, first_rows(self.state.lengths, rows).tolist())},
    "reorder-keeps-lengths": {"model.reorder": lengths_not_reordered},
    "fork-shared": {f"{kind}.{method}": wrong for kind in ("rows", "module", "model")
                    for method, wrong in (("fork", lambda original, self: self), ("reorder", of_existing_rows))},
    "padding-counted": {"model.feed": padding_counted},
    "one-length-for-all-rows": dict.fromkeys(("append", "place"), lambda original, cache, new, lengths: original(
        cache, new, np.full_like(lengths, lengths.max(initial=0)))),
    "positions-from-zero": {"positions_after": lambda original, lengths, T: original(0 * lengths, T)},
    "positions-of-row-0": {"positions_after": lambda original, lengths, T: original(
        np.full_like(lengths, lengths[0] if len(lengths) else 0), T)},
    "rope-row0-position": {"angles": angles_of_row_0},
}
"""Bug -> target -> wrong implementation."""
