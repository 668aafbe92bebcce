"""Arrays for results: new ones that start on a cache line, or the caller's own, checked."""

import math
import weakref

import numpy as np

from engram_ref.backends.numba.vectors.instructions import BYTES
from engram_ref.errors import InputError

PADDING = 16
"""Elements by which the lines of a work space are longer than a power of two: the processor's store buffer confuses
addresses that differ by a multiple of 4096 bytes."""

STREAM_ABOVE = 2**22
"""Bytes of a result above which it is written with non-temporal stores."""


MOST_KEPT = 2**29
"""Bytes of dropped results that are kept for reuse."""

_kept: dict[int, np.ndarray] = {}


def aligned(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """An uninitialised C-contiguous array whose first element is at a multiple of 64 bytes."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    raw = np.empty(size + BYTES, dtype=np.uint8) if size <= STREAM_ABOVE else reused(size + BYTES)
    start = -raw.ctypes.data % BYTES
    return raw[start : start + size].view(dtype).reshape(shape)


def reused(size: int) -> np.ndarray:
    """Bytes for a large result: those of one of the same size that no array or buffer refers to any more, or new ones.

    The system clears new pages before their first use, which takes longer than many kernels need to fill them.
    """
    raw = _kept.pop(size, None)
    if raw is None:
        raw = np.empty(size, dtype=np.uint8)
    # Whatever refers to these bytes keeps `owner`: also a copy of the memoryview, which NumPy makes the result's base
    owner = raw.view()
    weakref.finalize(owner, keep, raw).atexit = False
    return np.frombuffer(memoryview(owner), dtype=np.uint8)


def keep(raw: np.ndarray) -> None:
    """Keep these bytes for the next result of their size; give the oldest back to the system if there are too many.

    Called by whatever thread drops the last reference, so each change of `_kept` is one step.
    """
    _kept.pop(raw.size, None)
    _kept[raw.size] = raw
    while sum(sizes := list(_kept)) > MOST_KEPT:
        _kept.pop(sizes[0], None)


def release() -> None:
    """Give all memory kept for reuse back to the system."""
    _kept.clear()


def streams(array: np.ndarray) -> bool:
    """Whether to write the array with non-temporal stores: it exceeds the cache, and it starts on a cache line."""
    return array.nbytes > STREAM_ABOVE and array.ctypes.data % BYTES == 0


def result(out: np.ndarray | None, shape: tuple[int, ...], dtype: type, *inputs: np.ndarray) -> np.ndarray:
    """The array to write to: a new one, or the caller's.

    out       None, or a C-contiguous, writable array of that shape and dtype that shares no memory with `inputs`
    raises    InputError for any other `out`; nothing is written then
    """
    if out is None:
        return aligned(shape, dtype)
    expected = f"{np.dtype(dtype)} {list(shape)}"
    if not isinstance(out, np.ndarray) or out.dtype != dtype or out.shape != shape:
        found = f"{out.dtype} {list(out.shape)}" if isinstance(out, np.ndarray) else type(out).__name__
        raise InputError("out", expected, found)
    if not out.flags.c_contiguous:
        raise InputError("out", f"{expected}, C-contiguous", f"strides {out.strides}", "np.ascontiguousarray copies")
    if not out.flags.writeable:
        raise InputError("out", f"{expected}, writable", "a read-only array")
    if any(np.may_share_memory(out, array) for array in inputs):
        raise InputError("out", "an array of its own", "one that shares memory with an input")
    return out
