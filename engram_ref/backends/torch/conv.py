"""Torch version of the formulas in ops/conv.py."""

import torch

from engram_ref.checks import check_shapes


def short_conv(x: torch.Tensor, weight: torch.Tensor, dilation: int, taps: torch.Tensor) -> torch.Tensor:
    """Torch version of ops.conv.short_conv."""
    (B, T, M, D), L = x.shape, weight.shape[-1]
    check_shapes(weight=(weight, (M, D, L)), taps=(taps, (B, (L - 1) * dilation, M, D)))
    padded = torch.cat([taps, x], dim=1)                             # [B, (L-1)*dilation + T, M, D]
    y = torch.zeros_like(x)
    for j in range(L):
        y = y + weight[..., j] * padded[:, j * dilation : j * dilation + T]
    return y


def next_taps(x: torch.Tensor, taps: torch.Tensor) -> torch.Tensor:
    """Torch version of ops.conv.next_taps."""
    padded = torch.cat([taps, x], dim=1)
    return padded[:, padded.shape[1] - taps.shape[1] :]
