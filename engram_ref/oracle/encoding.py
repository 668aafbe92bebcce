"""Encoding and decoding of the arguments, configurations and integers in JSON files.

docs/reference/golden.md lists their forms. Kits also have {"generated": [dtype, shape, seed, tensor, exponent]}, with
or without a list of rows at the end: see oracle/kit/generator.py.
"""

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from engram_ref import model_config
from engram_ref.addressing import addressing_of
from engram_ref.config import EngramConfig
from engram_ref.errors import InputError
from engram_ref.oracle.kit.generator import generate
from engram_ref.oracle.structure import HASHING, check_structure

CLASSES = {"EngramConfig": EngramConfig} | {
    name: getattr(model_config, name)
    for name in ("YarnConfig", "AttentionConfig", "ExpertsConfig", "HyperConfig", "BackboneConfig", "ModelConfig")}


def decode(argument: object, arrays: Mapping[str, np.ndarray], configurations: Mapping[str, object]) -> object:
    """Decode one argument, given the arrays of all files and the configurations from `as_configuration`.

    raises   InputError for an unknown form, array, configuration or dtype, or a generator's arguments
    """
    inside = lambda part: decode(part, arrays, configurations)
    if isinstance(argument, list):
        return [inside(part) for part in argument]
    if not isinstance(argument, dict):
        return argument
    match argument:
        case {"array": str(key)} if key in arrays:
            return arrays[key]
        case {"configuration": str(key)} if key in configurations:
            return configurations[key]
        case {"parameters": dict(named)}:
            return {name: inside(part) for name, part in named.items()}
        case {"tuple": list(parts)}:
            return tuple(map(inside, parts))
        case {"generated": [str(dtype), list(shape), *numbers]} if len(numbers) in (3, 4):
            return generate(dtype, shape, *numbers)
        case {"dtype": "float32" | "float64" as name}:
            return np.dtype(name).type
    raise InputError("argument", "an array, configuration, parameters, tuple or dtype of this manifest",
                     repr(argument)[:60])


def decode_all(arguments: Mapping[str, object], arrays: Mapping[str, np.ndarray],
               configurations: Mapping[str, object]) -> dict[str, object]:
    """Decode all arguments of a call, by name."""
    return {name: decode(argument, arrays, configurations) for name, argument in arguments.items()}


def as_configuration(entry: object) -> object:
    """Return the configuration that an entry describes.

    raises   InputError for an unknown class, a missing or unknown field, or values that the class rejects
    """
    if not isinstance(entry, dict):
        return entry
    name, values = entry.get("config"), entry.get("values")
    if name not in CLASSES or not isinstance(values, dict):
        raise InputError("config", f"one of the classes {', '.join(CLASSES)}, with values", repr(name))
    if name == "EngramConfig":
        check_structure(entry, {"hashing": HASHING}, name)
    expected = {field.name for field in fields(CLASSES[name])}
    wrong = sorted(expected ^ set(values))
    if wrong:
        found = f"{'no' if wrong[0] in expected else 'an additional'} field {wrong[0]}"
        raise InputError(name, "exactly the fields of this class", found)
    try:
        return CLASSES[name](**{field: as_configuration(value) for field, value in values.items()})
    except InputError:
        raise
    except Exception as error:      # the class compares some values before it checks their types
        raise InputError(name, "values of the documented types", f"an error: {error}") from error


def resolved(config: object) -> Any:
    """Return every field of a configuration as JSON; an EngramConfig also has the numbers derived from its fields."""
    if isinstance(config, tuple):
        return [resolved(part) for part in config]
    if type(config) not in CLASSES.values():
        return config
    values = {field.name: resolved(getattr(config, field.name)) for field in fields(config)}
    derived = {"hashing": hashing(config)} if isinstance(config, EngramConfig) else {}
    return {"config": type(config).__name__, "values": values} | derived


def hashing(config: EngramConfig) -> dict[str, Any]:
    """Return canonical pad and EOS ids, and the hash constants of each layer, as JSON."""
    addressing = addressing_of(config)
    layers = {str(layer): {"multipliers": addressing.multipliers[layer].tolist(),
                           "primes": addressing.primes[layer].tolist(), "offsets": addressing.offsets[layer].tolist(),
                           "table_rows": addressing.table_rows[layer]} for layer in config.layer_ids}
    return {"pad_id": addressing.pad_id, "eos_id": addressing.eos_id, "layers": layers}


def as_json(array: np.ndarray) -> dict[str, Any]:
    """Return the JSON entry of an array of integers, booleans or text; bfloat16 is stored as its bits."""
    dtype = "str" if array.dtype.kind == "U" else str(array.dtype)
    values = array.view(np.uint16) if dtype == "bfloat16" else array
    return {"dtype": dtype, "shape": list(array.shape), "values": values.ravel().tolist()}


def from_json(entry: Mapping[str, Any]) -> np.ndarray:
    """Return the array of a JSON entry, the inverse of `as_json`."""
    if entry["dtype"] != "bfloat16":
        return np.array(entry["values"], dtype=entry["dtype"]).reshape(entry["shape"])
    import ml_dtypes

    return np.array(entry["values"], dtype=np.uint16).view(ml_dtypes.bfloat16).reshape(entry["shape"])


def compact(value: object) -> str:
    """Return JSON on one line."""
    return json.dumps(value, separators=(",", ":"))


def one_per_line(entries: Mapping[str, object] | list) -> bytes:
    """Return a JSON object or list with one entry per line: readable, and small changes make small diffs."""
    if isinstance(entries, list):
        return ("[\n" + ",\n".join(map(compact, entries)) + "\n]\n").encode()
    lines = (f"{json.dumps(key)}: {json.dumps(value)}" for key, value in entries.items())
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def manifest_json(fields: Mapping[str, object]) -> bytes:
    """Return a manifest as JSON: every field that is an object or a list has one entry per line."""
    nested = lambda value: one_per_line(value).decode().rstrip() if isinstance(value, dict | list) else compact(value)
    return ("{\n" + ",\n".join(f"{json.dumps(name)}: {nested(value)}" for name, value in fields.items())
            + "\n}\n").encode()
