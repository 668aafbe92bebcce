"""Import a DeepSeek-V3 checkpoint of the HF transformers library under this package's names.

HF packs the routed experts as gate_up_proj [E, 2F, D], gate rows first, and down_proj [E, D, F]; older
checkpoints store each expert separately (experts.<e>.gate_proj.weight). Both formats are supported. With
rope_interleave (the default) HF rotates adjacent channel pairs, as this package does; without it, the rows of
the rotary channels are reordered. hf_config.py converts the options; state_dicts.py handles dtypes and prefixes.
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

SWIGLU = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}
MODULES = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "attn.wq": "self_attn.q_proj", "attn.wq_a": "self_attn.q_a_proj", "attn.q_norm": "self_attn.q_a_layernorm",
    "attn.wq_b": "self_attn.q_b_proj", "attn.wkv_a": "self_attn.kv_a_proj_with_mqa",
    "attn.kv_norm": "self_attn.kv_a_layernorm", "attn.wkv_b": "self_attn.kv_b_proj", "attn.wo": "self_attn.o_proj",
    "ffn.gate": "mlp.gate", **{f"ffn.{ours}": f"mlp.{theirs}" for ours, theirs in SWIGLU.items()},
    **{f"ffn.shared_experts.{ours}": f"mlp.shared_experts.{theirs}" for ours, theirs in SWIGLU.items()},
}
LAYER_NAMES = {f"{ours}.weight": f"{theirs}.weight" for ours, theirs in MODULES.items()}
LAYER_NAMES["ffn.gate.bias"] = "mlp.gate.e_score_correction_bias"
"""Our name -> HF's, within one layer and without the routed experts."""


def from_hf_deepseek_v3(state_dict: Mapping[str, np.ndarray],
                        hf_config: Mapping[str, Any]) -> tuple[ModelConfig, dict[str, np.ndarray]]:
    """Convert a whole HF DeepSeek-V3 model.

    state_dict   arrays or tensors under HF's names, with or without a common prefix. The multi-token prediction layers
                 at the end of a full checkpoint are skipped, with a log message
    hf_config    its config.json as a dictionary
    returns      configuration, and parameters: float64 if any array is float64, else float32
    raises       InputError for a missing or extra array, a wrong shape or dtype, or an unsupported option
    """
    config = config_from_hf(hf_config)
    hf = checked_options(hf_config)
    remaining = without_prefix(state_dict, OUTER_NAMES["embed.weight"])
    scaled = [key for key in remaining if key.endswith("weight_scale_inv")]
    if scaled:
        raise InputError("state_dict", "no FP8 weights", f"FP8 scales named {scaled[0]}",
                         "convert the checkpoint to bfloat16")
    drop_prediction_layers(remaining, hf["num_hidden_layers"], hf.get("num_nextn_predict_layers", 1) or 0)
    parameters = {name: take_parameter(name, shape, remaining) for name, shape in shapes(config).items()}
    if config.backbone.tie_embeddings and "lm_head.weight" in remaining:
        head = take(remaining, "lm_head.weight", parameters["embed.weight"].shape, "head.weight")
        if not np.array_equal(head, parameters["embed.weight"]):
            raise InputError("state_dict lm_head.weight", "the values of the embedding", "different values",
                             "tie_word_embeddings is set")
    extra = [key for key, array in remaining.items() if 0 not in getattr(array, "shape", ())]
    if extra:                                                # empty arrays are shared experts that do not exist
        raise InputError("state_dict", "only the arrays of DeepSeek-V3", f"an additional array named {min(extra)}")
    parameters = one_dtype(parameters)
    check(parameters, config)
    if not switch(hf, "rope_interleave", True):
        parameters = {name: from_half_split(name, x, config.backbone.attention) for name, x in parameters.items()}
    return config, parameters


def drop_prediction_layers(remaining: dict[str, Any], n_layers: int, count: int) -> None:
    """Remove the multi-token prediction layers, recognised by their projection eh_proj."""
    for index in range(n_layers, n_layers + count):
        prefix = f"model.layers.{index}."
        if prefix + "eh_proj.weight" in remaining:
            keys = [key for key in remaining if key.startswith(prefix)]
            for key in keys:
                del remaining[key]
            LOG.warning("skipped %d entries named %s*: multi-token prediction is not supported", len(keys), prefix)


def take_parameter(name: str, shape: tuple[int, ...], remaining: dict[str, Any]) -> np.ndarray:
    """Build one of our parameters from HF's arrays, and remove the arrays that are no longer needed."""
    if name in OUTER_NAMES:
        return take(remaining, OUTER_NAMES[name], shape, name)
    _, index, inner = name.split(".", 2)
    prefix = f"model.layers.{index}."
    if inner.startswith("ffn.experts."):
        return take_experts(name, shape, prefix + "mlp.experts.", remaining)
    return take(remaining, prefix + LAYER_NAMES[inner], shape, name)


def take_experts(name: str, shape: tuple[int, ...], prefix: str, remaining: dict[str, Any]) -> np.ndarray:
    """Stack w1, w2 or w3 of all routed experts; HF stores them packed, or as one array per expert."""
    which, packed = name[-2:], prefix + "gate_up_proj"
    if prefix + "down_proj" not in remaining and packed not in remaining:
        keys = (f"{prefix}{e}.{SWIGLU[which]}.weight" for e in range(shape[0]))
        return np.stack([take(remaining, key, shape[1:], name) for key in keys])
    if which == "w2":
        return take(remaining, prefix + "down_proj", shape, name)
    E, F, D = shape
    both = take(dict(remaining) if which == "w1" else remaining, packed, (E, 2 * F, D), name)    # w3's call removes it
    return both[:, :F] if which == "w1" else both[:, F:]


def from_half_split(name: str, array: np.ndarray, config: AttentionConfig) -> np.ndarray:
    """Reorder the rows of an array's rotary channels from halves to adjacent pairs."""
    order = np.argsort(half_split_order(config.qk_rope_head_dim))
    if name.endswith(("attn.wq.weight", "attn.wq_b.weight")):
        heads = array.reshape(config.n_heads, config.qk_head_dim, -1).copy()
        heads[:, config.qk_nope_head_dim :] = heads[:, config.qk_nope_head_dim :][:, order]
        return heads.reshape(array.shape)
    if name.endswith("attn.wkv_a.weight"):
        return np.concatenate([array[: config.kv_lora_rank], array[config.kv_lora_rank :][order]])
    return array
