"""Sampling: the largest logit, or a draw that depends only on the rng."""

import numpy as np
import pytest

from engram_ref.ops import join, sample

DRAWS = 4000


def test_greedy_takes_the_largest_logit_and_the_lowest_tied_index():
    logits = np.array([[0.0, 3.0, 3.0], [-1.0, -2.0, -3.0], [5.0, 5.0, 5.0]])
    result = sample(logits, 0.0, None)
    assert result.tolist() == [1, 0, 0]
    assert result.dtype == np.int64


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_draws_follow_the_softmax(temperature):
    """Each count is binomial; six standard deviations leave a chance of 2e-9 per token."""
    logits = np.array([0.0, 1.0, -2.0, 3.0, 2.5])
    share = np.exp(logits / temperature)
    share /= share.sum()
    drawn = sample(np.tile(logits, (DRAWS, 1)), temperature, np.random.default_rng(0))
    counts = np.bincount(drawn, minlength=5)
    assert (np.abs(counts - DRAWS * share) <= 6 * np.sqrt(DRAWS * share * (1 - share))).all()


def test_the_rng_is_the_only_source_of_randomness():
    logits = np.random.default_rng(0).standard_normal((50, 11))
    one, two, other = (sample(logits, 1.0, np.random.default_rng(seed)).tolist() for seed in (1, 1, 2))
    assert one == two != other


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("temperature", [1e-3, 1e-30, 1e-309])
def test_a_tiny_temperature_is_greedy(temperature, dtype):
    """Logits divided by a tiny temperature must not all become infinite."""
    logits = np.array([[1.0, 2.0, 0.0, -3.0]], dtype=dtype)
    with np.errstate(over="ignore"):
        assert sample(logits, temperature, np.random.default_rng(0)).tolist() == [1]


def test_join_with_and_without_arrays():
    assert join([], 3).shape == (3, 0)
    assert join([], 3).dtype == np.int64
    assert join([np.array([[1], [2]]), np.array([[3], [4]])], 2).tolist() == [[1, 3], [2, 4]]
