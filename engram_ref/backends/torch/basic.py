"""Torch version of ops/basic.py, and of the one or two functions in ops/attention.py, branches.py, norm.py, conv.py,
rope.py, loss.py and sampling.py that need different code for tensors.
"""

from collections.abc import Sequence

import torch

from engram_ref.backends.torch._tensors import Constant, torch_dtype
from engram_ref.backends.torch.arrays import constant, dtype_name
from engram_ref.checks import check_kind, check_shapes
from engram_ref.errors import InputError
from engram_ref.ops.loss import SHARE_FLOOR


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


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Torch version of ops.loss.cross_entropy; torch itself raises for a target outside the vocabulary."""
    if targets.shape != logits.shape[:-1] or targets.dtype != torch.int64:
        raise InputError("targets", f"int64 {list(logits.shape[:-1])}", f"{dtype_name(targets)} {list(targets.shape)}")
    return torch.logsumexp(logits, dim=-1) - torch.gather(logits, -1, targets[..., None])[..., 0]


def balance_loss(scores: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """Torch version of ops.loss.balance_loss."""
    check_shapes(chosen=(chosen, (*scores.shape[:-1], chosen.shape[-1])))
    (_, T, E), K = scores.shape, chosen.shape[-1]
    counts = (chosen.flatten(1)[..., None] == torch.arange(E, device=chosen.device)).sum(dim=1)
    shares = (scores / (scores.sum(dim=-1, keepdim=True) + SHARE_FLOOR)).sum(dim=1) / max(T, 1)
    return (counts.to(scores.dtype) * (E / max(T * K, 1)) * shares).sum(dim=-1)


def sample(logits: torch.Tensor, temperature: float, rng: torch.Generator | None) -> torch.Tensor:
    """Torch version of ops.sampling.sample; draws from `rng`, a torch.Generator on the logits' device."""
    if temperature > 0:
        check_kind("rng", rng, torch.Generator)
        below = logits.to(torch.float64) - logits.amax(dim=-1, keepdim=True)       # at most 0: no overflow to +inf
        uniform = torch.rand(logits.shape, generator=rng, dtype=torch.float64, device=logits.device)
        logits = below / temperature - torch.log(-torch.log(uniform))
    return logits.argmax(dim=-1)


def join(tokens: list[torch.Tensor], batch: int) -> torch.Tensor:
    """Torch version of ops.sampling.join; returns a CPU tensor if there are no tokens."""
    return torch.cat(tokens, dim=1) if tokens else torch.zeros((batch, 0), dtype=torch.int64)
