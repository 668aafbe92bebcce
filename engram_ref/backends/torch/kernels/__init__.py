"""Triton kernels of the three composites that a GPU spends its Engram time in, for the V4.1 path.

rows.py         address: windows, mix and modulus in one launch
dequantise.py   gather_decode of an FP8 table: each stored byte is read once, each value written once
gate.py         the factored score, the signed root and the gated value: each state is read once

Everything else stays with torch's own operations. Importing this package does not import Triton; the kernels are
imported where `usable` says that they can run.
"""

import importlib.util
import os

import torch

from engram_ref.errors import InputError
from engram_ref.packages import require

MOST_PROGRAMS = 2**31 - 1
"""Programs that one launch can have."""


def available(device: torch.device | str) -> bool:
    """Can kernels run on tensors of this device? On a GPU, or anywhere in Triton's interpreter.

    raises   InputError if they could and Triton is installed, but cannot be imported
    """
    on_gpu = torch.device(device).type == "cuda"
    if not (on_gpu or os.environ.get("TRITON_INTERPRET") == "1") or importlib.util.find_spec("triton") is None:
        return False
    require("triton", "backend torch", otherwise="torch's own operations are used where it is not installed")
    return on_gpu or interpreted()


def interpreted() -> bool:
    """Was Triton itself imported with the interpreter switched on? Its own functions cannot be switched later."""
    from triton import language
    from triton.runtime.interpreter import InterpretedFunction

    return isinstance(language.sigmoid, InterpretedFunction)


def usable(*tensors: torch.Tensor) -> bool:
    """Can kernels replace torch's operations on these tensors: available, without gaps, and with nobody watching?

    A kernel has no gradient and its arguments must be real memory, so autograd and torch.compile take the
    operations that it replaces.
    """
    watched = torch.compiler.is_compiling() or (torch.is_grad_enabled() and any(t.requires_grad for t in tensors))
    return not watched and available(tensors[0].device) and all(t.is_contiguous() for t in tensors)


def check_tensor(name: str, tensor: torch.Tensor, dtype: torch.dtype, shape: tuple[int, ...],
                 device: torch.device) -> None:
    """Refuse a tensor that a kernel would read wrongly.

    raises   InputError for another dtype, shape or device, or gaps between the elements
    """
    if tensor.dtype != dtype or tuple(tensor.shape) != tuple(shape):
        raise InputError(name, f"{dtype} {list(shape)}", f"{tensor.dtype} {list(tensor.shape)}")
    if tensor.device != device:
        raise InputError(name, f"a tensor on {device}", f"one on {tensor.device}")
    if not tensor.is_contiguous():
        raise InputError(name, "contiguous memory", f"strides {list(tensor.stride())}", "call .contiguous()")


def programs(name: str, count: int, block: int) -> tuple[int]:
    """The grid of programs that covers `count` elements in blocks.

    raises   InputError where one launch cannot have that many
    """
    needed = -(-count // block)
    if needed > MOST_PROGRAMS:
        raise InputError(name, f"at most {MOST_PROGRAMS * block} elements in one launch", count, "take fewer tokens")
    return (needed,)
