"""Twin of ops/linear.py."""

import torch

from engram_ref.backends.torch.codecs import round_bf16
from engram_ref.checks import check_shapes
from engram_ref.config import check_choice
from engram_ref.errors import InputError


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Twin of ops.linear.linear."""
    check_shapes(weight=(weight, (len(weight), x.shape[-1])))
    if bias is not None:
        check_shapes(bias=(bias, (len(weight),)))
    y = x @ weight.T
    return y if bias is None else y + bias


def add_residual(hidden: torch.Tensor, update: torch.Tensor, rounding: str = "none") -> torch.Tensor:
    """Twin of ops.linear.add_residual."""
    check_choice("rounding", rounding)
    if hidden.shape != update.shape:
        raise InputError("update", f"the shape of hidden, {list(hidden.shape)}", list(update.shape))
    total = hidden + update
    return round_bf16(total) if rounding == "fp8_bf16" else total


def embed(table: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Twin of ops.linear.embed."""
    return table[ids]
