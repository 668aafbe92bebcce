"""The elementwise work between and after the experts' matrix products, one pass per step.

Fast versions of ops/experts.py. BLAS computes the products.
"""

import math

import numpy as np

from engram_ref.backends.numba._threads import jit, over_tokens
from engram_ref.backends.numba.vectors.exp import exp_negative, sigmoid
from engram_ref.backends.numba.vectors.sums import dot
from engram_ref.checks import check_shapes
from engram_ref.ops.record import Parameters


def swiglu(x: np.ndarray, w1: np.ndarray, w2: np.ndarray, w3: np.ndarray) -> np.ndarray:
    """Fast version of ops.swiglu; the gated product overwrites its first factor."""
    F, D = len(w1), x.shape[-1]
    check_shapes(w1=(w1, (F, D)), w2=(w2, (len(w2), F)), w3=(w3, (F, D)))
    tokens = x.reshape(math.prod(x.shape[:-1]), D)           # else the products may have a different memory order
    gate, up = tokens @ w1.T, tokens @ w3.T
    over_tokens(lambda a, b: _swiglu(gate[a:b].reshape(-1), up[a:b].reshape(-1)), len(gate), gate.nbytes)
    return (gate @ w2.T).reshape(*x.shape[:-1], len(w2))


def combine(output: np.ndarray, token: np.ndarray, weight: np.ndarray, y: np.ndarray) -> None:
    """y[token[i]] += weight[i] * output[i]; each token occurs once."""
    over_tokens(lambda a, b: _combine(output, token, weight, y, a, b), len(token), output.nbytes)


def by_expert(chosen: np.ndarray, E: int) -> tuple[np.ndarray, list[tuple[int, slice]]]:
    """Return the slots of chosen [N, K], sorted by expert, and each chosen expert with its part of them."""
    ends = np.cumsum(np.bincount(chosen.reshape(-1), minlength=E)).tolist()
    parts = [(e, slice(a, b)) for e, (a, b) in enumerate(zip([0, *ends], ends, strict=False)) if a < b]
    return np.argsort(chosen.reshape(-1), kind="stable"), parts


def routed_grouped_vjp(upstream: np.ndarray, parameters: Parameters, x: np.ndarray, chosen: np.ndarray,
                       weights: np.ndarray) -> tuple:
    """Fast version of ops.routed_grouped_vjp.

    With h = silu(W1 x) * W3 x and t = W2^T upstream of a slot, its weight w has the gradient <t, h>, and h has w t.
    """
    names = tuple(f"experts.w{i}" for i in (1, 2, 3))
    (w1, w2, w3), (N, K) = (parameters[name] for name in names), chosen.shape
    check_shapes(upstream=(upstream, x.shape), chosen=(chosen, (len(x), K)), weights=(weights, (N, K)))
    of_w1, of_w2, of_w3 = (np.zeros_like(w) for w in (w1, w2, w3))
    order, parts = by_expert(chosen, len(w1))
    scale, inputs, given = weights.reshape(-1)[order], x[order // K], upstream[order // K]
    gate, up, t = np.empty((3, N * K, w1.shape[1]), np.result_type(x, w1, upstream))
    for e, part in parts:
        np.matmul(inputs[part], w1[e].T, out=gate[part])
        np.matmul(inputs[part], w3[e].T, out=up[part])
        np.matmul(given[part], w2[e], out=t[part])
    of_scale, of_inputs = np.empty(N * K, gate.dtype), np.empty((N * K, x.shape[1]), gate.dtype)
    over_tokens(lambda a, b: _gated_vjp(gate, up, t, scale, of_scale, a, b), N * K, 3 * gate.nbytes)
    for e, part in parts:
        np.matmul(given[part].T, t[part], out=of_w2[e])
        np.matmul(gate[part].T, inputs[part], out=of_w1[e])
        np.matmul(up[part].T, inputs[part], out=of_w3[e])
        np.matmul(gate[part], w1[e], out=of_inputs[part])
        of_inputs[part] += up[part] @ w3[e]
    of_weights, of_x = np.empty_like(of_scale), np.empty_like(of_inputs)
    of_weights[order], of_x[order] = of_scale, of_inputs
    return (dict(zip(names, (of_w1, of_w2, of_w3), strict=True)), of_x.reshape(N, K, x.shape[1]).sum(axis=1), None,
            of_weights.reshape(N, K))


@jit
def _gated_vjp(gate, up, t, scale, of_scale, start, stop):
    """With h = silu(gate) * up, write of_scale = <t, h>; replace gate and up by their gradients and t by scale * h."""
    F, one = gate.shape[1], gate.dtype.type(1)
    h = np.empty(F, gate.dtype)
    for i in range(start, stop):
        g, u, s = gate[i], up[i], t[i]
        for f in range(F):
            small = exp_negative(-abs(g[f]))
            large = one / (one + small)
            small *= large
            positive, negative = (large, small) if g[f] >= 0 else (small, large)         # sigmoid of g and of -g
            silu, of_h = g[f] * positive, scale[i] * s[f]
            h[f] = silu * u[f]
            g[f], u[f] = of_h * u[f] * positive * (one + g[f] * negative), of_h * silu
        of_scale[i] = dot(s, 0, h, 0, F)
        for f in range(F):
            s[f] = scale[i] * h[f]


@jit
def _swiglu(gate, up):
    """gate = silu(gate) * up."""
    one = gate.dtype.type(1)
    for i in range(gate.size):
        gate[i] = gate[i] * sigmoid(gate[i], one) * up[i]


@jit
def _combine(output, token, weight, y, start, stop):
    for i in range(start, stop):
        target, source = y[token[i]], output[i]
        for d in range(source.size):
            target[d] += weight[i] * source[d]
