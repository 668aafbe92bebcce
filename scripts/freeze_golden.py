"""Write the golden vectors that ship with the package: engram_ref/golden/. Run by hand; the output is reproducible.

    python scripts/freeze_golden.py

The slow implementations in engram_ref/oracle/slow compute the answers, integers as Python integers and floats in
float64; engram_ref.ops in float64 computes the stages that these lack. Files are written only if the NumPy definition
agrees with every answer within its class. scripts/builders/ defines the cases.
"""

import hashlib
import importlib
import json
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from engram_ref import __version__  # noqa: E402
from engram_ref.files import write_whole  # noqa: E402
from engram_ref.oracle.compare import RULES  # noqa: E402
from engram_ref.oracle.encoding import as_json, manifest_json, one_per_line, resolved  # noqa: E402
from engram_ref.oracle.flags import FLAGS  # noqa: E402
from engram_ref.oracle.vectors import GOLDEN, INTEGERS, MANIFEST, SCHEMA, manifest_digest  # noqa: E402
from scripts.builders.planned import SEED, freeze  # noqa: E402

AREAS = ("integers", "elementwise", "codecs", "attention", "experts", "branches", "modules", "composites", "models",
         "solved")


class Store:
    """Collected arrays, parameters, configurations; equal inputs are stored once, and equal answers once per case."""

    def __init__(self):
        self.integers, self.floats, self.known, self.configurations, self.parameters = {}, {}, {}, {}, {}

    def reference(self, array, area, key, owner=""):
        """Store an array and return its key. `owner` is the case of an answer, whose keys all start with its name."""
        array = np.ascontiguousarray(array).reshape(np.shape(array))
        file = f"floats-{area}.safetensors" if array.dtype in (np.float32, np.float64) else INTEGERS
        content = (file, array.dtype.str, str(array.dtype), array.shape, array.tobytes(), owner)
        if content not in self.known:
            self.known[content] = key
            if file == INTEGERS:
                self.integers[key] = as_json(array)
            else:
                self.floats.setdefault(file, {})[key] = array
        return self.known[content]

    def configuration(self, config, key):
        """Store a configuration and return its key."""
        if config not in self.known:
            self.known[config] = key
            self.configurations[key] = resolved(config)
        return self.known[config]

    def named(self, parameters, key):
        """Store a dictionary of encoded arguments and return its key."""
        content = json.dumps(parameters)
        if content not in self.known:
            self.known[content] = key
            self.parameters[key] = parameters
        return self.known[content]

    def files(self):
        """Return {name: bytes} of all files."""
        from safetensors.numpy import save

        return {INTEGERS: one_per_line(self.integers)} | {name: save(arrays) for name, arrays in self.floats.items()}


def encoded(argument, store, area, key):
    """Encode one argument for engram_ref/oracle/encoding.py."""
    inside = lambda part, name: encoded(part, store, area, f"{key}/{name}")
    if isinstance(argument, np.ndarray):
        return {"array": store.reference(argument, area, key)}
    if isinstance(argument, dict):
        return {"parameters": store.named({name: inside(part, name) for name, part in argument.items()}, key)}
    if isinstance(argument, tuple):
        return {"tuple": [inside(part, i) for i, part in enumerate(argument)]}
    if isinstance(argument, list):
        return [inside(part, i) for i, part in enumerate(argument)]
    if isinstance(argument, type):
        return {"dtype": np.dtype(argument).name}
    if hasattr(argument, "__dataclass_fields__"):
        return {"configuration": store.configuration(argument, key)}
    return argument


def entry(frozen, store, area):
    """Return the manifest entry of one case."""
    planned = frozen.planned
    stages = encoded_stages(frozen.stages, planned.name, store, area, planned.name)
    accept = []
    for other, answer in frozen.accept:
        title = f"{planned.name}, {other.name}"
        accept.append({"name": other.name, "why": other.why,
                       "stages": encoded_stages(answer, title, store, area, planned.name)})
    arguments = {name: encoded(part, store, area, f"{planned.name}/{name}") for name, part in planned.arguments.items()}
    return {"name": planned.name, "op": planned.op, "dialect": planned.dialect, "kind": planned.kind_of_case,
            "result": planned.result, "flags": list(planned.flags),
            "answers": "slow" if planned.slow else "float64 ops" if planned.outputs else "none", "arguments": arguments,
            "outputs": list(planned.outputs), "stages": stages} | ({"accept": accept} if accept else {})


def encoded_stages(frozen, title, store, area, owner):
    """Store the arrays of the stages and return the manifest entries."""
    put = lambda array, key: store.reference(array, area, f"{title}{key}", owner)
    stages = []
    for name, array, tolerance_class, terms, scale in frozen:
        stage = {"name": name, "class": tolerance_class, "expected": put(array, f"={name}")}
        if scale is not None:
            stage |= {"terms": terms, "scale": put(narrowed(scale), f"~{name}")}
        stages.append(stage)
    return stages


def narrowed(scale):
    """Return a scale in float32 if that is in range; its precision does not matter."""
    narrow = scale.astype(np.float32)
    return narrow if np.array_equal(narrow > 0, scale > 0) and np.isfinite(narrow).all() else scale


def plan(area):
    """Return every case of an area."""
    module = importlib.import_module(f"scripts.builders.{area}")
    return [case for part in getattr(module, "AREA", None) or [module.cases] for case in part()]


def make(areas=AREAS):
    """Return {file name: bytes} of the vectors of some areas, including the manifest."""
    # compute the answers and collect the arrays
    store, cases = Store(), []
    for area in areas:
        cases += [entry(freeze(planned), store, area) for planned in plan(area)]
    names = [case["name"] for case in cases]
    assert len(set(names)) == len(names), "two cases with the same name"
    assert {flag for case in cases for flag in case["flags"]} <= set(FLAGS)
    # build the manifest
    files = store.files()
    data = manifest_json({
        "schema": SCHEMA, "sha256": "0" * 64, "seed": SEED,
        "versions": {"engram_ref": __version__, "numpy": np.__version__}, "classes": RULES, "flags": FLAGS,
        "files": {name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
                  for name, data in files.items()},
        "configurations": store.configurations, "parameters": store.parameters, "cases": cases})
    return {MANIFEST: data.replace(b"0" * 64, manifest_digest(data).encode(), 1)} | files


def main():
    """Write all files and print their sizes."""
    files = make()
    GOLDEN.mkdir(exist_ok=True)
    for name, data in files.items():
        write_whole(GOLDEN / name, data)
        print(f"{name:32} {len(data):>10,} bytes")


if __name__ == "__main__":
    main()
