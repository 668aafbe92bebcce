"""The released model's roundings, bit for bit: FP8 rows, FP8 projection input, bfloat16 out, one rounding at the end.

The inputs are chosen so that every float32 sum is exact, in whatever order it is taken: small whole
numbers, states of one magnitude per branch, widths that are powers of four. What is left are the
roundings at the stated boundaries, and those are emulated one by one with exact fractions.
"""

import math
from dataclasses import replace
from fractions import Fraction
from functools import cache

import numpy as np
import pytest

from engram_ref import Trace, engram, residual
from engram_ref.ops import project
from tests.bounds import module_scale
from tests.cases import V41, random_inputs, random_parameters, slow_gated
from tests.compare import assert_close
from tests.slow import codecs
from tests.slow import module as slow

WIDTHS = (1, 4, 16)


def single(x):
    """A number rounded to float32."""
    return codecs.to_float32(Fraction(x))


def brain(x):
    return codecs.to_bfloat16(Fraction(x))


def root(x):
    """The square root rounded to float32: float64's has more than twice the digits, so rounding again is safe."""
    return single(math.sqrt(x))


def config_of(width):
    return replace(V41, hidden_size=width)


@cache
def whole_number_case(width):
    """Rows of whole numbers up to 30, projections that add at most 16 of them, states of one magnitude."""
    config, rng = config_of(width), np.random.default_rng(width)
    hidden, rows = random_inputs(config, rng, 2, 3)
    signs = np.where(hidden < 0, -1.0, 1.0)
    magnitudes = 2.0 ** rng.integers(-3, 4, hidden.shape[:3])[..., None]
    parameters = random_parameters(replace(config, table_codec="fp32"), rng, dtype=np.float32)
    R = len(parameters.pop("table"))
    codes = [code for code in range(127) if codecs.e4m3(code)[1] in range(16)]
    M, D, memory = config.n_branches, config.hidden_size, config.memory_width
    parameters |= {
        "table_codes": rng.choice(codes, (R, config.row_width)).astype(np.uint8),
        "table_scales": rng.integers(127, 129, (R, config.row_width // 32)).astype(np.uint8),
        "key_weight": sparse(rng, (M, D, memory)), "value_weight": sparse(rng, (D, memory)) * np.float32(1.25),
        "query_gain": rng.integers(1, 3, (M, D)).astype(np.float32),
        "key_gain": rng.choice([-2, -1, 1, 2], (M, D)).astype(np.float32),
    }
    return config, parameters, (signs * magnitudes).astype(np.float32), rows


def sparse(rng, shape):
    """Sixteen ones and minus ones in every line, twelve of them ones, and zeros."""
    signs = np.array([1.0] * 12 + [-1.0] * 4 + [0.0] * (shape[-1] - 16), dtype=np.float32)
    return rng.permuted(np.broadcast_to(signs, shape), axis=-1)


def emulated_memory(parameters, rows):
    """One position's rows: decoded to float32, rounded to bfloat16."""
    memory = []
    for row in (rows + parameters["column_offsets"]).tolist():
        pairs = zip(parameters["table_codes"][row].tolist(),
                    np.repeat(parameters["table_scales"][row], 32).tolist(), strict=True)
        memory += [codecs.dequantise(code, byte)[1] for code, byte in pairs]
    return memory


def emulated_requantise(memory, floor=1e-4):
    """Blocks of 32 to FP8 and back."""
    found = []
    for begin in range(0, len(memory), 32):
        line, byte = codecs.quantise_block(memory[begin : begin + 32], floor)
        found += [codecs.dequantise(code, byte)[0] for code in line]
    return found


def emulated_projection(weight, x):
    """Exact sums, rounded to bfloat16 at the end."""
    return [brain(sum(Fraction(w) * Fraction(a) for w, a in zip(line, x, strict=True))) for line in weight.tolist()]


def emulated_score(h, key, gains, eps=1e-20):
    """Every step rounded to float32; the sums, and the state's own length, need no rounding."""
    D = len(h)
    dot = single(sum(Fraction(a) * Fraction(b) * Fraction(g) for a, b, g in zip(h, key, gains, strict=True)))
    inverse = [single(1 / root(single(single(sum(Fraction(a) ** 2 for a in x) / D) + single(eps)))) for x in (h, key)]
    return single(single(single(dot * inverse[0]) * inverse[1]) / math.sqrt(D))


def traced(width):
    config, parameters, hidden, rows = whole_number_case(width)
    trace = Trace()
    output = engram(parameters, hidden, rows, config, trace=trace)
    residual(hidden, output, config, trace=trace)
    return trace


@cache
def emulated(width):
    """Memory, key, value and score of every position, as float32 arrays."""
    _, parameters, hidden, rows = whole_number_case(width)
    gains = (parameters["query_gain"] * parameters["key_gain"]).tolist()
    found = {"memory": [], "key": [], "value": [], "score": []}
    for position in np.ndindex(rows.shape[:2]):
        memory = emulated_memory(parameters, rows[position])
        x = emulated_requantise(memory)
        keys = [emulated_projection(weight, x) for weight in parameters["key_weight"]]
        scores = [emulated_score(h, k, g) for h, k, g in zip(hidden[position].tolist(), keys, gains, strict=True)]
        value = emulated_projection(parameters["value_weight"], x)
        parts = {"memory": memory, "key": keys, "value": value, "score": scores}
        for name, part in parts.items():
            found[name].append(part)
    return {name: np.float32(parts).reshape(*rows.shape[:2], *np.shape(parts)[1:]) for name, parts in found.items()}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("stage", ["memory", "key", "value", "score"])
def test_stages_before_the_gate_are_met_exactly(stage, width):
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
    trace, hidden = traced(width), whole_number_case(width)[2]
    sums = [brain(single(Fraction(h) + Fraction(u)))
            for h, u in zip(hidden.ravel().tolist(), trace["output"].ravel().tolist(), strict=True)]
    assert_close("residual", np.reshape(np.float32(sums), hidden.shape), trace["residual"], "exact")


@pytest.mark.parametrize(("size", "floor"), [(1.0, 1e-4), (2.0**-34, 1e-4), (2.0**-34, 0.0)],
                         ids=["ordinary", "faint", "faint, without a floor"])
def test_the_projection_input_is_rounded_to_fp8_blocks(size, floor):
    """Memory that FP8 cannot hold: rows of an FP8 table with scales from byte 105 on always can."""
    config, parameters, _, _ = whole_number_case(4)
    config, rng = replace(config, quantise_floor=floor), np.random.default_rng(5)
    memory = size * rng.integers(-60, 61, (1, 3, config.memory_width)).astype(np.float32)
    key, value = project(parameters, memory, config)
    x = [emulated_requantise(line, floor) for line in memory[0].tolist()]
    assert x != memory[0].tolist()
    expected = [[emulated_projection(weight, line) for weight in parameters["key_weight"]] for line in x]
    assert_close("key", np.float32([expected]), key, "exact")
    expected = [emulated_projection(parameters["value_weight"], line) for line in x]
    assert_close("value", np.float32([expected]), value, "exact")


@pytest.mark.parametrize("width", WIDTHS)
def test_without_rounding_float64_is_exact(width):
    config, parameters, hidden, rows = whole_number_case(width)
    config = replace(config, rounding="none")
    trace, wide = Trace(), widened(parameters)
    found = engram(wide, hidden.astype(np.float64), rows, config, trace=trace)
    expected = [slow_gated(wide, e, h, config) for e, h in zip(trace["memory"], hidden, strict=True)]
    memory = [emulated_memory(parameters, rows[position]) for position in np.ndindex(rows.shape[:2])]
    assert_close("memory", np.reshape(memory, trace["memory"].shape), trace["memory"], "exact")
    scale = module_scale(trace, wide, config, hidden.astype(np.float64))
    assert_close("output", np.array(expected), found, "f64", config.memory_width, scale)
    assert residual(hidden.astype(np.float64), found, config).dtype == np.float64


def widened(parameters):
    return {name: array.astype(np.float64) if array.dtype == np.float32 else array
            for name, array in parameters.items()}


@pytest.mark.parametrize("batch, length", [(1, 0), (0, 2), (1, 1)], ids=str)
def test_empty_and_single_batches(batch, length):
    config, parameters, hidden, rows = whole_number_case(4)
    found = engram(parameters, hidden[:batch, :length], rows[:batch, :length], config)
    assert found.shape == (batch, length, 3, 4)
    assert found.dtype == np.float32


def test_a_dead_position_leaves_the_rounded_residual():
    config, parameters, hidden, rows = whole_number_case(4)
    dead = np.array([[True, False, False], [False, True, True]])
    found = residual(hidden, engram(parameters, hidden, rows, config, dead=dead), config)
    assert_close("dead", hidden[dead], found[dead], "exact")
    assert (found[~dead] != hidden[~dead]).any()


def test_a_scale_that_is_nan_spoils_its_own_token_only():
    config, parameters, hidden, rows = whole_number_case(4)
    scales = parameters["table_scales"].copy()
    scales[(rows + parameters["column_offsets"])[0, 0, 0]] = 255
    found = engram(parameters | {"table_scales": scales}, hidden, rows, config)
    assert np.isnan(found[0, 0]).all()
    assert np.isfinite(found).any()
