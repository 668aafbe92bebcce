"""Gradients of the losses.

    cross-entropy    d logits = upstream (softmax(logits) - one at the target)
"""

import numpy as np

from engram_ref.ops.vjp.branches import BranchesVjp


class LossVjp(BranchesVjp):
    """Gradients of the losses."""

    __slots__ = ()

    def cross_entropy_vjp(self, upstream: np.ndarray, logits: np.ndarray, targets: np.ndarray) -> tuple:
        """Gradient of the cross-entropy: [...] -> [..., V], None."""
        p = self.softmax(logits)
        at_target = np.take_along_axis(p, targets[..., None], axis=-1)
        np.put_along_axis(p, targets[..., None], at_target - 1, axis=-1)
        return p * upstream[..., None], None
