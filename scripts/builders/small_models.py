"""Small models of odd sizes, their random parameters and their slow answers."""

from dataclasses import replace

import numpy as np

from engram_ref.layout import layout
from engram_ref.model.parameters import shapes
from engram_ref.model_config import (
    AttentionConfig,
    BackboneConfig,
    ExpertsConfig,
    HyperConfig,
    ModelConfig,
    YarnConfig,
)
from engram_ref.ops.canonical import DEAD
from engram_ref.oracle.slow import addressing as slow_addressing
from engram_ref.oracle.slow import transformer as slow
from scripts.builders import small_modules

VOCABULARY = 61
YARN = YarnConfig(factor=10.0, mscale=0.707, original_length=64)
MLA = AttentionConfig(3, 5, 4, 3, 7, None, 1e-6)
MLA_LATENT = AttentionConfig(2, 3, 6, 5, 4, 5, 1e-4, 100.0, YARN)
EXPERTS = ExpertsConfig(5, 2, 1, 3, routed_scaling_factor=2.5)
GROUPED = ExpertsConfig(8, 3, 2, 3, n_group=4, topk_group=2, routed_scaling_factor=1.5)
V2_EXPERTS = ExpertsConfig(9, 2, 1, 3, n_group=3, topk_group=2, routed_scaling_factor=16.0, scoring_func="softmax",
                           norm_topk_prob=False, group_score="best", router_bias=False)
ENGRAM = replace(small_modules.DEMO, name="raw-ids", vocabulary=None, vocab_size=VOCABULARY, canonical_size=VOCABULARY,
                 pad_id=7, layer_ids=(1, 3), layer_base=1, hidden_size=9, n_branches=3, dead_barrier=True,
                 table_sizes=(23, 31), n_heads=2, row_width=3)

_PLAIN = BackboneConfig(3, 1, 9, VOCABULARY, 5, MLA, EXPERTS, None, 1e-6)
PLAIN = ModelConfig("plain", "odd sizes, one stream", _PLAIN)
FULL = ModelConfig("full", "everything at once",
                   replace(_PLAIN, attention=MLA_LATENT, experts=GROUPED, hyper=HyperConfig(3, alpha_init=1.0)), ENGRAM)
HEAD = ModelConfig("learned-collapse", "V4's options", replace(
    _PLAIN, n_layers=2, hidden_size=7, tie_embeddings=True, hyper=HyperConfig(2, 7, collapse="head"),
    experts=replace(EXPERTS, n_shared_experts=0, scoring_func="sqrt_softplus", norm_topk_prob=False)))
DENSE = ModelConfig("dense", "one head, no experts, one stream with a module", replace(
    _PLAIN, n_layers=1, n_dense_layers=1, experts=None, attention=AttentionConfig(1, 1, 2, 1, 1, None, 1e-20),
    rms_norm_eps=1e-20), replace(ENGRAM, layer_ids=(0,), layer_base=0, n_branches=1, eos_id=5, dead_barrier=False,
                                 conv_kernel=2, conv_dilation=2, projection_bias=False))
NO_CONV = replace(FULL, name="no-conv", engram=replace(ENGRAM, conv_kernel=0, layer_ids=(2,)))
MODELS = {config.name: config for config in (PLAIN, FULL, HEAD, DENSE, NO_CONV)}


def random_model(config, seed=0, dtype=np.float64):
    """Return random values for every parameter, so that gains, biases and branches cannot be mixed up unnoticed."""
    rng, parameters = np.random.default_rng(seed), {}
    for name, shape in shapes(config).items():
        values = rng.standard_normal(shape)
        if name.endswith(("norm.weight", "gain", "alpha")):
            values = 1 + 0.3 * values
        elif name.endswith("gate.bias"):
            values = 0.3 * values - 1.2              # negative, so that experts masked with 0 would win
        elif len(shape) > 1 and not name.endswith(("embed.weight", "table")):
            values = values * shape[-1] ** -0.5
        parameters[name] = values.astype(dtype)
    for index in range(config.backbone.n_layers):
        if config.engram_layer(index) is not None:
            offsets = layout(config.engram, config.engram_layer(index)).offsets
            parameters[f"layers.{index}.engram.column_offsets"] = offsets
    return parameters


def random_ids(config, batch=2, length=7, seed=1):
    """Return random raw ids; some are the EOS if the dialect has one."""
    ids = np.random.default_rng(seed).integers(0, VOCABULARY, (batch, length))
    if config.engram is not None and config.engram.eos_id is not None and length > 2:
        ids[:, 2] = config.engram.eos_id
    return ids


def slow_attention_config(config):
    """Return the fields of an AttentionConfig under the names of the slow version."""
    yarn = None if config.yarn is None else vars(config.yarn)
    return {"heads": config.n_heads, "nope": config.qk_nope_head_dim, "rope": config.qk_rope_head_dim,
            "value": config.v_head_dim, "rank": config.kv_lora_rank, "eps": config.latent_norm_eps,
            "theta": config.rope_theta, "yarn": yarn}


def slow_experts_config(config):
    """Return the fields of an ExpertsConfig under the names of the slow version."""
    return {"top_k": config.num_experts_per_tok, "n_group": config.n_group, "topk_group": config.topk_group,
            "group_best": 1 if config.group_score == "best" else 2,
            "scale": config.routed_scaling_factor, "form": config.scoring_func, "normalised": config.norm_topk_prob}


def slow_config(config):
    """Return the constants of a whole model, without its Engram modules."""
    backbone = config.backbone
    hyper = backbone.hyper and {"eps": backbone.rms_norm_eps, "iterations": backbone.hyper.iterations,
                                "post_mult": backbone.hyper.post_mult, "pre_eps": backbone.hyper.pre_eps,
                                "sinkhorn_eps": backbone.hyper.sinkhorn_eps}
    return {"layers": backbone.n_layers, "branches": backbone.n_branches, "eps": backbone.rms_norm_eps,
            "attention": slow_attention_config(backbone.attention), "hyper": hyper,
            "experts": backbone.experts and slow_experts_config(backbone.experts),
            "collapse": backbone.hyper.collapse if backbone.hyper else "sum"}


def slow_modules(parameters, ids, dead, config):
    """Return parameters, memory, DEAD marks and constants of every Engram module, for one sequence."""
    modules, engram = {}, config.engram
    for index in range(config.backbone.n_layers):
        layer_id = config.engram_layer(index)
        if layer_id is None:
            continue
        module = slow.under(parameters, f"layers.{index}.engram")
        hashed = [DEAD if mark else token for token, mark in zip(ids, dead, strict=True)]
        rows = slow_addressing.rows(engram, layer_id, hashed, engram.pad_id, (), engram.eos_id, flat=True)
        memory = [[value for row in line for value in module["table"][row].tolist()] for line in rows]
        named = small_modules.as_lists(small_modules.demo_names(module, engram))
        constants = {"eps": small_modules.norm_eps(engram), "form": engram.gate_form, "conv_eps": engram.conv_norm_eps,
                     "dilation": engram.conv_dilation if engram.conv_kernel else None}
        modules[index] = (named, memory, dead, constants)
    return modules


def slow_forward(parameters, ids, config, dead=None):
    """Return the logits [B, T, V] of the slow model, computed row by row."""
    plain = small_modules.as_lists({name: array for name, array in parameters.items() if ".engram." not in name})
    dead = np.zeros(ids.shape, dtype=bool) if dead is None else dead
    logits = [slow.forward(plain, row, slow_config(config) | {
        "modules": slow_modules(parameters, row, marks, config)})
        for row, marks in zip(ids.tolist(), dead.tolist(), strict=True)]
    return np.array(logits, dtype=float).reshape(*ids.shape, config.backbone.vocab_size)
