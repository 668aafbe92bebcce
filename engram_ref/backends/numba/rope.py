"""Rotation of channel pairs as complex numbers; texts at the same positions share their sines and cosines.

Fast version of ops.rotate.
"""

import numpy as np

from engram_ref import ops
from engram_ref.checks import check_shapes

COMPLEX = {np.dtype(np.float32): np.complex64, np.dtype(np.float64): np.complex128}


def rotate(x: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Fast version of ops.rotate; unusual floats use the definition."""
    if x.dtype not in COMPLEX:
        return ops.rotate(x, angle)
    (B, T, half), kind = angle.shape, COMPLEX[x.dtype]
    check_shapes(angle=(angle, (*x.shape[:2], x.shape[-1] // 2)))
    if B > 1 and (angle[1:] == angle[:1]).all():
        angle = angle[:1]
    factor = np.empty(angle.shape, kind)
    factor.real, factor.imag = np.cos(angle), np.sin(angle)
    factor = factor.reshape(len(angle), T, *(1,) * (x.ndim - 3), half)
    return (np.ascontiguousarray(x).view(kind) * factor).view(x.dtype)
