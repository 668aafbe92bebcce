"""Float kernels: exp is within its stated error, sums have their stated order, and fused results equal unfused ones."""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from engram_ref import EngramState, InputError, Trace, engram, ops
from tests import bounds
from tests.compare import assert_close

pytest.importorskip("numba", reason="numba is not installed")
from numba import config

from engram_ref.backends import numba as fast
from engram_ref.backends.numba import conv
from engram_ref.backends.numba.vectors import exp
from engram_ref.model.declarations import expert_shapes
from scripts.builders.small_models import EXPERTS, GROUPED
from scripts.builders.small_modules import DIALECTS, V41, random_inputs, random_parameters
from tests.op_cases_floats import EXACT, FLOATS, SHAPES
from tests.parity.numba_kernels import dots, exponentials, triples

COUNT = 3_000 if config.DISABLE_JIT else 3_000_000
EXP_ROUNDINGS = 2
"""The error bound stated in vectors/exp.py, in units of 2^-24 relative to the result."""


def exp_of(x):
    y = np.empty_like(x)
    exponentials(x, y)
    return y


def test_exp_is_within_its_stated_error(rng):
    """Test the whole range, and more densely near the points where n changes and near 0."""
    breaks = (np.arange(-125, 1) + 0.5) * math.log(2)
    near = (breaks[:, None] + rng.normal(0, 1e-5, (126, 50))).ravel()
    x = np.concatenate([-rng.uniform(0, 87.3, COUNT), near, -rng.exponential(0.1, 1000), [0.0, -0.0, -87.3]])
    x = np.minimum(np.maximum(x.astype(np.float32), exp.LOWEST), np.float32(0))
    expected = np.exp(x.astype(np.float64))
    error = np.abs(exp_of(x) - expected)
    assert (error <= EXP_ROUNDINGS * 2.0**-24 * expected).all(), (error / expected).max() * 2**24


def test_exp_is_zero_if_the_result_would_be_subnormal():
    below = np.array([np.nextafter(exp.LOWEST, np.float32(-100)), -100, -1e30, -np.inf], dtype=np.float32)
    assert exp_of(below).tolist() == [0.0] * 4
    assert exp_of(np.array([exp.LOWEST]))[0] >= np.finfo(np.float32).smallest_normal
    assert np.isnan(exp_of(np.array([np.nan], dtype=np.float32)))[0]


def test_ln_2_is_split_for_exact_products():
    high, low = Fraction(float(exp.LN2_HIGH)), Fraction(float(exp.LN2_LOW))
    assert abs(high + low - Fraction(math.log(2))) < Fraction(1, 2**34)
    assert all(Fraction(float(np.float32(n) * exp.LN2_HIGH)) == n * high for n in range(-127, 1))


def test_the_polynomial_is_within_its_stated_error():
    """The error, computed in float64, is below 2^-28 of e^r over the whole reduced range."""
    r = np.linspace(-math.log(2) / 2, math.log(2) / 2, 100_001)
    p = np.polyval([float(getattr(exp, name)) for name in ("P4", "P3", "P2", "P1", "P0")], r)
    assert np.abs((1 + r + r * r * p) / np.exp(r) - 1).max() < 2.0**-28


def test_float64_uses_the_library_exp(rng):
    x = -rng.uniform(0, 700, 300)
    assert exp_of(x).tolist() == [math.exp(v) for v in x.tolist()]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", [0, 1, 7, 8, 15, 16, 17, 64, 77])
def test_sums_of_products(count, dtype, rng):
    a, b, c = (rng.standard_normal(100).astype(dtype) for _ in range(3))
    x, y, z = (array.astype(np.float64)[k : k + count] for array, k in ((a, 2), (b, 5), (c, 9)))
    kind = "f32" if dtype is np.float32 else "f64"
    found = np.array(dots(a, 2, b, 5, count)).astype(dtype)
    assert_close("dot", np.sum(x * y), found, kind, count, np.sum(np.abs(x * y)))
    for product, found in zip((x * x, y * y, x * z * y), triples(a, 2, b, 5, c, 9, count), strict=True):
        assert_close("triple", np.sum(product), np.array(found).astype(dtype), kind, count + 1, np.sum(np.abs(product)))


def test_lanes_are_added_in_the_stated_order():
    """A large number in lane 3 absorbs ones added in lane 3, but not those summed in lane 4."""
    a, ones = np.zeros(64, np.float32), np.ones(64, np.float32)
    a[3], a[19], a[35] = 2.0**24, 1.0, 1.0
    assert dots(a, 0, ones, 0, 64) == 2.0**24
    a[19], a[35], a[4], a[20] = 0.0, 0.0, 1.0, 1.0
    assert dots(a, 0, ones, 0, 64) == 2.0**24 + 2


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", EXACT)
def test_exact_ops_equal_the_definition(name, shape):
    case = EXACT[name]
    arguments = case.arrays(np.random.default_rng(0), *shape)
    with np.errstate(over="ignore"):
        expected, found = (case.call(namespace, *arguments) for namespace in (ops, fast))
    for e, f in zip(*(x if isinstance(x, tuple) else (x,) for x in (expected, found)), strict=True):
        assert_close(name, e, f, "exact")


MODULE = {"project_and_gate", "gated_update"}          # tested by test_fused_equals_unfused with a special bound
OVERRIDDEN = [name for name in FLOATS if name.split()[0] not in MODULE
              and getattr(fast, name.split()[0]) is not getattr(ops, name.split()[0])]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(2, 0), (2, 3)], ids=str)
@pytest.mark.parametrize("name", OVERRIDDEN)
def test_float_ops_agree_with_the_definition(name, shape, dtype):
    pytest.importorskip("torch", reason="torch is not installed; the error bounds need its gradients")
    from tests.torch_cases import arguments_of, error_scales, mapped, outputs

    case, kind = FLOATS[name], "f32" if dtype is np.float32 else "f64"
    arguments = arguments_of(case, shape, dtype)
    wide = mapped(lambda x: x.astype(np.float64) if x.dtype == np.float32 else x, arguments)
    expected, found = outputs(case.call(ops, *wide)), outputs(case.call(fast, *arguments))
    for e, f, scale in zip(expected, found, error_scales(case, arguments), strict=True):
        assert_close(name, e, f, "exact" if scale is None else kind, case.terms, scale)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_convolution_of_several_blocks(dtype, rng):
    """Use more positions and channels than a block has: whole strips, single vectors and single channels.

    Test the convolution alone, then with a factor per position and branch: y = silu(conv(gain f v)) + alpha v.
    """
    B, T, M, D, L, dilation = 2, conv.POSITIONS + 3, 2, conv.CHANNELS + 64 + 16 + 5, 4, 3
    kind = "f32" if dtype is np.float32 else "f64"
    arrays = {"x": (B, T, M, D), "value": (B, T, D), "alpha": (B, T, M), "gain": (M, D), "weight": (M, D, L),
              "taps": (B, (L - 1) * dilation, M, D)}
    a = {name: rng.standard_normal(shape).astype(dtype) for name, shape in arrays.items()}
    wide = {name: array.astype(np.float64) for name, array in a.items()}

    def scale(x):
        return 1.1 * ops.short_conv(np.abs(x), np.abs(wide["weight"]), dilation, np.abs(wide["taps"]))

    expected = ops.conv_silu(wide["x"], wide["weight"], dilation, wide["taps"])
    found = fast.conv_silu(a["x"], a["weight"], dilation, a["taps"])
    assert_close("conv_silu", expected, found, kind, L + 1, scale(wide["x"]))
    gated = wide["alpha"][..., None] * wide["value"][:, :, None]
    normed = ops.rms_norm(gated, wide["gain"], 1e-6)
    y = np.empty_like(a["x"])
    kept = conv.update(a["value"], a["alpha"], a["gain"], a["weight"], dilation, a["taps"], 1e-6, 5, y)
    expected = ops.conv_silu(normed, wide["weight"], dilation, wide["taps"]) + gated
    assert_close("update", expected, y, kind, L + D, scale(normed) + np.abs(gated))
    assert_close("kept", normed[:, -5:], kept, kind, D, np.abs(normed[:, -5:]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_silu_of_large_and_special_numbers(dtype, rng):
    """The numbers fill strips, vectors and single lanes, at and beyond the ends of the range of exp."""
    edges = [0.0, -0.0, 87.3, -87.3, 87.4, -87.4, 89.0, -89.0, 1e30, -1e30]
    x = np.concatenate([edges, rng.uniform(-100, 100, 64 + 16 + 5 - len(edges))]).astype(dtype)
    wide, kind = x.astype(np.float64), "f32" if dtype is np.float32 else "f64"
    assert_close("silu", ops.silu(wide), fast.silu(x), kind, 2, np.abs(wide))
    special = np.array([np.inf, -np.inf, np.nan], dtype=dtype)
    with np.errstate(invalid="ignore"):
        assert np.array_equal(fast.silu(special), ops.silu(special), equal_nan=True)


@pytest.mark.parametrize("x", [np.arange(-2, 3), np.arange(3, dtype=np.float16), np.arange(3, dtype=">f4"),
                               np.array(1.5)], ids=["integers", "float16", "big-endian", "no axis"])
def test_silu_of_unusual_arrays(x):
    expected, found = ops.silu(x), fast.silu(x)
    assert found.dtype == expected.dtype and found.shape == expected.shape
    assert_close("silu", expected.astype(np.float64), found.astype(np.float64), "f64", 2, np.abs(x).astype(np.float64))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(2, 0), (1, 1), (2, 7), (1, 530)], ids=str)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_fused_equals_unfused(dialect, shape, dtype, rng):
    """The fused pass equals separate ops in float64, with a previous state and some DEAD positions."""
    # Inputs, and the parameters in float64.
    config, kind = DIALECTS[dialect], "f32" if dtype is np.float32 else "f64"
    p, (hidden, rows) = random_parameters(config, rng, dtype=dtype), random_inputs(config, rng, *shape, dtype)
    taps = rng.standard_normal((shape[0], config.conv_span, *hidden.shape[2:])).astype(dtype)
    dead = rng.random(shape) < 0.2 if config.dead_barrier else None
    if config.norm_eps is None and dtype is np.float32:
        config = replace(config, norm_eps=float(np.finfo(dtype).eps))           # float32's eps in both runs
    wide = {name: array.astype(np.float64) if array.dtype == dtype else array for name, array in p.items()}
    # Run separate ops in float64, since a trace disables fused code; then run the fused pass.
    trace, exact, state = Trace(), EngramState(taps.astype(np.float64)), EngramState(taps)
    expected = engram(wide, hidden.astype(np.float64), rows, config, state=exact, dead=dead, ops=fast, trace=trace)
    found = engram(p, hidden, rows, config, state=state, dead=dead, ops=fast)
    # Output and taps, with the previous taps added to the scale of the output.
    scale = bounds.module_scale(trace, wide, config, hidden.astype(np.float64)) + np.abs(taps).max(initial=0) * np.abs(
        p.get("conv_weight", np.zeros(1))).sum(axis=-1).max()
    terms = max(config.memory_width, config.hidden_size) + 1
    assert_close("output", expected, found, kind, terms, scale)
    of_taps = (np.abs(exact.taps) + np.abs(p.get("conv_gain", np.ones(1))) + 1.0) * np.max(scale, initial=1.0)
    assert_close("taps", exact.taps, state.taps, kind, terms, of_taps)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_trace_has_every_stage_of_the_definition(dialect, rng):
    config, traces = DIALECTS[dialect], (Trace(), Trace())
    p, (hidden, rows) = random_parameters(config, rng), random_inputs(config, rng, 1, 4)
    for namespace, trace in zip((ops, fast), traces, strict=True):
        engram(p, hidden, rows, config, ops=namespace, trace=trace)
    assert list(traces[0]) == list(traces[1])


@pytest.mark.parametrize("config", [EXPERTS, GROUPED], ids=["plain", "in groups"])
def test_experts_equal_the_definition(config, rng):
    """Compare with the double loop over tokens and experts, which adds K outputs, each with three sums."""
    D, N, F = 9, 40, config.moe_intermediate_size
    p = {name: rng.standard_normal(shape) for name, shape in expert_shapes(config, D).items()}
    x = rng.standard_normal((N, D))
    chosen, weights = ops.route(p, x, config)
    expected = ops.routed_naive(p, x, chosen, weights)
    w1, w2, w3 = (np.abs(p[f"experts.w{i}"]).max() for i in (1, 2, 3))
    size = np.abs(x).sum(axis=1, keepdims=True)
    scale = weights.sum(axis=1, keepdims=True) * F * w2 * (1.1 * w1 * size) * (w3 * size)  # silu's slope is below 1.1
    assert_close("routed", expected, fast.routed_grouped(p, x, chosen, weights), "f64", D + F + chosen.shape[1], scale)


@pytest.mark.parametrize(("lowest", "floor"), [(124, 1e-4), (97, 1e-4), (97, 0.0)],
                         ids=["ordinary", "faint", "faint, without a floor"])
def test_the_released_path_rounds_like_the_definition(lowest, floor, rng):
    """Computed in float32 with bfloat16 rounding boundaries. States are near 1, so that no gate is near an edge."""
    config = replace(V41, quantise_floor=floor)
    p, (hidden, rows) = random_parameters(config, rng, dtype=np.float32), random_inputs(config, rng, 2, 9, np.float32)
    p["table_codes"] = rng.integers(0, 126, p["table_codes"].shape, dtype=np.uint8)
    p["table_scales"] = rng.integers(lowest, lowest + 6, p["table_scales"].shape, dtype=np.uint8)
    trace = Trace()
    expected = engram(p, hidden, rows, config, trace=trace)
    found = engram(p, hidden, rows, config, ops=fast)
    wide = {name: array.astype(np.float64) for name, array in p.items() if array.dtype == np.float32}
    scale = bounds.gate_scale(trace["score"], 2 * np.abs(trace["score"]) + 1, V41.gate_form)[..., None]
    scale = scale * np.abs(trace["value"][:, :, None]) * (1 + np.abs(wide["query_gain"] * wide["key_gain"]).max())
    assert_close("output", expected.astype(np.float64), found, "f32", 3 * V41.hidden_size, scale)


def test_swiglu_of_transposed_axes(rng):
    """NumPy's matrix product preserves the memory order of the axes, so reshaping the product may copy it."""
    x, w1, w3, w2 = (rng.normal(size=shape) for shape in ((2, 3, 4, 5), (7, 5), (7, 5), (5, 7)))
    transposed = x.transpose(1, 0, 2, 3)
    expected = fast.swiglu(np.ascontiguousarray(transposed), w1, w2, w3)
    assert_close("swiglu", expected, fast.swiglu(transposed, w1, w2, w3), "exact")


@pytest.mark.parametrize("name, shape", [("w1", (7, 4)), ("w2", (5, 6)), ("w3", (1, 5))])
def test_swiglu_raises_for_weights_of_the_wrong_shape(name, shape, rng):
    weights = {"w1": (7, 5), "w2": (5, 7), "w3": (7, 5)} | {name: shape}
    with pytest.raises(InputError, match=name):
        fast.swiglu(rng.normal(size=(7, 5)), **{key: rng.normal(size=shape) for key, shape in weights.items()})


def test_rows_for_int32_primes(rng):
    primes = np.array([5003, 5009, 5011, 5021, 5023, 5039, 5051, 5059], dtype=np.int32)
    mixes = rng.integers(-2**62, 2**62, (2, 3, 1))
    assert_close("rows", ops.table_rows(mixes, primes), fast.table_rows(mixes, primes), "exact")
