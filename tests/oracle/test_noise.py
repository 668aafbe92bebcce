"""Rounding noise, and the constant C: honest ports are never accused, and by how much they are not."""

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engram_ref import ops
from engram_ref.backends import load
from engram_ref.ops.namespace import NUMPY
from engram_ref.oracle.check import judge as judging
from engram_ref.oracle.noise import CONFIDENCE, SAMPLES, measure, noise_of
from engram_ref.oracle.run import Adapter, adapter_of, run
from engram_ref.oracle.vectors import read
from tests.ports import FLOAT32, ORDERS, Ordered, Stored

PAGE = (Path(__file__).parents[2] / "docs" / "oracle" / "tolerances.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def vectors():
    return read()


@pytest.fixture(scope="module")
def cases(vectors):
    """All float cases with their noise, except streams of whole models, whose logits other cases cover."""
    chosen = [case for case in vectors.cases if case.result != "invalid" and case.op != "forward_stream" and
              any(stage.array.dtype.kind == "f" for stage in case.stages)]
    noises = {case.name: noise_of(case, vectors) for case in chosen}
    return [replace(case, stages=tuple(replace(s, noise=noises[case.name].get(s.name)) for s in case.stages))
            for case in chosen]


def student_t_tail(t, freedom=SAMPLES):
    """P(|T| > t), integrated over x = t / y."""
    y = (np.arange(200_000) + 0.5) / 200_000
    constant = math.gamma((freedom + 1) / 2) / math.gamma(freedom / 2) / math.sqrt(freedom * math.pi)
    return 2 * float(np.mean(constant * (1 + (t / y) ** 2 / freedom) ** (-(freedom + 1) / 2) * t / y**2))


def test_confidence_follows_from_students_t():
    quantile = float(re.search(r"quantile is ([0-9]+[.][0-9]+)", PAGE)[1])
    assert student_t_tail(quantile) == pytest.approx(0.01 / 1e6, rel=0.01)
    assert math.ceil(quantile * math.sqrt(2 / 3)) == CONFIDENCE
    assert f"C = {CONFIDENCE:g}" in PAGE


def float32_stages(stages):
    return {name: array.astype(np.float32) if array.dtype == np.float64 else array for name, array in stages.items()}


def torch_port():
    namespace = load("torch")
    adapter = adapter_of(namespace)
    return namespace, Adapter(lambda x: adapter.to(FLOAT32.to(x)), dtype=lambda dtype: adapter.dtype(np.float32))


PORTS = {f"{order} {width}": (Ordered(order), adapter) for order in (*ORDERS, "fused")
         for width, adapter in (("float32", FLOAT32), ("float64", Adapter()))}
PORTS |= {"NumPy float32": (NUMPY, FLOAT32), "NumPy float64": (NUMPY, Adapter())}


@pytest.mark.parametrize("name", [*PORTS, "Numba float32", "torch float32"])
def test_honest_ports_are_not_accused(name, vectors, cases, monkeypatch):
    factors = []
    compare = judging.judge_floats

    def recorded(stage, expected, noise, found):
        result = compare(stage, expected, noise, found)
        if noise is not None and stage.tolerance_class != "bf16":
            with np.errstate(all="ignore"):
                factor = np.abs(found.astype(np.float64) - result.expected) / result.allowed
            factors.append(factor[np.isfinite(factor) & (factor > 0)])
        return result

    if name.startswith(("Numba", "torch")):
        pytest.importorskip(name.split()[0].lower())
    namespace, adapter = (torch_port() if name.startswith("torch") else (load("numba"), FLOAT32)
                          if name.startswith("Numba") else PORTS[name])
    monkeypatch.setattr(judging, "judge_floats", recorded)
    for case in cases:
        for traced in {case.traced, False}:
            with np.errstate(all="ignore"):
                stages = run(case, vectors, namespace, adapter, traced)
            answers = float32_stages(stages) if name.endswith("float32") else stages
            failed = [result for result in judging.judge(case, vectors, answers) if not result.ok]
            assert not failed, f"{case.name}: {failed[0]}"
    worst, median = max(f.max(initial=0) for f in factors), np.median(np.concatenate(factors))
    documented = re.search(r"at most (0[.]\d+) of the allowed deviation, and\s+half of them less than (0[.]\d+)", PAGE)
    assert worst <= float(documented[1]) and median <= float(documented[2])


def test_a_small_constant_accuses_honest_ports(vectors, cases, monkeypatch):
    monkeypatch.setattr(judging, "CONFIDENCE", 0.05)
    case = next(case for case in cases if case.name == "engram/demo-like-batch")
    stages = float32_stages(run(case, vectors, NUMPY, FLOAT32, True))
    assert not all(result.ok for result in judging.judge(case, vectors, stages))


@pytest.mark.parametrize("order", ORDERS)
def test_stages_stored_in_bfloat16_are_judged_on_their_own_inputs(order, vectors, cases):
    for case in cases:
        if case.op == "engram" and "rounded" not in case.name and len(case.arguments["chunks"]) == 1:
            stages = {name: Stored.narrow(array) for name, array in
                      run(case, vectors, Stored(order), FLOAT32, True).items()}
            failed = [result for result in judging.judge(case, vectors, stages) if not result.ok]
            assert not failed, f"{case.name}: {failed[0]}"


def test_noise_of_a_sum_is_that_of_the_model():
    rng = np.random.default_rng(0)
    x, weight, n = rng.standard_normal((1, 64)), rng.standard_normal((50, 64)), 64
    exact, noise = measure(lambda namespace: {"y": namespace.linear(x, weight)}, seed=0, samples=400)
    squares = (1 + n / 2) * 2 * (x**2 * weight**2).sum(-1) + (1 + math.sqrt(n / 3)) ** 2 * exact["y"][0] ** 2
    assert noise["y"][0] == pytest.approx(np.sqrt(squares), rel=0.2)


def test_noise_is_deterministic_and_ends_at_exact_numbers(vectors):
    case = next(case for case in vectors.cases if case.name == "engram/demo-like-batch")
    first, second = noise_of(case, vectors), noise_of(case, vectors)
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert not first["memory"].any() and first["key"].all()


def test_rounding_goes_both_ways_only_near_a_midpoint():
    x = np.array([1 + 2.0**-8, 1 + 2.0**-9, 1.0])
    call = lambda namespace: {"y": namespace.round_bf16(namespace.add(x, 0.0))}
    _, noise = measure(call, seed=0)
    assert noise["y"][0] * 2.0**-24 == pytest.approx(2.0**-8, rel=0.5) and not noise["y"][1:].any()
    assert measure(call, seed=0)[0]["y"][1] == 1.0


def test_signs_and_choices_follow_the_exact_run():
    tiny = np.array([[[1e-12]]])
    call = lambda namespace: {"y": namespace.gate(namespace.add(tiny, -tiny), "copysign_sqrt")}
    assert measure(call, seed=0)[1]["y"].item() < 2
    assert ops.gate(-tiny, "copysign_sqrt") < 0.5
