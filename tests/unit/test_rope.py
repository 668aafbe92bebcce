"""RoPE and YaRN: adjacent pairs, float64 angles, the ramp, and published numbers."""

import math

import numpy as np
import pytest

from engram_ref import InputError
from engram_ref.model_config import YarnConfig
from engram_ref.ops import angles, frequencies, half_split_order, rotate, softmax_scale, yarn_mscale
from engram_ref.ops.rope import yarn_range
from engram_ref.oracle.slow import rope as slow
from tests.compare import assert_close

PAPER = YarnConfig(factor=10.0, mscale=0.707)
V3 = YarnConfig(factor=40.0, mscale=1.0)
SHORT = YarnConfig(factor=3.0, mscale=0.5, original_length=50, beta_fast=9.0, beta_slow=2.0)
STEP = YarnConfig(factor=2.0, mscale=1.0, original_length=6, beta_fast=2.0, beta_slow=1.0)     # low = high = 0


@pytest.mark.parametrize("yarn", [None, PAPER, V3, SHORT, STEP], ids=["plain", "paper", "v3", "short", "step"])
@pytest.mark.parametrize("theta", [10_000.0, 7.0])
@pytest.mark.parametrize("dim", [2, 6, 10, 64])
def test_frequencies_match_the_slow_version(dim, theta, yarn):
    expected = np.array(slow.frequencies(dim, theta, yarn and vars(yarn)))
    result = frequencies(dim, theta, yarn)
    assert_close("frequencies", expected, result, "f64", 3, expected * (1 + math.log(theta)))  # exp(a) is off by a * u


@pytest.mark.parametrize("yarn", [PAPER, V3, SHORT, STEP], ids=["paper", "v3", "short", "step"])
@pytest.mark.parametrize("dim", [2, 6, 64])
def test_ramp_ends_match_the_slow_version(dim, yarn):
    assert yarn_range(dim, 10_000.0, yarn) == slow.ramp_ends(dim, 10_000.0, vars(yarn))


def test_published_yarn_numbers():
    assert yarn_range(64, 10_000.0, PAPER) == (10, 23)
    assert f"{yarn_mscale(PAPER) ** 2:.6f}" == "1.352087"
    assert f"{yarn_mscale(PAPER):.6f}" == "1.162793"
    assert f"{softmax_scale(192, PAPER):.7f}" == "0.0975785"
    assert f"{softmax_scale(192):.7f}" == "0.0721688"
    assert f"{yarn_mscale(V3):.5f}" == "1.36889"


def test_the_ramp_lowers_low_frequencies_only():
    plain, stretched = frequencies(64, 10_000.0), frequencies(64, 10_000.0, PAPER)
    assert_close("fast", plain[:11], stretched[:11], "exact")
    assert_close("slow", plain[23:] / 10, stretched[23:], "exact")
    ratio = (plain / stretched)[10:24]
    assert (np.diff(ratio) > 0).all()


@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_mscale_is_one_for_factors_up_to_one(factor):
    assert yarn_mscale(YarnConfig(factor, 0.707)) == yarn_mscale(None) == 1.0


@pytest.mark.parametrize("dim", [1, 3, 63])
def test_an_odd_number_of_channels_raises(dim):
    with pytest.raises(InputError, match=f"dim: expected an even number.*found {dim}"):
        frequencies(dim, 10_000.0)


@pytest.mark.parametrize("shape", [(1, 0, 2), (1, 1, 2), (2, 5, 6), (2, 3, 4, 10)], ids=str)
def test_rotation_matches_complex_numbers(shape):
    rng = np.random.default_rng(0)
    x, positions = rng.standard_normal(shape), rng.integers(0, 40_000, shape[:2])
    freqs = frequencies(shape[-1], 10_000.0, SHORT)
    expected = np.zeros(shape)
    for index in np.ndindex(shape[:-1]):
        expected[index] = slow.rotate(x[index].tolist(), int(positions[index[:2]]), freqs.tolist())
    assert_close("rotated", expected, rotate(x, angles(positions, freqs)), "f64", 2)


def test_adjacent_channels_are_rotated_not_halves():
    angle = np.array([[[0.3, 0.8]]])
    result = rotate(np.array([[[1.0, 0.0, 0.0, 1.0]]]), angle)
    expected = [math.cos(0.3), math.sin(0.3), -math.sin(0.8), math.cos(0.8)]
    assert_close("rotated", np.array(expected), result[0, 0], "f64")


def test_position_zero_changes_nothing():
    x = np.random.default_rng(0).standard_normal((1, 1, 3, 8))
    assert_close("rotated", x, rotate(x, angles(np.zeros((1, 1), dtype=np.int64), frequencies(8, 1e4))), "exact")


def test_scores_depend_on_the_distance_only():
    rng = np.random.default_rng(0)
    q, k = rng.standard_normal((2, 1, 5, 6))
    freqs, positions = frequencies(6, 100.0), np.array([[0, 1, 2, 7, 30]])
    result = [rotate(q, angles(positions + s, freqs)) @ rotate(k, angles(positions + s, freqs)).swapaxes(1, 2)
              for s in (0, 1, 411)]
    scale = (np.abs(q).sum(-1).max() * np.abs(k).max()) * (1 + 441)          # an angle a is off by a * u
    for shifted in result[1:]:
        assert_close("scores", result[0], shifted, "f64", 6, scale)


def rotate_half(x, angle):
    """RoPE as in other libraries: channel i is paired with channel i + dim/2."""
    half = x.shape[-1] // 2
    cos, sin = np.cos(angle), np.sin(angle)
    one, two = x[..., :half], x[..., half:]
    return np.concatenate([one * cos - two * sin, two * cos + one * sin], axis=-1)


@pytest.mark.parametrize("dim", [2, 6, 16])
def test_reordered_weights_work_with_the_half_split_form(dim):
    rng = np.random.default_rng(0)
    q_weight, k_weight = rng.standard_normal((2, dim, 9))
    x, angle = rng.standard_normal((1, 7, 9)), angles(np.arange(7)[None], frequencies(dim, 100.0))
    order = half_split_order(dim)
    ours = rotate(x @ q_weight.T, angle) @ rotate(x @ k_weight.T, angle).swapaxes(1, 2)
    q, k = (rotate_half(x @ weight[order].T, angle) for weight in (q_weight, k_weight))
    scale = ((np.abs(x) @ np.abs(q_weight).T) @ (np.abs(x) @ np.abs(k_weight).T).swapaxes(1, 2)).max()
    assert_close("scores", ours, q @ k.swapaxes(1, 2), "f64", 2 * 9 + dim, 4 * scale)
    if dim > 2:
        wrong = rotate_half(x @ q_weight.T, angle) @ rotate_half(x @ k_weight.T, angle).swapaxes(1, 2)
        assert np.abs(wrong - ours).max() > 1


def test_float32_vectors_are_rotated_by_float64_angles():
    """At 32k tokens a float32 angle is off by 1e-3; the cosine's own rounding is 6e-8."""
    rng, positions = np.random.default_rng(0), np.array([[32_767, 131_071]])
    x = rng.standard_normal((1, 2, 64)).astype(np.float32)
    angle = angles(positions, frequencies(64, 1e4))
    assert angle.dtype == np.float64
    assert_close("rotated", rotate(x.astype(np.float64), angle), rotate(x, angle), "f32", 2)
