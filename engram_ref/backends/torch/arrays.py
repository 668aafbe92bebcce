"""Twin of ops/arrays.py: what models ask about arrays, answered for tensors of any device.

`first_non_finite` and `to_numpy` look at values, so they wait for the device; no other function here does, but for
`as_int64` of a uint64 tensor.
"""

from collections.abc import Mapping

import numpy as np
import torch

from engram_ref import ops
from engram_ref.backends.torch._tensors import Constant, tensor_of, torch_dtype
from engram_ref.errors import InputError

INTEGERS = (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.uint16, torch.uint32, torch.uint64)


def as_array(argument: str, values: object) -> torch.Tensor:
    """Twin of ops.arrays.as_array: a tensor stays where it is, with its graph; anything else becomes one on the CPU."""
    if not isinstance(values, torch.Tensor):
        return tensor_of(ops.as_array(argument, values))
    if values.layout is not torch.strided:
        raise InputError(argument, "a dense tensor", str(values.layout))
    return values


def as_int64(argument: str, values: object) -> torch.Tensor:
    """Twin of ops.arrays.as_int64; it looks at the values of a uint64 tensor, and so waits for its device."""
    x = as_array(argument, values)
    if x.dtype == torch.int64:
        return x
    if x.numel() and x.dtype not in INTEGERS:
        raise InputError(argument, "integers (int64)", dtype_name(x))
    if x.dtype == torch.uint64:
        ops.as_int64(argument, to_numpy(x))                  # torch compares no uint64
    return x.to(torch.int64)


def constant(values: Constant, like: torch.Tensor) -> torch.Tensor:
    """Twin of ops.arrays.constant: on the device of `like`; a NumPy array is copied, without waiting for the copy."""
    if isinstance(values, torch.Tensor):
        return values.to(like.device)
    mine = torch.as_tensor(np.array(values))                 # a copy: torch warns where memory is read-only
    return mine.to(like.device, non_blocking=True)


def zeros(shape: tuple[int, ...], dtype: torch.dtype | type, like: torch.Tensor | None = None) -> torch.Tensor:
    """Twin of ops.arrays.zeros; on the CPU where there is no `like`."""
    return torch.zeros(shape, dtype=torch_dtype(dtype), device="cpu" if like is None else like.device)


def dtype_name(x: torch.Tensor) -> str:
    """Twin of ops.arrays.dtype_name."""
    return str(x.dtype).removeprefix("torch.")


def to_numpy(x: torch.Tensor) -> np.ndarray:
    """Twin of ops.arrays.to_numpy; bfloat16 comes as float32, which has all its numbers."""
    x = x.detach().cpu()
    return x.float().numpy() if x.dtype == torch.bfloat16 else x.numpy()


def first_non_finite(x: torch.Tensor) -> tuple[int, ...] | None:
    """Twin of ops.arrays.first_non_finite."""
    finite = torch.isfinite(x)
    return None if bool(finite.all()) else tuple(torch.nonzero(~finite)[0].tolist())


def check_together(arrays: Mapping[str, torch.Tensor | None]) -> None:
    """Twin of ops.arrays.check_together: tensors, all on one device.

    raises   InputError naming what is no tensor, or the first two tensors that lie apart, and both devices
    """
    given = {name: array for name, array in arrays.items() if array is not None}
    first, device = "", None
    for name, array in given.items():
        if not isinstance(array, torch.Tensor):
            raise InputError(name, "a tensor", type(array).__name__,
                             "engram_ref.backends.torch.tensors makes tensors of NumPy parameters")
        if device is not None and array.device != device:
            raise InputError(f"{first} and {name}", "tensors on one device", f"{device} and {array.device}")
        first, device = first or name, array.device
