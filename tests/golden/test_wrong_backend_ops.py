"""With any one op of a backend made wrong, the shipped vectors name a stage that the op computes or feeds."""

import importlib.util
from dataclasses import replace

import pytest

from engram_ref.backends import load
from engram_ref.ops.namespace import FIXED
from engram_ref.oracle.run import adapter_of
from engram_ref.oracle.vectors import read
from engram_ref.oracle.verify import verify_case

CASES = ("address/dead-flat", "mla/plain-cached-absorbed", "mla/latent-yarn-batch", "moe/v4-batch", "moe/v2-batch",
         "engram/demo-like-dead", "engram/demo-like-chunked", "engram/tilekernels-like-batch", "engram/no-conv-batch",
         "engram/v4.1-rounded-16", "forward/plain-chunked", "forward/learned-collapse-batch")
"""Cases whose traces show, together, every stage in each of its forms."""


@pytest.fixture(scope="module")
def vectors():
    return read()


def own_ops(name):
    """(class, op) of every op that a backend brings itself and that computes."""
    if importlib.util.find_spec(name) is None:
        return []
    namespace = load(name)
    return [(kind, op) for kind in type(namespace).__mro__ if kind.__module__.startswith("engram_ref.backends")
            for op in vars(kind) if op in set(namespace.names()) - FIXED]


def wrong(answer):
    """Floats larger by a hundredth, whole numbers by one, the other truth value; parts of a tuple likewise."""
    if isinstance(answer, tuple):
        return tuple(map(wrong, answer))
    if answer is None or "float" in str(answer.dtype):
        return answer if answer is None else answer * 1.01
    return ~answer if "bool" in str(answer.dtype) else answer + 1


def stages_named(kind, op, vectors, namespace, monkeypatch, traced=True):
    """Of every case that fails: the last part of the first stage that differs, or "an error"."""
    original = getattr(vars(kind)[op], "__func__", vars(kind)[op])
    made = lambda *arguments, **options: wrong(original(*arguments, **options))
    monkeypatch.setattr(kind, op, staticmethod(made) if isinstance(vars(kind)[op], staticmethod) else method(made))
    results = [verified(case, vectors, namespace, traced) for case in vectors.cases]
    return [(r.case.name, "an error" if r.error else r.stage.rsplit(".", 1)[-1]) for r in results if not r.ok]


def verified(case, vectors, namespace, traced):
    return verify_case(case, vectors, namespace, adapter_of(namespace), traced and case.traced)


def method(function):
    """The same as a function that becomes a method."""
    return lambda self, *arguments, **options: function(self, *arguments, **options)


NAMES = {
    "address": "result logits", "address_layers": "result logits", "angles": "k_pe", "append": "logits",
    "apply_gate": "gated branches", "attend_absorbed": "attention", "attend_expanded": "attention", "cast": "memory",
    "conv_silu": "conv",
    "copysign_sqrt": "gate", "dequantise": "memory", "einsum": "attention_weights k_pe branches",
    "exp": "branch_residual", "expand": "branch_pre residual k_pe", "expert_weights": "expert_weights",
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
"""Op -> the stages that may be named, each being the op's own or the first that it feeds; what is fused shows in a
result alone. Ops that no whole case calls are named by a case of their own."""


WITHOUT_A_TRACE = {"append"}
"""Ops that a run with a trace leaves alone: it writes nothing in place."""

ERRORS = {"select_experts": {"an error"}}
"""Wrong answers that no model can go on with, in some cases."""


@pytest.mark.parametrize("name, kind, op", [(name, *own) for name in ("numba", "torch") for own in own_ops(name)],
                         ids=lambda part: getattr(part, "__name__", part))
def test_wrong_op_is_detected(name, kind, op, vectors, monkeypatch):
    namespace, traced = load(name), kind.__name__ != "Fused" and op not in WITHOUT_A_TRACE
    chosen = replace(vectors, cases=tuple(case for case in vectors.cases if case.op == op
                                          or (case.name in CASES and op in NAMES)))
    assert all(verified(case, chosen, namespace, traced).ok for case in chosen.cases[-3:])
    named = stages_named(kind, op, chosen, namespace, monkeypatch, traced)
    whole = {stage for case, stage in named if case in CASES}
    assert named, f"no shipped case notices a wrong {op}"
    assert bool(whole) == (op in NAMES), named
    assert whole - ERRORS.get(op, set()) <= set(NAMES.get(op, "").split()), named
