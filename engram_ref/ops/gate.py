"""The gate: decide how much of the memory to add, given the context.

A row is selected by its n-gram alone, so it may not fit the context, or may belong to a colliding n-gram. Each residual
branch compares its hidden state with the memory's key and scales the memory's value by a factor between 0 and 1:

    s = <RMSNorm(h), RMSNorm(k)> / sqrt(D)

    sigmoid         alpha = sigma(s)                                               paper, Eq. 4
    signed_sqrt     alpha = sigma(sign(s) * sqrt(max(|s|, 1e-6)))                  demo, Qwen
    copysign_sqrt   alpha = sigma(copysign(sqrt(max(|s|, 1e-6)), s))               V4.1, TileKernels

The root shrinks large scores and enlarges small ones. The last two forms differ only at zero, where sign returns 0 and
copysign keeps the sign of the zero.
"""

import math

import numpy as np

from engram_ref.checks import check_shapes
from engram_ref.config import CHOICES, check_choice
from engram_ref.ops.norm import Norm

ROOT_CLAMP = 1e-6
"""Lower bound on |s| before the root, so that the slope of the root stays finite."""

ROOTS = tuple(form for form in CHOICES["gate_form"] if form != "sigmoid")
"""The gate forms that first take a root of the score; each root is the op of the same name."""


def sigmoid(x: np.ndarray) -> np.ndarray:
    """The logistic function 1 / (1 + e^-x), without overflow in exp: [...] -> [...]."""
    small = np.exp(-np.abs(x))                       # in (0, 1]
    return np.where(x >= 0, 1.0, small) / (1.0 + small)


def score(query: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Return the scaled dot product of a normalised hidden state and a normalised key.

    query     [B, T, M, D]
    key       [B, T, M, D]
    returns   [B, T, M]
    source    Paper Eq. 4 and 6

    >>> score(np.array([[[[1.0, 2.0, 2.0, 4.0]]]]), np.ones((1, 1, 1, 4)))
    array([[[4.5]]])
    """
    check_shapes(key=(key, query.shape))
    D = query.shape[-1]
    return np.einsum("btmd,btmd->btm", query, key) / math.sqrt(D)


def signed_sqrt(s: np.ndarray) -> np.ndarray:
    """sign(s) * sqrt(max(|s|, 1e-6)): [...] -> [...]; exactly 0 stays 0.  Source: demo."""
    return np.sign(s) * np.sqrt(np.maximum(np.abs(s), ROOT_CLAMP))


def copysign_sqrt(s: np.ndarray) -> np.ndarray:
    """sqrt(max(|s|, 1e-6)) with the sign bit of s: [...] -> [...]; -0.0 counts as negative.  Source: V4.1."""
    return np.copysign(np.sqrt(np.maximum(np.abs(s), ROOT_CLAMP)), s)


def zero_dead(alpha: np.ndarray, dead: np.ndarray) -> np.ndarray:
    """Set gates to exactly 0 at dead positions: [B, T, M], bool [B, T] -> [B, T, M]."""
    return np.where(dead[..., None], alpha.dtype.type(0), alpha)


def apply_gate(alpha: np.ndarray, value: np.ndarray) -> np.ndarray:
    """u = alpha * v: scale the shared value by the gate of each branch.

    alpha     [B, T, M]
    value     [B, T, D]
    returns   [B, T, M, D]
    source    Paper Eq. 6
    """
    check_shapes(value=(value, (*alpha.shape[:-1], value.shape[-1])))
    return alpha[..., None] * value[:, :, None, :]


class Gate(Norm):
    """The gate and its scores."""

    __slots__ = ()
    sigmoid = staticmethod(sigmoid)
    score = staticmethod(score)
    signed_sqrt = staticmethod(signed_sqrt)
    copysign_sqrt = staticmethod(copysign_sqrt)
    zero_dead = staticmethod(zero_dead)
    apply_gate = staticmethod(apply_gate)

    def factored_score(self, hidden: np.ndarray, key: np.ndarray, query_gain: np.ndarray, key_gain: np.ndarray,
                       eps: float | None) -> np.ndarray:
        """Return the same score with both norms applied after the dot product; only the product of the gains matters.

            s = sum(h * (gq gk) * k) * rsqrt(mean h^2 + eps) * rsqrt(mean k^2 + eps) / sqrt(D)

        hidden, key            [B, T, M, D], neither normalised
        query_gain, key_gain   [M, D]
        eps                    added inside both roots
        returns                [B, T, M]
        source                 TileKernels; V4.1 release
        """
        D, gains = hidden.shape[-1], hidden.shape[2:]
        check_shapes(key=(key, hidden.shape), query_gain=(query_gain, gains), key_gain=(key_gain, gains))
        dot = np.einsum("btmd,md,btmd->btm", hidden, query_gain * key_gain, key)
        return dot * self.inverse_rms(hidden, eps)[..., 0] * self.inverse_rms(key, eps)[..., 0] / math.sqrt(D)

    def gate(self, s: np.ndarray, form: str, dead: np.ndarray | None = None) -> np.ndarray:
        """Compute the gate, the factor that scales the memory's value.

        s         [B, T, M] scores
        form      "sigmoid", "signed_sqrt" or "copysign_sqrt"
        dead      bool [B, T] or None; a dead position's gate is exactly 0
        returns   [B, T, M] in [0, 1], same dtype
        raises    InputError if `form` is unknown
        source    Paper Eq. 4; demo; V4.1 release

        >>> from engram_ref import ops
        >>> ops.gate(np.array([[[0.0, -0.0, 4.0]]]), "copysign_sqrt").round(5)
        array([[[0.50025, 0.49975, 0.8808 ]]])
        """
        check_choice("gate_form", form)
        if dead is not None:
            check_shapes(dead=(dead, s.shape[:-1]))
        roots = {"sigmoid": lambda x: x, "signed_sqrt": self.signed_sqrt, "copysign_sqrt": self.copysign_sqrt}
        alpha = self.sigmoid(roots[form](s))
        return alpha if dead is None else self.zero_dead(alpha, dead)
