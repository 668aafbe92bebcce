"""Wrong addresses: windows, mix and rows."""

from collections.abc import Callable

import numpy as np

from engram_ref.ops.canonical import DEAD

# windows

def shifts(ids, history):
    """Return every token of every window, newest first, with nothing hidden."""
    stream, N, T = np.concatenate([history, ids], axis=1), history.shape[1] + 1, ids.shape[1]
    return np.stack([stream[:, N - 1 - i : N - 1 - i + T] for i in range(N)], axis=-1)


def latched(marks):
    """Hide every marked token and all older ones."""
    return np.logical_or.accumulate(marks, axis=-1)


def ended(tokens, eos_id):
    """Mark every EOS before the current token."""
    return (tokens == (np.iinfo(np.int64).min if eos_id is None else eos_id)) & (np.arange(tokens.shape[-1]) > 0)


def definition(tokens, eos_id):
    return latched((tokens == DEAD) | ended(tokens, eos_id))


def itself_hidden(tokens, eos_id):
    return latched((tokens == DEAD) | ended(tokens, eos_id) | (tokens[..., :1] == eos_id))


def dead_not_latched(tokens, eos_id):
    return (tokens == DEAD) | latched(ended(tokens, eos_id))


def only_at_dead(tokens, eos_id):
    """Hide the whole window of a DEAD position, and what precedes the text; other windows contain -1."""
    missing = np.logical_and.accumulate((tokens == DEAD)[..., ::-1], axis=-1)[..., ::-1]
    return (tokens[..., :1] == DEAD) | missing | latched(ended(tokens, eos_id))


def filled(hidden: Callable = definition, fill: Callable = lambda pad_id, eos_id: pad_id if eos_id is None else eos_id,
           ) -> Callable:
    """Return a `windows` with one difference from the definition.

    hidden   (tokens [B, T, N], eos_id) -> bool [B, T, N], the hidden tokens
    fill     (pad_id, eos_id) -> the id that replaces them
    """
    def wrong(original, ids, history, pad_id, eos_id):
        tokens = shifts(ids, history)
        return np.where(hidden(tokens, eos_id), fill(pad_id, eos_id), tokens)

    return wrong


def no_dead_barrier(original, ids, history, pad_id, eos_id):
    """Hashes -1 as a number; only DEAD marks on the left of the history count as missing."""
    missing = np.logical_and.accumulate(history == DEAD, axis=1)
    unmarked = np.where((history == DEAD) & ~missing, -2, history)
    windows = original(np.where(ids == DEAD, -2, ids), unmarked, pad_id, eos_id)
    return np.where(windows == -2, DEAD, windows)


# mix and rows

def by_order(first):
    """Return a `mix` that combines windows[first(N, n)] with the first n multipliers, for each order n."""
    def wrong(original, windows, multipliers):
        N = len(multipliers)
        return np.concatenate([original(windows[..., first(N, n)], multipliers[:n])[..., -1:]
                               for n in range(2, N + 1)], axis=-1)
    return wrong


def polynomial(original, windows, multipliers):
    mixed, orders = windows[..., 0], []
    for i in range(1, len(multipliers)):
        mixed = mixed * multipliers[0] + windows[..., i]
        orders.append(mixed)
    return np.stack(orders, axis=-1)


def through_float64(x):
    """Convert float64 to int64 modulo 2^64."""
    return (x - 2.0**64 * np.floor(x * 2.0**-64 + 0.5)).astype(np.int64)


def products(multiply):
    """Return a `mix` with wrong products multiply(windows, multipliers)."""
    return lambda original, windows, multipliers: original(multiply(windows, multipliers), np.ones_like(multipliers))


def repeated(mixes, primes):
    return mixes.repeat(len(primes) // mixes.shape[-1], axis=-1)


def head_major(original, mixes, primes):
    rows, orders = original(mixes, primes), mixes.shape[-1]
    by_order = rows.reshape(*rows.shape[:-1], orders, len(primes) // orders)
    return by_order.swapaxes(-1, -2).reshape(rows.shape)


CHANGES = {
    "window-oldest-first": {"windows": lambda original, *arguments: original(*arguments)[..., ::-1]},
    "pad-zero": {"windows": filled(fill=lambda pad_id, eos_id: 0)},
    "pad-in-qwen": {"windows": filled(fill=lambda pad_id, eos_id: pad_id)},
    "dead-no-latch": {"windows": filled(dead_not_latched)},
    "dead-by-position": {"windows": filled(only_at_dead)},
    "no-dead-barrier": {"windows": no_dead_barrier},
    "eos-reset-in-v41": {"windows": lambda original, ids, history, pad_id, eos_id: original(
        ids, history, pad_id, 1 if eos_id is None else eos_id)},
    "no-eos-reset-in-qwen": {"windows": filled(lambda tokens, eos_id: latched(tokens == DEAD))},
    "eos-hides-itself": {"windows": filled(itself_hidden)},

    "window-late": {"mix": by_order(lambda N, n: slice(N - n, N))},
    "window-one-back": {"mix": by_order(lambda N, n: slice(n < N, n + (n < N)))},
    "multipliers-oldest-first": {"mix": by_order(lambda N, n: slice(n - 1, None, -1))},
    "qwen-as-longcat": {"mix": polynomial},
    "products-summed": {"mix": lambda original, windows, multipliers: np.cumsum(
        windows * multipliers, axis=-1)[..., 1:]},
    "products-in-float64": {"mix": products(lambda windows, multipliers: through_float64(
        windows.astype(np.float64) * multipliers))},
    "products-in-32-bits": {"mix": products(lambda windows, multipliers: (
        windows.astype(np.int32) * multipliers.astype(np.int32)).astype(np.int64))},

    "mix-in-float64": {"table_rows": lambda original, mixes, primes: original(
        through_float64(mixes.astype(np.float64)), primes)},
    "trunc-mod": {"table_rows": lambda original, mixes, primes: np.fmod(repeated(mixes, primes), primes)},
    "unsigned-mod": {"table_rows": lambda original, mixes, primes: (
        repeated(mixes, primes).view(np.uint64) % primes.astype(np.uint64)).astype(np.int64)},
    "abs-mod": {"table_rows": lambda original, mixes, primes: original(np.abs(mixes), primes)},
    "column-order": {"table_rows": head_major},
    "one-prime-per-layer": {"table_rows": lambda original, mixes, primes: original(
        mixes, np.full_like(primes, primes[0]))},
    "int32-row": {"address": lambda original, *arguments: original(*arguments).astype(np.int32).astype(np.int64)},
}
"""Bug -> target -> wrong implementation."""
