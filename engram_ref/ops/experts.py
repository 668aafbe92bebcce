"""DeepSeekMoE: a router chooses a few of many small SwiGLU experts for each token; shared experts process every token.

    s = sigmoid(W_g x)                        one score per expert; V4 and V2 use other functions
    chosen = top-K of s + b                   b balances the load and affects only this choice; V2 has none
    w = scale * s[chosen] / sum s[chosen]     from s, not (s + b) - b, which loses digits of a small s
    y = sum_k w_k expert_k(x) + shared(x)

Group-limited routing first keeps the groups with the highest scores. A group's score is the sum of its two best s + b
(V3), or the best alone (V2). Ties always go to the lowest index.
"""

import numpy as np

from engram_ref.model_config import ExpertsConfig
from engram_ref.ops.attention import Attention
from engram_ref.ops.record import Parameters, Record, ignore

NORM_FLOOR = 1e-20      # added to the sum of the chosen scores, so that all-zero scores give zero weights
GROUP_BEST = {"best": 1, "best_two": 2}
"""Number of experts whose scores add up to a group's score; it does not depend on K."""


def sqrt_softplus(z: np.ndarray) -> np.ndarray:
    """sqrt(ln(1 + e^z)), without overflow for large z: [...] -> [...].  Source: DeepSeek-V4's router."""
    return np.sqrt(np.logaddexp(z, 0.0))


def select_experts(scores: np.ndarray, bias: np.ndarray | None, config: ExpertsConfig) -> np.ndarray:
    """Choose the experts of each token, best first.

    scores    [N, E]
    bias      [E] or None; it affects only the choice
    config    group_score defines the score of a group
    returns   int64 [N, K]
    source    DeepSeek-V3 (groups masked with -inf, since 0 would beat negative biased scores); DeepSeek-V2

    >>> config = ExpertsConfig(4, 1, 0, 8, n_group=2, topk_group=1)
    >>> select_experts(np.array([[0.9, 0.1, 0.6, 0.6]]), np.zeros(4), config)
    array([[2]])
    """
    biased = scores if bias is None else scores + bias                       # [N, E]
    N, E = biased.shape
    if config.n_group > 1:
        groups = biased.reshape(N, config.n_group, E // config.n_group)      # [N, G, E/G]
        group_scores = np.sort(groups, axis=-1)[..., -GROUP_BEST[config.group_score] :].sum(axis=-1)       # [N, G]
        kept = descending(group_scores)[:, : config.topk_group]              # [N, topk_group]
        allowed = np.zeros((N, config.n_group), dtype=bool)
        np.put_along_axis(allowed, kept, True, axis=1)
        biased = np.where(allowed[..., None], groups, -np.inf).reshape(N, E)
    return descending(biased)[:, : config.num_experts_per_tok]


def descending(x: np.ndarray) -> np.ndarray:
    """Return the indices that sort the last axis in descending order, stable for ties: [N, E] -> int64 [N, E]."""
    return np.argsort(-x, axis=-1, kind="stable")


def expert_weights(scores: np.ndarray, chosen: np.ndarray, config: ExpertsConfig) -> np.ndarray:
    """Return the weight of each chosen expert's output, from the scores without bias.

    scores    [N, E]
    chosen    int64 [N, K]
    returns   [N, K]; each row sums to routed_scaling_factor if norm_topk_prob is set
    """
    weights = np.take_along_axis(scores, chosen, axis=-1)
    if config.norm_topk_prob:
        weights = weights / (weights.sum(axis=-1, keepdims=True) + NORM_FLOOR)
    return weights * config.routed_scaling_factor


class Experts(Attention):
    """Feed-forward networks, the router, and the weighted sum of the chosen experts."""

    __slots__ = ()
    sqrt_softplus = staticmethod(sqrt_softplus)
    select_experts = staticmethod(select_experts)
    expert_weights = staticmethod(expert_weights)

    def swiglu(self, x: np.ndarray, w1: np.ndarray, w2: np.ndarray, w3: np.ndarray) -> np.ndarray:
        """W2 (silu(W1 x) * W3 x): a feed-forward network, used as an expert or as a dense layer.

        x         [..., D]
        w1, w3    [F, D]
        w2        [D, F]
        returns   [..., D]
        source    Shazeer 2020
        """
        return self.linear(self.multiply(self.silu(self.linear(x, w1)), self.linear(x, w3)), w2)

    def router_scores(self, x: np.ndarray, weight: np.ndarray, scoring_func: str) -> np.ndarray:
        """Score every expert for each token.

        x              [N, D] tokens
        weight         [E, D]
        scoring_func   "sigmoid" (V3), "sqrt_softplus": sqrt(ln(1 + e^z)) (V4), or "softmax" over the experts (V2)
        returns        [N, E], at least 0
        """
        z = self.linear(x, weight)
        if scoring_func == "softmax":
            return self.softmax(z)
        return self.sigmoid(z) if scoring_func == "sigmoid" else self.sqrt_softplus(z)

    def route(self, parameters: Parameters, x: np.ndarray, config: ExpertsConfig) -> tuple[np.ndarray, np.ndarray]:
        """Choose the experts of each token, and compute their weights.

        parameters   "gate.weight" [E, D]; with a router bias "gate.bias" [E]
        x            [N, D]
        returns      int64 [N, K], [N, K]
        """
        scores = self.router_scores(x, parameters["gate.weight"], config.scoring_func)
        chosen = self.select_experts(scores, parameters["gate.bias"] if config.router_bias else None, config)
        return chosen, self.expert_weights(scores, chosen, config)

    def routed_naive(self, parameters: Parameters, x: np.ndarray, chosen: np.ndarray,
                     weights: np.ndarray) -> np.ndarray:
        """Compute the weighted sum of the routed experts, one token and one expert at a time (the definition).

        parameters   "experts.w1", "experts.w3" [E, F, D], "experts.w2" [E, D, F]
        x            [N, D]
        chosen       int64 [N, K]
        weights      [N, K]
        returns      [N, D]
        """
        w1, w2, w3 = (parameters[f"experts.w{i}"] for i in (1, 2, 3))
        y = np.zeros_like(x)
        for n, experts in enumerate(chosen):
            for k, e in enumerate(experts):
                y[n] = y[n] + weights[n, k] * self.swiglu(x[n], w1[e], w2[e], w3[e])
        return y

    def routed_grouped(self, parameters: Parameters, x: np.ndarray, chosen: np.ndarray,
                       weights: np.ndarray) -> np.ndarray:
        """Compute the same sum with all tokens of an expert at once; arguments and result as for routed_naive."""
        w1, w2, w3 = (parameters[f"experts.w{i}"] for i in (1, 2, 3))
        y = np.zeros_like(x)
        for e in range(len(w1)):
            token, slot = np.nonzero(chosen == e)
            if len(token):
                y[token] = y[token] + weights[token, slot, None] * self.swiglu(x[token], w1[e], w2[e], w3[e])
        return y

    def moe(self, parameters: Parameters, x: np.ndarray, config: ExpertsConfig, record: Record = ignore) -> np.ndarray:
        """Apply the routed and the shared experts of one layer.

        parameters   as for `route` and `routed_grouped`; with shared experts "shared_experts.w1.weight"
                     and "w3" [S*F, D], "w2" [D, S*F]
        x            [B, T, D]
        returns      [B, T, D]; the shared experts' output is neither weighted nor scaled
        source       DeepSeekMoE; DeepSeek-V3
        """
        B, T, D = x.shape
        tokens = self.reshape(x, (B * T, D))                          # [N, D]
        chosen, weights = self.route(parameters, tokens, config)
        record("experts", self.reshape(chosen, (B, T, config.num_experts_per_tok)))
        record("expert_weights", self.reshape(weights, (B, T, config.num_experts_per_tok)))
        y = self.routed_grouped(parameters, tokens, chosen, weights)
        if config.n_shared_experts:
            y = self.add(y, self.swiglu(tokens, *(parameters[f"shared_experts.w{i}.weight"] for i in (1, 2, 3))))
        return self.reshape(y, (B, T, D))
