"""How far roundings are carried by hyper-connections, and how many of them others make in float32.

First-order propagation as in tests/bounds.py: a scale is what one rounding unit at the input has become.
"""

import numpy as np

from engram_ref.ops import frequencies
from tests.bounds import rms


def logit_scale_of_maps(p, X, eps):
    """Of the logits of a site's maps or of a learned collapse, [B, T, maps]; twice, since the norm sums as well."""
    B, T, M, D = X.shape
    v = np.abs(X.reshape(B, T, M * D))
    raw = v / rms(v, eps) @ np.abs(p["phi"]).T
    groups = [M, M, M * M] if len(p["alpha"]) == 3 else [M]
    return np.abs(p["bias"]) + 2 * np.repeat(np.abs(p["alpha"]), groups) * raw


def weight_scale(logits):
    """Of sigmoids: their slope is at most 1/4, and they round themselves."""
    return 1 + logits / 4


def matrix_scale(logits, M, iterations, terms):
    """Of a matrix made by Sinkhorn-Knopp, one number a matrix, where `terms` counts the sum behind a logit.

    Entries are at most one; an error of a logit makes one of at most twice its size, its own and that of the
    sums. Each half step sums M exponentials and rounds a logarithm and two differences.
    """
    return (2 * logits.max(axis=-1) + sinkhorn_terms(M, iterations) / (terms + 16))[..., None, None]


def sinkhorn_terms(M, iterations):
    """Roundings of all half steps."""
    return 2 * iterations * (M + 4)


ROUNDINGS_OF_A_NORM = 4      # the cast of x, the mean square's half, the root, the product
ROUNDINGS_OF_A_SOFTMAX = 8   # the cast of a score of size up to 4, exp, the sum, the quotient
ROUNDINGS_OF_A_ROUTER = 8    # sigmoid, the sum, the quotient, the scaling


def float32_roundings(config, length):
    """How many float32 roundings HF's classes put on the path from an id to its logits.

    Per layer: two norms of the stream, one or two of latents, the softmax, the cosines, the router. Cosines
    are of angles computed in float32, position * frequency * (1 + 3u): one rounding each for the frequency's
    power, its reciprocal and the product; at angle a that is 3a roundings. Pair 0 has frequency 1 and is
    exact. The router's dot product has D terms, in float32, before a sigmoid with a slope of at most 1/4.
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
    """What those roundings are relative to: the sums of absolute values behind the largest logit.

    Roundings inside the blocks reach the logits through the residual stream, which the last norm divides by
    its own length; the count above takes the blocks to pass a relative change on as it came. Measured errors of
    the models in engram_ref/oracle/hf_models.py are 0.8% to 10% of the allowance, which itself is about 1e-5 of the
    largest logit.
    """
    return (np.abs(final_norm) @ np.abs(head).T).max()
