"""Twin of ops/attention.py."""

import torch

from engram_ref.backends.torch._tensors import Parameters
from engram_ref.backends.torch.linear import linear
from engram_ref.backends.torch.norm import rms_norm
from engram_ref.backends.torch.rope import rotate
from engram_ref.model_config import AttentionConfig
from engram_ref.ops import softmax_scale
from engram_ref.ops.record import Record, ignore


def queries(parameters: Parameters, x: torch.Tensor, angle: torch.Tensor,
            config: AttentionConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """Twin of ops.attention.queries."""
    if config.q_lora_rank is None:
        q = linear(x, parameters["wq.weight"])
    else:
        latent = rms_norm(linear(x, parameters["wq_a.weight"]), parameters["q_norm.weight"], config.latent_norm_eps)
        q = linear(latent, parameters["wq_b.weight"])
    B, T, _ = q.shape
    q = q.reshape(B, T, config.n_heads, config.qk_head_dim)
    nope, pe = q[..., : config.qk_nope_head_dim], q[..., config.qk_nope_head_dim :]
    return nope, rotate(pe, angle)


def latents(parameters: Parameters, x: torch.Tensor, angle: torch.Tensor,
            config: AttentionConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """Twin of ops.attention.latents."""
    kv = linear(x, parameters["wkv_a.weight"])               # [B, T, r+dr]
    c, pe = kv[..., : config.kv_lora_rank], kv[..., config.kv_lora_rank :]
    return rms_norm(c, parameters["kv_norm.weight"], config.latent_norm_eps), rotate(pe, angle)


def up_projections(parameters: Parameters, config: AttentionConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """Twin of ops.attention.up_projections."""
    heads = parameters["wkv_b.weight"].reshape(config.n_heads, -1, config.kv_lora_rank)     # [A, dn+dv, r]
    return heads[:, : config.qk_nope_head_dim], heads[:, config.qk_nope_head_dim :]


def visible(positions: torch.Tensor, n_keys: int) -> torch.Tensor:
    """Twin of ops.attention.visible."""
    return torch.arange(n_keys, device=positions.device) <= positions[..., None]


def softmax(scores: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
    """Twin of ops.attention.softmax; torch's own subtracts the largest score as well."""
    return torch.softmax(scores.masked_fill(~allowed[:, None], -torch.inf), dim=-1)


def attend_expanded(q_nope: torch.Tensor, q_pe: torch.Tensor, c_kv: torch.Tensor, k_pe: torch.Tensor,
                    w_uk: torch.Tensor, w_uv: torch.Tensor, allowed: torch.Tensor, scale: float,
                    record: Record = ignore) -> torch.Tensor:
    """Twin of ops.attention.attend_expanded."""
    k_nope = torch.einsum("bsr,anr->bsan", c_kv, w_uk)       # [B, S, A, dn]
    value = torch.einsum("bsr,avr->bsav", c_kv, w_uv)        # [B, S, A, dv]
    scores = torch.einsum("btan,bsan->bats", q_nope, k_nope) + torch.einsum("btap,bsp->bats", q_pe, k_pe)
    weights = softmax(scale * scores, allowed)               # [B, A, T, S]
    record("attention_weights", weights)
    return torch.einsum("bats,bsav->btav", weights, value)


def attend_absorbed(q_nope: torch.Tensor, q_pe: torch.Tensor, c_kv: torch.Tensor, k_pe: torch.Tensor,
                    w_uk: torch.Tensor, w_uv: torch.Tensor, allowed: torch.Tensor, scale: float,
                    record: Record = ignore) -> torch.Tensor:
    """Twin of ops.attention.attend_absorbed."""
    q_latent = torch.einsum("btan,anr->btar", q_nope, w_uk)  # [B, T, A, r]
    scores = torch.einsum("btar,bsr->bats", q_latent, c_kv) + torch.einsum("btap,bsp->bats", q_pe, k_pe)
    weights = softmax(scale * scores, allowed)               # [B, A, T, S]
    record("attention_weights", weights)
    context = torch.einsum("bats,bsr->btar", weights, c_kv)  # [B, T, A, r]
    return torch.einsum("btar,avr->btav", context, w_uv)


def mla(parameters: Parameters, x: torch.Tensor, c_kv: torch.Tensor, k_pe: torch.Tensor, positions: torch.Tensor,
        angle: torch.Tensor, config: AttentionConfig, absorbed: bool = False, record: Record = ignore) -> torch.Tensor:
    """Twin of ops.attention.mla."""
    q_nope, q_pe = queries(parameters, x, angle, config)
    record("q_nope", q_nope)
    record("q_pe", q_pe)
    w_uk, w_uv = up_projections(parameters, config)
    attend = attend_absorbed if absorbed else attend_expanded
    heads = attend(q_nope, q_pe, c_kv, k_pe, w_uk, w_uv, visible(positions, c_kv.shape[1]),
                   softmax_scale(config.qk_head_dim, config.yarn), record)
    B, T, A, dv = heads.shape
    return linear(heads.reshape(B, T, A * dv), parameters["wo.weight"])      # [B, T, A*dv] -> [B, T, D]
