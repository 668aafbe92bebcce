"""Public functions convert and check each array once per call, and tables only on request."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from engram_ref import engram, ops, start_state
from engram_ref.model import parameters as files
from engram_ref.model.engram_parameters import initialise
from engram_ref.model.generate import generate
from engram_ref.model.state import DecodeState
from engram_ref.model.transformer import forward
from scripts.builders.small_models import FULL, random_ids, random_model
from scripts.builders.small_modules import DEMO, V41, random_inputs

COUNTED = ("as_array", "as_int64", "first_non_finite", "place", "append")


class Counting:
    """A namespace that counts the calls of some ops, per named array."""

    def __init__(self, **arrays):
        self.arrays, self.calls = arrays, {name: Counter() for name in COUNTED}
        self.ops = SimpleNamespace(**{name: getattr(ops, name) for name in ops.__all__}
                                   | {name: self.counted(name) for name in COUNTED})

    def counted(self, op):
        def call(*arguments):
            self.calls[op].update(name for name, array in self.arrays.items() if any(a is array for a in arguments))
            self.calls[op]["all"] += 1
            return getattr(ops, op)(*arguments)
        return call

    @property
    def converted(self):
        return {name: self.calls["as_array"][name] + self.calls["as_int64"][name] for name in self.arrays}

    @property
    def scanned(self):
        return {name for name in self.arrays if self.calls["first_non_finite"][name] == 1}

    def assert_at_most_one_scan(self):
        assert max(self.calls["first_non_finite"][name] for name in self.arrays) == 1


def floats(parameters):
    """Names of the weights that must be finite: all but integer arrays and tables."""
    return {name for name, array in parameters.items()
            if array.dtype.kind == "f" and not name.endswith(("table", "table_codes", "table_scales"))}


@pytest.mark.parametrize("check", [True, False], ids=["checked", "unchecked"])
@pytest.mark.parametrize("config", [DEMO, V41], ids=lambda config: config.name)
def test_engram_checks_each_array_once(config, check):
    rng, dtype = np.random.default_rng(1), np.float32 if config is V41 else np.float64
    parameters = initialise(config, config.layer_ids[0], rng, dtype)
    hidden, rows = random_inputs(config, rng, 2, 3, dtype)
    state, dead = start_state(config, 2, dtype), np.zeros((2, 3), dtype=bool)
    counting = Counting(**parameters, hidden=hidden, rows=rows, dead=dead, taps=state.taps)
    engram(parameters, hidden, rows, config, state=state, dead=dead, ops=counting.ops, check=check)
    assert set(counting.converted.values()) == {1}
    if check:
        counting.assert_at_most_one_scan()
    scans = floats(parameters) | {"hidden"} if check else set()
    assert scans <= counting.scanned <= scans | {"column_offsets"}


@pytest.mark.parametrize("check_values", [True, False], ids=["checked", "unchecked"])
def test_forward_checks_each_array_once(check_values):
    parameters, ids, dead = random_model(FULL), random_ids(FULL), np.zeros((2, 7), dtype=bool)
    state = DecodeState.start(2)
    forward(parameters, ids, FULL, state=state)
    counting = Counting(**parameters, ids=ids, dead=dead, **{f"cache {n}": c for n, c in state.caches.items()})
    forward(parameters, ids, FULL, state=state, dead=dead, ops=counting.ops, check_values=check_values)
    assert set(counting.converted.values()) == {1}
    if check_values:
        counting.assert_at_most_one_scan()
    scans = floats(parameters) if check_values else set()
    assert scans <= counting.scanned <= scans | {name for name in parameters if name.endswith("column_offsets")}


@pytest.mark.parametrize("new_tokens", [0, 1, 5])
def test_generate_checks_parameters_once(new_tokens):
    parameters, prompt = random_model(FULL), random_ids(FULL)
    counting = Counting(**parameters, prompt=prompt)
    generate(parameters, prompt, FULL, new_tokens, ops=counting.ops)
    assert set(counting.converted.values()) == {1}
    counting.assert_at_most_one_scan()
    assert floats(parameters) <= counting.scanned


@pytest.mark.parametrize("tables", [False, True])
def test_check_scans_tables_on_request(tables):
    parameters = random_model(FULL)
    counting = Counting(**parameters)
    files.check(parameters, FULL, counting.ops, tables=tables)
    assert set(counting.converted.values()) == {1}
    counting.assert_at_most_one_scan()
    stored = {name for name in parameters if name.endswith(".table")}
    assert len(stored) == 2 and floats(parameters) <= counting.scanned
    assert stored & counting.scanned == (stored if tables else set())


def test_forward_without_a_state_writes_no_caches():
    counting = Counting()
    forward(random_model(FULL), random_ids(FULL), FULL, ops=counting.ops)
    assert not counting.calls["place"] and not counting.calls["append"]
    forward(random_model(FULL), random_ids(FULL), FULL, state=DecodeState.start(2), ops=counting.ops)
    assert counting.calls["place"]["all"] == 3 * 2 + 2 + 1, "latents of three layers, values of two modules, ids"


def test_counting_detects_a_second_scan():
    array = np.zeros(3)
    counting = Counting(array=array)
    for _ in range(2):
        counting.ops.first_non_finite(array)
    assert not counting.scanned
    with pytest.raises(AssertionError):
        counting.assert_at_most_one_scan()
