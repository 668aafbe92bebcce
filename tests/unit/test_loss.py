"""Cross-entropy in nats: exact sums, extreme logits, and invalid targets."""

import math

import numpy as np
import pytest

from engram_ref import InputError
from engram_ref.ops import cross_entropy
from tests.compare import assert_close


def slow(logits, target):
    top = max(logits)
    return top - logits[target] + math.log(math.fsum(math.exp(x - top) for x in logits))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("spread", [1e-3, 1.0, 30.0, 1e4], ids=lambda s: f"logits of {s}")
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (2, 3, 7)], ids=str)
def test_cross_entropy_matches_exact_sums(shape, spread, dtype):
    rng = np.random.default_rng(0)
    logits, targets = (spread * rng.standard_normal(shape)).astype(dtype), rng.integers(0, shape[-1], shape[:-1])
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        result = cross_entropy(logits, targets)
    expected = [slow(row, t) for row, t in zip(logits.reshape(-1, shape[-1]).tolist(), targets.ravel().tolist(),
                                               strict=True)]
    scale = 1 + 2 * np.abs(logits.astype(np.float64)).max(initial=0.0)
    kind = "f32" if dtype is np.float32 else "f64"
    assert_close("loss", np.array(expected).reshape(shape[:-1]), result, kind, shape[-1], scale)


def test_uniform_logits_give_the_log_of_the_vocabulary_size():
    assert_close("loss", np.full(2, math.log(129_280)), cross_entropy(np.zeros((2, 129_280)), np.array([0, 129_279])),
                 "f64", 20)                                  # NumPy sums pairwise


@pytest.mark.parametrize("target", [-1, -100, 4])
def test_a_target_outside_the_vocabulary_raises(target):
    """-1 would index the last logit, and -100 is the ignore index of other libraries."""
    with pytest.raises(InputError, match="targets"):
        cross_entropy(np.zeros((2, 4)), np.array([0, target]))
