"""Twin of ops/experts.py."""

import torch

from engram_ref.backends.torch._tensors import Parameters
from engram_ref.backends.torch.conv import silu
from engram_ref.backends.torch.gate import sigmoid
from engram_ref.backends.torch.linear import linear
from engram_ref.model_config import ExpertsConfig
from engram_ref.ops.experts import GROUP_BEST, NORM_FLOOR
from engram_ref.ops.record import Record, ignore


def swiglu(x: torch.Tensor, w1: torch.Tensor, w2: torch.Tensor, w3: torch.Tensor) -> torch.Tensor:
    """Twin of ops.experts.swiglu."""
    return linear(silu(linear(x, w1)) * linear(x, w3), w2)


def router_scores(x: torch.Tensor, weight: torch.Tensor, scoring_func: str) -> torch.Tensor:
    """Twin of ops.experts.router_scores; torch's softplus is linear above 20, so the sum of exponentials it is."""
    z = linear(x, weight)
    if scoring_func == "softmax":
        return torch.softmax(z, dim=-1)
    return sigmoid(z) if scoring_func == "sigmoid" else torch.sqrt(torch.logaddexp(z, torch.zeros_like(z)))


def select_experts(scores: torch.Tensor, bias: torch.Tensor | None, config: ExpertsConfig) -> torch.Tensor:
    """Twin of ops.experts.select_experts."""
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
    """Twin of ops.experts.descending; torch.topk would break ties as it likes."""
    return torch.argsort(-x, dim=-1, stable=True)


def expert_weights(scores: torch.Tensor, chosen: torch.Tensor, config: ExpertsConfig) -> torch.Tensor:
    """Twin of ops.experts.expert_weights."""
    weights = torch.gather(scores, -1, chosen)
    if config.norm_topk_prob:
        weights = weights / (weights.sum(dim=-1, keepdim=True) + NORM_FLOOR)
    return weights * config.routed_scaling_factor


def route(parameters: Parameters, x: torch.Tensor, config: ExpertsConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """Twin of ops.experts.route."""
    scores = router_scores(x, parameters["gate.weight"], config.scoring_func)
    chosen = select_experts(scores, parameters["gate.bias"] if config.router_bias else None, config)
    return chosen, expert_weights(scores, chosen, config)


def routed_naive(parameters: Parameters, x: torch.Tensor, chosen: torch.Tensor,
                 weights: torch.Tensor) -> torch.Tensor:
    """Twin of ops.experts.routed_naive; it reads the choice on the host, so it waits for the device."""
    w1, w2, w3 = (parameters[f"experts.w{i}"] for i in (1, 2, 3))
    y = list(torch.zeros_like(x))
    for n, experts in enumerate(chosen.tolist()):
        for k, e in enumerate(experts):
            y[n] = y[n] + weights[n, k] * swiglu(x[n], w1[e], w2[e], w3[e])
    return torch.stack(y) if y else torch.zeros_like(x)


def routed_grouped(parameters: Parameters, x: torch.Tensor, chosen: torch.Tensor,
                   weights: torch.Tensor) -> torch.Tensor:
    """Twin of ops.experts.routed_grouped; every expert answers every token, E/K times the work.

    Which tokens an expert serves is known on the device alone: to take only those, the host would have to wait.
    """
    w1, w2, w3 = (parameters[f"experts.w{i}"] for i in (1, 2, 3))
    y = torch.zeros_like(x)
    for e in range(len(w1)):
        serves = chosen == e                                                 # [N, K], at most one of a row
        weight = weights.masked_fill(~serves, 0.0).sum(dim=-1, keepdim=True)
        answer = weight * swiglu(x, w1[e], w2[e], w3[e])                     # [N, D]
        y = y + answer.masked_fill(~serves.any(dim=-1, keepdim=True), 0.0)   # NaN of an expert not asked stays out
    return y


def moe(parameters: Parameters, x: torch.Tensor, config: ExpertsConfig, record: Record = ignore) -> torch.Tensor:
    """Twin of ops.experts.moe."""
    B, T, D = x.shape
    tokens = x.reshape(B * T, D)                             # [N, D]
    chosen, weights = route(parameters, tokens, config)
    record("experts", chosen.reshape(B, T, config.num_experts_per_tok))
    record("expert_weights", weights.reshape(B, T, config.num_experts_per_tok))
    y = routed_grouped(parameters, tokens, chosen, weights)
    if config.n_shared_experts:
        y = y + swiglu(tokens, *(parameters[f"shared_experts.w{i}.weight"] for i in (1, 2, 3)))
    return y.reshape(B, T, D)
