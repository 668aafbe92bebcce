"""What NumPy has no twin of: parameters as tensors, and dtypes by either library's name."""

from collections.abc import Mapping

import ml_dtypes
import numpy as np
import torch

from engram_ref import ops

Constant = np.ndarray | torch.Tensor
"""What follows from a configuration may come as a NumPy array; it is moved to where the data are."""

Parameters = Mapping[str, torch.Tensor]


def torch_dtype(dtype: torch.dtype | type) -> torch.dtype:
    """A dtype of torch, also from one of NumPy."""
    return dtype if isinstance(dtype, torch.dtype) else getattr(torch, np.dtype(dtype).name)


def tensors(parameters: Mapping[str, np.ndarray], device: str | torch.device = "cpu",
            dtype: torch.dtype | type | None = None) -> dict[str, torch.Tensor]:
    """NumPy parameters as tensors; an ml_dtypes.bfloat16 table becomes torch.bfloat16, codes stay uint8.

    parameters   name -> array, of a module or of a whole model
    device       where to put them
    dtype        of float32 and float64 arrays; None keeps what they have
    returns      name -> tensor, in the same order; nothing is shared with the arrays
    """
    made = {}
    for name, array in parameters.items():
        tensor = tensor_of(ops.as_array(f"parameter {name}", array))
        plain = tensor.dtype in (torch.float32, torch.float64)
        made[name] = tensor.to(device, torch_dtype(dtype) if plain and dtype is not None else tensor.dtype)
    return made


def tensor_of(array: np.ndarray) -> torch.Tensor:
    """A tensor on the CPU with the numbers of an array in a dtype of ops.arrays.NATIVE; nothing is shared with it."""
    copied = np.array(array, order="C")                      # torch takes no negative strides
    narrow = copied.dtype == ml_dtypes.bfloat16
    return torch.from_numpy(copied.view(np.int16)).view(torch.bfloat16) if narrow else torch.from_numpy(copied)
