"""Rows: windows, mix and modulus of a block of tokens in one launch.

A program processes BLOCK tokens. For each, it reads the N tokens of the window, newest first, and updates the mix. From
the second token on, the mix after token n is that of order n, and the program reduces it modulo all primes of order n.

64-bit division is slow on a GPU, so it is replaced by a multiplication with reciprocal = floor((2^64 - 1) / p),
computed once per program. For y below 2^64 the quotient (y * reciprocal) >> 64 is floor(y / p) or one less, since

    0 <= y / p - y * reciprocal / 2^64 <= y / 2^64 < 1

so the remainder r is in [0, 2p), and the smaller of r and r - p, which wraps to a large number if r < p, is in [0, p).
If all primes of an order are below 2^31, r is below 2^32, and its lower half alone is computed. For a negative mix x
the kernel uses ~x = -x - 1 and x mod p = p - 1 - (~x mod p).
"""

import torch
import triton
import triton.language as tl

from engram_ref.backends.torch.kernels import check_tensors, programs
from engram_ref.backends.torch.kernels.blocks import block_of, in_range
from engram_ref.errors import InputError
from engram_ref.ops import canonical

DEAD = tl.constexpr(canonical.DEAD)
BLOCK, WARPS = 64, 1       # tokens and warps per program: choice, the fastest of eleven on an H200


@triton.jit
def floor_mod(x, p, reciprocal, UNSIGNED: tl.constexpr):
    """x mod p in [0, p) for every int64 x; the result of `%` would take the sign of x.

    UNSIGNED   dtype of the remainder: tl.uint64, or tl.uint32 if all p are below 2^31
    """
    negative = x < 0
    y = tl.where(negative, ~x, x).to(tl.uint64)
    quotient = tl.umulhi(y, reciprocal).to(UNSIGNED)
    p = p.to(UNSIGNED)
    r = y.to(UNSIGNED) - quotient * p
    r = tl.minimum(r, r - p)
    return tl.where(negative, p - 1 - r, r).to(tl.int64)


@triton.jit
def reciprocal_of(p):
    """floor((2^64 - 1) / p) as uint64, for positive int64 p."""
    return (p * 0 - 1).to(tl.uint64) // p.to(tl.uint64)


@triton.jit
def rows_kernel(ids, history, multipliers, primes, offsets, out, count, length, fill, eos_id,
                N: tl.constexpr, H: tl.constexpr, HEADS: tl.constexpr, HAS_EOS: tl.constexpr,
                HAS_OFFSETS: tl.constexpr, BLOCK: tl.constexpr):
    # start: no token hidden, mix 0
    position = block_of(BLOCK)                                   # over [B, T]
    inside = in_range(position, count)
    batch = position // length
    t = position - batch * length
    head = tl.arange(0, HEADS)                                   # H, rounded up to a power of two
    hidden = position < 0
    mixed = position * 0
    for i in tl.static_range(N):
        # load the token i positions back
        older = t < i                                            # the token is in the history
        new = tl.load(ids + position - i, mask=inside & (t >= i), other=0)
        old = tl.load(history + batch * (N - 1) + (N - 1 - i + t), mask=inside & older, other=0)
        token = tl.where(older, old, new)
        # barriers hide this token and all older ones; update the mix
        hidden = hidden | (token == DEAD)
        if HAS_EOS and i > 0:
            hidden = hidden | (token == eos_id)
        mixed = mixed ^ (tl.where(hidden, fill, token) * tl.load(multipliers + i))
        # reduce modulo the primes of this order, store the rows
        if i > 0:
            column = (i - 1) * H + head
            prime = tl.load(primes + column, mask=head < H, other=1)
            x, p, reciprocal = mixed[:, None], prime[None, :], reciprocal_of(prime)[None, :]
            if tl.max(prime, 0) < 2**31:
                row = floor_mod(x, p, reciprocal, tl.uint32)                                     # [BLOCK, HEADS]
            else:
                row = floor_mod(x, p, reciprocal, tl.uint64)
            if HAS_OFFSETS:
                row += tl.load(offsets + column, mask=head < H, other=0)[None, :]
            cell = position[:, None] * ((N - 1) * H) + column[None, :]                           # over [B, T, C]
            tl.store(out + cell, row, mask=inside[:, None] & (head < H)[None, :])


def rows(ids: torch.Tensor, history: torch.Tensor, multipliers: torch.Tensor, primes: torch.Tensor,
         offsets: torch.Tensor | None, pad_id: int, eos_id: int | None = None,
         out: torch.Tensor | None = None) -> torch.Tensor:
    """Compute the rows of canonical ids from contiguous tensors on one device; as ops.composite.address.

    out   int64 [B, T, C] to write the rows to; None: new memory
    """
    if ids.ndim != 2:
        raise InputError("ids", "shape [B, T]", f"shape {list(ids.shape)}")
    (B, T), N, C = ids.shape, len(multipliers), len(primes)
    if N < 2 or C % (N - 1) or not C:
        raise InputError("primes", f"the same number of primes for each order from 2 to {N}", f"{C} primes")
    check_tensors(torch.int64, ids.device, ids=(ids, (B, T)), history=(history, (B, N - 1)),
                  multipliers=(multipliers, (N,)), primes=(primes, (C,)),
                  offsets=(primes if offsets is None else offsets, (C,)))
    out = torch.empty((B, T, C), dtype=torch.int64, device=ids.device) if out is None else out
    check_tensors(torch.int64, ids.device, out=(out, (B, T, C)))
    if out.numel() == 0:
        return out
    H = C // (N - 1)
    with torch.cuda.device_of(ids):
        rows_kernel[programs("ids", B * T, BLOCK)](
            ids, history, multipliers, primes, primes if offsets is None else offsets, out, B * T, T,
            pad_id if eos_id is None else eos_id, 0 if eos_id is None else eos_id, N=N, H=H,
            HEADS=triton.next_power_of_2(H), HAS_EOS=eos_id is not None, HAS_OFFSETS=offsets is not None, BLOCK=BLOCK,
            num_warps=WARPS)
    return out
