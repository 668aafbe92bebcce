"""The shipped vectors report a wrong op at its first stage and accept alternative answers."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from engram_ref import ops
from engram_ref.oracle.run import Adapter
from engram_ref.oracle.vectors import read
from engram_ref.oracle.verify import verify
from engram_ref.oracle.wrong import backbone, floats, integers
from tests.mutants import replace_everywhere, resolve


@pytest.fixture(scope="module")
def vectors():
    return read()


def chosen(vectors, prefix):
    """Return the vectors with only the cases whose names start with `prefix`."""
    return replace(vectors, cases=tuple(case for case in vectors.cases if case.name.startswith(prefix)))


def failures(vectors, namespace=ops, adapter=None):
    return [result for result in verify(namespace, adapter or Adapter(), vectors) if not result.ok]


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
    "bias-in-weights": ("ops.experts:expert_weights", lambda f, scores, chosen, config: f(scores + 0.1, chosen, config),
                        "moe/plain-batch", "expert_weights"),
    "rows-then-columns": ("ops.branches:sinkhorn", lambda f, logits, iterations, eps=0.0: f(
        logits.swapaxes(-1, -2), iterations, eps).swapaxes(-1, -2), "branch_maps/batch", "branch_residual"),
    "weights-by-subtraction": ("ops.experts:route", backbone.weights_by_subtraction, "route/sigmoid-bias-12",
                               "expert_weights"),
    "weights-without-a-floor": ("ops.experts:expert_weights", backbone.weights_without_a_floor, "moe/all-zero",
                                "expert_weights"),
    "groups-by-their-best-two": ("ops.experts:select_experts", backbone.groups_by_best_two,
                                 "select_experts/groups-by-best", "output"),
    "padded-where-eos-fills": ("ops.hashing:windows", integers.always_padded, "windows/eos-then-dead", "output"),
    "eos-not-hidden": ("ops.hashing:windows", integers.never_reset, "windows/dead-then-eos", "output"),
    "eos-hides-itself": ("ops.hashing:windows", integers.eos_hides_itself, "windows/eos-then-dead", "output"),
    "scale-to-the-nearest": ("ops.codecs:quantise", floats.scale_to_the_nearest_power, "quantise/blocks",
                             "codes"),
    "scale-for-480": ("ops.codecs:quantise", floats.scale_for_480, "quantise/scale-edges", "codes"),
    "two-roundings": ("ops.linear:round_bf16", lambda f, x: f(f(x) * np.float32(1 + 2**-8)), "add_residual/fp8_bf16",
                      "output"),
}
"""Name -> function that is replaced, wrong variant, case that must fail, and the first stage that it must report."""


@pytest.mark.parametrize("name", WRONG)
def test_wrong_op_is_reported_at_its_first_stage(name, vectors, monkeypatch):
    target, wrong, case, stage = WRONG[name]
    only = chosen(vectors, case)
    original, owner = resolve(target, "engram_ref")
    assert failures(only) == []
    replace_everywhere(monkeypatch, original, lambda *a, **k: wrong(original, *a, **k), owner)
    failed = failures(only)
    assert stage in {result.stage for result in failed}, [str(result) for result in failed]
    assert failed[0].difference is not None and not failed[0].ok


def test_wrong_fused_path_is_detected_without_a_trace(vectors):
    """A trace does not run fused kernels, so each case also runs without one."""
    def fused(*arguments, **named):
        Y, kept = ops.gated_update(*arguments, **named)
        return (1.01 * Y if arguments[-1] is ops.ignore else Y), kept

    namespace = SimpleNamespace(**{name: getattr(ops, name) for name in ops.__all__} | {"gated_update": fused})
    failed = failures(chosen(vectors, "engram/demo-like-batch"), namespace)
    assert [(result.traced, result.stage) for result in failed] == [(False, "output")]
    assert "without a trace" in str(failed[0])


def with_ops(**replaced):
    return SimpleNamespace(**{name: getattr(ops, name) for name in ops.__all__} | replaced)


def test_alternative_answer_passes_and_is_reported(vectors):
    """A mixture of two answers fails: codes with the floor and scales without it."""
    only = chosen(vectors, "quantise/faint")
    unfloored = with_ops(quantise=lambda x, floor: ops.quantise(x, 0.0))
    [other] = verify(unfloored, Adapter(), only)
    assert other.ok and other.accepted == "without a floor" and "acceptable answer without a floor" in str(other)
    [plain] = verify(ops, Adapter(), only)
    assert plain.ok and plain.accepted is None
    mixed = with_ops(quantise=lambda x, floor: (ops.quantise(x)[0], ops.quantise(x, 0.0)[1]))
    assert [result.stage for result in failures(only, mixed)] == ["scales"]


@pytest.mark.parametrize(("floor", "ok", "answer"), [(0.0, True, "without a floor"), (1e-4, True, None),
                                                     (1e-2, False, None)])
@pytest.mark.parametrize("name", ["project/v4.1-faint", "engram/v4.1-rounded-faint-16"])
def test_faint_rows_depend_on_the_floor(name, floor, ok, answer, vectors):
    def project(parameters, memory, config):
        return ops.project(parameters, memory, replace(config, quantise_floor=floor))

    def gated_update(p, memory, hidden, taps, dead, config, *rest):
        return ops.gated_update(p, memory, hidden, taps, dead, replace(config, quantise_floor=floor), *rest)

    results = verify(with_ops(project=project, gated_update=gated_update), Adapter(), chosen(vectors, name))
    assert {(result.ok, result.accepted) for result in results} == {(ok, answer)}


def test_exception_is_reported_as_a_result(vectors):
    namespace = SimpleNamespace(linear=ops.linear)
    [failed] = failures(chosen(vectors, "linear"), namespace) + failures(chosen(vectors, "silu"), namespace)
    assert failed.error == "AttributeError: 'types.SimpleNamespace' object has no attribute 'silu'"
    assert str(failed) == f"silu/edges: raised {failed.error}"


def test_missing_stage_is_reported(vectors):
    namespace = SimpleNamespace(**{name: getattr(ops, name) for name in ops.__all__} | {
        "moe": lambda parameters, x, config, record=None: ops.moe(parameters, x, config)})
    [failed] = failures(chosen(vectors, "moe/plain-batch"), namespace)
    assert failed.traced and "first differs at experts [exact], expected an array, found none" in str(failed)
