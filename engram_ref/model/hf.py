"""Read a DeepSeek-V3 checkpoint in the form of the HF transformers library: the same numbers, our names.

HF packs the routed experts as gate_up_proj [E, 2F, D], gate rows first, and down_proj [E, D, F]; older
checkpoints keep them apart (experts.<e>.gate_proj.weight). Both are read. RoPE weights need no change:
with rope_interleave (the default) HF reads neighbouring pairs as we do; without it, rows are reordered.
Options are in hf_config.py, dtypes and prefixes in state_dicts.py.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from engram_ref.errors import InputError
from engram_ref.model.hf_config import checked_options, config_from_hf, switch
from engram_ref.model.state_dicts import LOG, one_dtype, take, without_prefix
from engram_ref.model.tree import check, shapes
from engram_ref.model_config import AttentionConfig, ModelConfig
from engram_ref.ops.rope import half_split_order

__all__ = ["config_from_hf", "from_hf_deepseek_v3"]

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


def from_hf_deepseek_v3(state_dict: Mapping[str, np.ndarray],
                        hf_config: Mapping[str, object]) -> tuple[ModelConfig, dict[str, np.ndarray]]:
    """A whole HF DeepSeek-V3 model under our names.

    state_dict   arrays or tensors by HF's names, below one prefix or none. The layers for multi-token prediction
                 that a full checkpoint ends with are left out, and a log message says so
    hf_config    the dictionary of its config.json
    returns      configuration, and parameters in float64 if any array is, else in float32
    raises       InputError for a missing, extra, misshapen or wrongly typed array, or an unsupported option
    """
    config = config_from_hf(hf_config)
    hf = checked_options(hf_config)
    left = without_prefix(state_dict, OUTER_NAMES["embed.weight"])
    scaled = [key for key in left if key.endswith("weight_scale_inv")]
    if scaled:
        raise InputError("state_dict", "no FP8 weights", f"an array {scaled[0]}", "convert the checkpoint to bfloat16")
    leave_out_prediction_layers(left, hf["num_hidden_layers"], hf.get("num_nextn_predict_layers", 1) or 0)
    made = {name: take_parameter(name, shape, left) for name, shape in shapes(config).items()}
    if config.backbone.tie_embeddings and "lm_head.weight" in left:
        head = take(left, "lm_head.weight", made["embed.weight"].shape, "head.weight")
        if not np.array_equal(head, made["embed.weight"]):
            raise InputError("state_dict lm_head.weight", "the embedding: tie_word_embeddings is set", "other values")
    extra = [key for key, array in left.items() if 0 not in getattr(array, "shape", ())]      # empty: no shared experts
    if extra:
        raise InputError("state_dict", "only DeepSeek-V3's names", f"an array {min(extra)}")
    made = one_dtype(made)
    check(made, config)
    if not switch(hf, "rope_interleave", True):
        made = {name: from_half_split(name, array, config.backbone.attention) for name, array in made.items()}
    return config, made


def leave_out_prediction_layers(left: dict[str, Any], n_layers: int, count: int) -> None:
    """Remove the extra layers that predict further tokens. Each has a projection eh_proj; other layers stay."""
    for index in range(n_layers, n_layers + count):
        prefix = f"model.layers.{index}."
        if prefix + "eh_proj.weight" in left:
            keys = [key for key in left if key.startswith(prefix)]
            for key in keys:
                del left[key]
            LOG.warning("%d entries %s* left out: multi-token prediction is not part of this model", len(keys), prefix)


def take_parameter(name: str, shape: tuple[int, ...], left: dict[str, Any]) -> np.ndarray:
    """One of our parameters out of HF's; what is used up is removed."""
    if name in OUTER_NAMES:
        return take(left, OUTER_NAMES[name], shape, name)
    _, index, inner = name.split(".", 2)
    prefix = f"model.layers.{index}."
    if inner.startswith("ffn.experts."):
        return take_experts(name, shape, prefix + "mlp.experts.", left)
    return take(left, prefix + LAYER_NAMES[inner], shape, name)


def take_experts(name: str, shape: tuple[int, ...], prefix: str, left: dict[str, Any]) -> np.ndarray:
    """w1, w2 or w3 of all routed experts, stacked: packed, or one array per expert."""
    which, packed = name[-2:], prefix + "gate_up_proj"
    if prefix + "down_proj" not in left and packed not in left:
        theirs = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}[which]
        return np.stack([take(left, f"{prefix}{e}.{theirs}.weight", shape[1:], name) for e in range(shape[0])])
    if which == "w2":
        return take(left, prefix + "down_proj", shape, name)
    E, F, D = shape
    both = take(dict(left) if which == "w1" else left, packed, (E, 2 * F, D), name)      # used up by w3
    return both[:, :F] if which == "w1" else both[:, F:]


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
