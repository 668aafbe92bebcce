"""Reading other implementations' state dicts: exact arrays, prefixes, and what is missing or does not fit.

Values never change. bfloat16 and float16 become float32, which holds each of their values; where a state dict
mixes float32 and float64, all of it becomes float64. Tensors of PyTorch are read through their own methods.
"""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from engram_ref.errors import InputError
from engram_ref.ops.arrays import as_array

LOG = logging.getLogger(__name__)
WIDENED = {"float16": np.float32, "bfloat16": np.float32, "float32": np.float32, "float64": np.float64}
"""Dtype of a state dict's array -> the dtype it is read as."""

def exact_array(name: str, value: Any) -> np.ndarray:
    """A parameter as a NumPy array of float32 or float64 with exactly its values.

    name      for errors
    value     array, array of ml_dtypes, torch tensor or parameter on any device, nested list
    raises    InputError for a dtype that is not a float of 16, 32 or 64 bits

    >>> exact_array("x", [1.5, 2.0])
    array([1.5, 2. ])
    """
    if "float8" in str(getattr(value, "dtype", "")):
        raise InputError(name, f"dtype {', '.join(WIDENED)}", value.dtype,
                         "FP8 weights need their scales: convert the checkpoint to bfloat16")
    array = as_array(name, value)
    if array.dtype.name not in WIDENED:
        raise InputError(name, f"dtype {', '.join(WIDENED)}", array.dtype)
    return array.astype(WIDENED[array.dtype.name], copy=False)


def bfloat16_array(name: str, array: np.ndarray) -> np.ndarray:
    """An array of values that bfloat16 holds, as bfloat16; InputError for any other value."""
    import ml_dtypes

    narrow = array.astype(ml_dtypes.bfloat16)
    if not np.array_equal(narrow.astype(array.dtype), array, equal_nan=True):
        raise InputError(name, "values that bfloat16 holds", f"others, of dtype {array.dtype}")
    return narrow


def one_dtype(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Float arrays in the widest dtype among them; the others as they are."""
    floats = {array.dtype for array in arrays.values() if array.dtype.kind == "f"}
    widest = max(floats, key=lambda dtype: dtype.itemsize)
    return {name: array.astype(widest, copy=False) if array.dtype.kind == "f" else array
            for name, array in arrays.items()}


def without_prefix(state_dict: Mapping[str, Any], anchor: str) -> dict[str, Any]:
    """The entries of one module, without the prefix that their names have in a larger one.

    state_dict   entries by name
    anchor       a name that the module always has; what precedes it is the prefix
    returns      the entries below that prefix; a log message says how many others were left out. All entries
                 unchanged where the anchor is there without a prefix, or is not there at all
    raises       InputError where the anchor is there below several prefixes

    >>> without_prefix({"model.a.weight": 1, "model.a.bias": 2}, "a.weight")
    {'a.weight': 1, 'a.bias': 2}
    """
    if not isinstance(state_dict, Mapping) or not all(isinstance(name, str) for name in state_dict):
        raise InputError("state_dict", "a dictionary of arrays by name", type(state_dict).__name__,
                         "a module's state_dict()")
    prefixes = sorted(name.removesuffix(anchor) for name in state_dict if f".{name}".endswith(f".{anchor}"))
    if not prefixes or "" in prefixes:
        return dict(state_dict)
    if len(prefixes) > 1:
        raise InputError("state_dict", "one module", f"{anchor} below {' and '.join(prefixes)}",
                         "pass the entries of one of them")
    [prefix] = prefixes
    inside = {name.removeprefix(prefix): value for name, value in state_dict.items() if name.startswith(prefix)}
    if len(inside) < len(state_dict):
        LOG.warning("%d of %d entries left out: not below %s", len(state_dict) - len(inside), len(state_dict), prefix)
    return inside


def take(left: dict[str, Any], key: str, shape: tuple[int, ...], ours: str) -> np.ndarray:
    """Remove one entry and return it as an array.

    left     the entries not yet read
    key      its name there
    shape    what it must have
    ours     our name, for errors
    raises   InputError if it is missing, misshapen or no float array
    """
    if key not in left:
        found = f"{len(left)} others, such as {min(left)}" if left else "none"
        raise InputError("state_dict", f"an array {key}", found)
    array = exact_array(f"state_dict {key} ({ours})", left.pop(key))
    if array.shape != shape:
        raise InputError(f"state_dict {key} ({ours})", f"shape {list(shape)}", list(array.shape))
    return array
