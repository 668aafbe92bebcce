"""What all kernels share: which elements a program works on, and which of those exist.

The elements are numbered in int64 from the first multiplication on: tables and outputs pass 2^31 elements.
"""

import triton
import triton.language as tl


@triton.jit
def block_of(BLOCK: tl.constexpr):
    """The elements of this program: int64 [BLOCK]."""
    return tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)


@triton.jit
def in_range(index, count):
    """Which elements exist: the last block usually has more than are left."""
    return index < count
