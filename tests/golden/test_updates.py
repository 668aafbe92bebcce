"""Update rules in the shipped vectors: torch.optim and the singular values agree, and a wrong rule is reported."""

import numpy as np
import pytest

from engram_ref.ops.namespace import NUMPY
from engram_ref.ops.updates import NEWTON_SCHULZ
from engram_ref.oracle.bugs import namespace_with
from engram_ref.oracle.check.judge import judge
from engram_ref.oracle.encoding import decode_all
from engram_ref.oracle.run import Adapter, run
from engram_ref.oracle.vectors import read
from tests.ports import FLOAT32

VECTORS = read()
CASES = {case.name: case for case in VECTORS.cases
         if "update" in case.op or case.op in ("newton_schulz", "engram_steps", "forward_steps")}


def arguments_of(name):
    return decode_all(CASES[name].arguments, VECTORS.arrays, VECTORS.configurations)


def failed(name, answers):
    """The stages of the case that differ."""
    return [result.stage for result in judge(CASES[name], VECTORS, answers) if not result.ok]


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("adam_update")])
def test_adam_is_that_of_torch(name):
    torch = pytest.importorskip("torch")
    a = arguments_of(name)
    p = torch.tensor(a["parameter"], requires_grad=True)
    adam = torch.optim.AdamW([p], a["lr"], (a["beta1"], a["beta2"]), a["eps"], a["weight_decay"])
    state = {"step": torch.tensor(a["step"] - 1.0), "exp_avg": torch.tensor(a["mean"]),
             "exp_avg_sq": torch.tensor(a["square"])}
    adam.state[p] = state
    p.grad = torch.tensor(a["gradient"])
    adam.step()
    answers = {"parameter": p, "mean": state["exp_avg"], "square": state["exp_avg_sq"]}
    assert failed(name, {stage: x.detach().numpy() for stage, x in answers.items()}) == []


def through_singular_values(matrix, steps):
    """Apply the polynomial of each iteration to the singular values."""
    left, s, right = np.linalg.svd(matrix, full_matrices=False)
    s = s / np.linalg.norm(matrix, axis=(-2, -1))[..., None]
    for a, b, c in NEWTON_SCHULZ[steps]:
        s = a * s + b * s**3 + c * s**5
    return left @ (s[..., None] * right)


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("newton_schulz")])
def test_newton_schulz_is_a_polynomial_of_the_singular_values(name):
    assert failed(name, {"output": through_singular_values(**arguments_of(name))}) == []


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("muon_update")])
def test_muon_from_singular_values(name):
    a = arguments_of(name)
    new = a["gradient"] * (1 if a["form"] == "sum" else 1 - a["beta"])
    momentum = a["beta"] * a["momentum"] + new
    direction = through_singular_values(a["beta"] * momentum + new if a["nesterov"] else momentum, a["steps"])
    A, B = a["parameter"].shape[-2:]
    factor = {"classic": 0.2, "hybrid": 0.18}[a["steps"]] * max(A, B) ** 0.5
    factor = max(1, A / B) ** 0.5 if a["scale"] == "keller" else factor
    moved = a["parameter"] - a["lr"] * (a["weight_decay"] * a["parameter"] + factor * direction)
    assert failed(name, {"parameter": moved, "momentum": momentum}) == []


# Wrong rules

def answers_of(name, ops, adapter):
    """The answers of a namespace, in float32 with that adapter."""
    narrow = lambda array: array.astype(np.float32) if adapter is FLOAT32 and array.dtype.kind == "f" else array
    return {stage: narrow(array) for stage, array in run(CASES[name], VECTORS, ops, adapter, False).items()}


WRONG = {
    "adam-uncorrected": {"adam_update/first": ["parameter"]},
    "adam-table-dense": {"lazy_adam_update/rows": ["table", "mean", "square"], "engram_steps/demo-like": ["table"]},
    "muon-stack-as-matrix": {"newton_schulz/stack": ["output"], "engram_steps/demo-like": ["key_weight"]},
    "muon-decay-adjusted": {"muon_update/wide": ["parameter"]},
}
"""Bug of the catalogue -> the stages of each case that must differ."""


@pytest.mark.parametrize("adapter", [Adapter(), FLOAT32], ids=["float64", "float32"])
@pytest.mark.parametrize("title", WRONG)
def test_a_wrong_rule_is_reported(title, adapter):
    for name, stages in WRONG[title].items():
        assert failed(name, answers_of(name, NUMPY, adapter)) == []
        assert set(stages) <= set(failed(name, answers_of(name, namespace_with(title), adapter)))


def test_batches_of_the_steps_read_different_rows():
    rows = arguments_of("engram_steps/demo-like")["rows"]
    assert any(set(rows[0].ravel()) - set(later.ravel()) for later in rows[1:])
