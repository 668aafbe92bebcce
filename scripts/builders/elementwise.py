"""Norms, gates, convolution, projections and the loss; oracle/slow/module.py computes the answers."""

import math

import numpy as np

from engram_ref.config import CHOICES
from engram_ref.ops.gate import ROOTS
from engram_ref.oracle.slow import module as slow
from engram_ref.oracle.slow.transformer import balance_loss
from scripts.builders.planned import case, each, lines, rng_of

BELOW, ABOVE = 134 * 2.0**-27, 135 * 2.0**-27
"""The numbers of bfloat16 on either side of the clamp, 1e-6."""

EDGES = [0.0, -0.0, ABOVE, -ABOVE, BELOW, -BELOW, 1e-30, -1e-30, 2.0**-133, 0.25, -0.25, 3.0, -3.0]
"""Scores at and near the special points of the roots: 0.0, -0.0 and the clamp."""

FAR = [40.0, -40.0, 708.0, -708.0, 800.0, -800.0]
"""Scores for which a naive exp overflows or the sigmoid rounds to 0 or 1."""


def norms():
    """Yield cases for RMSNorm and its parts: short vectors, odd widths, per-branch gains."""
    for title, shape, gain, eps, size, flags in (
            ("short-vector", (2, 9), (9,), 1e-20, 1e-11, "eps"),
            ("machine-eps", (2, 10), (10,), None, 1e-8, "eps dialect"),
            ("subnormal", (2, 4), (4,), 1e-20, 1e-39, "subnormal eps"),
            ("odd-width", (2, 3, 7), (7,), 1e-6, 1.0, "odd-width"), ("width-1", (3, 1), (1,), 1e-20, 1.0, "odd-width"),
            ("branches", (2, 3, 3, 5), (3, 5), 1e-5, 1.0, "unequal-branches"),
            ("empty", (1, 0, 5), (5,), 1e-6, 1.0, "empty")):
        rng = rng_of(f"rms_norm/{title}")
        x, weights = size * rng.standard_normal(shape), 1 + 0.3 * rng.standard_normal(gain)
        if len(gain) == 2:
            x = x * np.array([0.01, 1.0, 100.0])[:, None]
        yield case(f"rms_norm/{title}", slow=slow_norm, flags=flags, x=x, gain=weights, eps=eps)
        yield case(f"inverse_rms/{title}", flags=flags, x=x, eps=eps, slow=lambda x, eps: lines(
            lambda v: 1 / math.sqrt(slow.dot(v, v) / len(v) + real_eps(eps)), x))
    x = rng_of("rms_norm/float32").standard_normal((2, 63)).astype(np.float32)
    yield case("rms_norm/float32", slow=slow_norm, kind="f32", flags="float32 odd-width", x=x,
               gain=np.ones(63, dtype=np.float32), eps=1e-6)
    for form, shift in (("plain", 0.0), ("zero_centred", 1.0)):
        yield case(f"effective_gain/{form}", kind="exact", flags="dialect", weight=np.array([[0.5, -1.0, 1e-9]]),
                   gain_form=form, slow=lambda weight, gain_form, shift=shift: weight + shift)


def real_eps(eps):
    return slow.FLOAT64_EPS if eps is None else eps


def slow_norm(x, gain, eps):
    gains = np.broadcast_to(gain, x.shape).reshape(-1, x.shape[-1]).tolist()
    return [slow.rms_norm(v, g, real_eps(eps)) for v, g in zip(lines(list, x), gains, strict=True)]


def gates():
    """Yield cases for the gates and their roots."""
    edges = np.array(EDGES + FAR)
    yield case("sigmoid/edges", slow=lambda x: each(slow.sigmoid, x), flags="saturated minus-zero", x=edges)
    yield case("sigmoid/float32", slow=lambda x: each(slow.sigmoid, x), kind="f32", flags="float32 saturated",
               x=np.array([0.0, -0.0, 3.5, -3.5, 90.0, -80.0], dtype=np.float32))
    yield case("silu/edges", slow=lambda x: each(slow.silu, x), flags="saturated", x=edges)
    for form in ROOTS:
        yield case(f"{form}/edges", flags="clamp minus-zero", s=edges,
                   slow=lambda s, form=form: each(lambda v: slow.root(v, form), s))
    for form in CHOICES["gate_form"]:
        slow_gate = lambda s, form, dead: each(lambda v: slow.gate(v, form), s) if dead is None else np.where(
            dead[..., None], 0.0, each(lambda v: slow.gate(v, form), s).reshape(s.shape))
        flags = "clamp minus-zero saturated dialect"
        yield case(f"gate/{form}-edges", slow=slow_gate, flags=flags, s=edges.reshape(1, -1, 1), form=form, dead=None)
        yield case(f"gate/{form}-float32", slow=slow_gate, kind="f32", flags="clamp minus-zero dialect float32",
                   s=np.float32([0.0, -0.0, BELOW, -ABOVE, 0.3, -0.3, 7.0, -7.0]).reshape(1, 2, 4), form=form,
                   dead=None)
        s = rng_of(f"gate/{form}-dead").standard_normal((2, 3, 3))
        yield case(f"gate/{form}-dead", slow=slow_gate, flags="dead", s=s, form=form,
                   dead=np.array([[True, False, False], [False, True, True]]))
        yield case(f"gate/{form}-empty", slow=slow_gate, flags="empty", s=s[:, :0], form=form, dead=None)


def scores():
    """Yield cases for scores of branches of different magnitude, scores of exactly zero, and gated values."""
    rng = rng_of("score/branches")
    sizes = np.array([0.01, 1.0, 100.0])[:, None]
    query, key = sizes * rng.standard_normal((2, 2, 3, 5)), rng.standard_normal((2, 2, 3, 5))
    query[0, 0] = 0.0
    gains = 1 + 0.3 * rng.standard_normal((2, 3, 5))
    yield case("score/branches", flags="unequal-branches odd-width", query=query, key=key,
               slow=lambda query, key: [slow.dot(q, k) / math.sqrt(5)
                                        for q, k in zip(lines(list, query), lines(list, key), strict=True)])
    for eps in (1e-20, 1e-6, None):
        yield case(f"factored_score/eps-{eps}", slow=slow_factored, flags="unequal-branches eps",
                   hidden=query, key=key, query_gain=gains[0], key_gain=gains[1], eps=eps)
    alpha, value = rng.random((2, 2, 3)), rng.standard_normal((2, 2, 5))
    yield case("apply_gate/branches", kind="exact", flags="unequal-branches", alpha=alpha, value=value,
               slow=lambda alpha, value: [[[a * v for v in values] for a in branches] for branches, values in zip(
                   lines(list, alpha), lines(list, value), strict=True)])


def slow_factored(hidden, key, query_gain, key_gain, eps):
    gains = [np.broadcast_to(g, hidden.shape).reshape(-1, hidden.shape[-1]).tolist() for g in (query_gain, key_gain)]
    return [slow.score(h, k, *g, real_eps(eps))
            for h, k, *g in zip(lines(list, hidden), lines(list, key), *gains, strict=True)]


def convolutions():
    """Yield cases for the short convolution: from the start, after a chunk, and on inputs shorter than its span."""
    for title, (B, T, M, D, L, dilation), flags in (
            ("batch", (2, 5, 3, 3, 4, 2), "batch odd-width history"),
            ("one-token", (1, 1, 2, 1, 4, 3), "one-token short"), ("empty", (2, 0, 2, 3, 4, 3), "empty"),
            ("short", (1, 3, 1, 5, 2, 4), "short"), ("kernel-1", (1, 4, 2, 2, 1, 3), "")):
        rng = rng_of(f"short_conv/{title}")
        a = {"x": rng.standard_normal((B, T, M, D)), "weight": rng.standard_normal((M, D, L)), "dilation": dilation,
             "taps": rng.standard_normal((B, (L - 1) * dilation, M, D))}
        yield case(f"short_conv/{title}", slow=slow_conv, flags=flags, **a)
        yield case(f"conv_silu/{title}", flags=flags, **a,
                   slow=lambda **a: each(slow.silu, np.array(slow_conv(**a), dtype=float)))
        yield case(f"next_taps/{title}", kind="exact", flags=f"{flags} chunked", x=a["x"], taps=a["taps"],
                   slow=lambda x, taps: [(old + new)[len(new):] for old, new in zip(
                       taps.tolist(), x.tolist(), strict=True)])


def slow_conv(x, weight, dilation, taps):
    B, T, M, D = x.shape
    inputs = np.concatenate([taps, x], axis=1).reshape(B, -1, M * D).tolist()
    kernels = weight.reshape(M * D, -1).tolist()
    return [slow.short_conv(sequence, kernels, dilation)[len(sequence) - T :] for sequence in inputs]


def projections():
    """Yield cases for linear maps, sums, embeddings and the loss."""
    for title, (n, inner, outer), bias, flags in (
            ("bias", (3, 7, 5), True, "odd-width"), ("plain", (2, 33, 1), False, "odd-width"),
            ("empty", (0, 4, 2), True, "empty")):
        rng = rng_of(f"linear/{title}")
        yield case(f"linear/{title}", slow=slow_linear, flags=flags, x=rng.standard_normal((n, inner)),
                   weight=rng.standard_normal((outer, inner)), bias=rng.standard_normal(outer) if bias else None)
    x = rng.standard_normal((2, 100)).astype(np.float32)
    yield case("linear/float32", slow=slow_linear, kind="f32", flags="float32", x=x, bias=None,
               weight=rng.standard_normal((3, 100)).astype(np.float32))
    hidden, update = rng.standard_normal((2, 1, 2, 3, 5))
    add = lambda hidden, update, rounding: each(lambda a, b: a + b, hidden, update)
    yield case("add_residual/none", kind="exact", slow=add, hidden=hidden, update=update, rounding="none")
    table, ids = rng.standard_normal((5, 3)), np.array([[4, 0], [2, 2]])
    yield case("embed/batch", kind="exact", table=table, ids=ids,
               slow=lambda table, ids: [[table[i].tolist() for i in row] for row in ids])
    logits = 30 * rng.standard_normal((2, 3, 7))
    for title, values, targets, flags in (("batch", logits, np.array([[0, 6, 3], [1, 1, 5]]), "batch"),
                                          ("large", 1e4 + logits[:1], np.array([[2, 0, 4]]), "saturated"),
                                          ("empty", logits[:, :0], np.zeros((2, 0), dtype=np.int64), "empty")):
        yield case(f"cross_entropy/{title}", slow=slow_loss, flags=flags, logits=values, targets=targets)
    scores, chosen = rng.random((2, 3, 4)), np.array([[[0, 1], [0, 2], [0, 1]], [[3, 2], [1, 0], [2, 3]]])
    yield case("balance_loss/batch", slow=slow_balance, flags="batch unchosen", scores=scores, chosen=chosen)


def slow_linear(x, weight, bias):
    bias = [0.0] * len(weight) if bias is None else bias.tolist()
    return [slow.linear(weight.tolist(), bias, v) for v in lines(list, x)]


def slow_balance(scores, chosen):
    return [balance_loss(*text) for text in zip(scores.tolist(), chosen.tolist(), strict=True)]


def slow_loss(logits, targets):
    return [max(v) - v[t] + math.log(math.fsum(math.exp(a - max(v)) for a in v))
            for v, t in zip(lines(list, logits), targets.ravel().tolist(), strict=True)]


AREA = (norms, gates, scores, convolutions, projections)
