"""RMSNorm: per branch, with eps inside the root, for every eps in use."""

import numpy as np
import pytest

from engram_ref.ops import effective_gain, inverse_rms, rms_norm
from engram_ref.oracle.slow import module as slow
from tests.compare import assert_close

EPSILONS = {"machine": None, "1e-20": 1e-20, "1e-6": 1e-6, "1e-5": 1e-5}


def slow_norm(x, gain, eps):
    eps = slow.FLOAT64_EPS if eps is None else eps
    lines = [slow.rms_norm(line, g, eps) for line, g in zip(x.reshape(-1, x.shape[-1]).tolist(),
             np.broadcast_to(gain, x.shape).reshape(-1, x.shape[-1]).tolist(), strict=True)]
    return np.reshape(np.array(lines, dtype=float), x.shape)


@pytest.mark.parametrize("eps", EPSILONS)
@pytest.mark.parametrize("shape", [(1, 0, 2, 3), (1, 1, 1, 1), (2, 3, 4, 13), (7,)], ids=str)
def test_norm_matches_exact_sums(shape, eps):
    rng = np.random.default_rng(1)
    x, gain = rng.standard_normal(shape), rng.standard_normal(shape[-2:])
    expected = slow_norm(x, gain, EPSILONS[eps])
    assert_close("norm", expected, rms_norm(x, gain, EPSILONS[eps]), "f64", shape[-1])


@pytest.mark.parametrize("eps", EPSILONS)
def test_eps_is_added_inside_the_root(eps):
    """The vectors are so short that the result depends on eps and on its position inside the root."""
    lengths = 10.0 ** np.array([-160, -11, -10, -9, -8, -7, -4, -3, -2])
    x = np.array([0.5, -1.0, 2.0]) * lengths[:, None]
    expected = slow_norm(x, np.ones(3), EPSILONS[eps])
    result = rms_norm(x, np.ones(3), EPSILONS[eps])
    for e, f in zip(expected, result, strict=True):
        assert_close("short vector", e, f, "f64", 3)


def test_machine_epsilon_comes_from_the_input_dtype():
    for dtype, eps in ((np.float32, 2.0**-23), (np.float64, 2.0**-52)):
        zero = inverse_rms(np.zeros(3, dtype=dtype), None)
        assert zero.dtype == dtype
        assert zero.item() == dtype(1) / np.sqrt(dtype(eps))


def test_branches_are_normalised_separately():
    x = np.array([[3.0, 4.0, 0.0], [3e6, 4e6, 0.0]])
    one, other = rms_norm(x, np.ones((2, 3)), 0.0)
    assert_close("branches", one, other, "f64", 3)


def test_each_branch_has_its_own_gain():
    result = rms_norm(np.ones((2, 3)), np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), 0.0)
    assert result.tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize("eps", [e for e in EPSILONS if e != "1e-20"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_zero_vector_stays_zero(dtype, eps):
    assert rms_norm(np.zeros((2, 3), dtype=dtype), np.ones(3, dtype=dtype), EPSILONS[eps]).tolist() == [[0] * 3] * 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_smallest_eps_survives_in_float32(dtype):
    result = rms_norm(np.full(2, 1e-10, dtype=dtype), np.ones(2, dtype=dtype), 1e-20)
    assert_close("short", np.full(2, 0.5**0.5), result, "f32" if dtype is np.float32 else "f64", 2)


def test_float32_stays_close_to_float64():
    rng = np.random.default_rng(2)
    x, gain = rng.standard_normal((3, 2, 63)).astype(np.float32), rng.standard_normal((2, 63)).astype(np.float32)
    expected = rms_norm(x.astype(np.float64), gain.astype(np.float64), 1e-6)
    assert_close("norm", expected, rms_norm(x, gain, 1e-6), "f32", 63)


def test_nan_affects_only_its_own_vector():
    x = np.ones((3, 2))
    x[1, 0] = np.nan
    result = rms_norm(x, np.ones(2), 1e-6)
    assert np.isnan(result).all(axis=-1).tolist() == [False, True, False]


def test_zero_centred_gains_are_stored_as_gain_minus_one():
    weight = np.array([-0.5, 0.0, 0.25])
    assert effective_gain(weight, "zero_centred").tolist() == [0.5, 1.0, 1.25]
    assert effective_gain(weight, "plain").tolist() == [-0.5, 0.0, 0.25]
