"""Solved cases land where their titles say, in float64 and in float32, and no choice depends on rounding errors."""

import functools
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest

from engram_ref import backends, ops
from engram_ref.ops.namespace import NUMPY
from engram_ref.oracle.check.judge import judge
from engram_ref.oracle.compare import to_bf16
from engram_ref.oracle.encoding import decode_all
from engram_ref.oracle.noise import noise_of
from engram_ref.oracle.run import Adapter, run
from engram_ref.oracle.vectors import read
from scripts.builders import solved_codecs
from scripts.builders.solved_modules import CONFIGS, KEYS, LARGE, SCORES, recipes

SINGLE = Adapter(to=lambda array: array.astype(np.float32) if array.dtype == np.float64 else array)
VECTORS = read()
CASES = {case.name: case for case in VECTORS.cases if case.kind == "solved"}
MODULES = [name for name in CASES if name.startswith("engram_residual/")]
ROUNDED = "v4.1-like"


@functools.cache
def stages(name, dtype):
    """Return the stages of a case, computed in float32 or, except with V4.1's roundings, in float64."""
    return run(CASES[name], VECTORS, ops, Adapter() if dtype == "float64" else SINGLE, CASES[name].traced)


@functools.cache
def arguments(name):
    return decode_all(CASES[name].arguments, VECTORS.arrays, VECTORS.configurations)


def dtypes(label):
    return ("float32",) if label == ROUNDED else ("float64", "float32")


def rows_of(label):
    """Return {recipe: row} of the case of a dialect."""
    return {name: b for b, name in enumerate(recipes(CONFIGS[label])) if name != "underflow"}


@pytest.mark.parametrize("label", CONFIGS)
def test_scores_are_zero_or_on_the_stated_side_of_the_clamp(label):
    rows = rows_of(label)
    for dtype in dtypes(label):
        s = stages(f"engram_residual/{label}-solved", dtype)["score"][:, 0]
        assert (s[rows["zero key"]] == 0).all() and not np.signbit(s[rows["zero key"]]).any()
        for name, wanted in SCORES.items() if label != "paper-like" else ():
            assert np.allclose(s[rows[name]], wanted, rtol=0.01, atol=0)
            assert ((np.abs(s[rows[name]]) < 1e-6) == (abs(wanted) < 1e-6)).all()


@pytest.mark.parametrize("name", MODULES)
def test_no_other_score_is_near_zero(name):
    """Rounding never decides the sign of a score by which the gates of 0 and of a small number differ."""
    s = stages(name, "float32")["score"]
    solved = {*SCORES, "zero key"} if name.endswith("-solved") else set()
    rows = recipes(arguments(name)["config"]) if solved else range(len(s))
    for row, numbers in zip(rows, s[:, 0], strict=False):
        key_byte_0 = name.endswith("-scales") and row == len(solved_codecs.FINITE)
        if row not in solved and not name.endswith("-underflow") and not key_byte_0:
            assert (np.abs(numbers[np.isfinite(numbers)]) > 2.0**-14).all(), row


@pytest.mark.parametrize("label", CONFIGS)
def test_eps_counts_in_short_states_and_branches_differ(label):
    a, rows = arguments(f"engram_residual/{label}-solved"), rows_of(label)
    square = np.mean(a["hidden"][:, 0].astype(np.float64) ** 2, axis=-1)
    eps = a["config"].norm_eps
    for name, stated in (("tiny hidden", 2.0**-23 if eps is None else eps),
                         ("short hidden", 2.0**-52 if eps is None else eps)):
        ratio = square[rows[name]] / stated
        assert (ratio > 2.0**-6).all() and (ratio < 2.0**12).all(), name
    assert square[rows["unequal branches"], -1].min() > 2.0**20 * square[rows["unequal branches"], 0].max()


@pytest.mark.parametrize("label", CONFIGS)
def test_large_products_cancel(label):
    a, b = arguments(f"engram_residual/{label}-solved"), rows_of(label)["cancelling"]
    found = stages(f"engram_residual/{label}-solved", dtypes(label)[0])
    gains = [ops.effective_gain(a["parameters"][f"{n}_gain"], a["config"].gain_form) for n in ("query", "key")]
    products = a["hidden"][b, 0] * gains[0] * gains[1] * found["key"][b, 0]
    assert (np.abs(products.sum(axis=-1)) < 2.0**-7 * np.abs(products).sum(axis=-1)).all()
    assert (np.abs(found["score"][b]) > 1e-5).all()


@pytest.mark.parametrize("label", CONFIGS)
def test_magnified_channels_show_the_last_bits_of_y(label):
    """There H + Y is at most 2^-7 of Y, so that its eight bits reach down to 2^-15 of Y, and mostly further."""
    found = stages(f"engram_residual/{label}-solved", dtypes(label)[0])
    for name, b in rows_of(label).items():
        if name not in LARGE:
            Y, total = (np.abs(found[stage][b, 0, :, KEYS:]) for stage in ("output", "residual"))
            assert (total <= 2.0**-7 * Y).all() and total.any(), name


@pytest.mark.parametrize("label", ["tilekernels-like", ROUNDED])
def test_underflow_gives_minus_zero_and_both_answers_are_listed(label):
    name = f"engram_residual/{label}-underflow"
    assert [other.name for other in CASES[name].accept] == ["a score of +0.0"]
    s = stages(name, "float32")["score"]
    assert (s == 0).all() and np.signbit(s).all()
    if label != ROUNDED:
        s = stages(name, "float64")["score"]
        assert (s < 0).all() and (np.abs(s) < 2.0**-150).all()


@pytest.mark.parametrize("label", ["tilekernels-like", ROUNDED])
def test_a_comparison_with_zero_cannot_be_told_from_an_acceptable_answer(label):
    """`s < 0` gives the answer of implementations whose score is +0.0; only the cases of `gate` show it."""
    name = f"engram_residual/{label}-underflow"
    [plus] = CASES[name].accept
    less = lambda s: np.where(s < 0, -1, 1).astype(s.dtype) * np.sqrt(np.maximum(np.abs(s), s.dtype.type(1e-6)))
    gate = ops.sigmoid(less(stages(name, "float32")["score"]))
    [accepted] = [stage.array for stage in plus.stages if stage.name == "gate"]
    assert np.allclose(gate, accepted, rtol=1e-6, atol=0)
    assert not np.allclose(gate, stages(name, "float32")["gate"], rtol=1e-6, atol=0)


def test_scale_byte_0_reaches_the_output_only_without_v41s_floor():
    """V4.1's quantiser turns these blocks into zeros, so that no answer of its module depends on byte 0."""
    unrounded, floored = (stages(f"engram_residual/{name}-scales", "float32")
                          for name in ("v4.1-like-fp8-unrounded", ROUNDED))
    row = solved_codecs.FINITE.index(0)
    for found in (unrounded, floored):
        assert np.abs(found["memory"][row, 0, 32:]).min() > 2.0**-126
    assert (np.abs(unrounded["residual"][row, 0, :, KEYS:]).max(axis=-1) > 2.0**-124).all()
    assert not floored["value"][row].any()
    keys = len(solved_codecs.FINITE)            # its key has byte 0: the score is a clamped negative number, not 0
    assert (unrounded["score"][keys] < 0).all() and (floored["score"][keys] == 0).all()


def test_every_special_byte_and_code_occurs():
    a = arguments("gather_decode/v4.1-like-edges")
    at = a["rows"] + a["parameters"]["column_offsets"]
    assert set(a["parameters"]["table_scales"][at].ravel()) == set(solved_codecs.BYTES)
    codes = set(a["parameters"]["table_codes"][at].ravel().tolist())
    assert codes >= {*range(16), *range(0x80, 0x90), 0x7E, 0xFE, 0x7F, 0xFF}


@pytest.mark.parametrize("name", CASES)
def test_choices_are_those_of_float32(name):
    """Integer answers, such as chosen experts, do not depend on the precision."""
    for stage in CASES[name].stages:
        if stage.array.dtype.kind in "iub":
            assert np.array_equal(stages(name, "float32")[stage.name], stage.array)


@pytest.mark.parametrize("name", CASES)
def test_float_inputs_are_numbers_of_bfloat16(name):
    for array in floats(arguments(name)):
        assert np.array_equal(to_bf16(array), array, equal_nan=True)


def floats(argument):
    """Yield the float32 and float64 arrays of an argument."""
    if isinstance(argument, dict | list | tuple):
        for part in argument.values() if isinstance(argument, dict) else argument:
            yield from floats(part)
    elif isinstance(argument, np.ndarray) and argument.dtype in (np.float32, np.float64):
        yield argument


@functools.cache
def with_noise(name):
    """Return the case with the noise of its stages, as in a kit."""
    case, noise = CASES[name], noise_of(CASES[name], VECTORS)
    add = lambda part: tuple(replace(stage, noise=noise[stage.name]) for stage in part.stages)
    return replace(case, stages=add(case), accept=tuple(replace(other, stages=add(other)) for other in case.accept))


def passes(name, dtype, namespace=NUMPY):
    """Return whether a fused module, which answers H + Y alone, passes a case if it computes in float32."""
    answer = run(CASES[name], VECTORS, namespace, SINGLE, False)["residual"]
    return all(r.ok for r in judge(with_noise(name), VECTORS, {"residual": answer.astype(dtype)}))


ROOTS = {
    "no clamp": lambda s, sign: sign(s) * np.sqrt(np.abs(s)),
    "clamp added": lambda s, sign: sign(s) * np.sqrt(np.abs(s) + np.float32(1e-6)),
    "sign and copysign confused": lambda s, sign: ops.copysign_sqrt(s) if sign is np.sign else ops.signed_sqrt(s),
    "no sign": lambda s, sign: np.sqrt(np.maximum(np.abs(s), np.float32(1e-6))),
}
"""Wrong roots of the score; they move few gates, and some by no more than 2^-12."""


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", MODULES)
def test_fused_modules_pass(name, dtype):
    assert passes(name, dtype)


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("label", [label for label in CONFIGS if label != "paper-like"])
@pytest.mark.parametrize("wrong", ROOTS)
def test_fused_modules_with_a_wrong_root_fail(wrong, label, dtype):
    form = CONFIGS[label].gate_form
    sign = np.sign if form == "signed_sqrt" else lambda s: np.copysign(s.dtype.type(1), s)
    namespace = backends.replace(NUMPY, **{form: lambda s: ROOTS[wrong](s, sign)})
    assert not passes(f"engram_residual/{label}-solved", dtype, namespace)


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("label", CONFIGS)
@pytest.mark.parametrize("eps", [1e-8, 1e-5])
def test_fused_modules_with_a_wrong_eps_fail(eps, label, dtype):
    stated = CONFIGS[label].norm_eps
    wrong = lambda x, given: ops.inverse_rms(x, eps if given == stated else given)
    assert not passes(f"engram_residual/{label}-solved", dtype, backends.replace(NUMPY, inverse_rms=wrong))
