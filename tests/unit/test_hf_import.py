"""Reading HF's DeepSeek-V3 names and configurations, and refusing what would be another function."""

import numpy as np
import pytest

from engram_ref import InputError
from engram_ref.model.hf import config_from_hf, from_hf_deepseek_v3
from engram_ref.model.parameters import shapes
from engram_ref.model.transformer import forward
from engram_ref.model_config import YarnConfig
from engram_ref.ops import half_split_order
from tests.compare import assert_close

HF = {
    "model_type": "deepseek_v3", "vocab_size": 11, "hidden_size": 6, "intermediate_size": 5, "num_hidden_layers": 2,
    "moe_intermediate_size": 3, "num_attention_heads": 2, "n_shared_experts": 2, "n_routed_experts": 4,
    "routed_scaling_factor": 2.5, "kv_lora_rank": 3, "q_lora_rank": None, "qk_rope_head_dim": 6, "v_head_dim": 2,
    "qk_nope_head_dim": 1, "n_group": 2, "topk_group": 1, "num_experts_per_tok": 2, "first_k_dense_replace": 1,
    "norm_topk_prob": True, "rms_norm_eps": 1e-5, "max_position_embeddings": 100, "hidden_act": "silu",
    "rope_parameters": {"rope_type": "default", "rope_theta": 50.0}, "tie_word_embeddings": False,
    "rope_interleave": True, "attention_bias": False,
}
YARN = {"rope_type": "yarn", "rope_theta": 50.0, "factor": 4.0, "mscale": 0.7, "mscale_all_dim": 0.7,
        "original_max_position_embeddings": 20, "beta_fast": 8, "beta_slow": 2}
ATTENTION = {"self_attn.q_proj.weight": (14, 6), "self_attn.kv_a_proj_with_mqa.weight": (9, 6),
             "self_attn.kv_a_layernorm.weight": (3,), "self_attn.kv_b_proj.weight": (6, 3),
             "self_attn.o_proj.weight": (6, 4), "input_layernorm.weight": (6,), "post_attention_layernorm.weight": (6,)}
DENSE = {"mlp.gate_proj.weight": (5, 6), "mlp.up_proj.weight": (5, 6), "mlp.down_proj.weight": (6, 5)}
EXPERTS = {"mlp.gate.weight": (4, 6), "mlp.gate.e_score_correction_bias": (4,), "mlp.experts.gate_up_proj": (4, 6, 6),
           "mlp.experts.down_proj": (4, 6, 3), "mlp.shared_experts.gate_proj.weight": (6, 6),
           "mlp.shared_experts.up_proj.weight": (6, 6), "mlp.shared_experts.down_proj.weight": (6, 6)}
IDS = np.array([[3, 1, 4, 1, 5, 9, 2, 6]])


def state_dict(seed=0):
    """Random arrays under HF's names, written down from their classes."""
    rng = np.random.default_rng(seed)
    named = {"model.embed_tokens.weight": (11, 6), "model.norm.weight": (6,), "lm_head.weight": (11, 6)}
    for i, feed_forward in enumerate((DENSE, EXPERTS)):
        named |= {f"model.layers.{i}.{name}": shape for name, shape in (ATTENTION | feed_forward).items()}
    return {name: rng.standard_normal(shape) for name, shape in named.items()}


def logits(state, hf=HF):
    config, parameters = from_hf_deepseek_v3(state, hf)
    return forward(parameters, IDS, config)


def test_names_and_packing():
    state = state_dict()
    kept = dict(state)
    config, found = from_hf_deepseek_v3(state, HF)
    assert list(found) == list(shapes(config))
    packed = state["model.layers.1.mlp.experts.gate_up_proj"]
    assert_close("w1 is the gate, first", packed[:, :3], found["layers.1.ffn.experts.w1"], "exact")
    assert_close("w3 is up, second", packed[:, 3:], found["layers.1.ffn.experts.w3"], "exact")
    assert_close("w2", state["model.layers.1.mlp.experts.down_proj"], found["layers.1.ffn.experts.w2"], "exact")
    assert_close("dense w2", state["model.layers.0.mlp.down_proj.weight"], found["layers.0.ffn.w2.weight"], "exact")
    assert_close("dense w3", state["model.layers.0.mlp.up_proj.weight"], found["layers.0.ffn.w3.weight"], "exact")
    assert state.keys() == kept.keys(), "the caller's dictionary is not emptied"


def test_experts_kept_apart_are_the_same_model():
    state, prefix = state_dict(), "model.layers.1.mlp.experts."
    whole = logits(state)
    packed, down = state.pop(prefix + "gate_up_proj"), state.pop(prefix + "down_proj")
    for e in range(4):
        state |= {f"{prefix}{e}.gate_proj.weight": packed[e, :3], f"{prefix}{e}.up_proj.weight": packed[e, 3:],
                  f"{prefix}{e}.down_proj.weight": down[e]}
    assert_close("logits", whole, logits(state), "exact")
    del state[prefix + "2.up_proj.weight"]
    with pytest.raises(InputError, match=r"experts\.\d\.up_proj"):
        logits(state)


@pytest.mark.parametrize("q_lora_rank", [None, 4])
def test_half_split_weights_are_reordered(q_lora_rank):
    """A checkpoint for halves, made from ours by the published order, is read back as ours."""
    state, hf = state_dict(), HF | {"q_lora_rank": q_lora_rank}
    query = "self_attn.q_proj.weight" if q_lora_rank is None else "self_attn.q_b_proj.weight"
    rng, order = np.random.default_rng(5), half_split_order(6)
    for i in range(2):
        if q_lora_rank is not None:
            del state[f"model.layers.{i}.self_attn.q_proj.weight"]
            state[f"model.layers.{i}.self_attn.q_a_proj.weight"] = rng.standard_normal((4, 6))
            state[f"model.layers.{i}.self_attn.q_a_layernorm.weight"] = rng.standard_normal(4)
            state[f"model.layers.{i}.{query}"] = rng.standard_normal((14, 4))
    _, ours = from_hf_deepseek_v3(state, hf)
    halves = dict(state)
    for i in range(2):
        heads = state[f"model.layers.{i}.{query}"].reshape(2, 7, -1)
        halves[f"model.layers.{i}.{query}"] = np.concatenate([heads[:, :1], heads[:, 1:][:, order]], 1).reshape(14, -1)
        key = f"model.layers.{i}.self_attn.kv_a_proj_with_mqa.weight"
        halves[key] = np.concatenate([state[key][:3], state[key][3:][order]])
    _, found = from_hf_deepseek_v3(halves, hf | {"rope_interleave": False})
    for name, array in ours.items():
        assert_close(name, array, found[name], "exact")


def test_fields_of_the_configuration():
    b = config_from_hf(HF | {"rope_parameters": YARN}).backbone
    assert (b.n_layers, b.n_dense_layers, b.hidden_size, b.vocab_size, b.intermediate_size) == (2, 1, 6, 11, 5)
    assert (b.rms_norm_eps, b.attention.latent_norm_eps) == (1e-5, 1e-6), "HF hard-wires the latents'"
    assert b.attention.yarn == YarnConfig(4.0, 0.7, 20, 8.0, 2.0)
    assert b.attention.rope_theta == 50.0
    assert b.hyper is None
    assert (b.experts.n_group, b.experts.topk_group, b.experts.routed_scaling_factor) == (2, 1, 2.5)


def test_older_spellings_of_the_rotation():
    old = {key: value for key, value in HF.items() if key != "rope_parameters"}
    scaling = {"type": "yarn"} | {key: YARN[key] for key in YARN if key not in ("rope_type", "rope_theta")}
    found = config_from_hf(old | {"rope_theta": 50.0, "rope_scaling": scaling})
    assert found == config_from_hf(HF | {"rope_parameters": YARN})
    plain = config_from_hf(old | {"rope_theta": 77.0, "rope_scaling": None})
    assert (plain.backbone.attention.rope_theta, plain.backbone.attention.yarn) == (77.0, None)
    assert config_from_hf(old).backbone.attention.rope_theta == 10_000.0


def test_all_layers_dense_and_tied():
    state = {name: array for name, array in state_dict().items() if ".layers.1." not in name}
    hf = HF | {"num_hidden_layers": 1, "first_k_dense_replace": 3, "tie_word_embeddings": True}
    tied = logits(state, hf)
    del state["lm_head.weight"]
    assert_close("logits", tied, logits(state, hf), "exact")
    assert config_from_hf(hf).backbone.experts is None


OTHER_FUNCTIONS = {
    "another model": ({"model_type": "deepseek_v2"}, "model_type"),
    "another rotation": ({"rope_parameters": {"rope_type": "linear", "factor": 2.0}}, "rope_type"),
    "mscale without mscale_all_dim": ({"rope_parameters": YARN | {"mscale_all_dim": None}}, "mscale, mscale_all_dim"),
    "unequal mscales": ({"rope_parameters": YARN | {"mscale": 1.0}}, "mscale, mscale_all_dim"),
    "neither mscale": ({"rope_parameters": YARN | {"mscale": 0, "mscale_all_dim": 0}}, "mscale, mscale_all_dim"),
    "a factor on the rotary part": ({"rope_parameters": YARN | {"attention_factor": 1.5}}, "attention_factor"),
    "a ramp that is not cut": ({"rope_parameters": YARN | {"truncate": False}}, "truncate"),
    "another activation": ({"hidden_act": "gelu"}, "hidden_act"),
    "biases in attention": ({"attention_bias": True}, "attention_bias"),
    "too many experts for the groups": ({"num_experts_per_tok": 3}, "num_experts_per_tok"),
}


@pytest.mark.parametrize(("changes", "words"), OTHER_FUNCTIONS.values(), ids=OTHER_FUNCTIONS)
def test_another_function_is_refused(changes, words):
    with pytest.raises(InputError, match=words):
        config_from_hf(HF | changes)


PACKED, DOWN = "model.layers.1.mlp.experts.gate_up_proj", "model.layers.1.mlp.experts.down_proj"
Q = "model.layers.0.self_attn.q_proj.weight"
DAMAGE = {
    "missing": (lambda s: s.pop("model.norm.weight"), r"an array model\.norm\.weight"),
    "missing bias": (lambda s: s.pop("model.layers.1.mlp.gate.e_score_correction_bias"), "e_score_correction_bias"),
    "missing gates": (lambda s: s.pop(PACKED), "gate_up_proj"),
    "missing down": (lambda s: s.pop(DOWN), "down_proj"),
    "all experts missing": (lambda s: (s.pop(PACKED), s.pop(DOWN)), "experts"),
    "extra": (lambda s: s.update({"model.layers.2.input_layernorm.weight": np.zeros(6)}), r"model\.layers\.2"),
    "a query bias": (lambda s: s.update({"model.layers.0.self_attn.q_proj.bias": np.zeros(14)}), "q_proj.bias"),
    "misshapen": (lambda s: s.update({Q: np.zeros((14, 5))}), "wq.weight"),
    "packed of odd width": (lambda s: s.update({PACKED: np.zeros((4, 5, 6))}), "gate_up_proj"),
    "not finite": (lambda s: s.update({Q: np.full((14, 6), np.nan)}), "wq.weight: expected finite"),
}


@pytest.mark.parametrize("interleave", [True, False], ids=["pairs", "halves"])
@pytest.mark.parametrize(("damage", "words"), DAMAGE.values(), ids=DAMAGE)
def test_a_state_dict_that_does_not_fit_is_refused(damage, words, interleave):
    state = state_dict()
    damage(state)
    with pytest.raises(InputError, match=words):
        from_hf_deepseek_v3(state, HF | {"rope_interleave": interleave})


def test_misshapen_rotary_rows_are_refused_before_they_are_reordered():
    state = state_dict() | {Q: np.zeros((13, 6))}
    with pytest.raises(InputError, match=r"wq\.weight"):
        from_hf_deepseek_v3(state, HF | {"rope_interleave": False})
