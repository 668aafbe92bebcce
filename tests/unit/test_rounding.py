"""Rounding as in the released model, bit for bit, against the emulation in scripts/builders/emulated_rounding.py."""

import math
from dataclasses import replace
from fractions import Fraction
from functools import cache

import numpy as np
import pytest

from engram_ref import Trace, engram, residual
from engram_ref.ops import project
from engram_ref.oracle.slow import module as slow
from engram_ref.oracle.slow.codecs import to_bfloat16
from engram_ref.oracle.slow.codecs import to_float32 as single
from scripts.builders.emulated_rounding import (
    emulated_memory,
    emulated_project,
    emulated_requantise,
    integer_case,
)
from scripts.builders.small_modules import slow_gated
from tests.bounds import module_scale
from tests.compare import assert_close

WIDTHS = (1, 4, 16)


def root(x):
    """Square root rounded to float32. Float64 has more than twice the digits, so rounding twice is safe."""
    return single(math.sqrt(x))


def emulated_score(h, key, gains, eps=1e-20):
    """Score with every step rounded to float32; the sums of products and squares are exact."""
    D = len(h)
    dot = single(sum(Fraction(a) * Fraction(b) * Fraction(g) for a, b, g in zip(h, key, gains, strict=True)))
    inverse = [single(1 / root(single(single(sum(Fraction(a) ** 2 for a in x) / D) + single(eps)))) for x in (h, key)]
    return single(single(single(dot * inverse[0]) * inverse[1]) / math.sqrt(D))


def traced(width):
    config, parameters, hidden, rows = integer_case(width)
    trace = Trace()
    output = engram(parameters, hidden, rows, config, trace=trace)
    residual(hidden, output, config, trace=trace)
    return trace


@cache
def emulated(width):
    """Memory, key, value and score of every position, as float32 arrays."""
    _, parameters, hidden, rows = integer_case(width)
    gains = (parameters["query_gain"] * parameters["key_gain"]).tolist()
    result = {"memory": [], "key": [], "value": [], "score": []}
    for position in np.ndindex(rows.shape[:2]):
        memory = emulated_memory(parameters, rows[position])
        [keys], [value] = emulated_project(parameters, [memory])
        scores = [emulated_score(h, k, g) for h, k, g in zip(hidden[position].tolist(), keys, gains, strict=True)]
        parts = {"memory": memory, "key": keys, "value": value, "score": scores}
        for name, part in parts.items():
            result[name].append(part)
    return {name: np.float32(parts).reshape(*rows.shape[:2], *np.shape(parts)[1:]) for name, parts in result.items()}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("stage", ["memory", "key", "value", "score"])
def test_stages_before_the_gate_are_reproduced_exactly(stage, width):
    assert_close(stage, emulated(width)[stage], traced(width)[stage], "exact")


@pytest.mark.parametrize("width", WIDTHS)
def test_the_gate_is_computed_in_float32(width):
    trace = traced(width)
    for s, alpha in zip(trace["score"].ravel().tolist(), trace["gate"].ravel(), strict=True):
        assert_close(f"gate of {s}", slow.gate(s, "copysign_sqrt"), alpha, "f32")


@pytest.mark.parametrize("width", WIDTHS)
def test_the_product_is_rounded_to_float32_only(width):
    trace = traced(width)
    expected = [[[single(Fraction(a) * Fraction(v)) for v in value] for a in alphas]
                for alphas, value in zip(trace["gate"].reshape(6, -1).tolist(), trace["value"].reshape(6, -1).tolist(),
                                         strict=True)]
    assert_close("gated", np.reshape(np.float32(expected), trace["gated"].shape), trace["gated"], "exact")


@pytest.mark.parametrize("width", WIDTHS)
def test_the_sum_with_the_residual_is_rounded_once(width):
    trace, hidden = traced(width), integer_case(width)[2]
    sums = [to_bfloat16(single(Fraction(h) + Fraction(u)))
            for h, u in zip(hidden.ravel().tolist(), trace["output"].ravel().tolist(), strict=True)]
    assert_close("residual", np.reshape(np.float32(sums), hidden.shape), trace["residual"], "exact")


@pytest.mark.parametrize(("size", "floor"), [(1.0, 1e-4), (2.0**-34, 1e-4), (2.0**-34, 0.0)],
                         ids=["ordinary", "small", "small, without a floor"])
def test_the_projection_input_is_rounded_to_fp8_blocks(size, floor):
    """Uses memory that FP8 cannot represent exactly, unlike FP8 rows with scale bytes of at least 105."""
    config, parameters, _, _ = integer_case(4)
    config, rng = replace(config, quantise_floor=floor), np.random.default_rng(5)
    memory = size * rng.integers(-60, 61, (1, 3, config.memory_width)).astype(np.float32)
    key, value = project(parameters, memory, config)
    assert [emulated_requantise(line, floor) for line in memory[0].tolist()] != memory[0].tolist()
    keys, values = emulated_project(parameters, memory[0].tolist(), floor)
    assert_close("key", np.float32([keys]), key, "exact")
    assert_close("value", np.float32([values]), value, "exact")


@pytest.mark.parametrize("width", WIDTHS)
def test_without_rounding_float64_is_exact(width):
    config, parameters, hidden, rows = integer_case(width)
    config = replace(config, rounding="none")
    trace, wide = Trace(), widened(parameters)
    result = engram(wide, hidden.astype(np.float64), rows, config, trace=trace)
    expected = [slow_gated(wide, e, h, config) for e, h in zip(trace["memory"], hidden, strict=True)]
    memory = [emulated_memory(parameters, rows[position]) for position in np.ndindex(rows.shape[:2])]
    assert_close("memory", np.reshape(memory, trace["memory"].shape), trace["memory"], "exact")
    scale = module_scale(trace, wide, config, hidden.astype(np.float64))
    assert_close("output", np.array(expected), result, "f64", config.memory_width, scale)
    assert residual(hidden.astype(np.float64), result, config).dtype == np.float64


def widened(parameters):
    return {name: array.astype(np.float64) if array.dtype == np.float32 else array
            for name, array in parameters.items()}


@pytest.mark.parametrize("batch, length", [(1, 0), (0, 2), (1, 1)], ids=str)
def test_empty_and_single_batches(batch, length):
    config, parameters, hidden, rows = integer_case(4)
    result = engram(parameters, hidden[:batch, :length], rows[:batch, :length], config)
    assert result.shape == (batch, length, 3, 4)
    assert result.dtype == np.float32


def test_dead_positions_keep_the_residual():
    config, parameters, hidden, rows = integer_case(4)
    dead = np.array([[True, False, False], [False, True, True]])
    result = residual(hidden, engram(parameters, hidden, rows, config, dead=dead), config)
    assert_close("dead", hidden[dead], result[dead], "exact")
    assert (result[~dead] != hidden[~dead]).any()


def test_a_nan_scale_affects_only_its_own_token():
    config, parameters, hidden, rows = integer_case(4)
    scales = parameters["table_scales"].copy()
    scales[(rows + parameters["column_offsets"])[0, 0, 0]] = 255
    result = engram(parameters | {"table_scales": scales}, hidden, rows, config)
    assert np.isnan(result[0, 0]).all()
    assert np.isfinite(result).any()
