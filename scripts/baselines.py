"""The baselines of the benchmark: plain implementations that never change.

They do not use engram_ref, so they do not get faster when it does. They are NumPy code like the authors' demo, a C
loop, and torch code as a competent user would write it. Inputs and outputs have this package's layout. Torch shares
memory with NumPy, so no conversion is measured.
"""

import ctypes
import subprocess
import tempfile
from pathlib import Path

import numpy as np

# Rows --------------------------------------------------------------------------------------------------


def demo_layer(ids, multipliers, primes, pad):
    """The demo's hash of one layer: shifts, one XOR per order, one `%` per head, a stack."""
    T, N = ids.shape[1], len(multipliers)
    heads = len(primes) // (N - 1)
    shifts = [np.pad(ids, ((0, 0), (k, 0)), constant_values=pad)[:, :T] for k in range(N)]
    columns = []
    for order in range(2, N + 1):
        mix = shifts[0] * multipliers[0]
        for k in range(1, order):
            mix = np.bitwise_xor(mix, shifts[k] * multipliers[k])
        first = (order - 2) * heads
        columns += [mix % int(p) for p in primes[first : first + heads]]
    return np.stack(columns, axis=2)


def demo_rows(ids, canonical, multipliers, primes, pad):
    """Rows [B, T, C] of each layer from raw ids [B, T]: apply the map once, then hash layer by layer."""
    mapped = canonical[ids]
    return [demo_layer(mapped, m, p, pad) for m, p in zip(multipliers, primes, strict=True)]


def demo_step(ids, history, multipliers, primes, pad):
    """One decode step [B] after a history [B, N-1]: hash the last N ids and keep the last position."""
    return demo_layer(np.concatenate([history, ids[:, None]], axis=1), multipliers, primes, pad)[:, -1]


C_LOOP = r"""
#include <stdint.h>
void rows(const int64_t *ids, const int64_t *map, long T, long layers, long N, long heads,
          const uint64_t *multipliers, const uint64_t *primes, int64_t pad, uint64_t *out) {
    uint64_t x[16];
    for (long k = 0; k < N; k++) x[k] = pad;
    for (long t = 0; t < T; t++) {
        for (long k = N - 1; k > 0; k--) x[k] = x[k - 1];
        x[0] = map[ids[t]];
        for (long y = 0; y < layers; y++) {
            const uint64_t *m = multipliers + y * N, *p = primes + y * (N - 1) * heads;
            uint64_t mix = x[0] * m[0];
            for (long n = 1; n < N; n++) {
                mix ^= x[n] * m[n];
                for (long h = 0; h < heads; h++) *out++ = mix % *p++;
            }
        }
    }
}
"""


def c_rows(ids, canonical, multipliers, primes, pad):
    """A plain C loop for one sequence [1, T], compiled for this machine; returns [layers, 1, T, C]."""
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "rows.c"), Path(folder, "rows.so")
        source.write_text(C_LOOP, encoding="utf-8")
        subprocess.run(["gcc", "-O3", "-march=native", "-shared", "-fPIC", "-o", library, source], check=True)
        function = ctypes.CDLL(str(library)).rows
    (Y, N), C = multipliers.shape, primes.shape[1]
    out = np.zeros((ids.shape[1], Y, C), dtype=np.int64)
    pointer, size = (lambda array: ctypes.c_void_p(array.ctypes.data)), ctypes.c_long
    arguments = (pointer(ids), pointer(canonical), size(ids.shape[1]), size(Y), size(N), size(C // (N - 1)),
                 pointer(multipliers), pointer(primes), ctypes.c_int64(pad), pointer(out))

    def run():
        function(*arguments)
        return out.transpose(1, 0, 2)[:, None]

    run.arrays = (ids, canonical, multipliers, primes)      # keep the memory behind the pointers alive
    return run


# Tables ------------------------------------------------------------------------------------------------


def numpy_gather(table, rows, offsets):
    """NumPy's indexing."""
    return table[rows + offsets]


def numpy_dequantise(codes, scales, rows, offsets, e4m3):
    """Gather and decode in NumPy: a lookup table of the 256 values, times a power of two per 32 channels."""
    flat = rows + offsets
    values = e4m3[codes[flat]].reshape(*flat.shape, -1, 32)
    return (values * np.exp2(scales[flat].astype(np.float32) - 127)[..., None]).reshape(*rows.shape[:2], -1)


def torch_dequantise(codes, scales, rows, offsets):
    """Gather and decode in eager torch: index, view as FP8 and E8M0, convert, multiply."""
    import torch

    codes, scales, rows, offsets = (torch.from_numpy(a) for a in (codes, scales, rows, offsets))

    @torch.inference_mode()
    def run():
        flat = rows + offsets
        values = codes[flat].view(torch.float8_e4m3fn).float().unflatten(-1, (-1, 32))
        return (values * scales[flat].view(torch.float8_e8m0fnu).float()[..., None]).flatten(-3).numpy()

    return run


# The module --------------------------------------------------------------------------------------------


def torch_engram(parameters, norm_eps, conv_eps, dilation):
    """A straightforward module: Embedding, one Linear per branch, RMSNorm, gate, Conv1d between transposes."""
    import torch
    from torch import nn

    p = {name: nn.Parameter(torch.from_numpy(a), requires_grad=False) for name, a in parameters.items()
         if a.dtype == np.float32}
    M, D, L = parameters["conv_weight"].shape

    def with_weight(module, weight):
        module.weight = nn.Parameter(weight, requires_grad=False)
        return module

    def norms(gain, eps):
        return nn.ModuleList([with_weight(nn.RMSNorm(D, eps=eps), g) for g in gain])

    class Engram(nn.Module):
        def __init__(self):
            super().__init__()
            width = parameters["value_weight"].shape[1]
            self.embedding = nn.Embedding(1, 1)
            self.embedding.weight = p["table"]
            self.keys = nn.ModuleList([with_weight(nn.Linear(width, D, bias=False), w) for w in p["key_weight"]])
            self.value = with_weight(nn.Linear(width, D, bias=False), p["value_weight"])
            self.key_norms, self.query_norms = norms(p["key_gain"], norm_eps), norms(p["query_gain"], norm_eps)
            self.conv_norms = norms(p["conv_gain"], conv_eps)
            conv = nn.Conv1d(M * D, M * D, L, groups=M * D, padding=(L - 1) * dilation, dilation=dilation, bias=False)
            self.conv = with_weight(conv, p["conv_weight"].reshape(M * D, 1, L))

        def forward(self, rows, hidden):
            memory = self.embedding(rows).flatten(-2)
            gates = [(self.query_norms[m](hidden[:, :, m]) * self.key_norms[m](self.keys[m](memory))).sum(-1)
                     for m in range(M)]
            gate = torch.sigmoid(torch.stack(gates, dim=2) / D**0.5)
            gated = gate[..., None] * self.value(memory)[:, :, None]
            normed = torch.cat([self.conv_norms[m](gated[:, :, m]) for m in range(M)], dim=-1)
            y = nn.functional.silu(self.conv(normed.transpose(1, 2))[..., : normed.shape[1]])
            return y.transpose(1, 2).unflatten(-1, (M, D)) + gated

    module, offsets = Engram().eval(), torch.tensor(parameters["column_offsets"])

    @torch.inference_mode()
    def run(rows, hidden):
        return module(torch.from_numpy(rows) + offsets, torch.from_numpy(hidden)).numpy()

    return run


def torch_conv(x, weight, dilation):
    """Conv1d and SiLU between two transposes: x [B, T, M, D], weight [M, D, L]."""
    import torch

    M, D, L = weight.shape
    channels = torch.from_numpy(weight).reshape(M * D, 1, L)
    x = torch.from_numpy(x).flatten(2)

    @torch.inference_mode()
    def run():
        y = torch.nn.functional.conv1d(x.transpose(1, 2), channels, padding=(L - 1) * dilation, dilation=dilation,
                                       groups=M * D)[..., : x.shape[1]]
        return torch.nn.functional.silu(y).transpose(1, 2).contiguous().unflatten(-1, (M, D)).numpy()

    return run


def torch_shifts(x, weight, dilation):
    """The same convolution as a sum of shifted products."""
    import torch

    x, weight = torch.from_numpy(x), torch.from_numpy(weight)
    T, L = x.shape[1], weight.shape[-1]
    taps = weight.unbind(-1)

    @torch.inference_mode()
    def run():
        padded = torch.nn.functional.pad(x, (0, 0, 0, 0, (L - 1) * dilation, 0))
        y = sum(taps[j] * padded[:, j * dilation : j * dilation + T] for j in range(L))
        return torch.nn.functional.silu(y).numpy()

    return run


# The backbone ------------------------------------------------------------------------------------------


def torch_experts(parameters, x, per_token, scaling):
    """Sigmoid routing and a loop over experts, as in common model classes: x [B, T, D]."""
    import torch
    from torch.nn.functional import linear, silu

    p, shape = {name: torch.from_numpy(a) for name, a in parameters.items()}, x.shape
    x = torch.from_numpy(x).flatten(0, 1)
    w1, w2, w3 = (p[f"experts.w{i}"] for i in (1, 2, 3))

    @torch.inference_mode()
    def run():
        scores = torch.sigmoid(linear(x, p["gate.weight"]))
        chosen = torch.topk(scores + p["gate.bias"], per_token, dim=-1).indices
        weights = scores.gather(1, chosen)
        weights = weights / weights.sum(-1, keepdim=True) * scaling
        y = torch.zeros_like(x)
        for e in range(len(w1)):
            token, slot = torch.where(chosen == e)
            part = x[token]
            answer = linear(silu(linear(part, w1[e])) * linear(part, w3[e]), w2[e])
            y.index_add_(0, token, answer * weights[token, slot, None])
        return y.view(shape).numpy()

    return run
