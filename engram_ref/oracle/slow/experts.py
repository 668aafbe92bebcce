"""Routing and experts for one token at a time, on lists."""

import math

from engram_ref.oracle.slow.module import sigmoid, silu, times


def network(w1, w2, w3, x):
    """Return W2 (silu(W1 x) * W3 x)."""
    return times(w2, [silu(a) * b for a, b in zip(times(w1, x), times(w3, x), strict=True)])


def score(z, form):
    """Return sigmoid(z), or the square root of ln(1 + e^z)."""
    if form == "sigmoid":
        return sigmoid(z)
    return math.sqrt(max(z, 0.0) + math.log1p(math.exp(-abs(z))))


def scores_of(logits, form):
    """Return the scores of all experts: a softmax over them, or an elementwise function."""
    if form != "softmax":
        return [score(z, form) for z in logits]
    total = math.fsum(math.exp(z - max(logits)) for z in logits)
    return [math.exp(z - max(logits)) / total for z in logits]


def best(numbers, count):
    """Return the indices of the `count` largest numbers, largest first; ties go to the lowest index."""
    return sorted(range(len(numbers)), key=lambda i: (-numbers[i], i))[:count]


def choose(scores, bias, top_k, n_group=1, topk_group=1, group_best=2):
    """Return the experts of one token; the score of a group is the sum of its `group_best` best scores."""
    biased = [s + b for s, b in zip(scores, bias, strict=True)]
    size = len(scores) // n_group
    groups = [list(range(g * size, (g + 1) * size)) for g in range(n_group)]
    if n_group > 1:
        strength = [math.fsum(sorted((biased[e] for e in group), reverse=True)[:group_best]) for group in groups]
        groups = [groups[g] for g in sorted(best(strength, topk_group))]
    open_experts = [e for group in groups for e in group]
    return [open_experts[i] for i in best([biased[e] for e in open_experts], top_k)]


def weigh(scores, chosen, scale, normalised=True):
    """Return the weight of each chosen expert."""
    picked = [scores[e] for e in chosen]
    total = math.fsum(picked) + 1e-20 if normalised else 1.0
    return [s / total * scale for s in picked]


def mixture(p, x, c):
    """Apply the chosen and the shared experts to one token; return output, chosen experts and weights.

    `c` is a dictionary: top_k, n_group, topk_group, group_best, scale, form, normalised.
    """
    scores = scores_of(times(p["gate.weight"], x), c["form"])
    bias = p.get("gate.bias", [0.0] * len(scores))
    chosen = choose(scores, bias, c["top_k"], c["n_group"], c["topk_group"], c["group_best"])
    weights = weigh(scores, chosen, c["scale"], c["normalised"])
    outputs = [network(*(p[f"experts.w{i}"][e] for i in (1, 2, 3)), x) for e in chosen]
    scaled = [[w * a for a in output] for w, output in zip(weights, outputs, strict=True)]
    if "shared_experts.w1.weight" in p:
        scaled.append(network(*(p[f"shared_experts.w{i}.weight"] for i in (1, 2, 3)), x))
    return [math.fsum(column) for column in zip(*scaled, strict=True)], chosen, weights
