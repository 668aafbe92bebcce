"""The options of HF's DeepSeek-V3 configuration: read, unsupported, or ignored."""

import pytest

from engram_ref import InputError
from engram_ref.model.hf_config import FIXED, IGNORED, READ, REQUIRED, config_from_hf
from engram_ref.model_config import YarnConfig

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


def test_options_become_configuration_fields():
    b = config_from_hf(HF | {"rope_parameters": YARN}).backbone
    assert (b.n_layers, b.n_dense_layers, b.hidden_size, b.vocab_size, b.intermediate_size) == (2, 1, 6, 11, 5)
    assert (b.rms_norm_eps, b.attention.latent_norm_eps) == (1e-5, 1e-6), "HF hard-codes the eps of the latents"
    assert b.attention.yarn == YarnConfig(4.0, 0.7, 20, 8.0, 2.0)
    assert b.attention.rope_theta == 50.0
    assert b.hyper is None
    assert (b.experts.n_group, b.experts.topk_group, b.experts.routed_scaling_factor) == (2, 1, 2.5)


def test_older_rotation_options():
    old = {key: value for key, value in HF.items() if key != "rope_parameters"}
    scaling = {"type": "yarn"} | {key: YARN[key] for key in YARN if key not in ("rope_type", "rope_theta")}
    result = config_from_hf(old | {"rope_theta": 50.0, "rope_scaling": scaling})
    assert result == config_from_hf(HF | {"rope_parameters": YARN})
    assert config_from_hf(HF | {"rope_theta": 50.0, "rope_scaling": scaling}) == result, "rope_scaling takes precedence"
    plain = config_from_hf(old | {"rope_theta": 77.0, "rope_scaling": None})
    assert (plain.backbone.attention.rope_theta, plain.backbone.attention.yarn) == (77.0, None)
    assert config_from_hf(old).backbone.attention.rope_theta == 10_000.0


UNSUPPORTED = {
    "unsupported model": ({"model_type": "deepseek_v2"}, "model_type"),
    "unsupported rotation": ({"rope_parameters": {"rope_type": "linear", "factor": 2.0}}, "rope_type"),
    "mscale without mscale_all_dim": ({"rope_parameters": YARN | {"mscale_all_dim": None}}, "mscale, mscale_all_dim"),
    "unequal mscales": ({"rope_parameters": YARN | {"mscale": 1.0}}, "mscale, mscale_all_dim"),
    "neither mscale": ({"rope_parameters": YARN | {"mscale": 0, "mscale_all_dim": 0}}, "mscale, mscale_all_dim"),
    "a factor on the rotary part": ({"rope_parameters": YARN | {"attention_factor": 1.5}}, "attention_factor"),
    "a ramp without rounding": ({"rope_parameters": YARN | {"truncate": False}}, "truncate"),
    "a ramp without rounding, None": ({"rope_parameters": YARN | {"truncate": None}}, "truncate"),
    "part of the rotary channels": ({"rope_parameters": YARN | {"partial_rotary_factor": 0.5}}, "partial_rotary"),
    "YaRN without a factor": ({"rope_parameters": {"rope_type": "yarn"}}, "factor: expected a number, found None"),
    "YaRN without any length": ({"rope_parameters": {"rope_type": "yarn", "factor": 2.0},
                                 "max_position_embeddings": None}, "original_max_position_embeddings"),
    "theta None": ({"rope_parameters": {"rope_theta": None}}, "rope_theta"),
    "an unknown option of the rotation": ({"rope_scaling": {"rope_type": "yarn", "ramp": 1}}, "option ramp"),
    "a rotation as a list": ({"rope_scaling": [1]}, "rope_parameters"),
    "unsupported activation": ({"hidden_act": "gelu"}, "hidden_act"),
    "biases in attention": ({"attention_bias": True}, "attention_bias"),
    "too many experts for the groups": ({"num_experts_per_tok": 3}, "num_experts_per_tok"),
    "no groups": ({"n_group": None}, "n_group: expected an integer, found None"),
    "a count as text": ({"n_routed_experts": "4"}, "n_routed_experts"),
    "a count as a bool": ({"num_hidden_layers": True}, "num_hidden_layers"),
    "an eps as text": ({"rms_norm_eps": "1e-6"}, "rms_norm_eps"),
    "a flag as text": ({"norm_topk_prob": "false"}, "norm_topk_prob"),
    "tie_word_embeddings None": ({"tie_word_embeddings": None}, "tie_word_embeddings"),
    "softmax scores": ({"scoring_func": "softmax"}, "scoring_func.*sigmoid"),
    "groups without a bias": ({"topk_method": "group_limited_greedy"}, "topk_method.*noaux_tc"),
    "experts in every other layer": ({"moe_layer_freq": 2}, "moe_layer_freq"),
    "a sliding window": ({"sliding_window": 128}, "sliding_window"),
    "FP8 weights": ({"quantization_config": {"quant_method": "fp8"}}, r"quantization_config.*bfloat16"),
    "fewer key heads": ({"num_key_value_heads": 1}, "num_key_value_heads"),
    "an inconsistent head_dim": ({"head_dim": 7}, "head_dim"),
    "an inconsistent query width": ({"qk_head_dim": 8}, "qk_head_dim"),
    "conflicting numbers of experts": ({"num_local_experts": 8}, "num_local_experts.*n_routed_experts, 4"),
    "an unknown option": ({"qk_norm": True}, "unknown option qk_norm.*remove it from the dictionary"),
}


@pytest.mark.parametrize(("changes", "message"), UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_unsupported_options_raise(changes, message):
    with pytest.raises(InputError, match=message):
        config_from_hf(HF | changes)


@pytest.mark.parametrize("option", REQUIRED)
def test_a_missing_option_raises(option):
    with pytest.raises(InputError, match=f"the option {option},"):
        config_from_hf({key: value for key, value in HF.items() if key != option})


def test_a_configuration_must_be_a_dictionary():
    with pytest.raises(InputError, match=r"hf_config: expected a dictionary, found list .*to_dict"):
        config_from_hf([HF])


def test_none_is_read_as_in_hf():
    """In HF's class None switches norm_topk_prob off, while an absent option means on."""
    assert config_from_hf(HF | {"norm_topk_prob": None}).backbone.experts.norm_topk_prob is False
    absent = {key: value for key, value in HF.items() if key != "norm_topk_prob"}
    assert config_from_hf(absent) == config_from_hf(HF)
    assert config_from_hf(HF | {"num_key_value_heads": None}) == config_from_hf(HF)
    shorter = {key: value for key, value in YARN.items() if key != "original_max_position_embeddings"}
    assert config_from_hf(HF | {"rope_parameters": shorter}).backbone.attention.yarn.original_length == 100
    unset = YARN | {"beta_fast": None, "beta_slow": None}
    assert config_from_hf(HF | {"rope_parameters": unset}).backbone.attention.yarn == YarnConfig(4.0, 0.7, 20)


def test_an_attention_factor_of_one_allows_any_mscale():
    """In this case HF ignores mscale and scales the scores by mscale_all_dim alone."""
    rope = YARN | {"attention_factor": 1.0, "mscale": 5.0}
    assert config_from_hf(HF | {"rope_parameters": rope}) == config_from_hf(HF | {"rope_parameters": YARN})


# deepseek-ai/DeepSeek-V3, config.json, without the options that HF above defines
PUBLISHED = {
    "architectures": ["DeepseekV3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
    "auto_map": {"AutoConfig": "configuration_deepseek.DeepseekV3Config"}, "bos_token_id": 0, "eos_token_id": 1,
    "ep_size": 1, "hidden_act": "silu", "initializer_range": 0.02, "moe_layer_freq": 1, "norm_topk_prob": True,
    "num_key_value_heads": 2, "num_nextn_predict_layers": 1, "scoring_func": "sigmoid", "topk_method": "noaux_tc",
    "tie_word_embeddings": False, "torch_dtype": "bfloat16", "transformers_version": "4.33.1", "use_cache": True,
    "rope_theta": 50.0, "rope_scaling": {"type": "yarn"} | {key: YARN[key] for key in YARN if key != "rope_type"},
    # from earlier releases of this file
    "aux_loss_alpha": 0.001, "seq_aux": True, "pretraining_tp": 1,
}


def test_the_published_configuration_is_read():
    newer = {key: value for key, value in HF.items() if key not in ("rope_parameters", "rope_interleave")}
    assert config_from_hf(newer | PUBLISHED) == config_from_hf(HF | {"rope_parameters": YARN})
    fp8 = {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": [128, 128]}
    with pytest.raises(InputError, match=r"quantization_config: .*remove this option"):
        config_from_hf(newer | PUBLISHED | {"quantization_config": fp8})


def test_ignored_options_change_nothing():
    for option in IGNORED:
        assert config_from_hf(HF | {option: "anything"}) == config_from_hf(HF)
    assert not set(IGNORED) & set(READ) and not set(FIXED) & {*READ, *IGNORED}


def test_option_aliases():
    renamed = {"num_local_experts" if key == "n_routed_experts" else key: value for key, value in HF.items()}
    assert config_from_hf(renamed) == config_from_hf(HF) == config_from_hf(HF | {"num_local_experts": 4})
