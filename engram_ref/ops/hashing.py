"""Hashing: compute, from canonical ids, the table rows that each position reads.

For position t, shift i = 0 is the current token, i = 1 the previous one, and so on. Each shift has its own odd
multiplier. The mix of an n-gram is the exclusive or of its first n products, and each head reduces the mix modulo the
prime size of its table:

    mix_n(t)  = (x[t] * m[0]) ^ (x[t-1] * m[1]) ^ ... ^ (x[t-n+1] * m[n-1])      in int64
    row[n, k] = mix_n mod p[n, k]

All orders and heads share the multipliers, so the heads of one order differ only in their primes.
"""

import numpy as np

from engram_ref.checks import check_shapes
from engram_ref.ops.canonical import DEAD

INT64_MAX = 2**63 - 1            # upper bound on id * multiplier
LAYER_STRIDE = 10_007            # difference between the seeds of consecutive layers
GOLDEN_GAMMA = 0x9E3779B97F4A7C15  # SplitMix64's increment: 2^64 / golden ratio, made odd
MASK64 = 2**64 - 1                 # keeps the low 64 bits


def multiplier_range(canonical_size: int) -> int:
    """Return half the largest multiplier that keeps id * multiplier below 2^63 for every id.  Source: demo.

    >>> multiplier_range(99_092)
    46539438283891
    """
    return max(1, INT64_MAX // canonical_size // 2)


def pcg64_multipliers(seed: int, index: int, max_ngram: int, canonical_size: int) -> np.ndarray:
    """Draw one layer's multipliers from NumPy's PCG64 stream: odd, and small enough not to overflow.

    seed, index      the seed of the stream is seed + 10007 * index; index is the layer id
    max_ngram        N, number of multipliers
    canonical_size   classes of the vocabulary; a different size gives entirely different multipliers
    returns          int64 [N], newest token first
    source           Engram demo; V4.1 release

    >>> pcg64_multipliers(0, 1, 2, 99_092)
    array([76632096046245,  4839876093313])
    """
    rng = np.random.default_rng(seed + LAYER_STRIDE * index)
    return 2 * rng.integers(0, multiplier_range(canonical_size), size=max_ngram, dtype=np.int64) + 1


def splitmix64(state: int) -> int:
    """Return one output of SplitMix64, a scrambled counter; all arithmetic is modulo 2^64.

    source   Steele, Lea and Flood 2014
    """
    z = (state + GOLDEN_GAMMA) & MASK64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK64
    return z ^ (z >> 31)


def splitmix64_multipliers(seed: int, index: int, max_ngram: int, canonical_size: int) -> np.ndarray:
    """Draw one layer's multipliers as in the Qwen dialect.

    arguments   as for pcg64_multipliers; index is the number of the module, canonical_size that of the raw vocabulary
    returns     int64 [N], newest token first
    source      Qwen4Exp release

    >>> splitmix64_multipliers(1234, 0, 2, 248_320)
    array([23703573157769, 20109073645365])
    """
    start = seed + LAYER_STRIDE * index
    drawn = [splitmix64((start + GOLDEN_GAMMA * (i + 1)) & MASK64) for i in range(max_ngram)]
    return np.array([2 * (x % multiplier_range(canonical_size)) + 1 for x in drawn], dtype=np.int64)


GENERATORS = {"pcg64": pcg64_multipliers, "splitmix64": splitmix64_multipliers}
"""Multiplier generators by their name in a configuration."""


def windows(ids: np.ndarray, history: np.ndarray, pad_id: int, eos_id: int | None = None) -> np.ndarray:
    """Return the N tokens that end at each position, newest first, with hidden tokens replaced by a fill id.

    Going back from shift i = 0, the first barrier hides its own token and all older ones:

        left end     at shifts that reach before the start of the stream
        DEAD         at any shift, i = 0 included: the window of a DEAD position contains only the fill
        EOS          at a shift i > 0, if there is an EOS id: the window of an EOS contains the document that it ends

    The fill is the EOS id if there is one, else the pad id.

    ids       int64 [B, T] canonical ids, DEAD allowed
    history   int64 [B, N-1] the preceding ids, oldest first; DEAD before the start of the stream
    pad_id    canonical id that replaces hidden tokens if eos_id is None
    eos_id    canonical id that ends a document and replaces hidden tokens, or None
    returns   int64 [B, T, N]
    source    Engram demo (left fill); V4.1 release (DEAD); Qwen4Exp release (EOS)

    >>> windows(np.array([[5, 6, DEAD, 7]]), np.array([[DEAD, DEAD]]), pad_id=2)[0]
    array([[5, 2, 2],
           [6, 5, 2],
           [2, 2, 2],
           [7, 2, 2]])
    """
    B, T = ids.shape
    check_shapes(history=(history, (len(ids), history.shape[-1])))
    N = history.shape[1] + 1
    fill = pad_id if eos_id is None else eos_id
    stream = np.concatenate([history, ids], axis=1)          # [B, N-1+T]
    hidden = np.zeros((B, T), dtype=bool)
    shifts = []
    for i in range(N):
        token = stream[:, N - 1 - i : N - 1 - i + T]         # [B, T], i tokens back
        hidden = hidden | (token == DEAD)
        if eos_id is not None and i > 0:
            hidden = hidden | (token == eos_id)
        shifts.append(np.where(hidden, fill, token))
    return np.stack(shifts, axis=-1)                         # [B, T, N]


def mix(windows: np.ndarray, multipliers: np.ndarray) -> np.ndarray:
    """Compute the mix of every order: products of ids and multipliers, combined by exclusive or.

    windows       int64 [B, T, N], newest first
    multipliers   int64 [N]
    returns       int64 [B, T, N-1], orders 2..N; products wrap in two's complement
    source        Engram demo

    >>> mix(np.array([[[3, 5]]]), np.array([7, 9]))
    array([[[56]]])
    """
    check_shapes(multipliers=(multipliers, windows.shape[-1:]))
    mixed = windows[..., 0] * multipliers[0]                         # [B, T], the current token alone
    orders = []
    for i in range(1, len(multipliers)):
        mixed = mixed ^ (windows[..., i] * multipliers[i])
        orders.append(mixed)
    return np.stack(orders, axis=-1)                                 # [B, T, N-1]


def table_rows(mixes: np.ndarray, primes: np.ndarray) -> np.ndarray:
    """Compute the row that each head reads: the mix of its order modulo its prime.

    mixes     int64 [B, T, N-1]
    primes    int64 [C], order-major
    returns   int64 [B, T, C], each in [0, p) for the prime p of its column, even if the mix is negative
    source    Engram demo

    The code computes m % p as m - m // p * p, since NumPy divides by a scalar twice as fast as it computes remainders.

    >>> table_rows(np.array([[[56]]]), np.array([11, 13]))
    array([[[1, 4]]])
    """
    orders = [np.ascontiguousarray(mixes[..., i]) for i in range(mixes.shape[-1])]      # N-1 of [B, T]
    H = len(primes) // len(orders)
    check_shapes(primes=(primes, (len(orders) * H,)))
    rows = np.empty((*orders[0].shape, len(primes)), dtype=np.int64)                   # [B, T, C]
    for column, prime in enumerate(primes):
        m = orders[column // H]
        rows[..., column] = m - m // prime * prime
    return rows


def next_history(history: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Return the history after these ids: the last N-1 ids of the stream, DEAD marks included.

    history   int64 [B, N-1], oldest first
    ids       int64 [B, T] canonical ids
    returns   int64 [B, N-1], a copy
    source    this project; the releases keep the same ids in their caches

    >>> next_history(np.array([[DEAD, 4, 5]]), np.array([[6, 7]]))
    array([[5, 6, 7]])
    """
    stream = np.concatenate([history, ids], axis=1)          # [B, N-1+T]
    return stream[:, stream.shape[1] - history.shape[1] :].copy()    # a view would keep the chunk alive
