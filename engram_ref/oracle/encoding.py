"""Arguments of a case as JSON: what a port author reads, and what is handed to the function.

    {"array": key}                         the array of that key, in whichever file it lies
    {"parameters": {name: argument, ...}}  a dictionary of arrays
    {"tuple": [argument, ...]}             a tuple; a JSON list stays a list
    {"dtype": "float32"}                   a dtype
    {"config": class, "values": {...}}     a configuration; an EngramConfig names the preset it varies
    null, true, 1, 0.5, "text"             themselves
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from engram_ref import model_config
from engram_ref.presets import preset


def decode(argument: object, arrays: Mapping[str, np.ndarray]) -> object:
    """One argument as Python holds it; `arrays` are those of all files, by key."""
    if isinstance(argument, list):
        return [decode(part, arrays) for part in argument]
    if not isinstance(argument, dict):
        return argument
    if "array" in argument:
        return arrays[argument["array"]]
    if "parameters" in argument:
        return {name: decode(part, arrays) for name, part in argument["parameters"].items()}
    if "tuple" in argument:
        return tuple(decode(part, arrays) for part in argument["tuple"])
    if "dtype" in argument:
        return np.dtype(argument["dtype"]).type
    values = {name: decode(part, arrays) for name, part in argument["values"].items()}
    if argument["config"] == "EngramConfig":
        return dataclasses.replace(preset(argument["preset"]), **values)
    return getattr(model_config, argument["config"])(**values)


def decode_all(arguments: Mapping[str, object], arrays: Mapping[str, np.ndarray]) -> dict[str, object]:
    """All arguments of a call, by name."""
    return {name: decode(argument, arrays) for name, argument in arguments.items()}
