"""Write the golden vectors that ship: engram_ref/golden/. Run by hand; the same bytes every time.

    python scripts/freeze_golden.py

Integers are computed by the slow implementations of engram_ref/oracle/slow on Python's own integers, floats by
those in float64, or, for stages that have none, by engram_ref.ops in float64. The NumPy definition must meet every
answer within its class, or nothing is written. What a case is made of: engram_ref/oracle/builders/.
"""

import hashlib
import importlib
import json
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from engram_ref import __version__  # noqa: E402
from engram_ref.addressing import addressing_of  # noqa: E402
from engram_ref.config import EngramConfig  # noqa: E402
from engram_ref.files import write_whole  # noqa: E402
from engram_ref.oracle.builders.planned import SEED, freeze  # noqa: E402
from engram_ref.oracle.compare import RULES  # noqa: E402
from engram_ref.oracle.flags import FLAGS  # noqa: E402
from engram_ref.oracle.vectors import GOLDEN, INTEGERS, MANIFEST, SCHEMA, manifest_digest  # noqa: E402

AREAS = ("integers", "elementwise", "codecs", "attention", "experts", "branches", "modules", "composites", "models")


class Store:
    """Arrays and configurations on their way to files; what is stored already is not stored twice."""

    def __init__(self):
        self.integers, self.floats, self.known, self.configurations = {}, {}, {}, {}

    def reference(self, array, area, key):
        """The key of an array, in whichever file it lies."""
        array = np.ascontiguousarray(array).reshape(np.shape(array))
        file = f"floats-{area}.safetensors" if array.dtype in (np.float32, np.float64) else INTEGERS
        content = (file, array.dtype.str, str(array.dtype), array.shape, array.tobytes())
        if content not in self.known:
            self.known[content] = key
            if file == INTEGERS:
                self.integers[key] = as_json(array)
            else:
                self.floats.setdefault(file, {})[key] = array
        return self.known[content]

    def configuration(self, config, key):
        """The key of a configuration."""
        if config not in self.known:
            self.known[config] = key
            self.configurations[key] = resolved(config)
        return self.known[config]

    def files(self):
        """{name: bytes} of everything stored."""
        from safetensors.numpy import save

        return {INTEGERS: one_a_line(self.integers)} | {name: save(arrays) for name, arrays in self.floats.items()}


def as_json(array):
    """An array of integers, booleans or words; bfloat16 as its bits."""
    dtype = "str" if array.dtype.kind == "U" else str(array.dtype)
    values = array.view(np.uint16) if dtype == "bfloat16" else array
    return {"dtype": dtype, "shape": list(array.shape), "values": values.ravel().tolist()}


def one_a_line(entries):
    """JSON with one entry a line: readable, and small changes make small differences."""
    return ("{\n" + ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in entries.items())
            + "\n}\n").encode()


def encoded(argument, store, area, key):
    """One argument as engram_ref/oracle/encoding.py reads it."""
    inside = lambda part, name: encoded(part, store, area, f"{key}/{name}")
    if isinstance(argument, np.ndarray):
        return {"array": store.reference(argument, area, key)}
    if isinstance(argument, dict):
        return {"parameters": {name: inside(part, name) for name, part in argument.items()}}
    if isinstance(argument, tuple):
        return {"tuple": [inside(part, i) for i, part in enumerate(argument)]}
    if isinstance(argument, list):
        return [inside(part, i) for i, part in enumerate(argument)]
    if isinstance(argument, type):
        return {"dtype": np.dtype(argument).name}
    if hasattr(argument, "__dataclass_fields__"):
        return {"configuration": store.configuration(argument, key)}
    return argument


def resolved(config):
    """Every field of a configuration with its value; of an Engram dialect also the numbers that follow from them."""
    if isinstance(config, tuple):
        return [resolved(part) for part in config]
    if not hasattr(config, "__dataclass_fields__"):
        return config
    values = {field.name: resolved(getattr(config, field.name)) for field in fields(config)}
    derived = {"hashing": hashing(config)} if isinstance(config, EngramConfig) else {}
    return {"config": type(config).__name__, "values": values} | derived


def hashing(config):
    """Canonical pad and EOS ids, and per layer the constants of its hash."""
    addressing = addressing_of(config)
    layers = {str(layer): {"multipliers": addressing.multipliers[layer].tolist(),
                           "primes": addressing.primes[layer].tolist(), "offsets": addressing.offsets[layer].tolist(),
                           "table_rows": addressing.table_rows[layer]} for layer in config.layer_ids}
    return {"pad_id": addressing.pad_id, "eos_id": addressing.eos_id, "layers": layers}


def entry(frozen, store, area):
    """One case of the manifest."""
    planned = frozen.planned
    stages = encoded_stages(frozen.stages, planned.name, store, area)
    accept = [{"name": other.name, "why": other.why,
               "stages": encoded_stages(answer, f"{planned.name}, {other.name}", store, area)}
              for other, answer in frozen.accept]
    arguments = {name: encoded(part, store, area, f"{planned.name}/{name}") for name, part in planned.arguments.items()}
    return {"name": planned.name, "op": planned.op, "dialect": planned.dialect, "flags": list(planned.flags),
            "answers": "slow" if planned.slow else "float64 ops", "arguments": arguments,
            "outputs": list(planned.outputs), "stages": stages} | ({"accept": accept} if accept else {})


def encoded_stages(frozen, title, store, area):
    """Stages as the manifest lists them, their arrays stored."""
    stages = []
    for name, array, tolerance_class, terms, scale in frozen:
        stage = {"name": name, "class": tolerance_class, "expected": store.reference(array, area, f"{title}={name}")}
        if scale is not None:
            stage |= {"terms": terms, "scale": store.reference(narrowed(scale), area, f"{title}~{name}")}
        stages.append(stage)
    return stages


def narrowed(scale):
    """A scale in float32, where that keeps it: only its size matters."""
    narrow = scale.astype(np.float32)
    return narrow if np.array_equal(narrow > 0, scale > 0) and np.isfinite(narrow).all() else scale


def plan(area):
    """Every case of an area."""
    return [case for part in importlib.import_module(f"engram_ref.oracle.builders.{area}").AREA for case in part()]


def make(areas=AREAS):
    """{file name: bytes} of the vectors of some areas, manifest included."""
    store, cases = Store(), []
    for area in areas:
        cases += [entry(freeze(planned), store, area) for planned in plan(area)]
    names = [case["name"] for case in cases]
    assert len(set(names)) == len(names), "two cases of one name"
    assert {flag for case in cases for flag in case["flags"]} <= set(FLAGS)
    files = store.files()
    manifest = {"schema": SCHEMA, "seed": SEED, "versions": {"engram_ref": __version__, "numpy": np.__version__},
                "classes": RULES, "flags": FLAGS,
                "files": {name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
                          for name, data in files.items()}}
    lists = {"configurations": store.configurations, "cases": cases}
    head = json.dumps(manifest | {"sha256": manifest_digest(manifest | lists)}, indent=1)[:-2]
    configurations = ",\n".join(f"{json.dumps(key)}:{compact(value)}" for key, value in store.configurations.items())
    lines = ",\n".join(map(compact, cases))
    text = f'{head},\n "configurations": {{\n{configurations}\n }},\n "cases": [\n{lines}\n ]\n}}\n'
    return {MANIFEST: text.encode()} | files


def compact(value):
    """JSON on one line."""
    return json.dumps(value, separators=(",", ":"))


def main():
    """Write all files, and say how large they are."""
    files = make()
    GOLDEN.mkdir(exist_ok=True)
    for name, data in files.items():
        write_whole(GOLDEN / name, data)
        print(f"{name:32} {len(data):>10,} bytes")


if __name__ == "__main__":
    main()
