"""Torch version of the functions in ops/rope.py that process positions or channels."""

import torch

from engram_ref.backends.torch._tensors import Constant
from engram_ref.backends.torch.arrays import constant
from engram_ref.checks import check_shapes


def angles(positions: torch.Tensor, frequency: Constant) -> torch.Tensor:
    """Torch version of ops.rope.angles; always float64."""
    return positions[..., None] * constant(frequency, positions)


def rotate(x: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    """Torch version of ops.rope.rotate."""
    check_shapes(angle=(angle, (*x.shape[:2], x.shape[-1] // 2)))
    B, T, half = angle.shape
    angle = angle.reshape(B, T, *(1,) * (x.ndim - 3), half)
    cos, sin = torch.cos(angle).to(x.dtype), torch.sin(angle).to(x.dtype)
    even, odd = x[..., 0::2], x[..., 1::2]                   # [B, T, ..., dim/2]
    rotated = torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1)
    return rotated.reshape(x.shape)                          # [B, T, ..., dim/2, 2] -> [B, T, ..., dim]
