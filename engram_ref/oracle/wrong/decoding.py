"""Wrong variants of decoding (caches, states, streams) and of whole answers."""

from contextlib import suppress

import numpy as np

from engram_ref.ops.caches import append, place
from engram_ref.ops.canonical import DEAD


def conv_taps_lost(original, cache, lengths, count, before):
    tail = original(cache, lengths, count, before)
    return np.zeros_like(tail) if cache.ndim > 2 else tail


def history_lost(original, cache, lengths, count, before):
    tail = original(cache, lengths, count, before)
    return tail if cache.ndim > 2 else np.full_like(tail, DEAD)


def history_of_zeros(original, cache, lengths, count, before):
    """Pads with zeros instead of DEAD before the start of a text."""
    tail = original(cache, lengths, count, before)
    return tail if cache.ndim > 2 else np.where(tail == DEAD, 0, tail)


def stale(dimensions):
    """Returns a `last` that reads the last slots of a cache even if they were rolled back."""
    def wrong(original, cache, lengths, count, before):
        if cache.ndim not in dimensions:
            return original(cache, lengths, count, before)
        return original(cache, np.full_like(lengths, cache.shape[1]), count, before)
    return wrong


def attention_caches_reordered_only(original, self, rows):
    kept = {name: cache for name, cache in self.caches.items() if not name.endswith(("c_kv", "k_pe"))}
    original(self, rows)
    if len(rows) == len(next(iter(kept.values()), rows)):
        self.caches |= kept


def lengths_not_reordered(original, self, rows):
    lengths = self.lengths
    original(self, rows)
    self.lengths = lengths[: len(self.lengths)] if len(lengths) >= len(rows) else self.lengths


def shared_fork(original, self):
    """Returns the same object instead of a copy."""
    return self


def all_rows_advanced(original, self, counts):
    original(self, np.full_like(counts, counts.max(initial=0)))


def positions_from_zero(original, lengths, T):
    return original(np.zeros_like(lengths), T)


def positions_of_row_0(original, lengths, T):
    return original(np.full_like(lengths, lengths[0]), T)


def one_length_for_all_rows(original, cache, new, lengths):
    return original(cache, new, np.full_like(lengths, lengths.max(initial=0)))


def always_in_place(original, self, state, *others):
    """Writes into the state's arrays even if they are shared."""
    original(self, state, *others)
    if state is not None:
        self.in_place, self.place, self.arrays = True, append, dict(state._arrays)


def copied(original, cache, new, lengths):
    return place(cache, new, lengths)


# state lost by a wrapper

def history_lost_for_one_token(original, self, canonical_ids, layer_id, history=None, *others, **named):
    return original(self, canonical_ids, layer_id, None if canonical_ids.shape[-1] == 1 else history, *others, **named)


def history_lost_for_several_tokens(original, self, canonical_ids, layer_id, history=None, *others, **named):
    return original(self, canonical_ids, layer_id, None if canonical_ids.shape[-1] > 1 else history, *others, **named)


def model_history_lost_for_one_token(original, ids, history, *others):
    return original(ids, np.full_like(history, DEAD) if ids.shape[1] == 1 else history, *others)


def taps_ignored_for_one_token(original, x, weight, dilation, taps):
    return original(x, weight, dilation, np.zeros_like(taps) if x.shape[1] == 1 else taps)


def nothing_done(original, self, *arguments):
    """Replaces a method by one that does nothing."""


def errors_suppressed(original, parameters, config, *others):
    """Suppresses the errors of the check."""
    with suppress(ValueError):
        original(parameters, config, *others)


# whole answers

def all_zeros(original, *arguments, **named):
    return np.zeros_like(original(*arguments, **named))


def last_position_everywhere(original, *arguments, **named):
    logits = original(*arguments, **named)
    return np.broadcast_to(logits[..., -1:, :], logits.shape)


def multiplied_by_the_temperature(original, logits, temperature, rng):
    return original(logits, temperature and 1 / temperature, rng)


def chosen_experts_not_added(original, total, active, rho, expert, top_k, engram):
    return original(total, active, rho, expert, 0, engram)
