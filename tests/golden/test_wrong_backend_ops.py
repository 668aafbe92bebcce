"""If any single op of a backend is wrong, the shipped vectors report a stage that the op computes or feeds."""

import importlib.util
from dataclasses import replace

import pytest

from engram_ref.backends import load
from engram_ref.ops.namespace import FIXED
from engram_ref.ops.vjp.tables import RowGradient
from engram_ref.oracle.run import adapter_of
from engram_ref.oracle.vectors import read
from engram_ref.oracle.verify import verify_case
from tests.golden.test_golden import NO_GRADIENT_CASE

CASES = ("address/dead-flat", "mla/plain-cached-absorbed", "mla/latent-yarn-batch", "moe/v4-batch", "moe/v2-batch",
         "engram/demo-like-dead", "engram/demo-like-chunked", "engram/tilekernels-like-batch", "engram/no-conv-batch",
         "engram/v4.1-rounded-16", "forward/plain-chunked", "forward/learned-collapse-batch")
"""Cases whose traces together contain all stages in all of their forms."""


@pytest.fixture(scope="module")
def vectors():
    return read()


def own_ops(name):
    """Return (class, op) of every op that a backend overrides, except those that compute nothing."""
    if importlib.util.find_spec(name) is None:
        return []
    namespace = load(name)
    return [(kind, op) for kind in type(namespace).__mro__ if kind.__module__.startswith("engram_ref.backends")
            for op in vars(kind) if op in set(namespace.names()) - FIXED - set(NO_GRADIENT_CASE)]


def perturbed(result):
    """Return a wrong result: floats times 1.01, integers plus 1, booleans inverted, and so on inside."""
    if isinstance(result, tuple):
        return tuple(map(perturbed, result))
    if isinstance(result, dict):
        return {name: perturbed(part) for name, part in result.items()}
    if isinstance(result, RowGradient):
        return replace(result, values=perturbed(result.values))
    if result is None or "float" in str(result.dtype):
        return result if result is None else result * 1.01
    return ~result if "bool" in str(result.dtype) else result + 1


def stages_reported(kind, op, vectors, namespace, monkeypatch, traced=True):
    """Return (case, stage) of every case that fails: the last part of the first different stage, or "an error"."""
    original = getattr(vars(kind)[op], "__func__", vars(kind)[op])
    wrong = lambda *arguments, **options: perturbed(original(*arguments, **options))
    monkeypatch.setattr(kind, op, staticmethod(wrong) if isinstance(vars(kind)[op], staticmethod) else method(wrong))
    results = [verified(case, vectors, namespace, traced) for case in vectors.cases]
    return [(r.case.name, "an error" if r.error else r.stage.rsplit(".", 1)[-1]) for r in results if not r.ok]


def verified(case, vectors, namespace, traced):
    return verify_case(case, vectors, namespace, adapter_of(namespace), traced and case.traced)


def method(function):
    """Wrap a callable in a function, so that it is bound as a method."""
    return lambda self, *arguments, **options: function(self, *arguments, **options)


NAMES = {
    "address": "output logits", "address_layers": "output logits", "angles": "k_pe", "append": "logits",
    "apply_gate": "gated branches", "attend_absorbed": "attention", "attend_expanded": "attention", "cast": "memory",
    "conv_silu": "conv",
    "copysign_sqrt": "gate", "dequantise": "memory", "einsum": "attention_weights c_kv k_pe branches",
    "exp": "branch_residual", "expand": "branch_pre residual c_kv k_pe", "expert_weights": "expert_weights",
    "factored_score": "score", "gather": "memory", "gather_decode": "output logits",
    "gated_update": "output logits", "inverse_rms": "query_norm score branch_pre q_nope c_kv",
    "log_normalise": "branch_residual", "mix": "mix", "next_taps": "taps conv", "place": "attention_weights",
    "positions_after": "k_pe", "project_and_gate": "output logits", "quantise": "key", "repeat": "branch_pre",
    "rms_norm": "query_norm conv_norm q_nope c_kv", "rotate": "q_pe k_pe", "round_bf16": "memory",
    "routed_grouped": "feed_forward", "score": "score", "select_experts": "experts", "short_conv": "conv",
    "sigmoid": "gate branch_pre feed_forward", "signed_sqrt": "gate", "silu": "feed_forward",
    "softmax": "attention_weights expert_weights", "sqrt_softplus": "expert_weights", "stack": "key",
    "swiglu": "feed_forward logits", "table_rows": "rows", "visible": "attention_weights", "windows": "windows",
    "zero_dead": "gate",
}
"""Op -> stages that may be reported: its own stage or the first one that it feeds. Fused ops affect only a result. Ops
that are not listed are called by no case in CASES; their own cases report them."""


WITHOUT_A_TRACE = {"append"}
"""Ops that a run with a trace never calls, since it writes nothing in place."""

ERRORS = {"select_experts": {"an error"}}
"""Ops whose wrong results make the model raise in some cases."""


NOT_IN_MODELS = {("torch", "address_layers"), ("numba", "silu")}
"""Overrides that no case in CASES calls, unlike those of another backend: Numba's `address` calls `address_layers`,
and its `swiglu` and `conv_silu` call no `silu`."""


@pytest.mark.parametrize("name, kind, op", [(name, *own) for name in ("numba", "torch") for own in own_ops(name)],
                         ids=lambda part: getattr(part, "__name__", part))
def test_wrong_op_is_detected(name, kind, op, vectors, monkeypatch):
    namespace, traced = load(name), kind.__name__ != "Fused" and op not in WITHOUT_A_TRACE
    in_models = op in NAMES and (name, op) not in NOT_IN_MODELS
    chosen = replace(vectors, cases=tuple(case for case in vectors.cases if case.op == op
                                          or (case.name in CASES and in_models)))
    assert all(verified(case, chosen, namespace, traced).ok for case in chosen.cases[-3:])
    reported = stages_reported(kind, op, chosen, namespace, monkeypatch, traced)
    whole = {stage for case, stage in reported if case in CASES}
    assert reported, f"no shipped case detects a wrong {op}"
    assert bool(whole) == in_models, reported
    assert whole - ERRORS.get(op, set()) <= set(NAMES.get(op, "").split()), reported
