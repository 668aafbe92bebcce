"""What NumPy has no twin of: parameters as tensors, and dtypes by either library's name."""

from collections.abc import Mapping

import numpy as np
import torch

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
        narrow = array.dtype.name == "bfloat16"
        tensor = torch.tensor(array.astype(np.float32) if narrow else array)
        if array.dtype.kind == "f" and dtype is not None:
            tensor = tensor.to(torch_dtype(dtype))
        made[name] = tensor.to(device, torch.bfloat16 if narrow else tensor.dtype)
    return made
