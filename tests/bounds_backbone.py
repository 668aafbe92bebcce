"""Error propagation through hyper-connections, and the number of float32 roundings in HF's classes.

Propagation is first-order, as in tests/bounds.py: a scale is the output error of one rounding unit at the input.
"""

import numpy as np

from engram_ref.ops import frequencies
from tests.bounds import rms


def logit_scale_of_maps(p, X, eps):
    """Scale of the logits of hyper-connection maps or a learned collapse: [B, T, maps], doubled for the norm's sum."""
    B, T, M, D = X.shape
    v = np.abs(X.reshape(B, T, M * D))
    raw = v / rms(v, eps) @ np.abs(p["phi"]).T
    groups = [M, M, M * M] if len(p["alpha"]) == 3 else [M]
    return np.abs(p["bias"]) + 2 * np.repeat(np.abs(p["alpha"]), groups) * raw


def weight_scale(logits):
    """Scale of sigmoids: their slope is at most 1/4, and they add a rounding."""
    return 1 + logits / 4


def matrix_scale(logits, M, iterations, terms):
    """Scale of a Sinkhorn-Knopp matrix, one number per matrix; `terms` is the length of the sum of a logit.

    Entries are at most one. The error of a logit is at most doubled, by its own entry and by the sums. Each half step
    sums M exponentials and rounds a logarithm and two differences.
    """
    return (2 * logits.max(axis=-1) + sinkhorn_terms(M, iterations) / (terms + 16))[..., None, None]


def sinkhorn_terms(M, iterations):
    """Return the number of roundings of all half steps."""
    return 2 * iterations * (M + 4)


ROUNDINGS_OF_A_NORM = 4      # the cast of x, half of the mean square's, the root, the product
ROUNDINGS_OF_A_SOFTMAX = 8   # the cast of a score of size up to 4, exp, the sum, the quotient
ROUNDINGS_OF_A_ROUTER = 8    # sigmoid, the sum, the quotient, the scaling


def float32_roundings(config, length):
    """Return the number of float32 roundings on the path from an id to its logits in HF's classes.

    Per layer: two norms of the residual stream, one or two of latents, the softmax, the cosines, the router. The angles
    of the cosines are computed in float32, position * frequency * (1 + 3u): one rounding each for the power, its
    reciprocal and the product, so 3a roundings at angle a. Pair 0 has frequency 1 and is exact. The router computes a
    float32 dot product of D terms before a sigmoid, whose slope is at most 1/4.
    """
    backbone, a = config.backbone, config.backbone.attention
    speeds = frequencies(a.qk_rope_head_dim, a.rope_theta, a.yarn)[1:]
    angle = (length - 1) * speeds.max(initial=0.0)
    norms = 3 + (a.q_lora_rank is not None)
    attention = norms * ROUNDINGS_OF_A_NORM + ROUNDINGS_OF_A_SOFTMAX + 1 + 3 * angle
    experts = backbone.n_layers - backbone.n_dense_layers
    router = ROUNDINGS_OF_A_ROUTER + backbone.hidden_size / 4
    return backbone.n_layers * attention + experts * router + ROUNDINGS_OF_A_NORM


def logit_scale(final_norm, head):
    """Return the scale of those rounding errors: the largest sum of absolute values of a logit.

    Roundings inside the blocks reach the logits through the residual stream, which the last norm divides by its own
    length. The count above assumes that blocks do not amplify relative changes. The measured errors of the models in
    scripts/hf_models.py are 0.8% to 10% of the allowance, which is about 1e-5 of the largest logit.
    """
    return (np.abs(final_norm) @ np.abs(head).T).max()
