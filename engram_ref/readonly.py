"""Read-only arrays: shared constants that stay read-only when an object is pickled or copied."""

from typing import Any

import numpy as np


def read_only(array: np.ndarray) -> np.ndarray:
    """Make an array read-only and return it."""
    array.setflags(write=False)
    return array


class ReadOnlyArrays:
    """Base class for objects with read-only arrays or dictionaries of them; unpickled arrays are read-only too."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        for value in state.values():
            for item in value.values() if isinstance(value, dict) else (value,):
                if isinstance(item, np.ndarray):
                    read_only(item)
        self.__dict__.update(state)
