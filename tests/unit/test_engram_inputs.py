"""Invalid arguments of `engram`: an error that names the argument, before any work."""

from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest

from engram_ref import Addressing, InputError, Trace, engram, preset
from scripts.builders.small_modules import DEMO, QWEN, V41, random_inputs, random_parameters

FLAT = Addressing(DEMO).offsets[1]


def case(config=DEMO, dtype=np.float64):
    rng = np.random.default_rng(1)
    hidden, rows = random_inputs(config, rng, 2, 3, dtype)
    return {"parameters": random_parameters(config, rng, dtype=dtype), "hidden": hidden, "rows": rows, "config": config}


def with_value(array, index, value):
    array = array.copy()
    array[index] = value
    return array


SHAPES_AND_DTYPES = {
    "hidden of the wrong width": ("hidden", lambda a: a[..., :9], r"hidden: expected shape \[B, T, 3, 10\]"),
    "hidden without branches": ("hidden", lambda a: a[:, :2, 0], "hidden"),
    "hidden as a vector": ("hidden", lambda a: a[0, 0, 0], "hidden"),
    "hidden as a number": ("hidden", lambda a: 1.0, "hidden"),
    "hidden with an extra axis": ("hidden", lambda a: a[None], "hidden"),
    "hidden as int64": ("hidden", lambda a: a.astype(np.int64), "hidden.*dtype float32 or float64"),
    "hidden as float16": ("hidden", lambda a: a.astype(np.float16), "float16"),
    "hidden as bfloat16": ("hidden", lambda a: a.astype(ml_dtypes.bfloat16), "bfloat16"),
    "hidden as complex": ("hidden", lambda a: a + 0j, "complex128"),
    "rows of the wrong length": ("rows", lambda a: a[:, :2], r"rows: expected int64, shape \[2, 3, 4\]"),
    "rows of the wrong batch size": ("rows", lambda a: a[:1], "rows"),
    "rows with a missing column": ("rows", lambda a: a[..., :3], "rows"),
    "rows without a batch": ("rows", lambda a: a[0], "rows"),
    "rows as floats": ("rows", lambda a: a.astype(float), "rows.*int64"),
    "rows beyond int64": ("rows", lambda a: a.astype(np.uint64) + np.uint64(2**63), r"rows: expected integers below"),
    "rows as bool": ("rows", lambda a: a > 0, "rows.*int64"),
    "dead as int64": ("dead", lambda _: np.zeros((2, 3), dtype=np.int64), r"dead: expected bool \[2, 3\]"),
    "dead of the wrong length": ("dead", lambda _: np.zeros((2, 4), dtype=bool), "dead"),
    "dead without a batch": ("dead", lambda _: np.zeros(3, dtype=bool), "dead"),
}
VALUES = {
    "a row below zero": ("rows", lambda a: with_value(a, (1, 2, 0), -1), r"found -1 at position \(1, 2, 0\)"),
    "a row past its column": ("rows", lambda a: with_value(a, (0, 1, 3), 37), r"\[0, 37\) in column 3, found 37"),
    "flat rows": ("rows", lambda a: a + FLAT, "without column offsets"),
    "hidden with NaN": ("hidden", lambda a: with_value(a, (1, 0, 2, 4), np.nan), r"nan at position \(1, 0, 2, 4\)"),
    "hidden with infinity": ("hidden", lambda a: with_value(a, (0, 0, 0, 0), -np.inf), "found -inf"),
}
PARAMETERS = {
    "no offsets": (lambda p: p.pop("column_offsets"), "column_offsets"),
    "offsets of a different layer": (lambda p: p.update(column_offsets=p["column_offsets"] + 1), "column_offsets"),
    "offsets as int32": (lambda p: p.update(column_offsets=p["column_offsets"].astype(np.int32)), "int64"),
    "a missing gain": (lambda p: p.pop("key_gain"), r"key_gain of shape \[3, 10\], found none"),
    "a missing table": (lambda p: p.pop("table"), "table"),
    "an unknown array": (lambda p: p.update(gate_weight=np.ones(3)), "gate_weight"),
    "a table with a missing row": (lambda p: p.update(table=p["table"][1:]), "parameter table: expected shape"),
    "a table of the wrong width": (lambda p: p.update(table=p["table"][:, :4]), "parameter table"),
    "a table as int64": (lambda p: p.update(table=p["table"].astype(np.int64)), "parameter table: expected dtype"),
    "a table as float16": (lambda p: p.update(table=p["table"].astype(np.float16)), "parameter table: expected dtype"),
    "a shared gain": (lambda p: p.update(query_gain=p["query_gain"][0]), "query_gain"),
    "weights as int64": (lambda p: p.update(key_weight=p["key_weight"].astype(int)), "key_weight.*dtype"),
    "taps first": (lambda p: p.update(conv_weight=np.moveaxis(p["conv_weight"], -1, 0)), "conv_weight"),
}


def assert_raises(arguments, message, **more):
    with pytest.raises(InputError, match=message) as caught:
        engram(**arguments, **more)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("check", [True, False], ids=["checked", "unchecked"])
@pytest.mark.parametrize("name", SHAPES_AND_DTYPES)
def test_shapes_and_dtypes_are_always_checked(name, check):
    argument, change, message = SHAPES_AND_DTYPES[name]
    arguments = case()
    arguments[argument] = change(arguments.get(argument))
    assert_raises(arguments, message, check=check)


@pytest.mark.parametrize("name", VALUES)
def test_values_are_checked(name):
    argument, change, message = VALUES[name]
    arguments = case()
    arguments[argument] = change(arguments[argument])
    assert_raises(arguments, message)


FLAT_ROWS = {
    "rows without offsets": (lambda flat: flat - FLAT, "after subtraction of the column offsets, found -"),
    "a row of the previous column": (lambda flat: with_value(flat, (1, 2, 1), FLAT[1] - 1), r"position \(1, 2, 1\)"),
    "a row of the next column": (lambda flat: with_value(flat, (0, 1, 0), FLAT[1]), "in column 0 .*found 23"),
    "a row past the table": (lambda flat: with_value(flat, (0, 1, 3), FLAT[3] + 37), r"column 3 .*found 37"),
    "a row below zero": (lambda flat: with_value(flat, (0, 0, 0), -1), "column 0 .*found -1"),
    "the smallest integer": (lambda flat: with_value(flat, (0, 0, 3), -(2**63)), "rows: .*after subtraction"),
}


@pytest.mark.parametrize("name", FLAT_ROWS)
def test_flat_rows_outside_their_columns_raise(name):
    change, message = FLAT_ROWS[name]
    arguments = case()
    arguments["rows"] = arguments["rows"] + FLAT
    engram(**arguments, flat_rows=True)
    arguments["rows"] = change(arguments["rows"])
    assert_raises(arguments, message, flat_rows=True)


@pytest.mark.parametrize("name", [name for name in SHAPES_AND_DTYPES if name.startswith("rows")])
def test_flat_rows_have_the_shape_and_dtype_of_rows(name):
    _, change, message = SHAPES_AND_DTYPES[name]
    arguments = case()
    arguments["rows"] = change(arguments["rows"] + FLAT)
    for check in (True, False):
        assert_raises(arguments, message, flat_rows=True, check=check)


def test_flat_rows_need_the_offsets_of_the_layer():
    for change, message in (PARAMETERS["no offsets"], PARAMETERS["offsets of a different layer"]):
        arguments = case()
        arguments["rows"] = arguments["rows"] + FLAT
        change(arguments["parameters"])
        assert_raises(arguments, message, flat_rows=True)


def test_unchecked_nan_propagates():
    arguments = case()
    arguments["hidden"] = with_value(arguments["hidden"], (1, 0, 2, 4), np.nan)
    result = engram(**arguments, check=False)
    assert np.isnan(result[1, 0, 2]).all()
    assert np.isfinite(result[0]).all()
    assert np.isfinite(result[1, :, :2]).all()


def test_unchecked_gives_the_same_output():
    assert engram(**case()).tolist() == engram(**case(), check=False).tolist()


@pytest.mark.parametrize("name", PARAMETERS)
def test_invalid_parameters_raise(name):
    change, message = PARAMETERS[name]
    arguments = case()
    change(arguments["parameters"])
    assert_raises(arguments, message)


def test_a_table_must_have_the_dtype_of_its_codec():
    arguments = case(QWEN)
    arguments["parameters"]["table"] = arguments["parameters"]["table"].astype(np.float32)
    assert_raises(arguments, "parameter table: expected dtype bfloat16")


def test_rounding_needs_float32():
    rng = np.random.default_rng(1)
    hidden, rows = random_inputs(V41, rng)
    assert_raises({"parameters": {}, "hidden": hidden, "rows": rows, "config": V41}, r"float32.*rounding='none'")


def test_a_rounding_configuration_needs_whole_blocks():
    with pytest.raises(InputError, match=r"row_width|memory"):
        replace(preset("tiny"), n_heads=3, rounding="fp8_bf16")


@pytest.mark.parametrize("name", ["key_weight", "query_gain", "conv_weight"])
def test_non_finite_weights_raise(name):
    rng = np.random.default_rng(4)
    parameters, (hidden, rows) = random_parameters(DEMO, rng), random_inputs(DEMO, rng)
    parameters[name] = parameters[name] * np.nan
    with pytest.raises(InputError, match=f"parameter {name}: expected finite values"):
        engram(parameters, hidden, rows, DEMO)


def test_a_stop_at_a_stage_that_is_not_computed_raises():
    rng = np.random.default_rng(4)
    parameters, (hidden, rows) = random_parameters(DEMO, rng), random_inputs(DEMO, rng)
    with pytest.raises(InputError, match=r"stop: expected one of the computed stages, memory.*found 'gates'"), \
            Trace(stop="gates") as trace:
        engram(parameters, hidden, rows, DEMO, trace=trace)
