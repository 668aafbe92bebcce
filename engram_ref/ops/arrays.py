"""Arrays: how models inspect and convert arrays. Every backend implements these functions for its own arrays.

Models compose ops and do no arithmetic themselves, but callers may pass them any array. Arrays of other libraries,
byte orders or memory layouts are converted if this does not change their numbers; otherwise an error is raised. Models
also inspect dtypes, reject values that are not finite, and start from zeros.
"""

import functools
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike

from engram_ref.errors import InputError

NATIVE = frozenset(map(np.dtype, "? i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8".split())) | {np.dtype(ml_dtypes.bfloat16)}
"""The dtypes that every backend supports, in native byte order."""

INT64_MAX = 2**63 - 1


def as_array(argument: str, values: object) -> np.ndarray:
    """Convert values exactly to an array with a dtype in NATIVE; return such an array unchanged.

    argument   name of the argument, for messages
    values     an array of any library, byte order and layout, or nested lists of numbers
    raises     InputError if that is impossible: text, objects, long doubles, rows of different lengths
    """
    if type(values) is np.ndarray and values.dtype in NATIVE:
        return values
    try:
        array = _converted(values)
    except Exception as error:                               # each library raises its own exceptions
        ragged = isinstance(values, list | tuple) and isinstance(error, ValueError)
        raise (InputError(argument, "rows of equal length", "rows of different lengths") if ragged else
               InputError(argument, "an array", f"a value that cannot be converted: {error}")) from error
    if array.dtype not in NATIVE:
        hint = "use astype(np.float64) if rounding is acceptable" if array.dtype.kind == "f" else ""
        raise InputError(argument, "real numbers of at most 64 bits", f"{type(values).__name__} of dtype {array.dtype}",
                         hint)
    return array


def _converted(values: Any) -> np.ndarray:
    """Return the values as a NumPy array in native byte order."""
    if hasattr(values, "detach"):                            # a PyTorch tensor, possibly with a graph
        values = values.detach().cpu()
        if str(values.dtype) == "torch.bfloat16":
            return values.float().numpy().astype(ml_dtypes.bfloat16)
    if np.ma.is_masked(values):
        raise TypeError("some values are masked")
    only_dlpack = hasattr(values, "__dlpack__") and not hasattr(values, "__array__")
    array = np.from_dlpack(values) if only_dlpack else np.asarray(values)
    if array.dtype.kind == "O" and array.ndim > 0:
        array = np.asarray(array.tolist())                   # an object array of Python numbers
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def as_int64(argument: str, values: object) -> np.ndarray:
    """Convert integers, such as ids, rows or a history, to an int64 array.

    argument   name of the argument, for messages
    values     as for as_array, with an integer dtype; an empty array may have any dtype
    raises     InputError for any other dtype, or an unsigned value of 2^63 or more
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
    """Return a constant of a configuration on the device of `like`; NumPy returns it unchanged: [...] -> [...]."""
    return values


def zeros(shape: tuple[int, ...], dtype: DTypeLike, like: np.ndarray | None = None) -> np.ndarray:
    """Return zeros on the device of `like`."""
    return np.zeros(shape, dtype=dtype)


def dtype_name(x: np.ndarray) -> str:
    """Return the name of an array's dtype, which is the same in every backend.

    >>> dtype_name(np.zeros(1))
    'float64'
    """
    return _name_of(x.dtype)


@functools.cache
def _name_of(dtype: np.dtype) -> str:
    """Return a dtype's name, cached because NumPy builds it on every access, which takes a microsecond or two."""
    return dtype.name


def to_numpy(x: np.ndarray) -> np.ndarray:
    """Return the same numbers as a NumPy array."""
    return x


def first_non_finite(x: np.ndarray) -> tuple[int, ...] | None:
    """Return the position of the first NaN or infinity, or None.

    >>> first_non_finite(np.array([[1.0, 2.0], [np.inf, np.nan]]))
    (1, 0)
    """
    finite = np.isfinite(x)
    return None if finite.all() else tuple(int(i) for i in np.argwhere(~finite)[0])


def check_together(arrays: Mapping[str, np.ndarray | None]) -> None:
    """Raise InputError if the arrays are on different devices, naming two of them. No-op for NumPy.

    arrays   name -> array, or None for an omitted argument
    raises   InputError, only in backends with devices
    """
