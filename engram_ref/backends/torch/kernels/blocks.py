"""Index computations shared by the kernels.

Indices are int64 throughout, since tables and outputs can exceed 2^31 elements.
"""

import triton
import triton.language as tl


@triton.jit
def block_of(BLOCK: tl.constexpr):
    """Indices of this program's elements, int64 [BLOCK]."""
    return tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)


@triton.jit
def in_range(index, count):
    """Mask of the valid elements; the last block is usually incomplete."""
    return index < count
