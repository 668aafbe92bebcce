"""Arrays: the few questions about arrays that models ask, which every backend answers in its own way.

Models compose ops and compute nothing, but they take what callers bring. An array of another library, byte order
or memory layout is converted if its numbers stay the same, and refused if they would not. Models also look at
dtypes, refuse what is not finite, and start from zeros.
"""

import functools
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike

from engram_ref.errors import InputError

NATIVE = frozenset(map(np.dtype, "? i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8".split())) | {np.dtype(ml_dtypes.bfloat16)}
"""The dtypes that every backend has; also in the processor's own byte order."""

INT64_MAX = 2**63 - 1


def as_array(argument: str, values: object) -> np.ndarray:
    """Values as an array of a dtype in NATIVE, with the same numbers; an array that has one is returned as it is.

    argument   its name, for the message
    values     an array of any library, byte order and layout, or nested lists of numbers
    raises     InputError if there is no such array: text, objects, long doubles, rows of different lengths
    """
    if type(values) is np.ndarray and values.dtype in NATIVE:
        return values
    try:
        array = _converted(values)
    except Exception as error:                               # each library raises its own
        ragged = isinstance(values, list | tuple) and isinstance(error, ValueError)
        raise (InputError(argument, "rows of one length", "rows of different lengths") if ragged else
               InputError(argument, "an array", f"{type(values).__name__}: {error}")) from error
    if array.dtype not in NATIVE:
        hint = "astype(np.float64) rounds it" if array.dtype.kind == "f" else ""
        raise InputError(argument, "real numbers of at most 64 bits", f"{type(values).__name__} of dtype {array.dtype}",
                         hint)
    return array


def _converted(values: Any) -> np.ndarray:
    """NumPy's array of the values, in the processor's byte order."""
    if hasattr(values, "detach"):                            # a tensor of PyTorch, perhaps with a graph
        values = values.detach().cpu()
        if str(values.dtype) == "torch.bfloat16":
            return values.float().numpy().astype(ml_dtypes.bfloat16)
    if np.ma.is_masked(values):
        raise TypeError("some values are masked")
    only_dlpack = hasattr(values, "__dlpack__") and not hasattr(values, "__array__")
    array = np.from_dlpack(values) if only_dlpack else np.asarray(values)
    if array.dtype.kind == "O" and array.ndim > 0:
        array = np.asarray(array.tolist())                   # Python numbers in an array of objects
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def as_int64(argument: str, values: object) -> np.ndarray:
    """Integers as an int64 array: ids, rows, history.

    argument   its name, for the message
    values     what as_array takes, of an integer dtype; no numbers at all may be of any
    raises     InputError for another dtype, or an unsigned number of 2^63 or more
    """
    x = as_array(argument, values)
    if x.dtype == np.int64:
        return x
    if x.size and x.dtype.kind not in "iu":
        raise InputError(argument, "integers (int64)", x.dtype.name)
    if x.size and x.dtype == np.uint64 and x.max() > INT64_MAX:
        raise InputError(argument, "integers below 2^63", x.max())
    return x.astype(np.int64)


def constant(values: np.ndarray, like: np.ndarray) -> np.ndarray:
    """A constant of a configuration, where `like` is: [...] -> [...].  NumPy's arrays are all in one place."""
    return values


def zeros(shape: tuple[int, ...], dtype: DTypeLike, like: np.ndarray | None = None) -> np.ndarray:
    """An array of zeros, where `like` is."""
    return np.zeros(shape, dtype=dtype)


def dtype_name(x: np.ndarray) -> str:
    """The name of an array's dtype, the same in every backend.

    >>> dtype_name(np.zeros(1))
    'float64'
    """
    return _name_of(x.dtype)


@functools.cache
def _name_of(dtype: np.dtype) -> str:
    """NumPy makes the name anew each time it is asked, which takes a microsecond or two."""
    return dtype.name


def to_numpy(x: np.ndarray) -> np.ndarray:
    """The same numbers as a NumPy array."""
    return x


def first_non_finite(x: np.ndarray) -> tuple[int, ...] | None:
    """The position of the first NaN or infinity; None where there is none.

    >>> first_non_finite(np.array([[1.0, 2.0], [np.inf, np.nan]]))
    (1, 0)
    """
    finite = np.isfinite(x)
    return None if finite.all() else tuple(int(i) for i in np.argwhere(~finite)[0])


def check_together(arrays: Mapping[str, np.ndarray | None]) -> None:
    """Refuse arrays that cannot meet in one operation, naming two: NumPy's always can.

    arrays   name -> array, or None for an argument left out
    raises   InputError in backends whose arrays lie on devices
    """
