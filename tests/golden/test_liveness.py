"""Every float case has live elements: zeros, constants and copies of an input of the same shape are wrong answers."""

import ml_dtypes
import numpy as np
import pytest

from engram_ref.oracle.encoding import decode_all
from engram_ref.oracle.kit.exhaustive import with_every_score
from engram_ref.oracle.vectors import read
from engram_ref.oracle.verify import result_of
from tests.kits import all_released

VECTORS = with_every_score(read())
CASES = [case for case in (*VECTORS.cases, *all_released())
         if any(stage.array.dtype.kind == "f" and stage.array.size for stage in case.stages
                if stage.name in case.outputs)]

ONE_NUMBER = "the right answer is one number, or the same for all elements"
COPY = "the right answer is the input, or that of the only stage with its shape"
NO_TOKENS = "the state after no tokens is the state before, which may be zeros"
EXCEPTIONS = {
    **dict.fromkeys(("inverse_rms/subnormal", "frequencies/pair", "softmax/plain-one-token",
                     "softmax/latent-yarn-one-token", "expert_weights/plain", "expert_weights/grouped",
                     "expert_weights/one-expert", "expert_weights/best-of-group", "route/one-expert",
                     "sinkhorn/single", *(f"{op}/{title}" for op in ("softmax_scale", "yarn_mscale")
                                          for title in ("plain", "pair", "yarn", "yarn-narrow"))), ONE_NUMBER),
    **dict.fromkeys(("effective_gain/plain", "decode/bf16-float32", "decode/bf16-float64", "decode/fp32",
                     "round_bf16_vjp/straight-through", "requantise_vjp/straight-through", "write_single_vjp/batch",
                     "engram_gradients/no-conv-zero-state"), COPY),
    **dict.fromkeys(("next_taps/empty", *(f"engram/{label}-empty" for label in (
        "demo-like", "paper-like", "tilekernels-like", "qwen-like", "short-kernel"))), NO_TOKENS),
}
"""Cases for which a trivial answer is right, and why."""


def arrays_of(argument):
    """Yield the arrays of an argument."""
    if isinstance(argument, dict | list | tuple):
        for part in argument.values() if isinstance(argument, dict) else argument:
            yield from arrays_of(part)
    elif isinstance(argument, np.ndarray):
        yield argument


def trivial(case):
    """Yield answers without a computation. Integer outputs are right; only the float outputs are replaced."""
    dtype = {"f32": np.float32, "bf16": np.float32}
    right = {stage.name: stage.array.astype(dtype.get(stage.tolerance_class, stage.array.dtype))
             for stage in case.stages if stage.name in case.outputs}
    floats = {name: array for name, array in right.items() if array.dtype.kind == "f" and array.size}
    first = lambda array: array.ravel()[0]
    middle = lambda array: np.median(array[np.isfinite(array)]).astype(array.dtype) if np.isfinite(array).any() else 0
    for number in (lambda array: 0, lambda array: 1, first, middle):
        yield right | {name: np.full_like(array, number(array)) for name, array in floats.items()}
    for array in arrays_of(decode_all(case.arguments, VECTORS.arrays, VECTORS.configurations)):
        same = {name: array.astype(part.dtype) for name, part in floats.items() if part.shape == array.shape}
        if same and (array.dtype.kind == "f" or array.dtype == ml_dtypes.bfloat16):
            yield right | same


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_trivial_answers_fail(case):
    passed = [answer for answer in trivial(case) if result_of(case, VECTORS, answer, False).ok]
    assert bool(passed) == (case.name in EXCEPTIONS)


def test_exceptions_are_cases():
    assert set(EXCEPTIONS) <= {case.name for case in CASES}
