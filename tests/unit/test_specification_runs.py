"""The code that the specification documents show, and nothing else, computes what the package computes."""

from dataclasses import replace

import numpy as np
import pytest

from engram_ref import Addressing, Trace, engram, residual
from engram_ref.model.transformer import forward
from engram_ref.text.maps import load_map
from scripts.builders import small_models
from scripts.builders.emulated_rounding import integer_case
from scripts.builders.small_modules import DEMO, PAPER, QWEN, norm_eps, random_inputs, random_parameters
from tests.compare import assert_close
from tests.specification import modules_of


def as_ids(values):
    return np.array(values, dtype=np.int64)


def addressing_chain(slow, config, raw, dead):
    """Return the integer stages of one sequence, computed by the code of a document."""
    canonical = None if config.vocabulary is None else load_map(config.vocabulary).tolist()
    ids = raw if canonical is None else slow.canonical.canonicalise(raw, canonical, dead)
    pad = config.pad_id if canonical is None else canonical[config.pad_id]
    draw = getattr(slow.hashing, {"pcg64": "pcg_multipliers", "splitmix64": "splitmix_multipliers"}[
        config.multiplier_generator])
    index = config.layer_ids[0] if config.seed_index == "layer_id" else 0
    m = draw(config.seed, index, config.max_ngram, config.canonical_size)
    [columns] = slow.primes.table_primes(config.table_sizes, config.n_heads, 1)
    orders, T = slow.primes.by_order(columns, config.n_heads), range(len(ids))
    windows = [slow.hashing.window(ids, [], t, config.max_ngram, pad, config.eos_id) for t in T]
    return {"canonical_ids": ids, "windows": windows,
            "mix": [[slow.hashing.mix(window[:n], m) for n in config.orders] for window in windows],
            "rows": slow.hashing.rows(ids, [], m, orders, pad, config.eos_id)}


def module_chain(slow, config, parameters, rows, hidden, dead):
    """Return the float stages of one sequence, computed by the code of a document."""
    s, p = slow.module, {name: np.asarray(array, dtype=float).tolist() for name, array in parameters.items()}
    M, D, eps = range(config.n_branches), config.hidden_size, norm_eps(config)
    gain = {name: [s.effective_gain(line, config.gain_form) for line in p[name]] for name in p if name.endswith("gain")}
    p = {"key_bias": [[0.0] * D for _ in M], "value_bias": [0.0] * D} | p
    offsets = parameters["column_offsets"].tolist()
    memory = [s.gather(p["table"], row, offsets) for row in rows]
    value = [s.linear(p["value_weight"], p["value_bias"], e) for e in memory]
    key = [[s.linear(p["key_weight"][m], p["key_bias"][m], e) for m in M] for e in memory]
    query_norm = [[s.rms_norm(h[m], gain["query_gain"][m], eps) for m in M] for h in hidden]
    key_norm = [[s.rms_norm(k[m], gain["key_gain"][m], eps) for m in M] for k in key]
    score = [[s.score(h[m], k[m], gain["query_gain"][m], gain["key_gain"][m], eps) for m in M]
             for h, k in zip(hidden, key, strict=True)]
    alpha = [[s.gate(x, config.gate_form, t in dead) for x in line] for t, line in enumerate(score)]
    gated = [[[a * v for v in values] for a in line] for line, values in zip(alpha, value, strict=True)]
    conv_norm = [[s.rms_norm(u[m], gain["conv_gain"][m], config.conv_norm_eps) for m in M] for u in gated]
    flat = [[x for branch in line for x in branch] for line in conv_norm]
    kernels = [kernel for branch in p["conv_weight"] for kernel in branch]
    conv = [[s.silu(c) for c in line] for line in s.short_conv(flat, kernels, config.conv_dilation)]
    output = [s.add_branches(u, line) for u, line in zip(gated, conv, strict=True)]
    taps = s.next_taps([[0.0] * len(kernels)] * config.conv_span, flat)
    return {"memory": memory, "key": key, "value": value, "query_norm": query_norm, "key_norm": key_norm,
            "score": score, "gate": alpha, "gated": gated, "conv_norm": conv_norm, "conv": conv, "output": output}, taps


def traced(config, parameters, raw, hidden, dead):
    """Return the stages of one sequence as the package computes them."""
    addressing, trace = Addressing(config), Trace()
    mask = np.isin(np.arange(len(raw)), dead)
    ids = as_ids(raw) if addressing.canonical is None else np.where(mask, -1, addressing.canonical[raw])
    rows = addressing.rows(ids, config.layer_ids[0], trace=trace)
    output = engram(parameters, hidden, rows, config, dead=mask, trace=trace)
    residual(hidden, output, config, trace=trace)
    shapes = {key: trace[key].shape[2 if trace[key].shape[0] == 1 else 1 :] for key in trace}
    return {key: trace[key].reshape(len(raw), *shape) for key, shape in shapes.items()}


QWEN_SEEDED = replace(QWEN, multiplier_generator="splitmix64", seed_index="ordinal", seed=1234)


@pytest.mark.parametrize("config", [DEMO, PAPER, QWEN_SEEDED], ids=lambda config: config.name)
def test_documents_compute_the_module(config):
    name = "demo" if config.eos_id is None else "qwen"
    slow, rng, dead = modules_of(name), np.random.default_rng(11), [2] if config.dead_barrier else []
    raw = [9327, 270, 3, 5, 1, 4, 9327] if config.vocabulary else [17, 260, 3, 5, 299, 4, 17]
    parameters, (hidden, _) = random_parameters(config, rng), random_inputs(config, rng, 1, len(raw))
    expected = traced(config, parameters, raw, hidden[0], dead)
    integers = addressing_chain(slow, config, raw, dead)
    for stage, values in integers.items():
        assert_close(stage, as_ids(values), expected[stage], "exact")
    floats, taps = module_chain(slow, config, parameters, integers["rows"], hidden[0].tolist(), dead)
    for stage, values in floats.items():
        assert_close(stage, np.reshape(values, expected[stage].shape), expected[stage], "model")
    assert np.reshape(taps, (-1, *hidden.shape[2:])).shape[0] == config.conv_span
    assert slow.hashing.next_history([], integers["canonical_ids"][:1], 3) == [-1, integers["canonical_ids"][0]]


def test_document_v41_computes_the_module_with_its_roundings():
    slow, dead, raw = modules_of("v4.1"), [1], [9327, 270, 3, 5, 1, 4]
    config, parameters, hidden, _ = integer_case(4)
    hidden, codes = np.concatenate([hidden[0], hidden[1]]), parameters["table_codes"].tolist()
    expected, integers = traced(config, parameters, raw, hidden, dead), addressing_chain(slow, config, raw, dead)
    for stage, values in integers.items():
        assert_close(stage, as_ids(values), expected[stage], "exact")
    flat = (as_ids(integers["rows"]) + parameters["column_offsets"]).tolist()
    memory = [slow.released.memory([(codes[r], parameters["table_scales"][r].tolist()) for r in row]) for row in flat]
    x = [slow.released.requantise(e) for e in memory]
    key = [[slow.released.project(w, e) for w in parameters["key_weight"].tolist()] for e in x]
    value = [slow.released.project(parameters["value_weight"].tolist(), e) for e in x]
    for stage, values in {"memory": memory, "key": key, "value": value}.items():
        assert_close(stage, np.float32(values), expected[stage], "exact")
    gains = parameters["query_gain"].tolist(), parameters["key_gain"].tolist()
    pairs = [[slow.released.alpha(*branch, config.norm_eps, t in dead) for branch in zip(*line, *gains, strict=True)]
             for t, line in enumerate(zip(hidden.tolist(), key, strict=True))]
    for stage, values in zip(("score", "gate"), np.moveaxis(np.array(pairs), -1, 0), strict=True):
        assert_close(stage, values, expected[stage], "f32", 1, np.abs(values) if stage == "score" else None)
    alphas = expected["gate"].tolist()              # of the package, so that the next stages are exact
    gated = [[slow.released.gated(a, v) for a in line] for line, v in zip(alphas, value, strict=True)]
    assert_close("gated", np.float32(gated), expected["gated"], "exact")
    total = [[slow.released.residual(h, u) for h, u in zip(*pair, strict=True)]
             for pair in zip(hidden.tolist(), gated, strict=True)]
    assert_close("residual", np.float32(total), expected["residual"], "exact")


V4 = replace(small_models.FULL, name="v4-eps", backbone=replace(small_models.FULL.backbone, hyper=replace(
    small_models.FULL.backbone.hyper, pre_eps=1e-3, sinkhorn_eps=1e-3)))


@pytest.mark.parametrize("config", [*small_models.MODELS.values(), V4], ids=lambda config: config.name)
def test_document_backbone_computes_the_model(config, monkeypatch):
    monkeypatch.setattr(small_models, "slow", modules_of("backbone", "demo").transformer)
    parameters, ids = small_models.random_model(config), small_models.random_ids(config, 1, 5)
    expected = small_models.slow_forward(parameters, ids, config)
    assert_close("logits", expected, forward(parameters, ids, config), "model")
