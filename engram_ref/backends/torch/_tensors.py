"""Conversions from NumPy to torch: parameters, arrays and dtypes."""

from collections.abc import Mapping

import ml_dtypes
import numpy as np
import torch

from engram_ref import ops

Constant = np.ndarray | torch.Tensor
"""Values that follow from a configuration; a NumPy array is moved to the device of the data."""

Parameters = Mapping[str, torch.Tensor]


def torch_dtype(dtype: torch.dtype | type) -> torch.dtype:
    """Return the torch dtype for a dtype of torch or NumPy."""
    return dtype if isinstance(dtype, torch.dtype) else getattr(torch, np.dtype(dtype).name)


def tensors(parameters: Mapping[str, np.ndarray], device: str | torch.device = "cpu",
            dtype: torch.dtype | type | None = None) -> dict[str, torch.Tensor]:
    """Convert NumPy parameters to tensors; an ml_dtypes.bfloat16 table becomes torch.bfloat16, codes stay uint8.

    parameters   name -> array, of a module or of a whole model
    device       device of the tensors
    dtype        dtype for the float32 and float64 arrays; None: unchanged
    returns      name -> tensor, in the same order; no memory is shared with the arrays
    """
    converted = {}
    for name, array in parameters.items():
        tensor = tensor_of(ops.as_array(f"parameter {name}", array))
        plain = tensor.dtype in (torch.float32, torch.float64)
        converted[name] = tensor.to(device, torch_dtype(dtype) if plain and dtype is not None else tensor.dtype)
    return converted


def tensor_of(array: np.ndarray) -> torch.Tensor:
    """Copy an array, whose dtype is in ops.arrays.NATIVE, to a tensor on the CPU."""
    copied = np.array(array, order="C")                      # torch does not support negative strides
    narrow = copied.dtype == ml_dtypes.bfloat16
    return torch.from_numpy(copied.view(np.int16)).view(torch.bfloat16) if narrow else torch.from_numpy(copied)
