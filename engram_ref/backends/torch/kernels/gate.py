"""The gate: one program per token and branch, which reads the hidden state and the key once.

With the norms factored out of the dot product, the score needs three sums: of h * gains * k, of h^2 and of k^2. One
pass over the width D computes them block by block; score, root and sigmoid are scalars; a second pass writes the gated
value. The branches of a token are adjacent in the grid, so all but the first read the shared value from the cache.

Only the factored score with copysign_sqrt has a kernel.
"""

import math

import torch
import triton
import triton.language as tl

from engram_ref.backends.torch.kernels import check_tensors, programs
from engram_ref.backends.torch.kernels.blocks import in_range
from engram_ref.errors import InputError
from engram_ref.ops.gate import ROOT_CLAMP

CLAMP = tl.constexpr(ROOT_CLAMP)
SIGN_BIT = tl.constexpr(-(2**31))
BLOCK, WARPS = 4096, 8  # channels per iteration, at most, and warps: choice, the fastest of nine on an H200


@triton.jit
def copysign_sqrt(s):
    """sqrt(max(|s|, clamp)) with the sign bit of s; NaN is preserved, since it fails the comparison."""
    size = tl.abs(s)
    root = tl.sqrt_rn(tl.where(size < CLAMP, CLAMP, size))
    return (root.to(tl.int32, bitcast=True) | (s.to(tl.int32, bitcast=True) & SIGN_BIT)).to(tl.float32, bitcast=True)


@triton.jit
def sigmoid(x):
    """1 / (1 + e^-x), without overflow of exp."""
    small = tl.exp(-tl.abs(x))
    return tl.div_rn(tl.where(x < 0, small, 1.0), 1.0 + small)


@triton.jit
def gate_kernel(hidden, key, value, query_gain, key_gain, dead, out, eps, root_width, M: tl.constexpr,
                D: tl.constexpr, HAS_DEAD: tl.constexpr, BLOCK: tl.constexpr):
    # reduce: the three sums of the score
    vector = tl.program_id(0).to(tl.int64)                       # over [B, T, M]
    token, branch = vector // M, vector % M
    dot = tl.zeros([BLOCK], tl.float32)
    hidden_square = tl.zeros([BLOCK], tl.float32)
    key_square = tl.zeros([BLOCK], tl.float32)
    for start in range(0, D, BLOCK):
        channel = start + tl.arange(0, BLOCK)
        inside = in_range(channel, D)
        h = tl.load(hidden + vector * D + channel, mask=inside, other=0.0)
        k = tl.load(key + vector * D + channel, mask=inside, other=0.0)
        gain = (tl.load(query_gain + branch * D + channel, mask=inside, other=0.0)
                * tl.load(key_gain + branch * D + channel, mask=inside, other=0.0))
        dot += h * gain * k
        hidden_square += h * h
        key_square += k * k
    # gate: scalars, with correctly rounded divisions and roots
    rms = (tl.sqrt_rn(tl.div_rn(tl.sum(hidden_square, 0), 1.0 * D) + eps),
           tl.sqrt_rn(tl.div_rn(tl.sum(key_square, 0), 1.0 * D) + eps))
    score = tl.div_rn(tl.div_rn(tl.div_rn(tl.sum(dot, 0), rms[0]), rms[1]), root_width)
    alpha = sigmoid(copysign_sqrt(score))
    if HAS_DEAD:
        alpha = tl.where(tl.load(dead + token), 0.0, alpha)
    # store the gated value
    for start in range(0, D, BLOCK):
        channel = start + tl.arange(0, BLOCK)
        inside = in_range(channel, D)
        v = tl.load(value + token * D + channel, mask=inside, other=0.0)
        tl.store(out + vector * D + channel, alpha * v, mask=inside)


def gate(hidden: torch.Tensor, key: torch.Tensor, value: torch.Tensor, query_gain: torch.Tensor,
         key_gain: torch.Tensor, eps: float | None, dead: torch.Tensor | None = None) -> torch.Tensor:
    """Compute the gated value of each branch, with the factored score and copysign_sqrt.

    Shapes are those of ops.gate_score and ops.apply_gate; the gains are the effective ones, and eps None is the machine
    epsilon. The gate of a dead position is 0. All floats are float32; tensors are contiguous, on one device.
    """
    if hidden.ndim != 4:
        raise InputError("hidden", "shape [B, T, M, D]", f"shape {list(hidden.shape)}")
    B, T, M, D = hidden.shape
    check_tensors(torch.float32, hidden.device, hidden=(hidden, (B, T, M, D)), key=(key, (B, T, M, D)),
                  value=(value, (B, T, D)), query_gain=(query_gain, (M, D)), key_gain=(key_gain, (M, D)))
    if dead is not None:
        check_tensors(torch.bool, hidden.device, dead=(dead, (B, T)))
    out = torch.empty_like(hidden)
    if out.numel() == 0:
        return out
    eps = torch.finfo(torch.float32).eps if eps is None else eps
    with torch.cuda.device_of(hidden):
        gate_kernel[programs("hidden", B * T * M, 1)](
            hidden, key, value, query_gain, key_gain, hidden if dead is None else dead, out, eps, math.sqrt(D),
            M=M, D=D, HAS_DEAD=dead is not None, BLOCK=min(BLOCK, triton.next_power_of_2(D)), num_warps=WARPS)
    return out
