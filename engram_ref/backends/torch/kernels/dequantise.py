"""Gather and dequantise FP8 rows in one pass over the stored bytes.

The unit of work is one scale with its 32 channels, not a row. Consecutive units are adjacent in the output, each
loads one scale, and tiles are full for every row width. A program processes UNITS units.

Values are decoded from bits, without low-precision dtypes. The seven lower bits of an E4M3 code, shifted to the
exponent and mantissa of a float32, represent the value times 2^-120, since the exponent biases differ by 127 - 7. This
includes subnormals; the sign bit is copied. An E8M0 byte is a float32 exponent, except that 0 is 2^-127 and 255 is NaN.
"""

import torch
import triton
import triton.language as tl

from engram_ref.backends.torch.kernels import check_tensors, programs
from engram_ref.backends.torch.kernels.blocks import block_of, in_range
from engram_ref.errors import InputError
from engram_ref.ops import codecs

CHANNELS = tl.constexpr(codecs.BLOCK)     # per scale
REBIAS = tl.constexpr(2.0**120)
NAN = tl.constexpr(float("nan"))
UNITS, WARPS = 64, 2    # scales and warps per program: choice, the fastest of nine on an H200


@triton.jit
def e4m3(code):
    """Decode E4M3FN codes (uint8) to float32: there is no infinity, 0x7F and 0xFF are NaN."""
    bits = code.to(tl.int32)
    number = ((bits & 0x80) << 24 | (bits & 0x7F) << 20).to(tl.float32, bitcast=True)
    return tl.where((bits & 0x7F) == 0x7F, NAN, number * REBIAS)


@triton.jit
def e8m0(byte):
    """Decode E8M0 scales (uint8) to float32: 2^(byte - 127); 255 is NaN."""
    bits = tl.where(byte == 0, 1 << 22, byte.to(tl.int32) << 23)
    return tl.where(byte == 255, NAN, bits.to(tl.float32, bitcast=True))


@triton.jit
def round_bf16(x):
    """Round to bfloat16, ties to even, as float32; NaN is preserved."""
    bits = x.to(tl.uint32, bitcast=True)
    nearest = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return tl.where(x == x, nearest.to(tl.float32, bitcast=True), x)


@triton.jit
def dequantise_kernel(rows, offsets, codes, scales, out, count, table_rows,
                      C: tl.constexpr, S: tl.constexpr, ROUND: tl.constexpr, UNITS: tl.constexpr):
    # locate: flat row and block of each unit
    unit = block_of(UNITS)                                       # over [B, T, C, S]
    inside = in_range(unit, count)
    cell = unit // S                                             # over [B, T, C]
    row = tl.load(rows + cell, mask=inside, other=-1) + tl.load(offsets + cell % C)
    stored = inside & (row >= 0) & in_range(row, table_rows)     # other rows give NaN
    block = row * S + unit % S                                   # over [R, S], int64
    # load and decode
    scale = e8m0(tl.load(scales + block, mask=stored, other=255))
    channel = tl.arange(0, CHANNELS)
    code = tl.load(codes + block[:, None] * CHANNELS + channel[None, :], mask=stored[:, None], other=0)
    value = e4m3(code) * scale[:, None]                          # [UNITS, CHANNELS]
    if ROUND:
        value = round_bf16(value)
    # store; streaming (.cs), since the output is not read again here
    tl.store(out + unit[:, None] * CHANNELS + channel[None, :], value, mask=inside[:, None], cache_modifier=".cs")


def gather_dequantise(rows: torch.Tensor, offsets: torch.Tensor, codes: torch.Tensor, scales: torch.Tensor,
                      bf16: bool = False) -> torch.Tensor:
    """Gather and decode rows [B, T, C], without offsets, of an FP8 table: float32 [B, T, C*W].

    A row outside the table gives NaN. All tensors must be contiguous and on one device.

    bf16   round to bfloat16, ties to even
    """
    if rows.ndim != 3 or codes.ndim != 2:
        raise InputError("rows, codes", "shapes [B, T, C], [R, W]", f"{list(rows.shape)}, {list(codes.shape)}")
    (B, T, C), (R, W) = rows.shape, codes.shape
    if W % codecs.BLOCK:
        raise InputError("codes", f"a width that is a multiple of {codecs.BLOCK}", W)
    S = W // codecs.BLOCK                                        # scales per row
    check_tensors(torch.int64, rows.device, rows=(rows, (B, T, C)), offsets=(offsets, (C,)))
    check_tensors(torch.uint8, rows.device, codes=(codes, (R, W)), scales=(scales, (R, S)))
    out = torch.empty((B, T, C * W), dtype=torch.float32, device=rows.device)
    if out.numel() == 0:
        return out
    with torch.cuda.device_of(rows):
        dequantise_kernel[programs("rows", B * T * C * S, UNITS)](rows, offsets, codes, scales, out, B * T * C * S, R,
                                                                  C=C, S=S, ROUND=bf16, UNITS=UNITS, num_warps=WARPS)
    return out
