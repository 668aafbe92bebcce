"""The fields of every preset compared with HF transformers' configuration classes, and the fields HF does not have."""

from dataclasses import fields

import pytest

from engram_ref import model_preset, preset
from engram_ref.config import EngramConfig
from engram_ref.model.hf_config import FIXED, IGNORED, LATENT_EPS, READ, config_from_hf
from engram_ref.model_config import AttentionConfig, BackboneConfig, ExpertsConfig, HyperConfig
from engram_ref.ops.branches import HEAD_FLOOR
from tests.golden.test_hf_frozen import V4
from tests.parity import hf_qwen

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")        # deprecation warnings of transformers

QWEN = {
    "n_branches": lambda hf: hf.hc_count,
    "vocab_size": lambda hf: hf.vocab_size,
    "canonical_size": lambda hf: hf.vocab_size,
    "max_ngram": lambda hf: hf.ngram_size,
    "n_heads": lambda hf: hf.heads_per_ngram,
    "table_sizes": lambda hf: (hf.ngram_vocab_size_base,) * (hf.ngram_size - 1),
    "seed": lambda hf: hf.seed,
    "row_width": lambda hf: hf.ple_embed_dim // ((hf.ngram_size - 1) * hf.heads_per_ngram),
    "row_multiple": lambda hf: hf.make_ngram_vocab_size_divisible_by,
    "norm_eps": lambda hf: hf.rms_norm_eps,
    "conv_norm_eps": lambda hf: hf.rms_norm_eps,
    "conv_kernel": lambda hf: hf.ple_conv_kernel_size,
}
"""Field -> its value in HF's configuration for the release's hidden size."""

QWEN_BY_CODE = {
    "layer_base": lambda layer: preset("qwen4exp-ple").layer_ids[0] - layer.layer_idx,
    "conv_dilation": lambda layer: layer.conv1d.dilation[0],
    "projection_bias": lambda layer: layer.key_proj.bias is not None or layer.value_proj.bias is not None,
    "conv_init": lambda layer: "zeros" if not layer.conv1d.weight.any() else "uniform",
    "gain_form": lambda layer: "zero_centred" if not layer.norm_key.weight.any() else "plain",
}
"""Field -> its value in a layer after HF's initialisation."""

QWEN_COMPARED_BY_VALUE = ("vocabulary", "dead_barrier", "multiplier_generator", "seed_index", "multipliers",
                          "score_form", "gate_form", "rounding")
"""Fields without an option in HF: test_hf_qwen.py compares multipliers, rows and outputs, which depend on them."""

QWEN_NOT_PUBLISHED = ("name", "source", "layer_ids", "hidden_size", "pad_id", "eos_id", "table_codec",
                      "quantise_floor")
"""Fields that HF's class lacks or replaces: values of the release, choices, or fields without effect in HF."""


def qwen_config():
    from transformers.models.qwen4_exp.configuration_qwen4_exp import Qwen4ExpTextConfig

    config = preset("qwen4exp-ple")
    return Qwen4ExpTextConfig(hidden_size=config.hidden_size, ple_layer_ids=list(config.layer_ids),
                              eos_token_id=config.eos_id)


def assert_all_covered(config_class, *groups):
    """Every field is in exactly one group."""
    listed = [name for group in groups for name in group]
    assert sorted(listed) == sorted(field.name for field in fields(config_class))


def test_qwen_fields_match_the_hf_configuration():
    assert_all_covered(EngramConfig, QWEN, QWEN_BY_CODE, QWEN_COMPARED_BY_VALUE, QWEN_NOT_PUBLISHED)
    config, hf = preset("qwen4exp-ple"), qwen_config()
    assert {name: getattr(config, name) for name in QWEN} == {name: value(hf) for name, value in QWEN.items()}


def test_qwen_fields_match_the_hf_layer():
    config = preset("qwen4exp-ple")
    layer = hf_qwen.build_model(hf_qwen.ours("three branches")).layers[1].ple
    assert {name: getattr(config, name) for name in QWEN_BY_CODE} == \
        {name: value(layer) for name, value in QWEN_BY_CODE.items()}


V3 = {
    "n_layers": "num_hidden_layers", "n_dense_layers": "first_k_dense_replace", "hidden_size": "hidden_size",
    "vocab_size": "vocab_size", "intermediate_size": "intermediate_size", "rms_norm_eps": "rms_norm_eps",
    "tie_embeddings": "tie_word_embeddings",
}
V3_ATTENTION = {
    "n_heads": "num_attention_heads", "qk_nope_head_dim": "qk_nope_head_dim", "qk_rope_head_dim": "qk_rope_head_dim",
    "v_head_dim": "v_head_dim", "kv_lora_rank": "kv_lora_rank", "q_lora_rank": "q_lora_rank",
}
V3_EXPERTS = {name: name for name in ("n_routed_experts", "num_experts_per_tok", "n_shared_experts",
                                      "moe_intermediate_size", "n_group", "topk_group", "routed_scaling_factor",
                                      "norm_topk_prob")}
V3_OTHERWISE = {"latent_norm_eps", "rope_theta", "yarn"}, {"attention", "experts", "hyper"}
"""Fields compared separately: the latents' eps is hard-coded, RoPE is nested, and there are no hyper-connections."""


def test_v3_fields_match_the_hf_configuration():
    from transformers import DeepseekV3Config
    from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3RMSNorm

    hf, backbone = DeepseekV3Config(), model_preset("v3-like").backbone
    attention, experts = backbone.attention, backbone.experts
    for ours, mapping in ((backbone, V3), (attention, V3_ATTENTION), (experts, V3_EXPERTS)):
        assert {name: getattr(ours, name) for name in mapping} == \
            {name: getattr(hf, option) for name, option in mapping.items()}
    assert_all_covered(AttentionConfig, V3_ATTENTION, V3_OTHERWISE[0])
    assert_all_covered(BackboneConfig, V3, V3_OTHERWISE[1])
    left = {field.name for field in fields(ExpertsConfig)} - set(V3_EXPERTS)
    assert left <= {"scoring_func", "group_score", "router_bias"}
    assert attention.latent_norm_eps == LATENT_EPS == DeepseekV3RMSNorm(2).variance_epsilon
    assert hf.rope_parameters == {"rope_type": "default", "rope_theta": attention.rope_theta}
    assert attention.yarn is None
    assert backbone.hyper is None
    assert config_from_hf(hf.to_dict()).backbone == backbone, "the importer reads the same model"


def test_every_option_of_hfs_v3_class_is_classified():
    from transformers import DeepseekV3Config

    options = set(DeepseekV3Config().to_dict()) | {"rope_scaling", "rope_theta", "quantization_config", "torch_dtype"}
    assert options <= {*READ, *FIXED, *IGNORED}, options - {*READ, *FIXED, *IGNORED}


def test_v4_hyper_connection_fields_match_the_hf_configuration():
    """Compare the hyper-connections; the Engram module of V4.1 has the same number of branches."""
    from transformers.models.deepseek_v4.configuration_deepseek_v4 import DeepseekV4Config

    hf = DeepseekV4Config()
    assert (V4.hc_mult, V4.iterations, V4.pre_eps, V4.sinkhorn_eps) == \
        (hf.hc_mult, hf.hc_sinkhorn_iters, hf.hc_eps, hf.hc_eps)
    assert hf.hc_eps == HEAD_FLOOR
    default, v41 = HyperConfig(), preset("deepseek-v4.1-flash")
    assert (default.hc_mult, default.iterations, default.post_mult) == (V4.hc_mult, V4.iterations, V4.post_mult)
    assert (v41.n_branches, v41.vocab_size) == (hf.hc_mult, hf.vocab_size)
