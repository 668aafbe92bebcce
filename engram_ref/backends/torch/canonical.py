"""Torch version of the functions in ops/canonical.py that process ids."""

import torch

from engram_ref.backends.torch._tensors import Constant
from engram_ref.backends.torch.arrays import constant, dtype_name
from engram_ref.checks import check_shapes
from engram_ref.errors import InputError
from engram_ref.ops import DEAD

SIGNED = (torch.int8, torch.int16, torch.int32, torch.int64)


def canonicalise(ids: torch.Tensor, canonical: Constant) -> torch.Tensor:
    """Torch version of ops.canonical.canonicalise; checks no values: torch itself raises for an id out of range."""
    _check_signed(ids, "ids")
    valid = torch.where(ids == DEAD, 0, ids)
    mapped = constant(canonical, ids).index_select(0, valid.reshape(-1))     # unlike [], raises for negative ids
    return torch.where(ids == DEAD, DEAD, mapped.reshape(ids.shape))


def mark_dead(ids: torch.Tensor, dead: torch.Tensor) -> torch.Tensor:
    """Torch version of ops.canonical.mark_dead."""
    check_shapes(dead=(dead, ids.shape))
    return torch.where(dead, DEAD, ids)


def check_ids(ids: torch.Tensor, size: int, allow_dead: bool, argument: str = "ids") -> None:
    """Torch version of ops.canonical.check_ids; reads values, so it synchronises with the device."""
    _check_signed(ids, argument)
    lowest = DEAD if allow_dead else 0
    wrong = torch.nonzero((ids < lowest) | (ids >= size))
    if len(wrong):
        position = tuple(wrong[0].tolist())
        where = position[0] if len(position) == 1 else position
        value = ids[position].item()
        hint = "" if allow_dead or value != DEAD else "this dialect has no DEAD mark"
        raise InputError(argument, f"values in [0, {size})", f"{value} at position {where}", hint)


def _check_signed(ids: torch.Tensor, argument: str) -> None:
    """Raise InputError unless the dtype is a signed integer."""
    if ids.dtype not in SIGNED:
        raise InputError(argument, "a signed integer dtype (int64)", dtype_name(ids))
