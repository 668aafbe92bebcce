"""check_rows and check_engram: right ports pass in every precision, known bugs and unusable answers do not."""

from importlib.util import find_spec

import ml_dtypes
import numpy as np
import pytest

from engram_ref import InputError, preset
from engram_ref.backends import load
from engram_ref.oracle.bugs import BUGS
from engram_ref.oracle.check.diagnose import Diagnosis
from engram_ref.testing import answers, check_engram, check_rows, random_config
from engram_ref.testing.checks import reduced
from scripts.builders.small_modules import random_parameters
from tests.ports_in_python import module_port, rows_port

TINY, V41 = preset("tiny"), preset("deepseek-v4.1-flash")
PRESETS = ("tiny", "deepseek-v4.1-flash", "qwen4exp-ple")
BACKENDS = [pytest.param(name, marks=pytest.mark.skipif(find_spec(name) is None, reason=f"{name} is not installed"))
            for name in ("numpy", "numba", "torch")]

ROW_BUGS = {"window-late": "tiny", "multipliers-oldest-first": "tiny", "trunc-mod": "mixed", "column-order": "tiny",
            "products-in-float64": "tiny", "pad-zero": "tiny", "layer-base": "demo",
            "dead-no-latch": "deepseek-v4.1-flash", "dead-by-position": "deepseek-v4.1-flash",
            "no-eos-reset-in-qwen": "qwen4exp-ple", "eos-hides-itself": "qwen4exp-ple"}
"""Bug of the catalogue -> a configuration for which it matters."""

MODULE_BUGS = {"eps-1e-5": "deepseek-v4.1-flash", "clamp-missing": "demo", "joint-norm": "demo",
               "scale-missing": "demo", "kv-swap": "tiny", "conv-state-reversed": "demo", "taps-reversed": "demo",
               "dilation-1": "demo", "zero-centred-gain": "demo", "gain-not-zero-centred": "qwen4exp-ple",
               "dead-gate-not-zero": "deepseek-v4.1-flash", "signed-sqrt-in-paper": "paper", "no-signed-sqrt": "demo",
               "conv-norm-shared": "tiny"}


def configured(name):
    """A preset, or a configuration with explicit multipliers, some of them negative."""
    drawn = map(random_config, map(np.random.default_rng, range(99)))
    return next(config for config in drawn if config.multipliers) if name == "mixed" else preset(name)


def tensor(array):
    """Convert an array of any dtype to torch."""
    return load("torch").tensors({"array": array})["array"]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", PRESETS)
def test_right_rows_pass(name, backend):
    to = tensor if backend == "torch" else None
    check_rows(rows_port(preset(name), namespace=load(backend)), name, to=to)


@pytest.mark.parametrize("number", range(20))
def test_right_rows_of_random_configurations_pass(number):
    config = random_config(np.random.default_rng(number))
    check_rows(rows_port(config), config, cases=10, seed=number)


@pytest.mark.parametrize("bug", ROW_BUGS)
def test_bugs_in_rows_are_named(bug):
    config = configured(ROW_BUGS[bug])
    with pytest.raises(AssertionError, match=f"`{bug}`"):
        check_rows(rows_port(config, bug), config)


def test_flat_rows():
    port, offsets = rows_port(TINY), np.arange(TINY.columns)
    with pytest.raises(AssertionError, match="stage rows"):
        check_rows(port, TINY, flat=True)
    with pytest.raises(AssertionError, match="stage rows"):
        check_rows(lambda ids, history: port(ids, history) + offsets, TINY)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", PRESETS)
def test_right_modules_pass(name, backend):
    to = tensor if backend == "torch" else None
    check_engram(module_port(preset(name), namespace=load(backend)), name, to=to, cases=4)


@pytest.mark.parametrize("traced", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_right_modules_pass_in_both_precisions(dtype, traced):
    check_engram(module_port(TINY, traced=traced), TINY, dtype=dtype, cases=6)


def test_a_module_that_stores_its_output_in_bfloat16_passes():
    port = module_port(V41)
    check_engram(lambda *arguments: port(*arguments).astype(ml_dtypes.bfloat16), V41, cases=6)


@pytest.mark.parametrize("bug", MODULE_BUGS)
def test_bugs_in_the_module_are_caught(bug, monkeypatch):
    monkeypatch.setattr(answers, "diagnose", lambda *_: Diagnosis((), ()))          # which takes most of the time
    config = preset(MODULE_BUGS[bug])
    with pytest.raises(AssertionError, match="stage "):
        check_engram(module_port(config, bug), config)


@pytest.mark.parametrize("bug, name", {"joint-norm": "tiny", "e8m0-shift": "deepseek-v4.1-flash"}.items())
def test_bugs_in_a_traced_module_are_named(bug, name):
    with pytest.raises(AssertionError, match=f"`{bug}`"):
        check_engram(module_port(preset(name), bug, traced=True), name, cases=6)


def test_given_parameters_are_used():
    config = reduced(TINY, 1)
    parameters, seen = random_parameters(config, np.random.default_rng(0)), []
    port = module_port(TINY)
    check_engram(lambda p, *rest: seen.append(p["key_weight"]) or port(p, *rest), config, parameters, cases=3)
    assert len(seen) == 3 and all(np.array_equal(array, parameters["key_weight"]) for array in seen)


def test_a_port_may_change_its_inputs():
    port = rows_port(TINY)

    def careless(ids, history):
        rows = port(ids, history)
        ids[:], history[:] = 0, 0
        return rows

    check_rows(careless, TINY)
    with pytest.raises(AssertionError) as caught:
        check_rows(lambda ids, history: careless(ids, history) + 1, TINY, cases=10)
    assert "not deterministic" not in str(caught.value)


def test_a_port_may_return_the_same_buffer_again():
    buffer, port = np.zeros(3 * 63 * TINY.columns, np.int64), rows_port(TINY)

    def reusing(ids, history):
        rows = port(ids, history)
        answer = buffer[: rows.size].reshape(rows.shape)
        answer[:] = rows
        return answer

    check_rows(reusing, TINY)


def test_errors_of_a_conversion_are_not_errors_of_the_port():
    with pytest.raises(AssertionError, match="the function `to` raised ZeroDivisionError"):
        check_rows(RIGHT, TINY, to=lambda array: 1 / 0)


class OnlyDlpack:
    """An array that offers nothing but DLPack, as arrays of JAX on a device do."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **named):
        return self.array.__dlpack__(**named)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


class OnlyArray:
    """An array that offers nothing but __array__."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


@pytest.mark.parametrize("kind", [OnlyDlpack, OnlyArray])
def test_arrays_of_other_libraries(kind):
    port = rows_port(TINY)
    check_rows(lambda ids, history: kind(port(ids.array, history.array)), TINY, to=kind)


RIGHT = rows_port(TINY)
COUNT = iter(range(10**9))
ANSWERS = {
    "None": (lambda ids, history: None, "must return rows, .* it returned None"),
    "two values": (lambda ids, history: (RIGHT(ids, history), 1), "it returned 2 values"),
    "an empty dictionary": (lambda ids, history: {}, "no stage named 'rows'\ninputs: ids "),
    "other stages only": (lambda ids, history: {"primes": np.arange(8)}, "no stage named 'rows'"),
    "no values": (lambda ids, history: (), "it returned 0 values"),
    "text": (lambda ids, history: "rows", "rows of the port"),
    "an object": (lambda ids, history: object(), "rows of the port"),
    "an unknown stage": (lambda ids, history: {"rows": RIGHT(ids, history), "row": 1}, "a stage named 'row'"),
    "an exception": (lambda ids, history: 1 / 0, "raised ZeroDivisionError: division by zero"),
    "a wrong signature": (lambda ids: ids, "raised TypeError"),
    "wrong shape": (lambda ids, history: RIGHT(ids, history)[..., :3], r"expected shape \[.*, 8\], found \[.*, 3\]"),
    "floats": (lambda ids, history: RIGHT(ids, history).astype(float), "expected dtype integer, found float64"),
    "all zeros": (lambda ids, history: np.zeros_like(RIGHT(ids, history)), "stage rows"),
    "random rows": (lambda ids, history: RIGHT(ids, history) * 0 + next(COUNT), "not deterministic"),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_unusable_rows(answer):
    port, message = ANSWERS[answer]
    with pytest.raises(AssertionError, match=message):
        check_rows(port, TINY, cases=10)


MODULE = module_port(TINY)
OUTPUTS = {
    "NaN": (lambda *a: MODULE(*a)[0] * np.nan, "stage output"),
    "zeros": (lambda *a: MODULE(*a)[0] * 0, "stage output"),
    "a copy of the input": (lambda p, hidden, *a: hidden, "stage output"),
    "integers": (lambda *a: MODULE(*a)[0].astype(int), "expected dtype float, found int64"),
    "other taps": (lambda p, h, r, taps, d: (MODULE(p, h, r, taps, d)[0], taps), "stage taps"),
}


@pytest.mark.parametrize("answer", OUTPUTS)
def test_unusable_outputs(answer):
    port, message = OUTPUTS[answer]
    with pytest.raises(AssertionError, match=message):
        check_engram(port, TINY, cases=6)


BAD = {"port": (3, "a function"), "config": (3, "EngramConfig"), "layer_id": (7, "layers of tiny"),
       "cases": (0, "at least 1"), "seed": (-1, "at least 0")}


@pytest.mark.parametrize("check", [check_rows, check_engram])
@pytest.mark.parametrize("argument", BAD)
def test_bad_arguments(argument, check):
    value, message = BAD[argument]
    with pytest.raises(InputError, match=message):
        check(**{"port": RIGHT, "config": TINY} | {argument: value})
    with pytest.raises(InputError, match="preset"):
        check(RIGHT, "tny")


def test_bad_parameters():
    with pytest.raises(InputError, match="parameters"):
        check_engram(MODULE, TINY, {})
    with pytest.raises(InputError, match="dtype"):
        check_engram(MODULE, TINY, dtype="int8")


def test_the_named_bugs_exist():
    assert {*ROW_BUGS, *MODULE_BUGS} <= {*BUGS}
