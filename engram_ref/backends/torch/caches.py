"""Twin of ops/caches.py: caches are tensors, `lengths` stays a NumPy array of the host, which decides on sizes."""

import numpy as np
import torch

from engram_ref import ops
from engram_ref.backends.torch._tensors import Constant
from engram_ref.backends.torch.arrays import as_array, constant


def positions_after(lengths: Constant, T: int) -> torch.Tensor:
    """Twin of ops.caches.positions_after; on the CPU where the lengths are NumPy's."""
    lengths = as_array("lengths", lengths)
    return lengths[:, None] + torch.arange(T, device=lengths.device)


def place(cache: torch.Tensor, new: torch.Tensor, lengths: np.ndarray) -> torch.Tensor:
    """Twin of ops.caches.place; lengths int64 [B] of NumPy."""
    T = new.shape[1]
    slots = int(lengths.max(initial=0)) + T
    grown = new.new_zeros((len(cache), slots, *cache.shape[2:]))
    kept = min(slots, cache.shape[1])
    grown[:, :kept] = cache[:, :kept]
    rows = torch.arange(len(cache), device=new.device)[:, None]
    grown[rows, constant(ops.positions_after(lengths, T), new)] = new
    return grown


def last(cache: torch.Tensor, lengths: np.ndarray, count: int, before: object) -> torch.Tensor:
    """Twin of ops.caches.last; lengths int64 [B] of NumPy."""
    slots = lengths[:, None] - count + np.arange(count)      # [B, count], negative before the start
    there = (slots >= 0).reshape(*slots.shape, *(1,) * (cache.ndim - 2))
    if cache.shape[1] == 0:
        return cache.new_full((len(cache), count, *cache.shape[2:]), before)
    rows = torch.arange(len(cache), device=cache.device)[:, None]
    return torch.where(constant(there, cache), cache[rows, constant(np.maximum(slots, 0), cache)], before)
