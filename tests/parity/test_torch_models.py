"""Modules and whole models on the torch backend compared with NumPy: whole and in chunks, values and gradients."""

from dataclasses import replace

import numpy as np
import pytest

from engram_ref import Trace, engram, ops, residual, start_state
from engram_ref.model.generate import generate
from engram_ref.model.state import DecodeState
from engram_ref.model.transformer import forward
from scripts.builders.small_models import FULL, MODELS, random_ids, random_model
from scripts.builders.small_modules import DIALECTS, V41, random_inputs
from tests.bounds import module_scale
from tests.compare import assert_close
from tests.op_cases import Case
from tests.unit.test_transformer import total_terms

torch = pytest.importorskip("torch", reason="torch is not installed")
from engram_ref.backends import torch as torch_ops  # noqa: E402  needs torch
from tests.torch_cases import error_scales, module_parameters  # noqa: E402

CUTS = ((0, 3), (3, 4), (4, 4), (4, 9))


def module_case(config, dtype, length=9):
    rng = np.random.default_rng(5)
    p = module_parameters(config, rng, dtype)
    hidden, rows = random_inputs(config, rng, 2, length, dtype)
    return p, hidden, rows, rng.random((2, length)) < 0.3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_module_output_matches_numpy(dialect, dtype):
    config = DIALECTS[dialect]
    p, hidden, rows, dead = module_case(config, dtype)
    trace, wide = Trace(), {name: a.astype(np.float64) if a.dtype == np.float32 else a for name, a in p.items()}
    config = config if config.norm_eps is not None else replace(config, norm_eps=float(np.finfo(dtype).eps))
    expected = engram(wide, hidden.astype(np.float64), rows, config, dead=dead, trace=trace)
    found = engram(torch_ops.tensors(p), torch.tensor(hidden), torch.tensor(rows), DIALECTS[dialect],
                   dead=torch.tensor(dead), ops=torch_ops)
    scale = module_scale(trace, wide, config, hidden.astype(np.float64))
    terms = max(config.memory_width, config.hidden_size) + 1
    assert_close(dialect, expected, found.numpy(), "f32" if dtype is np.float32 else "f64", terms, scale)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_module_in_chunks_and_without_a_batch(dialect):
    config = DIALECTS[dialect]
    p, hidden, rows, _ = module_case(config, np.float64)
    p, hidden, rows = torch_ops.tensors(p), torch.tensor(hidden), torch.tensor(rows)
    whole = engram(p, hidden, rows, config, ops=torch_ops)
    state = start_state(config, 2, torch.float64, ops=torch_ops)
    parts = [engram(p, hidden[:, a:b], rows[:, a:b], config, state=state, ops=torch_ops) for a, b in CUTS]
    assert_close(dialect, whole.numpy(), torch.cat(parts, dim=1).numpy(), "model")
    assert_close("one", whole[0].numpy(), engram(p, hidden[0], rows[0], config, ops=torch_ops).numpy(), "model")


def test_the_release_rounds_like_the_definition():
    """With an exact projection, all stages up to key and value are equal; later ones agree within float32 rounding."""
    p, hidden, rows, dead = module_case(V41, np.float32)
    p["table_codes"] = (0x38 + p["table_codes"] % 16) | (p["table_codes"] & 0x80)      # 1 to 3.75 and a sign
    for name in ("key_weight", "value_weight"):              # sums of numbers with few bits are exact in any order
        p[name] = np.round(p[name] * 4) / 4
    numpy_trace, torch_trace = Trace(), Trace()
    engram(p, hidden, rows, V41, dead=dead, trace=numpy_trace)
    Y = engram(torch_ops.tensors(p), torch.tensor(hidden), torch.tensor(rows), V41, dead=torch.tensor(dead),
               ops=torch_ops, trace=torch_trace)
    assert list(numpy_trace) == list(torch_trace)
    for stage in ("memory", "key", "value"):
        assert_close(stage, numpy_trace[stage], torch_trace[stage], "exact")
    assert_after_the_projection(p, hidden, dead, numpy_trace, torch_trace)
    total = residual(torch.tensor(hidden), Y, V41, ops=torch_ops).numpy()
    assert_close("residual", residual(hidden, Y.numpy(), V41), total, "exact")


@pytest.mark.parametrize("floor", [1e-4, 0.0])
@pytest.mark.parametrize("size", [1.0, 2.0**-34], ids=["ordinary", "faint"])
def test_the_release_quantises_the_input_of_its_projections(size, floor):
    """The memory has more bits than FP8; after rounding to FP8, its sums are exact in any order."""
    config = replace(V41, quantise_floor=floor)
    rng = np.random.default_rng(2)
    p = {name: np.round(array * 4) / 4 for name, array in module_parameters(V41, rng, np.float32).items()
         if name in ("key_weight", "value_weight")}
    memory = (size * rng.integers(1, 256, (2, 3, V41.memory_width)) / 16).astype(np.float32)
    found = torch_ops.project(torch_ops.tensors(p), torch.tensor(memory), config)
    for expected, tensor in zip(ops.project(p, memory, config), found, strict=True):
        assert_close("projected", expected, tensor.numpy(), "exact")


def assert_after_the_projection(p, hidden, dead, numpy_trace, torch_trace):
    """The gated values of the recorded keys in float32 agree with those in float64."""
    gains = {name: p[name] for name in ("query_gain", "key_gain")}

    def gated(ops, gains, hidden, key, value, dead):
        return ops.apply_gate(ops.gate(ops.gate_score(gains, hidden, key, V41), V41.gate_form, dead), value)

    arguments = (gains, hidden, numpy_trace["key"], numpy_trace["value"], dead)
    wide = ({name: a.astype(np.float64) for name, a in gains.items()},
            *(a.astype(np.float64) for a in arguments[1:4]), dead)
    scale, = error_scales(Case(None, gated), arguments)
    assert_close("gated", gated(ops, *wide), torch_trace["gated"], "f32", 3 * V41.hidden_size, scale)


def run_model(name, dtype=np.float64, **options):
    config = MODELS[name]
    p, ids = random_model(config, dtype=dtype), random_ids(config, 2, 9)
    return config, p, ids, forward(torch_ops.tensors(p), ids, config, ops=torch_ops, **options)


@pytest.mark.parametrize("absorbed", [False, True], ids=["expanded", "absorbed"])
@pytest.mark.parametrize("name", MODELS)
def test_model_logits_match_numpy(name, absorbed):
    config, p, ids, found = run_model(name, absorbed=absorbed)
    assert_close("logits", forward(p, ids, config), found.numpy(), "model")


@pytest.mark.parametrize("name", MODELS)
def test_a_model_in_float32(name):
    config, p, ids, found = run_model(name, np.float32)
    wide = {key: a.astype(np.float64) if a.dtype == np.float32 else a for key, a in p.items()}
    assert_close("logits", forward(wide, ids, config), found.numpy(), "f32", total_terms(config))


@pytest.mark.parametrize("name", MODELS)
def test_a_model_in_chunks_with_ragged_rows(name):
    """Chunks, a finished row, a rollback and reordered rows give the same results as NumPy."""
    config, p, ids, _ = run_model(name)
    tensors, results = torch_ops.tensors(p), []
    for namespace, parameters, text in ((ops, p, ids), (torch_ops, tensors, torch.tensor(ids))):
        state, parts = DecodeState.start(2), []
        for a, b in CUTS:
            parts.append(forward(parameters, text[:, a:b], config, state=state, ops=namespace))
        state.rollback([2, 5])
        state.reorder([1, 0, 1])
        more = text[[0, 1, 0]][:, :3]
        counts = [3, 0, 2]
        parts.append(forward(parameters, more, config, state=state, counts=counts, ops=namespace))
        parts.append(forward(parameters, more, config, state=state, absorbed=True, ops=namespace))
        results.append([namespace.to_numpy(part) for part in parts])
    for expected, found in zip(*results, strict=True):
        assert_close("logits", expected, found, "model")


@pytest.mark.parametrize("name", MODELS)
def test_generated_tokens_match_numpy(name):
    config, p = MODELS[name], random_model(MODELS[name])
    for prompt in (random_ids(config, 2, 5), [1, 2, 3]):
        found = generate(torch_ops.tensors(p), prompt, config, 4, ops=torch_ops)
        assert_close("tokens", generate(p, prompt, config, 4), found.numpy(), "exact")
    draws = [generate(torch_ops.tensors(p), [[1], [2]], config, 5, temperature=1.0, ops=torch_ops,
                      rng=torch.Generator().manual_seed(3)) for _ in range(2)]
    assert draws[0].shape == (2, 5) and torch.equal(*draws)
    assert generate(torch_ops.tensors(p), [1], config, 0, ops=torch_ops).shape == (0,)


def leaves(config):
    """Parameters as tensors that require gradients."""
    return {name: x.requires_grad_(x.is_floating_point())
            for name, x in torch_ops.tensors(random_model(config)).items()}


def test_a_trace_has_the_same_stages():
    dead = random_ids(FULL, 2, 9) % 4 == 0
    traces = Trace(), Trace()
    forward(random_model(FULL), random_ids(FULL, 2, 9), FULL, dead=dead, trace=traces[0])
    forward(leaves(FULL), random_ids(FULL, 2, 9), FULL, dead=dead, ops=torch_ops, trace=traces[1])
    assert list(traces[0]) == list(traces[1])
    for key in traces[0]:
        exact = traces[0][key].dtype.kind in "ib"
        assert_close(key, traces[0][key], traces[1][key], "exact" if exact else "model")


def test_gradients_reach_every_parameter():
    p, state = leaves(FULL), DecodeState.start(2)
    forward(p, random_ids(FULL), FULL, state=state, ops=torch_ops)
    logits = forward(p, random_ids(FULL), FULL, state=state, ops=torch_ops)
    torch_ops.cross_entropy(logits, torch.tensor(random_ids(FULL))).mean().backward()
    without = [name for name, x in p.items() if x.is_floating_point() and x.grad is None]
    assert without == [name for name in p if name.endswith("gate.bias")]        # only selects experts
