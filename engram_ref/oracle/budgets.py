"""Rounding errors of one call of each op, in units of the unit roundoff: see noise.py."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from engram_ref.ops.updates import FAST, NEWTON_SCHULZ


def summed(axes: str, *arrays: np.ndarray) -> int:
    """Return the number of products that an einsum adds per element."""
    operands, result = axes.split("->")
    sizes = {axis: size for letters, array in zip(operands.split(","), arrays, strict=True)
             for axis, size in zip(letters, array.shape, strict=True)}
    return math.prod(size for axis, size in sizes.items() if axis not in result)


def last_axis(x: np.ndarray, *others: object, **named: object) -> int:
    """Return the length of the first argument's last axis."""
    return x.shape[-1]


SUMS: dict[str, Callable[..., int]] = {
    "linear": last_axis, "inverse_rms": last_axis, "score": last_axis, "factored_score": last_axis,
    "balance_loss": lambda scores, chosen: math.prod(scores.shape[1:]),
    "softmax": last_axis, "cross_entropy": last_axis, "einsum": summed,
    "short_conv": lambda x, weight, *others, **named: weight.shape[-1],
    "log_normalise": lambda x, axis: x.shape[axis], "merge_branches": lambda X, form: X.shape[2],
    "sinkhorn": lambda logits, iterations, eps=0.0: 2 * iterations,
    "bias_update": lambda bias, counts, rate, centred=False: len(counts),
    "newton_schulz": lambda matrix, steps: 3 * len(NEWTON_SCHULZ[steps]) * max(matrix.shape[-2:]),
    "expert_weights": lambda scores, chosen, config: chosen.shape[-1],
    "routed_naive": lambda parameters, x, chosen, weights: chosen.shape[-1],
    "routed_grouped": lambda parameters, x, chosen, weights: chosen.shape[-1],
}
"""Op -> number of products in its sum; for sinkhorn, the number of divisions, for newton_schulz, in all its sums."""

ELEMENTWISE = {
    "add": (0, 1), "multiply": (0, 2), "apply_gate": (0, 1), "write_single": (0, 1), "rms_norm": (0, 2),
    "effective_gain": (0, 1), "silu": (0, 1), "exp": (2, 2), "sigmoid": (2, 2), "sqrt_softplus": (2, 4),
    "adam_update": (4, 3), "batch_weights": (0, 1), "muon_update": (2, 3), "rotate": (2, 1), "signed_sqrt": (0, 1),
    "copysign_sqrt": (0, 1),
}
"""Op -> errors in units of u: relative to its inputs (exp and division may be off by 2 ulp), and relative to its
result. Angles are exact inputs: they are float64 everywhere."""

ABSOLUTE = {"sigmoid": 0.5, "log_normalise": 1.0, "cross_entropy": 1.0, "newton_schulz": sum(map(abs, FAST))}
"""Op -> absolute error in units of u: 1 - sigmoid(-x) for a sigmoid, logarithms of numbers near 1, and the three terms
of a polynomial of singular values near 1."""

ALONE = {"angles": (0, 2), "frequencies": (0, 8), "softmax_scale": (0, 4), "yarn_mscale": (0, 4)}
"""Like ELEMENTWISE, for ops that have errors only as the op of a case: every composition computes them in float64."""

UPDATES = ("adam_update", "muon_update")
"""Ops whose rates are rounded too: 1 - beta, computed in float32, is off by 1 / (1 - beta) times more than beta."""

MOVED = frozenset(f"{op}_vjp" for op in (
    "cast", "concatenate", "effective_gain", "next_taps", "read_single", "requantise", "reshape", "rotate",
    "round_bf16", "split", "stack", "tail", "take", "write_single", "zero_dead"))
"""Gradients without errors of their own: they move numbers, or leave the computation to an op with errors."""

UNARY = frozenset(f"{op}_vjp" for op in ("copysign_sqrt", "exp", "sigmoid", "signed_sqrt", "silu", "sqrt_softplus"))
"""Gradients without sums."""


def added(op: str, upstream: np.ndarray, *inputs: Any) -> int:
    """Return the number of products that one element of a VJP's results adds at most.

    These sums are over the tokens, over the last axis of upstream, or as long as those of the op itself.
    """
    of_op = SUMS[op](*inputs) if op in SUMS else inputs[0].shape[-1] if op == "rms_norm" else 1
    last = max(1, upstream.shape[-1] if upstream.ndim else 1)
    return max(of_op, last, upstream.size // last)


def budget(name: str, arguments: tuple) -> tuple[float, float, float]:
    """Return the errors of one call in units of u: relative to the inputs, relative to the result, and absolute."""
    absolute = ABSOLUTE.get(name, 0.0)
    if name in UNARY:
        return 2, 4, absolute
    if name in SUMS or name.endswith("_vjp"):
        n = SUMS[name](*arguments) if name in SUMS else added(name.removesuffix("_vjp"), *arguments)
        return math.sqrt(1 + n / 2), 1 + math.sqrt(n / 3), absolute
    return *(ELEMENTWISE | ALONE).get(name, (0, 0)), absolute
