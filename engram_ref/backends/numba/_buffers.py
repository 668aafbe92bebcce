"""Where results go: arrays that start on a cache line, and a caller's own array, checked."""

import math

import numpy as np

from engram_ref.backends.numba.vectors.instructions import BYTES
from engram_ref.errors import InputError

PADDING = 16
"""Elements by which the lines of a work space are longer than a power of two: lines whose addresses differ by a
multiple of 4096 bytes are taken for one another by the processor's store buffer."""


STREAM_ABOVE = 2**22
"""Bytes of a result above which it is written past the cache."""


def aligned(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """An uninitialised array whose first element stands at a multiple of 64 bytes.

    shape     of the array
    dtype     of the array
    returns   C-contiguous, writable
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    raw = np.empty(size + BYTES, dtype=np.uint8)
    start = -raw.ctypes.data % BYTES
    return raw[start : start + size].view(dtype).reshape(shape)


def streams(array: np.ndarray) -> bool:
    """Whether to write the array past the cache: it would not fit there, and it starts on a cache line."""
    return array.nbytes > STREAM_ABOVE and array.ctypes.data % BYTES == 0


def result(out: np.ndarray | None, shape: tuple[int, ...], dtype: type, *inputs: np.ndarray) -> np.ndarray:
    """The array to write to: a new one, or the caller's where it fits.

    out       None, or a C-contiguous, writable array of that shape and dtype that shares no memory with `inputs`
    raises    InputError where it does not fit; nothing is written then
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
