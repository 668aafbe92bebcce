"""Torch version of the functions in ops/hashing.py that process ids."""

import torch

from engram_ref.backends.torch._tensors import Constant
from engram_ref.backends.torch.arrays import constant
from engram_ref.checks import check_shapes
from engram_ref.ops import DEAD


def windows(ids: torch.Tensor, history: torch.Tensor, pad_id: int, eos_id: int | None = None) -> torch.Tensor:
    """Torch version of ops.hashing.windows."""
    _, T = ids.shape
    check_shapes(history=(history, (len(ids), history.shape[-1])))
    N = history.shape[1] + 1
    fill = pad_id if eos_id is None else eos_id
    stream = torch.cat([history, ids], dim=1)                # [B, N-1+T]
    hidden = torch.zeros_like(ids, dtype=torch.bool)
    shifts = []
    for i in range(N):
        token = stream[:, N - 1 - i : N - 1 - i + T]         # [B, T], i tokens back
        hidden = hidden | (token == DEAD)
        if eos_id is not None and i > 0:
            hidden = hidden | (token == eos_id)
        shifts.append(torch.where(hidden, fill, token))
    return torch.stack(shifts, dim=-1)                       # [B, T, N]


def mix(windows: torch.Tensor, multipliers: Constant) -> torch.Tensor:
    """Torch version of ops.hashing.mix; int64 products wrap, as in NumPy."""
    multipliers = constant(multipliers, windows)
    check_shapes(multipliers=(multipliers, windows.shape[-1:]))
    mixed = windows[..., 0] * multipliers[0]                         # [B, T], the current token alone
    orders = []
    for i in range(1, len(multipliers)):
        mixed = mixed ^ (windows[..., i] * multipliers[i])
        orders.append(mixed)
    return torch.stack(orders, dim=-1)                               # [B, T, N-1]


def table_rows(mixes: torch.Tensor, primes: Constant) -> torch.Tensor:
    """Torch version of ops.hashing.table_rows; torch.remainder is the floor modulus, like NumPy's."""
    primes = constant(primes, mixes)
    H = len(primes) // mixes.shape[-1]
    check_shapes(primes=(primes, (mixes.shape[-1] * H,)))
    return torch.remainder(mixes.repeat_interleave(H, dim=-1), primes)                 # [B, T, C]


def next_history(history: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Torch version of ops.hashing.next_history."""
    stream = torch.cat([history, ids], dim=1)                # [B, N-1+T]
    return stream[:, stream.shape[1] - history.shape[1] :].clone()   # a view would keep the whole chunk in memory
