"""Gradients of the norm.

With r = 1 / sqrt(mean(x^2) + eps) and u = gain * upstream, y = gain * x * r has the gradients

    d x    = r u - x r^3 mean(u x)            second term: r depends on every channel of x
    d gain = sum over tokens of upstream * x * r

A row of zeros with a tiny eps multiplies its gradient by r = 1 / sqrt(eps), 1e10 for eps = 1e-20.
"""

import numpy as np

from engram_ref.ops.vjp.basic import summed
from engram_ref.ops.vjp.tables import TablesVjp


def effective_gain_vjp(upstream: np.ndarray, weight: np.ndarray, gain_form: str) -> tuple:
    """Gradient of the gain with respect to the stored weight: upstream, in both forms."""
    return upstream, None


class NormVjp(TablesVjp):
    """Gradients of the norm."""

    __slots__ = ()
    effective_gain_vjp = staticmethod(effective_gain_vjp)

    def inverse_rms_vjp(self, upstream: np.ndarray, x: np.ndarray, eps: float | None) -> tuple:
        """Gradient of 1 / sqrt(mean(x^2) + eps): -x r^3 / D for every channel.

        upstream   [..., 1]
        x          [..., D]
        returns    [..., D], None
        """
        return -upstream * self.inverse_rms(x, eps) ** 3 * x / x.shape[-1], None

    def rms_norm_vjp(self, upstream: np.ndarray, x: np.ndarray, gain: np.ndarray, eps: float | None) -> tuple:
        """Gradients of RMSNorm.

        upstream, x   [..., D]
        gain          [D], or any shape that broadcasts against x
        returns       gradients of x and gain, None
        source        Zhang and Sennrich 2019, differentiated
        """
        r, u = self.inverse_rms(x, eps), upstream * gain
        return r * u - x * r**3 * np.mean(u * x, axis=-1, keepdims=True), summed(upstream * x * r, gain.shape), None
