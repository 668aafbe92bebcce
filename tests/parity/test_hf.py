"""The NumPy definition compared with small random models of HF transformers' DeepSeek classes."""

import numpy as np
import pytest

from engram_ref import Trace
from engram_ref.model.hf import from_hf_deepseek_v3
from engram_ref.model.state import DecodeState
from engram_ref.model.transformer import forward
from engram_ref.model_config import ExpertsConfig
from engram_ref.ops import route, router_scores
from scripts import hf_models
from tests.bounds_backbone import float32_roundings, logit_scale
from tests.compare import assert_close
from tests.golden.test_hf_frozen import check_branches, check_logits

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")        # deprecation warnings of transformers


@pytest.mark.parametrize("weights", ["wide", "default"])
@pytest.mark.parametrize("name", hf_models.CASES)
def test_logits_agree(name, weights):
    model, hf_config = hf_models.build(name, weights)
    ids = hf_models.random_ids(name)
    check_logits(hf_models.arrays(model), hf_config, ids, hf_models.logits(model, ids))


@pytest.mark.parametrize("name", ["plain", "q-lora-groups-yarn"])
def test_decoding_with_the_hf_cache_agrees_with_ours(name):
    """Prefill 20 tokens, then decode single tokens; each implementation uses its own cache."""
    model, hf_config = hf_models.build(name)
    config, parameters = from_hf_deepseek_v3(hf_models.arrays(model), hf_config)
    ids, state, trace = hf_models.random_ids(name), DecodeState.start(2), Trace()
    forward(parameters, ids, config, trace=trace)
    found = [forward(parameters, ids[:, :20], config, state=state)]
    found += [forward(parameters, ids[:, t : t + 1], config, state=state, absorbed=True)
              for t in range(20, ids.shape[1])]
    assert_close("logits", hf_models.decoded(model, ids, 20), np.concatenate(found, axis=1), "internals",
                 float32_roundings(config, ids.shape[1]), logit_scale(trace["final_norm"], parameters["head.weight"]))


def test_the_options_of_every_case_have_an_effect():
    """A case whose options have no effect would test nothing."""
    plain = hf_models.build("plain")[1]
    configs = {name: hf_models.build(name)[1] for name in hf_models.CASES}
    assert configs["q-lora"]["q_lora_rank"] == 14
    assert configs["groups"]["n_group"] == 4
    assert configs["yarn"]["rope_parameters"]["rope_type"] == "yarn"
    assert configs["halves"]["rope_interleave"] is False
    assert plain["rope_parameters"]["rope_type"] == "default"
    biases = hf_models.arrays(hf_models.build("groups")[0])["model.layers.1.mlp.gate.e_score_correction_bias"]
    assert biases.max() < 0


@pytest.mark.parametrize("spread", [0.3, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_hyper_connections_agree(seed, spread):
    check_branches(hf_models.branch_arrays(seed, spread))


def weight_bound(scores, chosen, logits, config):
    """Error bound of the selected experts' weights R s / sum(s).

    A score has its own rounding error plus a third of the error of its logit: the slope of the sigmoid is at most 1/4,
    that of sqrt(softplus) less than 1/3.
    """
    picked, errors = (np.take_along_axis(a, chosen, axis=-1) for a in (scores, scores + logits / 3))
    if not config.norm_topk_prob:
        return errors * config.routed_scaling_factor
    total = picked.sum(axis=-1, keepdims=True)
    return config.routed_scaling_factor * (errors + picked / total * errors.sum(axis=-1, keepdims=True)) / total


def assert_routes(config, parameters, x, indices, weights, tolerance_class, slack):
    """Experts and weights are the same. HF's order is arbitrary, so both are sorted by expert."""
    scores = router_scores(x, parameters["gate.weight"], config.scoring_func)
    groups = np.sort((scores + parameters["gate.bias"]).reshape(len(x), config.n_group, -1), axis=-1)
    for ranked in (groups.reshape(len(x), -1), groups[..., -2:].sum(axis=-1)):
        gaps = np.diff(np.sort(ranked, axis=-1), axis=-1)
        assert gaps.min(initial=1.0) > slack, "rounding could change the choice of experts"
    chosen, ours = route(parameters, x, config)
    order, theirs = np.argsort(chosen, axis=-1), np.argsort(indices, axis=-1)
    chosen, ours = (np.take_along_axis(a, order, axis=-1) for a in (chosen, ours))
    indices, weights = (np.take_along_axis(a, theirs, axis=-1) for a in (indices, weights))
    assert_close("experts", indices, chosen, "exact")
    logits = np.abs(x) @ np.abs(parameters["gate.weight"]).T
    assert_close("weights", ours, weights, tolerance_class, x.shape[-1] + config.num_experts_per_tok,
                 weight_bound(scores, chosen, logits, config))


def random_router(seed, experts, D=24):
    """Tokens [N, D], weight [E, D] and bias [E] in float32; biases have both signs."""
    rng = np.random.default_rng(seed)
    return [rng.normal(0, spread, shape).astype(np.float32)
            for spread, shape in ((1.0, (9, D)), (0.3, (experts, D)), (0.5, (experts,)))]


ROUTERS = {"plain": (1, 1, True), "groups": (4, 2, True), "unnormalised": (4, 2, False), "one group kept": (4, 1, None)}


@pytest.mark.parametrize(("n_group", "topk_group", "norm"), ROUTERS.values(), ids=ROUTERS)
@pytest.mark.parametrize("seed", range(3))
def test_v3_router_agrees(seed, n_group, topk_group, norm):
    """HF's router always computes in float32."""
    from transformers import DeepseekV3Config
    from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3TopkRouter

    x, weight, bias = random_router(seed, 16)
    options = {"n_routed_experts": 16, "num_experts_per_tok": 3, "n_group": n_group, "topk_group": topk_group}
    router = DeepseekV3TopkRouter(DeepseekV3Config(hidden_size=24, norm_topk_prob=norm, **options))
    indices, weights = run_router(router, x, weight, bias)
    config = ExpertsConfig(**options, n_shared_experts=1, moe_intermediate_size=1, routed_scaling_factor=2.5,
                           norm_topk_prob=bool(norm))
    parameters = {"gate.weight": weight.astype(float), "gate.bias": bias.astype(float)}
    assert_routes(config, parameters, x.astype(float), indices, weights, "f32", 2.0**-16)


@pytest.mark.parametrize("seed", range(3))
def test_v4_router_agrees(seed):
    """Compare in float64, without groups, and with sqrt(softplus) scores."""
    from transformers.models.deepseek_v4.configuration_deepseek_v4 import DeepseekV4Config
    from transformers.models.deepseek_v4.modeling_deepseek_v4 import DeepseekV4TopKRouter

    x, weight, bias = (array.astype(float) for array in random_router(seed, 16))
    hf = DeepseekV4Config(hidden_size=24, n_routed_experts=16)
    assert np.abs(x @ weight.T).max() < 20, "torch's softplus is exact only below 20"
    indices, weights = run_router(DeepseekV4TopKRouter(hf).double(), x, weight, bias)
    config = ExpertsConfig(16, hf.num_experts_per_tok, hf.n_shared_experts, hf.moe_intermediate_size,
                           routed_scaling_factor=hf.routed_scaling_factor, scoring_func="sqrt_softplus",
                           norm_topk_prob=hf.norm_topk_prob)
    assert_routes(config, {"gate.weight": weight, "gate.bias": bias}, x, indices, weights, "f64", 2.0**-45)


def run_router(router, x, weight, bias):
    """Experts and weights [N, K] of HF's router with these parameters."""
    import torch

    with torch.no_grad():
        router.weight.copy_(torch.tensor(weight))
        router.e_score_correction_bias.copy_(torch.tensor(bias))
        _, weights, indices = router(torch.tensor(x))
    return indices.numpy(), weights.numpy()
