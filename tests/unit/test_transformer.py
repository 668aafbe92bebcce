"""The whole model: against the slow version, its trace, and errors that are raised before any change."""

from dataclasses import replace

import numpy as np
import pytest

from engram_ref import InputError, Trace
from engram_ref.model.parameters import shapes
from engram_ref.model.state import DecodeState
from engram_ref.model.transformer import forward
from scripts.builders.small_models import FULL, MODELS, PLAIN, VOCABULARY, random_ids, random_model, slow_forward
from tests.compare import assert_close


def dead_marks(config, ids):
    """Random dead positions, or None if the dialect has no DEAD; never the first, whose window is all padding."""
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
    result = forward(parameters, ids, config, dead=dead, absorbed=absorbed)
    assert_close("logits", slow_forward(parameters, ids, config, dead), result, "model")


@pytest.mark.parametrize("name", MODELS)
def test_the_batch_axis_is_optional(name):
    config = MODELS[name]
    parameters, ids = random_model(config), random_ids(config, 1)
    dead = dead_marks(config, ids)
    whole = forward(parameters, ids, config, dead=dead)
    result = forward(parameters, ids[0], config, dead=None if dead is None else dead[0])
    assert_close("logits", whole[0], result, "exact")


def test_empty_sequences_and_empty_batches():
    parameters = random_model(FULL)
    for shape in ((2, 0), (0, 3), (0, 0)):
        assert forward(parameters, np.zeros(shape, dtype=np.int64), FULL).shape == (*shape, VOCABULARY)
    assert forward(parameters, np.zeros(0, dtype=np.int64), FULL).shape == (0, VOCABULARY)


def total_terms(config):
    """Number of terms in all matrix products, as if each token passed through every matrix."""
    return sum(shape[-1] for name, shape in shapes(config).items() if len(shape) > 1 and not name.endswith("table"))


@pytest.mark.parametrize("name", MODELS)
def test_float32_parameters_give_float32_logits(name):
    config = MODELS[name]
    result = forward(random_model(config, dtype=np.float32), random_ids(config), config)
    assert result.dtype == np.float32
    rounded = {name: array.astype(np.float64) if array.dtype == np.float32 else array
               for name, array in random_model(config, dtype=np.float32).items()}
    exact, terms = forward(rounded, random_ids(config), config), total_terms(config)
    assert_close("logits", exact, result, "f32", terms)


def test_rows_are_independent():
    parameters, ids = random_model(FULL), random_ids(FULL, 3)
    whole = forward(parameters, ids, FULL)
    for b in range(3):
        assert_close("row", whole[b], forward(parameters, ids[b], FULL), "model")


def test_arguments_are_not_modified():
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


def test_the_trace_has_every_stage_under_its_path():
    trace = Trace(check_finite=True)
    logits = forward(random_model(FULL), random_ids(FULL), FULL, trace=trace)
    assert [key for key in STAGES if key not in trace] == []
    assert not [key for key in trace if key.startswith("layers.1.engram")], "layer 1 has no Engram module"
    assert "layers.0.experts.experts" not in trace, "layer 0 is dense"
    assert_close("logits", logits, trace["logits"], "exact")
    sums = trace["layers.2.ffn_branches.branch_residual"].sum(axis=-1)
    assert_close("rows", np.ones(sums.shape), sums, "f64", 3)
    weights = trace["layers.1.attention.attention_weights"]
    assert_close("weights", np.ones(weights.shape[:3]), weights.sum(axis=-1), "f64", 7)


def test_a_stopped_trace_leaves_the_state_unchanged():
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
INVALID = {
    "an id past the vocabulary": ({"ids": np.array([[3, VOCABULARY, 5], [6, 7, 8]])}, r"ids: .* at position \(0, 1\)"),
    "a negative id": ({"ids": np.array([[3, 4, 5], [6, -1, 8]])}, "ids: .*-1"),
    "ids as floats": ({"ids": IDS.astype(float)}, "ids: expected integers"),
    "ids as bool": ({"ids": IDS > 3}, "ids"),
    "ids with an extra axis": ({"ids": IDS[None]}, "ids"),
    "ids as a scalar": ({"ids": np.int64(3)}, "ids"),
    "a state of the wrong batch size": ({"ids": IDS[:1]}, "state: expected 1 rows"),
    "counts of the wrong batch size": ({"counts": [1]}, "counts: expected 2 integers from 0 to 3"),
    "a count too large": ({"counts": [1, 4]}, "counts: expected 2 integers from 0 to 3"),
    "a negative count": ({"counts": [1, -1]}, "counts"),
    "a fractional count": ({"counts": [1, 1.5]}, "counts"),
    "a count as text": ({"counts": ["one", 2]}, "counts"),
    "dead of the wrong length": ({"dead": np.zeros((2, 4), dtype=bool)}, "dead: expected bool"),
    "dead as numbers": ({"dead": np.zeros((2, 3), dtype=int)}, "dead: expected bool"),
}


def started(parameters):
    """A state with two rows of four tokens, and a copy of its caches."""
    state = DecodeState.start(2)
    forward(parameters, random_ids(FULL, 2, 4), FULL, state=state)
    return state, {name: array.copy() for name, array in state.caches.items()}


@pytest.mark.parametrize(("changes", "message"), INVALID.values(), ids=INVALID)
def test_invalid_arguments_raise_and_leave_the_state_unchanged(changes, message):
    parameters = random_model(FULL)
    state, kept = started(parameters)
    with pytest.raises(InputError, match=message):
        forward(parameters, config=FULL, state=state, **({"ids": IDS} | changes))
    assert state.lengths.tolist() == [4, 4]
    assert list(state.caches) == list(kept)
    for name, array in kept.items():
        assert_close(name, array, state.caches[name], "exact")


@pytest.mark.parametrize("change", [lambda p: p.pop("layers.1.ffn.gate.bias"), lambda p: p.update(other=np.zeros(1)),
                                    lambda p: p.update({"norm.weight": np.full(9, np.nan)})],
                         ids=["missing", "extra", "not finite"])
def test_parameters_are_checked_first(change):
    parameters = random_model(FULL)
    state, kept = started(parameters)
    change(parameters)
    with pytest.raises(InputError, match="parameter"):
        forward(parameters, IDS, FULL, state=state)
    assert state.lengths.tolist() == [4, 4]
    assert list(state.caches) == list(kept)


def test_an_id_without_a_canonical_id_raises():
    """Embeddings may be padded past the tokenizer's last id; such an id has no canonical id."""
    engram = replace(FULL.engram, vocab_size=50, canonical_size=50)
    config = replace(FULL, engram=engram)
    parameters = random_model(config)
    assert forward(parameters, np.array([49]), config).shape == (1, VOCABULARY)
    with pytest.raises(InputError, match=r"ids: expected values in \[0, 50\), found 50"):
        forward(parameters, np.array([50]), config)


@pytest.mark.parametrize("config", [PLAIN, MODELS["dense"]], ids=lambda c: c.name)
def test_dead_marks_raise_unless_the_dialect_has_them(config):
    with pytest.raises(InputError, match="dead: expected None"):
        forward(random_model(config), IDS, config, dead=np.zeros((2, 3), dtype=bool))
