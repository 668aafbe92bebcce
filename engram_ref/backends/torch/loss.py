"""Torch version of ops/loss.py."""

import torch

from engram_ref.backends.torch.arrays import dtype_name
from engram_ref.errors import InputError


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Torch version of ops.loss.cross_entropy; torch itself raises for a target outside the vocabulary."""
    if targets.shape != logits.shape[:-1] or targets.dtype != torch.int64:
        raise InputError("targets", f"int64 {list(logits.shape[:-1])}", f"{dtype_name(targets)} {list(targets.shape)}")
    return torch.logsumexp(logits, dim=-1) - torch.gather(logits, -1, targets[..., None])[..., 0]
