"""Write a kit: its cases in both forms, constants, specification, README, and the digest of every file."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from engram_ref import __version__
from engram_ref.files import check_folder, write_folder
from engram_ref.oracle.cases import Case, Stage, Vectors
from engram_ref.oracle.encoding import as_json, manifest_json, one_per_line, resolved
from engram_ref.oracle.flags import FLAGS
from engram_ref.oracle.folder import INTEGERS, MANIFEST, SUMS, sums_of
from engram_ref.oracle.kit.cases import dialect_config, kit_cases
from engram_ref.oracle.kit.constants import constant_files
from engram_ref.oracle.kit.plain import case_text, configuration_text, parameters_text, path_in, path_of, raw_files
from engram_ref.oracle.kit.read import KIT_VERSION
from engram_ref.oracle.kit.readme import HEADER, README, RESULTS, TOLERANCE, document_files, header, readme
from engram_ref.oracle.noise import with_noise
from engram_ref.oracle.structure import KIT_FIELDS, json_schema
from engram_ref.oracle.vectors import read
from engram_ref.presets import preset, presets

ARRAYS, SCHEMA_FILE = "arrays.safetensors", "manifest.schema.json"


@dataclass(frozen=True)
class Written:
    """What `write_kit` wrote: the sha256 of SHA256SUMS, the number of cases by group, of files, and of bytes."""

    digest: str
    groups: Mapping[str, int]
    files: int
    bytes: int


def write_kit(folder: Path, dialect: str | None = None,
              progress: Callable[[int, int], None] = lambda done, total: None) -> Written:
    """Write a kit to a new or empty folder, completely or not at all.

    dialect    only the cases, constants and documents of this dialect, one of kit.cases.dialects(); None: of all
    progress   called with the number of finished cases and the total
    raises     InputError for an unknown dialect or a folder that cannot be written
    """
    check_folder(folder)
    config = None if dialect is None else dialect_config(dialect)
    vectors, cases = kit_cases(read(), config), []
    for case in vectors.cases:
        cases.append(with_noise(case, vectors))
        progress(len(cases), len(vectors.cases))
    constants = constant_files([config] if config else [preset(name) for name in presets()])
    documents = document_files(config, sorted({case.op for case in cases}))
    files = case_files(replace(vectors, cases=tuple(cases)), dialect or "", constants | documents)
    write_folder(folder, files)
    return Written(hashlib.sha256(files[SUMS]).hexdigest(), groups_of(cases), len(files), sum(map(len, files.values())))


class Store:
    """What the cases of a kit share, by key; equal arrays and parameters are stored once."""

    def __init__(self, vectors: Vectors):
        self.vectors, self.keys = vectors, {}
        self.arrays, self.noise, self.configurations, self.parameters = {}, {}, {}, {}

    def add(self, array: np.ndarray, key: str, noise: bool = False) -> str:
        """Store an array, unless an equal one is stored, and return its key."""
        array = np.ascontiguousarray(array).reshape(array.shape)        # safetensors writes other layouts wrongly
        content = (noise, array.dtype.str, array.dtype.name, array.shape, array.tobytes())
        key = self.keys.setdefault(content, key)
        (self.noise if noise else self.arrays).setdefault(key, array)
        return key

    def stage(self, stage: Stage, title: str) -> dict[str, str]:
        """Store the arrays of a stage and return its entry in the manifest."""
        noise = {} if stage.noise is None else {
            "noise": self.add(narrowed(stage.noise), f"{title}~{stage.name}", noise=True)}
        return {"name": stage.name, "class": stage.tolerance_class,
                "expected": self.add(stage.array, f"{title}={stage.name}")} | noise

    def argument(self, part: Any, key: str) -> Any:
        """Store the arrays and configurations of an argument and return it with their keys here."""
        if isinstance(part, list):
            return [self.argument(inner, key) for inner in part]
        match part:
            case {"array": str(name)}:
                return {"array": self.add(self.vectors.arrays[name], name)}
            case {"configuration": str(name)}:
                self.configurations[name] = resolved(self.vectors.configurations[name])
            case {"parameters": dict(named)}:
                stored = {name: self.argument(inner, key) for name, inner in named.items()}
                key = self.keys.setdefault(json.dumps(stored), key)
                self.parameters[key] = stored
                return {"parameters": key}
            case dict():
                return {name: self.argument(inner, key) for name, inner in part.items()}
        return part


def case_files(vectors: Vectors, dialect: str, files: dict[str, bytes]) -> dict[str, bytes]:
    """Return {path: content} of a whole kit, given its constants and documents."""
    from safetensors.numpy import save

    # entries of the manifest, and what they share
    store = Store(vectors)
    entries = [entry_of(case, store) for case in vectors.cases]
    manifest = {"kit": KIT_VERSION, "engram_ref": __version__, "dialect": dialect, "groups": groups_of(vectors.cases),
                "flags": {flag: FLAGS[flag] for flag in FLAGS if any(flag in case.flags for case in vectors.cases)},
                "results": RESULTS, "tolerance": TOLERANCE, "configurations": store.configurations,
                "parameters": store.parameters, "cases": entries}
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | json_schema(KIT_FIELDS)
    # JSON and safetensors
    floats = {key: array for key, array in store.arrays.items() if array.dtype in (np.float32, np.float64)}
    integers = {key: as_json(array) for key, array in store.arrays.items() if key not in floats}
    files |= {README: readme(manifest), HEADER: header(), MANIFEST: manifest_json(manifest),
              INTEGERS: one_per_line(integers), SCHEMA_FILE: json.dumps(schema, indent=1).encode(),
              ARRAYS: save(floats | store.noise)}
    # the plain form
    raw, located = raw_files(store.arrays, "arrays")
    files |= raw | {f"cases/{path_of(entry['name'])}/case.txt": case_text(entry, located) for entry in entries}
    files |= {path_in("configurations", key): configuration_text(entry) for key, entry in store.configurations.items()}
    files |= {path_in("parameters", key): parameters_text(entry, located) for key, entry in store.parameters.items()}
    files["cases/index.txt"] = "".join(f"{case.name}\n" for case in vectors.cases).encode()
    return files | {SUMS: sums_of(files)}


def narrowed(noise: np.ndarray) -> np.ndarray:
    """Return noise rounded up to float16, or to float32 if that is out of range, or else in float64."""
    for dtype in (np.float16, np.float32):
        limits = np.finfo(dtype)
        if ((noise == 0) | ((noise >= limits.tiny) & (noise < limits.max))).all():
            narrow = noise.astype(dtype)
            return np.where(narrow < noise, np.nextafter(narrow, dtype(np.inf)), narrow)
    return noise


def groups_of(cases: list[Case] | tuple[Case, ...]) -> dict[str, int]:
    """Return the number of cases by group."""
    return dict(sorted(Counter(case.group for case in cases).items()))


def entry_of(case: Case, store: Store) -> dict[str, Any]:
    """Store the arrays of a case and return its entry in the manifest."""
    entry = {"name": case.name, "op": case.op, "dialect": case.dialect, "kind": case.kind, "result": case.result,
             "group": case.group, "flags": list(case.flags),
             "arguments": {name: store.argument(part, f"{case.name}/{name}") for name, part in case.arguments.items()},
             "outputs": list(case.outputs), "stages": [store.stage(stage, case.name) for stage in case.stages]}
    accept = [{"name": other.name, "why": other.why, "stages": [store.stage(stage, f"{case.name}, {other.name}")
                                                                for stage in other.stages]} for other in case.accept]
    return entry | ({"accept": accept} if accept else {})
