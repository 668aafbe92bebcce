"""Losses: the cross-entropy of the next token, and the imbalance of the experts.

    loss = - log softmax(logits)[target],  in nats

DeepSeek-V3 adds a small multiple of the imbalance of each text. It is the sum over experts of the share of choices f,
relative to a uniform choice, times the mean share of the scores P. If all experts have the same shares, it is 1. Only
the scores have a gradient; the choices have none.
"""

import numpy as np

from engram_ref.checks import check_shapes
from engram_ref.ops.canonical import check_ids

SHARE_FLOOR = 1e-20        # added to the sum of a token's scores


def cross_entropy(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the cross-entropy of every position.

    logits    [..., V] float
    targets   int64 [...] in [0, V)
    returns   [...] nats, not averaged
    raises    InputError for a target outside the vocabulary

    >>> cross_entropy(np.zeros((1, 4)), np.array([2])).round(4)
    array([1.3863])
    """
    check_ids(targets, logits.shape[-1], False, "targets")
    largest = logits.max(axis=-1, keepdims=True)
    log_sum = np.log(np.exp(logits - largest).sum(axis=-1)) + largest[..., 0]
    return log_sum - np.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]


def balance_loss(scores: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return the imbalance of the experts in every text.

    scores    [B, T, E] at least 0, without the bias
    chosen    int64 [B, T, K], the experts that the router chose, bias included
    returns   [B]; 0 for a text without tokens
    source    DeepSeek-V3, section 2.1.2: the loss is this times alpha = 1e-4. V3's text counts the choices without the
              bias; most code, and this op, the actual ones

    >>> balance_loss(np.full((1, 2, 4), 0.5), np.array([[[0, 1], [2, 3]]]))
    array([1.])
    """
    check_shapes(chosen=(chosen, (*scores.shape[:-1], chosen.shape[-1])))
    shares = score_shares(scores).sum(axis=1) / max(scores.shape[1], 1)                      # P [B, E]
    return (choice_shares(chosen, scores.shape[-1], scores.dtype) * shares).sum(axis=-1)


def choice_shares(chosen: np.ndarray, E: int, dtype: np.dtype) -> np.ndarray:
    """Return f [B, E]: how often each expert was chosen, relative to a uniform choice."""
    counts = (chosen.reshape(len(chosen), -1, 1) == np.arange(E)).sum(axis=1)              # [B, T*K, E] -> [B, E]
    return (counts * (E / max(chosen[:1].size, 1))).astype(dtype)


def score_shares(scores: np.ndarray) -> np.ndarray:
    """Return each token's scores divided by their sum, [B, T, E]."""
    return scores / (scores.sum(axis=-1, keepdims=True) + SHARE_FLOOR)
