"""Twin of ops/basic.py, of the operations that are written differently for tensors."""

from collections.abc import Sequence

import torch

from engram_ref.backends.torch._tensors import torch_dtype


def cast(x: torch.Tensor, dtype: torch.dtype | type) -> torch.Tensor:
    """Twin of ops.basic.cast."""
    return x.to(torch_dtype(dtype))


def einsum(axes: str, *arrays: torch.Tensor) -> torch.Tensor:
    """Twin of ops.basic.einsum."""
    return torch.einsum(axes, *arrays)


def exp(x: torch.Tensor) -> torch.Tensor:
    """Twin of ops.basic.exp."""
    return torch.exp(x)


def stack(arrays: Sequence[torch.Tensor], axis: int) -> torch.Tensor:
    """Twin of ops.basic.stack."""
    return torch.stack(tuple(arrays), axis)


def repeat(x: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
    """Twin of ops.basic.repeat; torch's own takes the counts as a tensor, and so waits for its device."""
    return torch.cat([x[i].expand(count) for i, count in enumerate(counts)])


def softmax(scores: torch.Tensor, allowed: torch.Tensor | None = None) -> torch.Tensor:
    """Twin of ops.attention.softmax; torch's own subtracts the largest score as well."""
    return torch.softmax(scores if allowed is None else scores.masked_fill(~allowed[:, None], -torch.inf), dim=-1)


def visible(positions: torch.Tensor, n_keys: int) -> torch.Tensor:
    """Twin of ops.attention.visible."""
    return torch.arange(n_keys, device=positions.device) <= positions[..., None]


def expand(x: torch.Tensor, n_branches: int) -> torch.Tensor:
    """Twin of ops.branches.expand."""
    return x[:, :, None, :].repeat(1, 1, n_branches, 1)


def log_normalise(logits: torch.Tensor, axis: int) -> torch.Tensor:
    """Twin of ops.branches.log_normalise."""
    return torch.log_softmax(logits, dim=axis)


def inverse_rms(x: torch.Tensor, eps: float | None) -> torch.Tensor:
    """Twin of ops.norm.inverse_rms."""
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    return 1.0 / torch.sqrt(torch.mean(x * x, dim=-1, keepdim=True) + eps)
