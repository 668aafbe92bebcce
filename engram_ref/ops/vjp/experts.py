"""Gradients of the experts and their router.

The choice of experts has no gradient. The weights of the chosen experts have one: with w_k = R s_k / S and
S = sum of the chosen s + 1e-20, and dw the gradient with respect to w,

    d s_k = R / S (dw_k - sum_j dw_j w_j / R)

The scores of other experts get no gradient, unless the balance loss is added. With a single chosen expert and
normalised weights, w = R for any score, so the router gets no gradient at all.
"""

import numpy as np

from engram_ref.model_config import ExpertsConfig
from engram_ref.ops.experts import NORM_FLOOR
from engram_ref.ops.record import Parameters
from engram_ref.ops.vjp.attention import AttentionVjp


def expert_weights_vjp(upstream: np.ndarray, scores: np.ndarray, chosen: np.ndarray, config: ExpertsConfig) -> tuple:
    """Gradient of the scores, [N, E]: 0 for experts that were not chosen.

    upstream   [N, K]
    chosen     int64 [N, K]
    returns    [N, E], None, None
    """
    of_chosen = upstream * config.routed_scaling_factor
    if config.norm_topk_prob:
        selected = np.take_along_axis(scores, chosen, axis=-1)
        total = selected.sum(axis=-1, keepdims=True) + NORM_FLOOR
        of_chosen = (of_chosen - np.sum(of_chosen * selected, axis=-1, keepdims=True) / total) / total
    of_scores = np.zeros_like(scores)
    np.put_along_axis(of_scores, chosen, of_chosen, axis=-1)
    return of_scores, None, None


class ExpertsVjp(AttentionVjp):
    """Gradients of the experts."""

    __slots__ = ()
    expert_weights_vjp = staticmethod(expert_weights_vjp)

    def sqrt_softplus_vjp(self, upstream: np.ndarray, z: np.ndarray) -> tuple:
        """Gradient of sqrt(ln(1 + e^z)): sigma(z) / (2 sqrt(ln(1 + e^z)))."""
        return (upstream * self.sigmoid(z) / (2 * self.sqrt_softplus(z)),)

    def swiglu_vjp(self, upstream: np.ndarray, x: np.ndarray, w1: np.ndarray, w2: np.ndarray,
                   w3: np.ndarray) -> tuple:
        """Gradients of W2 (silu(a) * u) with a = W1 x, u = W3 x.

        upstream, x   [..., D]
        returns       gradients of x, w1, w2, w3
        """
        a, u = self.linear(x, w1), self.linear(x, w3)
        activated = self.silu(a)
        of_h, of_w2, _ = self.linear_vjp(upstream, activated * u, w2)
        (of_a,) = self.silu_vjp(of_h * u, a)
        from_a, of_w1, _ = self.linear_vjp(of_a, x, w1)
        from_u, of_w3, _ = self.linear_vjp(of_h * activated, x, w3)
        return from_a + from_u, of_w1, of_w2, of_w3

    def routed_grouped_vjp(self, upstream: np.ndarray, parameters: Parameters, x: np.ndarray, chosen: np.ndarray,
                           weights: np.ndarray) -> tuple:
        """Gradients of the weighted sum of the routed experts, expert by expert.

        upstream, x   [N, D]
        parameters    "experts.w1", "experts.w3" [E, F, D], "experts.w2" [E, D, F]
        chosen        int64 [N, K]
        weights       [N, K]
        returns       gradients of parameters, by name; of x; None; of weights. Those of an expert that no token chose
                      are 0
        """
        names = tuple(f"experts.w{i}" for i in (1, 2, 3))
        of_parameters = {name: np.zeros_like(parameters[name]) for name in names}
        of_x, of_weights = np.zeros_like(x), np.zeros_like(weights)
        for e in range(len(parameters[names[0]])):
            token, slot = np.nonzero(chosen == e)
            if not len(token):
                continue
            w1, w2, w3 = (parameters[name][e] for name in names)
            y, scale = self.swiglu(x[token], w1, w2, w3), weights[token, slot, None]
            of_weights[token, slot] = np.sum(upstream[token] * y, axis=-1)
            from_tokens, *of_matrices = self.swiglu_vjp(upstream[token] * scale, x[token], w1, w2, w3)
            of_x[token] += from_tokens
            for name, gradient in zip(names, of_matrices, strict=True):
                of_parameters[name][e] = gradient
        return of_parameters, of_x, None, of_weights

    def routed_naive_vjp(self, upstream: np.ndarray, parameters: Parameters, x: np.ndarray, chosen: np.ndarray,
                         weights: np.ndarray) -> tuple:
        """Gradients of the same sum, token by token: those of routed_grouped."""
        return self.routed_grouped_vjp(upstream, parameters, x, chosen, weights)
