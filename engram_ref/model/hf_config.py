"""Convert the configuration of an HF DeepSeek-V3 model (config.json) to a ModelConfig.

Every option belongs to one of three groups. READ options set a field. FIXED options have one supported value,
since any other would define a different model. IGNORED options do not affect the logits; the table gives the
reason. Any other option might affect the logits, so it raises an InputError.

Missing options and None are treated as in HF's class: if norm_topk_prob is missing, the weights are normalised;
if it is null, they are not.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from engram_ref.errors import InputError
from engram_ref.model_config import AttentionConfig, BackboneConfig, ExpertsConfig, ModelConfig, YarnConfig
from engram_ref.ops.rope import yarn_mscale

LATENT_EPS = 1e-6        # of the latent norms, hard-coded in HF's class

INTEGERS = (
    "vocab_size", "hidden_size", "intermediate_size", "moe_intermediate_size", "num_hidden_layers",
    "num_attention_heads", "n_shared_experts", "n_routed_experts", "kv_lora_rank", "qk_rope_head_dim", "v_head_dim",
    "qk_nope_head_dim", "n_group", "topk_group", "num_experts_per_tok", "first_k_dense_replace")
REQUIRED = (*INTEGERS, "q_lora_rank", "routed_scaling_factor", "rms_norm_eps")
"""Required options. HF's defaults are the sizes of DeepSeek-V3 itself, which rarely suit a different model."""

DERIVED = ("num_key_value_heads", "head_dim", "qk_head_dim")
"""Options that follow from others; if they differ, HF's class fails or ignores them."""

READ = (*REQUIRED, *DERIVED, "norm_topk_prob", "tie_word_embeddings", "rope_interleave", "rope_parameters",
        "rope_scaling", "rope_theta", "max_position_embeddings", "num_nextn_predict_layers")

ALIASES = {"num_local_experts": "n_routed_experts", "num_mtp_layers": "num_nextn_predict_layers"}

FIXED: dict[str, tuple[tuple[object, ...], str]] = {
    "model_type": (("deepseek_v3",), ""), "hidden_act": (("silu", "swish"), ""), "attention_bias": ((False,), ""),
    "sliding_window": ((None,), ""), "layer_types": ((None,), ""),
    "scoring_func": (("sigmoid",), "HF's class always computes sigmoid"),
    "topk_method": (("noaux_tc",), "HF's class always adds the bias and scores a group by its two best experts"),
    "moe_layer_freq": ((1,), "HF's class has experts in every layer after the dense ones"),
    "quantization_config": ((None,), "convert the checkpoint to bfloat16 and remove this option"),
}
"""Option -> the supported values, and a hint."""

IGNORED = {
    **dict.fromkeys(("attention_dropout", "initializer_range", "aux_loss_alpha", "seq_aux"), "used in training only"),
    **dict.fromkeys(("use_cache", "output_router_logits", "output_attentions", "output_hidden_states", "return_dict"),
                    "selects outputs other than the logits"),
    **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"),
                    "used by tokenisation and generation; the embedding of the pad id is looked up like any other"),
    **dict.fromkeys(("dtype", "torch_dtype"), "the dtype is that of the arrays passed"),
    **dict.fromkeys(("pretraining_tp", "ep_size"), "splits weights across devices; HF's class does not read it"),
    **dict.fromkeys(("architectures", "auto_map", "transformers_version", "_name_or_path"),
                    "records the class and file of the model"),
    **dict.fromkeys(("chunk_size_feed_forward", "is_encoder_decoder"), "HF's DeepSeek-V3 class does not read it"),
    **dict.fromkeys(("id2label", "label2id", "problem_type"), "for classification heads"),
}
"""Option -> the reason why it does not affect the logits."""

ROPE_OPTIONS = ("rope_type", "type", "rope_theta", "factor", "original_max_position_embeddings", "beta_fast",
                "beta_slow", "mscale", "mscale_all_dim", "attention_factor", "truncate", "partial_rotary_factor")
"""The options of rope_parameters (rope_scaling in older files)."""


def config_from_hf(hf_config: Mapping[str, Any]) -> ModelConfig:
    """Convert a dictionary (config.json); InputError for a missing, unknown, unsupported or wrongly typed option."""
    hf = checked_options(hf_config)
    named = lambda *options: {option: hf[option] for option in options}
    attention = AttentionConfig(
        n_heads=hf["num_attention_heads"], latent_norm_eps=LATENT_EPS, **rope_from_hf(hf),
        **named("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "kv_lora_rank", "q_lora_rank"))
    experts = ExpertsConfig(
        norm_topk_prob=switch(hf, "norm_topk_prob", True),
        **named("n_routed_experts", "num_experts_per_tok", "n_shared_experts", "moe_intermediate_size", "n_group",
                "topk_group", "routed_scaling_factor"))
    layers = hf["num_hidden_layers"]
    dense = min(max(hf["first_k_dense_replace"], 0), layers)
    backbone = BackboneConfig(
        n_layers=layers, n_dense_layers=dense, attention=attention, experts=None if dense == layers else experts,
        hyper=None, tie_embeddings=hf.get("tie_word_embeddings", False),
        **named("hidden_size", "vocab_size", "intermediate_size", "rms_norm_eps"))
    return ModelConfig("hf-deepseek-v3", "an HF transformers configuration", backbone)


def checked_options(hf_config: Mapping[str, Any]) -> dict[str, Any]:
    """Resolve aliases and check all options except those of the rotary embedding."""
    if not isinstance(hf_config, Mapping):
        raise InputError("hf_config", "a dictionary", type(hf_config).__name__,
                         "pass config.to_dict() or the parsed config.json")
    hf = dict(hf_config)
    for alias in ALIASES.keys() & hf.keys():
        option, value = ALIASES[alias], hf.pop(alias)
        if hf.setdefault(option, value) != value:
            raise InputError(alias, f"the same value as {option}, {hf[option]!r}", repr(value))
    missing = [option for option in REQUIRED if option not in hf]
    if missing:
        raise InputError("hf_config", f"the option {missing[0]}", "none", "pass a complete config.json")
    for option, value in hf.items():
        check_option(option, value)
    derived = {"num_key_value_heads": (hf["num_attention_heads"], None), "head_dim": (hf["qk_rope_head_dim"],),
               "qk_head_dim": (hf["qk_nope_head_dim"] + hf["qk_rope_head_dim"],)}
    for option, supported in derived.items():
        check_value(option, hf.get(option, supported[0]), supported, "it follows from the other sizes")
    return hf


def check_option(option: str, value: object) -> None:
    """Raise InputError if an option is unknown, unsupported or of the wrong type."""
    if option in FIXED:
        check_value(option, value, *FIXED[option])
    elif option not in READ and option not in IGNORED:
        raise InputError("hf_config", "options of DeepSeek-V3's configuration", f"the unknown option {option}",
                         "it might affect the logits; if it does not, remove it from the dictionary")
    elif option in INTEGERS or (option in ("q_lora_rank", "num_nextn_predict_layers") and value is not None):
        number(option, value, whole=True)
    elif option in ("routed_scaling_factor", "rms_norm_eps"):
        number(option, value)
    elif option == "tie_word_embeddings" and not isinstance(value, bool):
        raise InputError(option, "true or false", repr(value))


def check_value(option: str, value: object, supported: tuple[object, ...], hint: str = "") -> None:
    """Raise InputError unless the value is supported."""
    if value not in supported:
        raise InputError(option, " or ".join(map(repr, supported)), repr(value), hint)


def number(option: str, value: object, whole: bool = False) -> Any:
    """The value of a numeric option; InputError for any other type, including None."""
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise InputError(option, "an integer" if whole else "a number", repr(value))
    return value


def switch(hf: Mapping[str, Any], option: str, default: bool) -> bool:
    """The value of a boolean option; None means False, as in HF's class."""
    value = hf.get(option, default)
    if value is not None and not isinstance(value, bool):
        raise InputError(option, "true, false or null", repr(value))
    return bool(value)


def rope_from_hf(hf: Mapping[str, Any]) -> dict[str, Any]:
    """The fields rope_theta and yarn of the configuration. InputError for an unsupported rotary embedding."""
    rope = hf.get("rope_scaling") or hf.get("rope_parameters") or {}
    if not isinstance(rope, Mapping):
        raise InputError("rope_parameters", "a dictionary or null", repr(rope))
    unknown = [option for option in rope if option not in ROPE_OPTIONS]
    if unknown:
        raise InputError("rope_parameters", f"only {', '.join(ROPE_OPTIONS)}", f"the unknown option {unknown[0]}")
    theta = float(number("rope_theta", rope.get("rope_theta", hf.get("rope_theta", 10_000.0))))
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in ("default", "yarn"):
        raise InputError("rope_type", "default or yarn", repr(kind))
    return {"rope_theta": theta, "yarn": None if kind == "default" else yarn_from_hf(rope, hf)}


def yarn_from_hf(rope: Mapping[str, Any], hf: Mapping[str, Any]) -> YarnConfig:
    """Convert the YaRN options. InputError if HF would scale only the rotary part."""
    for option, only in (("truncate", True), ("partial_rotary_factor", 1.0)):
        check_value(option, rope.get(option, only), (only,))
    length = number("original_max_position_embeddings",
                    rope.get("original_max_position_embeddings", hf.get("max_position_embeddings")), whole=True)
    given = {"factor": rope.get("factor"), "mscale": rope.get("mscale_all_dim") or 0,
             "beta_fast": rope.get("beta_fast") or 32, "beta_slow": rope.get("beta_slow") or 1}
    yarn = YarnConfig(original_length=length, **{field: float(number(field, value)) for field, value in given.items()})
    if rotary_scale(rope, yarn) != 1:
        raise InputError("mscale, mscale_all_dim", "two equal numbers", f"{rope.get('mscale')}, "
                         f"{rope.get('mscale_all_dim')} and attention_factor {rope.get('attention_factor')}",
                         "otherwise HF scales only the rotary part")
    return yarn


def rotary_scale(rope: Mapping[str, Any], yarn: YarnConfig) -> float:
    """The factor by which HF multiplies cosines and sines; 1 if both mscales are given and equal."""
    if rope.get("attention_factor") is not None:
        return number("attention_factor", rope["attention_factor"])
    if not (rope.get("mscale") and rope.get("mscale_all_dim")):
        return yarn_mscale(replace(yarn, mscale=1.0))
    return yarn_mscale(replace(yarn, mscale=float(number("mscale", rope["mscale"])))) / yarn_mscale(yarn)
