"""Gradients in the shipped vectors: torch's autograd gives the same, and a wrong VJP is reported where it is wrong."""

from dataclasses import replace

import numpy as np
import pytest

from engram_ref import backends
from engram_ref.ops.namespace import NUMPY
from engram_ref.oracle.bugs import namespace_with
from engram_ref.oracle.check.difference import explained
from engram_ref.oracle.check.judge import judge
from engram_ref.oracle.encoding import decode_all
from engram_ref.oracle.run import Adapter, adapter_of, run
from engram_ref.oracle.vectors import read
from engram_ref.oracle.verify import verify, verify_case
from tests.ports import FLOAT32

VECTORS = read()
CASES = {case.name: case for case in VECTORS.cases if case.kind == "gradients"}


def arguments_of(name):
    return decode_all(CASES[name].arguments, VECTORS.arrays, VECTORS.configurations)


def expected(name, stage):
    return next(each.array for each in CASES[name].stages if each.name == stage)


@pytest.mark.parametrize("name", CASES)
def test_autograd_gives_the_same_gradients(name):
    """The torch backend has no VJPs: it differentiates its own ops."""
    pytest.importorskip("torch")
    torch = backends.load("torch")
    result = verify_case(CASES[name], VECTORS, torch, adapter_of(torch), False)
    assert result.ok, str(result)


def test_the_torch_backend_has_no_formulas_of_gradients():
    pytest.importorskip("torch")
    torch = backends.load("torch")
    vjps = [name for name in torch.names() if name.endswith("_vjp")]
    assert {getattr(torch, name).__module__ for name in vjps} == {"engram_ref.backends.torch.autograd"} and vjps


WRONG = {
    "norm-vjp-r-constant": ("rms_norm_vjp/branches", "x", "engram_gradients/demo-like-batch", "hidden"),
    "gain-vjp-last-token": ("rms_norm_vjp/odd-width", "gain", "forward_gradients/plain", "norm.weight"),
    "scatter-overwrites": ("gather_vjp/duplicates", "table.values", "engram_gradients/paper-like-batch",
                           "table.values", "embed_vjp/duplicates", "table.values", "forward_gradients/full",
                           "layers.2.engram.table.values"),
    "clamp-vjp-slope": ("signed_sqrt_vjp/edges", "s", "engram_gradients/no-conv-zero-state", "hidden"),
    "conv-vjp-weight-reversed": ("short_conv_vjp/batch", "weight", "engram_gradients/qwen-like-batch", "conv_weight"),
    "score-vjp-query-norm-constant": ("factored_score_vjp/eps-1e-20", "hidden",
                                      "engram_gradients/v4.1-like-unrounded-batch", "hidden"),
    "softmax-vjp-no-sum": ("softmax_vjp/plain", "scores", "forward_gradients/dense-absorbed",
                           "layers.0.attn.wkv_b.weight"),
    "weights-vjp-total-constant": ("expert_weights_vjp/plain-ties", "scores", "forward_gradients/plain",
                                   "layers.2.ffn.gate.weight"),
    "router-vjp-missing": ("routed_grouped_vjp/unchosen", "weights", "forward_gradients/plain",
                           "layers.2.ffn.gate.weight"),
    "sinkhorn-vjp-last-step": ("sinkhorn_vjp/twenty", "logits", "forward_gradients/full", "layers.2.ffn_hc.bias"),
    "cross-entropy-vjp-no-one": ("cross_entropy_vjp/batch", "logits", "forward_gradients/full", "head.weight"),
}
"""Bug of the catalogue -> case and first wrong stage of each of its ops, and the same of a whole gradient."""


@pytest.mark.parametrize("form", ["float64", "float32"])
@pytest.mark.parametrize("title", WRONG)
def test_a_wrong_gradient_fails_and_is_located(title, form):
    places, namespace = WRONG[title], namespace_with(title)
    for name, stage in zip(places[::2], places[1::2], strict=True):
        case, adapter = CASES[name], FLOAT32 if form == "float32" else Adapter()
        narrow = lambda stages: {key: array.astype(np.float32) if form == "float32" and array.dtype.kind == "f" else
                                 array for key, array in stages.items()}
        assert all(result.ok for result in judge(case, VECTORS, narrow(run(case, VECTORS, NUMPY, adapter, False))))
        results = judge(case, VECTORS, narrow(run(case, VECTORS, namespace, adapter, False)))
        first = next(result for result in results if not result.ok)
        assert first.stage == stage
        lines = list(explained(VECTORS, case, first))
        assert lines[0].startswith(f"First difference: case {name}, stage {stage}: ")
        if form == "float64":
            [failed] = verify(namespace, Adapter(), replace(VECTORS, cases=(case,)))
            assert failed.stage == stage


def test_every_module_and_model_reads_rows_several_times():
    for name in CASES:
        if name.startswith("engram_gradients") and "table" in arguments_of(name)["parameters"]:
            p, rows = arguments_of(name)["parameters"], arguments_of(name)["rows"]
            flat = (rows + p["column_offsets"]).ravel()
            assert len(np.unique(flat)) < flat.size
            np.testing.assert_array_equal(expected(name, "table.rows"), np.unique(flat))
        if name.startswith("forward_gradients"):
            ids = arguments_of(name)["ids"]
            assert len(np.unique(ids)) < ids.size


def test_a_model_has_an_expert_that_nobody_chose():
    gradient = expected("forward_gradients/plain", "layers.2.ffn.experts.w2")
    assert not gradient.any(axis=(1, 2)).all() and gradient.any(axis=(1, 2)).any()


def test_dead_positions_and_the_clamp_stop_gradients():
    zero = {name: not expected("engram_gradients/no-conv-zero-state", name).any()
            for name in ("hidden", "query_gain", "key_gain", "key_weight", "value_weight")}
    assert zero == dict.fromkeys(zero, True) | {"value_weight": False}
    name, dead = "engram_gradients/short-kernel-dead", arguments_of("engram_gradients/short-kernel-dead")["dead"]
    assert not expected(name, "hidden")[dead].any()


def test_roundings_pass_gradients_unrounded():
    """With the gradient of a rounding left out, nothing before it would have one."""
    name = "engram_gradients/v4.1-rounded"
    assert expected(name, "key_weight").any() and expected(name, "value_weight").any()
    assert not verify_case(CASES[name], VECTORS, namespace_with("rounding-vjp-zero"), Adapter(), False).ok
    rounded = backends.replace(NUMPY, round_bf16_vjp=lambda upstream, x: (NUMPY.round_bf16(upstream),))
    assert not verify_case(CASES[name], VECTORS, rounded, Adapter(), False).ok


def test_rows_of_a_dense_gradient_are_its_answers():
    """What README.md of a kit says to a port with dense gradients."""
    name, a = "gather_vjp/duplicates", arguments_of("gather_vjp/duplicates")
    dense = np.zeros(a["table"].shape)
    np.add.at(dense, (a["rows"] + a["offsets"]).ravel(), a["upstream"].reshape(-1, a["table"].shape[1]))
    rows = expected(name, "table.rows")
    results = judge(CASES[name], VECTORS, {"table.rows": rows, "table.values": dense[rows]})
    assert [result.ok for result in results] == [True, True]
