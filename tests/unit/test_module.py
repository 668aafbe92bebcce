"""The whole Engram module against the recorded demo module, and against the slow version in every dialect."""

import importlib.util
import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from safetensors import safe_open

from engram_ref import Addressing, InputError, Trace, backends, engram, preset
from engram_ref.config import EngramConfig
from engram_ref.layout import layout
from engram_ref.model.engram_parameters import initialise
from engram_ref.model.parameters import from_engram_demo
from engram_ref.text.maps import load_map
from scripts.builders.small_modules import DEMO, DIALECTS, NO_CONV, SHORT, random_inputs, random_parameters, slow_engram
from tests.bounds import module_scale
from tests.compare import assert_close
from tests.conftest import DEMO_MODULE


@cache
def recorded():
    """The recorded module: configuration, parameters under the demo's names, and all arrays of the file."""
    with safe_open(DEMO_MODULE, "np") as file:
        known = json.loads(file.metadata()["config"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    prefix = "parameters."
    state_dict = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
    return recorded_config(known), state_dict, tensors


def recorded_config(known: dict) -> EngramConfig:
    return replace(preset("demo"), name="recorded", vocabulary=known["vocabulary"], layer_ids=tuple(known["layer_ids"]),
                   hidden_size=known["hidden"], n_branches=known["branches"], max_ngram=known["max_ngram"],
                   n_heads=known["heads"], row_width=known["dims_per_ngram"] // known["heads"],
                   table_sizes=tuple(known["table_sizes"]), seed=known["seed"], pad_id=known["pad_id"],
                   conv_kernel=known["kernel"], conv_dilation=known["max_ngram"], norm_eps=None)


def test_recorded_rows_are_reproduced():
    config, _, tensors = recorded()
    canonical = load_map(config.vocabulary)[tensors["input_ids"]]
    result = Addressing(config).rows(canonical, config.layer_ids[0])
    assert_close("rows", tensors["rows"], result, "exact")


def run_recorded(dtype):
    """Output, its error scale, and the number of terms of its longest sum."""
    config, state_dict, tensors = recorded()
    parameters = from_engram_demo({name: array.astype(dtype) for name, array in state_dict.items()}, config)
    trace = Trace()
    result = engram(parameters, tensors["hidden"].astype(dtype), tensors["rows"], config, trace=trace)
    exact = from_engram_demo(state_dict, config)
    stages = {key: trace[key].astype(np.float64) for key in trace}
    return result, module_scale(stages, exact, config, tensors["hidden"]), config.memory_width + 1


def test_recorded_output_is_reproduced():
    config, state_dict, tensors = recorded()
    result = engram(from_engram_demo(state_dict, config), tensors["hidden"], tensors["rows"], config)
    assert_close("output", tensors["output"], result, "golden")


def test_recorded_output_is_reproduced_within_rounding():
    result, scale, terms = run_recorded(np.float64)
    assert_close("output", recorded()[2]["output"], result, "f64", terms, scale)


def test_recorded_output_is_reproduced_in_float32():
    result, scale, terms = run_recorded(np.float32)
    assert_close("output", recorded()[2]["output"], result, "f32", terms, scale)


@pytest.mark.parametrize("shape", [(1, 0), (1, 1), (2, 5), (1, 12)], ids=lambda s: f"B={s[0]},T={s[1]}")
@pytest.mark.parametrize("dialect", DIALECTS)
def test_module_matches_the_slow_version(dialect, shape):
    config, rng = DIALECTS[dialect], np.random.default_rng(shape[1])
    parameters, (hidden, rows) = random_parameters(config, rng), random_inputs(config, rng, *shape)
    assert_module("output", parameters, hidden, rows, config)


def assert_module(name, parameters, hidden, rows, config, dead=None):
    trace = Trace()
    result = engram(parameters, hidden, rows, config, dead=dead, trace=trace)
    scale = module_scale(trace, parameters, config, hidden)
    expected = slow_engram(parameters, hidden, rows, config, dead)
    assert_close(name, expected, result, "f64", max(config.memory_width, config.hidden_size) + 1, scale)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_small_states_and_keys_distinguish_eps(dialect):
    """Use magnitudes near the square root of each eps, so that any two eps give different outputs."""
    config, rng = DIALECTS[dialect], np.random.default_rng(3)
    for magnitude in (1e-10, 1e-8, 1e-3):
        parameters, (hidden, rows) = random_parameters(config, rng), random_inputs(config, rng, 1, 2)
        for name in ("table", "key_bias", "value_bias"):
            if name in parameters:
                parameters[name] = (parameters[name].astype(np.float64) * magnitude).astype(parameters[name].dtype)
        assert_module(f"magnitude {magnitude}", parameters, hidden * magnitude, rows, config)


@pytest.mark.parametrize("seed", range(6))
def test_random_demo_configurations(seed):
    rng = np.random.default_rng(seed)
    orders, heads = int(rng.integers(2, 5)), int(rng.integers(1, 4))
    config = replace(DEMO, hidden_size=int(rng.integers(1, 12)), n_branches=int(rng.integers(1, 5)), max_ngram=orders,
                     n_heads=heads, table_sizes=tuple(map(int, rng.integers(2, 50, orders - 1))),
                     row_width=int(rng.integers(1, 6)), conv_kernel=int(rng.integers(1, 5)),
                     conv_dilation=int(rng.integers(1, 5)), seed=seed)
    parameters, (hidden, rows) = random_parameters(config, rng), random_inputs(config, rng, 2, 7)
    assert_module(config, parameters, hidden, rows, config)


@pytest.mark.parametrize("dialect", [DEMO, NO_CONV, SHORT], ids=lambda config: config.name)
def test_dead_positions_have_no_gated_value(dialect):
    rng = np.random.default_rng(4)
    parameters, (hidden, rows) = random_parameters(dialect, rng), random_inputs(dialect, rng, 2, 6)
    dead = np.array([[True, False, False, True, True, False], [False] * 5 + [True]])
    assert_module("output", parameters, hidden, rows, dialect, dead)
    trace = Trace()
    engram(parameters, hidden, rows, dialect, dead=dead, trace=trace)
    assert (trace["gate"][dead] == 0).all()
    assert (trace["gated"][dead] == 0).all()
    assert (trace["gate"][~dead] > 0).all()


def test_without_a_batch_axis_the_output_has_none():
    rng = np.random.default_rng(5)
    parameters, (hidden, rows) = random_parameters(DEMO, rng), random_inputs(DEMO, rng, 1, 4)
    dead = np.array([[False, True, False, False]])
    whole = engram(parameters, hidden, rows, DEMO, dead=dead)
    result = engram(parameters, hidden[0], rows[0], DEMO, dead=dead[0])
    assert_close("output", whole[0], result, "exact")


@pytest.mark.parametrize("check", [True, False], ids=["checked", "unchecked"])
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("backend", [name for name in backends.BACKENDS if importlib.util.find_spec(name)])
def test_flat_rows_give_the_same_output(backend, dialect, check):
    ops, config, rng = backends.load(backend), DIALECTS[dialect], np.random.default_rng(7)
    layer = config.layer_ids[0]
    parameters = initialise(config, layer, rng)
    hidden, rows = random_inputs(config, rng, dtype=parameters["key_weight"].dtype)
    if hasattr(ops, "tensors"):
        parameters, hidden, rows = ops.tensors(parameters), ops.as_array("hidden", hidden), ops.as_array("rows", rows)
    flat = rows + ops.constant(layout(config, layer).offsets, rows)
    result = [ops.to_numpy(engram(parameters, h, r, config, flat_rows=is_flat, ops=ops, check=check))
              for h, r, is_flat in ((hidden, rows, False), (hidden, flat, True), (hidden[0], flat[0], True))]
    assert_close("flat", result[0], result[1], "exact")
    assert_close("one", result[0][0], result[2], "model")


def test_flat_and_column_rows_of_addressing_agree():
    config, rng = preset("tiny"), np.random.default_rng(7)
    addressing, parameters = Addressing(config), initialise(config, 2, rng)
    hidden, ids = rng.standard_normal((2, 3, 4, 16)), np.array([[1, 2, 3], [4, 5, 6]])
    result = [engram(parameters, hidden, addressing.rows(ids, 2, flat=flat), config, layer_id=2, flat_rows=flat)
              for flat in (False, True)]
    assert_close("flat", *result, "exact")


def test_a_dead_mask_may_be_a_list():
    rng = np.random.default_rng(5)
    parameters, (hidden, rows) = random_parameters(DEMO, rng), random_inputs(DEMO, rng, 1, 2)
    expected = engram(parameters, hidden, rows, DEMO, dead=np.array([[True, False]]))
    assert_close("output", expected, engram(parameters, hidden, rows, DEMO, dead=[[True, False]]), "exact")


def test_with_zero_convolution_weights_the_output_is_the_gated_value():
    rng = np.random.default_rng(6)
    parameters, (hidden, rows) = random_parameters(DEMO, rng), random_inputs(DEMO, rng)
    parameters["conv_weight"] = np.zeros_like(parameters["conv_weight"])
    trace = Trace()
    assert_close("output", engram(parameters, hidden, rows, DEMO, trace=trace), trace["gated"], "exact")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_float32_stays_float32_at_every_stage(dialect):
    config, rng = DIALECTS[dialect], np.random.default_rng(7)
    parameters = random_parameters(config, rng, dtype=np.float32)
    hidden, rows = random_inputs(config, rng, dtype=np.float32)
    trace = Trace()
    assert engram(parameters, hidden, rows, config, trace=trace).dtype == np.float32
    assert {trace[key].dtype.name for key in trace} == {"float32"}


@pytest.mark.parametrize("hidden_dtype", ["float32", "float64"])
@pytest.mark.parametrize("parameter_dtype", ["float32", "float64"])
def test_output_has_the_dtype_of_hidden_and_mixed_dtypes_raise(hidden_dtype, parameter_dtype):
    rng = np.random.default_rng(8)
    parameters = random_parameters(DEMO, rng, dtype=parameter_dtype)
    hidden, rows = random_inputs(DEMO, rng, dtype=hidden_dtype)
    try:
        result = engram(parameters, hidden, rows, DEMO)
    except InputError as error:
        assert hidden_dtype != parameter_dtype, error
        assert "dtype" in str(error)
    else:
        assert result.dtype == hidden_dtype


def test_arguments_are_not_modified():
    rng = np.random.default_rng(9)
    parameters, (hidden, rows) = random_parameters(DEMO, rng), random_inputs(DEMO, rng)
    for array in (*parameters.values(), hidden, rows):
        array.setflags(write=False)
    engram(parameters, hidden, rows, DEMO)


ONE_COLUMN = replace(DEMO, name="one-column", layer_ids=(1, 4), max_ngram=2, n_heads=1, table_sizes=(11,),
                     row_multiple=64, conv_dilation=2)


@pytest.mark.parametrize("layer", ONE_COLUMN.layer_ids)
@pytest.mark.parametrize("given", [True, False], ids=["given", "omitted"])
def test_every_valid_row_is_accepted_for_ambiguous_layers(layer, given):
    """With one column and padded tables, both layers have equal offsets and shapes, but primes 11 and 13."""
    rng, last = np.random.default_rng(1), int(Addressing(ONE_COLUMN).primes[layer][0]) - 1
    parameters = random_parameters(ONE_COLUMN, rng, layer)
    hidden, _ = random_inputs(ONE_COLUMN, rng, 1, 1)
    rows = np.full((1, 1, 1), last)
    assert engram(parameters, hidden, rows, ONE_COLUMN, layer_id=layer if given else None).shape == hidden.shape


def test_layer_id_determines_the_valid_rows_and_parameters():
    rng = np.random.default_rng(1)
    parameters, (hidden, _) = random_parameters(ONE_COLUMN, rng, 1), random_inputs(ONE_COLUMN, rng, 1, 1)
    rows = np.full((1, 1, 1), 11)
    engram(parameters, hidden, rows, ONE_COLUMN)
    with pytest.raises(InputError, match=r"rows: expected values in \[0, 11\)"):
        engram(parameters, hidden, rows, ONE_COLUMN, layer_id=1)
    with pytest.raises(InputError, match=r"rows: expected values in \[0, 64\)"):
        engram(parameters, hidden, rows + 53, ONE_COLUMN)
    with pytest.raises(InputError, match="layer: expected one of 1, 4"):
        engram(parameters, hidden, rows, ONE_COLUMN, layer_id=2)
