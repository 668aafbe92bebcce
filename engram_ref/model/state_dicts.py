"""Read the state dicts of other implementations: convert dtypes exactly, strip prefixes, check names and shapes.

Values never change: bfloat16 and float16 are widened to float32, and if a state dict mixes float32 and float64,
all of it is widened to float64. PyTorch tensors are converted through their own methods.
"""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from engram_ref.checks import check_shapes
from engram_ref.errors import InputError
from engram_ref.ops.arrays import as_array

LOG = logging.getLogger(__name__)
WIDENED = {"float16": np.float32, "bfloat16": np.float32, "float32": np.float32, "float64": np.float64}
"""Dtype of a state dict's array -> the dtype it is converted to."""


def exact_array(name: str, value: Any) -> np.ndarray:
    """Convert a parameter exactly to a float32 or float64 NumPy array.

    value    NumPy or ml_dtypes array, torch tensor or parameter on any device, or nested list
    raises   InputError unless the dtype is a float of 16, 32 or 64 bits

    >>> exact_array("x", [1.5, 2.0])
    array([1.5, 2. ])
    """
    if "float8" in str(getattr(value, "dtype", "")):
        raise InputError(name, f"a dtype among {', '.join(WIDENED)}", value.dtype,
                         "FP8 weights need scales: convert the checkpoint to bfloat16")
    array = as_array(name, value)
    if array.dtype.name not in WIDENED:
        raise InputError(name, f"a dtype among {', '.join(WIDENED)}", array.dtype)
    return array.astype(WIDENED[array.dtype.name], copy=False)


def bfloat16_array(name: str, array: np.ndarray) -> np.ndarray:
    """Convert an array to bfloat16; InputError if a value would change."""
    import ml_dtypes

    narrow = array.astype(ml_dtypes.bfloat16)
    if not np.array_equal(narrow.astype(array.dtype), array, equal_nan=True):
        raise InputError(name, "values representable in bfloat16", f"{array.dtype} values that bfloat16 would round")
    return narrow


def one_dtype(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Widen float arrays to the widest dtype among them; leave other arrays unchanged."""
    floats = {array.dtype for array in arrays.values() if array.dtype.kind == "f"}
    widest = max(floats, key=lambda dtype: dtype.itemsize)
    return {name: array.astype(widest, copy=False) if array.dtype.kind == "f" else array
            for name, array in arrays.items()}


def without_prefix(state_dict: Mapping[str, Any], anchor: str) -> dict[str, Any]:
    """Select the entries of one module from the state dict of a larger one, and strip their prefix.

    state_dict   name -> array
    anchor       an array name that the module always has; the prefix is the part before it
    returns      the entries with that prefix, or all entries if the anchor has no prefix or is missing. A log
                 message states how many entries were skipped
    raises       InputError if the anchor occurs with several prefixes

    >>> without_prefix({"model.a.weight": 1, "model.a.bias": 2}, "a.weight")
    {'a.weight': 1, 'a.bias': 2}
    """
    if not isinstance(state_dict, Mapping) or not all(isinstance(name, str) for name in state_dict):
        raise InputError("state_dict", "a dictionary mapping names to arrays", type(state_dict).__name__,
                         "pass a module's state_dict()")
    prefixes = sorted(name.removesuffix(anchor) for name in state_dict if f".{name}".endswith(f".{anchor}"))
    if not prefixes or "" in prefixes:
        return dict(state_dict)
    if len(prefixes) > 1:
        raise InputError("state_dict", "entries of one module", f"{anchor} under {' and '.join(prefixes)}",
                         "select the entries of one module")
    [prefix] = prefixes
    inside = {name.removeprefix(prefix): value for name, value in state_dict.items() if name.startswith(prefix)}
    if len(inside) < len(state_dict):
        LOG.warning("skipped %d of %d entries that are not under %s", len(state_dict) - len(inside), len(state_dict),
                    prefix)
    return inside


def take(remaining: dict[str, Any], key: str, shape: tuple[int, ...], our_name: str) -> np.ndarray:
    """Remove an entry and return it as a float array of this shape; errors also name our parameter, `our_name`."""
    if key not in remaining:
        others = f"{len(remaining)} other arrays, such as {min(remaining)}" if remaining else "none"
        raise InputError("state_dict", f"an array named {key}", others)
    name = f"state_dict {key} ({our_name})"
    array = exact_array(name, remaining.pop(key))
    check_shapes(**{name: (array, shape)})
    return array
