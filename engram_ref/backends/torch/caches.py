"""Torch version of ops/caches.py. Caches are tensors; `lengths` is a NumPy array, since the host needs sizes."""

from collections.abc import Sequence

import numpy as np
import torch

from engram_ref.backends.torch._tensors import Constant
from engram_ref.backends.torch.arrays import as_array, constant
from engram_ref.ops.caches import slots_needed


def positions_after(lengths: Constant, T: int) -> torch.Tensor:
    """Torch version of ops.caches.positions_after; returns a CPU tensor if `lengths` is a NumPy array."""
    lengths = as_array("lengths", lengths)
    return lengths[:, None] + torch.arange(T, device=lengths.device)


def place(cache: torch.Tensor, new: torch.Tensor, lengths: np.ndarray) -> torch.Tensor:
    """Torch version of ops.caches.place; `lengths` is a NumPy int64 array [B]."""
    return _written(_resized(cache, new, slots_needed(new, lengths)), new, lengths)


def append(cache: torch.Tensor, new: torch.Tensor, lengths: np.ndarray) -> torch.Tensor:
    """Torch version of ops.caches.append; `lengths` is a NumPy int64 array [B]."""
    slots, S = slots_needed(new, lengths), cache.shape[1]
    return _written(cache if slots <= S else _resized(cache, new, max(slots, 2 * S)), new, lengths)


def _resized(cache: torch.Tensor, new: torch.Tensor, slots: int) -> torch.Tensor:
    resized = new.new_zeros((len(cache), slots, *cache.shape[2:]))
    kept = min(slots, cache.shape[1])
    resized[:, :kept] = cache[:, :kept]
    return resized


def _written(cache: torch.Tensor, new: torch.Tensor, lengths: np.ndarray) -> torch.Tensor:
    rows = torch.arange(len(cache), device=new.device)[:, None]
    cache[rows, constant(lengths[:, None] + np.arange(new.shape[1]), new)] = new
    return cache


def writable(arrays: Sequence[torch.Tensor]) -> bool:
    """Torch version of ops.caches.writable: False while gradients are recorded, since the backward pass needs the
    forward values, and outside inference mode for tensors created in it, since torch would raise.
    """
    if torch.is_grad_enabled() and any(x.requires_grad for x in arrays):
        return False
    return torch.is_inference_mode_enabled() or not any(x.is_inference() for x in arrays)


def last(cache: torch.Tensor, lengths: np.ndarray, count: int, before: object) -> torch.Tensor:
    """Torch version of ops.caches.last; `lengths` is a NumPy int64 array [B]."""
    slots = lengths[:, None] - count + np.arange(count)      # [B, count], negative before the start
    exists = (slots >= 0).reshape(*slots.shape, *(1,) * (cache.ndim - 2))
    if cache.shape[1] == 0:
        return cache.new_full((len(cache), count, *cache.shape[2:]), before)
    rows = torch.arange(len(cache), device=cache.device)[:, None]
    return torch.where(constant(exists, cache), cache[rows, constant(np.maximum(slots, 0), cache)], before)
