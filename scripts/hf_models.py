"""Tiny random models of HF transformers' classes: the whole DeepSeek-V3, and DeepSeek-V4's hyper-connections.

Weights are rounded to float32, so that they can be stored in it. The models compute in float64, except for norms,
softmax, router and angles, which these classes always compute in float32. Nothing is downloaded.
"""

import os

import numpy as np

os.environ.setdefault("HF_HUB_OFFLINE", "1")

LENGTH = 33
VOCABULARY = 61

BASE = {
    "vocab_size": VOCABULARY, "hidden_size": 24, "intermediate_size": 30, "moe_intermediate_size": 10,
    "num_hidden_layers": 3, "num_attention_heads": 3, "num_key_value_heads": 3, "n_shared_experts": 2,
    "n_routed_experts": 8, "routed_scaling_factor": 2.5, "kv_lora_rank": 10, "q_lora_rank": None,
    "qk_rope_head_dim": 8, "v_head_dim": 6, "qk_nope_head_dim": 10, "n_group": 1, "topk_group": 1,
    "num_experts_per_tok": 3, "first_k_dense_replace": 1, "norm_topk_prob": True, "max_position_embeddings": 640,
    "rope_interleave": True,
}
YARN = {"rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 10.0, "mscale": 0.707,
                            "mscale_all_dim": 0.707, "original_max_position_embeddings": 64, "beta_fast": 32,
                            "beta_slow": 1}}
GROUPS = {"n_group": 4, "topk_group": 2}
LATENT = {"q_lora_rank": 14}

CASES = {
    "plain": {},
    "q-lora": LATENT,
    "groups": GROUPS,
    "yarn": YARN,
    "q-lora-groups-yarn": LATENT | GROUPS | YARN,
    "halves": {"rope_interleave": False},
    "q-lora-groups-yarn-halves": LATENT | GROUPS | YARN | {"rope_interleave": False},
    "norm-none": {"norm_topk_prob": None},
    "halves-none": {"rope_interleave": None},
    "no-shared": {"n_shared_experts": 0},
    "tied": {"tie_word_embeddings": True},
    "yarn-none": {"rope_parameters": YARN["rope_parameters"] | {"beta_fast": None, "beta_slow": None}},
    "yarn-attention-factor": {"rope_parameters": YARN["rope_parameters"] | {"attention_factor": 1.0, "mscale": 3.0}},
}
"""Name -> differences from BASE. With groups, all biased scores are negative, so that masking with 0 is detected."""

FROZEN = (("plain", "wide"), ("q-lora-groups-yarn", "wide"), ("q-lora-groups-yarn-halves", "wide"),
          ("q-lora-groups-yarn", "default"))
"""Case and weights of the models in tests/golden. Default weights make the latents so small that eps matters."""


def build(name, weights="wide"):
    """Return (model in float64, its configuration as a dictionary).

    weights   "wide": N(0, 0.3^2), gains about 1; "default": the initialisation of the class
    """
    import torch
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

    config = DeepseekV3Config(**BASE | CASES[name])
    config._attn_implementation = config._experts_implementation = "eager"
    torch.manual_seed(list(CASES).index(name))
    model = DeepseekV3ForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if weights == "wide":
                parameter.copy_(torch.randn_like(parameter) * (0.3 if parameter.ndim > 1 else 0.1)
                                + (parameter.ndim == 1))
        for key, buffer in model.named_buffers():
            if key.endswith("e_score_correction_bias"):
                buffer.copy_(torch.randn_like(buffer) * 0.3 - (1.5 if config.n_group > 1 else 0.0))
    return model.double(), config.to_dict()


def arrays(model):
    """Return the state dict of a model as float64 arrays."""
    return {name: tensor.numpy().astype(np.float64) for name, tensor in model.state_dict().items()}


def random_ids(name):
    """Return random ids, int64 [2, LENGTH]."""
    return np.random.default_rng(list(CASES).index(name)).integers(0, VOCABULARY, (2, LENGTH))


def logits(model, ids):
    """Return the logits, float64 [B, T, V]."""
    import torch

    with torch.no_grad():
        return model(torch.tensor(ids), use_cache=False).logits.numpy()


def decoded(model, ids, cut):
    """Return the logits computed with HF's cache: a prefill of `cut` tokens, then one token at a time."""
    import torch

    with torch.no_grad():
        first = model(torch.tensor(ids[:, :cut]), use_cache=True)
        parts, cache = [first.logits.numpy()], first.past_key_values
        for t in range(cut, ids.shape[1]):
            step = model(torch.tensor(ids[:, t : t + 1]), past_key_values=cache, use_cache=True)
            parts.append(step.logits.numpy())
    return np.concatenate(parts, axis=1)


V4 = {"hidden_size": 12, "hc_mult": 4, "hc_sinkhorn_iters": 20, "hc_eps": 1e-6, "rms_norm_eps": 1e-6}


def build_branches(seed=0, spread=1.0):
    """Return V4's hyper-connection and collapse in float32 with random weights, and a state [2, 5, 4, 12]."""
    import torch
    from transformers.models.deepseek_v4.configuration_deepseek_v4 import DeepseekV4Config
    from transformers.models.deepseek_v4.modeling_deepseek_v4 import DeepseekV4HyperConnection, DeepseekV4HyperHead

    torch.manual_seed(seed)
    config = DeepseekV4Config(**V4)
    site, head = DeepseekV4HyperConnection(config).eval(), DeepseekV4HyperHead(config).eval()
    with torch.no_grad():
        for parameter in (*site.parameters(), *head.parameters()):
            parameter.copy_(torch.randn_like(parameter) * (spread if parameter.ndim == 1 else 0.15))
    state = torch.randn(2, 5, 4, 12) * (1 + torch.arange(4.0)[:, None])
    return site, head, state


def branch_arrays(seed=0, spread=1.0):
    """Return weights, state and outputs of `build_branches` as float32 arrays by name."""
    import torch

    site, head, state = build_branches(seed, spread)
    with torch.no_grad():
        post, comb, collapsed = site(state)
        answers = {"state": state, "post": post, "comb": comb, "read": collapsed, "collapsed": head(state)}
    named = {f"site.{key}": value for key, value in site.state_dict().items()}
    named |= {f"head.{key}": value for key, value in head.state_dict().items()} | answers
    return {key: value.numpy().copy() for key, value in named.items()}
