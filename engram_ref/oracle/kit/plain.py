"""The plain form of a kit, for languages without JSON or safetensors: text lines, and raw arrays in one file each.

README.md of a kit, which is written from this package's template, has the grammar.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

DTYPES = {"float64": "f64", "float32": "f32", "bfloat16": "bf16", "float16": "f16", "int64": "i64", "int32": "i32",
          "uint8": "u8", "bool": "bool"}
"""NumPy's name of a dtype -> the word in file names and lines."""

Located = Mapping[str, str]
"""Key of an array -> its dtype, shape and path, as in a line."""


def shape_text(shape: tuple[int, ...] | list[int]) -> str:
    """Return a shape as one word.

    >>> shape_text((2, 3)), shape_text(())
    ('2x3', 'scalar')
    """
    return "x".join(map(str, shape)) or "scalar"


def path_of(key: str) -> str:
    """Return a key as a path without spaces or characters that a file system or a shell treats specially."""
    return re.sub(r"[^\w./=~^+-]+", "-", key)


def raw_files(arrays: Mapping[str, np.ndarray], folder: str) -> tuple[dict[str, bytes], dict[str, str]]:
    """Return {path: content} of arrays in C order, little-endian, and {key: dtype, shape and path}.

    Paths are distinct even if a file system ignores case. Text is stored as UTF-8, one element per line.
    """
    files: dict[str, bytes] = {}
    located, taken = {}, set()
    for key, array in arrays.items():
        text = array.dtype.kind == "U"
        word = "str" if text else DTYPES[array.dtype.name]
        kind, name = f"{word}.{shape_text(array.shape)}.{'txt' if text else 'bin'}", f"{folder}/{path_of(key)}"
        while f"{name}.{kind}".lower() in taken:
            name += "+"
        path = f"{name}.{kind}"
        taken.add(path.lower())
        little = array if text or array.dtype.kind == "V" else array.astype(array.dtype.newbyteorder("<"))
        files[path] = "\n".join(array.ravel()).encode() if text else np.ascontiguousarray(little).tobytes()
        located[key] = f"{word} {shape_text(array.shape)} {path}"
    return files, located


def case_text(case: Mapping[str, Any], located: Located) -> bytes:
    """Return case.txt of a case of the manifest."""
    lines = [f"{field} {case[field]}" for field in ("name", "op", "dialect", "kind", "result") if case[field]]
    lines += [f"flag {flag}" for flag in case["flags"]]
    for name, argument in case["arguments"].items():
        lines += argument_lines("argument", name, argument, located)
    lines += stage_lines(case["stages"], case["outputs"], located)
    for other in case.get("accept", ()):
        lines += [f"accept {other['name']}", *stage_lines(other["stages"], case["outputs"], located)]
    return "".join(f"{line}\n" for line in lines).encode()


def parameters_text(named: Mapping[str, Any], located: Located) -> bytes:
    """Return the lines of the arrays in an argument named "parameters"."""
    lines = (line for name, part in named.items() for line in argument_lines("parameter", name, part, located))
    return "".join(f"{line}\n" for line in lines).encode()


def argument_lines(word: str, name: str, argument: Any, located: Located) -> Iterator[str]:
    """Yield the lines of one argument, in the JSON form that README.md of a kit describes."""
    parts = argument.get("tuple") if isinstance(argument, dict) else argument
    if isinstance(parts, list):
        if name == "steps":
            yield from (f"step {words([counted(word) for word in step])}" for step in parts)
        elif any(isinstance(part, dict) for part in parts):
            for i, part in enumerate(parts):
                yield from argument_lines(word, f"{name}.{i}", part, located)
        else:
            yield f"value {name} {words(parts)}".rstrip()
        return
    match argument:
        case {"array": key}:
            yield f"{word} {name} {located[key]}"
        case {"parameters": key}:
            yield f"parameters {path_in('parameters', key)}"
        case {"configuration": key}:
            yield f"config {name} {path_in('configurations', key)}"
        case {"dtype": dtype}:
            yield f"value {name} {DTYPES[dtype]}"
        case {"generated": [dtype, shape, *numbers]}:
            yield f"generated {name} {DTYPES[dtype]} {shape_text(shape)} {words(numbers)}"
        case _:
            yield f"value {name} {words([argument])}"


def counted(part: Any) -> Any:
    """Return a list of lists as one list, in which each is preceded by its length; anything else unchanged."""
    nested = isinstance(part, list) and part and isinstance(part[0], list)
    return [word for inner in part for word in (len(inner), *inner)] if nested else part


def stage_lines(stages: list[Mapping[str, str]], outputs: list[str], located: Located) -> Iterator[str]:
    """Yield the lines of the expected arrays: `output` for those that the call returns, `stage` for the others."""
    for stage in stages:
        word = "output" if stage["name"] in outputs else "stage"
        yield f"{word} {stage['name']} {located[stage['expected']]} {stage['class']}"


def words(parts: list) -> str:
    """Return numbers and text, possibly in nested lists, as words: text with other characters than [A-Za-z0-9_.-] is
    quoted as in JSON.

    >>> words(["main", "feed", 2, [1, 2]]), words(["main", "prefix", [[7], [8, 9]]]), words([None, True, 1e-20, "a b"])
    ('main feed 2 1 2', 'main prefix [7] [8,9]', 'null true 1e-20 "a b"')
    """
    flat = [word for part in parts for word in (part if isinstance(part, list | tuple) else [part])]
    return " ".join(part if isinstance(part, str) and re.fullmatch(r"[A-Za-z0-9_.-]+", part) else
                    json.dumps(part, separators=(",", ":")) for part in flat)


def path_in(folder: str, key: str) -> str:
    """Return the path of a text file in the plain form."""
    return f"{folder}/{path_of(key)}.txt"


def configuration_text(entry: Mapping[str, Any]) -> bytes:
    """Return a configuration as lines, one field each: its name, which contains the names of its owners, and value."""
    return "".join(f"{line}\n" for line in field_lines("", entry)).encode()


def field_lines(owner: str, entry: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of one configuration, or of one dictionary in it."""
    for field, value in (entry.get("values", {}) | {k: v for k, v in entry.items() if k != "values"}).items():
        if isinstance(value, Mapping):
            yield from field_lines(f"{owner}{field}.", value)
        elif isinstance(value, list) and value and isinstance(value[0], list):
            yield from (f"{owner}{field}.{i} {words(part)}" for i, part in enumerate(value))
        else:
            yield f"{owner}{field} {value if isinstance(value, str) else words(listed(value))}".rstrip()


def listed(value: object) -> list:
    """Return a list as it is, and any other value as a list of one."""
    return value if isinstance(value, list) else [value]
