"""A manifest is refused in one line if anything a reader needs is missing or of a wrong type, whatever its digest."""

import hashlib
import json
import re

import pytest

from engram_ref.addressing import addressing_of
from engram_ref.config import EngramConfig
from engram_ref.errors import InputError
from engram_ref.oracle.encoding import CLASSES
from engram_ref.oracle.structure import CASE, CONFIGURATION, MANIFEST_FIELDS, STAGE
from engram_ref.oracle.vectors import GOLDEN, INTEGERS, MANIFEST, manifest_digest, read, read_manifest

STREAM = "addressing_stream/demo-like-fork"
USED = ("silu/edges", "swiglu/odd-width", "windows/dead", "decode/fp32", "quantise/faint", "expert_weights/plain",
        STREAM)
"""The few cases that the manifests of these tests have."""


@pytest.fixture(scope="module")
def shipped():
    """A small manifest: these cases, and the configurations that they name."""
    manifest = read_manifest(GOLDEN)
    cases = [case for case in manifest["cases"] if case["name"] in USED]
    assert len(cases) == len(USED)
    keys = {case["arguments"].get("config", {}).get("configuration") for case in cases}
    configurations = {key: entry for key, entry in manifest["configurations"].items() if key in keys}
    return json.dumps(manifest | {"cases": cases, "configurations": configurations})


@pytest.fixture
def copied(tmp_path, shipped):
    """A folder with the arrays and that manifest, to be spoilt; as it stands, it can be read."""
    for path in GOLDEN.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / MANIFEST).unlink()
    return tmp_path


def write(folder, manifest):
    (folder / MANIFEST).write_text(json.dumps(manifest | {"sha256": manifest_digest(manifest)}), encoding="utf-8")


def test_unchanged_manifest_is_read(copied, shipped):
    write(copied, json.loads(shipped))
    assert {case.name for case in read(copied).cases} == set(USED)


def refused(folder, manifest):
    """What the reader says to a manifest with a digest of its own."""
    write(folder, manifest)
    with pytest.raises(InputError) as caught:
        read(folder)
    message = str(caught.value)
    assert "\n" not in message and MANIFEST in message
    return message


def required(structure):
    return [field for field in structure if not field.endswith("?") and field != "*"]


def first_with(manifest, field):
    """The first case that has an optional field."""
    return next(case for case in manifest["cases"] if field in case)


PARTS = {
    "manifest": (lambda m: m, MANIFEST_FIELDS), "a file": (lambda m: m["files"][INTEGERS], {"sha256": 0, "bytes": 0}),
    "a configuration": (lambda m: next(iter(m["configurations"].values())), CONFIGURATION),
    "a case": (lambda m: m["cases"][1], CASE), "a stage": (lambda m: m["cases"][1]["stages"][0], STAGE),
    "an answer": (lambda m: first_with(m, "accept")["accept"][0], {"name": 0, "why": 0, "stages": 0}),
    "its stage": (lambda m: first_with(m, "accept")["accept"][0]["stages"][0], STAGE),
}
FIELDS = [(part, field) for part, (_, structure) in PARTS.items() for field in required(structure) if field != "sha256"
          or part == "a file"]


@pytest.mark.parametrize("wrong", ["missing", None, True, [None]], ids=str)
@pytest.mark.parametrize(("part", "field"), FIELDS, ids=" ".join)
def test_every_field_is_checked(part, field, wrong, copied, shipped):
    manifest = json.loads(shipped)
    owner = PARTS[part][0](manifest)
    if wrong == "missing":
        del owner[field]
    else:
        owner[field] = wrong
    if field == "schema":
        assert "schema" in refused(copied, manifest)
    else:
        assert re.search(rf"\b{field}\b", refused(copied, manifest))


def test_manifest_without_digest_raises(copied, shipped):
    manifest = json.loads(shipped)
    del manifest["sha256"]
    (copied / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(InputError, match="changed or truncated"):
        read(copied)


def case_of(manifest, name):
    return next(case for case in manifest["cases"] if case["name"] == name)


def set_argument(name, argument, value):
    return lambda m: case_of(m, name)["arguments"].update({argument: value})


def values(m, kind):
    return next(c["values"] for c in m["configurations"].values() if c["config"] == kind)


def engram_entry(m):
    return next(c for c in m["configurations"].values() if c["config"] == "EngramConfig")


CONTENT = {
    "an unknown op": (lambda m: m["cases"][0].update(op="relu"), "an op of this version, found 'relu'"),
    "a missing argument": (lambda m: case_of(m, "silu/edges")["arguments"].pop("x"), "'x'"),
    "an extra argument": (set_argument("silu/edges", "y", 1), "'y'"),
    "a missing argument of a runner": (lambda m: case_of(m, STREAM)["arguments"].pop("config"), "'config'"),
    "an unknown array": (set_argument("silu/edges", "x", {"array": "nothing"}), "of this manifest"),
    "an unknown form": (set_argument("silu/edges", "x", {"tensor": "silu/edges/x"}), "of this manifest"),
    "an unknown configuration": (set_argument(STREAM, "config", {"configuration": "x"}), "of this manifest"),
    "an unknown dtype": (set_argument("decode/fp32", "dtype", {"dtype": "float8"}), "of this manifest"),
    "an expected array that is not there": (lambda m: m["cases"][0]["stages"][0].update(expected="x"), "an array x"),
    "a scale that is not there": (lambda m: case_of(m, "silu/edges")["stages"][0].update(scale="x"), "an array x"),
    "a scale of another shape": (lambda m: case_of(m, "silu/edges")["stages"][0].update(
        scale=case_of(m, "swiglu/odd-width")["stages"][0]["scale"]), "a scale of shape"),
    "an unknown class": (lambda m: m["cases"][0]["stages"][0].update({"class": "f16"}), "'f16'"),
    "a class for floats": (lambda m: case_of(m, "windows/dead")["stages"][0].update({"class": "f64"}), "fits int64"),
    "an output that is no stage": (lambda m: m["cases"][0].update(outputs=["y"]), "outputs that are stages"),
    "an unknown configuration class": (lambda m: next(iter(m["configurations"].values())).update(config="C"), "'C'"),
    "a field too few": (lambda m: values(m, "ExpertsConfig").pop("n_group"), "n_group missing"),
    "a field too many": (lambda m: values(m, "ExpertsConfig").update(groups=1), "groups added"),
    "no hashing": (lambda m: engram_entry(m).pop("hashing"), "a field hashing"),
    "no primes": (lambda m: engram_entry(m)["hashing"]["layers"]["1"].pop("primes"), "a field hashing.layers.1.primes"),
    "a value that is refused": (lambda m: values(m, "EngramConfig").update(max_ngram=1), "max_ngram"),
    "a value of a wrong type": (lambda m: values(m, "ExpertsConfig").update(n_group="two"), "n_group|types"),
    "steps without a stream": (set_argument(STREAM, "steps", [["other", "feed", 1]]), "steps"),
    "an unknown step": (set_argument(STREAM, "steps", [["main", "skip", 1]]), "steps"),
    "steps that are none": (set_argument(STREAM, "steps", [3]), "steps"),
    "a file elsewhere": (lambda m: m["files"].update({"../x.json": m["files"][INTEGERS]}), "names of files"),
}


@pytest.mark.parametrize("what", CONTENT)
def test_invalid_content_raises(what, copied, shipped):
    manifest = json.loads(shipped)
    spoil, words = CONTENT[what]
    spoil(manifest)
    assert re.search(words, refused(copied, manifest))


ARRAYS = {"no list": [], "no values": {"x": {"dtype": "int64", "shape": [1]}},
          "text": {"x": {"dtype": "int64", "shape": [1], "values": ["one"]}},
          "too few": {"x": {"dtype": "int64", "shape": [2], "values": [1]}},
          "too large": {"x": {"dtype": "int64", "shape": [1], "values": [2**64]}},
          "an unknown dtype": {"x": {"dtype": "int65", "shape": [1], "values": [1]}}}


@pytest.mark.parametrize("what", ARRAYS)
def test_invalid_arrays_raise(what, copied, shipped):
    respell(copied, shipped, INTEGERS, json.dumps(ARRAYS[what]).encode())
    with pytest.raises(InputError, match=INTEGERS):
        read(copied)


def test_invalid_float_file_with_correct_digest_raises(copied, shipped):
    respell(copied, shipped, "floats-branches.safetensors", b"nothing")
    with pytest.raises(InputError, match="floats-branches"):
        read(copied)


def respell(folder, shipped, name, data):
    """Another content of one file, with all digests as they must be."""
    manifest = json.loads(shipped)
    manifest["files"][name]["sha256"] = hashlib.sha256(data).hexdigest()
    (folder / name).unlink()
    (folder / name).write_bytes(data)
    write(folder, manifest)


def nested(entry):
    """A configuration of the manifest and those inside it."""
    yield entry
    for value in entry["values"].values():
        if isinstance(value, dict):
            yield from nested(value)


def test_configurations_are_complete():
    """No preset to look up: all fields, and what an Engram dialect derives from them."""
    manifest, vectors = read_manifest(GOLDEN), read()
    assert "preset" not in set(re.findall(r'"(\w+)":', (GOLDEN / MANIFEST).read_text(encoding="utf-8")))
    for key, entry in manifest["configurations"].items():
        for inner in nested(entry):
            assert list(inner["values"]) == [f.name for f in CLASSES[inner["config"]].__dataclass_fields__.values()]
            assert ("hashing" in inner) == (inner["config"] == "EngramConfig")
        if entry["config"] == "EngramConfig":
            assert_hashing(entry["hashing"], vectors.configurations[key])
        if entry["config"] == "ModelConfig" and entry["values"]["engram"]:
            assert_hashing(entry["values"]["engram"]["hashing"], vectors.configurations[key].engram)
    used = {argument["configuration"] for case in manifest["cases"] for argument in case["arguments"].values()
            if isinstance(argument, dict) and "configuration" in argument}
    assert used == set(manifest["configurations"])


def assert_hashing(found, config):
    assert type(config) is EngramConfig
    derived = addressing_of(config)
    assert (found["pad_id"], found["eos_id"]) == (derived.pad_id, derived.eos_id)
    assert list(found["layers"]) == [str(layer) for layer in config.layer_ids]
    for layer, constants in found["layers"].items():
        for name in ("multipliers", "primes", "offsets"):
            assert constants[name] == getattr(derived, name)[int(layer)].tolist()
        assert constants["table_rows"] == derived.table_rows[int(layer)]
