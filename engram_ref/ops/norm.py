"""RMSNorm: divide a vector by its root mean square, then scale each channel.

    y = g * x / sqrt(mean(x^2) + eps)

eps is added inside the root. Engram normalises each residual branch separately, over its D channels.
"""

import numpy as np

from engram_ref.config import check_choice
from engram_ref.ops.linear import Linear


def inverse_rms(x: np.ndarray, eps: float | None) -> np.ndarray:
    """1 / sqrt(mean(x^2) + eps) over the last axis: [..., D] -> [..., 1].  Source: Zhang and Sennrich 2019."""
    eps = float(np.finfo(x.dtype).eps) if eps is None else eps
    return 1.0 / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps)


def effective_gain(weight: np.ndarray, gain_form: str) -> np.ndarray:
    """Return the gain that a stored weight represents.

    weight      [...] float
    gain_form   "plain": the weight itself; "zero_centred": 1 + weight (the Qwen dialect)
    returns     [...]
    raises      InputError if `gain_form` is unknown
    source      demo, V4.1 release (plain); Qwen4Exp release (zero-centred)
    """
    check_choice("gain_form", gain_form)
    return 1.0 + weight if gain_form == "zero_centred" else weight


class Norm(Linear):
    """The norm."""

    __slots__ = ()
    inverse_rms = staticmethod(inverse_rms)
    effective_gain = staticmethod(effective_gain)

    def rms_norm(self, x: np.ndarray, gain: np.ndarray, eps: float | None) -> np.ndarray:
        """Return x divided by its root mean square, times the gain.

        x         [..., D] float
        gain      [D], or any shape that broadcasts against x, such as [M, D]
        eps       added inside the root; None: machine epsilon of x's dtype, as in PyTorch
        returns   [..., D], the wider dtype of x and gain
        source    Zhang and Sennrich 2019; eps per dialect

        >>> from engram_ref import ops
        >>> ops.rms_norm(np.array([3.0, 4.0]), np.ones(2), eps=0.0)
        array([0.84852814, 1.13137085])
        """
        return gain * (x * self.inverse_rms(x, eps))
