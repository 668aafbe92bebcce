"""Cross-entropy: the negative log-probability that the model assigns to the actual next token.

    loss = - log softmax(logits)[target],  in nats
"""

import numpy as np

from engram_ref.ops.canonical import check_ids


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
