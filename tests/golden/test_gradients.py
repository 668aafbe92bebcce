"""Gradients in the shipped vectors: torch's autograd gives the same, and a wrong VJP is reported where it is wrong."""

from dataclasses import replace

import numpy as np
import pytest

from engram_ref import backends
from engram_ref.ops.namespace import NUMPY
from engram_ref.ops.vjp.tables import RowGradient
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


# Wrong gradients: each lacks one term, or has a wrong one

def norm_without_the_mean(upstream, x, gain, eps):
    return NUMPY.inverse_rms(x, eps) * upstream * gain, NUMPY.rms_norm_vjp(upstream, x, gain, eps)[1], None


def gain_of_the_last_token(upstream, x, gain, eps):
    of_x, _, _ = NUMPY.rms_norm_vjp(upstream, x, gain, eps)
    last = lambda a: np.broadcast_to(a, x.shape).reshape(-1, *gain.shape)[-1]
    return of_x, last(upstream * x * NUMPY.inverse_rms(x, eps)), None


def overwritten(vjp, rows_of):
    def wrong(upstream, table, *places, **indices):
        right, *others = vjp(upstream, table, *places, **indices)
        dense = np.zeros(table.shape, upstream.dtype)
        dense[rows_of(*places, **indices).reshape(-1)] = upstream.reshape(-1, table.shape[-1])
        return RowGradient(right.rows, dense[right.rows], right.shape), *others
    return wrong


def slope_without_clamp(upstream, s):
    return (upstream * 0.5 / np.sqrt(np.maximum(np.abs(s), 1e-6)),)


def conv_weight_reversed(upstream, x, weight, dilation, taps):
    of_x, of_weight, _, of_taps = NUMPY.short_conv_vjp(upstream, x, weight, dilation, taps)
    return of_x, of_weight[..., ::-1], None, of_taps


def score_without_the_norms(upstream, hidden, key, query_gain, key_gain, eps):
    scale = upstream[..., None] * NUMPY.inverse_rms(hidden, eps) * NUMPY.inverse_rms(key, eps)
    gains = query_gain * key_gain / np.sqrt(hidden.shape[-1])
    _, *others = NUMPY.factored_score_vjp(upstream, hidden, key, query_gain, key_gain, eps)
    return scale * gains * key, *others


def softmax_without_the_sum(upstream, scores, allowed=None):
    return NUMPY.softmax(scores, allowed) * upstream, None


def weights_without_the_total(upstream, scores, chosen, config):
    gradient = np.zeros_like(scores)
    np.put_along_axis(gradient, chosen, upstream * config.routed_scaling_factor, axis=-1)
    return gradient, None, None


def experts_by_the_last_token(upstream, parameters, x, chosen, weights):
    of_parameters, *others = NUMPY.routed_grouped_vjp(upstream, parameters, x, chosen, weights)
    last = NUMPY.routed_grouped_vjp(upstream[-1:], parameters, x[-1:], chosen[-1:], weights[-1:])[0]
    return of_parameters | {"experts.w2": last["experts.w2"]}, *others


def sinkhorn_of_the_last_step(upstream, logits, iterations, eps=0.0):
    p = NUMPY.sinkhorn(logits, iterations, eps)
    return p * (upstream - (upstream * p).sum(-1, keepdims=True)), None, None


def loss_without_the_target(upstream, logits, targets):
    return NUMPY.softmax(logits) * upstream[..., None], None


WRONG = {
    "norm without its mean": ("rms_norm_vjp", norm_without_the_mean, "rms_norm_vjp/branches", "x",
                              "engram_gradients/demo-like-batch", "hidden"),
    "gain of the last token": ("rms_norm_vjp", gain_of_the_last_token, "rms_norm_vjp/odd-width", "gain",
                               "forward_gradients/plain", "norm.weight"),
    "rows overwritten": ("gather_vjp", overwritten(NUMPY.gather_vjp, lambda rows, offsets: rows + offsets),
                         "gather_vjp/duplicates", "table.values", "engram_gradients/paper-like-batch", "table.values"),
    "tokens overwritten": ("embed_vjp", overwritten(NUMPY.embed_vjp, lambda ids: ids), "embed_vjp/duplicates",
                           "table.values", "forward_gradients/full", "embed.weight.values"),
    "slope in the clamp": ("signed_sqrt_vjp", slope_without_clamp, "signed_sqrt_vjp/edges", "s",
                           "engram_gradients/no-conv-zero-state", "hidden"),
    "taps in reverse": ("short_conv_vjp", conv_weight_reversed, "short_conv_vjp/batch", "weight",
                        "engram_gradients/qwen-like-batch", "conv_weight"),
    "score without its norms": ("factored_score_vjp", score_without_the_norms, "factored_score_vjp/eps-1e-20", "hidden",
                                "engram_gradients/v4.1-like-unrounded-batch", "hidden"),
    "softmax without its sum": ("softmax_vjp", softmax_without_the_sum, "softmax_vjp/plain", "scores",
                                "forward_gradients/dense-absorbed", "layers.0.attn.wkv_b.weight"),
    "weights without their total": ("expert_weights_vjp", weights_without_the_total, "expert_weights_vjp/plain-ties",
                                    "scores", "forward_gradients/plain", "layers.2.ffn.gate.weight"),
    "experts by the last token": ("routed_grouped_vjp", experts_by_the_last_token, "routed_grouped_vjp/unchosen",
                                  "experts.w2", "forward_gradients/plain", "layers.2.ffn.experts.w2"),
    "sinkhorn's last step only": ("sinkhorn_vjp", sinkhorn_of_the_last_step, "sinkhorn_vjp/twenty", "logits",
                                  "forward_gradients/full", "layers.2.ffn_hc.bias"),
    "loss without its target": ("cross_entropy_vjp", loss_without_the_target, "cross_entropy_vjp/batch", "logits",
                                "forward_gradients/full", "head.weight"),
}
"""Title -> VJP, its wrong version, case and stage of the op that must differ, and the same of a whole gradient."""


@pytest.mark.parametrize("form", ["float64", "float32"])
@pytest.mark.parametrize("title", WRONG)
def test_a_wrong_gradient_fails_and_is_located(title, form):
    vjp, wrong, *places = WRONG[title]
    namespace = backends.replace(NUMPY, **{vjp: wrong})
    for name, stage in (places[:2], places[2:]):
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
    lost = backends.replace(NUMPY, round_bf16_vjp=lambda upstream, x: (np.zeros_like(x),))
    assert not verify_case(CASES[name], VECTORS, lost, Adapter(), False).ok
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
