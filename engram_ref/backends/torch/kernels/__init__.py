"""Triton kernels for the V4.1 form of the three compositions that take most of Engram's time on a GPU.

rows.py         address: windows, mix and modulus in one launch
dequantise.py   gather_decode of an FP8 table: reads each stored byte once, writes each value once
gate.py         the factored score, the signed root and the gated value: reads each hidden state once

All other ops use torch operations. Importing this package does not import Triton; a kernel is imported only after
`usable` has returned True.
"""

import importlib.util
import os

import torch

from engram_ref.errors import InputError
from engram_ref.packages import require

MAX_PROGRAMS = 2**31 - 1        # in one launch


def available(device: torch.device | str) -> bool:
    """Whether kernels can run on this device: it is a GPU, or Triton's interpreter is enabled.

    raises   InputError if the device is supported and Triton is installed, but cannot be imported
    """
    on_gpu = torch.device(device).type == "cuda"
    if not (on_gpu or os.environ.get("TRITON_INTERPRET") == "1") or importlib.util.find_spec("triton") is None:
        return False
    require("triton", "backend torch", otherwise="without Triton, torch operations are used")
    return on_gpu or interpreted()


def interpreted() -> bool:
    """Whether Triton was imported with its interpreter enabled, which cannot be changed later."""
    from triton import language
    from triton.runtime.interpreter import InterpretedFunction

    return isinstance(language.sigmoid, InterpretedFunction)


def usable(*tensors: torch.Tensor) -> bool:
    """Whether kernels can process these tensors: on a supported device, contiguous, and not recorded.

    While autograd or torch.compile records, torch operations are used: a kernel has no gradient and needs real memory.
    """
    recorded = torch.compiler.is_compiling() or (torch.is_grad_enabled() and any(t.requires_grad for t in tensors))
    return not recorded and available(tensors[0].device) and all(t.is_contiguous() for t in tensors)


def check_tensors(dtype: torch.dtype, device: torch.device, **tensors: tuple[torch.Tensor, tuple[int, ...]]) -> None:
    """Raise InputError for name=(tensor, shape) of a wrong dtype, shape or device, or if it is not contiguous."""
    for name, (tensor, shape) in tensors.items():
        if tensor.dtype != dtype or tuple(tensor.shape) != tuple(shape):
            raise InputError(name, f"{dtype} {list(shape)}", f"{tensor.dtype} {list(tensor.shape)}")
        if tensor.device != device:
            raise InputError(name, f"a tensor on {device}", f"a tensor on {tensor.device}")
        if not tensor.is_contiguous():
            strides = list(tensor.stride())
            raise InputError(name, "a contiguous tensor", f"one with strides {strides}", "call .contiguous()")


def programs(name: str, count: int, block: int) -> tuple[int]:
    """The grid for `count` elements, one program per block; InputError if there are too many for one launch."""
    needed = -(-count // block)
    if needed > MAX_PROGRAMS:
        raise InputError(name, f"at most {MAX_PROGRAMS * block} elements in one launch", count, "pass fewer tokens")
    return (needed,)
