"""Twin of ops/canonical.py, of the functions that look at ids."""

import torch

from engram_ref.backends.torch._tensors import Constant
from engram_ref.backends.torch.arrays import constant, dtype_name
from engram_ref.checks import check_shapes
from engram_ref.errors import InputError
from engram_ref.ops import DEAD

SIGNED = (torch.int8, torch.int16, torch.int32, torch.int64)


def canonicalise(ids: torch.Tensor, canonical: Constant) -> torch.Tensor:
    """Twin of ops.canonical.canonicalise; its values are not looked at: torch itself refuses one out of range."""
    _check_signed(ids, "ids")
    there = torch.where(ids == DEAD, 0, ids)
    found = constant(canonical, ids).index_select(0, there.reshape(-1)).reshape(ids.shape)     # refuses a negative id
    return torch.where(ids == DEAD, DEAD, found)


def mark_dead(ids: torch.Tensor, dead: torch.Tensor) -> torch.Tensor:
    """Twin of ops.canonical.mark_dead."""
    check_shapes(dead=(dead, ids.shape))
    return torch.where(dead, DEAD, ids)


def check_ids(ids: torch.Tensor, size: int, allow_dead: bool, argument: str = "ids") -> None:
    """Twin of ops.canonical.check_ids. It looks at values, so it waits for the device."""
    _check_signed(ids, argument)
    lowest = DEAD if allow_dead else 0
    wrong = torch.nonzero((ids < lowest) | (ids >= size))
    if len(wrong):
        position = tuple(wrong[0].tolist())
        where = position[0] if len(position) == 1 else position
        found = ids[position].item()
        hint = "" if allow_dead or found != DEAD else "this dialect has no DEAD mark"
        raise InputError(argument, f"values in [0, {size})", f"{found} at position {where}", hint)


def _check_signed(ids: torch.Tensor, argument: str) -> None:
    """Refuse ids of a dtype that is not a signed integer."""
    if ids.dtype not in SIGNED:
        raise InputError(argument, "a signed integer dtype (int64)", dtype_name(ids))
