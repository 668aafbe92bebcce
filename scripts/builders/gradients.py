"""Gradients of every op that has a VJP; torch's autograd confirms them in tests/golden/test_gradients.py."""

import inspect

import numpy as np

from engram_ref.model.declarations import expert_shapes
from engram_ref.ops.namespace import NUMPY
from engram_ref.oracle.gradients import flattened
from scripts.builders.elementwise import EDGES, FAR
from scripts.builders.experts import CONFIGS, WIDTH, chosen_of
from scripts.builders.planned import bf16, case, rng_of
from scripts.builders.small_models import EXPERTS

UNCHOSEN = 2
"""The expert that no token chooses."""


def vjp_case(name, flags="", exact=(), kind="f64", **arguments):
    """Return the case of one VJP, with a random upstream; its outputs are named after the inputs of the op."""
    vjp, op = name.split("/")[0], name.split("/")[0].removesuffix("_vjp")
    arguments = bf16(arguments)
    result = getattr(NUMPY, op)(**arguments)
    upstream = bf16(rng_of(f"{name} upstream").standard_normal(result.shape).astype(result.dtype))
    found = getattr(NUMPY, vjp)(upstream, **arguments)
    inputs = list(inspect.signature(getattr(NUMPY, op)).parameters)
    outputs = [stage for parameter, part in zip(inputs, found, strict=False) for stage, _ in flattened(part, parameter)]
    return case(name, outputs=outputs, kind=kind, flags=flags, exact=exact, kind_of_case="gradients",
                upstream=upstream, **arguments)


def norms():
    """Yield short vectors, odd widths, gains per branch, and float32."""
    for title, shape, gain, eps, size, flags in (
            ("short-vector", (2, 9), (9,), 1e-20, 1e-11, "eps"),
            ("machine-eps", (2, 10), (10,), None, 1e-8, "eps dialect"),
            ("odd-width", (2, 3, 7), (7,), 1e-6, 1.0, "odd-width"),
            ("branches", (2, 3, 3, 5), (3, 5), 1e-5, 1.0, "unequal-branches")):
        rng = rng_of(f"rms_norm_vjp/{title}")
        x, weights = size * rng.standard_normal(shape), 1 + 0.3 * rng.standard_normal(gain)
        if len(gain) == 2:
            x = x * np.array([0.01, 1.0, 100.0])[:, None]
        yield vjp_case(f"rms_norm_vjp/{title}", flags, x=x, gain=weights, eps=eps)
        yield vjp_case(f"inverse_rms_vjp/{title}", flags, x=x, eps=eps)
    x = rng_of("rms_norm_vjp/float32").standard_normal((2, 63)).astype(np.float32)
    yield vjp_case("rms_norm_vjp/float32", "float32 odd-width", kind="f32", x=x, gain=np.ones(63, np.float32), eps=1e-6)


def gates():
    """Yield the functions of one number at their special points, and the score in both forms."""
    edges = np.array(EDGES + FAR)
    for op, argument, flags in (("signed_sqrt", "s", "clamp flat-zone minus-zero"),
                                ("copysign_sqrt", "s", "clamp flat-zone minus-zero"), ("sigmoid", "x", "saturated"),
                                ("silu", "x", "saturated"), ("sqrt_softplus", "z", "saturated")):
        x = np.array([30.0, -30.0, 0.5, -0.5, 0.0]) if op == "sqrt_softplus" else edges
        yield vjp_case(f"{op}_vjp/edges", flags, **{argument: x})
    rng = rng_of("score_vjp/branches")
    sizes = np.array([0.01, 1.0, 100.0])[:, None]
    query, key = sizes * rng.standard_normal((2, 2, 3, 5)), rng.standard_normal((2, 2, 3, 5))
    gains = 1 + 0.3 * rng.standard_normal((2, 3, 5))
    yield vjp_case("score_vjp/branches", "unequal-branches odd-width", query=query, key=key)
    for eps in (1e-20, 1e-6, None):
        yield vjp_case(f"factored_score_vjp/eps-{eps}", "unequal-branches eps", hidden=query, key=key,
                       query_gain=gains[0], key_gain=gains[1], eps=eps)
    yield vjp_case("apply_gate_vjp/branches", "unequal-branches", alpha=rng.random((2, 2, 3)),
                   value=rng.standard_normal((2, 2, 5)))
    yield vjp_case("zero_dead_vjp/batch", "dead", exact=("alpha",), alpha=rng.random((2, 3, 3)),
                   dead=np.array([[True, False, False], [False, True, True]]))


def convolutions():
    """Yield the convolution after earlier taps, on inputs that are shorter than its span, and its next taps."""
    for title, (B, T, M, D, L, dilation), flags in (
            ("batch", (2, 5, 2, 3, 4, 2), "batch odd-width history"),
            ("one-token", (1, 1, 2, 2, 4, 3), "one-token short"),
            ("short", (1, 3, 1, 5, 2, 4), "short"), ("kernel-1", (1, 4, 2, 2, 1, 3), "")):
        rng = rng_of(f"short_conv_vjp/{title}")
        a = {"x": rng.standard_normal((B, T, M, D)), "weight": rng.standard_normal((M, D, L)), "dilation": dilation,
             "taps": rng.standard_normal((B, (L - 1) * dilation, M, D))}
        for op in ("short_conv", "conv_silu"):
            yield vjp_case(f"{op}_vjp/{title}", flags, **a)
        if title == "short":
            yield vjp_case("next_taps_vjp/short", "short chunked", exact=("x", "taps"), x=a["x"], taps=a["taps"])


def tables():
    """Yield projections, tables with rows that are read several times, and roundings."""
    rng = rng_of("linear_vjp/bias")
    x, weight = rng.standard_normal((2, 3, 7)), rng.standard_normal((5, 7))
    for title, bias in (("bias", rng.standard_normal(5)), ("plain", None)):
        yield vjp_case(f"linear_vjp/{title}", "odd-width", x=x, weight=weight, bias=bias)
    rows = np.array([[[1, 0], [1, 3], [1, 0]], [[0, 3], [1, 2], [4, 0]]])
    yield vjp_case("gather_vjp/duplicates", "duplicates batch", table=rng.standard_normal((12, 3)), rows=rows,
                   offsets=np.array([0, 5]))
    yield vjp_case("embed_vjp/duplicates", "duplicates batch", table=rng.standard_normal((9, 5)),
                   ids=np.array([[7, 2, 7, 7], [0, 2, 8, 7]]))
    single = rng.standard_normal((2, 32)).astype(np.float32)
    yield vjp_case("round_bf16_vjp/straight-through", "straight-through", exact=("x",), x=single)
    yield vjp_case("requantise_vjp/straight-through", "straight-through", exact=("x",), x=single)


def attention():
    """Yield the rotation, and the softmax with and without hidden positions; the last row sees only one."""
    rng = rng_of("rotate_vjp/batch")
    x, angle = rng.standard_normal((2, 3, 2, 6)), 10 * rng.standard_normal((2, 3, 3))
    yield vjp_case("rotate_vjp/batch", "positions", x=x, angle=angle)
    scores = rng.standard_normal((2, 2, 3, 5))
    allowed = np.tril(np.ones((2, 3, 5), dtype=bool), 2)
    allowed[1, 2] = [False, False, False, True, False]
    yield vjp_case("softmax_vjp/plain", "", scores=scores, allowed=None)
    yield vjp_case("softmax_vjp/masked", "saturated", scores=20 * scores, allowed=allowed)


def experts():
    """Yield the weights of tied experts and of later ones, and routed experts, of which nobody chooses one."""
    tied = np.array([[0.5, 0.5, 0.5, 0.5, 0.25, 0.5, 0.25, 0.25], [0.125] * 8, np.arange(1, 9) / 16])
    for name in ("plain", "grouped", "v4", "v2"):
        config = CONFIGS[name]
        scores = tied[:, : config.n_routed_experts]
        chosen = np.array([chosen_of(s, None, config) for s in scores.tolist()])
        yield vjp_case(f"expert_weights_vjp/{name}-ties", "ties unchosen", scores=scores, chosen=chosen, config=config)
    rng = rng_of("routed_grouped_vjp/unchosen")
    p = {name: rng.standard_normal(shape) * shape[-1] ** -0.5 for name, shape in expert_shapes(EXPERTS, WIDTH).items()
         if name.startswith("experts.")}
    a = {"parameters": p, "x": rng.standard_normal((4, WIDTH)), "chosen": np.array([[0, 1], [3, 0], [1, 4], [4, 3]]),
         "weights": rng.random((4, 2))}
    assert UNCHOSEN not in a["chosen"]
    for way in ("naive", "grouped"):
        yield vjp_case(f"routed_{way}_vjp/unchosen", "unchosen", **a)
    yield vjp_case("swiglu_vjp/odd-width", "odd-width", x=a["x"], **{f"w{i}": p[f"experts.w{i}"][0] for i in (1, 2, 3)})


def branches():
    """Yield Sinkhorn's normalisation in both forms, and the ops on branches."""
    rng = rng_of("sinkhorn_vjp/logits")
    logits = rng.standard_normal((2, 3, 3))
    for axis in (-1, -2):
        yield vjp_case(f"log_normalise_vjp/axis{axis}", "", logits=logits, axis=axis)
    for title, x, iterations, eps, flags in (("twenty", logits, 20, 0.0, ""), ("one", logits, 1, 0.0, ""),
                                             ("large", 30 * logits, 5, 0.0, "saturated"),
                                             ("release", logits, 20, 1e-6, "eps")):
        yield vjp_case(f"sinkhorn_vjp/{title}", flags, logits=x, iterations=iterations, eps=eps)
    X, y = rng.standard_normal((2, 3, 3, 5)), rng.standard_normal((2, 3, 5))
    yield vjp_case("expand_vjp/batch", "batch", x=y, n_branches=3)
    for form in ("sum", "mean"):
        yield vjp_case(f"merge_branches_vjp/{form}", "batch", X=X, form=form)
    single = X[:, :, :1]
    yield vjp_case("read_single_vjp/batch", "batch", exact=("X",), X=single)
    yield vjp_case("write_single_vjp/batch", "batch", exact=("X", "y"), X=single, y=y)


def losses():
    """Yield the cross-entropy, of which one token has an almost certain target, and the imbalance of experts."""
    rng = rng_of("cross_entropy_vjp/batch")
    logits, targets = rng.standard_normal((2, 3, 9)), rng.integers(0, 9, (2, 3))
    logits[0, 0, targets[0, 0]] += 30.0
    yield vjp_case("cross_entropy_vjp/batch", "batch saturated", logits=logits, targets=targets)
    scores, chosen = rng.random((2, 3, 4)), np.array([[[0, 1], [0, 2], [0, 1]], [[3, 2], [1, 0], [2, 3]]])
    yield vjp_case("balance_loss_vjp/batch", "batch unchosen", scores=scores, chosen=chosen)


AREA = (norms, gates, convolutions, tables, attention, experts, branches, losses)
