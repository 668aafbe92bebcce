"""Released shapes: the generator in three languages, and answers that agree with the slow version at some elements."""

import ctypes
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from engram_ref import ops
from engram_ref.errors import InputError
from engram_ref.oracle.check.judge import judge, nearest
from engram_ref.oracle.compare import to_bf16
from engram_ref.oracle.encoding import decode_all
from engram_ref.oracle.kit import generator
from engram_ref.oracle.kit.exhaustive import with_every_score
from engram_ref.oracle.kit.generator import generate
from engram_ref.oracle.kit.released import SAMPLED, SHORT
from engram_ref.oracle.noise import FLOAT64
from engram_ref.oracle.run import Adapter, run
from engram_ref.oracle.slow import codecs, module
from engram_ref.oracle.vectors import read
from tests.kits import all_released

EXAMPLES = Path(generator.__file__).with_name("examples")
SINGLE = Adapter(to=lambda array: array.astype(np.float32) if array.dtype == np.float64 else array)
VECTORS = read()
CASES = {case.name: case for case in all_released()}


def plain(seed, tensor, i):
    """Return z as in the module docstring, in Python integers."""
    z = (seed + tensor * 0xD1342543DE82EF95 + (i + 1) * 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return z ^ z >> 31


@pytest.mark.parametrize(("seed", "tensor", "exponent"), [(7, 3, -6), (0, 0, 0), (2**64 - 1, 2**32, -39)])
def test_generator_against_plain_integers(seed, tensor, exponent):
    z = [plain(seed, tensor, i) for i in range(3000)]
    expected = [((n & 127) + (n >> 8 & 127) - 127) * 2.0**exponent for n in z]
    for dtype in ("float32", "float64"):
        assert generate(dtype, (3, 1000), seed, tensor, exponent).ravel().tolist() == expected
    assert generate("uint8", (3000,), seed, tensor, 0).tolist() == [n % 256 for n in z]


def test_some_rows_are_those_of_the_whole_array():
    whole = generate("float64", (20, 3, 5), 1, 2, 0)
    assert np.array_equal(generate("float64", (20, 3, 5), 1, 2, 0, [19, 0, 7]), whole[[19, 0, 7]])
    last = 25_600 * 6144 - 1
    assert generate("uint8", (25_600, 6144), 1, 2, 0, [25_599])[0, -1] == plain(1, 2, last) % 256


def test_generated_numbers_are_exact_in_bfloat16_and_triangular():
    x = generate("float32", (100_000,), 5, 1, -6)
    assert np.array_equal(to_bf16(x), x) and len(np.unique(x)) == 255
    assert abs(np.mean(x)) < 0.02 and np.mean(np.abs(x) < 0.5) > 0.4


@pytest.mark.parametrize("spec", [
    ["float16", [2], 1, 1, 0], ["float32", [], 1, 1, 0], ["float32", [2**13, 2**13], 1, 1, 0],
    ["float32", [2], 1, 1, 0, [2]], ["float32", [2], 1, 1, 0, [-1]], ["float32", [-2, -3], 1, 1, 0],
    ["float32", [2], 1, 1, 0.5], ["float32", [2], "1", 1, 0]])
def test_other_generated_arrays_are_refused(spec):
    with pytest.raises(InputError, match="generated"):
        decode_all({"x": {"generated": spec}}, {}, {})


def test_generator_in_c(tmp_path):
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("gcc is not installed")
    command = [compiler, "-O2", "-shared", "-fPIC", "-x", "c", "-o", tmp_path / "g.so", EXAMPLES / "kit.h", "-lm"]
    subprocess.run(command, check=True)
    function = ctypes.CDLL(tmp_path / "g.so").generated
    function.restype, function.argtypes = ctypes.c_uint64, (ctypes.c_uint64,) * 3
    assert [function(7, 3, i) for i in range(5000)] == [plain(7, 3, i) for i in range(5000)]


def arguments(name):
    return decode_all(CASES[name].arguments, VECTORS.arrays, VECTORS.configurations)


def test_every_dialect_has_released_shapes():
    assert len(CASES) == len(set(CASES)) == 16
    assert arguments("released_gate/deepseek-v4.1-flash")["key"].shape == (1, 3, 4, 5120)
    assert arguments("decode/deepseek-v4.1-flash")["gathered"][0].shape == (1, 3, 24, 256)
    assert arguments("released_project/qwen4exp-ple")["memory"].shape == (1, 3, 2560)
    for case in CASES.values():
        if "channels" in case.arguments:
            assert len(case.arguments["channels"]) in range(SAMPLED - 6, SAMPLED + 1)
            assert case.arguments["channels"][0] == 0


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("released_project")])
def test_projections_sample_both_ends(name):
    shape, *_, rows = CASES[name].arguments["weight"]["generated"][1:]
    assert rows[0] == 0 and rows[-1] == shape[0] - 1 and rows == sorted(set(rows))


def test_sums_of_the_v41_projection_are_exact_in_any_order():
    """All products are multiples of one unit, and even their absolute values add up to less than 2^24 of it."""
    a = arguments("released_project/deepseek-v4.1-flash")
    x = ops.requantise(a["memory"], a["config"].quantise_floor).astype(np.float64)
    unit = 2.0**-6 * 2.0**-12
    assert not np.array_equal(x, a["memory"])                 # the quantiser rounds
    sums = np.abs(x) @ np.abs(a["weight"].astype(np.float64)).T
    assert sums.max() / unit < 2**24 and (x / 2.0**-6 % 1 == 0).all()


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("released_project")])
def test_projections_against_exact_sums(name):
    a, [stage] = arguments(name), CASES[name].stages
    x, rounds = a["memory"][0, 1].tolist(), a["config"].rounding == "fp8_bf16"
    if rounds:
        blocks = [codecs.quantise_block(x[i : i + 32], 1e-4) for i in range(0, len(x), 32)]
        x = [codecs.dequantise(code, byte)[0] for block, byte in blocks for code in block]
    for c in (0, -1, 30):
        total = sum(Fraction(p) * Fraction(q) for p, q in zip(x, a["weight"][c].tolist(), strict=True))
        total += 0 if a["bias"] is None else Fraction(a["bias"][c].item())
        expected = codecs.to_bfloat16(total) if rounds else float(total)
        assert stage.array[0, 1, c] == pytest.approx(expected, rel=0 if rounds else 1e-12, abs=0)


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("released_gate")])
def test_gates_against_the_slow_version(name):
    a, stages = arguments(name), {stage.name: stage.array for stage in CASES[name].stages}
    config, shift = a["config"], 1.0 if a["config"].gain_form == "zero_centred" else 0.0
    eps = module.FLOAT64_EPS if config.norm_eps is None else config.norm_eps
    for t, m in ((0, 0), (2, 3)):
        h, key = (a[part][0, t, m].tolist() for part in ("hidden", "key"))
        gains = [(a["parameters"][f"{part}_gain"][m] + shift).tolist() for part in ("query", "key")]
        s = module.score(h, key, *gains, eps)
        alpha = module.gate(s, config.gate_form)
        assert stages["score"][0, t, m] == pytest.approx(s, rel=1e-9)
        assert stages["gate"][0, t, m] == pytest.approx(alpha, rel=1e-9)
        expected = [h[c] + alpha * a["value"][0, t, c].item() for c in a["channels"]]
        assert np.allclose(stages["residual"][0, t, m], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in CASES if name.endswith("-short")])
def test_eps_counts_in_short_states(name):
    a = arguments(name)
    eps = a["config"].norm_eps
    square = np.mean(a["hidden"].astype(np.float64) ** 2, axis=-1)
    ratio = square / (module.FLOAT64_EPS if eps is None else eps)
    assert eps in SHORT and (ratio > 0.02).all() and (ratio < 10).all()


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("released_conv")])
def test_convolutions_against_the_slow_version(name):
    a, stages = arguments(name), {stage.name: stage.array for stage in CASES[name].stages}
    config, shift = a["config"], 1.0 if a["config"].gain_form == "zero_centred" else 0.0
    m, at = 3, -1
    channel = a["channels"][at]
    gains = (a["parameters"]["conv_gain"][m] + shift).tolist()
    lines = [module.rms_norm(a["gated"][0, t, m].tolist(), gains, config.conv_norm_eps)[channel] for t in range(3)]
    before = a["taps"][0, :, m, channel].tolist()
    kernel = a["parameters"]["conv_weight"][m, channel].tolist()
    convolved = module.short_conv([[x] for x in before + lines], [kernel], config.conv_dilation)[len(before) :]
    expected = [module.silu(c) + a["gated"][0, t, m, channel] for t, [c] in enumerate(convolved)]
    assert np.allclose(stages["conv_norm"][0, :, m, at], lines, rtol=1e-9)
    assert np.allclose(stages["output"][0, :, m, at], expected, rtol=1e-9)


def test_decoded_rows_have_every_byte():
    a, [stage] = arguments("decode/deepseek-v4.1-flash"), CASES["decode/deepseek-v4.1-flash"].stages
    codes, scales = a["gathered"]
    assert len(np.unique(codes)) == 256 and len(np.unique(scales)) > 200
    assert np.isnan(stage.array).any() and np.isinf(stage.array).any() and (stage.array == 0).any()
    for at in np.ndindex(1, 3, 24, 4):
        channel = 64 * at[3] + 5
        expected = codecs.dequantise(int(codes[at[:3]][channel]), int(scales[at[:3]][channel // 32]))[0]
        assert np.array_equal(stage.array[at[:3]][channel], expected, equal_nan=True)


@pytest.mark.parametrize("name", CASES)
def test_honest_ports_pass_and_a_wrong_channel_fails(name):
    case = CASES[name]
    for adapter in (SINGLE, *([Adapter()] if case.dialect != "deepseek-v4.1-flash" else [])):
        answers = run(case, VECTORS, ops, adapter, False)
        assert all(result.ok for result in judge(case, VECTORS, answers)), name
    last = case.outputs[-1]
    changed = answers[last].copy()
    changed[..., -1] = changed[..., 0]
    assert not all(result.ok for result in judge(case, VECTORS, answers | {last: changed}))


def test_every_bfloat16_score():
    vectors = with_every_score(VECTORS)
    cases = vectors.cases[len(VECTORS.cases) :]
    assert [case.arguments["form"] for case in cases] == ["sigmoid", "signed_sqrt", "copysign_sqrt"]
    s = vectors.arrays[cases[0].arguments["s"]["array"]]
    assert s.size == 65_280 and np.isfinite(s).all() and len(np.unique(s.view(np.uint32))) == 65_280
    rng = np.random.default_rng(0)
    for case in cases:
        found = case.stages[0].array
        for at in zip(*(rng.integers(0, n, 500) for n in s.shape), strict=True):
            assert found[at] == pytest.approx(module.gate(float(s[at]), case.arguments["form"]), rel=1e-14)
        for adapter in (SINGLE, FLOAT64):
            assert judge(case, vectors, run(case, vectors, ops, adapter, False))[0].ok


def test_nearest_and_to_bf16_agree():
    """Two independent roundings of float64 to bfloat16."""
    import ml_dtypes

    x = np.random.default_rng(1).standard_normal(20_000) * 2.0 ** np.arange(-150, 130).repeat(100)[:20_000]
    x = np.concatenate([x, to_bf16(x) * (1 + 2.0**-8), [np.nan, np.inf, -0.0]])
    with np.errstate(all="ignore"):
        assert np.array_equal(nearest(x, np.dtype(ml_dtypes.bfloat16)).astype(np.float64), to_bf16(x), equal_nan=True)
