"""Golden vectors: frozen inputs and answers in files that any language can read.

    manifest.json            every case: op, arguments, stages, tolerance class, flags; the digest of each file
    integers.json            {key: {"dtype", "shape", "values"}}, values in C order
    floats-*.safetensors     the float arrays

A reader checks the schema first, then every digest, and only then looks at anything.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engram_ref.errors import InputError
from engram_ref.files import write_folder

SCHEMA = 1
MANIFEST, INTEGERS = "manifest.json", "integers.json"
GOLDEN = Path(__file__).parents[1] / "golden"
"""Where the vectors that ship with the package lie."""


@dataclass(frozen=True)
class Stage:
    """One expected array, and how near to it an answer must be: see oracle/compare.py."""

    name: str
    array: np.ndarray
    tolerance_class: str
    terms: int
    scale: np.ndarray | None


@dataclass(frozen=True)
class Case:
    """One call and its answers.

    op          a function of engram_ref.ops, or "addressing", "engram", "forward"
    arguments   by name, as JSON, arrays by their keys: see oracle/encoding.py
    stages      in the order they are computed; those named in `outputs` are what the call returns
    flags       which kind of bug a failure points to: see oracle/flags.py
    """

    name: str
    op: str
    dialect: str
    arguments: Mapping[str, object]
    stages: tuple[Stage, ...]
    outputs: tuple[str, ...]
    flags: tuple[str, ...]

    @property
    def traced(self) -> bool:
        """Are there stages that only a trace shows?"""
        return len(self.stages) > len(self.outputs)


@dataclass(frozen=True)
class Vectors:
    """A whole set: the arrays of all files by key, and the cases."""

    arrays: Mapping[str, np.ndarray]
    cases: tuple[Case, ...]


def read(folder: Path = GOLDEN) -> Vectors:
    """Read and check a folder of vectors.

    raises   InputError for a file that is missing, truncated or changed, or of a newer schema
    """
    manifest = read_manifest(folder)
    arrays: dict[str, np.ndarray] = {}
    for name, entry in manifest["files"].items():
        arrays |= read_arrays(folder / name, entry["sha256"])
    return Vectors(arrays, tuple(as_case(entry, arrays) for entry in manifest["cases"]))


def read_manifest(folder: Path) -> dict:
    """The manifest of a folder, its schema and its own digest checked."""
    manifest = parse_json(read_bytes(folder / MANIFEST), folder / MANIFEST)
    schema = manifest.get("schema") if isinstance(manifest, dict) else None
    if type(schema) is not int:
        raise InputError(f"file {folder / MANIFEST}", "a manifest of golden vectors", "no schema number")
    if schema > SCHEMA:
        raise InputError(f"file {folder / MANIFEST}", f"schema {SCHEMA}, which this version reads",
                         f"schema {schema}", "pip install -U engram_ref")
    if manifest.get("sha256") != manifest_digest(manifest):
        raise changed(folder / MANIFEST)
    return manifest


def manifest_digest(manifest: Mapping[str, object]) -> str:
    """sha256 of everything in the manifest but this digest itself, as sorted JSON."""
    rest = {key: value for key, value in manifest.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def read_arrays(path: Path, sha256: str) -> dict[str, np.ndarray]:
    """The arrays of one file whose digest is known."""
    data = read_bytes(path)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise changed(path)
    if path.suffix == ".json":
        return {key: from_json(entry) for key, entry in parse_json(data, path).items()}
    from safetensors.numpy import load

    return load(data)


def read_bytes(path: Path) -> bytes:
    """A whole file; InputError where it cannot be read."""
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:              # a zero byte or half a surrogate pair in a path
        raise InputError(f"file {path}", "a file of golden vectors", getattr(error, "strerror", error),
                         "engram-ref golden export writes a whole folder of them") from error


def parse_json(data: bytes, path: Path) -> object:
    """JSON, or an InputError that names the file."""
    try:
        return json.loads(data)
    except ValueError as error:
        raise InputError(f"file {path}", "whole JSON", str(error), "truncated?") from error


def changed(path: Path) -> InputError:
    """The refusal of a file whose digest is another."""
    return InputError(f"file {path}", "the digest in the manifest", "another", "changed or cut after it was written")


def from_json(entry: Mapping[str, object]) -> np.ndarray:
    """An array of integers.json; "bfloat16" are the numbers' bits, since JSON has no such number."""
    if entry["dtype"] != "bfloat16":
        return np.array(entry["values"], dtype=entry["dtype"]).reshape(entry["shape"])
    import ml_dtypes

    return np.array(entry["values"], dtype=np.uint16).view(ml_dtypes.bfloat16).reshape(entry["shape"])


def as_case(entry: Mapping, arrays: Mapping[str, np.ndarray]) -> Case:
    """One case of the manifest, its expected arrays looked up."""
    stages = tuple(Stage(s["name"], arrays[s["expected"]], s["class"], s.get("terms", 1),
                         arrays[s["scale"]].astype(np.float64) if "scale" in s else None) for s in entry["stages"])
    return Case(entry["name"], entry["op"], entry["dialect"], entry["arguments"], stages, tuple(entry["outputs"]),
                tuple(entry["flags"]))


def export(folder: Path) -> list[str]:
    """Write the vectors that ship to a new folder, completely or not at all.

    returns   the names of the files
    raises    InputError where the folder holds files already, or cannot be written
    """
    names = [MANIFEST, *read_manifest(GOLDEN)["files"]]
    write_folder(folder, {name: read_bytes(GOLDEN / name) for name in names})
    return names
