"""Result arrays: new ones that start on a cache line, or the caller's, which are checked."""

import math
import weakref

import numpy as np

from engram_ref.backends.numba.vectors.instructions import BYTES
from engram_ref.errors import InputError

PADDING = 16
"""Elements added to buffer rows whose length is a power of two: the processor's store buffer confuses addresses
that differ by a multiple of 4096 bytes."""

STREAM_ABOVE = 2**22     # results of more than this number of bytes are written with non-temporal stores
MAX_KEPT = 2**29         # maximum number of bytes of freed results that are kept for reuse
_kept: dict[int, np.ndarray] = {}


def aligned(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """An uninitialised C-contiguous array whose address is a multiple of 64 bytes."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    raw = np.empty(size + BYTES, dtype=np.uint8) if size <= STREAM_ABOVE else reused(size + BYTES)
    start = -raw.ctypes.data % BYTES
    return raw[start : start + size].view(dtype).reshape(shape)


def reused(size: int) -> np.ndarray:
    """Return bytes for a large result: those of a freed result of the same size if there is one, else new ones.

    The system clears new pages before their first use, which takes longer than many kernels take to fill them.
    """
    raw = _kept.pop(size, None)
    if raw is None:
        raw = np.empty(size, dtype=np.uint8)
    # Every reference to these bytes keeps `owner` alive, even a copy of the memoryview that is the base of the result
    owner = raw.view()
    weakref.finalize(owner, keep, raw).atexit = False
    return np.frombuffer(memoryview(owner), dtype=np.uint8)


def keep(raw: np.ndarray) -> None:
    """Keep these bytes for the next result of this size; free the oldest ones if there are too many.

    Called in any thread that drops the last reference, so each change of `_kept` is a single operation.
    """
    _kept.pop(raw.size, None)
    _kept[raw.size] = raw
    while sum(sizes := list(_kept)) > MAX_KEPT:
        _kept.pop(sizes[0], None)


def release() -> None:
    """Free all memory that is kept for reuse."""
    _kept.clear()


def streams(array: np.ndarray) -> bool:
    """Whether to write the array with non-temporal stores: it must exceed the cache and start on a cache line."""
    return array.nbytes > STREAM_ABOVE and array.ctypes.data % BYTES == 0


def result(out: np.ndarray | None, shape: tuple[int, ...], dtype: type, *inputs: np.ndarray) -> np.ndarray:
    """Return the array to write to: a new one, or the caller's if it is suitable.

    out       None, or a C-contiguous, writable array of that shape and dtype that shares no memory with `inputs`
    raises    InputError for any other `out`, before anything is written
    """
    if out is None:
        return aligned(shape, dtype)
    expected = f"{np.dtype(dtype)} {list(shape)}"
    if not isinstance(out, np.ndarray) or out.dtype != dtype or out.shape != shape:
        found = f"{out.dtype} {list(out.shape)}" if isinstance(out, np.ndarray) else type(out).__name__
        raise InputError("out", expected, found)
    if not out.flags.c_contiguous:
        raise InputError("out", f"a C-contiguous array of {expected}", f"an array with strides {out.strides}")
    if not out.flags.writeable:
        raise InputError("out", f"a writable array of {expected}", "a read-only array")
    if any(np.may_share_memory(out, array) for array in inputs):
        raise InputError("out", "an array that shares no memory with the inputs", "one that shares memory")
    return out
