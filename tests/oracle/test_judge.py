"""The judge: formats, statuses, a port's own inputs, machine epsilon, other acceptable answers."""

import re
from dataclasses import replace
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

from engram_ref.ops.namespace import NUMPY
from engram_ref.oracle.check.judge import judge, nearest
from engram_ref.oracle.noise import noise_of
from engram_ref.oracle.run import Adapter, run
from engram_ref.oracle.vectors import read
from tests.ports import FLOAT32

BF16 = np.dtype(ml_dtypes.bfloat16)


@pytest.fixture(scope="module")
def vectors():
    return read()


def case_of(vectors, name):
    """A case with its noise."""
    case = next(case for case in vectors.cases if case.name == name)
    noise = noise_of(case, vectors)
    return replace(case, stages=tuple(replace(stage, noise=noise.get(stage.name)) for stage in case.stages))


FLOAT64 = Adapter()


def right(case, vectors, adapter=FLOAT64):
    return run(case, vectors, NUMPY, adapter, case.traced)


def statuses(case, vectors, answers):
    return {result.stage: result.status for result in judge(case, vectors, answers) if result.status != "ok"}


def test_bfloat16_is_rounded_once():
    """Above a tie of bfloat16 by less than half a float32 step, where two roundings give 1."""
    above = 1 + 2.0**-8 + 2.0**-30
    x = np.array([above, -above, 1 + 2.0**-8, 0.0, -0.0, np.inf, np.nan, 1e39, 2.0**-150])
    expected = [1 + 2.0**-7, -1 - 2.0**-7, 1.0, 0.0, -0.0, np.inf, np.nan, np.inf, 0.0]
    with np.errstate(all="ignore"):
        found = nearest(x, BF16).astype(np.float64)
    np.testing.assert_array_equal(found, expected)
    assert np.signbit(found[4]) and nearest(np.array(1.5), BF16).shape == ()


def test_bfloat16_is_the_nearest_number():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(2000) * 2.0 ** rng.integers(-30, 30, 2000)
    bits = nearest(x, BF16).view(np.uint16).astype(np.int64)
    value = lambda b: np.asarray(b, np.uint16).view(BF16).astype(np.float64)
    for number, b in zip(x, bits, strict=True):
        errors = [abs(Fraction(float(value(b + step))) - Fraction(number)) for step in (-1, 0, 1)]
        assert errors[1] == min(errors)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, BF16, np.float16])
def test_every_format_is_judged_at_its_precision(vectors, dtype):
    case = case_of(vectors, "score/branches")
    answers = {"output": nearest(right(case, vectors)["output"], np.dtype(dtype))}
    assert not statuses(case, vectors, answers)
    result, = judge(case, vectors, {"output": np.nextafter(answers["output"], np.dtype(dtype).type(np.inf))
                                    if dtype is np.float64 else answers["output"] + np.dtype(dtype).type(2.0**-5)})
    assert result.ok == (dtype is np.float64) and result.precision == np.dtype(dtype).name


def test_float32_numbers_that_were_rounded_to_bfloat16_fail(vectors):
    case = case_of(vectors, "score/branches")
    answer = nearest(right(case, vectors)["output"], BF16)
    assert not statuses(case, vectors, {"output": answer})
    assert statuses(case, vectors, {"output": answer.astype(np.float32)}) == {"output": "differs"}


def test_statuses(vectors):
    case = case_of(vectors, "score/branches")
    y = right(case, vectors)["output"]
    broken = y.copy()
    broken.flat[1] = np.nan
    assert statuses(case, vectors, {}) == {"output": "missing"}
    assert statuses(case, vectors, {"output": y[:1]}) == {"output": "shape"}
    assert statuses(case, vectors, {"output": y.astype(int)}) == {"output": "dtype"}
    assert statuses(case, vectors, {"output": y.astype(complex)}) == {"output": "dtype"}
    assert statuses(case, vectors, {"output": broken}) == {"output": "non-finite"}
    assert statuses(case, vectors, {"refused": np.zeros(0)}) == {"output": "refused"}
    invalid = replace(case, result="invalid", stages=(), outputs=())
    assert statuses(invalid, vectors, {"output": y}) == {"refused": "missing"}
    assert not statuses(invalid, vectors, {"refused": np.zeros(0)})


def test_integers_may_have_any_width_but_must_be_equal(vectors):
    case = case_of(vectors, "windows/dead")
    y = right(case, vectors)["output"]
    assert not statuses(case, vectors, {"output": y.astype(np.int32)})
    y = y.copy()
    y.flat[0] += 1
    assert statuses(case, vectors, {"output": y}) == {"output": "differs"}
    assert statuses(case, vectors, {"output": y.astype(float)}) == {"output": "dtype"}


@pytest.mark.parametrize("stage", ["key", "score", "gate", "conv"])
def test_only_the_stage_with_the_mistake_differs(vectors, stage):
    """All later stages are computed from the wrong one, as in a real port."""
    case, factor = case_of(vectors, "engram/demo-like-batch"), 1 + 1e-5
    method = {"key": "project", "score": "score", "gate": "gate", "conv": "conv_silu"}[stage]

    class Port(type(NUMPY)):
        __slots__ = ()

    def scaled(self, *arguments, **named):
        result = getattr(super(Port, self), method)(*arguments, **named)
        return (result[0] * np.float32(factor), result[1]) if stage == "key" else result * np.float32(factor)

    setattr(Port, method, scaled)
    wrong = {name: array.astype(np.float32) for name, array in run(case, vectors, Port(), FLOAT32, True).items()}
    assert statuses(case, vectors, wrong) == {stage: "differs"}
    fused = {name: wrong[name] for name in case.outputs}
    assert ("output" in statuses(case, vectors, fused)) == (stage != "key")             # the norm removes a factor


def test_an_address_is_judged_on_its_own_windows(vectors):
    case = case_of(vectors, "address/dead-flat")
    stages = {name: array.copy() for name, array in right(case, vectors).items()}
    stages["windows"].flat[0] += 1
    x = {name: vectors.arrays[value["array"]] for name, value in case.arguments.items() if isinstance(value, dict)}
    stages["mix"] = NUMPY.mix(stages["windows"], x["multipliers"])
    stages["rows"] = NUMPY.table_rows(stages["mix"], x["primes"])
    stages[case.outputs[0]] = stages["rows"] + x["offsets"]
    assert statuses(case, vectors, stages) == {"windows": "differs"}


def test_eps_none_is_the_machine_epsilon_of_the_port(vectors):
    case = case_of(vectors, "rms_norm/machine-eps")
    narrow, wide = right(case, vectors, FLOAT32)["output"], right(case, vectors)["output"]
    assert not statuses(case, vectors, {"output": narrow}) and not statuses(case, vectors, {"output": wide})
    assert statuses(case, vectors, {"output": wide.astype(np.float32)}) == {"output": "differs"}
    assert statuses(case, vectors, {"output": narrow.astype(np.float64)}) == {"output": "differs"}
    assert not statuses(case, vectors, {"output": nearest(narrow.astype(np.float64), BF16)})


def test_another_acceptable_answer_is_accepted_as_a_whole(vectors):
    case = case_of(vectors, "engram/v4.1-rounded-faint-4")
    other = {stage.name: stage.array.astype(np.float32) for stage in case.accept[0].stages}
    assert set(statuses(case, vectors, other).values()) == {"accepted"}
    broken = other | {"key": other["key"] + np.float32(1)}
    assert "accepted" not in statuses(case, vectors, broken).values()


def test_signed_zeros_differ_only_in_exact_stages(vectors):
    score = case_of(vectors, "engram/demo-like-zero-state")
    stages = right(score, vectors)
    stages["score"] = -stages["score"]
    assert not statuses(score, vectors, stages)
    taps = case_of(vectors, "next_taps/batch")
    zero = replace(taps, stages=tuple(replace(stage, array=stage.array * 0) for stage in taps.stages))
    assert statuses(zero, vectors, {"output": -np.abs(zero.stages[0].array * 0)}) == {"output": "differs"}


def lazy_answers(case, vectors):
    """Answers of ports that compute nothing: zeros, ones, and a copy of an input of the same shape."""
    for stage in case.stages:
        if stage.name in case.outputs and stage.array.dtype.kind == "f" and stage.array.size:
            yield "zeros", stage, np.zeros_like(stage.array)
            yield "ones", stage, np.ones_like(stage.array)
            for name, argument in case.arguments.items():
                array = vectors.arrays.get(argument.get("array")) if isinstance(argument, dict) else None
                if array is not None and array.shape == stage.array.shape and array.dtype.kind == "f":
                    yield f"copy of {name}", stage, array


STRAIGHT = ("round_bf16_vjp", "requantise_vjp")
"""Ops that return an input."""

TRIVIAL = re.compile("|".join(["empty|one-token|one-expert|single|yarn_mscale|frequencies/pair|effective_gain/plain",
                               *STRAIGHT]))
"""Cases whose right answer is trivial: no token, one weight that is 1, a gain or a gradient that is returned."""


def test_ports_that_compute_nothing_fail(vectors):
    """In every op, and in every case except those that test trivial inputs."""
    passed, ops = [], {}
    for case in vectors.cases:
        wrong: dict = {}
        for kind, stage, array in lazy_answers(case, vectors):
            wrong.setdefault(kind, {})[stage.name] = array
        floats = [s for s in case.stages if s.name in case.outputs and s.array.dtype.kind == "f" and s.array.size]
        for kind, answers in wrong.items():
            same = len(answers) == len(floats) and all(np.array_equal(answers[s.name], s.array) for s in floats)
            passed += [f"{case.name}: {kind}"] if same else []
            ops.setdefault((case.op, kind), []).append(same)
    assert not [name for name in passed if not TRIVIAL.search(name)]
    assert not [name for name, same in ops.items() if all(same) and name[0] not in STRAIGHT]
