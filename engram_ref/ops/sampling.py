"""Sampling: choose the next token from the logits."""

import numpy as np

from engram_ref.checks import check_kind


def sample(logits: np.ndarray, temperature: float, rng: "np.random.Generator | None") -> np.ndarray:
    """Draw one token per row.

    logits        [B, V]
    temperature   0: the largest logit, ties to the lowest id; above 0: a draw from softmax(logits / temperature)
    rng           required if the temperature is above 0
    returns       int64 [B]
    source        the Gumbel-max trick: the largest of the logits plus Gumbel noise has exactly this distribution

    >>> sample(np.array([[0.0, 2.0, 2.0]]), 0.0, None)
    array([1])
    """
    if temperature > 0:
        check_kind("rng", rng, np.random.Generator)
        below = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)     # at most 0: no overflow to +inf
        with np.errstate(over="ignore"):
            logits = below / temperature + rng.gumbel(size=logits.shape)    # type: ignore[union-attr]  # not None
    return logits.argmax(axis=-1).astype(np.int64)


def join(tokens: list[np.ndarray], batch: int) -> np.ndarray:
    """Concatenate T tokens: T arrays [B, 1] -> int64 [B, T]; T may be 0."""
    return np.concatenate([np.zeros((batch, 0), dtype=np.int64), *tokens], axis=1)
