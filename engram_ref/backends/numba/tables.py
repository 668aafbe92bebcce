"""Gathering rows: later rows are prefetched while the current ones are copied or decoded.

Fast versions of ops/tables.py. A table is far larger than the caches, and its rows are read in random order:
without prefetching, every row waits for main memory.
"""

import numpy as np

from engram_ref.backends.numba._buffers import aligned, result, streams
from engram_ref.backends.numba._threads import jit, over_tokens
from engram_ref.backends.numba.vectors.fp8 import WIDTH, store_decoded
from engram_ref.backends.numba.vectors.instructions import BYTES
from engram_ref.backends.numba.vectors.memory import copy_line, prefetch
from engram_ref.checks import check_shapes
from engram_ref.errors import InputError
from engram_ref.ops.codecs import BLOCK, E8M0_VALUES

AHEAD = 16              # distance, in rows, between copying and prefetching
AHEAD_DECODING = 8      # the same for decoding: a larger distance would evict the rows being written


def gather(table: np.ndarray, rows: np.ndarray, offsets: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Fast version of ops.tables.gather; raises InputError for a row outside the table."""
    shape = (*rows.shape, table.shape[1])
    flat = flat_rows(rows, offsets, len(table))
    gathered = result(out, shape, table.dtype, table, rows)
    if table.flags.c_contiguous:
        stored, written = as_bytes(table), as_bytes(gathered.reshape(-1, table.shape[1]))
        stream = streams(gathered) and stored.shape[1] % BYTES == 0
        over_tokens(lambda a, b: _copy(stored, flat, stream, written, a, b), flat.size, gathered.nbytes)
    else:
        np.take(table, flat.reshape(rows.shape), axis=0, out=gathered)
    return gathered


def gather_dequantise(codes: np.ndarray, scales: np.ndarray, rows: np.ndarray, offsets: np.ndarray, rounded: bool,
                      out: np.ndarray | None = None) -> np.ndarray:
    """Gather and decode rows [B, T, C], without offsets, of an FP8 table in one pass: float32 [B, T, C*W].

    rounded   whether to round to the nearest bfloat16 numbers
    raises    InputError for wrong shapes or dtypes, or for a row outside the table
    """
    if codes.dtype != np.uint8 or scales.dtype != np.uint8 or codes.shape != (len(scales), scales.shape[1] * BLOCK):
        raise InputError("table_codes, table_scales", f"uint8 [R, W] and uint8 [R, W/{BLOCK}]",
                         f"{codes.dtype} {list(codes.shape)} and {scales.dtype} {list(scales.shape)}")
    B, T, C = rows.shape
    flat = flat_rows(rows, offsets, len(codes))
    memory = result(out, (B, T, C * codes.shape[1]), np.float32, codes, scales, rows)
    codes, scales, stream = np.ascontiguousarray(codes), np.ascontiguousarray(scales), streams(memory)
    over_tokens(lambda a, b: _decode(codes, scales, flat, rounded, stream, memory.reshape(-1), a, b), flat.size,
                memory.nbytes)
    return memory


def flat_rows(rows: np.ndarray, offsets: np.ndarray, count: int) -> np.ndarray:
    """Return checked rows of the flat table, int64 [B*T*C]: with a wrong row, a kernel would read outside the table."""
    check_shapes(offsets=(offsets, rows.shape[-1:]))
    if np.result_type(rows.dtype, offsets.dtype) != np.int64:
        raise InputError("rows, offsets", "int64 and int64", f"{rows.dtype} and {offsets.dtype}")
    flat = aligned((rows.size,), np.int64)
    if _flatten(*(np.ascontiguousarray(array, dtype=np.int64).reshape(-1) for array in (rows, offsets)), count, flat):
        worst = int(flat[np.argmax((flat < 0) | (flat >= count))])
        raise InputError("rows + offsets", f"rows in [0, {count})", worst, "pass rows without column offsets")
    return flat


def as_bytes(array: np.ndarray) -> np.ndarray:
    """View a C-contiguous array [R, W] as bytes [R, W * itemsize]."""
    return array.view(np.uint8).reshape(len(array), array.shape[1] * array.dtype.itemsize)


@jit
def _flatten(rows, offsets, count, flat):
    """Store flat = rows + offsets, column by column; return the number of rows outside [0, count)."""
    C, outside = offsets.size, 0
    for start in range(0, rows.size, max(C, 1)):
        for c in range(C):
            row = rows[start + c] + offsets[c]
            flat[start + c] = row
            outside += (row < 0) | (row >= count)
    return outside


@jit
def _copy(stored, rows, stream, written, start, stop):
    """Copy rows `start` to `stop`-1 of the result as bytes: stored [R, width], written [rows, width]."""
    width = stored.shape[1]
    source, target = stored.reshape(stored.size), written.reshape(written.size)
    for i in range(start, stop):
        # Prefetch a later row
        ahead = rows[min(i + AHEAD, stop - 1)] * width
        for k in range(0, width, BYTES):
            prefetch(source, ahead + k)
        # Copy the current row: whole cache lines, then the remaining bytes
        whole = width - width % BYTES
        for k in range(0, whole, BYTES):
            copy_line(source, rows[i] * width + k, target, i * width + k, stream)
        for k in range(whole, width):
            target[i * width + k] = source[rows[i] * width + k]


@jit
def _decode(codes, scales, rows, rounded, stream, memory, start, stop):
    """Decode rows `start` to `stop`-1 of the result: codes [R, W], scales [R, W/32], memory [rows*W]."""
    (width, blocks), stored = (codes.shape[1], scales.shape[1]), codes.reshape(codes.size)
    exponents = scales.reshape(scales.size)
    for i in range(start, stop):
        # Prefetch a later row: its codes, and its scales, which fit in one cache line
        ahead = rows[min(i + AHEAD_DECODING, stop - 1)]
        for k in range(0, width, BYTES):
            prefetch(stored, ahead * width + k)
        prefetch(exponents, ahead * blocks)
        # Decode the current row, block by block
        for block in range(blocks):
            scale = E8M0_VALUES[exponents[rows[i] * blocks + block]]
            for k in range(block * BLOCK, (block + 1) * BLOCK, WIDTH):
                store_decoded(stored, rows[i] * width + k, scale, rounded, memory, i * width + k, stream)
