"""Torch version of the functions in ops/gate.py."""

import math

import torch

from engram_ref.checks import check_shapes
from engram_ref.ops.gate import ROOT_CLAMP


def sigmoid(x: torch.Tensor) -> torch.Tensor:
    """Torch version of ops.gate.sigmoid; autograd of the reference's formula would give a gradient of 0 at 0."""
    return torch.sigmoid(x)


def score(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """Torch version of ops.gate.score."""
    check_shapes(key=(key, query.shape))
    D = query.shape[-1]
    return dot(query, key) / math.sqrt(D)


def dot(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Dot product over the last axis; einsum over one channel can give -0.0, whose sign copysign_sqrt would use."""
    return (x * y).sum(dim=-1)


def signed_sqrt(s: torch.Tensor) -> torch.Tensor:
    """Torch version of ops.gate.signed_sqrt."""
    return torch.sign(s) * torch.sqrt(s.abs().clamp(min=ROOT_CLAMP))


def copysign_sqrt(s: torch.Tensor) -> torch.Tensor:
    """Torch version of ops.gate.copysign_sqrt."""
    return torch.copysign(torch.sqrt(s.abs().clamp(min=ROOT_CLAMP)), s)


def zero_dead(alpha: torch.Tensor, dead: torch.Tensor) -> torch.Tensor:
    """Torch version of ops.gate.zero_dead."""
    return alpha.masked_fill(dead[..., None], 0.0)
