"""Wrong variants of normalisation, primes, multipliers, windows, rows and histories."""

import unicodedata
from dataclasses import replace

import numpy as np

from engram_ref.ops.canonical import DEAD, STEPS, WHITE_SPACE
from engram_ref.ops.primes import _passes

# normalisation and the canonical map

def with_step(name, wrong):
    """Returns a normaliser with one step replaced."""
    def normalise(original, text):
        for step in STEPS:
            text = wrong(text) if step.__name__ == name else step(text)
        return text

    return normalise


def drop_mn(text):
    """Drops nonspacing marks only, though the normaliser drops every mark."""
    return "".join(c for c in text if unicodedata.category(c) != "Mn")


def python_strip(text):
    return text if text == " " else text.strip()


def nfkc_of_python(text):
    """Applies NFKC with Python's own Unicode tables, of any version."""
    return unicodedata.normalize("NFKC", text)


def marks_of_python(text):
    return "".join(c for c in text if not unicodedata.category(c).startswith("M"))


def private_use_kept(text):
    return " " if text == " " else text.strip(WHITE_SPACE)


def two_namespaces(original, text, raw_token):
    return ("raw" if "\ufffd" in text else "text", original(text, raw_token))


# primes

def fermat(original, n):
    """Uses Fermat's test to base 2, which 561 passes."""
    return n == 2 or (n > 2 and pow(2, n - 1, n) == 1)


def two_bases(original, n):
    """Uses Miller-Rabin with two bases, which some composite numbers pass."""
    return original(n) if n < 9 else n % 2 == 1 and all(_passes(n, base) for base in (2, 3))


def not_shared_over_layers(original, table_sizes, n_heads, n_layers):
    return np.stack([original(table_sizes, n_heads, 1)[0]] * n_layers)


def not_shared_over_orders(original, table_sizes, n_heads, n_layers):
    return np.concatenate([original((size,), n_heads, n_layers) for size in table_sizes], axis=1)


def split_over_heads(original, table_sizes, n_heads, n_layers):
    """Divides the nominal size among the heads."""
    return original(tuple(size // n_heads for size in table_sizes), n_heads, n_layers)


def strictly_above(original, table_sizes, n_heads, n_layers):
    """Searches above the nominal size even if that is prime."""
    return original(tuple(size + 1 for size in table_sizes), n_heads, n_layers)


# multipliers

def one_increment_too_few(original, state):
    return original((state - 0x9E3779B97F4A7C15) % 2**64)


def signed(original, state):
    """Returns the 64-bit output as a signed integer."""
    return original(state) - 2**64 * (original(state) >> 63)


def layer_plus_one(original, config, layer_id):
    return original(replace(config, layer_ids=tuple(layer + 1 for layer in config.layer_ids)), layer_id + 1)


def layer_as_ordinal(original, config, layer_id):
    return original(replace(config, seed_index="layer_id"), layer_id)


def for_raw_size(original, config, layer_id):
    return original(replace(config, canonical_size=config.vocab_size), layer_id)


# windows

def shifts(ids, history):
    """Returns every token of every window, with nothing hidden."""
    stream, N, T = np.concatenate([history, ids], axis=1), history.shape[1] + 1, ids.shape[1]
    return np.stack([stream[:, N - 1 - i : N - 1 - i + T] for i in range(N)], axis=-1)


def no_latch(original, ids, history, pad_id, eos_id=None):
    """Hides only the DEAD positions, not everything older."""
    windows = shifts(ids, history)
    return np.where(windows == DEAD, pad_id, windows)


def dead_by_position(original, ids, history, pad_id, eos_id=None):
    """Hides only windows that end at a DEAD position."""
    windows = shifts(ids, np.where(history == DEAD, pad_id, history))
    return np.where(ids[..., None] == DEAD, pad_id, windows)


def eos_hides_itself(original, ids, history, pad_id, eos_id=None):
    windows = original(ids, history, pad_id, eos_id)
    return windows if eos_id is None else np.where(ids[..., None] == eos_id, pad_id, windows)


def always_padded(original, ids, history, pad_id, eos_id=None):
    """Pads with the pad id even in dialects that pad with their EOS."""
    windows, unhidden = original(ids, history, pad_id, eos_id), shifts(ids, history)
    return np.where(windows == unhidden, windows, pad_id)


def filled_with_zero(original, ids, history, pad_id, eos_id=None):
    return original(ids, history, 0, eos_id)


def never_reset(original, ids, history, pad_id, eos_id=None):
    return original(ids, history, pad_id, None)


def always_reset(original, ids, history, pad_id, eos_id=None):
    return original(ids, history, pad_id, 1)


def raw_pad(original, ids, history, multipliers, primes, offsets, pad_id, *more):
    """Uses the raw pad id, 455, instead of its canonical id, 237."""
    return original(ids, history, multipliers, primes, offsets, 455 if pad_id == 237 else pad_id, *more)


# the mix

def oldest_first(original, windows, multipliers):
    """Multiplies the oldest of the n tokens by m[0]."""
    n_max = len(multipliers)
    return np.concatenate([original(windows[..., n - 1 :: -1], multipliers[:n])[..., -1:]
                           for n in range(2, n_max + 1)], axis=-1)


def window_late(original, windows, multipliers):
    """Takes the oldest n of the N tokens, so that only the largest order includes the current one."""
    n_max = len(multipliers)
    return np.concatenate([original(windows[..., n_max - n :], multipliers[:n])[..., -1:]
                           for n in range(2, n_max + 1)], axis=-1)


def polynomial(original, windows, multipliers):
    """Computes a polynomial hash with base m[0], as in other n-gram embeddings."""
    mixed, orders = windows[..., 0], []
    for i in range(1, len(multipliers)):
        mixed = mixed * multipliers[0] + windows[..., i]
        orders.append(mixed)
    return np.stack(orders, axis=-1)


def summed(original, windows, multipliers):
    """Adds the products instead of combining them by exclusive or."""
    return np.cumsum(windows * multipliers, axis=-1)[..., 1:]


def mixed_in_float64(original, windows, multipliers):
    """Computes products in float64, which has 53 bits."""
    products = (windows.astype(np.float64) * multipliers.astype(np.float64)).astype(np.int64)
    return original(products, np.ones_like(multipliers))


# rows

def head_major(original, mixes, primes):
    """Sorts columns by head, then by order."""
    rows, orders = original(mixes, primes), mixes.shape[-1]
    heads = len(primes) // orders
    return rows.reshape(*rows.shape[:-1], orders, heads).swapaxes(-1, -2).reshape(rows.shape)


def truncated(original, mixes, primes):
    """Computes a remainder with the sign of the dividend, as in C."""
    return np.fmod(mixes.repeat(len(primes) // mixes.shape[-1], axis=-1), primes)


def rounded_mix(original, mixes, primes):
    """Converts mixes to float64 and back."""
    return original(mixes.astype(np.float64).astype(np.int64), primes)


def one_prime(original, mixes, primes):
    return original(mixes, np.full_like(primes, primes[0]))


def in_32_bits(original, *arguments, **named):
    return original(*arguments, **named).astype(np.int32).astype(np.int64)


# the history

def dead_as_pad(original, history, ids):
    return original(history, np.where(ids == DEAD, 2, ids))


def forgotten(original, history, ids):
    """Forgets the history after a call."""
    return np.full_like(history, DEAD)


def last_chunk_only(original, history, ids):
    """Computes the history from the ids of this call alone."""
    return original(np.full_like(history, DEAD), ids)


def in_place(original, history, ids):
    """Overwrites the caller's history."""
    history[:] = original(history, ids)
    return history
