"""State dicts of other implementations: exact values, and optional prefixes, for both loaders."""

from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest

from engram_ref import InputError
from engram_ref.model.demo import from_engram_demo
from engram_ref.model.hf import from_hf_deepseek_v3
from engram_ref.model.state_dicts import bfloat16_array, exact_array, without_prefix
from scripts.builders.small_modules import DEMO, demo_names, random_parameters
from tests.compare import assert_close
from tests.unit.test_hf_import import state_dict as hf_state_dict
from tests.unit.test_hf_options import HF


def demo_state_dict():
    return demo_names(random_parameters(DEMO, np.random.default_rng(2)), DEMO)


LOADERS = {"demo": (demo_state_dict, lambda state: from_engram_demo(state, DEMO)),
           "hf": (hf_state_dict, lambda state: from_hf_deepseek_v3(state, HF)[1])}
each_loader = pytest.mark.parametrize(("make", "load"), LOADERS.values(), ids=LOADERS)


def rounded(dtype):
    return lambda array: array.astype(dtype)


FORMATS = {
    "float64": (rounded(np.float64), "float64"),
    "float32": (rounded(np.float32), "float32"),
    "float16": (rounded(np.float16), "float32"),
    "bfloat16": (rounded(ml_dtypes.bfloat16), "float32"),
    "big-endian": (rounded(">f4"), "float32"),
    "Fortran order": (lambda array: np.asfortranarray(array), "float64"),
    "reversed": (lambda array: array[::-1].copy()[::-1], "float64"),
    "nested lists": (lambda array: array.tolist(), "float64"),
}


@each_loader
@pytest.mark.parametrize(("convert", "dtype"), FORMATS.values(), ids=FORMATS)
def test_arrays_are_read_exactly(make, load, convert, dtype):
    converted = {name: convert(array) for name, array in make().items()}
    result = load(converted)
    plain = load({name: np.array(array, dtype) for name, array in converted.items()})
    assert {array.dtype.str for name, array in result.items() if name != "column_offsets"} == {np.dtype(dtype).str}
    for name, array in plain.items():
        assert_close(name, array, result[name], "exact")


@each_loader
def test_mixed_dtypes_become_the_widest(make, load):
    state = make()
    first = next(iter(state))
    result = load({name: array.astype(np.float64 if name == first else ml_dtypes.bfloat16)
                   for name, array in state.items()})
    assert {array.dtype.name for name, array in result.items() if name != "column_offsets"} == {"float64"}
    for name, array in load({name: array if name == first else array.astype(ml_dtypes.bfloat16).astype(float)
                             for name, array in state.items()}).items():
        assert_close(name, array, result[name], "exact")


@each_loader
@pytest.mark.parametrize("prefix", ["module.", "model.layers.1.engram."])
def test_a_prefix_is_removed(make, load, prefix, caplog):
    state = make()
    result = load({prefix + name: array for name, array in state.items()})
    for name, array in load(state).items():
        assert_close(name, array, result[name], "exact")
    assert not caplog.messages
    load({prefix + name: array for name, array in state.items()} | {"other.weight": np.ones(2)})
    assert caplog.messages == [f"skipped 1 of {len(state) + 1} entries that are not under {prefix}"]


@each_loader
def test_two_modules_raise(make, load):
    both = {prefix + name: array for name, array in make().items() for prefix in ("a.", "b.")}
    with pytest.raises(InputError, match=r"expected entries of one module, found .* under a\. and b\."):
        load(both)


def test_prefix_rules():
    assert without_prefix({"a.w": 1, "a.b": 2}, "a.w") == {"a.w": 1, "a.b": 2}
    assert without_prefix({"x.a.w": 1, "a.w": 2}, "a.w") == {"x.a.w": 1, "a.w": 2}, "the bare name takes precedence"
    assert without_prefix({"xa.w": 1}, "a.w") == {"xa.w": 1}, "a prefix ends in a dot"


@each_loader
def test_the_error_for_a_missing_array_names_some_of_the_others(make, load):
    state = make()
    missing = next(reversed(state))
    del state[missing]
    with pytest.raises(InputError, match=rf"an array named {missing}, found \d+ other arrays, such as "):
        load({"model." + name: array for name, array in state.items()})
    with pytest.raises(InputError, match=r"expected an array named \S+, found none"):
        load({})


INVALID_ARRAYS = {"text": "weights", "None": None, "a ragged list": [[1.0], [1.0, 2.0]], "int": np.ones((3, 3), int),
                  "long double": np.ones(3, np.longdouble), "complex": np.ones(3, complex), "bool": np.ones(3, bool),
                  "FP8": np.ones(3, ml_dtypes.float8_e4m3fn), "a number": 3}


@each_loader
@pytest.mark.parametrize("bad", INVALID_ARRAYS.values(), ids=INVALID_ARRAYS)
def test_invalid_arrays_raise_with_their_name(make, load, bad):
    state = make()
    name = next(iter(state))
    with pytest.raises(InputError, match=f"^state_dict {name} "):
        load(state | {name: bad})


@each_loader
@pytest.mark.parametrize("bad", [None, [("a", 1)], {1: np.ones(2)}], ids=["None", "pairs", "numbered"])
def test_an_invalid_state_dict_raises(load, make, bad):
    with pytest.raises(InputError, match=r"^state_dict: .*state_dict\(\)"):
        load(bad)


def test_fp8_weights_raise_with_a_conversion_hint():
    with pytest.raises(InputError, match=r"float8_e4m3fn.*convert the checkpoint to bfloat16"):
        exact_array("w", np.ones(3, ml_dtypes.float8_e4m3fn))


def test_a_bfloat16_table_keeps_its_dtype():
    config, state = replace(DEMO, table_codec="bf16"), demo_state_dict()
    table = "multi_head_embedding.embedding.weight"
    state[table] = state[table].astype(ml_dtypes.bfloat16)
    result = from_engram_demo(state, config)["table"]
    assert result.dtype == ml_dtypes.bfloat16
    assert_close("table", state[table].astype(float), result.astype(float), "exact")
    with pytest.raises(InputError, match=r"embedding\.weight: expected values representable in bfloat16"):
        from_engram_demo(demo_state_dict(), config)
    assert np.isnan(bfloat16_array("w", np.array([np.nan]))).all()
