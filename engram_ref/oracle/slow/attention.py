"""Multi-head latent attention for one sequence on nested lists, with explicit keys and values."""

import math

from engram_ref.oracle.slow import rope
from engram_ref.oracle.slow.module import dot, rms_norm, times


def latent_and_key(p, x, position, c):
    """Return the cache entry of one token: the normalised latent and the rotated key.

    `c` is a dictionary: heads, nope, rope, value, rank, eps, theta, yarn.
    """
    projected = times(p["wkv_a.weight"], x)
    latent = rms_norm(projected[: c["rank"]], p["kv_norm.weight"], c["eps"])
    return latent, rope.rotate(projected[c["rank"] :], position, rope.frequencies(c["rope"], c["theta"], c["yarn"]))


def query(p, x, position, c):
    """Return the queries [heads][nope + rope], the rope channels rotated."""
    if "wq.weight" in p:
        flat = times(p["wq.weight"], x)
    else:
        flat = times(p["wq_b.weight"], rms_norm(times(p["wq_a.weight"], x), p["q_norm.weight"], c["eps"]))
    width, frequencies = c["nope"] + c["rope"], rope.frequencies(c["rope"], c["theta"], c["yarn"])
    heads = [flat[h * width : (h + 1) * width] for h in range(c["heads"])]
    return [head[: c["nope"]] + rope.rotate(head[c["nope"] :], position, frequencies) for head in heads]


def key_and_value(p, cached, head, c):
    """Return the key and value of one cached token for one head."""
    latent, rotated = cached
    width = c["nope"] + c["value"]
    rows = p["wkv_b.weight"][head * width : (head + 1) * width]
    return times(rows[: c["nope"]], latent) + rotated, times(rows[c["nope"] :], latent)


def softmax(scores):
    """Return the softmax, shifted by the maximum to avoid overflow."""
    top = max(scores)
    powers = [math.exp(s - top) for s in scores]
    total = math.fsum(powers)
    return [power / total for power in powers]


def one_head(p, q, cache, head, c):
    """Return the output of one head for one token, and its attention weights."""
    pairs = [key_and_value(p, cached, head, c) for cached in cache]
    scale = rope.yarn_mscale(c["yarn"]) ** 2
    weights = softmax([dot(q, key) * scale / math.sqrt(c["nope"] + c["rope"]) for key, _ in pairs])
    return [dot(weights, [value[j] for _, value in pairs]) for j in range(c["value"])], weights


def attention(p, sequence, c):
    """Map normalised hidden states [T][D] to [T][D]; each token attends to itself and to earlier ones."""
    cache = [latent_and_key(p, x, t, c) for t, x in enumerate(sequence)]
    outputs = []
    for t, x in enumerate(sequence):
        heads = [one_head(p, q, cache[: t + 1], h, c)[0] for h, q in enumerate(query(p, x, t, c))]
        outputs.append(times(p["wo.weight"], [value for head in heads for value in head]))
    return outputs
