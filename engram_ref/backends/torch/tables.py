"""Torch version of ops/tables.py, and of the op that replaces rows."""

import torch

from engram_ref.backends.torch._tensors import Constant
from engram_ref.backends.torch.arrays import constant, dtype_name
from engram_ref.checks import check_shapes
from engram_ref.errors import InputError


def gather(table: torch.Tensor, rows: torch.Tensor, offsets: Constant) -> torch.Tensor:
    """Torch version of ops.tables.gather; torch itself raises for a row beyond the table."""
    check_shapes(offsets=(offsets, rows.shape[-1:]))
    return table[rows + constant(offsets, rows)]             # [B, T, C, W]


def check_rows(rows: torch.Tensor, sizes: Constant) -> None:
    """Torch version of ops.tables.check_rows; reads values, so it synchronises with the device."""
    if rows.dtype != torch.int64 or rows.ndim != 3 or rows.shape[-1] != len(sizes):
        raise InputError("rows", f"int64 [B, T, {len(sizes)}]", f"{dtype_name(rows)} {list(rows.shape)}")
    wrong = torch.nonzero((rows < 0) | (rows >= constant(sizes, rows)))
    if len(wrong):
        b, t, c = wrong[0].tolist()
        raise InputError("rows", f"values in [0, {sizes[c]}) in column {c}", f"{rows[b, t, c]} at position {(b, t, c)}",
                         "pass rows without column offsets (flat=False)")


def replace_rows(table: torch.Tensor, rows: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Torch version of ops.updates.replace_rows."""
    return table.index_copy(0, rows, values)
