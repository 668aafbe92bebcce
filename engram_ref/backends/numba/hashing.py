"""Rows, a block of tokens at a time: look up, count how far back each position sees, mix, reduce.

Fast versions of ops/hashing.py. One pass over a block keeps everything but the result in the cache; the eight
heads of an order are reduced together (vectors/modulus.py). Primes outside the fast range, and numbers of heads that
are no multiple of eight, take the processor's own remainder.
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

BLOCK = 512             # tokens whose mixes are held at a time: they fit the first-level cache
NO_MAP = np.empty(0, dtype=np.int64)
INT64 = np.dtype(np.int64)
NO_EOS = -2             # stands for "no end of document": no id equals it


class Hashing(NamedTuple):
    """What turns tokens into rows.

    multipliers   int64 [Y, N] of Y layers, or [N] of one
    columns       of all Y layers
    fill, eos     the id that replaces hidden tokens, and the one that ends a document
    """

    multipliers: np.ndarray
    columns: Columns
    fill: int
    eos: int


def wrapped_product(a, b):
    """a * b as two's complement int64."""
    return (int(a) * int(b) + 2**63) % 2**64 - 2**63


if not config.DISABLE_JIT:
    wrapped_product = inlined(lambda a, b: a * b)


def table_rows(mixes: np.ndarray, primes: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Fast version of ops.hashing.table_rows."""
    B, T, orders = mixes.shape
    check_shapes(primes=(primes, (len(primes) // orders * orders,)))
    rows = result(out, (B, T, len(primes)), np.int64, mixes, primes)
    lines = np.ascontiguousarray(mixes.reshape(B * T, orders).T)                       # [N-1, B*T]
    columns = columns_of(primes, None, orders)
    over_tokens(lambda a, b: _reduce(lines[:, a:b], 1, columns, False, rows.reshape(-1), a * len(primes), 0),
                B * T, rows.nbytes)
    return rows


def layers_of_rows(ids: np.ndarray, canonical: np.ndarray, history: np.ndarray, multipliers: np.ndarray,
                   primes: np.ndarray, offsets: np.ndarray | None, pad_id: int, eos_id: int | None,
                   out: np.ndarray | None) -> np.ndarray:
    """The rows of Y layers: arguments as ops.composite.address_layers, an empty map where ids are hashed as they are.

    returns   int64 [Y, B, T, C]
    """
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
    """step(ids int64 [B], history int64 [B, N-1]) -> rows int64 [B, C]; InputError for other shapes or dtypes."""
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
    """The id that replaces hidden tokens, and the one that ends a document."""
    return (pad_id, NO_EOS) if eos_id is None else (eos_id, eos_id)


def columns_of(primes: np.ndarray, offsets: np.ndarray | None, lines: int) -> Columns:
    """Constants of all columns, of every layer one after the other.

    lines     number of mixes per token; each is reduced by as many columns
    """
    flat = np.asarray(primes, dtype=np.int64).flatten()
    shifts = np.zeros_like(flat) if offsets is None else np.asarray(offsets, dtype=np.int64).flatten()
    return Columns(flat, 1.0 / flat, shifts, is_fast(flat) and len(flat) // lines % WIDTH == 0)


def pack(hashing: Hashing) -> np.ndarray:
    """One layer's constants as one int64 array: passing a named tuple would take longer than one token's work."""
    multipliers, columns, fill, eos = hashing
    return np.concatenate([columns.primes, columns.inverses.view(np.int64), columns.offsets, multipliers,
                           [fill, eos, columns.fast]])


@jit
def unpack(packed, C):
    """What `pack` packed: a Hashing of C columns."""
    columns = Columns(packed[:C], packed[C : 2 * C].view(np.float64), packed[2 * C : 3 * C], packed[-1] == 1)
    return Hashing(packed[3 * C : -3], columns, packed[-3], packed[-2])


@jit
def _rows(ids, canonical, history, hashing, stream, rows, start, stop):
    """Rows of the positions start..stop-1, counted through all sequences."""
    (B, T), (Y, N), C = ids.shape, hashing.multipliers.shape, hashing.columns.primes.size // len(hashing.multipliers)
    tokens, sight = np.empty(BLOCK + N - 1, np.int64), np.empty(BLOCK, np.int64)
    windows, mixes = np.empty((N, BLOCK + PADDING), np.int64), np.empty((Y * (N - 1), BLOCK + PADDING), np.int64)
    while start < stop:
        # Take a block of one sequence: canonical ids, how far back each sees, what it then reads
        b = start // T
        t = start - b * T
        n = min(BLOCK, T - t, stop - start)
        _look_up(ids[b], canonical, history[b], t, tokens[: n + N - 1])
        _see(tokens[: n + N - 1], hashing.eos, N - 1, sight[:n])
        _show(tokens, sight[:n], hashing.fill, windows)
        # Mix, and reduce to the rows of every layer
        _mix(windows, hashing.multipliers, n, mixes)
        _reduce(mixes[:, :n], Y, hashing.columns, stream, rows, start * C, B * T * C)
        start += n


@jit
def _look_up(line, canonical, history, first, tokens):
    """Canonical ids of the N-1 positions before `first` and of those from it on; an empty map leaves ids alone."""
    before = max(history.size - first, 0)               # how many of them stand in the history
    for j in range(before):
        tokens[j] = history[first + j]
    raw, found = line[first - history.size + before :], tokens[before:]
    for j in range(found.size):
        found[j] = raw[j] if canonical.size == 0 or raw[j] == DEAD else canonical[raw[j]]


@jit
def _see(tokens, eos, span, sight):
    """How many tokens each position sees, itself included: a barrier hides itself and what is older."""
    barriers, reach = 0, 0
    for j in range(tokens.size):
        barriers += (tokens[j] == DEAD) | (tokens[j] == eos)
    if barriers == 0:
        sight[:] = span + 1
        return
    for j in range(sight.size + span):
        reach = 0 if tokens[j] == DEAD else reach + 1
        if j >= span:
            sight[j - span] = reach
        if tokens[j] == eos:
            reach = 0


@jit
def _show(tokens, sight, fill, windows):
    """The windows of a block, one line per shift [N, n]: the token that many back, the fill if it is hidden."""
    N = windows.shape[0]
    for i in range(N):
        older, shown = tokens[N - 1 - i :], windows[i]
        for t in range(sight.size):
            token = older[t]
            shown[t] = token if sight[t] > i else fill


@jit
def _mix(windows, multipliers, n, mixes):
    """The mixes of every layer and order [Y*(N-1), n]."""
    N = windows.shape[0]
    for y in range(multipliers.shape[0]):
        # The newest token's product, then one more token per order
        newest, product = windows[0], mixes[y * (N - 1)]
        for t in range(n):
            product[t] = wrapped_product(newest[t], multipliers[y, 0])
        for i in range(1, N):
            mixed, before, older = mixes[y * (N - 1) + i - 1], mixes[y * (N - 1) + max(i - 2, 0)], windows[i]
            for t in range(n):
                mixed[t] = before[t] ^ wrapped_product(older[t], multipliers[y, i])


@jit
def _reduce(mixes, Y, columns, stream, rows, start, layer_stride):
    """Mixes [Y*(N-1), n] to rows; token t of layer y writes its C rows from start + y * layer_stride + t * C on."""
    lines, n = mixes.shape
    C, H, orders = columns.primes.size // Y, columns.primes.size // lines, lines // Y
    for y in range(Y):
        # All of a token's rows in turn: memory is written from front to back
        for t in range(n):
            at = start + y * layer_stride + t * C
            for line in range(orders):
                _heads(mixes[y * orders + line, t], columns, y * C + line * H, H, rows, at + line * H, stream)


@inlined
def _heads(mix, columns, column, H, rows, at, stream):
    """The rows of the H heads of one order: a mix modulo the primes from `column` on, eight at once if possible."""
    if columns.fast:
        for h in range(0, H, WIDTH):
            store_remainders(mix, columns, column + h, rows, at + h, stream)
    else:
        for h in range(H):
            rows[at + h] = mix % columns.primes[column + h] + columns.offsets[column + h]


@jit
def _step(ids, history, packed, rows):
    """One token of every sequence: walk back until something blocks the view.

    packed    see `pack`
    returns   False if the history has another shape; nothing is read then
    """
    N, C = history.shape[1] + 1, rows.shape[1]
    if len(history) != ids.size or packed.size != 3 * C + N + 3:
        return False
    hashing, H, flat = unpack(packed, C), C // (N - 1), rows.reshape(rows.size)
    multipliers, columns, fill, eos = hashing
    for b in range(ids.size):
        # The newest token, then one older one per order; behind a barrier, everything is hidden
        hidden = ids[b] == DEAD
        mix = wrapped_product(fill if hidden else ids[b], multipliers[0])
        for i in range(1, N):
            token = history[b, N - 1 - i]
            hidden = hidden or token in (DEAD, eos)
            mix = mix ^ wrapped_product(fill if hidden else token, multipliers[i])
            _heads(mix, columns, (i - 1) * H, H, flat, b * C + (i - 1) * H, False)
    return True
