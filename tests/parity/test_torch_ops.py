"""Every op of the torch backend compared with the definition: integers exactly, floats within their class."""

import ml_dtypes
import numpy as np
import pytest

from engram_ref import ops
from engram_ref.config import CHOICES
from engram_ref.ops import DEAD
from engram_ref.ops.namespace import CONSTANTS
from tests.compare import assert_close
from tests.op_cases import op_of
from tests.op_cases_floats import CASES, EXACT, FLOATS, SHAPES

torch = pytest.importorskip("torch", reason="torch is not installed")
from engram_ref.backends import torch as torch_ops  # noqa: E402  needs torch
from tests.torch_cases import arguments_of, error_scales, mapped, outputs, tensor  # noqa: E402

ELSEWHERE = {"as_array", "as_int64", "check_ids", "check_rows", "check_together", "constant", "dtype_name",
             "first_non_finite", "to_numpy", "writable", "zeros"}
"""Ops that only check or convert arrays; tests of models and errors cover them."""


def test_every_torch_op_has_a_case():
    """Gradients, which torch computes by autograd, are compared in test_vjps_autograd.py."""
    torch_versions = {name for name in ops.__all__ if not name.endswith("_vjp")} - CONSTANTS - {"DEAD", "ignore"}
    assert torch_versions - {op_of(name) for name in CASES} == ELSEWHERE


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"B={s[0]},T={s[1]}")
@pytest.mark.parametrize("name", EXACT)
def test_exact_ops_equal_the_definition(name, shape):
    arguments = arguments_of(EXACT[name], shape)
    with np.errstate(over="ignore"):          # products of hashes wrap, sums of huge numbers are infinite
        expected = outputs(EXACT[name].call(ops, *arguments))
    found = outputs(EXACT[name].call(torch_ops, *mapped(tensor, arguments)))
    for e, f in zip(expected, found, strict=True):
        assert torch_ops.dtype_name(f) == e.dtype.name
        assert_close(name, e, f.numpy(), "exact")


def assert_floats(name, shape, dtype):
    case, kind = FLOATS[name], "f32" if dtype is np.float32 else "f64"
    arguments = arguments_of(case, shape, dtype)
    wide = mapped(lambda x: x.astype(np.float64) if x.dtype == np.float32 else x, arguments)
    expected, scales = outputs(case.call(ops, *wide)), error_scales(case, arguments)
    found = outputs(case.call(torch_ops, *mapped(tensor, arguments)))
    for e, f, scale in zip(expected, found, scales, strict=True):
        if scale is None:
            assert_close(name, e, f.numpy(), "exact")
        else:
            assert_close(name, e, f.detach().numpy(), kind, case.terms, scale)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"B={s[0]},T={s[1]}")
@pytest.mark.parametrize("name", FLOATS)
def test_float_ops_agree_in_float64(name, shape):
    assert_floats(name, shape, np.float64)


@pytest.mark.parametrize("name", FLOATS)
def test_float_ops_agree_in_float32(name):
    assert_floats(name, (2, 5), np.float32)


CODES, SCALES = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_all_pairs_of_code_and_scale(dtype):
    codes, scales = CODES, SCALES[:, ::32]
    expected = ops.dequantise(codes, scales, dtype)
    found = torch_ops.dequantise(tensor(codes), tensor(scales), dtype)
    assert_close("pairs", expected, found.numpy(), "exact")
    assert found.shape == (256, 256)


TINY, HUGE = np.finfo(np.float32).smallest_subnormal, np.finfo(np.float32).max
EDGES = np.array([0.0, -0.0, TINY, -TINY, 2.0**-149, 2.0**-133, 2.0**-127, 2.0**-126, 1.0, 1.00390625, 1.01171875,
                  416.0, 432.0, 447.9, 448.0, 449.0, 464.0, 480.0, -464.0, 2.0**100, HUGE, -HUGE, np.inf, -np.inf,
                  np.nan], dtype=np.float32)


def bits(x):
    return x.view(np.int32) if x.dtype == np.float32 else x


def test_quantise_is_bit_identical_at_the_edges():
    """Each edge value is in a block of zeros once, and once in a block with the largest finite code."""
    blocks = np.zeros((2 * len(EDGES), 32), dtype=np.float32)
    blocks[:, 3] = np.tile(EDGES, 2)
    blocks[len(EDGES) :, 5] = 448.0
    for e, f in zip(ops.quantise(blocks), torch_ops.quantise(tensor(blocks)), strict=True):
        assert_close("edges", e, f.numpy(), "exact")


def test_quantise_every_bfloat16_pattern():
    """Two arrangements of all 65,536 patterns, 32 per block, combine signs, subnormals and NaN with many scales."""
    patterns = np.arange(2**16, dtype=np.uint16).reshape(-1, 32).view(ml_dtypes.bfloat16).astype(np.float32)
    for blocks in (patterns, np.ascontiguousarray(patterns.T).reshape(-1, 32)):
        with np.errstate(invalid="ignore"):       # the patterns include signalling NaNs
            expected = ops.quantise(blocks)
        for e, f in zip(expected, torch_ops.quantise(tensor(blocks)), strict=True):
            assert_close("patterns", e, f.numpy(), "exact")


def test_round_bf16_is_bit_identical():
    halves = np.arange(0, 2**32, 2**15, dtype=np.uint64).astype(np.uint32)             # every bfloat16, every tie
    x = np.concatenate([halves, halves + np.uint32(1), halves - np.uint32(1)]).view(np.float32)
    x = np.concatenate([x[~np.isnan(x)], EDGES[:-1]])
    assert np.array_equal(bits(ops.round_bf16(x)), bits(torch_ops.round_bf16(tensor(x)).numpy()))
    assert torch_ops.round_bf16(torch.tensor([float("nan")])).isnan().all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("form", CHOICES["gate_form"])
def test_gate_at_zero_and_extreme_scores(form, dtype):
    s = np.array([0.0, -0.0, 1e-30, -1e-30, 1e-6, -1e-6, 80.0, -80.0, np.inf, -np.inf, np.nan], dtype=dtype)
    s = s.reshape(1, -1, 1)
    expected, found = ops.gate(s, form), torch_ops.gate(tensor(s), form).numpy()
    assert np.isnan(expected[0, -1, 0]) and np.isnan(found[0, -1, 0])
    kind = "f32" if dtype is np.float32 else "f64"
    scale = np.maximum(expected, np.finfo(dtype).tiny)[:, :-1]
    assert_close(form, expected[:, :-1].astype(np.float64), found[:, :-1], kind, 1, scale)
    if form != "sigmoid":
        root = getattr(ops, form)(s[:, :2]), getattr(torch_ops, form)(tensor(s[:, :2])).numpy()
        assert_close("zeros", *root, "exact")


def test_the_gate_of_a_dead_position_is_zero_for_any_score():
    found = torch_ops.gate(torch.full((1, 2, 3), float("nan")), "sigmoid", torch.tensor([[True, False]]))
    assert found[0, 0].tolist() == [0.0, 0.0, 0.0] and found[0, 1].isnan().all()


def test_nan_does_not_spread_to_other_tokens():
    """NaN in an expert affects only the tokens that selected it."""
    case = CASES["routed_grouped"]
    p, x, chosen, weights = mapped(tensor, arguments_of(case))
    chosen[:] = torch.tensor([0, 1, 2])
    chosen[0] = torch.tensor([3, 4, 5])
    p["experts.w2"][3] = float("nan")
    found = torch_ops.routed_grouped(p, x, chosen, weights)
    assert found[0].isnan().all() and found[1:].isfinite().all()


def test_draws_follow_the_softmax():
    """Each count is within five standard deviations of its expectation, and a seed reproduces its draws."""
    logits, n = torch.tensor([[0.0, 1.0, 2.0, -torch.inf]]), 20_000
    draws = [torch_ops.sample(logits.repeat(n, 1), 0.5, torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    expected = torch.softmax(2 * logits.double(), -1)[0]
    deviation = (n * expected * (1 - expected)).sqrt()
    assert ((torch.bincount(draws[0], minlength=4) - n * expected).abs() <= 5 * deviation).all()


def test_an_id_outside_the_map_raises():
    for wrong in (9, -2):
        with pytest.raises(IndexError):
            torch_ops.canonicalise(torch.tensor([DEAD, wrong]), np.arange(9))


def test_router_scores_above_20_are_not_linear():
    x, one = np.linspace(19.0, 24.0, 11)[:, None], np.ones((1, 1))
    found = torch_ops.router_scores(tensor(x), tensor(one), "sqrt_softplus").numpy()
    assert_close("scores", ops.router_scores(x, one, "sqrt_softplus"), found, "f64")
