"""The vectors that ship: every backend meets them, every op is among them, and a wrong op is found and named."""

import json
from dataclasses import replace
from types import SimpleNamespace

import freeze_golden
import numpy as np
import pytest
from golden_cases import make

from engram_ref import ops
from engram_ref.backends import load
from engram_ref.errors import InputError
from engram_ref.oracle.compare import assert_close, compare
from engram_ref.oracle.flags import FLAGS
from engram_ref.oracle.run import Adapter, adapter_of
from engram_ref.oracle.vectors import GOLDEN, INTEGERS, MANIFEST, SCHEMA, read, read_manifest
from engram_ref.oracle.verify import verify
from tests import wrong_backbone, wrong_floats, wrong_integers
from tests.mutants import replace_everywhere, resolve

NO_CASE = {
    "DEAD": "a constant", "ignore": "does nothing",
    **dict.fromkeys(("check_ids", "check_rows", "check_together"), "raises or not; tested with what it refuses"),
    **dict.fromkeys(("as_array", "as_int64", "constant", "dtype_name", "first_non_finite", "to_numpy", "zeros"),
                    "holds arrays for models; computes nothing"),
}
"""Names of the ops namespace without a case of their own, and why."""

BY_OPS = {"project", "gate_score", "gated_conv", "gated_update"}
"""Ops whose answers are the float64 definition's: they are parts of modules that the slow version answers for."""

LARGEST_FILE, LARGEST_FOLDER = 1_200_000, 4_000_000


@pytest.fixture(scope="module")
def vectors():
    return read()


def chosen(vectors, prefix):
    """Only the cases whose names start so."""
    return replace(vectors, cases=tuple(case for case in vectors.cases if case.name.startswith(prefix)))


def failures(vectors, namespace=ops, adapter=None):
    return [result for result in verify(namespace, adapter or Adapter(), vectors) if not result.ok]


def namespace_of(name):
    """A backend, or a skip that says why."""
    try:
        namespace = load(name)
    except InputError as error:
        pytest.skip(str(error))
    return namespace if hasattr(namespace, "__all__") else pytest.skip(f"{name}: no such backend yet")


@pytest.mark.parametrize("name", ["numpy", "numba", "torch"])
def test_a_backend_meets_every_vector(name, vectors):
    namespace = namespace_of(name)
    assert [str(result) for result in failures(vectors, namespace, adapter_of(namespace))] == []


def test_every_op_has_a_case(vectors):
    assert set(ops.__all__) - {case.op for case in vectors.cases} == set(NO_CASE)


def test_every_flag_is_explained_and_used(vectors):
    assert {flag for case in vectors.cases for flag in case.flags} == set(FLAGS)


def test_answers_are_independent_of_the_code_under_test():
    cases = read_manifest(GOLDEN)["cases"]
    assert {case["op"] for case in cases if case["answers"] != "slow"} == BY_OPS


def test_classes_and_scales_are_there(vectors):
    """Floats have a class that computes in their dtype; those that reorder sums have a derived scale."""
    for case in vectors.cases:
        for stage in case.stages:
            assert (stage.scale is None) == (stage.tolerance_class not in ("f64", "f32")), (case.name, stage.name)
            if stage.array.dtype.kind != "f":
                assert stage.tolerance_class == "exact"


def test_the_measured_condition_is_the_derived_one():
    """|y| + sum |x dy/dx|: twice the sum of absolute products for a linear map, x silu'(x) for a curved function."""
    rng = np.random.default_rng(0)
    x, weight, bias = rng.standard_normal((2, 5)), rng.standard_normal((3, 5)), rng.standard_normal(3)
    expected = np.abs(x @ weight.T + bias) + 2 * np.abs(x) @ np.abs(weight).T + np.abs(bias)
    assert_close("linear", expected, measured(ops.linear, x=x, weight=weight, bias=bias), "f32")
    s = ops.sigmoid(x)
    assert_close("silu", np.abs(x * s) + np.abs(x * (s + x * s * (1 - s))), measured(ops.silu, x=x), "f32")


def measured(op, **arguments):
    """The generator's condition in float32, whose roundings are larger than those of a difference quotient."""
    evaluate = lambda **a: {"y": op(**a)}
    return make.condition(evaluate, arguments, evaluate(**arguments))["y"].astype(np.float32)


def test_answers_would_notice_a_change_of_a_millionth(vectors):
    """No class is so wide that it means nothing: a relative 1e-6, and 1e-3 in float32, is always seen."""
    for case in vectors.cases:
        for stage in case.stages:
            if stage.array.dtype.kind == "f" and np.isfinite(stage.array).all() and stage.array.any():
                dtype, step = (np.float32, 1e-3) if stage.tolerance_class == "f32" else (stage.array.dtype, 1e-6)
                changed = ((1 + step) * stage.array).astype(dtype)
                assert compare(stage.array, changed, stage.tolerance_class, stage.terms, stage.scale), case.name


def test_files_stay_small():
    sizes = {path.name: path.stat().st_size for path in GOLDEN.iterdir()}
    assert set(sizes) == {MANIFEST, *read_manifest(GOLDEN)["files"]}
    assert max(sizes.values()) < LARGEST_FILE and sum(sizes.values()) < LARGEST_FOLDER


def test_the_generator_plans_what_ships(vectors):
    planned = [case.name for area in freeze_golden.AREAS for case in freeze_golden.plan(area)]
    assert planned == [case.name for case in vectors.cases]


def test_a_part_frozen_again_is_the_same(vectors, tmp_path):
    """Twice the same bytes here; integers and inputs as shipped, floats to their class: machines round differently."""
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
    """A folder with the shipped files, to be spoilt."""
    for path in GOLDEN.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def refusal(folder):
    with pytest.raises(InputError) as caught:
        read(folder)
    return str(caught.value)


@pytest.mark.parametrize("name", [INTEGERS, "floats-branches.safetensors"])
def test_a_flipped_bit_is_refused(copied, name):
    data = bytearray((copied / name).read_bytes())
    data[-10] ^= 1
    (copied / name).write_bytes(data)
    assert name in refusal(copied) and "changed or cut" in refusal(copied)


@pytest.mark.parametrize("name", [INTEGERS, "floats-branches.safetensors", MANIFEST])
def test_a_truncated_file_is_refused(copied, name):
    data = (copied / name).read_bytes()
    (copied / name).write_bytes(data[: len(data) // 2])
    assert name in refusal(copied)


@pytest.mark.parametrize("name", [INTEGERS, "floats-branches.safetensors", MANIFEST])
def test_a_missing_file_is_named(copied, name):
    (copied / name).unlink()
    assert name in refusal(copied) and "No such file" in refusal(copied)


def test_a_widened_tolerance_is_refused(copied):
    text = (copied / MANIFEST).read_text(encoding="utf-8").replace('"class":"f64"', '"class":"model"', 1)
    (copied / MANIFEST).write_text(text, encoding="utf-8")
    assert "changed or cut" in refusal(copied)


def test_a_newer_schema_says_what_to_do(copied):
    manifest = json.loads((copied / MANIFEST).read_bytes())
    (copied / MANIFEST).write_text(json.dumps(manifest | {"schema": SCHEMA + 1, "what": "ever"}), encoding="utf-8")
    assert f"found schema {SCHEMA + 1} (pip install -U engram_ref)" in refusal(copied)
    (copied / MANIFEST).write_text(json.dumps(manifest | {"schema": 1}), encoding="utf-8")
    assert "found schema 1 (write it again: engram-ref golden export)" in refusal(copied)


@pytest.mark.parametrize("text", ["[]", "{}", '{"schema": "1"}', "", "nonsense"])
def test_what_is_no_manifest_is_refused(copied, text):
    (copied / MANIFEST).write_text(text, encoding="utf-8")
    assert MANIFEST in refusal(copied)


WRONG = {
    "eps-1e-6": ("ops.norm:inverse_rms", lambda f, x, eps: f(x, 1e-6), "engram/paper-like-batch", "query_norm"),
    "norm-over-all-branches": ("ops.norm:rms_norm", lambda f, x, gain, eps: gain * x / np.sqrt(
        np.mean(x * x, axis=(-2, -1), keepdims=True) + (eps or 0.0)), "engram/paper-like-batch", "query_norm"),
    "truncated-modulus": ("ops.hashing:table_rows", lambda f, mixes, primes: np.fmod(
        np.repeat(mixes, len(primes) // mixes.shape[-1], axis=-1), primes), "address/dead-flat", "rows"),
    "dead-hides-itself-only": ("ops.hashing:windows", lambda f, ids, history, pad_id, eos_id=None: np.where(
        (seen := f(np.where(ids < 0, 99, ids), history, pad_id, eos_id)) == 99, pad_id, seen), "address/dead-rows",
        "windows"),
    "gate-without-root": ("ops.gate:signed_sqrt", lambda f, s: s, "engram/demo-like-batch", "gate"),
    "gate-by-sign": ("ops.gate:copysign_sqrt", lambda f, s: np.sign(s) * np.sqrt(np.maximum(np.abs(s), 1e-6)),
                     "gate/copysign_sqrt-edges", "output"),
    "clamp-left-out": ("ops.gate:copysign_sqrt", lambda f, s: np.copysign(np.sqrt(np.abs(s)), s),
                       "gate/copysign_sqrt-edges", "output"),
    "taps-newest-first": ("ops.conv:short_conv", lambda f, x, weight, dilation, taps: f(
        x, weight[..., ::-1], dilation, taps), "engram/demo-like-batch", "conv"),
    "dilation-forgotten": ("ops.conv:conv_silu", lambda f, x, weight, dilation, taps: f(
        x, weight, 1, taps[:, taps.shape[1] - weight.shape[-1] + 1 :]), "gated_conv/demo-like", "conv"),
    "halves-not-pairs": ("ops.rope:rotate", lambda f, x, angle: f(x[..., ops.half_split_order(x.shape[-1])], angle),
                         "forward/plain-batch", "layers.0.attention.k_pe"),
    "positions-from-0": ("ops.caches:positions_after", lambda f, lengths, T: f(0 * lengths, T),
                         "forward/plain-chunked", "layers.0.attention.k_pe"),
    "ties-to-the-last": ("ops.experts:descending", lambda f, x: np.argsort(x, axis=-1, kind="stable")[:, ::-1],
                         "select_experts/plain-ties", "output"),
    "bias-weighs": ("ops.experts:expert_weights", lambda f, scores, chosen, config: f(scores + 0.1, chosen, config),
                    "moe/plain-batch", "expert_weights"),
    "rows-then-columns": ("ops.branches:sinkhorn", lambda f, logits, iterations, eps=0.0: f(
        logits.swapaxes(-1, -2), iterations, eps).swapaxes(-1, -2), "branch_maps/batch", "branch_residual"),
    "weights-by-subtraction": ("ops.experts:route", wrong_backbone.weights_by_subtraction, "route/sigmoid-bias-12",
                               "expert_weights"),
    "weights-without-a-floor": ("ops.experts:expert_weights", wrong_backbone.weights_without_a_floor, "moe/all-zero",
                                "expert_weights"),
    "groups-by-their-best-two": ("ops.experts:select_experts", wrong_backbone.judged_by_two,
                                 "select_experts/groups-by-best", "output"),
    "padded-where-eos-fills": ("ops.hashing:windows", wrong_integers.always_padded, "windows/eos-then-dead", "output"),
    "eos-not-hidden": ("ops.hashing:windows", wrong_integers.never_reset, "windows/dead-then-eos", "output"),
    "eos-hides-itself": ("ops.hashing:windows", wrong_integers.eos_hides_itself, "windows/eos-then-dead", "output"),
    "scale-to-the-nearest": ("ops.codecs:quantise", wrong_floats.scale_to_the_nearest_power, "quantise/blocks",
                             "codes"),
    "scale-for-480": ("ops.codecs:quantise", wrong_floats.scale_for_480, "quantise/scale-edges", "codes"),
    "two-roundings": ("ops.linear:round_bf16", lambda f, x: f(f(x) * np.float32(1 + 2**-8)), "add_residual/fp8_bf16",
                      "output"),
}
"""Name -> the function made wrong, how, a case that must fail, and the first stage it must name."""


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_op_is_found_and_its_first_stage_named(name, vectors, monkeypatch):
    target, wrong, case, stage = WRONG[name]
    only = chosen(vectors, case)
    original, owner = resolve(target, "engram_ref")
    assert failures(only) == []
    replace_everywhere(monkeypatch, original, lambda *a, **k: wrong(original, *a, **k), owner)
    found = failures(only)
    assert stage in {result.stage for result in found}, [str(result) for result in found]
    assert found[0].difference is not None and not found[0].ok


def test_a_wrong_fused_path_is_found_without_a_trace(vectors):
    """What a backend fuses, a trace never sees: the case is run both ways."""
    def fused(*arguments, **named):
        Y, kept = ops.gated_update(*arguments, **named)
        return (1.01 * Y if arguments[-1] is ops.ignore else Y), kept

    namespace = SimpleNamespace(**{name: getattr(ops, name) for name in ops.__all__} | {"gated_update": fused})
    found = failures(chosen(vectors, "engram/demo-like-batch"), namespace)
    assert [(result.traced, result.stage) for result in found] == [(False, "output")]
    assert "without a trace" in str(found[0])


def with_ops(**replaced):
    return SimpleNamespace(**{name: getattr(ops, name) for name in ops.__all__} | replaced)


def test_a_second_acceptable_answer_passes_and_is_named(vectors):
    """Only as a whole: codes made with the floor under scales made without it are wrong."""
    only = chosen(vectors, "quantise/faint")
    unfloored = with_ops(quantise=lambda x, floor: ops.quantise(x, 0.0))
    [found] = verify(unfloored, Adapter(), only)
    assert found.ok and found.accepted == "without a floor" and "by the acceptable answer without a floor" in str(found)
    [plain] = verify(ops, Adapter(), only)
    assert plain.ok and plain.accepted is None
    mixed = with_ops(quantise=lambda x, floor: (ops.quantise(x)[0], ops.quantise(x, 0.0)[1]))
    assert [result.stage for result in failures(only, mixed)] == ["scales"]


@pytest.mark.parametrize(("floor", "ok", "answer"), [(0.0, True, "without a floor"), (1e-4, True, None),
                                                     (1e-2, False, None)])
@pytest.mark.parametrize("name", ["project/v4.1-faint", "engram/v4.1-rounded-faint-16"])
def test_faint_rows_show_the_floor(name, floor, ok, answer, vectors):
    def project(parameters, memory, config):
        return ops.project(parameters, memory, replace(config, quantise_floor=floor))

    def gated_update(p, memory, hidden, taps, dead, config, *rest):
        return ops.gated_update(p, memory, hidden, taps, dead, replace(config, quantise_floor=floor), *rest)

    found = verify(with_ops(project=project, gated_update=gated_update), Adapter(), chosen(vectors, name))
    assert {(result.ok, result.accepted) for result in found} == {(ok, answer)}


def test_an_op_that_raises_is_a_result_and_not_the_end(vectors):
    namespace = SimpleNamespace(linear=ops.linear)
    [found] = failures(chosen(vectors, "linear"), namespace) + failures(chosen(vectors, "silu"), namespace)
    assert found.error == "AttributeError: 'types.SimpleNamespace' object has no attribute 'silu'"
    assert str(found) == f"silu/edges: raised {found.error}"


def test_a_stage_that_is_never_recorded_is_named(vectors):
    namespace = SimpleNamespace(**{name: getattr(ops, name) for name in ops.__all__} | {
        "moe": lambda parameters, x, config, record=None: ops.moe(parameters, x, config)})
    [found] = failures(chosen(vectors, "moe/plain-batch"), namespace)
    assert found.traced and "first differs at experts [exact], expected an array, found none" in str(found)
