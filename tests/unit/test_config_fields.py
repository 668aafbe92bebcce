"""Every field of every configuration: wrong types and invalid numbers raise an error that names the field."""

import json
import math
from dataclasses import asdict, fields, replace

import numpy as np
import pytest

from engram_ref import EngramConfig, InputError, model_preset, preset
from engram_ref.checks import annotations
from engram_ref.model_config import YarnConfig

MODEL = replace(model_preset("tiny"), engram=None)
BACKBONE = MODEL.backbone
CONFIGS = {type(config).__name__: config for config in (
    preset("qwen4exp-ple"), MODEL, replace(BACKBONE, n_dense_layers=BACKBONE.n_layers), BACKBONE.attention,
    BACKBONE.experts, BACKBONE.hyper, YarnConfig(factor=4.0, mscale=1.0))}

BAD = {"True": True, "np.True_": np.True_, "'3'": "3", "1.5": 1.5, "nan": math.nan, "inf": math.inf, "-inf": -math.inf,
       "-1": -1, "None": None, "[]": [], "{}": {}, "10**30": 10**30, "10**400": 10**400, "object()": object(),
       "1j": 1j, "b'3'": b"3", "[1.5]": [1.5], "['1']": ["1"], "[[True]]": [[True]], "array": np.ones(2),
       "longdouble": np.longdouble("1e-6"), "a class": EngramConfig}

FLAGS = ("dead_barrier", "projection_bias", "norm_topk_prob", "router_bias", "tie_embeddings")
FLOATS = ("norm_eps", "conv_norm_eps", "quantise_floor", "factor", "mscale", "beta_fast", "beta_slow",
          "latent_norm_eps", "rope_theta", "routed_scaling_factor", "post_mult", "pre_eps", "sinkhorn_eps",
          "alpha_init", "rms_norm_eps")
OPTIONAL = ("vocabulary", "eos_id", "multipliers", "norm_eps", "q_lora_rank", "yarn", "experts", "hyper", "engram")
GOOD = {"True": FLAGS, "np.True_": FLAGS, "'3'": ("name", "source", "vocabulary"), "1.5": FLOATS,
        "-1": ("alpha_init",), "None": OPTIONAL}
"""Fields for which one of the values above is valid."""

CASES = [(kind, field.name, bad) for kind, config in CONFIGS.items() for field in fields(config) for bad in BAD
         if field.name not in GOOD.get(bad, ())]


def test_every_field_is_covered():
    assert len(CASES) > 60 * 15


@pytest.mark.parametrize("kind", CONFIGS)
def test_invalid_field_values_raise(kind):
    for field, bad in [case[1:] for case in CASES if case[0] == kind]:
        try:
            replace(CONFIGS[kind], **{field: BAD[bad]})
        except InputError as error:
            assert error.argument.startswith(field) and "\n" not in str(error), f"{field}={bad}: {error}"
        else:
            pytest.fail(f"{field}={bad} was accepted")


@pytest.mark.parametrize("bad", GOOD)
def test_valid_field_values_are_accepted(bad):
    for config in CONFIGS.values():
        for field in {field.name for field in fields(config)} & set(GOOD[bad]):
            assert getattr(replace(config, **{field: BAD[bad]}), field) == BAD[bad]


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_number_field_declares_its_range(kind):
    """A plain int or float annotation would accept bools and NaN."""
    config = CONFIGS[kind]
    assert set(annotations(type(config))) == {field.name for field in fields(config)}
    stated = " ".join(map(str, annotations(type(config)).values()))
    assert not [name for name in ("class 'int'", "class 'float'") if name in stated]


@pytest.mark.parametrize("kind", CONFIGS)
def test_numpy_scalars_become_python_numbers(kind):
    config = CONFIGS[kind]
    scalars = {int: np.int32, float: np.float64, bool: np.bool_}
    given = {field.name: getattr(config, field.name) for field in fields(config)}
    made = type(config)(**{name: scalars[type(value)](value) if type(value) in scalars else value
                           for name, value in given.items()})
    assert made == config and hash(made) == hash(config)
    assert {name: type(getattr(made, name)) for name in given} == {name: type(value) for name, value in given.items()}


def test_float_fields_accept_only_exact_values():
    assert type(replace(BACKBONE, rms_norm_eps=0).rms_norm_eps) is float
    assert replace(BACKBONE, rms_norm_eps=np.float32(1e-6)).rms_norm_eps == float(np.float32(1e-6))
    with pytest.raises(InputError, match="rms_norm_eps: expected a finite number that float64 can represent, found "):
        replace(BACKBONE, rms_norm_eps=2**53 + 1)


@pytest.mark.parametrize(("fields", "message"), [
    ({"rope_theta": 1}, "rope_theta: expected a number above 1, found 1"),
    ({"n_heads": 0}, "n_heads: expected an integer of at least 1, found 0"),
    ({"n_heads": 2**63}, "n_heads: expected an integer of at most 9223372036854775807"),
    ({"yarn": asdict(CONFIGS["YarnConfig"])}, "yarn: expected YarnConfig, found a value of type dict")], ids=str)
def test_errors_state_the_expected_value(fields, message):
    with pytest.raises(InputError, match=message):
        replace(BACKBONE.attention, **fields)


def test_errors_name_the_list_item():
    with pytest.raises(InputError, match=r"multipliers\[1\]\[0\]: expected an integer, found '3'"):
        replace(preset("tiny"), multipliers=[[1, 3, 5], ["3", 5, 7]])


def test_lists_become_tuples():
    config = replace(preset("tiny"), multipliers=((1, 3, 5), (7, 9, 11)))
    again = EngramConfig(**json.loads(json.dumps(asdict(config))))
    assert again == config and hash(again) == hash(config)
