"""Multi-head latent attention for one sequence on nested lists: every key and value written out."""

import math

from engram_ref.oracle.slow import rope
from engram_ref.oracle.slow.module import dot, rms_norm


def times(weight, x):
    """weight [out][in] times x."""
    return [dot(line, x) for line in weight]


def remembered(p, x, position, c):
    """What one token leaves behind: normalised latent, turned key.

    `c` is a dictionary: heads, nope, rope, value, rank, eps, theta, yarn.
    """
    both = times(p["wkv_a.weight"], x)
    latent = rms_norm(both[: c["rank"]], p["kv_norm.weight"], c["eps"])
    return latent, rope.turn(both[c["rank"] :], position, rope.speeds(c["rope"], c["theta"], c["yarn"]))


def query(p, x, position, c):
    """[heads][nope + rope], the last part turned."""
    if "wq.weight" in p:
        flat = times(p["wq.weight"], x)
    else:
        flat = times(p["wq_b.weight"], rms_norm(times(p["wq_a.weight"], x), p["q_norm.weight"], c["eps"]))
    width, turning = c["nope"] + c["rope"], rope.speeds(c["rope"], c["theta"], c["yarn"])
    heads = [flat[h * width : (h + 1) * width] for h in range(c["heads"])]
    return [head[: c["nope"]] + rope.turn(head[c["nope"] :], position, turning) for head in heads]


def key_and_value(p, memory, head, c):
    """One head's key and value of one remembered token."""
    latent, turned = memory
    width = c["nope"] + c["value"]
    rows = p["wkv_b.weight"][head * width : (head + 1) * width]
    return times(rows[: c["nope"]], latent) + turned, times(rows[c["nope"] :], latent)


def softmax(scores):
    """Positive numbers that sum to one."""
    top = max(scores)
    grown = [math.exp(s - top) for s in scores]
    total = math.fsum(grown)
    return [g / total for g in grown]


def one_head(p, q, memories, head, c):
    """What one head of one token brings back, and how it weighed the tokens."""
    pairs = [key_and_value(p, memory, head, c) for memory in memories]
    sharper = rope.sharpening(c["yarn"]) ** 2
    weights = softmax([dot(q, key) * sharper / math.sqrt(c["nope"] + c["rope"]) for key, _ in pairs])
    return [dot(weights, [value[j] for _, value in pairs]) for j in range(c["value"])], weights


def attention(p, sequence, c):
    """[T][D] normalised hidden states to [T][D]: each token sees itself and what came before."""
    memories = [remembered(p, x, t, c) for t, x in enumerate(sequence)]
    answers = []
    for t, x in enumerate(sequence):
        heads = [one_head(p, q, memories[: t + 1], h, c)[0] for h, q in enumerate(query(p, x, t, c))]
        answers.append(times(p["wo.weight"], [value for head in heads for value in head]))
    return answers
