"""The gate kernel in float32 compared with the definition in float64."""

import importlib

import numpy as np
import pytest

from engram_ref.errors import InputError
from engram_ref.ops import apply_gate, factored_score, gate
from tests.bounds import gate_scale
from tests.compare import assert_close
from tests.unit.test_gate import scale_of_score

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("triton", reason="triton is not installed")
kernel = importlib.import_module("engram_ref.backends.torch.kernels.gate")

pytestmark = pytest.mark.usefixtures("kernels_run")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SHAPES = ((0, 3, 2, 4), (2, 0, 2, 4), (1, 1, 1, 1), (1, 2, 4, 1), (3, 2, 1, 7), (2, 5, 4, 33), (1, 2, 3, 1025),
          (1, 1, 2, 1500), (1, 1, 4, 5120))
CLAMP = np.float32(1e-6)
NEAR = (np.nextafter(CLAMP, np.float32(0)), np.nextafter(CLAMP, np.float32(1)))
EDGES = np.float32([0.0, -0.0, CLAMP, -CLAMP, *NEAR, -NEAR[0], -NEAR[1], 1e-7, -1e-7, 1e-12, -1e-12, 1e-30,
                    2e-6, -2e-6, 1e-4, -1e-4, 1.0, -1.0, 4.0, -4.0, 900.0, -900.0, 7000.0, -7000.0, 1e30, -1e30])
"""Scores on each side of every branch of the root."""


def case(shape, magnitude=1.0):
    """hidden, key, value, query_gain and key_gain in float32, with branches of different magnitudes."""
    (B, T, M, D), rng = shape, np.random.default_rng(1)
    hidden, key = magnitude * rng.standard_normal((2, *shape))
    hidden *= 10.0 ** np.linspace(-1, 1, M)[:, None]
    query_gain, key_gain = 1 + 0.3 * rng.standard_normal((2, M, D))
    return [a.astype(np.float32) for a in (hidden, key, rng.standard_normal((B, T, D)), query_gain, key_gain)]


def run(arrays, eps, dead=None):
    """Run the kernel on NumPy arrays."""
    tensors = (None if a is None else torch.tensor(a, device=DEVICE) for a in (*arrays, dead))
    *five, dead = tensors
    return kernel.gate(*five, eps, dead).cpu().numpy()


def defined(arrays, eps, dead=None):
    """The gated values of the definition in float64, and the error scale of a float32 computation."""
    hidden, key, value, query_gain, key_gain = (a.astype(np.float64) for a in arrays)
    s = factored_score(hidden, key, query_gain, key_gain, eps)
    gated = apply_gate(gate(s, "copysign_sqrt", dead), value)
    s_scale = scale_of_score(hidden, key, query_gain, key_gain, eps)
    scale = gate_scale(s, s_scale, "copysign_sqrt")[..., None] * np.abs(value)[:, :, None]
    return gated, np.where(gated == 0, 0.0, scale)               # a dead position is exactly zero


def assert_gated(arrays, eps, dead=None):
    expected, scale = defined(arrays, eps, dead)
    assert_close("gated", expected, run(arrays, eps, dead), "f32", 2 * arrays[0].shape[-1], scale)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "B={},T={},M={},D={}".format(*s))
def test_gated_values(shape):
    assert_gated(case(shape), 1e-20)


@pytest.mark.parametrize("eps", [1e-20, 1e-6, 1e-5], ids=str)
@pytest.mark.parametrize("magnitude", [1e-3, 1e-8, 1e-10], ids=lambda m: f"states of {m}")
def test_gates_of_small_states_depend_on_eps(magnitude, eps):
    assert_gated(case((1, 3, 2, 13), magnitude), eps)


def test_the_default_eps_is_the_machine_epsilon_of_float32():
    arrays = case((1, 3, 2, 13), 1e-4)
    assert_close("gated", run(arrays, float(np.finfo(np.float32).eps)), run(arrays, None), "exact")
    assert not np.array_equal(run(arrays, None), run(arrays, 1e-6))


def unit_case(scores):
    """Inputs whose score in branch m is exactly scores[m]: the norms are 1 and the gain is the score."""
    one = np.ones((1, 1, len(scores), 1), dtype=np.float32)
    return one, one, np.ones((1, 1, 1), dtype=np.float32), scores[:, None], np.ones_like(scores[:, None])


def test_gates_at_the_edges_of_the_root():
    expected = defined(unit_case(EDGES), 1e-20)[0]
    found = run(unit_case(EDGES), 1e-20)
    for s, e, f in zip(EDGES, expected.ravel(), found.ravel(), strict=True):
        scale = np.abs(e) * (1 + np.sqrt(np.abs(s)))             # exp turns an absolute error into a relative one
        assert_close(f"gate of {s}", e, f, "f32", 1, max(scale, np.finfo(np.float32).tiny))


def test_scores_below_the_clamp_have_the_same_root():
    inside = run(unit_case(np.float32([1e-6, 9e-7, 1e-9, 1e-30])), 1e-20).ravel()
    assert inside.tolist() == [inside[0]] * 4
    outside = run(unit_case(np.float32([1e-6, 1.1e-6])), 1e-20).ravel()
    assert outside[0] < outside[1]


def test_a_score_too_small_for_float32_keeps_its_sign():
    hidden, key = np.float32([1e15, 0.0]), np.float32([1e-45, 1e15])
    ones = np.ones((2, 2), dtype=np.float32)
    arrays = (np.stack([hidden, -hidden])[None, None], np.stack([key, key])[None, None], ones[None, :1], ones, ones)
    above, below = run(arrays, 1e-20)[0, 0, :, 0]
    assert_close("above", defined(arrays, 1e-20)[0][0, 0, 0, 0], above, "f32")
    assert above > 0.5 > below


def test_a_dead_position_has_zero_output():
    arrays, dead = case((2, 3, 4, 9)), np.array([[True, False, True], [False, False, True]])
    arrays[0][0, 0], arrays[1][1, 2] = np.nan, np.inf
    found = run(arrays, 1e-20, dead)
    assert (found[dead] == 0).all()
    assert_close("alive", run(arrays, 1e-20)[~dead], found[~dead], "exact")
    assert_gated(case((2, 3, 4, 9)), 1e-20, dead)


def test_nan_does_not_spread_to_other_branches():
    arrays = case((1, 2, 3, 9))
    arrays[0][0, 1, 2, 4] = np.nan
    found = run(arrays, 1e-20)
    assert np.isnan(found[0, 1, 2]).all()
    assert np.isfinite(found[0, 0]).all() and np.isfinite(found[0, 1, :2]).all()


def arguments():
    return {"hidden": torch.ones(1, 2, 3, 4), "key": torch.ones(1, 2, 3, 4), "value": torch.ones(1, 2, 4),
            "query_gain": torch.ones(3, 4), "key_gain": torch.ones(3, 4), "eps": 1e-20,
            "dead": torch.zeros(1, 2, dtype=torch.bool)}


BAD = {
    "hidden in double": ("hidden", lambda a: a.double()),
    "hidden without branches": ("hidden", lambda a: a[:, :, 0]),
    "hidden with gaps": ("hidden", lambda a: torch.ones(1, 2, 4, 3).mT),
    "one key for all branches": ("key", lambda a: a[:, :, 0]),
    "a value per branch": ("value", lambda a: torch.ones(1, 2, 3, 4)),
    "a gain for all branches": ("query_gain", lambda a: a[0]),
    "gains on another device": ("key_gain", lambda a: a.to("meta")),
    "dead as bytes": ("dead", lambda a: a.byte()),
    "dead of fewer tokens": ("dead", lambda a: a[:, :1]),
}


@pytest.mark.parametrize("kind", BAD)
def test_invalid_arguments_raise(kind):
    name, change = BAD[kind]
    with pytest.raises(InputError, match=name):
        kernel.gate(**arguments() | {name: change(arguments()[name])})


@pytest.mark.parametrize("shape", [(0, 2, 3, 4), (1, 0, 3, 4)], ids=str)
def test_no_kernel_is_launched_without_tokens(shape, monkeypatch):
    monkeypatch.setattr(kernel, "gate_kernel", None)
    empty = {"hidden": torch.ones(shape), "key": torch.ones(shape), "value": torch.ones(*shape[:2], shape[3]),
             "dead": None}
    assert kernel.gate(**arguments() | empty).shape == shape
