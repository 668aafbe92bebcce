"""Decoding of a manifest's arguments and configurations.

An argument of a case is one of

    {"array": key}                         the array with that key, from any file
    {"configuration": key}                 an entry of the manifest's "configurations"
    {"parameters": {name: argument, ...}}  a dictionary of arrays
    {"generated": [dtype, shape, seed, tensor, exponent]}, or with a list of rows at the end: oracle/kit/generator.py
    {"tuple": [argument, ...]}             a tuple; a JSON list stays a list
    {"dtype": "float32"}                   a dtype
    null, true, 1, 0.5, "text"             themselves

and a configuration is {"config": class, "values": {field: value}} with every field of the class; a field that is itself
a configuration is written in the same way. An EngramConfig also has "hashing", the numbers derived from its values: pad
and EOS as canonical ids, and per layer the multipliers, primes, offsets and number of stored rows.
"""

from collections.abc import Mapping
from dataclasses import fields

import numpy as np

from engram_ref import model_config
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
