"""A public test of Engram's gate, and the bugs that pass it.

The test draws the hidden state, key and value from N(0, 1) in bfloat16, and the gains near 1, computes

    h + alpha v,     alpha = sigma(copysign(sqrt(max(|s|, 1e-6)), s)),     s = <RMSNorm(h), RMSNorm(k)> / sqrt(D)

and compares it with a reference at rtol = atol = 1e-2, as tests of kernels in public inference engines do.
"""

from dataclasses import replace

import ml_dtypes
import numpy as np

from engram_ref.ops.namespace import NUMPY, Ops
from engram_ref.oracle.bugs import BUGS, namespace_with
from engram_ref.presets import preset

TOKENS, BRANCHES, WIDTH = 64, 4, 1024
TOLERANCE = 1e-2
OPS = {"inverse_rms", "factored_score", "gate_score", "copysign_sqrt", "sigmoid", "gate", "apply_gate", "add_residual"}
"""The ops that the test calls."""


def inputs() -> dict[str, np.ndarray]:
    """Return the random inputs, float32 with values of bfloat16."""
    rng = np.random.default_rng(0)
    bf16 = lambda *shape: rng.standard_normal(shape).astype(ml_dtypes.bfloat16).astype(np.float32)
    shape = (1, TOKENS, BRANCHES, WIDTH)
    return {"hidden": bf16(*shape), "key": bf16(*shape), "value": bf16(1, TOKENS, WIDTH),
            "query_gain": 1 + bf16(BRANCHES, WIDTH) / 8, "key_gain": 1 + bf16(BRANCHES, WIDTH) / 8}


def gated_residual(ops: Ops) -> np.ndarray:
    """Compute the answer of the test with a namespace: float32 [1, T, M, D]."""
    x, config = inputs(), replace(preset("deepseek-v4.1-flash"), hidden_size=WIDTH)
    s = ops.gate_score(x, x["hidden"], x["key"], config)
    return ops.add_residual(x["hidden"], ops.apply_gate(ops.gate(s, config.gate_form), x["value"]), config.rounding)


def gate_test() -> dict[str, list[str]]:
    """Return the bugs of V4.1 in ops of the test, by its result: "passed", "failed"."""
    expected, results = gated_residual(NUMPY), {"passed": [], "failed": []}
    for name, bug in BUGS.items():
        if OPS & set(bug.changes) and "deepseek-v4.1" in bug.dialects:
            with np.errstate(all="ignore"):
                found = gated_residual(namespace_with(bug))
            passed = np.allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE)
            results["passed" if passed else "failed"].append(name)
    return results
