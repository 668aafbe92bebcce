"""Bad values for the arguments of engram_ref.testing raise a one-line InputError."""

import numpy as np
import pytest

from engram_ref import InputError, preset
from engram_ref.testing import check_engram, check_rows, check_streaming, first_divergence, port_cases, random_config
from engram_ref.testing.checks import reduced
from scripts.builders.small_modules import random_parameters
from tests.ports_in_python import module_port, rows_port, rows_stream
from tests.unit.test_bad_inputs import BAD

TINY = preset("tiny")
SMALL = reduced(TINY, 1)
PARAMETERS = random_parameters(SMALL, np.random.default_rng(0))
INPUTS = {"parameters": PARAMETERS, "hidden": np.zeros((1, 2, 4, 16)), "rows": np.zeros((1, 2, SMALL.columns), int),
          "config": SMALL}

CALLS = {
    "check_rows": (check_rows, {"port": rows_port(TINY), "config": TINY, "layer_id": 1, "flat": False, "cases": 2,
                                "seed": 1, "to": np.asarray}),
    "check_engram": (check_engram, {"port": module_port(SMALL), "config": SMALL, "parameters": PARAMETERS,
                                    "layer_id": 1, "cases": 1, "seed": 1, "dtype": "float64", "to": np.asarray}),
    "check_streaming": (check_streaming, {
        "make_stream": rows_stream(TINY), "config": TINY, "parameters": None, "layer_id": 1, "schedules": 2, "seed": 1,
        "actions": ["feed"], "to": np.asarray}),
    "first_divergence": (first_divergence, {"model_a": "numpy", "model_b": "numpy", "inputs": INPUTS}),
    "port_cases": (lambda name, kit: port_cases(name, kit=kit), {"name": "gate", "kit": None}),
    "random_config": (lambda rng: random_config(rng), {"rng": np.random.default_rng(0)}),
}

GOOD = {
    ("check_rows", "layer_id"): {"None"}, ("check_rows", "seed"): {"0"}, ("check_rows", "to"): {"None"},
    ("check_engram", "layer_id"): {"None"}, ("check_engram", "seed"): {"0"}, ("check_engram", "to"): {"None"},
    ("check_engram", "parameters"): {"None"}, ("check_engram", "dtype"): {"None"},
    ("check_streaming", "layer_id"): {"None"}, ("check_streaming", "seed"): {"0"}, ("check_streaming", "to"): {"None"},
    ("check_streaming", "parameters"): {"None"}, ("check_streaming", "actions"): {"[]"},
    ("port_cases", "kit"): {"None"},
}
"""Bad values that are valid here."""

CALLABLE = {"class", "function"}
"""Values that are functions, so they fail as ports: see tests/unit/test_testing_checks.py."""

PORTS = {"port", "make_stream", "to", "model_a", "model_b"}


@pytest.mark.parametrize(("name", "argument"), [(name, argument) for name, (_, valid) in CALLS.items()
                                                for argument in valid])
def test_bad_values_raise_input_error(name, argument, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call, valid = CALLS[name]
    call(**valid)
    for bad, value in BAD.items():
        if bad in GOOD.get((name, argument), ()) or (bad == "True" and argument == "flat"):
            continue
        expected = AssertionError if argument in PORTS and bad in CALLABLE else InputError
        with pytest.raises(expected) as caught:
            call(**valid | {argument: value})
        assert expected is AssertionError or "\n" not in str(caught.value), bad


def test_good_values_are_accepted():
    for (name, argument), accepted in GOOD.items():
        call, valid = CALLS[name]
        for bad in accepted - {"{}"}:
            call(**valid | {argument: BAD[bad]})


@pytest.mark.parametrize("value", [3, lambda: 3, lambda batch: 1 / 0])
def test_make_stream_must_return_a_stream(value):
    with pytest.raises((InputError, AssertionError), match=r"make_stream|a function"):
        check_streaming(value, TINY)


def test_fixed_fields_of_a_random_configuration():
    config = random_config(np.random.default_rng(1), gate_form="sigmoid", conv_kernel=0, dead_barrier=True)
    assert (config.gate_form, config.conv_kernel, config.dead_barrier) == ("sigmoid", 0, True)
    with pytest.raises(InputError, match="gate_form"):
        random_config(np.random.default_rng(1), gate_form="tanh")


@pytest.mark.parametrize("fixed", [{"max_ngram": 2}, {"max_ngram": 5, "n_heads": 4}, {"layer_ids": (1, 2, 3)},
                                   {"vocab_size": 50}, {"layer_base": 1}], ids=str)
def test_configurations_with_fixed_fields(fixed):
    for number in range(20):
        config = random_config(np.random.default_rng(number), **fixed)
        assert all(getattr(config, name) == value for name, value in fixed.items())


def test_an_unknown_field_of_a_configuration():
    with pytest.raises(InputError, match=r"fixed: .*did you mean max_ngram"):
        random_config(np.random.default_rng(0), max_ngrams=3)
