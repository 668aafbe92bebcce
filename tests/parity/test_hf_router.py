"""Experts and weights of the definition compared with small random routers of HF's DeepSeek-V2 and V3 classes."""

import numpy as np
import pytest

from engram_ref.model_config import ExpertsConfig
from engram_ref.ops import route
from tests.compare import assert_close

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")        # deprecation warnings of transformers

D, E, K, TOKENS = 6, 12, 3, 200
V2 = {"scoring_func": "softmax", "norm_topk_prob": False, "group_score": "best", "router_bias": False}
GROUPS = {"n_group": 4, "topk_group": 2}
CASES = {
    "v2-greedy": ({"topk_method": "greedy"}, V2),
    "v2-groups": ({"topk_method": "group_limited_greedy"} | GROUPS, V2 | GROUPS),
    "v3-groups": (GROUPS, GROUPS),
    "v3-not-normalised": (GROUPS | {"norm_topk_prob": False}, GROUPS | {"norm_topk_prob": False}),
}
"""Name -> (HF's options, ours)."""


def theirs(name, x):
    """The router's parameters, and its weights [N, E], 0 for experts that are not selected."""
    version = name[:2].upper()
    package = f"transformers.models.deepseek_{version.lower()}"
    configuration = pytest.importorskip(f"{package}.configuration_deepseek_{version.lower()}")
    modeling = pytest.importorskip(f"{package}.modeling_deepseek_{version.lower()}")
    options = {"hidden_size": D, "n_routed_experts": E, "num_experts_per_tok": K, "routed_scaling_factor": 2.5,
               "num_attention_heads": 1, "n_group": 1, "topk_group": 1} | CASES[name][0]
    router = getattr(modeling, f"Deepseek{version}TopkRouter")(getattr(configuration, f"Deepseek{version}Config")(
        **options))
    # Random parameters; V3's biases are mostly negative.
    torch.manual_seed(list(CASES).index(name))
    with torch.no_grad():
        router.weight.copy_(torch.randn(E, D))
        named = {"gate.weight": router.weight.numpy().astype(np.float64)}
        if version == "V3":
            router.e_score_correction_bias.copy_(0.3 * torch.randn(E) - 1.5)
            named["gate.bias"] = router.e_score_correction_bias.numpy().astype(np.float64)
        _, weights, chosen = router(torch.tensor(x))
    # One weight per expert, since the order of the selected ones is arbitrary.
    dense = np.zeros((len(x), E), dtype=np.float32)
    np.put_along_axis(dense, chosen.numpy(), weights.numpy(), axis=1)
    return named, dense


@pytest.mark.parametrize("name", CASES)
def test_experts_and_weights_agree(name):
    x = np.random.default_rng(7).standard_normal((TOKENS, D)).astype(np.float32)
    parameters, expected = theirs(name, x)
    config = ExpertsConfig(E, K, 0, 1, routed_scaling_factor=2.5, **CASES[name][1])
    chosen, weights = route(parameters, x.astype(np.float64), config)
    found = np.zeros((TOKENS, E))
    np.put_along_axis(found, chosen, weights, axis=1)
    assert ((found > 0) == (expected > 0)).all()
    reach = (np.abs(x) @ np.abs(parameters["gate.weight"]).T).max(axis=1, keepdims=True)   # of every logit
    assert_close("weights", found, expected, "f32", D + E, found * (1 + 2 * reach))


def test_groups_affect_the_selection():
    """Scoring groups by their best two experts, or using no groups, selects different experts."""
    x = np.random.default_rng(7).standard_normal((TOKENS, D)).astype(np.float32)
    parameters, expected = theirs("v2-groups", x)
    for fields in (V2 | GROUPS | {"group_score": "best_two"}, V2):
        chosen, _ = route(parameters, x.astype(np.float64), ExpertsConfig(E, K, 0, 1, **fields))
        assert (np.take_along_axis(expected, chosen, axis=1) == 0).any()
