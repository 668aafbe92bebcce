"""A whole model for one sequence on nested lists."""

import math

from engram_ref.oracle.slow import attention, branches, experts
from engram_ref.oracle.slow.module import gated_values, rms_norm, times, with_conv


def under(p, prefix):
    """Return the parameters whose names start with the prefix and a dot, with both removed."""
    return {name[len(prefix) + 1 :]: array for name, array in p.items() if name.startswith(prefix + ".")}


def engram(p, states, memory, dead, c):
    """Return the update [T][M][D] that one module adds. `c` is a dictionary: eps, form, conv_eps, dilation or None."""
    zeros = [[0.0] * len(states[0][0]) for _ in states[0]] if states else []
    gated = [zeros if dead[t] else gated_values(p, e, h, c["eps"], c["form"])
             for t, (e, h) in enumerate(zip(memory, states, strict=True))]
    return gated if c["dilation"] is None else with_conv(p, gated, c["conv_eps"], c["dilation"])


def through_site(p, states, name, c, function):
    """Apply attention or the feed-forward network to all positions: `function` maps [T][D] to [T][D]."""
    gain = p[f"{name}_norm.weight"]
    # read: one vector per position
    if c["hyper"] is None:
        read = [state[0] for state in states]
    else:
        site = under(p, f"{name}_hc")
        maps = [branches.maps(site, state, c["hyper"]) for state in states]
        read = [branches.weighted(pre, state) for (pre, _, _), state in zip(maps, states, strict=True)]
    outputs = function([rms_norm(x, gain, c["eps"]) for x in read])
    # write: add the outputs to the residual stream
    if c["hyper"] is None:
        return [[[a + b for a, b in zip(state[0], y, strict=True)]] for state, y in zip(states, outputs, strict=True)]
    return [branches.write(state, y, post, res)
            for (_, post, res), state, y in zip(maps, states, outputs, strict=True)]


def feed_forward(p, sequence, c):
    """Apply the mixture of experts, or a dense network if the layer has no router."""
    if "gate.weight" in p:
        return [experts.mixture(p, x, c["experts"])[0] for x in sequence]
    return [experts.network(*(p[f"w{i}.weight"] for i in (1, 2, 3)), x) for x in sequence]


def forward(p, ids, c):
    """Return the logits [T][V] of one sequence.

    `c` is a dictionary: layers, branches, eps, attention, experts, hyper (or None), collapse, and modules:
    block index -> (parameters, memory [T][C*W], dead [T], constants) of its Engram module.
    """
    states = [[list(p["embed.weight"][token])] * c["branches"] for token in ids]
    for i in range(c["layers"]):
        layer = under(p, f"layers.{i}")
        if i in c["modules"]:               # Engram comes first in its block
            module, memory, dead, constants = c["modules"][i]
            update = engram(module, states, memory, dead, constants)
            states = [[[a + b for a, b in zip(*pair, strict=True)] for pair in zip(*both, strict=True)]
                      for both in zip(states, update, strict=True)]
        states = through_site(layer, states, "attn", c,
                              lambda x, layer=layer: attention.attention(under(layer, "attn"), x, c["attention"]))
        states = through_site(layer, states, "ffn", c, lambda x, layer=layer: feed_forward(under(layer, "ffn"), x, c))
    final = [branches.collapse(under(p, "head_hc"), state, c["collapse"], c["eps"]) for state in states]
    return [times(p.get("head.weight", p["embed.weight"]), rms_norm(x, p["norm.weight"], c["eps"])) for x in final]


def cross_entropy(logits, target):
    """Return the negative log-probability of the target, in nats."""
    top = max(logits)
    return math.log(math.fsum(math.exp(x - top) for x in logits)) + top - logits[target]


def balance_loss(scores, chosen):
    """Return the imbalance of one text's experts: scores and chosen experts of every token."""
    E, K = len(scores[0]), len(chosen[0])
    counts = [sum(row.count(e) for row in chosen) for e in range(E)]
    shares = [[s / (math.fsum(row) + 1e-20) for s in row] for row in scores]
    return math.fsum(counts[e] * E / (K * len(chosen)) * math.fsum(row[e] for row in shares) / len(chosen)
                     for e in range(E))
