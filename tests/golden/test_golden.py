"""The shipped vectors: every backend agrees with them, every op has a case, and damage is detected."""

import json

import freeze_golden
import ml_dtypes
import numpy as np
import pytest

from engram_ref import ops, oracle
from engram_ref.backends import load
from engram_ref.errors import InputError
from tests.compare import UNIT_ROUNDOFF, assert_close, compare
from engram_ref.oracle.encoding import decode_all
from engram_ref.oracle.flags import FLAGS
from engram_ref.oracle.run import Adapter, adapter_of
from engram_ref.oracle.vectors import GOLDEN, SCHEMA, read
from engram_ref.oracle.verify import verify, verify_case
from scripts.builders.planned import NOT_BF16, bf16, condition

NO_CASE = {
    "DEAD": "a constant", "ignore": "does nothing",
    "append": "writes into its argument; tested against place", "writable": "depends on gradients only",
    **dict.fromkeys(("check_ids", "check_rows", "check_together"), "only raises; tested with invalid arguments"),
    **dict.fromkeys(("as_array", "as_int64", "constant", "dtype_name", "first_non_finite", "to_numpy", "zeros"),
                    "creates or converts arrays; computes nothing"),
    **dict.fromkeys(("add", "cast", "einsum", "exp", "multiply", "repeat", "reshape", "split", "stack", "tail", "take"),
                    "an operation of the array library; used by ops that have cases"),
    **dict.fromkeys(("log_normalise", "merge_branches", "sqrt_softplus", "zero_dead"),
                    "a part of sinkhorn, collapse, router_scores or gate, which have cases for all of their forms"),
}
"""Names of the ops namespace without a case, and the reason."""

BY_OPS = {"project", "gate_score", "gated_conv", "gated_update"}
"""Ops with answers from the float64 definition; the slow version computes the modules that contain them."""

LARGEST_FILE, LARGEST_FOLDER = 1_500_000, 5_000_000


@pytest.fixture(scope="module")
def vectors():
    return read()


def failures(vectors, namespace, adapter):
    return [result for result in verify(namespace, adapter, vectors) if not result.ok]


def namespace_of(name):
    """Return a backend, or skip the test if its package is not installed."""
    if name != "numpy":
        pytest.importorskip(name, reason=f"{name} is not installed")
    return load(name)


@pytest.mark.parametrize("name", ["numpy", "numba", "torch"])
def test_backend_agrees_with_every_vector(name, vectors):
    namespace = namespace_of(name)
    assert [str(result) for result in failures(vectors, namespace, adapter_of(namespace))] == []


def test_invalid_input_must_be_refused(vectors, monkeypatch):
    """An answer fails such a case, and so does any exception that is not an InputError."""
    invalid = [case for case in vectors.cases if case.result == "invalid"]
    assert {case.op for case in invalid} == {"addressing", "engram", "forward"}

    def outcome(error):
        def run(*_):
            if error is not None:
                raise error
            return {}
        monkeypatch.setattr(oracle.verify, "run", run)
        return verify_case(invalid[0], vectors, ops, Adapter(), False)

    assert outcome(InputError("ids", "known ids", -2)).ok
    assert str(outcome(None)).endswith("raised nothing, although the input is invalid")
    assert str(outcome(IndexError("-2"))).endswith("raised IndexError: -2")


def test_every_op_has_a_case(vectors):
    assert set(ops.__all__) - {case.op for case in vectors.cases} == set(NO_CASE)


def test_flags_are_documented_and_used(vectors):
    assert {flag for case in vectors.cases for flag in case.flags} == set(FLAGS)


def test_answers_are_independent_of_the_code_under_test():
    cases = read_manifest(GOLDEN)["cases"]
    assert {case["op"] for case in cases if case["answers"] == "float64 ops"} == BY_OPS
    assert {case["result"] for case in cases if case["answers"] == "none"} == {"invalid"}


def test_stages_have_valid_classes_and_scales(vectors):
    """Classes f64 and f32 have a derived scale, and non-float stages are exact."""
    for case in vectors.cases:
        for stage in case.stages:
            assert (stage.scale is None) == (stage.tolerance_class not in UNIT_ROUNDOFF), (case.name, stage.name)
            if stage.array.dtype.kind != "f":
                assert stage.tolerance_class == "exact"


def test_float_inputs_are_numbers_of_bfloat16(vectors):
    """A port in any float format reads the same inputs."""
    wide = set()
    for case in vectors.cases:
        arguments = decode_all(case.arguments, vectors.arrays, vectors.configurations)
        with np.errstate(over="ignore"):
            rounded = bf16(arguments)
        try:
            np.testing.assert_equal(rounded, arguments)
        except AssertionError:
            wide.add(case.name)
    assert wide == set(NOT_BF16)


def test_rounding_of_inputs_is_that_of_bfloat16():
    """Checked against ml_dtypes on float32 numbers of all sizes: ties, subnormals, zeros, infinity and NaN."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2**32, 20_000, dtype=np.uint32) & rng.choice(np.uint32([2**32 - 1, 2**32 - 2**15]), 20_000)
    x = x.view(np.float32)
    x = np.concatenate([x[np.abs(x) < 3e38], np.float32([0.0, -0.0, np.inf, -np.inf, np.nan])])
    expected = x.astype(ml_dtypes.bfloat16).astype(np.float32)
    assert_close("bf16", expected, bf16(x), "exact")
    assert_close("bf16", expected.astype(np.float64), bf16(x.astype(np.float64)), "exact")


def test_the_keys_of_answers_name_their_own_case():
    for case in read_manifest(GOLDEN)["cases"]:
        for stage in [*case["stages"], *(stage for other in case.get("accept", ()) for stage in other["stages"])]:
            for key in (stage["expected"], stage.get("scale", stage["expected"])):
                assert key.replace("~", "=").replace(", ", "=").startswith(case["name"] + "="), (case["name"], key)


def test_measured_condition_equals_derived_condition():
    """|y| + sum |x dy/dx| is known in closed form for a linear map and for SiLU."""
    rng = np.random.default_rng(0)
    x, weight, bias = rng.standard_normal((2, 5)), rng.standard_normal((3, 5)), rng.standard_normal(3)
    expected = np.abs(x @ weight.T + bias) + 2 * np.abs(x) @ np.abs(weight).T + np.abs(bias)
    assert_close("linear", expected, measured(ops.linear, x=x, weight=weight, bias=bias), "f32")
    s = ops.sigmoid(x)
    assert_close("silu", np.abs(x * s) + np.abs(x * (s + x * s * (1 - s))), measured(ops.silu, x=x), "f32")


def measured(op, **arguments):
    """Return the generator's condition in float32, whose tolerance covers the errors of a difference quotient."""
    evaluate = lambda **a: {"y": op(**a)}
    return condition(evaluate, arguments, evaluate(**arguments))["y"].astype(np.float32)


def test_relative_changes_of_1e_6_are_detected(vectors):
    """No class is too wide: a relative change of 1e-6, 1e-3 in float32 or 0.02 in bfloat16 fails; underflow may not."""
    for case in vectors.cases:
        for stage in case.stages:
            largest = np.abs(stage.array).max(initial=0) if stage.array.dtype.kind == "f" else 0
            if np.isfinite(largest) and largest > 1e-30:
                dtype, step = {"f32": (np.float32, 1e-3), "bf16": (np.float32, 0.02)}.get(
                    stage.tolerance_class, (stage.array.dtype, 1e-6))
                changed = ((1 + step) * stage.array).astype(dtype)
                changed = bf16(changed) if stage.tolerance_class == "bf16" else changed
                assert compare(stage.array, changed, stage.tolerance_class, stage.terms, stage.scale), case.name


def test_files_stay_small():
    sizes = {path.name: path.stat().st_size for path in GOLDEN.iterdir()}
    assert set(sizes) == {MANIFEST, *read_manifest(GOLDEN)["files"]}
    assert max(sizes.values()) < LARGEST_FILE and sum(sizes.values()) < LARGEST_FOLDER


def test_generator_plans_the_shipped_cases(vectors):
    planned = [case.name for area in freeze_golden.AREAS for case in freeze_golden.plan(area)]
    shipped = [case.name for case in vectors.cases]
    assert set(planned) ^ set(shipped) == set(), "run scripts/freeze_golden.py"
    assert planned == shipped


def test_freezing_is_reproducible(vectors, tmp_path):
    """Two runs give the same bytes. Integers and inputs equal the shipped ones; floats agree within their class."""
    areas = ("integers", "branches")
    files = freeze_golden.make(areas)
    assert files == freeze_golden.make(areas)
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    again, shipped = read(tmp_path), {case.name: case for case in vectors.cases}
    for key in again.arrays:
        if not {"=", "~"} & set(key):
            assert_close(key, vectors.arrays[key], again.arrays[key], "exact")
    for case in again.cases:
        assert case.arguments == shipped[case.name].arguments
        for stage, known in zip(case.stages, shipped[case.name].stages, strict=True):
            assert_close(f"{case.name} {stage.name}", known.array, stage.array, known.tolerance_class, known.terms,
                         known.scale)


@pytest.fixture
def copied(tmp_path):
    """A folder with copies of the shipped files, which tests may damage."""
    for path in GOLDEN.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def error_of(folder):
    with pytest.raises(InputError) as caught:
        read(folder)
    return str(caught.value)


@pytest.mark.parametrize("name", [INTEGERS, "floats-branches.safetensors"])
def test_flipped_bit_raises(copied, name):
    data = bytearray((copied / name).read_bytes())
    data[-10] ^= 1
    (copied / name).write_bytes(data)
    assert name in error_of(copied) and "changed or truncated" in error_of(copied)


@pytest.mark.parametrize("name", [INTEGERS, "floats-branches.safetensors", MANIFEST])
def test_truncated_file_raises(copied, name):
    data = (copied / name).read_bytes()
    (copied / name).write_bytes(data[: len(data) // 2])
    assert name in error_of(copied)


@pytest.mark.parametrize("name", [INTEGERS, "floats-branches.safetensors", MANIFEST])
def test_missing_file_raises(copied, name):
    (copied / name).unlink()
    assert name in error_of(copied) and "No such file" in error_of(copied)


def test_widened_tolerance_raises(copied):
    text = (copied / MANIFEST).read_text(encoding="utf-8").replace('"class":"f64"', '"class":"model"', 1)
    (copied / MANIFEST).write_text(text, encoding="utf-8")
    assert "changed or truncated" in error_of(copied)


def test_wrong_schema_error_has_a_hint(copied):
    manifest = json.loads((copied / MANIFEST).read_bytes())
    (copied / MANIFEST).write_text(json.dumps(manifest | {"schema": SCHEMA + 1, "new": "field"}), encoding="utf-8")
    assert f"found schema {SCHEMA + 1} (pip install -U engram_ref)" in error_of(copied)
    (copied / MANIFEST).write_text(json.dumps(manifest | {"schema": 1}), encoding="utf-8")
    assert "found schema 1 (write a new kit with engram-ref kit DIR" in error_of(copied)


@pytest.mark.parametrize("text", ["[]", "{}", '{"schema": "1"}', "", "nonsense"])
def test_invalid_manifest_raises(copied, text):
    (copied / MANIFEST).write_text(text, encoding="utf-8")
    assert MANIFEST in error_of(copied)
