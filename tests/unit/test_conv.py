"""The short convolution: taps, dilation, causality, and a state that makes results independent of cuts."""

import numpy as np
import pytest

from engram_ref.ops import next_taps, short_conv, silu
from engram_ref.oracle.slow import module as slow
from tests.compare import assert_close

SHAPES = [(1, 0, 1, 1, 4, 3), (1, 1, 1, 1, 4, 3), (2, 11, 3, 5, 4, 3), (1, 7, 2, 1, 2, 4), (1, 6, 1, 3, 3, 1),
          (2, 5, 2, 3, 1, 3)]
"""B, T, M, D, number of taps, dilation."""


def case(B, T, M, D, L, dilation):
    rng = np.random.default_rng(T)
    x, weight = rng.standard_normal((B, T, M, D)), rng.standard_normal((M, D, L))
    return x, weight, np.zeros((B, (L - 1) * dilation, M, D))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_convolution_matches_exact_sums(shape):
    B, T, M, D, L, dilation = shape
    x, weight, start = case(*shape)
    kernels = weight.reshape(M * D, L).tolist()
    expected = [slow.short_conv(line, kernels, dilation) for line in x.reshape(B, T, M * D).tolist()]
    scale = np.abs(weight).sum(axis=-1) * np.abs(x).max(initial=0)
    result = short_conv(x, weight, dilation, start)
    assert_close("conv", np.reshape(np.array(expected, dtype=float), x.shape), result, "f64", L, scale)


def impulse_response(weight, dilation, length):
    impulse = np.zeros((1, length, 1, 1))
    impulse[0, 2] = 1.0
    start = np.zeros((1, (len(weight) - 1) * dilation, 1, 1))
    return short_conv(impulse, np.array([[weight]]), dilation, start).ravel().tolist()


def test_an_impulse_shows_the_taps_newest_first():
    result = impulse_response([4.0, 3.0, 2.0, 1.0], 3, 13)
    assert result == [0, 0, 1, 0, 0, 2, 0, 0, 3, 0, 0, 4, 0]


def test_convolution_is_causal():
    x, weight, start = case(1, 9, 2, 3, 4, 3)
    changed = x.copy()
    changed[:, 5:] = 1e6
    before, after = (short_conv(array, weight, 3, start) for array in (x, changed))
    assert_close("past", before[:, :5], after[:, :5], "exact")
    assert (before[:, 5:] != after[:, 5:]).all()


def test_branches_and_channels_are_independent():
    x, weight, start = case(1, 9, 3, 2, 4, 3)
    changed = x.copy()
    changed[:, :, 1, 0] += 1.0
    moved = (short_conv(x, weight, 3, start) != short_conv(changed, weight, 3, start)).any(axis=(0, 1))
    assert moved.tolist() == [[False, False], [True, False], [False, False]]


def in_chunks(x, weight, dilation, taps, lengths):
    result, begin = [], 0
    for length in lengths:
        chunk = x[:, begin : begin + length]
        result.append(short_conv(chunk, weight, dilation, taps))
        taps, begin = next_taps(chunk, taps), begin + length
    return np.concatenate(result, axis=1), taps


@pytest.mark.parametrize("lengths", [(11,), (1,) * 11, (0, 11), (11, 0, 0), (1, 10), (10, 1), (9, 2), (3, 0, 5, 3)],
                         ids=str)
def test_any_cut_gives_the_result_of_one_call(lengths):
    x, weight, start = case(2, 11, 3, 5, 4, 3)
    whole, last = in_chunks(x, weight, 3, start, (11,))
    result, taps = in_chunks(x, weight, 3, start, lengths)
    assert_close("conv", whole, result, "exact")
    assert_close("taps", last, taps, "exact")


def test_every_cut_in_two():
    for T in range(13):
        x, weight, start = case(1, T, 1, 3, 4, 3)
        whole, last = in_chunks(x, weight, 3, start, (T,))
        for cut in range(T + 1):
            result, taps = in_chunks(x, weight, 3, start, (cut, T - cut))
            assert_close(f"{T} cut at {cut}", whole, result, "exact")
            assert_close("taps", last, taps, "exact")


def test_taps_are_the_last_inputs():
    x = np.arange(1.0, 5.0).reshape(1, 4, 1, 1)
    taps = -np.arange(6.0, 0.0, -1).reshape(1, 6, 1, 1)
    assert next_taps(x, taps).ravel().tolist() == [-2, -1, 1, 2, 3, 4]
    assert next_taps(x[:, :0], taps).ravel().tolist() == [-6, -5, -4, -3, -2, -1]
    assert next_taps(np.concatenate([x, x], axis=1), taps).ravel().tolist() == [3, 4, 1, 2, 3, 4]


def test_silu_is_x_times_its_sigmoid():
    x = np.array([-1000.0, -20.0, -1.0, -0.0, 0.0, 0.5, 30.0, 1000.0])
    for value, result in zip(x.tolist(), silu(x), strict=True):
        assert_close(f"silu of {value}", slow.silu(value), result, "f64")
