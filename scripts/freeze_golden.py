"""Write the golden vectors that ship with the package: engram_ref/golden/. Run by hand; the output is reproducible.

    python scripts/freeze_golden.py

The slow implementations in engram_ref/oracle/slow compute the answers, integers as Python integers and floats in
float64; engram_ref.ops in float64 computes the stages that these lack. Files are written only if the NumPy definition
agrees with every answer within its noise. scripts/builders/ defines the cases.
"""

import importlib
import json
import sys
import zlib
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from engram_ref import __version__  # noqa: E402
from engram_ref.files import write_whole  # noqa: E402
from engram_ref.oracle.compare import CLASSES  # noqa: E402
from engram_ref.oracle.encoding import as_json, manifest_json, one_per_line, resolved  # noqa: E402
from engram_ref.oracle.flags import FLAGS  # noqa: E402
from engram_ref.oracle.folder import INTEGERS, MANIFEST, SHORT, SUMS, lengthened, sums_of  # noqa: E402
from engram_ref.oracle.kit.write import narrowed  # noqa: E402
from engram_ref.oracle.vectors import GOLDEN, SCHEMA  # noqa: E402
from scripts.builders.planned import SEED, freeze  # noqa: E402

AREAS = ("integers", "elementwise", "codecs", "attention", "experts", "branches", "modules", "composites", "models",
         "solved", "gradients", "whole_gradients", "updates")


def shortened(array):
    """Return the upper 16 bits of every number as a float32, uint16 [...]."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(array.astype(np.float32).view(np.uint32) >> 16, dtype=np.uint16)


def is_short(array):
    """Return whether these 16 bits are the whole array."""
    return lengthened(shortened(array)).tobytes() == array.tobytes()


class Store:
    """Collected arrays, parameters, configurations; equal inputs are stored once, and equal answers once per case."""

    def __init__(self):
        self.integers, self.short, self.floats, self.known = {}, {}, {}, {}
        self.configurations, self.parameters = {}, {}

    def reference(self, array, area, key, owner=""):
        """Store an array and return its key. `owner` is the case of an answer, whose keys all start with its name."""
        array = np.ascontiguousarray(array).reshape(np.shape(array))
        file = f"floats-{area}.safetensors" if array.dtype in (np.float16, np.float32, np.float64) else INTEGERS
        file = SHORT if array.dtype == np.float64 and is_short(array) else file
        content = (file, array.dtype.str, str(array.dtype), array.shape, array.tobytes(), owner)
        if content not in self.known:
            self.known[content] = key
            if file == INTEGERS:
                self.integers[key] = as_json(array)
            elif file == SHORT:
                self.short[key] = shortened(array)
            else:
                assert key not in self.floats.setdefault(file, {}), f"two arrays named {key}"
                self.floats[file][key] = array
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

        floats = self.floats | {SHORT: self.short}
        return {INTEGERS: one_per_line(self.integers)} | {name: save(arrays) for name, arrays in floats.items()}


def encoded(argument, store, area, key):
    """Return an argument of a frozen case with the keys of its arrays, parameters and configurations."""
    inside = lambda part, name: encoded(part, store, area, f"{key}/{name}")
    if isinstance(argument, np.ndarray):
        return {"array": store.reference(argument, area, key)}
    if isinstance(argument, list):
        return [inside(part, i) for i, part in enumerate(argument)]
    if isinstance(argument, dict) and "parameters" in argument:
        return {"parameters": store.named({name: inside(part, name) for name, part in argument["parameters"].items()},
                                          key)}
    if isinstance(argument, dict) and "tuple" in argument:
        return {"tuple": [inside(part, i) for i, part in enumerate(argument["tuple"])]}
    if hasattr(argument, "__dataclass_fields__"):
        return {"configuration": store.configuration(argument, key)}
    return argument


def entry(planned, store, area):
    """Freeze one case and return its manifest entry."""
    case = freeze(planned)
    accept = [{"name": other.name, "why": other.why,
               "stages": encoded_stages(other.stages, f"{case.name}, {other.name}", store, area, case.name)}
              for other in case.accept]
    return {"name": case.name, "op": case.op, "dialect": case.dialect, "kind": case.kind, "result": case.result,
            "flags": list(case.flags),
            "answers": "slow" if planned.slow else "float64 ops" if case.outputs else "none",
            "arguments": {name: encoded(part, store, area, f"{case.name}/{name}")
                          for name, part in case.arguments.items()},
            "outputs": list(case.outputs),
            "stages": encoded_stages(case.stages, case.name, store, area, case.name)} | (
                {"accept": accept} if accept else {})


def encoded_stages(stages, title, store, area, owner):
    """Store the arrays of the stages and return the manifest entries."""
    put = lambda array, key: store.reference(array, area, key, owner)
    short = lambda name: f"~{zlib.crc32(f'{title}={name}'.encode()):08x}"          # thousands of names would add 5%
    return [{"name": stage.name, "class": stage.tolerance_class, "expected": put(stage.array, f"{title}={stage.name}")}
            | ({} if stage.noise is None else {"noise": put(narrowed(stage.noise), short(stage.name))})
            for stage in stages]


def plan(area):
    """Return every case of an area."""
    module = importlib.import_module(f"scripts.builders.{area}")
    return [case for part in getattr(module, "AREA", None) or [module.cases] for case in part()]


def make(areas=AREAS):
    """Return {file name: bytes} of the vectors of some areas, including the manifest."""
    store, cases = Store(), []
    for area in areas:
        cases += [entry(planned, store, area) for planned in plan(area)]
    names = [case["name"] for case in cases]
    assert len(set(names)) == len(names), "two cases with the same name"
    assert {flag for case in cases for flag in case["flags"]} <= set(FLAGS)
    files = store.files() | {MANIFEST: manifest_json({
        "schema": SCHEMA, "seed": SEED, "versions": {"engram_ref": __version__, "numpy": np.__version__},
        "classes": CLASSES, "flags": FLAGS, "configurations": store.configurations, "parameters": store.parameters,
        "cases": cases})}
    return files | {SUMS: sums_of(files)}


def main():
    """Write all files and print their sizes."""
    files = make()
    GOLDEN.mkdir(exist_ok=True)
    for name, data in files.items():
        write_whole(GOLDEN / name, data)
        print(f"{name:32} {len(data):>10,} bytes")


if __name__ == "__main__":
    main()
