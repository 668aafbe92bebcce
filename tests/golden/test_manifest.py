"""Invalid manifests with a correct digest: every missing field and every wrong type gives a one-line error."""

import json
import re

import pytest

from engram_ref.addressing import addressing_of
from engram_ref.config import EngramConfig
from engram_ref.errors import InputError
from engram_ref.oracle.encoding import CLASSES
from engram_ref.oracle.folder import INTEGERS, MANIFEST, SUMS, sums_of
from engram_ref.oracle.structure import CASE, CONFIGURATION, MANIFEST_FIELDS, STAGE
from engram_ref.oracle.vectors import GOLDEN, read

STREAM = "addressing_stream/demo-like-fork"
USED = ("silu/edges", "swiglu/odd-width", "windows/dead", "decode/fp32", "quantise/faint", "expert_weights/plain",
        "up_projections/plain-batch", STREAM)
"""Cases in the manifests of these tests."""

SHARED = {"configurations": "configuration", "parameters": "parameters"}
"""Field of the manifest -> the word before the keys of its entries."""


def used(cases, word):
    """Return the keys that the arguments of cases name."""
    return {argument[word] for case in cases for argument in case["arguments"].values()
            if isinstance(argument, dict) and word in argument}


@pytest.fixture(scope="module")
def shipped():
    """A small manifest: the cases in USED with their configurations and parameters."""
    manifest = json.loads((GOLDEN / MANIFEST).read_bytes())
    cases = [case for case in manifest["cases"] if case["name"] in USED]
    assert len(cases) == len(USED)
    parts = {field: {key: entry for key, entry in manifest[field].items() if key in used(cases, word)}
             for field, word in SHARED.items()}
    return json.dumps(manifest | {"cases": cases} | parts)


@pytest.fixture
def copied(tmp_path, shipped):
    """A folder with copies of the shipped arrays; tests add a manifest and SHA256SUMS."""
    for path in GOLDEN.iterdir():
        if path.name not in (MANIFEST, SUMS):
            (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def write(folder, manifest):
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    (folder / SUMS).write_bytes(sums_of({path.name: path.read_bytes() for path in folder.iterdir()
                                         if path.name != SUMS}))


def test_unchanged_manifest_is_read(copied, shipped):
    write(copied, json.loads(shipped))
    assert {case.name for case in read(copied).cases} == set(USED)


def error_of(folder, manifest):
    """Write a manifest with a correct digest and return the error of `read`."""
    write(folder, manifest)
    with pytest.raises(InputError) as caught:
        read(folder)
    message = str(caught.value)
    assert "\n" not in message and MANIFEST in message
    return message


def required(structure):
    return [field for field in structure if not field.endswith("?") and field != "*"]


def first_with(manifest, field):
    """Return the first case that has an optional field."""
    return next(case for case in manifest["cases"] if field in case)


PARTS = {
    "manifest": (lambda m: m, MANIFEST_FIELDS),
    "a configuration": (lambda m: next(iter(m["configurations"].values())), CONFIGURATION),
    "a case": (lambda m: m["cases"][1], CASE | {"answers": str}),
    "a stage": (lambda m: m["cases"][1]["stages"][0], STAGE),
    "an answer": (lambda m: first_with(m, "accept")["accept"][0], {"name": 0, "why": 0, "stages": 0}),
    "its stage": (lambda m: first_with(m, "accept")["accept"][0]["stages"][0], STAGE),
}
FIELDS = [(part, field) for part, (_, structure) in PARTS.items() for field in required(structure)]


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
        assert "schema" in error_of(copied, manifest)
    else:
        assert re.search(rf"\b{field}\b", error_of(copied, manifest))


def test_a_manifest_changed_after_its_digest_raises(copied, shipped):
    write(copied, json.loads(shipped))
    text = (copied / MANIFEST).read_text(encoding="utf-8")
    (copied / MANIFEST).write_text(text.replace('"seed": ', '"seed": 1', 1), encoding="utf-8")
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
    "an unknown op": (lambda m: m["cases"][0].update(op="relu"), "a known op, found 'relu'"),
    "a missing argument": (lambda m: case_of(m, "silu/edges")["arguments"].pop("x"), "'x'"),
    "an extra argument": (set_argument("silu/edges", "y", 1), "'y'"),
    "a missing argument of a runner": (lambda m: case_of(m, STREAM)["arguments"].pop("config"), "'config'"),
    "an unknown array": (set_argument("silu/edges", "x", {"array": "nothing"}), "of this manifest"),
    "an unknown form": (set_argument("silu/edges", "x", {"tensor": "silu/edges/x"}), "of this manifest"),
    "an unknown configuration": (set_argument(STREAM, "config", {"configuration": "x"}), "of this manifest"),
    "unknown parameters": (set_argument("up_projections/plain-batch", "parameters", {"parameters": "x"}),
                           "of this manifest"),
    "parameters in place": (set_argument("up_projections/plain-batch", "parameters", {"parameters": {}}),
                            "valid data"),
    "an unknown dtype": (set_argument("decode/fp32", "dtype", {"dtype": "float8"}), "of this manifest"),
    "a missing expected array": (lambda m: m["cases"][0]["stages"][0].update(expected="x"), "an array named x"),
    "missing noise": (lambda m: case_of(m, "silu/edges")["stages"][0].update(noise="x"), "an array named x"),
    "noise of the wrong shape": (lambda m: case_of(m, "silu/edges")["stages"][0].update(
        noise=case_of(m, "swiglu/odd-width")["stages"][0]["noise"]), "floating-point noise of shape"),
    "an unknown class": (lambda m: m["cases"][0]["stages"][0].update({"class": "f16"}), "'f16'"),
    "a class for floats": (lambda m: case_of(m, "windows/dead")["stages"][0].update({"class": "f64"}), "fits int64"),
    "an output that is not a stage": (lambda m: m["cases"][0].update(outputs=["y"]), "outputs that are stages"),
    "an unknown configuration class": (lambda m: next(iter(m["configurations"].values())).update(config="C"), "'C'"),
    "a missing field": (lambda m: values(m, "ExpertsConfig").pop("n_group"), "no field n_group"),
    "an extra field": (lambda m: values(m, "ExpertsConfig").update(groups=1), "an additional field groups"),
    "no hashing": (lambda m: engram_entry(m).pop("hashing"), "the field hashing"),
    "no primes": (lambda m: engram_entry(m)["hashing"]["layers"]["1"].pop("primes"), "field hashing.layers.1.primes"),
    "an invalid value": (lambda m: values(m, "EngramConfig").update(max_ngram=1), "max_ngram"),
    "a value of a wrong type": (lambda m: values(m, "ExpertsConfig").update(n_group="two"), "n_group|types"),
    "steps without a stream": (set_argument(STREAM, "steps", [["other", "feed", 1]]), "steps"),
    "an unknown step": (set_argument(STREAM, "steps", [["main", "skip", 1]]), "steps"),
    "steps that are not lists": (set_argument(STREAM, "steps", [3]), "steps"),
}


@pytest.mark.parametrize("title", CONTENT)
def test_invalid_content_raises(title, copied, shipped):
    manifest = json.loads(shipped)
    damage, words = CONTENT[title]
    damage(manifest)
    assert re.search(words, error_of(copied, manifest))


ARRAYS = {"not a dictionary": [], "no values": {"x": {"dtype": "int64", "shape": [1]}},
          "text": {"x": {"dtype": "int64", "shape": [1], "values": ["one"]}},
          "too few": {"x": {"dtype": "int64", "shape": [2], "values": [1]}},
          "too large": {"x": {"dtype": "int64", "shape": [1], "values": [2**64]}},
          "an unknown dtype": {"x": {"dtype": "int65", "shape": [1], "values": [1]}}}


@pytest.mark.parametrize("title", ARRAYS)
def test_invalid_arrays_raise(title, copied, shipped):
    replace_file(copied, shipped, INTEGERS, json.dumps(ARRAYS[title]).encode())
    with pytest.raises(InputError, match=INTEGERS):
        read(copied)


def test_invalid_float_file_with_correct_digest_raises(copied, shipped):
    replace_file(copied, shipped, "floats-branches.safetensors", b"nothing")
    with pytest.raises(InputError, match="floats-branches"):
        read(copied)


def replace_file(folder, shipped, name, data):
    """Replace the content of one file and update all digests."""
    (folder / name).write_bytes(data)
    write(folder, json.loads(shipped))


def nested(entry):
    """Yield a configuration of the manifest and all configurations inside it."""
    yield entry
    for value in entry["values"].values():
        if isinstance(value, dict):
            yield from nested(value)


def test_configurations_are_complete():
    """Configurations name no preset; they have all fields and the numbers derived from them."""
    manifest, vectors = json.loads((GOLDEN / MANIFEST).read_bytes()), read()
    assert "preset" not in set(re.findall(r'"(\w+)":', (GOLDEN / MANIFEST).read_text(encoding="utf-8")))
    for key, entry in manifest["configurations"].items():
        for inner in nested(entry):
            assert list(inner["values"]) == [f.name for f in CLASSES[inner["config"]].__dataclass_fields__.values()]
            assert ("hashing" in inner) == (inner["config"] == "EngramConfig")
        if entry["config"] == "EngramConfig":
            assert_hashing(entry["hashing"], vectors.configurations[key])
        if entry["config"] == "ModelConfig" and entry["values"]["engram"]:
            assert_hashing(entry["values"]["engram"]["hashing"], vectors.configurations[key].engram)
    for field, word in SHARED.items():
        assert used(manifest["cases"], word) == set(manifest[field])


def assert_hashing(hashing, config):
    assert type(config) is EngramConfig
    derived = addressing_of(config)
    assert (hashing["pad_id"], hashing["eos_id"]) == (derived.pad_id, derived.eos_id)
    assert list(hashing["layers"]) == [str(layer) for layer in config.layer_ids]
    for layer, constants in hashing["layers"].items():
        for name in ("multipliers", "primes", "offsets"):
            assert constants[name] == getattr(derived, name)[int(layer)].tolist()
        assert constants["table_rows"] == derived.table_rows[int(layer)]
