"""Torch version of ops/codecs.py: rounded values are float32 tensors of numbers representable in the narrow format."""

from typing import Any

import numpy as np
import torch

from engram_ref.backends.torch._tensors import torch_dtype
from engram_ref.backends.torch.arrays import constant, dtype_name
from engram_ref.errors import InputError
from engram_ref.ops.codecs import BLOCK, E4M3_MAX, E4M3_VALUES, E8M0_NAN, E8M0_VALUES, QUANTISE_FLOOR


class StraightThrough(torch.autograd.Function):
    """A rounded tensor whose gradient is passed to the tensor that was rounded."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, rounded: torch.Tensor) -> torch.Tensor:
        """Return the rounded tensor."""
        return rounded.clone()

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple:
        """Return upstream for the tensor that was rounded."""
        return upstream, None


def straight_through(x: torch.Tensor, rounded: torch.Tensor) -> torch.Tensor:
    """Return the rounded tensor, with the gradient of x; torch alone would round the gradient too, or drop it."""
    return StraightThrough.apply(x, rounded) if x.requires_grad else rounded


def round_bf16(x: torch.Tensor) -> torch.Tensor:
    """Torch version of ops.codecs.round_bf16; the gradient is passed straight through."""
    _check_float32(x)
    return straight_through(x, x.detach().to(torch.bfloat16).to(torch.float32))


def dequantise(codes: torch.Tensor, scales: torch.Tensor, dtype: torch.dtype | type = np.float32) -> torch.Tensor:
    """Torch version of ops.codecs.dequantise; decodes with the definition's 256-entry lookup tables."""
    if codes.dtype != torch.uint8 or scales.dtype != torch.uint8:
        raise InputError("codes, scales", "uint8", f"{dtype_name(codes)}, {dtype_name(scales)}")
    if codes.shape != (*scales.shape[:-1], scales.shape[-1] * BLOCK):
        raise InputError("scales", f"one scale per {BLOCK} codes of shape {list(codes.shape)}",
                         f"shape {list(scales.shape)}")
    dtype = torch_dtype(dtype)
    values = constant(E4M3_VALUES, codes)[codes.long()].to(dtype)
    scale = constant(E8M0_VALUES, scales)[scales.long()].repeat_interleave(BLOCK, dim=-1).to(dtype)     # [..., W]
    return values * scale


def quantise(x: torch.Tensor, floor: float = QUANTISE_FLOOR) -> tuple[torch.Tensor, torch.Tensor]:
    """Torch version of ops.codecs.quantise; bit-identical, since both compute in float64."""
    if x.shape[-1] % BLOCK:
        raise InputError("x", f"a last axis whose length is a multiple of {BLOCK}", f"shape {list(x.shape)}")
    _check_float32(x)
    # scales: the power of two at or above largest / E4M3_MAX
    blocks = x.to(torch.float64).reshape(*x.shape[:-1], x.shape[-1] // BLOCK, BLOCK)
    largest = blocks.abs().amax(dim=-1).clamp(min=floor)                   # [..., W/32], NaN propagates
    finite = torch.isfinite(largest)
    fraction, exponent = torch.frexp(torch.where(finite & (largest > 0), largest, E4M3_MAX) / E4M3_MAX)
    exponent = torch.where(fraction == 0.5, exponent - 1, exponent).clamp(-127, 127)
    scales = torch.where(finite, exponent + 127, E8M0_NAN).to(torch.uint8)
    # codes: the scaled values, rounded to E4M3
    power = constant(E8M0_VALUES, x)[(exponent + 127).long()].to(torch.float64)
    scaled = torch.where(finite[..., None], blocks, 0.0) / power[..., None]
    narrow = scaled.clamp(-E4M3_MAX, E4M3_MAX).to(torch.float32).to(torch.float8_e4m3fn)
    return narrow.view(torch.uint8).reshape(x.shape), scales


def _check_float32(x: torch.Tensor) -> None:
    """Raise InputError unless the dtype is float32."""
    if x.dtype != torch.float32:
        raise InputError("x", "float32", dtype_name(x), "values of a wider dtype would be rounded twice")
