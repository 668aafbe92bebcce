"""Torch version of the operations in ops/basic.py that need different code for tensors."""

from collections.abc import Sequence

import torch

from engram_ref.backends.torch._tensors import torch_dtype


def cast(x: torch.Tensor, dtype: torch.dtype | type) -> torch.Tensor:
    """Torch version of ops.basic.cast."""
    return x.to(torch_dtype(dtype))


def einsum(axes: str, *arrays: torch.Tensor) -> torch.Tensor:
    """Torch version of ops.basic.einsum."""
    return torch.einsum(axes, *arrays)


def exp(x: torch.Tensor) -> torch.Tensor:
    """Torch version of ops.basic.exp."""
    return torch.exp(x)


def stack(arrays: Sequence[torch.Tensor], axis: int) -> torch.Tensor:
    """Torch version of ops.basic.stack."""
    return torch.stack(tuple(arrays), axis)


def repeat(x: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
    """Torch version of ops.basic.repeat; torch.repeat_interleave would synchronise to read its tensor of counts."""
    return torch.cat([x[i].expand(count) for i, count in enumerate(counts)])


def softmax(scores: torch.Tensor, allowed: torch.Tensor | None = None) -> torch.Tensor:
    """Torch version of ops.attention.softmax; torch.softmax subtracts the largest score too."""
    return torch.softmax(scores if allowed is None else scores.masked_fill(~allowed[:, None], -torch.inf), dim=-1)


def visible(positions: torch.Tensor, n_keys: int) -> torch.Tensor:
    """Torch version of ops.attention.visible."""
    return torch.arange(n_keys, device=positions.device) <= positions[..., None]


def expand(x: torch.Tensor, n_branches: int) -> torch.Tensor:
    """Torch version of ops.branches.expand."""
    return x[:, :, None, :].repeat(1, 1, n_branches, 1)


def log_normalise(logits: torch.Tensor, axis: int) -> torch.Tensor:
    """Torch version of ops.branches.log_normalise."""
    return torch.log_softmax(logits, dim=axis)


def inverse_rms(x: torch.Tensor, eps: float | None) -> torch.Tensor:
    """Torch version of ops.norm.inverse_rms."""
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    return 1.0 / torch.sqrt(torch.mean(x * x, dim=-1, keepdim=True) + eps)
