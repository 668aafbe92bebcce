"""Golden vectors: frozen inputs and answers in the files that docs/reference/golden.md describes.

`read` checks the version, then the digest of every file and the structure of the manifest, and finally that every
array, configuration, op and argument named in a case exists.
"""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from engram_ref import ops
from engram_ref.errors import InputError
from engram_ref.oracle.cases import Alternative, Case, Stage, Vectors
from engram_ref.oracle.compare import CLASSES
from engram_ref.oracle.encoding import as_configuration, decode_all
from engram_ref.oracle.folder import MANIFEST, named_in_errors, read_folder
from engram_ref.oracle.run import RUNNERS
from engram_ref.oracle.streams import check_steps
from engram_ref.oracle.structure import MANIFEST_FIELDS

SCHEMA = 4
GOLDEN = Path(__file__).resolve().parents[1] / "golden"
"""Folder of the vectors that ship with the package."""


def read(folder: Path = GOLDEN) -> Vectors:
    """Read and check a folder of vectors; raise InputError as `read_folder`, and for an invalid case."""
    manifest, arrays, _ = read_folder(folder, "schema", SCHEMA, MANIFEST_FIELDS)
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
    for key in (entry[field] for field in ("expected", "noise") if field in entry):
        if key not in arrays:
            raise InputError(place, f"an array named {key}", "none")
    expected, noise = arrays[entry["expected"]], arrays.get(entry.get("noise"))
    if entry["class"] not in CLASSES or (entry["class"] != "exact" and expected.dtype.kind != "f"):
        raise InputError(place, f"a class among {', '.join(CLASSES)} that fits {expected.dtype}", repr(entry["class"]))
    if noise is not None and (noise.dtype.kind != "f" or noise.shape != expected.shape):
        raise InputError(place, f"floating-point noise of shape {list(expected.shape)}",
                         f"{noise.dtype} {list(noise.shape)}")
    return Stage(entry["name"], expected, entry["class"], None if noise is None else noise.astype(np.float64))


def check_call(case: Case, vectors: Vectors) -> None:
    """Raise InputError if a case names an unknown op, argument or output."""
    function = RUNNERS.get(case.op) or (getattr(ops, case.op) if case.op in ops.NAMESPACE.names() else None)
    if function is None:
        raise InputError(f"case {case.name}", "a known op", repr(case.op))
    if not set(case.outputs) <= {stage.name for stage in case.stages}:
        raise InputError(f"case {case.name}", "outputs that are stages of the case", list(case.outputs))
    arguments = decode_all(case.arguments, vectors.arrays, vectors.configurations)
    try:
        inspect.signature(function).bind(*((None,) if case.op in RUNNERS else ()), **arguments)
    except TypeError as error:
        raise InputError(f"case {case.name}", f"arguments that {case.op} accepts", f"an error: {error}") from error
    if case.op.endswith("_stream"):
        check_steps(arguments["steps"])
