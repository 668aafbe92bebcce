"""Arrays: the few questions about arrays that models ask, which every backend answers in its own way.

Models compose ops and compute nothing, but they take what callers bring: they turn lists into arrays, look at
dtypes, refuse what is not finite, and start from zeros.
"""

from collections.abc import Mapping

import numpy as np

from engram_ref.errors import InputError


def as_array(argument: str, values: object) -> np.ndarray:
    """Values as an array, itself where it is one; InputError naming the argument where rows differ in length."""
    try:
        return np.asarray(values)
    except ValueError as error:
        raise InputError(argument, "rows of one length", "rows of different lengths") from error


def as_int64(x: np.ndarray) -> np.ndarray:
    """The same numbers as int64, x itself where they are: [...] -> int64 [...]."""
    return x.astype(np.int64, copy=False)


def constant(values: np.ndarray, like: np.ndarray) -> np.ndarray:
    """A constant of a configuration, where `like` is: [...] -> [...].  NumPy's arrays are all in one place."""
    return values


def zeros(shape: tuple[int, ...], dtype: type, like: np.ndarray | None = None) -> np.ndarray:
    """An array of zeros, where `like` is."""
    return np.zeros(shape, dtype=dtype)


def dtype_name(x: np.ndarray) -> str:
    """The name of an array's dtype, the same in every backend.

    >>> dtype_name(np.zeros(1))
    'float64'
    """
    return x.dtype.name


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
