"""Wrong constants: canonical ids, primes, offsets and multipliers."""

import unicodedata
from dataclasses import replace
from itertools import count

import numpy as np

from engram_ref.layout import module_order
from engram_ref.ops.canonical import LONE_SPACE, REPLACEMENT, STEPS, WHITE_SPACE, normalise
from engram_ref.ops.hashing import GOLDEN_GAMMA, LAYER_STRIDE, MASK64, multiplier_range, splitmix64
from engram_ref.ops.primes import _passes, is_prime
from engram_ref.text.maps import KNOWN_VOCABULARIES

RAW_SIZES = {known.canonical_size: known.size for known in KNOWN_VOCABULARIES.values()}


# canonical ids

RAW = {"canonicalise": lambda original, ids, canonical: ids, "check_ids": lambda original, *arguments: None}
"""The changes for raw ids instead of canonical ones, which may exceed the number of classes."""


def keyed(key):
    """Return the changes for a wrong key(text, raw_token): of the key itself, and of the map."""
    return {"canonical_key": lambda original, text, raw: key(text, raw),
            "canonical_map": lambda original, tokens: original((REPLACEMENT, key(*token)) for token in tokens)}


def normalised(**steps):
    """Return the changes for wrong steps of the normaliser, by the names of the right ones."""
    def wrong(text):
        for step in STEPS:
            text = steps.get(step.__name__, step)(text)
        return text

    return {"normalise": lambda original, text: wrong(text),
            **keyed(lambda text, raw: raw if REPLACEMENT in text else wrong(text) or text)}


def without(marks):
    """Return a step that drops the characters of these categories, such as "Mn"."""
    return lambda text: "".join(c for c in text if not unicodedata.category(c).startswith(marks))


def raw_pad(original, self, config, *rest, **named):
    original(self, config, *rest, **named)
    self.pad_id = config.pad_id


# primes

def primes_by(passes):
    """Return the changes for a wrong primality test."""
    def wrong(original, table_sizes, n_heads, n_layers):
        used, columns = set(), []
        for size in table_sizes * n_layers:
            unused = (n for n in count(size) if n not in used and passes(n))
            columns += [next(unused) for _ in range(n_heads)]
            used |= set(columns)
        return np.array(columns, dtype=np.int64).reshape(n_layers, -1)

    return {"is_prime": lambda original, n: passes(n), "table_primes": wrong}


def two_bases(n):
    """Miller-Rabin with two bases, which some composite numbers pass."""
    return is_prime(n) if n < 9 else n % 2 == 1 and all(_passes(n, base) for base in (2, 3))


def nominal(change):
    """Return the changes for primes that are searched from other sizes: change(size, n_heads)."""
    return {"table_primes": lambda original, sizes, n_heads, n_layers: original(
        tuple(change(size, n_heads) for size in sizes), n_heads, n_layers), "gather": wrapped}


def in_order(order):
    """Return an Addressing that assigns the primes to the layers in the order order(config)."""
    def wrong(original, self, config, *rest, **named):
        original(self, config, *rest, **named)
        for constants in (self.primes, self.offsets, self.table_rows):
            moved = [constants[layer] for layer in module_order(config)]
            constants |= dict(zip(order(config), moved, strict=True))
    return wrong


# multipliers

def seeded(**changes):
    """Return an Addressing that draws its multipliers for a changed configuration."""
    def wrong(original, self, config, *rest, **named):
        original(self, replace(config, **changes), *rest, **named)
        multipliers = self.multipliers
        original(self, config, *rest, **named)
        self.multipliers = multipliers
    return wrong


def multipliers_int32(original, seed, index, max_ngram, canonical_size):
    rng = np.random.default_rng(seed + LAYER_STRIDE * index)
    return 2 * rng.integers(0, max(1, (2**31 - 1) // canonical_size // 2), size=max_ngram) + 1


def splitmix_signed(original, seed, index, max_ngram, canonical_size):
    """Takes the remainder of the 64-bit output as a signed integer."""
    states = [(seed + LAYER_STRIDE * index + GOLDEN_GAMMA * (i + 1)) & MASK64 for i in range(max_ngram)]
    drawn = [x - 2**64 * (x >> 63) for x in map(splitmix64, states)]
    return np.array([2 * (x % multiplier_range(canonical_size)) + 1 for x in drawn], dtype=np.int64)


def for_raw_size(original, seed, index, max_ngram, canonical_size):
    return original(seed, index, max_ngram, RAW_SIZES.get(canonical_size, canonical_size))


# offsets

def wrapped(original, table, rows, offsets):
    """Reads rows past the end of the table from its start, since a table of another size has no answer to compare."""
    return original(table, (rows + offsets) % max(len(table), 1), np.zeros_like(offsets))


CHANGES = {
    "no-compression": RAW | {"pcg64_multipliers": for_raw_size},
    "map-built-not-applied": RAW,
    "negative-id-wraps": {"canonicalise": lambda original, ids, canonical: canonical[ids]},
    "id-clamped": {"canonicalise": lambda original, ids, canonical: canonical[np.clip(ids, 0, len(canonical) - 1)]},
    "naive-normaliser": normalised(strip_accents=without("Mn")),
    "unicode-of-the-platform": normalised(fold_compatibility=lambda text: unicodedata.normalize("NFKC", text),
                                          strip_accents=without("M")),
    "lowercase-whole-string": normalised(lowercase=str.lower),
    "strip-separators": normalised(strip_ends=lambda text: text if text == " " else text.strip().replace(
        LONE_SPACE, " ")),
    "lone-space-stripped": normalised(strip_ends=lambda text: text.strip(WHITE_SPACE).replace(LONE_SPACE, " ")),
    "private-use-kept": normalised(strip_ends=lambda text: " " if text == " " else text.strip(WHITE_SPACE)),
    "broken-utf8-normalised": keyed(lambda text, raw: normalise(text) or text),
    "empty-key-kept": keyed(lambda text, raw: raw if REPLACEMENT in text else normalise(text)),
    "two-namespaces": {"canonical_map": lambda original, tokens: original(
        (text, f"{raw} raw" if REPLACEMENT in text else raw) for text, raw in tokens)},
    "pad-raw": {"addressing.__init__": raw_pad},

    "prime-fermat": primes_by(lambda n: n == 2 or (n > 2 and pow(2, n - 1, n) == 1)),
    "prime-two-bases": primes_by(two_bases),
    "prime-base-61": primes_by(lambda n: n != 61 and is_prime(n)),
    "prime-reuse": {"table_primes": lambda original, sizes, n_heads, n_layers: np.concatenate(
        [original((size,), n_heads, n_layers) for size in sizes], axis=1)},
    "primes-per-layer-alone": {"table_primes": lambda original, sizes, n_heads, n_layers: np.stack(
        [original(sizes, n_heads, 1)[0]] * n_layers)},
    "prime-strictly-above": nominal(lambda size, n_heads: size + 1),
    "table-split": nominal(lambda size, n_heads: max(size // n_heads, 1)),
    "primes-sorted-layers": {"addressing.__init__": in_order(lambda config: sorted(config.layer_ids))},
    "primes-listed-layers": {"addressing.__init__": in_order(lambda config: config.layer_ids)},
    "offset-missing": {"column_offsets": lambda original, primes: np.zeros_like(primes),
                       "gather": lambda original, table, rows, offsets: original(table, rows, 0 * offsets)},
    "offset-inclusive": {"column_offsets": lambda original, primes: np.cumsum(primes, axis=-1),
                         "gather": lambda original, table, rows, offsets: wrapped(
                             original, table, rows, np.append(offsets[1:], len(table)))},

    "layer-base": {"pcg64_multipliers": lambda original, seed, index, *sizes: original(seed, index + 1, *sizes)},
    "seed-by-layer-id": {"addressing.__init__": seeded(seed_index="layer_id")},
    "seed-by-ordinal": {"addressing.__init__": seeded(seed_index="ordinal")},
    "multipliers-for-raw-size": {"pcg64_multipliers": for_raw_size},
    "multipliers-int32": {"pcg64_multipliers": multipliers_int32},
    "multipliers-even": dict.fromkeys(("pcg64_multipliers", "splitmix64_multipliers"),
                                      lambda original, *drawn: original(*drawn) - 1),
    "multipliers-reversed": dict.fromkeys(("pcg64_multipliers", "splitmix64_multipliers"),
                                          lambda original, *drawn: original(*drawn)[::-1].copy()),
    "splitmix-signed": {"splitmix64_multipliers": splitmix_signed},
    "splitmix-one-increment-less": {"splitmix64_multipliers": lambda original, seed, *drawn: original(
        seed - GOLDEN_GAMMA, *drawn)},
}
"""Bug -> target -> wrong implementation."""
