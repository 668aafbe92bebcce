"""Multipliers, n-gram windows and table rows, one position at a time."""

from engram_ref.oracle.slow.pcg import MASK64, Pcg64

DEAD = -1
GOLDEN = 0x9E3779B97F4A7C15
LAYER_STEP = 10007
INT64_MAX = 2**63 - 1


def half_range(size):
    """Return half of the largest factor for which id * factor fits into int64."""
    return max(1, INT64_MAX // size // 2)


def splitmix64(x):
    """Return the SplitMix64 output for the unsigned 64-bit input x."""
    x = (x + GOLDEN) & MASK64
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & MASK64
    x = (x ^ x >> 27) * 0x94D049BB133111EB & MASK64
    return x ^ x >> 31


def splitmix_multipliers(seed, dense_id, max_ngram, vocab_size):
    """Return the odd multipliers of the raw-id dialect, one per shift."""
    base = seed + LAYER_STEP * dense_id
    states = [base + GOLDEN * (i + 1) & MASK64 for i in range(max_ngram)]
    half = half_range(vocab_size)
    return [2 * (splitmix64(state) % half) + 1 for state in states]


def pcg_multipliers(seed, layer_id, max_ngram, canonical_size):
    """Return the odd multipliers of the canonical-id dialects, one per shift."""
    generator = Pcg64(seed + LAYER_STEP * layer_id)
    bound = half_range(canonical_size)
    return [2 * generator.below(bound) + 1 for _ in range(max_ngram)]


def window(ids, history, t, n, pad_id, eos_id=None):
    """Return the n ids that are hashed at position t of `ids`, newest first.

    `history` has the ids before `ids`, oldest first; -1 in it means DEAD or before the stream, and -1 in `ids` means
    DEAD. The search goes back from t. It stops at a DEAD or missing position, at any shift, and at an `eos_id`, if not
    None, at shift 1 or later. The position where it stops and all older ones read `eos_id`, or `pad_id` if
    `eos_id` is None.
    """
    fill_id = pad_id if eos_id is None else eos_id
    stream = list(history) + list(ids)
    place = len(history) + t
    tokens = []
    while len(tokens) < n and place >= 0:
        token = stream[place]
        ends_segment = eos_id is not None and token == eos_id and tokens
        if token == DEAD or ends_segment:
            break
        tokens.append(token)
        place -= 1
    return tokens + [fill_id] * (n - len(tokens))


def wrap64(number):
    """Wrap a number to int64, in two's complement."""
    low = number & MASK64
    return low - 2**64 if low >= 2**63 else low


def mix(window, multipliers):
    """Return the exclusive or of the int64 products of an n-gram, newest token first."""
    mixed = 0
    for token, multiplier in zip(window, multipliers[: len(window)], strict=True):
        mixed ^= wrap64(token * multiplier)
    return mixed


def row(window, multipliers, prime):
    """Return the row in a table of `prime` rows; Python's % is never negative for a positive modulus."""
    return mix(window, multipliers) % prime


def rows(ids, history, multipliers, primes_by_order, pad_id, eos_id=None):
    """Return rows [T][C] without offsets; columns are sorted by order, then by head.

    `primes_by_order[0]` belongs to the 2-grams, the next entry to the 3-grams, and so on.
    """
    table = []
    for t in range(len(ids)):
        columns = []
        for n, primes in enumerate(primes_by_order, start=2):
            tokens = window(ids, history, t, n, pad_id, eos_id)
            columns += [row(tokens, multipliers, prime) for prime in primes]
        table.append(columns)
    return table


def next_history(history, ids, max_ngram):
    """Return the last N-1 ids of the stream, oldest first; -1 fills the places before its start."""
    return ([DEAD] * (max_ngram - 1) + list(history) + list(ids))[-(max_ngram - 1) :]
