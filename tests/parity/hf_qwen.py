"""Small random models of HF transformers' Qwen4Exp per-layer embedding, and the preset at the same size."""

import os
from dataclasses import replace

import numpy as np

from engram_ref import preset

os.environ.setdefault("HF_HUB_OFFLINE", "1")

EOS = 7
SIZES = {
    "three branches": {"n_branches": 3, "hidden_size": 12, "max_ngram": 3, "n_heads": 2, "row_width": 4},
    "4-grams": {"n_branches": 2, "hidden_size": 7, "max_ngram": 4, "n_heads": 1, "row_width": 3},
    "2-grams": {"n_branches": 2, "hidden_size": 1, "max_ngram": 2, "n_heads": 3, "row_width": 5},
}
STRENGTHS = {"plain": 1.0, "faint": 1e-3}
"""Magnitude of hidden states, rows and values; the results of small ones depend on every eps."""


def ours(name):
    """The preset at a small size, with a table in full precision."""
    sizes = SIZES[name]
    return replace(preset("qwen4exp-ple"), **sizes, vocab_size=211, canonical_size=211, pad_id=EOS, eos_id=EOS,
                   table_sizes=(97,) * (sizes["max_ngram"] - 1), row_multiple=16, conv_dilation=sizes["max_ngram"],
                   table_codec="fp32")


def theirs(config, **options):
    """HF's configuration with the same sizes and otherwise default values."""
    from transformers.models.qwen4_exp.configuration_qwen4_exp import Qwen4ExpTextConfig

    kept = {"layer_types": ["linear_attention"] * max(4, *config.layer_ids)} | options
    return Qwen4ExpTextConfig(
        vocab_size=config.vocab_size, hidden_size=config.hidden_size, hc_count=config.n_branches,
        num_hidden_layers=len(kept["layer_types"]), ple_layer_ids=list(config.layer_ids),
        ple_embed_dim=config.memory_width, ngram_size=config.max_ngram, heads_per_ngram=config.n_heads,
        ngram_vocab_size_base=config.table_sizes[0], make_ngram_vocab_size_divisible_by=config.row_multiple,
        eos_token_id=EOS, **kept)


def randomise(layer, rng, strength):
    """Set random float64 weights that are exact in float32, so that HF's casts to float32 are exact."""
    import torch

    layer.double()
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            scale = strength if "ngram_embedding" in name or name == "value_proj.weight" else 1.0
            values = (rng.standard_normal(tuple(parameter.shape)) * 0.4 * scale).astype(np.float32)
            parameter.copy_(torch.tensor(values))
    return layer


def build(name, strength, seed=0):
    """(our configuration, HF's configuration, HF's layer in float64)."""
    from transformers.models.qwen4_exp.modeling_qwen4_exp import Qwen4ExpTextPLELayer

    config = ours(name)
    hf = theirs(config)
    layer = Qwen4ExpTextPLELayer(hf, layer_idx=config.layer_ids[0] - 1, ple_layer_index=0)
    return config, hf, randomise(layer, np.random.default_rng(seed), STRENGTHS[strength])


def parameters_of(layer, config, offsets):
    """HF's weights under our names; both have branch-major channels."""
    M, D = config.n_branches, config.hidden_size
    p = {key: value.detach().numpy() for key, value in layer.state_dict().items()}
    return {
        "table": p["ple_embedding.ngram_embedding.weight"], "column_offsets": offsets,
        "key_weight": p["key_proj.weight"].reshape(M, D, -1), "value_weight": p["value_proj.weight"],
        "query_gain": p["norm_query.weight"].reshape(M, D), "key_gain": p["norm_key.weight"].reshape(M, D),
        "conv_gain": p["norm_conv.weight"].reshape(M, D), "conv_weight": p["conv1d.weight"].reshape(M, D, -1),
    }


def random_inputs(config, length, strength, seed=0, batch=2):
    """Ids [B, T] of several documents, and hidden states [B, T, M, D] with one zero branch, whose score is 0."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, config.vocab_size, (batch, length))
    ids[rng.random(ids.shape) < 0.2] = EOS
    hidden = rng.standard_normal((batch, length, config.n_branches, config.hidden_size)) * STRENGTHS[strength]
    hidden[0, 0, 0] = 0.0
    return ids, hidden.astype(np.float32).astype(np.float64)


def run(layer, hidden, ids, cache=None, mask=None):
    """Y [B, T, M, D] of HF's layer."""
    import torch

    with torch.no_grad():
        flat = torch.tensor(hidden.reshape(*ids.shape, -1))
        return layer(flat, torch.tensor(ids), cache, conv_mask=mask).numpy().reshape(hidden.shape)


def build_model(config):
    """HF's text model with the layer in its second block and HF's default initialisation."""
    import torch
    from transformers.models.qwen4_exp.modeling_qwen4_exp import Qwen4ExpTextModel

    few = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 4, "hc_lowrank": 3, "head_dim": 4,
           "shared_expert_intermediate_size": 4, "num_attention_heads": 1, "num_key_value_heads": 1,
           "linear_num_key_heads": 1, "linear_num_value_heads": 1, "linear_key_head_dim": 4,
           "linear_value_head_dim": 4, "indexer_n_heads": 1, "indexer_kv_heads": 1, "indexer_head_dim": 4,
           "indexer_budget": 4, "indexer_compress_ratio": 2}
    hf = theirs(config, layer_types=["linear_attention", "linear_attention", "indexed_attention"], **few)
    hf._attn_implementation = hf._experts_implementation = "eager"
    torch.manual_seed(0)
    return Qwen4ExpTextModel(hf).eval()
