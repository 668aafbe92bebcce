"""Torch version of the formulas in ops/experts.py."""

import torch

from engram_ref.model_config import ExpertsConfig
from engram_ref.ops.experts import GROUP_BEST, NORM_FLOOR


def sqrt_softplus(z: torch.Tensor) -> torch.Tensor:
    """Torch version of ops.experts.sqrt_softplus; uses logaddexp, since torch's softplus is linear above 20."""
    return torch.sqrt(torch.logaddexp(z, torch.zeros_like(z)))


def select_experts(scores: torch.Tensor, bias: torch.Tensor | None, config: ExpertsConfig) -> torch.Tensor:
    """Torch version of ops.experts.select_experts."""
    biased = scores if bias is None else scores + bias                       # [N, E]
    N, E = biased.shape
    if config.n_group > 1:
        groups = biased.reshape(N, config.n_group, E // config.n_group)      # [N, G, E/G]
        best = torch.sort(groups, dim=-1).values[..., -GROUP_BEST[config.group_score] :]
        strength = best.sum(dim=-1)                                          # [N, G]
        kept = descending(strength)[:, : config.topk_group]                  # [N, topk_group]
        closed = torch.ones_like(strength, dtype=torch.bool).scatter(1, kept, False)
        biased = groups.masked_fill(closed[..., None], -torch.inf).reshape(N, E)
    return descending(biased)[:, : config.num_experts_per_tok]


def descending(x: torch.Tensor) -> torch.Tensor:
    """Torch version of ops.experts.descending; torch.topk breaks ties in unspecified order."""
    return torch.argsort(-x, dim=-1, stable=True)


def expert_weights(scores: torch.Tensor, chosen: torch.Tensor, config: ExpertsConfig) -> torch.Tensor:
    """Torch version of ops.experts.expert_weights."""
    weights = torch.gather(scores, -1, chosen)
    if config.norm_topk_prob:
        weights = weights / (weights.sum(dim=-1, keepdim=True) + NORM_FLOOR)
    return weights * config.routed_scaling_factor


def bias_update(bias: torch.Tensor, counts: torch.Tensor, rate: float, centred: bool = False) -> torch.Tensor:
    """Torch version of ops.updates.bias_update."""
    bias = bias + rate * torch.sign(counts.sum() - len(counts) * counts).to(bias.dtype)
    return bias - bias.mean() if centred else bias
