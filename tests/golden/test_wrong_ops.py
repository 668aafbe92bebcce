"""The shipped vectors report a wrong op at its first stage and accept alternative answers."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from engram_ref import ops
from engram_ref.oracle.bugs import namespace_with
from engram_ref.oracle.run import Adapter
from engram_ref.oracle.vectors import read
from engram_ref.oracle.verify import verify


@pytest.fixture(scope="module")
def vectors():
    return read()


def chosen(vectors, prefix):
    """Return the vectors with only the cases whose names start with `prefix`."""
    return replace(vectors, cases=tuple(case for case in vectors.cases if case.name.startswith(prefix)))


def failures(vectors, namespace=ops, adapter=None):
    return [result for result in verify(namespace, adapter or Adapter(), vectors) if not result.ok]


WRONG = {
    "eps-1e-6": ("engram/paper-like-batch", "query_norm"),
    "joint-norm": ("engram/paper-like-batch", "query_norm"),
    "trunc-mod": ("address/dead-flat", "rows"),
    "dead-no-latch": ("address/dead-rows", "windows"),
    "no-signed-sqrt": ("engram/demo-like-batch", "gate"),
    "sign-for-copysign": ("gate/copysign_sqrt-edges", "output"),
    "clamp-missing": ("gate/copysign_sqrt-edges", "output"),
    "taps-reversed": ("engram/demo-like-batch", "conv"),
    "dilation-1": ("gated_conv/demo-like", "conv"),
    "rope-half-split": ("forward/plain-batch", "layers.0.attention.k_pe"),
    "positions-from-zero": ("forward/plain-chunked", "layers.0.attention.k_pe"),
    "topk-ties": ("select_experts/plain-ties", "output"),
    "route-biased-weight": ("moe/plain-batch", "expert_weights"),
    "sinkhorn-rows-first": ("branch_maps/batch", "branch_residual"),
    "weights-by-subtraction": ("route/sigmoid-bias-12", "expert_weights"),
    "weights-without-floor": ("moe/all-zero", "expert_weights"),
    "group-score-sum2": ("select_experts/groups-by-best", "output"),
    "pad-in-qwen": ("windows/eos-then-dead", "output"),
    "no-eos-reset-in-qwen": ("windows/dead-then-eos", "output"),
    "eos-hides-itself": ("windows/eos-then-dead", "output"),
    "scale-nearest": ("quantise/blocks", "codes"),
    "scale-for-480": ("quantise/scale-edges", "codes"),
}
"""Name of a bug -> the case that must fail, and the stage that it must report."""


@pytest.mark.parametrize("name", WRONG)
def test_wrong_op_is_reported_at_its_first_stage(name, vectors):
    case, stage = WRONG[name]
    only = chosen(vectors, case)
    assert failures(only) == []
    failed = failures(only, namespace_with(name))
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
    [failed] = failures(chosen(vectors, "linear/"), namespace) + failures(chosen(vectors, "silu/"), namespace)
    assert failed.error == "AttributeError: 'types.SimpleNamespace' object has no attribute 'silu'"
    assert str(failed) == f"silu/edges: raised {failed.error}"


def test_float32_answers_to_a_float64_case_fail(vectors):
    """They agree within float32's noise, but this package computes the case in float64."""
    [failed] = failures(chosen(vectors, "silu/"), with_ops(silu=lambda x: ops.silu(x).astype("float32")))
    assert str(failed) == "silu/edges, stage output: expected dtype float64, found float32"


def test_missing_stage_is_reported(vectors):
    namespace = SimpleNamespace(**{name: getattr(ops, name) for name in ops.__all__} | {
        "moe": lambda parameters, x, config, record=None: ops.moe(parameters, x, config)})
    [failed] = failures(chosen(vectors, "moe/plain-batch"), namespace)
    assert failed.traced and "stage experts: expected an array, found none" in str(failed)
