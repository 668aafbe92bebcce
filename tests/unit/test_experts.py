"""DeepSeekMoE: the selection of experts, their weights, and both implementations of the routed experts."""

from dataclasses import replace

import numpy as np
import pytest

from engram_ref.model.declarations import expert_shapes
from engram_ref.model_config import ExpertsConfig
from engram_ref.ops import (
    expert_weights,
    moe,
    route,
    routed_grouped,
    routed_naive,
    router_scores,
    select_experts,
    swiglu,
)
from engram_ref.oracle.slow import experts as slow
from scripts.builders.small_models import EXPERTS, GROUPED, V2_EXPERTS, slow_experts_config
from tests.compare import assert_close

D = 7
CONFIGS = {
    "five experts": EXPERTS,
    "groups of two": GROUPED,
    "one expert": ExpertsConfig(1, 1, 0, 1),
    "all experts": ExpertsConfig(3, 3, 1, 5, routed_scaling_factor=0.5),
    "V4's scores": ExpertsConfig(9, 2, 1, 3, scoring_func="sqrt_softplus"),
    "not normalised": ExpertsConfig(4, 2, 0, 3, norm_topk_prob=False, routed_scaling_factor=3.0),
    "every group kept": ExpertsConfig(6, 2, 1, 3, n_group=3, topk_group=3),
    "groups of three": ExpertsConfig(9, 4, 1, 2, n_group=3, topk_group=2),
    "V2's router": V2_EXPERTS,
    "groups of one": ExpertsConfig(5, 2, 0, 2, n_group=5, topk_group=3, group_score="best"),
}


def case(config, tokens=5, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    p = {name: (rng.standard_normal(shape) / shape[-1] ** 0.5).astype(dtype)
         for name, shape in expert_shapes(config, D).items()}
    if config.router_bias:
        p["gate.bias"] = (0.3 * rng.standard_normal(len(p["gate.bias"])) - 1).astype(dtype)
    return p, rng.standard_normal((tokens, D)).astype(dtype)


def answer_scale(p, x, config):
    """Error scale: absolute values summed through all routed and shared experts, times the largest weight."""
    a = np.abs(x)
    e = {i: np.abs(p[f"experts.w{i}"]) for i in (1, 2, 3)}
    inner = (1.1 * np.einsum("nd,efd->nef", a, e[1]) + 1) * (np.einsum("nd,efd->nef", a, e[3]) + 1)
    scale = max(config.routed_scaling_factor, 3.0) * np.einsum("nef,edf->nd", inner, e[2])
    if config.n_shared_experts:
        s = {i: np.abs(p[f"shared_experts.w{i}.weight"]) for i in (1, 2, 3)}
        scale = scale + ((1.1 * a @ s[1].T + 1) * (a @ s[3].T + 1)) @ s[2].T
    return scale


def terms(config):
    return 2 * D + 3 * config.moe_intermediate_size + config.num_experts_per_tok


@pytest.mark.parametrize("shape", [(1, 0), (1, 1), (2, 3)], ids=lambda s: f"B={s[0]},T={s[1]}")
@pytest.mark.parametrize("name", CONFIGS)
def test_mixture_matches_the_slow_version(name, shape):
    config = CONFIGS[name]
    p, x = case(config, shape[0] * shape[1])
    lists = {key: array.tolist() for key, array in p.items()}
    slow_answers = [slow.mixture(lists, row, slow_experts_config(config)) for row in x.tolist()]
    stages = {}
    result = moe(p, x.reshape(*shape, D), config, record=stages.__setitem__)
    expected = np.array([y for y, _, _ in slow_answers], dtype=float).reshape(*shape, D)
    assert_close("mixture", expected, result, "f64", terms(config), answer_scale(p, x, config).reshape(*shape, D))
    assert stages["experts"].reshape(-1, config.num_experts_per_tok).tolist() == [c for _, c, _ in slow_answers]
    weights = np.array([w for _, _, w in slow_answers]).reshape(*shape, config.num_experts_per_tok)
    assert_close("weights", weights, stages["expert_weights"], "f64", 2 * D,
                 config.routed_scaling_factor * (1 + np.abs(x).sum(axis=-1).max(initial=0.0)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("tokens", [0, 1, 11])
@pytest.mark.parametrize("name", CONFIGS)
def test_grouped_equals_naive(name, tokens, dtype):
    config = CONFIGS[name]
    p, x = case(config, tokens, dtype=dtype)
    chosen, weights = route(p, x, config)
    naive, grouped = (f(p, x, chosen, weights) for f in (routed_naive, routed_grouped))
    scale = answer_scale(p, x, replace(config, n_shared_experts=0)).astype(np.float64)
    kind = "f32" if dtype is np.float32 else "f64"
    assert_close("grouped", naive.astype(np.float64), grouped, kind, terms(config), scale)


@pytest.mark.parametrize("name", CONFIGS)
def test_selection_matches_the_slow_version_with_ties(name):
    """Scores and biases are multiples of 1/4, so sums are exact and every row has ties."""
    config, rng = CONFIGS[name], np.random.default_rng(4)
    scores = rng.integers(1, 4, (200, config.n_routed_experts)) / 4
    none = np.zeros(config.n_routed_experts)
    group_best = slow_experts_config(config)["group_best"]
    for bias in (none, rng.integers(-8, -3, config.n_routed_experts) / 4):
        expected = [slow.choose(row, bias.tolist(), config.num_experts_per_tok, config.n_group, config.topk_group,
                                group_best) for row in scores.tolist()]
        assert select_experts(scores, bias, config).tolist() == expected
    assert select_experts(scores, None, config).tolist() == select_experts(scores, none, config).tolist()


def test_ties_go_to_the_lowest_index():
    assert select_experts(np.full((1, 16), 0.5), np.zeros(16), ExpertsConfig(16, 4, 0, 1)).tolist() == [[0, 1, 2, 3]]
    grouped = ExpertsConfig(8, 2, 0, 1, n_group=4, topk_group=1)
    assert select_experts(np.full((1, 8), 0.5), np.zeros(8), grouped).tolist() == [[0, 1]]


def test_chosen_experts_are_sorted_by_score():
    scores = np.array([[0.1, 0.9, 0.5, 0.7]])
    assert select_experts(scores, np.zeros(4), ExpertsConfig(4, 3, 0, 1)).tolist() == [[1, 3, 2]]


def test_dropped_groups_stay_dropped_when_all_scores_are_negative():
    """A mask value of 0 would exceed every biased score of the kept group."""
    config = ExpertsConfig(4, 2, 0, 1, n_group=2, topk_group=1)
    scores = np.array([[0.5, 0.4, 0.2, 0.1]])
    assert select_experts(scores, np.full(4, -2.0), config).tolist() == [[0, 1]]


def test_group_score_is_the_sum_of_the_best_two():
    """Group 0 has the single best expert; group 1 the best pair."""
    config = ExpertsConfig(6, 1, 0, 1, n_group=2, topk_group=1)
    assert select_experts(np.array([[0.9, 0.1, 0.1, 0.6, 0.6, 0.0]]), np.zeros(6), config).tolist() == [[3]]
    three = np.array([[0.5, 0.5, 0.5, 0.6, 0.45, 0.0]])                  # the best two of three: 1.0 against 1.05
    assert select_experts(three, np.zeros(6), config).tolist() == [[3]]


def test_group_score_of_v2_is_the_best_expert_score():
    """Group 0 has the single best expert; group 1 the best pair."""
    config = ExpertsConfig(6, 1, 0, 1, n_group=2, topk_group=1, group_score="best")
    assert select_experts(np.array([[0.9, 0.1, 0.1, 0.6, 0.6, 0.0]]), None, config).tolist() == [[0]]


def test_softmax_scores_sum_to_one_and_do_not_overflow():
    z = np.array([[1000.0, 999.0, -1000.0], [0.0, 0.0, 0.0]])
    result = router_scores(z, np.eye(3), "softmax")
    e = 1 / np.e
    assert_close("scores", np.array([[1 / (1 + e), e / (1 + e), 0.0], [1 / 3] * 3]), result, "f64", 3)


@pytest.mark.parametrize("form", ["sigmoid", "sqrt_softplus"])
@pytest.mark.parametrize("size", [12.0, 1e4, 1e9])
def test_weights_stay_accurate_with_a_large_bias(size, form):
    """Scores are near 1e-8; computed as (score + bias) - bias they would lose most or all of their digits."""
    z = np.array([-18.0, -17.0, -16.5, -30.0])
    p = {"gate.weight": z[:, None], "gate.bias": size * np.array([1.0, 1.5, 1.25, -1.0])}
    chosen, weights = route(p, np.ones((1, 1)), ExpertsConfig(4, 2, 0, 1, scoring_func=form))
    expected = np.array(slow.weigh([slow.score(v, form) for v in z.tolist()], [1, 2], 1.0))
    assert chosen.tolist() == [[1, 2]]
    assert_close("weights", expected, weights[0], "f64", 4, 18 * expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("form", ["sigmoid", "sqrt_softplus"])
def test_scores_of_zero_give_weights_of_zero(form, dtype):
    p = {"gate.weight": np.full((4, 1), -2000.0, dtype), "gate.bias": np.zeros(4, dtype)}
    config = ExpertsConfig(4, 2, 0, 1, scoring_func=form)
    chosen, weights = route(p, np.ones((1, 1), dtype), config)
    assert chosen.tolist() == [[0, 1]] and weights.tolist() == [[0.0, 0.0]] and weights.dtype == dtype


def test_a_router_without_a_bias_has_no_bias_parameter():
    assert "gate.bias" not in expert_shapes(V2_EXPERTS, D)
    assert "gate.bias" in expert_shapes(EXPERTS, D)


def test_the_bias_affects_selection_but_not_weights():
    config = ExpertsConfig(3, 2, 0, 1, routed_scaling_factor=2.0)
    scores = np.array([[0.25, 0.5, 0.75]])
    chosen = select_experts(scores, np.array([9.0, 0.0, -9.0]), config)
    assert chosen.tolist() == [[0, 1]]
    assert_close("weights", np.array([[2 / 3, 4 / 3]]), expert_weights(scores, chosen, config), "f64", 2)


@pytest.mark.parametrize("name", CONFIGS)
def test_weights_sum_to_the_scaling_factor(name):
    config = CONFIGS[name]
    p, x = case(config)
    chosen, weights = route(p, x, config)
    if config.norm_topk_prob:
        expected = np.full(len(x), config.routed_scaling_factor)
        assert_close("sums", expected, weights.sum(axis=-1), "f64", 2 * config.num_experts_per_tok)
    else:
        scores = router_scores(x, p["gate.weight"], config.scoring_func)
        picked = np.take_along_axis(scores, chosen, axis=-1)
        assert_close("weights", config.routed_scaling_factor * picked, weights, "f64")


def test_shared_experts_are_neither_weighted_nor_scaled():
    p, x = case(EXPERTS)
    silent = p | {"experts.w2": np.zeros_like(p["experts.w2"])}
    shared = swiglu(x, *(p[f"shared_experts.w{i}.weight"] for i in (1, 2, 3)))
    assert_close("shared", shared, moe(silent, x[None], EXPERTS)[0], "exact")


def test_shared_experts_equal_one_wider_network():
    config = replace(EXPERTS, n_shared_experts=3)
    p, x = case(config)
    F, scale = config.moe_intermediate_size, answer_scale(p, x, config)
    w1, w2, w3 = (p[f"shared_experts.w{i}.weight"] for i in (1, 2, 3))
    apart = [swiglu(x, w1[i : i + F], w2[:, i : i + F], w3[i : i + F]) for i in range(0, 3 * F, F)]
    assert_close("shared", sum(apart), swiglu(x, w1, w2, w3), "f64", terms(config) + 3 * F, scale)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("form", ["sigmoid", "sqrt_softplus"])
def test_scores_of_extreme_logits(form, dtype):
    z = np.array([[-1000.0], [-80.0], [-1.5], [0.0], [2.0], [40.0], [1000.0]], dtype=dtype)
    with np.errstate(over="raise", invalid="raise"):
        result = router_scores(z, np.ones((1, 1), dtype=dtype), form)
    assert result.dtype == dtype
    for value, score in zip(z[1:, 0].tolist(), result[1:, 0], strict=True):
        assert_close(f"score of {value}", slow.score(value, form), score, "f32" if dtype is np.float32 else "f64")
    assert result[0] == 0


def test_inputs_are_not_modified():
    p, x = case(GROUPED)
    kept = {name: array.copy() for name, array in (p | {"x": x}).items()}
    moe(p, x[None], GROUPED)
    for name, array in (p | {"x": x}).items():
        assert_close(name, kept[name], array, "exact")
