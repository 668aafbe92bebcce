"""Contract of every float op: inputs not modified, dtype kept, NaN propagated, empty inputs valid."""

import numpy as np
import pytest

from engram_ref import ops
from engram_ref.config import CHOICES
from engram_ref.ops.gate import ROOTS
from tests.compare import assert_close

FLOATS = ("float32", "float64")


def arrays(dtype, T=3, B=2, M=3, D=5, L=4, dilation=2):
    """Named read-only inputs of odd sizes; writing to one raises."""
    rng = np.random.default_rng(1)
    shapes = {"x": (B, T, M, D), "y": (B, T, M, D), "s": (B, T, M), "value": (B, T, D), "gain": (M, D),
              "gain2": (M, D), "weight": (7, D), "bias": (7,), "kernel": (M, D, L),
              "taps": (B, (L - 1) * dilation, M, D), "rows": (B, T, 2, 4)}
    made = {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}
    made["dead"] = rng.uniform(size=(B, T)) < 0.5
    for array in made.values():
        array.setflags(write=False)
    return made


OPS = {
    "linear": lambda a: ops.linear(a["x"], a["weight"]),
    "linear with bias": lambda a: ops.linear(a["x"], a["weight"], a["bias"]),
    "add_residual": lambda a: ops.add_residual(a["x"], a["y"]),
    "rms_norm": lambda a: ops.rms_norm(a["x"], a["gain"], 1e-6),
    "rms_norm, machine epsilon": lambda a: ops.rms_norm(a["x"], a["gain"], None),
    "inverse_rms": lambda a: ops.inverse_rms(a["x"], 1e-20),
    "effective_gain": lambda a: ops.effective_gain(a["x"], "zero_centred"),
    "sigmoid": lambda a: ops.sigmoid(a["x"]),
    "score": lambda a: ops.score(a["x"], a["y"]),
    "factored_score": lambda a: ops.factored_score(a["x"], a["y"], a["gain"], a["gain2"], 1e-20),
    "factored_score, machine epsilon": lambda a: ops.factored_score(a["x"], a["y"], a["gain"], a["gain2"], None),
    **{root: lambda a, root=root: getattr(ops, root)(a["x"]) for root in ROOTS},
    **{f"gate {form}": lambda a, form=form: ops.gate(a["x"][..., 0], form) for form in CHOICES["gate_form"]},
    "gate copysign_sqrt, dead": lambda a: ops.gate(a["x"][..., 0], "copysign_sqrt", a["dead"]),
    "apply_gate": lambda a: ops.apply_gate(a["s"], a["x"][:, :, 0]),
    "short_conv": lambda a: ops.short_conv(a["x"], a["kernel"], 2, a["taps"]),
    "next_taps": lambda a: ops.next_taps(a["x"], a["taps"]),
    "silu": lambda a: ops.silu(a["x"]),
    "gather": lambda a: ops.gather(a["x"][0, 0], np.zeros((1, 1, 2), dtype=np.int64), np.array([0, 1])),
    "concatenate": lambda a: ops.concatenate(a["x"]),
}
MAY_BE_VIEWS = ("gather", "concatenate")       # they compute nothing
PROPAGATE_NAN = ("linear", "rms_norm", "sigmoid", "score", "factored_score", *ROOTS,
                           *(f"gate {form}" for form in CHOICES["gate_form"]), "apply_gate", "short_conv", "next_taps",
                           "silu")


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("op", OPS)
def test_inputs_are_not_modified_and_dtype_is_kept(op, dtype):
    inputs = arrays(dtype)
    before = {name: array.copy() for name, array in inputs.items()}
    assert OPS[op](inputs).dtype == dtype
    for name, array in inputs.items():
        assert_close(name, before[name], array, "exact")


@pytest.mark.parametrize("op", [op for op in OPS if op not in MAY_BE_VIEWS])
def test_results_share_no_memory_with_inputs(op):
    inputs = arrays("float64")
    result = OPS[op](inputs)
    assert not any(np.shares_memory(result, array) for array in inputs.values())


@pytest.mark.parametrize("T", [0, 1])
@pytest.mark.parametrize("op", [op for op in OPS if op != "gather"])
def test_short_sequences_are_valid(op, T):
    inputs = arrays("float64", T=T)
    result = OPS[op](inputs)
    assert result.dtype == np.float64
    if op not in ("effective_gain", "next_taps"):
        assert result.shape[1] == T


@pytest.mark.parametrize("op", PROPAGATE_NAN)
def test_nan_propagates(op):
    inputs = arrays("float64")
    x = inputs["x"].copy()
    x[0, 0, 0, 0] = np.nan
    result = OPS[op](inputs | {"x": x})
    assert np.isnan(result[0]).any()
    assert not np.isnan(result[1]).any()


def test_repeated_calls_give_the_same_bits():
    for name, op in OPS.items():
        assert_close(name, op(arrays("float32")), op(arrays("float32")), "exact")
