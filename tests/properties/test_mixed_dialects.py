"""Random configurations: every field is drawn independently, and all backends must give the same answers.

Integers are compared with the slow implementation, memories with the definition bit for bit, and all later stages with
an interval around the float64 answer, derived in tests/enclosures.py. Backends that are not installed are skipped.
"""

from importlib.util import find_spec

import ml_dtypes
import numpy as np
import pytest

from engram_ref import Addressing, EngramState, Trace, engram, ops, residual
from engram_ref.backends import load
from engram_ref.config import CHOICES
from engram_ref.testing.draw import random_config
from tests.compare import assert_close
from tests.enclosures import assert_inside
from tests.mixed_dialects import CASES, SEED, module_case, reproducible, rows_case

BACKENDS = [pytest.param(name, marks=pytest.mark.skipif(find_spec(name) is None, reason=f"{name} is not installed"))
            for name in ("numpy", "numba", "torch")]
EVERY_BACKEND = pytest.mark.parametrize("backend", BACKENDS)
EVERY_CASE = pytest.mark.parametrize("number", range(CASES), ids=lambda number: f"seed {SEED} case {number}")


def test_every_field_is_drawn():
    drawn = [vars(random_config(np.random.default_rng(number))) for number in range(100)]
    assert [field for field in drawn[0] if len({config[field] for config in drawn}) == 1] == [
        "name", "source", "vocabulary"]                                      # rows_case also draws vocabularies


@pytest.fixture
def paths(number, backend, monkeypatch):
    """In odd cases, small arrays use the code for large ones: threads, blocks and non-temporal stores."""
    if backend == "numba" and number % 2:
        from engram_ref.backends.numba import _buffers, _threads, namespace

        monkeypatch.setattr(_threads, "MIN_PARALLEL_BYTES", 0)
        monkeypatch.setattr(_buffers, "STREAM_ABOVE", 0)
        monkeypatch.setattr(namespace, "GEMM_TOKENS", 5)


def converter(backend):
    """The function that converts a NumPy array to an array of the backend."""
    return tensor if backend == "torch" else lambda array: array


def tensor(array):
    """Convert to a tensor, with the same strides if torch supports them."""
    import torch

    if not array.flags.writeable or min(array.strides, default=0) < 0:       # torch has no such tensors
        array = array.copy()
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


@EVERY_BACKEND
@EVERY_CASE
def test_rows_of_mixed_dialects(backend, number, paths):
    with reproducible(number):
        check_rows(rows_case(number), load(backend), converter(backend))


def check_rows(case, namespace, convert):
    """Rows equal the slow implementation's: whole, in chunks, one token at a time, and from raw ids."""
    addressing = Addressing(case.config, case.vocabulary, ops=namespace)
    raw, ids, history = (convert(array) for array in (case.raw, case.ids, case.history))
    for flat, expected in ((False, case.expected), (True, case.flat)):
        found = addressing.rows_of_tokens(raw, history, flat)
        assert_close("rows_of_tokens", expected, namespace.to_numpy(found), "exact")
        for layer, rows in zip(case.config.layer_ids, expected, strict=True):
            assert_close("rows", rows, namespace.to_numpy(addressing.rows(ids, layer, history, flat)), "exact")
    check_streams(case, namespace, convert, addressing, ids, history)


def check_streams(case, namespace, convert, addressing, ids, history):
    layer, expected = case.config.layer_ids[-1], case.expected[-1]
    step, latest = addressing.stepper(layer), case.history
    for t in range(case.ids.shape[1]):
        found = step(*(convert(np.ascontiguousarray(array)) for array in (case.ids[:, t], latest)))
        assert_close(f"stepper at {t}", expected[:, t], namespace.to_numpy(found), "exact")
        latest = ops.next_history(latest, case.ids[:, t : t + 1])
    for part in case.cuts:
        found = namespace.to_numpy(addressing.rows(ids[:, part], layer, history))
        assert_close(f"rows of {part}", expected[:, part], found, "exact")
        history = addressing.advance(history, ids[:, part])
    assert_close("history", latest, namespace.to_numpy(history), "exact")


@EVERY_BACKEND
@EVERY_CASE
def test_modules_of_mixed_dialects(backend, number, paths):
    with reproducible(number):
        check_module(module_case(number), load(backend), converter(backend))


@EVERY_BACKEND
@pytest.mark.parametrize("number", range(8))
@pytest.mark.parametrize("form", CHOICES["gate_form"])
def test_every_gate_form(form, backend, number, paths):
    check_module(module_case(number, gate_form=form), load(backend), converter(backend))


def check_module(case, namespace, convert):
    """Compare runs with and without a trace, in one call and in chunks; no input is modified."""
    # The memory, which is exact.
    before = {name: array.tobytes() for name, array in case.arrays.items()}
    parameters = {name: convert(array) for name, array in case.parameters.items()}
    memory = namespace.gather_decode(parameters, convert(case.arrays["rows"]), case.config, case.memory.dtype)
    assert_close("memory", case.memory, namespace.to_numpy(memory), "exact")
    # Every stage of a traced run.
    trace, whole = Trace(), [slice(None)]
    traced = run(case, namespace, convert, parameters, whole, trace)
    assert_close("traced memory", case.memory, trace["memory"], "exact")
    for stage in trace:
        if stage != "memory":
            assert_inside(f"traced {stage}", case.stages[stage], trace[stage], case.memory.dtype)
    # Output and taps of every kind of run.
    found = {"traced": traced, "fused": run(case, namespace, convert, parameters, whole),
             f"fused, in {len(case.cuts)} chunks": run(case, namespace, convert, parameters, case.cuts)}
    for how, (output, taps) in found.items():
        assert_inside(f"{how} output", case.stages["output"], output, case.memory.dtype)
        assert_inside(f"{how} taps", case.stages["taps"], taps, case.memory.dtype)
    check_residual(case, namespace, convert, traced[0])
    assert before == {name: array.tobytes() for name, array in case.arrays.items()}


def run(case, namespace, convert, parameters, cuts, trace=None):
    """The module's output over the chunks and its final taps, as NumPy arrays."""
    arrays, found = case.arrays, []
    hidden, rows, dead = (None if array is None else convert(array)
                          for array in (arrays["hidden"], arrays["rows"], arrays.get("dead")))
    state = EngramState(convert(arrays["taps"]))
    for part in cuts:
        closed = None if dead is None else dead[:, part]
        found.append(namespace.to_numpy(engram(parameters, hidden[:, part], rows[:, part], case.config, state=state,
                                               dead=closed, ops=namespace, trace=trace)))
    return np.concatenate(found, axis=1), namespace.to_numpy(state.taps)


def check_residual(case, namespace, convert, update):
    """The residual of equal inputs is equal bit for bit."""
    hidden = case.arrays["hidden"]
    expected = residual(hidden, update, case.config)
    found = residual(convert(hidden), convert(update), case.config, ops=namespace)
    assert_close("residual", expected, namespace.to_numpy(found), "exact")
