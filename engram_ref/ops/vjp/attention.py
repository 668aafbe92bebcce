"""Gradients of attention: the rotation and the softmax.

The gradients of the products, scores and projections of MLA follow from those of einsum, linear, multiply and add, in
the expanded and in the absorbed form.
"""

import numpy as np

from engram_ref.ops.vjp.conv import ConvVjp


class AttentionVjp(ConvVjp):
    """Gradients of attention."""

    __slots__ = ()

    def rotate_vjp(self, upstream: np.ndarray, x: np.ndarray, angle: np.ndarray) -> tuple:
        """Gradient of the rotation: the rotation by the negative angle. Positions have no gradient.

        upstream, x   [B, T, ..., dim]
        angle         float64 [B, T, dim/2]
        """
        return self.rotate(upstream, -angle), None

    def softmax_vjp(self, upstream: np.ndarray, scores: np.ndarray, allowed: np.ndarray | None = None) -> tuple:
        """Gradient of the softmax, p (upstream - <upstream, p>): 0 where not allowed.

        upstream, scores   [..., S]
        """
        p = self.softmax(scores, allowed)
        return p * (upstream - np.sum(upstream * p, axis=-1, keepdims=True)), None
