"""The backbone with random configurations and chunks, in float64."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engram_ref.model.parameters import check
from engram_ref.model.state import DecodeState
from engram_ref.model.transformer import forward
from engram_ref.model_config import (
    AttentionConfig,
    BackboneConfig,
    ExpertsConfig,
    HyperConfig,
    ModelConfig,
    YarnConfig,
)
from engram_ref.ops import routed_grouped, routed_naive, select_experts, sinkhorn
from engram_ref.oracle.slow import experts as slow_experts
from scripts.builders.small_models import ENGRAM, VOCABULARY, random_ids, random_model
from tests.compare import assert_close

few = settings(derandomize=True, deadline=None, database=None, max_examples=25)
many = settings(few, max_examples=100)
small = st.integers(1, 4)


@st.composite
def attentions(draw):
    yarn = draw(st.none() | st.builds(YarnConfig, st.floats(1, 40), st.floats(0.1, 1), st.integers(20, 4096)))
    return AttentionConfig(draw(small), draw(small), 2 * draw(small), draw(small), draw(small), draw(st.none() | small),
                           draw(st.sampled_from([1e-20, 1e-6])), draw(st.sampled_from([10.0, 10_000.0])), yarn)


@st.composite
def mixtures(draw):
    groups, size = draw(small), draw(st.integers(2, 4))
    kept = draw(st.integers(1, groups))
    return ExpertsConfig(groups * size, draw(st.integers(1, kept * size)), draw(st.integers(0, 2)), draw(small), groups,
                         kept, draw(st.floats(0.5, 3)), draw(st.sampled_from(["sigmoid", "sqrt_softplus"])),
                         draw(st.booleans()))


@st.composite
def models(draw):
    """A model of one to three layers, with a random selection of its optional parts."""
    layers, D = draw(st.integers(1, 3)), draw(st.integers(1, 9))
    hyper = draw(st.none() | st.builds(HyperConfig, st.integers(1, 4), st.integers(1, 20),
                                       collapse=st.sampled_from(["sum", "mean", "head"])))
    dense = draw(st.integers(0, layers))
    backbone = BackboneConfig(layers, dense, D, VOCABULARY, draw(small), draw(attentions()),
                              None if dense == layers else draw(mixtures()), hyper,
                              draw(st.sampled_from([1e-20, 1e-6])), draw(st.booleans()))
    return ModelConfig("random", "", backbone, draw(st.none() | modules(backbone)))


@st.composite
def modules(draw, backbone):
    fields = vars(ENGRAM) | {"hidden_size": backbone.hidden_size, "n_branches": backbone.n_branches}
    layers = draw(st.lists(st.integers(1, backbone.n_layers), min_size=1, max_size=2, unique=True))
    return type(ENGRAM)(**fields | {"layer_ids": tuple(layers), "conv_kernel": draw(st.integers(0, 4)),
                                    "conv_dilation": draw(st.integers(1, 3)),
                                    "eos_id": draw(st.none() | st.just(3)), "max_ngram": 3})


def split(draw, length):
    """Split a text's length into chunks, some of which may be empty."""
    cuts = sorted(draw(st.lists(st.integers(0, length), max_size=4)))
    return [end - begin for begin, end in zip([0, *cuts], [*cuts, length], strict=True)]


def run(parameters, ids, config, lengths, state, absorbed):
    found, begin = [], 0
    for length in lengths:
        found.append(forward(parameters, ids[:, begin : begin + length], config, state=state, absorbed=absorbed))
        begin += length
    return np.concatenate(found, axis=1)


@many
@given(data=st.data(), config=models(), seed=st.integers(0, 99))
def test_chunks_in_either_form_equal_the_whole_text(data, config, seed):
    parameters, ids = random_model(config, seed), random_ids(config, 2, data.draw(st.integers(1, 9)), seed)
    check(parameters, config)
    whole = forward(parameters, ids, config)
    absorbed = data.draw(st.booleans())
    found = run(parameters, ids, config, split(data.draw, ids.shape[1]), DecodeState.start(2), absorbed)
    assert_close("logits", whole, found, "model")
    assert_close("absorbed", whole, forward(parameters, ids, config, absorbed=True), "model")


@few
@given(data=st.data(), config=models(), seed=st.integers(0, 99))
def test_rollback_and_replay_equal_the_whole_text(data, config, seed):
    """Every row has its own random numbers of tokens and drafts, then its own random rollback."""
    B, T = 3, 8
    parameters, ids, drafts = random_model(config, seed), random_ids(config, B, T, seed), random_ids(config, B, 3, 77)
    whole, state = forward(parameters, ids, config), DecodeState.start(B)
    for _ in range(3):
        begin = state.lengths.copy()
        counts = np.minimum(data.draw(st.lists(st.integers(0, 4), min_size=B, max_size=B)), T - begin)
        new = np.full((B, 4), 9)
        for b in range(B):
            new[b, : counts[b]] = ids[b, begin[b] : begin[b] + counts[b]]
        logits = forward(parameters, new, config, state=state, counts=counts)
        for b in range(B):
            assert_close("row", whole[b, begin[b] : begin[b] + counts[b]], logits[b, : counts[b]], "model")
        forward(parameters, drafts, config, state=state, absorbed=True)
        state.rollback(3)
        state.rollback([data.draw(st.integers(0, int(length))) for length in state.lengths])


@few
@given(data=st.data(), config=models(), seed=st.integers(0, 99))
def test_forks_and_reordered_rows_match_separate_runs(data, config, seed):
    parameters, ids = random_model(config, seed), random_ids(config, 3, 9, seed)
    begin, state = data.draw(st.integers(0, 5)), DecodeState.start(3)
    forward(parameters, ids[:, :begin], config, state=state)
    rows = data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=4))
    branch = state.fork()
    branch.reorder(rows)
    rest = random_ids(config, len(rows), 4, seed + 1)
    ours, theirs = [], []
    for t in range(4):
        ours.append(forward(parameters, ids[:, begin + t : begin + t + 1], config, state=state))
        theirs.append(forward(parameters, rest[:, t : t + 1], config, state=branch))
    straight = forward(parameters, ids[:, : begin + 4], config)[:, begin:]
    assert_close("origin", straight, np.concatenate(ours, axis=1), "model")
    beams = np.concatenate([ids[rows, :begin], rest], axis=1)
    assert_close("beams", forward(parameters, beams, config)[:, begin:], np.concatenate(theirs, axis=1), "model")


@many
@given(data=st.data(), config=mixtures(), seed=st.integers(0, 99))
def test_routing_equals_the_slow_implementation(data, config, seed):
    """Scores are multiples of 1/4, to cause ties; biases are negative, so experts masked with 0 would be selected."""
    quarters = st.lists(st.integers(1, 4), min_size=config.n_routed_experts, max_size=config.n_routed_experts)
    scores = np.array([data.draw(quarters) for _ in range(3)]) / 4
    bias = -np.array(data.draw(quarters)) / 2
    chosen = select_experts(scores, bias, config)
    expected = [slow_experts.choose(row, bias.tolist(), config.num_experts_per_tok, config.n_group, config.topk_group)
                for row in scores.tolist()]
    assert chosen.tolist() == expected
    rng, E, F = np.random.default_rng(seed), config.n_routed_experts, config.moe_intermediate_size
    p = {"experts.w1": rng.standard_normal((E, F, 5)), "experts.w2": rng.standard_normal((E, 5, F)),
         "experts.w3": rng.standard_normal((E, F, 5))}
    x, weights = rng.standard_normal((3, 5)), rng.standard_normal(chosen.shape)
    assert_close("grouped", routed_naive(p, x, chosen, weights), routed_grouped(p, x, chosen, weights), "model")


@many
@given(st.integers(1, 8), st.integers(1, 30), st.sampled_from([1e-3, 1.0, 30.0, 128.0, 1e4]), st.integers(0, 999),
       st.sampled_from([np.float32, np.float64]))
def test_sinkhorn_rows_sum_to_one(M, iterations, spread, seed, dtype):
    logits = (spread * np.random.default_rng(seed).standard_normal((20, M, M))).astype(dtype)
    found = sinkhorn(logits, iterations)
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    kind = "f32" if dtype is np.float32 else "f64"
    assert_close("row sums", np.ones((20, M)), found.sum(axis=-1), kind, M)
