"""Gradients of the gate and its scores.

    d alpha / d s = alpha (1 - alpha) * slope          slope = 1                    sigmoid
                                                       0.5 / sqrt|s|, |s| >= 1e-6   the signed roots
                                                       0,             |s| <  1e-6

Inside the clamp the root is flat. At |s| = 1e-6 exactly, the outer slope applies. Neither sign nor copysign contributes
a slope at zero, although both jump there. A dead position has no gradient.
"""

import math

import numpy as np

from engram_ref.ops.gate import ROOT_CLAMP
from engram_ref.ops.vjp.basic import summed
from engram_ref.ops.vjp.norm import NormVjp


def signed_sqrt_vjp(upstream: np.ndarray, s: np.ndarray) -> tuple:
    """Gradient of signed_sqrt and copysign_sqrt: 0.5 / sqrt|s|, and 0 inside the clamp."""
    size = np.abs(s)
    return (upstream * np.where(size < ROOT_CLAMP, 0.0, 0.5 / np.sqrt(np.maximum(size, ROOT_CLAMP))),)


copysign_sqrt_vjp = signed_sqrt_vjp          # both have the same slopes


def score_vjp(upstream: np.ndarray, query: np.ndarray, key: np.ndarray) -> tuple:
    """Gradients of <q, k> / sqrt(D): [B, T, M] -> [B, T, M, D] twice."""
    scaled = upstream[..., None] / math.sqrt(query.shape[-1])
    return scaled * key, scaled * query


def zero_dead_vjp(upstream: np.ndarray, alpha: np.ndarray, dead: np.ndarray) -> tuple:
    """Gradient of the gates: 0 at dead positions."""
    return np.where(dead[..., None], upstream.dtype.type(0), upstream), None


def apply_gate_vjp(upstream: np.ndarray, alpha: np.ndarray, value: np.ndarray) -> tuple:
    """Gradients of alpha * v.

    upstream   [B, T, M, D]
    returns    <upstream, v> [B, T, M], and the sum over branches of alpha * upstream [B, T, D]
    """
    return np.einsum("btmd,btd->btm", upstream, value), np.einsum("btmd,btm->btd", upstream, alpha)


class GateVjp(NormVjp):
    """Gradients of the gate."""

    __slots__ = ()
    signed_sqrt_vjp = staticmethod(signed_sqrt_vjp)
    copysign_sqrt_vjp = staticmethod(copysign_sqrt_vjp)
    score_vjp = staticmethod(score_vjp)
    zero_dead_vjp = staticmethod(zero_dead_vjp)
    apply_gate_vjp = staticmethod(apply_gate_vjp)

    def sigmoid_vjp(self, upstream: np.ndarray, x: np.ndarray) -> tuple:
        """Gradient of the logistic function: sigma(x) sigma(-x), which loses no digits for large x."""
        return (upstream * self.sigmoid(x) * self.sigmoid(-x),)

    def factored_score_vjp(self, upstream: np.ndarray, hidden: np.ndarray, key: np.ndarray, query_gain: np.ndarray,
                           key_gain: np.ndarray, eps: float | None) -> tuple:
        """Gradients of the factored score, s = <h, gains k> rh rk / sqrt(D) with rh = rsqrt(mean h^2 + eps), rk alike.

            d h = a gains k - h s rh^2 / D * upstream,     a = upstream rh rk / sqrt(D);     d k likewise

        upstream        [B, T, M]
        hidden, key     [B, T, M, D]
        returns         gradients of hidden, key [B, T, M, D] and of both gains [M, D], None
        """
        D, gains = hidden.shape[-1], query_gain * key_gain
        rh, rk = self.inverse_rms(hidden, eps), self.inverse_rms(key, eps)
        a = upstream[..., None] * rh * rk / math.sqrt(D)                         # [B, T, M, 1]
        s = (a * np.sum(hidden * gains * key, axis=-1, keepdims=True)) / D       # upstream s / D
        of_gains = summed(a * hidden * key, gains.shape)
        return (a * gains * key - hidden * s * rh**2, a * gains * hidden - key * s * rk**2,
                of_gains * key_gain, of_gains * query_gain, None)
