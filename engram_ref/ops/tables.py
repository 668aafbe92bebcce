"""Tables: gather the selected rows, decode them and concatenate them.

A layer has C tables, one per n-gram order and head, stored one after another in one flat array; column c starts at its
offset. The memory of a token is the concatenation of its C rows:

    memory(t) = row of column 0 | row of column 1 | ... | row of column C-1

Columns are order-major: all heads of the 2-grams first, then all heads of the 3-grams.
"""

import numpy as np
from numpy.typing import DTypeLike

from engram_ref.checks import check_shapes
from engram_ref.config import check_choice
from engram_ref.errors import InputError
from engram_ref.ops.codecs import Codecs


def gather(table: np.ndarray, rows: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Gather the rows of the flat table that each position reads.

    table     [R, W] any dtype
    rows      int64 [B, T, C], each within its own column's table; not checked here, see check_rows
    offsets   int64 [C], first flat row of each column
    returns   [B, T, C, W]
    source    Paper Eq. 1; demo

    >>> gather(np.array([[10], [11], [20], [21]]), np.array([[[1, 0]]]), np.array([0, 2]))[0, 0]
    array([[11],
           [20]])
    """
    check_shapes(offsets=(offsets, rows.shape[-1:]))
    return table[rows + offsets]                             # [B, T, C, W]


def concatenate(decoded: np.ndarray) -> np.ndarray:
    """Concatenate the rows of each token: [B, T, C, W] -> [B, T, C*W].  Source: paper Eq. 2."""
    B, T, C, W = decoded.shape
    return decoded.reshape(B, T, C * W)


def check_rows(rows: np.ndarray, sizes: np.ndarray) -> None:
    """Raise InputError if a row is outside its column's table, naming the first such row.

    rows     int64 [B, T, C]
    sizes    int64 [C], rows of each column's table
    raises   InputError; the usual cause is flat rows, which include the offsets
    """
    if rows.dtype != np.int64 or rows.ndim != 3 or rows.shape[-1] != len(sizes):
        raise InputError("rows", f"int64 [B, T, {len(sizes)}]", f"{rows.dtype} {list(rows.shape)}")
    invalid = np.argwhere((rows < 0) | (rows >= sizes))
    if len(invalid):
        b, t, c = map(int, invalid[0])
        raise InputError("rows", f"values in [0, {sizes[c]}) in column {c}", f"{rows[b, t, c]} at position {(b, t, c)}",
                         "pass rows without column offsets (flat=False)")


class Tables(Codecs):
    """Reading tables: gather, decode, concatenate."""

    __slots__ = ()
    gather = staticmethod(gather)
    concatenate = staticmethod(concatenate)
    check_rows = staticmethod(check_rows)

    def decode(self, gathered: tuple[np.ndarray, ...], codec: str, dtype: DTypeLike) -> np.ndarray:
        """Convert gathered rows to numbers.

        gathered   (values,) for "fp32" and "bf16" (an ml_dtypes.bfloat16 array); (codes, scales) for "fp8_e8m0"
        codec      "fp32", "bf16" or "fp8_e8m0"
        dtype      float32 or float64, of the result
        returns    [B, T, C, W]
        raises     InputError for an unknown codec, or codes and scales whose shapes do not match
        source     demo (fp32); V4.1 release (FP8)
        """
        check_choice("table_codec", codec)
        if codec == "fp8_e8m0":
            codes, scales = gathered
            return self.dequantise(codes, scales, dtype)
        return self.cast(gathered[0], dtype)
