"""The whole model: against the slow one, its trace, and what it refuses before anything changes."""

from dataclasses import replace

import numpy as np
import pytest

from engram_ref import InputError, Trace
from engram_ref.model.parameters import shapes
from engram_ref.model.state import DecodeState
from engram_ref.model.transformer import forward
from engram_ref.oracle.small_models import FULL, MODELS, PLAIN, VOCABULARY, random_ids, random_model, slow_forward
from tests.compare import assert_close


def dead_marks(config, ids):
    """Some positions, where the dialect has the mark; never the first, whose window is all padding."""
    if config.engram is None or not config.engram.dead_barrier:
        return None
    return (np.random.default_rng(2).uniform(size=ids.shape) < 0.3) & (np.arange(ids.shape[1]) > 0)


@pytest.mark.parametrize("absorbed", [False, True], ids=["expanded", "absorbed"])
@pytest.mark.parametrize("shape", [(1, 0), (2, 1), (2, 7), (1, 12)], ids=lambda s: f"B={s[0]},T={s[1]}")
@pytest.mark.parametrize("name", MODELS)
def test_logits_match_the_slow_model(name, shape, absorbed):
    config = MODELS[name]
    parameters, ids = random_model(config), random_ids(config, *shape)
    dead = dead_marks(config, ids)
    found = forward(parameters, ids, config, dead=dead, absorbed=absorbed)
    assert_close("logits", slow_forward(parameters, ids, config, dead), found, "model")


@pytest.mark.parametrize("name", MODELS)
def test_a_batch_may_be_missing(name):
    config = MODELS[name]
    parameters, ids = random_model(config), random_ids(config, 1)
    dead = dead_marks(config, ids)
    whole = forward(parameters, ids, config, dead=dead)
    found = forward(parameters, ids[0], config, dead=None if dead is None else dead[0])
    assert_close("logits", whole[0], found, "exact")


def test_no_tokens_and_no_rows():
    parameters = random_model(FULL)
    for shape in ((2, 0), (0, 3), (0, 0)):
        assert forward(parameters, np.zeros(shape, dtype=np.int64), FULL).shape == (*shape, VOCABULARY)
    assert forward(parameters, np.zeros(0, dtype=np.int64), FULL).shape == (0, VOCABULARY)


def sums_on_the_way(config):
    """All matrix products one after the other, as if each token went through every one of them."""
    return sum(shape[-1] for name, shape in shapes(config).items() if len(shape) > 1 and not name.endswith("table"))


@pytest.mark.parametrize("name", MODELS)
def test_float32_in_float32_out(name):
    config = MODELS[name]
    found = forward(random_model(config, dtype=np.float32), random_ids(config), config)
    assert found.dtype == np.float32
    rounded = {name: array.astype(np.float64) if array.dtype == np.float32 else array
               for name, array in random_model(config, dtype=np.float32).items()}
    exact, terms = forward(rounded, random_ids(config), config), sums_on_the_way(config)
    assert_close("logits", exact, found, "f32", terms)


def test_rows_do_not_see_each_other():
    parameters, ids = random_model(FULL), random_ids(FULL, 3)
    whole = forward(parameters, ids, FULL)
    for b in range(3):
        assert_close("row", whole[b], forward(parameters, ids[b], FULL), "model")


def test_nothing_is_written_into():
    parameters, ids = random_model(FULL), random_ids(FULL)
    kept = {name: array.copy() for name, array in parameters.items()}
    forward(parameters, ids, FULL)
    assert ids.tolist() == random_ids(FULL).tolist()
    for name, array in kept.items():
        assert_close(name, array, parameters[name], "exact")


def test_tied_embeddings_are_the_output_matrix():
    tied = replace(PLAIN, backbone=replace(PLAIN.backbone, tie_embeddings=True))
    parameters = random_model(PLAIN)
    parameters["head.weight"] = parameters["embed.weight"]
    untied = forward(parameters, random_ids(PLAIN), PLAIN)
    del parameters["head.weight"]
    assert_close("logits", untied, forward(parameters, random_ids(PLAIN), tied), "exact")


STAGES = """
    layers.0.engram.rows layers.0.engram.memory layers.0.engram.gate layers.0.engram.output layers.0.engram.residual
    layers.0.attn_branches.branch_pre layers.0.attn_branches.branch_post layers.0.attn_branches.branch_residual
    layers.0.attn_branches.branches layers.0.attention.c_kv layers.0.attention.k_pe layers.0.attention.q_nope
    layers.0.attention.q_pe layers.0.attention.attention_weights layers.0.attention.attention
    layers.0.experts.feed_forward layers.1.experts.experts layers.1.experts.expert_weights
    layers.2.ffn_branches.branches final_norm logits""".split()


def test_the_trace_has_every_stage_by_its_path():
    trace = Trace(check_finite=True)
    logits = forward(random_model(FULL), random_ids(FULL), FULL, trace=trace)
    assert [key for key in STAGES if key not in trace] == []
    assert not [key for key in trace if key.startswith("layers.1.engram")], "that layer has no module"
    assert "layers.0.experts.experts" not in trace, "a dense layer"
    assert_close("logits", logits, trace["logits"], "exact")
    sums = trace["layers.2.ffn_branches.branch_residual"].sum(axis=-1)
    assert_close("rows", np.ones(sums.shape), sums, "f64", 3)
    weights = trace["layers.1.attention.attention_weights"]
    assert_close("weights", np.ones(weights.shape[:3]), weights.sum(axis=-1), "f64", 7)


def test_a_trace_may_stop_and_the_state_stays():
    state = DecodeState.start(2)
    with Trace(stop="layers.1.experts.expert_weights") as trace:
        forward(random_model(FULL), random_ids(FULL), FULL, state=state, trace=trace)
    assert "layers.1.experts.expert_weights" in trace
    assert "logits" not in trace
    assert state.lengths.tolist() == [0, 0]
    assert state.caches == {}


def test_the_trace_of_a_plain_stream_has_no_maps():
    trace = Trace()
    forward(random_model(PLAIN), random_ids(PLAIN), PLAIN, trace=trace)
    assert not [key for key in trace if "branch_pre" in key]
    assert "layers.0.attn_branches.branches" in trace


IDS = np.array([[3, 4, 5], [6, 7, 8]])
REFUSED = {
    "an id past the vocabulary": ({"ids": np.array([[3, VOCABULARY, 5], [6, 7, 8]])}, r"ids: .* at position \(0, 1\)"),
    "a negative id": ({"ids": np.array([[3, 4, 5], [6, -1, 8]])}, "ids: .*-1"),
    "ids as floats": ({"ids": IDS.astype(float)}, "ids: expected integers"),
    "ids as truth values": ({"ids": IDS > 3}, "ids"),
    "ids with an axis too many": ({"ids": IDS[None]}, "ids"),
    "one id without an axis": ({"ids": np.int64(3)}, "ids"),
    "a state of another batch": ({"ids": IDS[:1]}, "state: expected 1 rows"),
    "counts of another batch": ({"counts": [1]}, "counts: expected 2 integers from 0 to 3"),
    "a count too large": ({"counts": [1, 4]}, "counts: expected 2 integers from 0 to 3"),
    "a negative count": ({"counts": [1, -1]}, "counts"),
    "half a token": ({"counts": [1, 1.5]}, "counts"),
    "a count as a word": ({"counts": ["one", 2]}, "counts"),
    "dead of another length": ({"dead": np.zeros((2, 4), dtype=bool)}, "dead: expected bool"),
    "dead as numbers": ({"dead": np.zeros((2, 3), dtype=int)}, "dead: expected bool"),
}


def started(parameters):
    """A state with two rows of four tokens, and a copy of all it holds."""
    state = DecodeState.start(2)
    forward(parameters, random_ids(FULL, 2, 4), FULL, state=state)
    return state, {name: array.copy() for name, array in state.caches.items()}


@pytest.mark.parametrize(("changes", "words"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused_and_the_state_stays(changes, words):
    parameters = random_model(FULL)
    state, kept = started(parameters)
    with pytest.raises(InputError, match=words):
        forward(parameters, config=FULL, state=state, **({"ids": IDS} | changes))
    assert state.lengths.tolist() == [4, 4]
    assert list(state.caches) == list(kept)
    for name, array in kept.items():
        assert_close(name, array, state.caches[name], "exact")


@pytest.mark.parametrize("change", [lambda p: p.pop("layers.1.ffn.gate.bias"), lambda p: p.update(other=np.zeros(1)),
                                    lambda p: p.update({"norm.weight": np.full(9, np.nan)})],
                         ids=["missing", "extra", "not finite"])
def test_parameters_are_looked_at_first(change):
    parameters = random_model(FULL)
    state, kept = started(parameters)
    change(parameters)
    with pytest.raises(InputError, match="parameter"):
        forward(parameters, IDS, FULL, state=state)
    assert state.lengths.tolist() == [4, 4]
    assert list(state.caches) == list(kept)


def test_an_id_that_the_modules_do_not_know_is_refused():
    """Embeddings may be padded past the tokenizer's last id; such an id has no canonical id."""
    engram = replace(FULL.engram, vocab_size=50, canonical_size=50)
    config = replace(FULL, engram=engram)
    parameters = random_model(config)
    assert forward(parameters, np.array([49]), config).shape == (1, VOCABULARY)
    with pytest.raises(InputError, match=r"ids: expected values in \[0, 50\), found 50"):
        forward(parameters, np.array([50]), config)


@pytest.mark.parametrize("config", [PLAIN, MODELS["dense"]], ids=lambda c: c.name)
def test_dead_marks_need_a_dialect_that_has_them(config):
    with pytest.raises(InputError, match="dead: expected None"):
        forward(random_model(config), IDS, config, dead=np.zeros((2, 3), dtype=bool))
