"""first_divergence: the first stage, in order of computation, at which two models differ."""

from importlib.util import find_spec

import numpy as np
import pytest

from engram_ref import InputError, Trace, engram, ops, preset
from engram_ref.backends import load, replace
from engram_ref.oracle.bugs import namespace_with
from engram_ref.testing import first_divergence
from engram_ref.testing.checks import reduced
from engram_ref.testing.divergence import traced_case
from scripts.builders.small_models import FULL, random_model
from scripts.builders.small_modules import random_parameters

CONFIG = reduced(preset("demo"), 1)
RNG = np.random.default_rng(0)
INPUTS = {"parameters": random_parameters(CONFIG, RNG), "hidden": RNG.standard_normal((2, 5, 4, 16)),
          "rows": RNG.integers(0, 23, (2, 5, CONFIG.columns)), "config": CONFIG}
MODEL_INPUTS = {"parameters": random_model(FULL), "ids": np.array([[3, 1, 4, 1, 5]]), "config": FULL}
BACKENDS = [pytest.param(name, marks=pytest.mark.skipif(find_spec(name) is None, reason=f"{name} is not installed"))
            for name in ("numba", "torch")]


def in_float32(parameters, hidden, rows, config):
    """The stages of the definition in float32."""
    trace = Trace()
    single = {name: x.astype(np.float32) if x.dtype == np.float64 else x for name, x in parameters.items()}
    engram(single, hidden.astype(np.float32), rows, config, trace=trace)
    return dict(trace.arrays)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("inputs", [INPUTS, MODEL_INPUTS], ids=["module", "model"])
def test_backends_agree(inputs, backend):
    assert first_divergence("numpy", backend, inputs) is None


def test_a_model_in_float32_agrees():
    assert first_divergence(in_float32, "numpy", INPUTS) is None


@pytest.mark.parametrize("bug, stage", {"kv-swap": "key", "joint-norm": "query_norm", "no-signed-sqrt": "gate",
                                        "scale-missing": "score", "taps-reversed": "conv"}.items())
def test_the_first_stage_is_found(bug, stage):
    for pair in (("numpy", namespace_with(bug)), (namespace_with(bug), in_float32)):
        found = first_divergence(*pair, INPUTS)
        assert found.stage == stage and f"stage {stage}" in str(found)


def test_the_first_stage_of_a_model_is_found():
    found = first_divergence(ops, namespace_with("sinkhorn-10"), MODEL_INPUTS)
    assert found.stage == "layers.0.attn_branches.branch_residual"


def test_stages_of_one_model_only_are_skipped():
    gate = lambda **inputs: {"gate": in_float32(**inputs)["gate"]}
    assert first_divergence(gate, ops, INPUTS) is None
    assert first_divergence(lambda **inputs: {"gate": gate(**inputs)["gate"] + 1}, ops, INPUTS).stage == "gate"


def test_other_shapes_and_nan_differ():
    short = lambda **inputs: {"gate": in_float32(**inputs)["gate"][:1]}
    assert "shape" in str(first_divergence(short, ops, INPUTS))
    nan = lambda **inputs: {"gate": in_float32(**inputs)["gate"] * np.nan}
    assert first_divergence(nan, ops, INPUTS).stage == "gate"


def test_a_replaced_op_is_found():
    mine = replace(load("numpy"), sigmoid=lambda x: ops.sigmoid(x) * (1 + 1e-9))
    assert first_divergence("numpy", mine, INPUTS).stage == "gate"


def test_a_function_that_changes_its_inputs():
    def careless(**inputs):
        inputs["hidden"].fill(0)
        return in_float32(**inputs)

    assert first_divergence(careless, "numpy", INPUTS).stage == "query_norm"
    assert INPUTS["hidden"].any()


@pytest.mark.parametrize("name, inputs", [("hidden", INPUTS), ("rows", INPUTS), ("ids", MODEL_INPUTS)])
def test_lists_are_inputs(name, inputs):
    assert first_divergence("numpy", "numpy", inputs | {name: inputs[name].tolist()}) is None


def test_bad_arguments():
    for models, inputs, message in ((("numpi", "numpy"), INPUTS, "did you mean numpy"), ((3, "numpy"), INPUTS, "ops"),
                                    (("numpy", "numpy"), 3, "inputs"), (("numpy", "numpy"), {}, "parameters"),
                                    (("numpy", "numpy"), INPUTS | {"state": None}, "inputs")):
        with pytest.raises(InputError, match=message):
            first_divergence(*models, inputs)
    for answer in ({}, {"Gate": np.zeros(3)}, np.zeros((2, 5, 128))):
        with pytest.raises(AssertionError, match="no stage of engram in common; its stages are memory, key"):
            first_divergence(lambda answer=answer, **inputs: answer, "numpy", INPUTS)
    with pytest.raises(InputError, match="hidden: expected batch and token axes"):
        first_divergence("numpy", "numpy", INPUTS | {"hidden": 3})
    with pytest.raises(AssertionError, match="the port raised"):
        first_divergence(lambda **inputs: 1 / 0, "numpy", INPUTS)
    assert traced_case(INPUTS).op == "engram" and traced_case(MODEL_INPUTS).op == "forward"
