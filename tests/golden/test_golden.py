"""The shipped vectors: every backend agrees with them, every op has a case, and damage is detected."""

import json
from dataclasses import replace

import freeze_golden
import ml_dtypes
import numpy as np
import pytest

from engram_ref import ops, oracle
from engram_ref.backends import load
from engram_ref.errors import InputError
from engram_ref.oracle.check.judge import judge_floats
from engram_ref.oracle.encoding import decode_all
from engram_ref.oracle.flags import FLAGS
from engram_ref.oracle.folder import INTEGERS, MANIFEST, SUMS
from engram_ref.oracle.kit.write import narrowed
from engram_ref.oracle.noise import noise_of
from engram_ref.oracle.run import Adapter, adapter_of
from engram_ref.oracle.vectors import GOLDEN, SCHEMA, read
from engram_ref.oracle.verify import dtype_of, verify, verify_case
from scripts.builders.planned import NOT_BF16, bf16
from tests.compare import assert_close

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

NO_GRADIENT_CASE = dict.fromkeys(
    ("add_vjp", "cast_vjp", "concatenate_vjp", "effective_gain_vjp", "einsum_vjp", "exp_vjp", "multiply_vjp",
     "repeat_vjp", "reshape_vjp", "split_vjp", "stack_vjp", "tail_vjp", "take_vjp"),
    "an operation of the array library, or a copy; tested against central differences, and used by whole gradients")
"""VJPs without a case, and the reason."""

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
    assert set(ops.NAMESPACE.names()) - {case.op for case in vectors.cases} == {*NO_CASE, *NO_GRADIENT_CASE}


def test_flags_are_documented_and_used(vectors):
    assert {flag for case in vectors.cases for flag in case.flags} == set(FLAGS)


def test_answers_are_independent_of_the_code_under_test():
    cases = json.loads((GOLDEN / MANIFEST).read_bytes())["cases"]
    forward = [case for case in cases if case["kind"] != "gradients"]           # torch's autograd confirms gradients
    assert {case["op"] for case in forward if case["answers"] == "float64 ops"} == BY_OPS
    assert {case["result"] for case in cases if case["answers"] == "none"} == {"invalid"}


def test_stages_have_valid_classes_and_noise(vectors):
    """All stages that are not exact have noise, and non-float stages are exact."""
    for case in vectors.cases:
        for stage in case.stages:
            assert (stage.noise is None) == (stage.tolerance_class == "exact"), (case.name, stage.name)
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
    for case in json.loads((GOLDEN / MANIFEST).read_bytes())["cases"]:
        for stage in [*case["stages"], *(stage for other in case.get("accept", ()) for stage in other["stages"])]:
            key = stage["expected"]
            assert key.replace(", ", "=").startswith(case["name"] + "="), (case["name"], key)


@pytest.mark.parametrize("op", ["linear", "engram_residual", "sinkhorn",
                                pytest.param("forward_stream", marks=pytest.mark.thorough)])
def test_stored_noise_is_that_of_the_model_rounded_up(op, vectors):
    """Rounded up to float16 or float32, it grows by at most 2^-10."""
    chosen = [case for case in vectors.cases if case.op == op][:3]            # sinkhorn/large has noise of 1e-291
    for case, stage in [(each, stage) for each in chosen for stage in each.stages]:
        if stage.noise is not None:
            measured = noise_of(case, vectors)
            np.testing.assert_array_equal(stage.noise, narrowed(measured[stage.name]).astype(float))
            assert (stage.noise >= measured[stage.name]).all()
            assert (stage.noise <= (1 + 2.0**-10) * measured[stage.name]).all()


def test_relative_changes_of_1e_6_are_detected(vectors):
    """A relative change of 1e-6, of 1e-3 in float32 or of 0.02 in bfloat16 fails; underflow may not."""
    for case in vectors.cases:
        for stage in case.stages:
            largest = np.abs(stage.array).max(initial=0) if stage.array.dtype.kind == "f" else 0
            if np.isfinite(largest) and largest > 1e-30:
                step = {"f32": 1e-3, "bf16": 0.02}.get(stage.tolerance_class, 1e-6)
                changed = ((1 + step) * stage.array).astype(dtype_of(stage))
                changed = bf16(changed) if stage.tolerance_class == "bf16" else changed
                assert not judge_floats(stage, stage.array, stage.noise, changed).ok, (case.name, stage.name)


def test_files_stay_small():
    sizes = {path.name: path.stat().st_size for path in GOLDEN.iterdir()}
    listed = {line[66:] for line in (GOLDEN / SUMS).read_text(encoding="utf-8").splitlines()}
    assert set(sizes) == {SUMS, *listed} and MANIFEST in listed
    assert max(sizes.values()) < LARGEST_FILE and sum(sizes.values()) < LARGEST_FOLDER


def test_generator_plans_the_shipped_cases(vectors):
    planned = [case.name for area in freeze_golden.AREAS for case in freeze_golden.plan(area)]
    shipped = [case.name for case in vectors.cases]
    assert set(planned) ^ set(shipped) == set(), "run scripts/freeze_golden.py"
    assert planned == shipped


@pytest.mark.thorough
def test_freezing_is_reproducible(vectors, tmp_path):
    """Two runs give the same bytes. Integers and inputs equal the shipped ones; floats agree within their noise."""
    areas = ("integers", "branches")
    files = freeze_golden.make(areas)
    assert files == freeze_golden.make(areas)
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    again, shipped = read(tmp_path), {case.name: case for case in vectors.cases}
    for case in again.cases:
        np.testing.assert_equal(*(decode_all(each.arguments, source.arrays, source.configurations)
                                  for each, source in ((case, again), (shipped[case.name], vectors))))
        for stage, known in zip(case.stages, shipped[case.name].stages, strict=True):
            wide = replace(known, tolerance_class="exact" if known.noise is None else "f64")
            if known.array.dtype.kind == "f":
                assert judge_floats(wide, known.array, known.noise, stage.array).ok, (case.name, stage.name)
            else:
                assert_close(stage.name, known.array, stage.array, "exact")


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
    text = (copied / MANIFEST).read_text(encoding="utf-8").replace('"class":"f64"', '"class":"f32"', 1)
    (copied / MANIFEST).write_text(text, encoding="utf-8")
    assert "changed or truncated" in error_of(copied)


def test_wrong_schema_error_has_a_hint(copied):
    manifest = json.loads((copied / MANIFEST).read_bytes())
    (copied / MANIFEST).write_text(json.dumps(manifest | {"schema": SCHEMA + 1, "new": "field"}), encoding="utf-8")
    assert f"found format {SCHEMA + 1} (pip install -U engram_ref)" in error_of(copied)
    (copied / MANIFEST).write_text(json.dumps(manifest | {"schema": 2}), encoding="utf-8")
    assert ("expected schema format 4, which this engram-ref reads, "
            "found format 2 (write a new kit with engram-ref kit DIR") in error_of(copied)


@pytest.mark.parametrize("text", ["[]", "{}", '{"schema": "1"}', "", "nonsense"])
def test_invalid_manifest_raises(copied, text):
    (copied / MANIFEST).write_text(text, encoding="utf-8")
    assert MANIFEST in error_of(copied)
