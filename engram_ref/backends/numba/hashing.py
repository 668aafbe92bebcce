"""Row indices for a block of tokens at a time: look up ids, count visible tokens, build windows, mix, reduce.

Fast versions of ops/hashing.py. One pass over a block keeps all intermediate values in the cache; the eight
heads of an order are reduced together (vectors/modulus.py). If a prime is outside the fast range, or the number of
heads is not a multiple of eight, the processor's division is used.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba import config

from engram_ref.backends.numba._buffers import PADDING, result, streams
from engram_ref.backends.numba._threads import jit, over_tokens
from engram_ref.backends.numba.vectors.instructions import inlined
from engram_ref.backends.numba.vectors.modulus import WIDTH, Columns, is_fast, store_remainders
from engram_ref.checks import check_shapes
from engram_ref.errors import InputError
from engram_ref.ops.canonical import DEAD

TOKENS = 8              # reduced together: the constants of their columns are loaded once
BLOCK = 512             # tokens per block; the mixes of a block fit into the first-level cache
NO_MAP = np.empty(0, dtype=np.int64)
INT64 = np.dtype(np.int64)
NO_EOS = -2             # eos of dialects without an end-of-document id; no id equals it


class Hashing(NamedTuple):
    """The constants that rows are computed with."""

    multipliers: np.ndarray     # int64 [Y, N] of Y layers, or [N] of one layer
    columns: Columns            # of all Y layers
    fill: int                   # the id that replaces hidden tokens
    eos: int                    # the id that ends a document


def wrapped_product(a, b):
    """Return a * b, wrapped around to int64."""
    return (int(a) * int(b) + 2**63) % 2**64 - 2**63


if not config.DISABLE_JIT:
    wrapped_product = inlined(lambda a, b: a * b)


def table_rows(mixes: np.ndarray, primes: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Fast version of ops.hashing.table_rows."""
    B, T, orders = mixes.shape
    check_shapes(primes=(primes, (len(primes) // orders * orders,)))
    rows = result(out, (B, T, len(primes)), np.int64, mixes, primes)
    by_order = np.ascontiguousarray(mixes.reshape(B * T, orders).T)                    # [N-1, B*T]
    columns = columns_of(primes, None, orders)
    over_tokens(lambda a, b: _reduce(by_order[:, a:b], 1, columns, False, rows.reshape(-1), a * len(primes), 0),
                B * T, rows.nbytes)
    return rows


def rows_of_layers(ids: np.ndarray, canonical: np.ndarray, history: np.ndarray, multipliers: np.ndarray,
                   primes: np.ndarray, offsets: np.ndarray | None, pad_id: int, eos_id: int | None,
                   out: np.ndarray | None) -> np.ndarray:
    """Compute the rows of Y layers; as ops.composite.address_layers, but `canonical` is an empty array for None."""
    ids, history, multipliers = (np.ascontiguousarray(array, dtype=np.int64) for array in (ids, history, multipliers))
    (B, T), (Y, C), N = ids.shape, primes.shape, multipliers.shape[1]
    check_shapes(history=(history, (B, N - 1)), multipliers=(multipliers, (Y, N)),
                 offsets=(primes if offsets is None else offsets, (Y, C)))
    rows = result(out, (Y, B, T, C), np.int64, ids, canonical, history)
    columns = columns_of(primes, offsets, Y * (N - 1))
    hashing = Hashing(multipliers, columns, *fill_and_eos(pad_id, eos_id))
    over_tokens(lambda a, b: _rows(ids, canonical, history, hashing, streams(rows), rows.reshape(-1), a, b), B * T,
                rows.nbytes)
    return rows


def step_function(multipliers: np.ndarray, primes: np.ndarray, pad_id: int,
                  eos_id: int | None) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return step(ids int64 [B], history int64 [B, N-1]) -> rows int64 [B, C], which checks shapes and dtypes."""
    columns = columns_of(primes, None, len(multipliers) - 1)
    packed = pack(Hashing(multipliers, columns, *fill_and_eos(pad_id, eos_id)))

    def step(ids: np.ndarray, history: np.ndarray) -> np.ndarray:
        if ids.ndim == 1 == history.ndim - 1 and ids.dtype == INT64 == history.dtype:
            rows = np.empty((len(ids), len(primes)), np.int64)
            if _step(ids, history, packed, rows):
                return rows
        raise InputError("ids, history", f"int64, shapes [B] and [B, {len(multipliers) - 1}]",
                         f"{ids.dtype} {list(ids.shape)} and {history.dtype} {list(history.shape)}")

    return step


def fill_and_eos(pad_id: int, eos_id: int | None) -> tuple[int, int]:
    """Return the id that replaces hidden tokens and the id that ends a document."""
    return (pad_id, NO_EOS) if eos_id is None else (eos_id, eos_id)


def columns_of(primes: np.ndarray, offsets: np.ndarray | None, mixes: int) -> Columns:
    """Return the constants of the columns of all layers; each of the `mixes` per token has equally many columns."""
    flat = np.asarray(primes, dtype=np.int64).flatten()
    shifts = np.zeros_like(flat) if offsets is None else np.asarray(offsets, dtype=np.int64).flatten()
    return Columns(flat, 1.0 / flat, shifts, is_fast(flat) and len(flat) // mixes % WIDTH == 0)


def pack(hashing: Hashing) -> np.ndarray:
    """Pack one layer's constants into an int64 array: passing a named tuple takes longer than computing one token."""
    multipliers, columns, fill, eos = hashing
    return np.concatenate([columns.primes, columns.inverses.view(np.int64), columns.offsets, multipliers,
                           [fill, eos, columns.fast]])


@jit
def unpack(packed, C):
    """Return the Hashing of C columns that `pack` packed."""
    columns = Columns(packed[:C], packed[C : 2 * C].view(np.float64), packed[2 * C : 3 * C], packed[-1] == 1)
    return Hashing(packed[3 * C : -3], columns, packed[-3], packed[-2])


@jit
def _rows(ids, canonical, history, hashing, stream, rows, start, stop):
    """Compute the rows of positions start..stop-1, numbered across all sequences."""
    (B, T), (Y, N), C = ids.shape, hashing.multipliers.shape, hashing.columns.primes.size // len(hashing.multipliers)
    tokens, visible = np.empty(BLOCK + N - 1, np.int64), np.empty(BLOCK, np.int64)
    windows, mixes = np.empty((N, BLOCK + PADDING), np.int64), np.empty((Y * (N - 1), BLOCK + PADDING), np.int64)
    while start < stop:
        # Load a block of one sequence: canonical ids, counts of visible tokens, windows
        b = start // T
        t = start - b * T
        n = min(BLOCK, T - t, stop - start)
        _look_up(ids[b], canonical, history[b], t, tokens[: n + N - 1])
        _visible_counts(tokens[: n + N - 1], hashing.eos, N - 1, visible[:n])
        _windows(tokens, visible[:n], hashing.fill, windows)
        # Mix the windows and reduce the mixes to the rows of every layer
        _mix(windows, hashing.multipliers, n, mixes)
        _reduce(mixes[:, :n], Y, hashing.columns, stream, rows, start * C, B * T * C)
        start += n


@jit
def _look_up(sequence, canonical, history, first, tokens):
    """Store the canonical ids of all positions from first - (N-1) on; an empty map leaves ids unchanged."""
    before = max(history.size - first, 0)               # number of these in the history
    for j in range(before):
        tokens[j] = history[first + j]
    raw, mapped = sequence[first - history.size + before :], tokens[before:]
    for j in range(mapped.size):
        mapped[j] = raw[j] if canonical.size == 0 or raw[j] == DEAD else canonical[raw[j]]


@jit
def _visible_counts(tokens, eos, span, counts):
    """Count the visible tokens per position, itself included; later counts do not include a barrier or older tokens."""
    barriers, count = 0, 0
    for j in range(tokens.size):
        barriers += (tokens[j] == DEAD) | (tokens[j] == eos)
    if barriers == 0:
        counts[:] = span + 1
        return
    for j in range(counts.size + span):
        count = 0 if tokens[j] == DEAD else count + 1
        if j >= span:
            counts[j - span] = count
        if tokens[j] == eos:
            count = 0


@jit
def _windows(tokens, counts, fill, windows):
    """Store the windows of a block, [N, n]: row i contains the tokens i positions earlier, or the fill if hidden."""
    N = windows.shape[0]
    for i in range(N):
        older, shifted = tokens[N - 1 - i :], windows[i]
        for t in range(counts.size):
            token = older[t]
            shifted[t] = token if counts[t] > i else fill


@jit
def _mix(windows, multipliers, n, mixes):
    """Compute the mixes of every layer and order, [Y*(N-1), n]."""
    N = windows.shape[0]
    for y in range(multipliers.shape[0]):
        # Start with the newest token's product, then combine one more token per order
        newest, product = windows[0], mixes[y * (N - 1)]
        for t in range(n):
            product[t] = wrapped_product(newest[t], multipliers[y, 0])
        for i in range(1, N):
            mixed, before, older = mixes[y * (N - 1) + i - 1], mixes[y * (N - 1) + max(i - 2, 0)], windows[i]
            for t in range(n):
                mixed[t] = before[t] ^ wrapped_product(older[t], multipliers[y, i])


@jit
def _reduce(mixes, Y, columns, stream, rows, start, layer_stride):
    """Reduce mixes [Y*(N-1), n] to rows; the C rows of token t in layer y begin at start + y * layer_stride + t * C."""
    count, n = mixes.shape
    C, H, orders = columns.primes.size // Y, columns.primes.size // count, count // Y
    for y in range(Y):
        # A few tokens at a time: the constants stay in registers, and memory is written almost sequentially
        for first in range(0, n, TOKENS):
            for i in range(orders):
                for t in range(first, min(first + TOKENS, n)):
                    at = start + y * layer_stride + t * C + i * H
                    _heads(mixes[y * orders + i, t], columns, y * C + i * H, H, rows, at, stream)


@inlined
def _heads(mix, columns, column, H, rows, at, stream):
    """Store the rows of one order's H heads: the mix modulo the primes from `column` on, eight at once if possible."""
    if columns.fast:
        for h in range(0, H, WIDTH):
            store_remainders(mix, columns, column + h, rows, at + h, stream)
    else:
        for h in range(H):
            rows[at + h] = mix % columns.primes[column + h] + columns.offsets[column + h]


@jit
def _step(ids, history, packed, rows):
    """Compute the rows of one token per sequence; return False and read nothing if a shape is wrong."""
    N, C = history.shape[1] + 1, rows.shape[1]
    if len(history) != ids.size or packed.size != 3 * C + N + 3:
        return False
    hashing, H, flat = unpack(packed, C), C // (N - 1), rows.reshape(rows.size)
    multipliers, columns, fill, eos = hashing
    for b in range(ids.size):
        # Mix the newest token, then one older token per order; from a barrier on, all are hidden
        hidden = ids[b] == DEAD
        mix = wrapped_product(fill if hidden else ids[b], multipliers[0])
        for i in range(1, N):
            token = history[b, N - 1 - i]
            hidden = hidden or token in (DEAD, eos)
            mix = mix ^ wrapped_product(fill if hidden else token, multipliers[i])
            _heads(mix, columns, (i - 1) * H, H, flat, b * C + (i - 1) * H, False)
    return True
