"""Read-only arrays: constants that are shared, and stay read-only when an object is pickled or copied."""

from typing import Any

import numpy as np


def read_only(array: np.ndarray) -> np.ndarray:
    """The array itself, no longer writable."""
    array.setflags(write=False)
    return array


class ReadOnlyArrays:
    """Base of a class whose arrays, and dictionaries of arrays, are all read-only: NumPy pickles no such flag."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        for value in state.values():
            for item in value.values() if isinstance(value, dict) else (value,):
                if isinstance(item, np.ndarray):
                    read_only(item)
        self.__dict__.update(state)
