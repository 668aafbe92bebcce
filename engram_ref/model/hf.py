"""Read a DeepSeek-V3 checkpoint in the form of the HF transformers library: the same numbers, our names.

HF packs the routed experts as gate_up_proj [E, 2F, D], gate rows first, and down_proj [E, D, F]; older
checkpoints keep them apart (experts.<e>.gate_proj.weight). Both are read. RoPE weights need no change:
with rope_interleave (the default) HF reads neighbouring pairs as we do; without it, rows are reordered.
"""

from collections.abc import Mapping

import numpy as np

from engram_ref.errors import InputError
from engram_ref.model.tree import check, shapes
from engram_ref.model_config import AttentionConfig, BackboneConfig, ExpertsConfig, ModelConfig, YarnConfig
from engram_ref.ops.rope import half_split_order

LATENT_EPS = 1e-6
"""What HF's class hard-wires for the norms of the latents."""

REQUIRED = ("vocab_size", "hidden_size", "intermediate_size", "moe_intermediate_size", "num_hidden_layers",
            "num_attention_heads", "n_shared_experts", "n_routed_experts", "routed_scaling_factor", "kv_lora_rank",
            "qk_rope_head_dim", "v_head_dim", "qk_nope_head_dim", "n_group", "topk_group", "num_experts_per_tok",
            "first_k_dense_replace", "rms_norm_eps")
"""Options without which the model would be a guess."""

ONLY = {"hidden_act": "silu", "attention_bias": False}
"""Options of HF's class that are read only as they are in DeepSeek-V3."""

OUTER_NAMES = {"embed.weight": "model.embed_tokens.weight", "norm.weight": "model.norm.weight",
               "head.weight": "lm_head.weight"}

LAYER_NAMES = {
    "attn_norm.weight": "input_layernorm.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
    "attn.wq.weight": "self_attn.q_proj.weight",
    "attn.wq_a.weight": "self_attn.q_a_proj.weight",
    "attn.q_norm.weight": "self_attn.q_a_layernorm.weight",
    "attn.wq_b.weight": "self_attn.q_b_proj.weight",
    "attn.wkv_a.weight": "self_attn.kv_a_proj_with_mqa.weight",
    "attn.kv_norm.weight": "self_attn.kv_a_layernorm.weight",
    "attn.wkv_b.weight": "self_attn.kv_b_proj.weight",
    "attn.wo.weight": "self_attn.o_proj.weight",
    "ffn.w1.weight": "mlp.gate_proj.weight",
    "ffn.w2.weight": "mlp.down_proj.weight",
    "ffn.w3.weight": "mlp.up_proj.weight",
    "ffn.gate.weight": "mlp.gate.weight",
    "ffn.gate.bias": "mlp.gate.e_score_correction_bias",
    "ffn.shared_experts.w1.weight": "mlp.shared_experts.gate_proj.weight",
    "ffn.shared_experts.w2.weight": "mlp.shared_experts.down_proj.weight",
    "ffn.shared_experts.w3.weight": "mlp.shared_experts.up_proj.weight",
}
"""Our name -> HF's, of everything but the routed experts."""


def config_from_hf(hf: Mapping[str, object]) -> ModelConfig:
    """The ModelConfig of an HF config dictionary (config.json). InputError for what is not supported."""
    if hf.get("model_type", "deepseek_v3") != "deepseek_v3":
        raise InputError("model_type", "deepseek_v3", repr(hf.get("model_type")))
    missing = [option for option in REQUIRED if option not in hf]
    if missing:
        raise InputError("hf_config", f"an option {missing[0]}", "none", "the dictionary of a whole config.json")
    for option, only in ONLY.items():
        if hf.get(option, only) != only:
            raise InputError(option, repr(only), repr(hf[option]), "it would be another function")
    attention = AttentionConfig(
        n_heads=hf["num_attention_heads"], qk_nope_head_dim=hf["qk_nope_head_dim"],
        qk_rope_head_dim=hf["qk_rope_head_dim"], v_head_dim=hf["v_head_dim"], kv_lora_rank=hf["kv_lora_rank"],
        q_lora_rank=hf.get("q_lora_rank"), latent_norm_eps=LATENT_EPS, **rope_from_hf(hf))
    experts = ExpertsConfig(
        n_routed_experts=hf["n_routed_experts"], num_experts_per_tok=hf["num_experts_per_tok"],
        n_shared_experts=hf["n_shared_experts"] or 0, moe_intermediate_size=hf["moe_intermediate_size"],
        n_group=hf["n_group"], topk_group=hf["topk_group"], routed_scaling_factor=hf["routed_scaling_factor"],
        norm_topk_prob=hf.get("norm_topk_prob", True))
    layers, dense = hf["num_hidden_layers"], min(hf["first_k_dense_replace"], hf["num_hidden_layers"])
    backbone = BackboneConfig(
        n_layers=layers, n_dense_layers=dense, hidden_size=hf["hidden_size"], vocab_size=hf["vocab_size"],
        intermediate_size=hf["intermediate_size"], attention=attention, experts=None if dense == layers else experts,
        hyper=None, rms_norm_eps=hf["rms_norm_eps"], tie_embeddings=bool(hf.get("tie_word_embeddings", False)))
    return ModelConfig("hf-deepseek-v3", "an HF transformers configuration", backbone)


def rope_from_hf(hf: Mapping[str, object]) -> dict[str, object]:
    """theta and YaRN; where mscale_all_dim is not mscale, HF computes another function, which is refused."""
    rope = dict(hf.get("rope_parameters") or hf.get("rope_scaling") or {})
    theta = float(rope.get("rope_theta") or hf.get("rope_theta", 10_000.0))
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind == "default":
        return {"rope_theta": theta, "yarn": None}
    if kind != "yarn":
        raise InputError("rope_type", "default or yarn", repr(kind))
    mscale = rope.get("mscale_all_dim") or 0.0
    if (rope.get("mscale") or 0.0) != mscale or not mscale:
        raise InputError("mscale, mscale_all_dim", "two equal numbers", f"{rope.get('mscale')}, {mscale}",
                         "otherwise HF scales the rotary part alone")
    for option, only in (("attention_factor", None), ("truncate", True)):
        if rope.get(option, only) not in (None, only):
            raise InputError(option, repr(only), repr(rope[option]), "it would be another function")
    yarn = YarnConfig(float(rope["factor"]), float(mscale),
                      int(rope.get("original_max_position_embeddings") or hf["max_position_embeddings"]),
                      float(rope.get("beta_fast") or 32), float(rope.get("beta_slow") or 1))
    return {"rope_theta": theta, "yarn": yarn}


def from_hf_deepseek_v3(state_dict: Mapping[str, np.ndarray],
                        hf_config: Mapping[str, object]) -> tuple[ModelConfig, dict[str, np.ndarray]]:
    """A whole HF DeepSeek-V3 model under our names.

    state_dict   arrays by HF's names
    hf_config    the dictionary of its config.json
    returns      configuration, parameters
    raises       InputError for a missing, extra or misshapen array, or an unsupported option
    """
    config = config_from_hf(hf_config)
    left = dict(state_dict)
    made = {name: take(name, left) for name in shapes(config)}
    left.pop("lm_head.weight" if config.backbone.tie_embeddings else "", None)
    if left:
        raise InputError("state_dict", "only DeepSeek-V3's names", f"an array {min(left)}")
    check(made, config)
    if not hf_config.get("rope_interleave", True):
        made = {name: from_half_split(name, array, config.backbone.attention) for name, array in made.items()}
    return config, made


def take(name: str, left: dict[str, np.ndarray]) -> np.ndarray:
    """One of our parameters out of HF's; what is used up is removed."""
    if name in OUTER_NAMES:
        return pop(left, OUTER_NAMES[name])
    _, index, inner = name.split(".", 2)
    prefix = f"model.layers.{index}."
    if not inner.startswith("ffn.experts."):
        return pop(left, prefix + LAYER_NAMES[inner])
    return take_experts(inner[-2:], prefix + "mlp.experts.", left)


def take_experts(which: str, prefix: str, left: dict[str, np.ndarray]) -> np.ndarray:
    """w1, w2 or w3 of all routed experts, stacked: packed, or one array an expert."""
    if prefix + "down_proj" in left or prefix + "gate_up_proj" in left:
        if which == "w2":
            return pop(left, prefix + "down_proj")
        packed = pop(dict(left) if which == "w1" else left, prefix + "gate_up_proj")      # used up by w3
        if packed.ndim != 3 or packed.shape[1] % 2:
            raise InputError(f"state_dict {prefix}gate_up_proj", "shape [E, 2F, D]", list(packed.shape))
        gate, up = np.split(packed, 2, axis=1)
        return gate if which == "w1" else up
    theirs = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}[which]
    count = sum(key.startswith(prefix) and key.endswith(f".{theirs}.weight") for key in left)
    return np.stack([pop(left, f"{prefix}{e}.{theirs}.weight") for e in range(max(count, 1))])


def pop(left: dict[str, np.ndarray], key: str) -> np.ndarray:
    """Take one array, or say that it is missing."""
    if key not in left:
        raise InputError("state_dict", f"an array {key}", "none of that name")
    return np.asarray(left.pop(key))


def from_half_split(name: str, array: np.ndarray, config: AttentionConfig) -> np.ndarray:
    """Rows of the rotary channels, from halves back to neighbouring pairs."""
    order = np.argsort(half_split_order(config.qk_rope_head_dim))
    if name.endswith(("attn.wq.weight", "attn.wq_b.weight")):
        heads = array.reshape(config.n_heads, config.qk_head_dim, -1).copy()
        heads[:, config.qk_nope_head_dim :] = heads[:, config.qk_nope_head_dim :][:, order]
        return heads.reshape(array.shape)
    if name.endswith("attn.wkv_a.weight"):
        return np.concatenate([array[: config.kv_lora_rank], array[config.kv_lora_rank :][order]])
    return array
