"""Gradients of the losses.

    cross-entropy    d logits = upstream (softmax(logits) - one at the target)
    imbalance        d s = upstream (f - sum of f s / A) / (A T),  with A the sum of the token's scores
"""

import numpy as np

from engram_ref.ops.loss import SHARE_FLOOR, choice_shares, score_shares
from engram_ref.ops.vjp.branches import BranchesVjp


def balance_loss_vjp(upstream: np.ndarray, scores: np.ndarray, chosen: np.ndarray) -> tuple:
    """Gradient of the imbalance: [B] -> [B, T, E] for all experts, None for the choices."""
    f = choice_shares(chosen, scores.shape[-1], scores.dtype)[:, None]                     # [B, 1, E]
    total = scores.sum(axis=-1, keepdims=True) + SHARE_FLOOR
    slope = f - (f * score_shares(scores)).sum(axis=-1, keepdims=True)
    return upstream[:, None, None] * slope / (total * max(scores.shape[1], 1)), None


class LossVjp(BranchesVjp):
    """Gradients of the losses."""

    __slots__ = ()
    balance_loss_vjp = staticmethod(balance_loss_vjp)

    def cross_entropy_vjp(self, upstream: np.ndarray, logits: np.ndarray, targets: np.ndarray) -> tuple:
        """Gradient of the cross-entropy: [...] -> [..., V], None."""
        p = self.softmax(logits)
        at_target = np.take_along_axis(p, targets[..., None], axis=-1)
        np.put_along_axis(p, targets[..., None], at_target - 1, axis=-1)
        return p * upstream[..., None], None
