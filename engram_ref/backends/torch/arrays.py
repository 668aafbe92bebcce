"""Torch version of ops/arrays.py: conversion and inspection of tensors on any device.

`first_non_finite`, `to_numpy` and, for uint64 tensors, `as_int64` synchronise with the device to read values.
"""

from collections.abc import Mapping

import numpy as np
import torch

from engram_ref import ops
from engram_ref.backends.torch._tensors import Constant, tensor_of, torch_dtype
from engram_ref.errors import InputError

INTEGERS = (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.uint16, torch.uint32, torch.uint64)


def as_array(argument: str, values: object) -> torch.Tensor:
    """Torch version of ops.arrays.as_array; returns tensors unchanged and copies other values to the CPU."""
    if not isinstance(values, torch.Tensor):
        return tensor_of(ops.as_array(argument, values))
    if values.layout is not torch.strided:
        raise InputError(argument, "a dense tensor", str(values.layout))
    return values


def as_int64(argument: str, values: object) -> torch.Tensor:
    """Torch version of ops.arrays.as_int64; synchronises with the device to read uint64 values."""
    x = as_array(argument, values)
    if x.dtype == torch.int64:
        return x
    if x.numel() and x.dtype not in INTEGERS:
        raise InputError(argument, "integers (int64)", dtype_name(x))
    if x.dtype == torch.uint64:
        ops.as_int64(argument, to_numpy(x))                  # check in NumPy: torch cannot compare uint64
    return x.to(torch.int64)


def constant(values: Constant, like: torch.Tensor) -> torch.Tensor:
    """Torch version of ops.arrays.constant; copies to the device of `like`, asynchronously from NumPy arrays."""
    if isinstance(values, torch.Tensor):
        return values.to(like.device)
    copied = torch.as_tensor(np.array(values))               # torch would warn about read-only memory
    return copied.to(like.device, non_blocking=True)


def zeros(shape: tuple[int, ...], dtype: torch.dtype | type, like: torch.Tensor | None = None) -> torch.Tensor:
    """Torch version of ops.arrays.zeros; returns a CPU tensor without `like`."""
    return torch.zeros(shape, dtype=torch_dtype(dtype), device="cpu" if like is None else like.device)


def dtype_name(x: torch.Tensor) -> str:
    """Torch version of ops.arrays.dtype_name."""
    return str(x.dtype).removeprefix("torch.")


def to_numpy(x: torch.Tensor) -> np.ndarray:
    """Torch version of ops.arrays.to_numpy; bfloat16 is converted to float32, which is exact."""
    x = x.detach().cpu()
    return x.float().numpy() if x.dtype == torch.bfloat16 else x.numpy()


def first_non_finite(x: torch.Tensor) -> tuple[int, ...] | None:
    """Torch version of ops.arrays.first_non_finite."""
    finite = torch.isfinite(x)
    return None if bool(finite.all()) else tuple(torch.nonzero(~finite)[0].tolist())


def check_together(arrays: Mapping[str, torch.Tensor | None]) -> None:
    """Torch version of ops.arrays.check_together; the arguments must be tensors."""
    given = {name: array for name, array in arrays.items() if array is not None}
    first, device = "", None
    for name, array in given.items():
        if not isinstance(array, torch.Tensor):
            raise InputError(name, "a tensor", type(array).__name__,
                             "convert NumPy parameters with engram_ref.backends.torch.tensors")
        if device is not None and array.device != device:
            raise InputError(f"{first} and {name}", "tensors on the same device", f"{device} and {array.device}")
        first, device = first or name, array.device
