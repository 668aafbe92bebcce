"""Golden vectors: frozen inputs and answers in the files that docs/reference/golden.md describes.

`read` checks the schema first, then the manifest's own digest and structure, then the digest of every file, and
finally that every array, configuration, op and argument named in a case exists.
"""

import hashlib
import inspect
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from engram_ref import ops
from engram_ref.errors import InputError
from engram_ref.oracle.cases import Alternative, Case, Stage, Vectors
from engram_ref.oracle.compare import CLASSES
from engram_ref.oracle.encoding import as_configuration, decode_all, from_json
from engram_ref.oracle.run import RUNNERS
from engram_ref.oracle.streams import check_steps
from engram_ref.oracle.structure import HINT, INTEGERS_FIELDS, MANIFEST_FIELDS, check_structure

SCHEMA = 2
MANIFEST, INTEGERS = "manifest.json", "integers.json"
DIGEST = b'"sha256": "'
"""What precedes the manifest's own digest; the digests of the other files come later."""

GOLDEN = Path(__file__).parents[1] / "golden"
"""Folder of the vectors that ship with the package."""


def read(folder: Path = GOLDEN) -> Vectors:
    """Read and check a folder of vectors.

    raises   InputError for a file that is missing, truncated, changed or incomplete, or has the wrong schema
    """
    manifest, arrays = read_manifest(folder), {}
    for name, entry in manifest["files"].items():
        path = folder / name
        data = read_bytes(path)
        if hashlib.sha256(data).hexdigest() != entry["sha256"]:
            raise changed(path)
        arrays |= as_arrays(data, path)
    return as_vectors(manifest, arrays, folder / MANIFEST)


def as_vectors(manifest: Mapping, arrays: Mapping[str, np.ndarray], path: Path) -> Vectors:
    """Return the cases of a manifest; raise InputError if a case or a configuration is invalid."""
    with named_in_errors(path):
        configurations = {key: as_configuration(entry) for key, entry in manifest["configurations"].items()}
        cases = tuple(as_case(entry, arrays, manifest["parameters"]) for entry in manifest["cases"])
        vectors = Vectors(arrays, configurations, cases)
        for case in vectors.cases:
            check_call(case, vectors)
    return vectors


def read_manifest(folder: Path) -> dict:
    """Read the manifest of a folder and check its schema, its own digest and its structure."""
    path = folder / MANIFEST
    data = read_bytes(path)
    manifest = parse_json(data, path)
    schema = manifest.get("schema") if isinstance(manifest, dict) else None
    if type(schema) is not int:
        raise InputError(f"file {path}", "a manifest with a schema number", "none")
    if schema != SCHEMA:
        raise InputError(f"file {path}", f"schema {SCHEMA}", f"schema {schema}",
                         "pip install -U engram_ref" if schema > SCHEMA else HINT)
    if manifest.get("sha256") != manifest_digest(data):
        raise changed(path)
    check_structure(manifest, MANIFEST_FIELDS, f"file {path}")
    for name in manifest["files"]:
        if Path(name).name != name:
            raise InputError(f"file {path}", "names of files in the same folder", repr(name))
    return manifest


def manifest_digest(data: bytes) -> str:
    """Return the sha256 of the bytes of a manifest in which the 64 characters after DIGEST are zeros."""
    before, found, after = data.partition(DIGEST)
    return hashlib.sha256(before + found + b"0" * len(after[:64]) + after[64:]).hexdigest()


def as_arrays(data: bytes, path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of one file, JSON or safetensors."""
    if path.suffix == ".json":
        entries = parse_json(data, path)
        check_structure(entries, INTEGERS_FIELDS, f"file {path}")
        with named_in_errors(path):
            return {key: from_json(entry) for key, entry in entries.items()}
    from safetensors.numpy import load

    with named_in_errors(path):
        return load(data)


@contextmanager
def named_in_errors(path: Path, expected: str = "complete golden vectors", hint: str = HINT,
                    named: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Convert any error about a file's content to an InputError that names the file; those of `named` already do."""
    try:
        yield
    except named:
        raise
    except Exception as error:      # numpy, safetensors, json and the configurations raise different types
        raise InputError(f"file {path}", expected, f"an error: {error}", hint) from error


def read_bytes(path: Path) -> bytes:
    """Read a whole file; raise InputError if it cannot be read."""
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:              # a zero byte or half a surrogate pair in a path
        raise InputError(f"file {path}", "a readable file of golden vectors",
                         f"an error: {getattr(error, 'strerror', error)}", HINT) from error


def parse_json(data: bytes, path: Path) -> object:
    """Parse JSON; raise an InputError that names the file if the JSON is invalid or repeats a name in an object."""
    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len(named := dict(pairs)) < len(pairs):
            raise ValueError(f"{Counter(name for name, _ in pairs).most_common(1)[0][0]!r} is repeated")
        return named

    try:
        return json.loads(data, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise InputError(f"file {path}", "valid JSON", f"an error: {error}", "is it truncated?") from error


def changed(path: Path) -> InputError:
    """Return the error for a file whose digest differs from the manifest's."""
    return InputError(f"file {path}", "the digest in the manifest", "a different digest",
                      "was it changed or truncated?")


def expanded(arguments: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments with the dictionaries of parameters that they name."""
    named = lambda part: isinstance(part, dict) and part.get("parameters") in parameters
    return {name: {"parameters": parameters[part["parameters"]]} if named(part) else part
            for name, part in arguments.items()}


def as_case(entry: Mapping, arrays: Mapping[str, np.ndarray], parameters: Mapping[str, Any]) -> Case:
    """Return one case of the manifest with its expected arrays."""
    stages = tuple(as_stage(stage, entry["name"], arrays) for stage in entry["stages"])
    accept = []
    for other in entry.get("accept", ()):
        replaced = {stage["name"]: as_stage(stage, entry["name"], arrays) for stage in other["stages"]}
        accept.append(Alternative(other["name"], other["why"],
                                  tuple(replaced.get(stage.name, stage) for stage in stages)))
    return Case(entry["name"], entry["op"], entry["dialect"], expanded(entry["arguments"], parameters), stages,
                tuple(entry["outputs"]), tuple(entry["flags"]), tuple(accept), entry["kind"], entry["result"])


def as_stage(entry: Mapping, case: str, arrays: Mapping[str, np.ndarray]) -> Stage:
    """Return one stage; raise InputError for an array that is missing or does not suit its class."""
    place = f"case {case}, stage {entry['name']}"
    for key in (entry[field] for field in ("expected", "scale", "noise") if field in entry):
        if key not in arrays:
            raise InputError(place, f"an array named {key}", "none")
    expected, *measured = (arrays.get(entry.get(field)) for field in ("expected", "scale", "noise"))
    if entry["class"] not in CLASSES or (entry["class"] != "exact" and expected.dtype.kind != "f"):
        raise InputError(place, f"a class among {', '.join(CLASSES)} that fits {expected.dtype}", repr(entry["class"]))
    for array in measured:
        if array is not None and (array.dtype.kind != "f" or array.shape != expected.shape):
            raise InputError(place, f"floating-point scale and noise of shape {list(expected.shape)}",
                             f"{array.dtype} {list(array.shape)}")
    scale, noise = (None if array is None else array.astype(np.float64) for array in measured)
    return Stage(entry["name"], expected, entry["class"], entry.get("terms", 1), scale, noise)


def check_call(case: Case, vectors: Vectors) -> None:
    """Raise InputError if a case names an unknown op, argument or output."""
    function = RUNNERS.get(case.op) or (getattr(ops, case.op) if case.op in ops.__all__ else None)
    if function is None:
        raise InputError(f"case {case.name}", "a known op", repr(case.op))
    if not set(case.outputs) <= {stage.name for stage in case.stages}:
        raise InputError(f"case {case.name}", "outputs that are stages of the case", list(case.outputs))
    arguments = decode_all(case.arguments, vectors.arrays, vectors.configurations)
    try:
        inspect.signature(function).bind(*((None,) if case.op in RUNNERS else ()), **arguments)
    except TypeError as error:
        raise InputError(f"case {case.name}", f"arguments that {case.op} accepts", f"an error: {error}") from error
    if "steps" in arguments:
        check_steps(arguments["steps"])
