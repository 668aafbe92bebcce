"""One small call of every op that computes floats: see tests/op_cases.py."""

import numpy as np

from engram_ref.config import CHOICES
from engram_ref.model.declarations import attention_shapes, expert_shapes
from engram_ref.model_config import HyperConfig
from engram_ref.ops import frequencies, softmax_scale
from engram_ref.ops.gate import ROOTS
from scripts.builders.small_models import EXPERTS, GROUPED, MLA, MLA_LATENT, V2_EXPERTS
from scripts.builders.small_modules import DEMO, NO_CONV, PAPER, QWEN, TILEKERNELS, random_parameters
from tests.bounds_backbone import sinkhorn_terms
from tests.op_cases import ALL, DATA, INTEGERS, VOCABULARY, Case, D, M, floats

HYPER, HYPER_WITH_EPS = HyperConfig(M, 7), HyperConfig(M, 7, pre_eps=1e-6, sinkhorn_eps=1e-6)
MAPS = {"phi": (2 * M + M * M, M * D), "bias": (2 * M + M * M,), "alpha": (3,)}
HEAD_MAPS = {"phi": (M, M * D), "bias": (M,), "alpha": (1,)}
S = 8       # number of cached tokens, including the new ones


def normal(rng, named):
    """Return random parameters by name and shape."""
    return {name: rng.standard_normal(shape) * (shape[-1] ** -0.5 if len(shape) > 1 else 1.0)
            for name, shape in named.items()}


def with_parameters(named, *shapes):
    return lambda rng, B, T: (normal(rng, named), *floats(*shapes)(rng, B, T))


def attended(config):
    """Return a function that creates attention parameters, x, and the angles of positions from 3 on."""
    def make(rng, B, T):
        speeds = frequencies(config.qk_rope_head_dim, config.rope_theta, config.yarn)
        angle = np.broadcast_to(3 + np.arange(T), (B, T))[..., None] * speeds
        return normal(rng, attention_shapes(config, D)), rng.standard_normal((B, T, D)), angle

    return make


def cached(config):
    """Return the same as `attended`, with the caches of S tokens and the positions of the new ones."""
    def make(rng, B, T):
        positions = np.broadcast_to(S - T + np.arange(T), (B, T)).copy()
        return (*attended(config)(rng, B, T), rng.standard_normal((B, S, config.kv_lora_rank)),
                rng.standard_normal((B, S, config.qk_rope_head_dim)), positions)

    return make


def heads(rng, B, T):
    """Return queries, latents, keys, up-projections of three heads, and the causal mask."""
    A, dn, dr, r, dv = 3, 5, 4, 7, 3
    shapes = ((B, T, A, dn), (B, T, A, dr), (B, S, r), (B, S, dr), (A, dn, r), (A, dv, r))
    return (*(rng.standard_normal(shape) for shape in shapes), np.tril(np.ones((T, S), dtype=bool))[None].repeat(B, 0))


def mixture(config):
    return with_parameters(expert_shapes(config, D), (ALL, D))


def routed(config):
    """Return a function that creates parameters, tokens, distinct experts per token, and weights."""
    def make(rng, B, T):
        n, K = config.n_routed_experts, config.num_experts_per_tok
        chosen = rng.random((B * T, n)).argsort(axis=1)[:, :K]
        return normal(rng, expert_shapes(config, D)), rng.standard_normal((B * T, D)), chosen, rng.random((B * T, K))

    return make


def convolved(rng, B, T):
    """Inputs, weights, and the taps of a convolution with kernel 4 and dilation 3."""
    return tuple(rng.standard_normal(shape) for shape in ((B, T, M, D), (M, D, 4), (B, 9, M, D)))


def module(config, *shapes):
    """Return a function that creates module parameters without the table, and inputs of the given kinds."""
    def make(rng, B, T):
        named = {"memory": config.memory_width, "hidden": (config.n_branches, config.hidden_size)}
        p = {name: array for name, array in random_parameters(config, rng).items() if array.dtype == np.float64}
        p.pop("table", None)
        sizes = {"memory": (B, T, named["memory"]), "branches": (B, T, *named["hidden"]),
                 "taps": (B, config.conv_span, *named["hidden"])}
        return (p, *(rng.random((B, T)) < 0.3 if shape == "dead" else rng.standard_normal(sizes[shape])
                     for shape in shapes))

    return make


def gated(config):
    return Case(module(config, "memory", "branches", "dead"),
                lambda ops, p, e, h, d: ops.project_and_gate(p, e, h, d, config),
                config.memory_width + 3 * config.hidden_size)


def updated(config):
    return Case(module(config, "memory", "branches", "taps"),
                lambda ops, p, e, h, t: ops.gated_update(p, e, h, t, None, config, 2)[: 2 if config.conv_kernel else 1],
                config.memory_width + 4 * config.hidden_size + config.conv_kernel)


def attention(config, absorbed):
    return Case(cached(config), lambda ops, p, x, angle, c, k, at: ops.mla(p, x, c, k, at, angle, config, absorbed),
                3 * D + 2 * S + 40)


MODULE = {
    "linear": Case(floats((ALL, D), (5, D), (5,)), lambda ops, x, w, b: ops.linear(x, w, b), D + 1),
    "linear without bias": Case(floats((ALL, D), (5, D)), lambda ops, x, w: ops.linear(x, w), D),
    "rms_norm": Case(floats((ALL, M, D), (M, D)), lambda ops, x, g: ops.rms_norm(x, g, 1e-6), D),
    "rms_norm by dtype": Case(floats((ALL, D), (D,)), lambda ops, x, g: ops.rms_norm(x, g, None), D),
    "inverse_rms": Case(floats((ALL, D)), lambda ops, x: ops.inverse_rms(x, 1e-20), D),
    "sigmoid": Case(floats((ALL, D), size=9.0), lambda ops, x: ops.sigmoid(x), 1),
    "score": Case(floats((ALL, M, D), (ALL, M, D)), lambda ops, q, k: ops.score(q, k), D),
    "factored_score": Case(floats((ALL, M, D), (ALL, M, D), (M, D), (M, D)),
                           lambda ops, h, k, g, f: ops.factored_score(h, k, g, f, 1e-6), 3 * D),
    "short_conv": Case(convolved, lambda ops, x, w, t: ops.short_conv(x, w, 3, t), 4),
    "silu": Case(floats((ALL, D)), lambda ops, x: ops.silu(x), 1),
    "conv_silu": Case(convolved, lambda ops, x, w, t: ops.conv_silu(x, w, 3, t), 5),
    "project": Case(module(DEMO, "memory"), lambda ops, p, e: ops.project(p, e, DEMO), DEMO.memory_width + 1),
    "gate_score": Case(module(QWEN, "branches", "branches"), lambda ops, p, h, k: ops.gate_score(p, h, k, QWEN), 3 * D),
    "gate_score factored": Case(module(TILEKERNELS, "branches", "branches"),
                                lambda ops, p, h, k: ops.gate_score(p, h, k, TILEKERNELS), 3 * D),
    "project_and_gate": gated(PAPER), "project_and_gate TileKernels": gated(TILEKERNELS),
    "gated_conv": Case(module(DEMO, "branches", "taps"), lambda ops, p, u, t: ops.gated_conv(p, u, t, DEMO), D + 5),
    "gated_update": updated(DEMO), "gated_update without convolution": updated(NO_CONV),
} | {f"gate {form}": Case(lambda r, B, T: (r.standard_normal((B, T, M)), r.random((B, T)) < 0.3),
                          lambda ops, s, dead, form=form: ops.gate(s, form, dead), 1)
     for form in CHOICES["gate_form"]}
MODULE |= {root: Case(floats((ALL, M)), lambda ops, s, root=root: getattr(ops, root)(s), 1) for root in ROOTS}

BASIC = {
    "add": Case(floats((ALL, D), (D,)), lambda ops, x, y: ops.add(x, y)),
    "multiply": Case(floats((ALL, D), (D,)), lambda ops, x, y: ops.multiply(x, y)),
    "exp": Case(floats((ALL, D)), lambda ops, x: ops.exp(x), 1),
    "einsum": Case(floats((ALL, D), (5, D)), lambda ops, x, w: ops.einsum("btd,ed->bte", x, w), D),
    "cast": Case(floats((ALL, D)), lambda ops, x: ops.cast(x, np.float32)),
    "stack": Case(floats((ALL, D), (ALL, D)), lambda ops, x, y: ops.stack([x, y], 2)),
    "take": Case(floats((M, D)), lambda ops, x: ops.take(x, 1)),
    "tail": Case(floats((ALL, D)), lambda ops, x: ops.tail(x, 3)),
    "split": Case(floats((ALL, D)), lambda ops, x: ops.split(x, 2)),
    "split of axis -2": Case(floats((ALL, M, D)), lambda ops, x: ops.split(x, 1, axis=-2)),
    "reshape": Case(floats((ALL, M, D)), lambda ops, x: ops.reshape(x, (*x.shape[:2], M * D))),
    "repeat": Case(floats((3,)), lambda ops, x: ops.repeat(x, (2, 1, 4))),
    "softmax without a mask": Case(floats((ALL, D)), lambda ops, x: ops.softmax(x), D),
    "zero_dead": Case(lambda r, B, T: (r.standard_normal((B, T, M)), r.random((B, T)) < 0.3),
                      lambda ops, s, dead: ops.zero_dead(s, dead)),
    "sqrt_softplus": Case(floats((ALL, D), size=9.0), lambda ops, x: ops.sqrt_softplus(x), 2),
    "log_normalise": Case(floats((ALL, M, M)), lambda ops, x: ops.log_normalise(x, -2), M),
    "merge_branches": Case(floats((ALL, M, D)), lambda ops, X: ops.merge_branches(X, "mean"), M),
}

BACKBONE = {
    "angles": Case(lambda r, B, T: (r.integers(0, 99, (B, T)), frequencies(6, 100.0)),
                   lambda ops, p, f: ops.angles(p, f), 1),
    "rotate": Case(floats((ALL, 3, 6), (ALL, 3)), lambda ops, x, a: ops.rotate(x, a), 2),
    "rotate shared": Case(floats((ALL, 6), (ALL, 3)), lambda ops, x, a: ops.rotate(x, a), 2),
    "queries": Case(attended(MLA), lambda ops, p, x, a: ops.queries(p, x, a, MLA), D + 2),
    "queries of a latent": Case(attended(MLA_LATENT), lambda ops, p, x, a: ops.queries(p, x, a, MLA_LATENT), D + 12),
    "latents": Case(attended(MLA), lambda ops, p, x, a: ops.latents(p, x, a, MLA), D + 9),
    "up_projections": Case(with_parameters(attention_shapes(MLA, D)), lambda ops, p: ops.up_projections(p, MLA)),
    "softmax": Case(lambda r, B, T: (r.standard_normal((B, 2, T, S)), np.tril(np.ones((B, T, S), dtype=bool))),
                    lambda ops, s, allowed: ops.softmax(s, allowed), S),
    "attend_expanded": Case(heads, lambda ops, *a: ops.attend_expanded(*a, softmax_scale(9)), 2 * S + 40),
    "attend_absorbed": Case(heads, lambda ops, *a: ops.attend_absorbed(*a, softmax_scale(9)), 2 * S + 40),
    "mla": attention(MLA, False), "mla absorbed": attention(MLA_LATENT, True),
    "swiglu": Case(floats((ALL, D), (5, D), (D, 5), (5, D)), lambda ops, *a: ops.swiglu(*a), 2 * D + 5),
    "router_scores": Case(floats((4, D), (5, D)), lambda ops, x, w: ops.router_scores(x, w, "sigmoid"), D),
    "router_scores softplus": Case(floats((4, D), (5, D), size=9.0),
                                   lambda ops, x, w: ops.router_scores(x, w, "sqrt_softplus"), D + 1),
    "router_scores softmax": Case(floats((4, D), (5, D), size=9.0),
                                  lambda ops, x, w: ops.router_scores(x, w, "softmax"), D + 5),
    "expert_weights": Case(lambda r, B, T: (r.random((T, 5)), r.random((T, 5)).argsort(axis=1)[:, :2]),
                           lambda ops, s, chosen: ops.expert_weights(s, chosen, EXPERTS), 3),
    "route": Case(with_parameters(expert_shapes(EXPERTS, D), (4, D)), lambda ops, p, x: ops.route(p, x, EXPERTS),
                  D + 3),
    "route as V2": Case(with_parameters(expert_shapes(V2_EXPERTS, D), (4, D)),
                        lambda ops, p, x: ops.route(p, x, V2_EXPERTS), D + 12),
    "routed_naive": Case(routed(EXPERTS), lambda ops, *a: ops.routed_naive(*a), 2 * D + 6),
    "routed_grouped": Case(routed(GROUPED), lambda ops, *a: ops.routed_grouped(*a), 2 * D + 6),
    "moe": Case(mixture(EXPERTS), lambda ops, p, x: ops.moe(p, x, EXPERTS), 4 * D),
    "moe as V2": Case(mixture(V2_EXPERTS), lambda ops, p, x: ops.moe(p, x, V2_EXPERTS), 4 * D + 9),
    "moe with groups": Case(mixture(GROUPED), lambda ops, p, x: ops.moe(p, x, GROUPED), 4 * D),
    "sinkhorn": Case(floats((ALL, M, M)), lambda ops, x: ops.sinkhorn(x, 7), sinkhorn_terms(M, 7)),
    "sinkhorn with eps": Case(floats((ALL, M, M)), lambda ops, x: ops.sinkhorn(x, 7, 1e-6), sinkhorn_terms(M, 7)),
    "branch_maps": Case(with_parameters(MAPS, (ALL, M, D)), lambda ops, p, X: ops.branch_maps(p, X, 1e-6, HYPER),
                        2 * M * D + sinkhorn_terms(M, 7)),
    "branch_maps with eps": Case(with_parameters(MAPS, (ALL, M, D)),
                                 lambda ops, p, X: ops.branch_maps(p, X, 1e-6, HYPER_WITH_EPS),
                                 2 * M * D + sinkhorn_terms(M, 7)),
    "read_branches": Case(floats((ALL, M, D), (ALL, M)), lambda ops, X, w: ops.read_branches(X, w), M),
    "write_branches": Case(floats((ALL, M, D), (ALL, D), (ALL, M), (ALL, M, M)),
                           lambda ops, *a: ops.write_branches(*a), M + 1),
    "collapse": Case(floats((ALL, M, D)), lambda ops, X: ops.collapse(X, "sum", {}, 1e-6), M),
    "collapse to the mean": Case(floats((ALL, M, D)), lambda ops, X: ops.collapse(X, "mean", {}, 1e-6), M),
    "collapse learned": Case(with_parameters(HEAD_MAPS, (ALL, M, D)),
                             lambda ops, p, X: ops.collapse(X, "head", p, 1e-6), 2 * M * D + M),
    "balance_loss": Case(lambda r, B, T: (r.random((B, T, 5)), r.random((B, T, 5)).argsort(axis=-1)[..., :2]),
                         lambda ops, s, chosen: ops.balance_loss(s, chosen), 10),
    "cross_entropy": Case(lambda r, B, T: (r.standard_normal((B, T, VOCABULARY)), r.integers(0, VOCABULARY, (B, T))),
                          lambda ops, x, t: ops.cross_entropy(x, t), VOCABULARY),
}

def states(rng, *shape):
    """A parameter, its gradient, and the running means of a few steps."""
    parameter, gradient, mean = rng.standard_normal((3, *shape))
    return parameter, gradient, mean, rng.random(shape)


def table_states(rng, B, T):
    """A table, the rows and values of its gradient, and running means."""
    table, values, mean, square = states(rng, 2 * T + 1, D)
    return table, np.arange(T) * 2, values[:T], mean, square


ADAM = (3, 0.01, 0.9, 0.95, 1e-8, 0.1)

UPDATES = {
    "adam_update": Case(lambda r, B, T: states(r, B, T), lambda ops, *a: ops.adam_update(*a, *ADAM), 8),
    "lazy_adam_update": Case(table_states, lambda ops, *a: ops.lazy_adam_update(*a, *ADAM), 8),
    "replace_rows": Case(lambda r, B, T: table_states(r, B, T)[:3], lambda ops, *a: ops.replace_rows(*a)),
    "batch_weights": Case(lambda r, B, T: (np.arange(1.0, B + 1),), lambda ops, n: ops.batch_weights(n)),
    "bias_update": Case(lambda r, B, T: (r.standard_normal(5), r.integers(0, 3, 5)),
                        lambda ops, b, n: ops.bias_update(b, n, 0.001, True), 5),
    "newton_schulz": Case(lambda r, B, T: (r.standard_normal((B, T + 1, 4)),),
                          lambda ops, x: ops.newton_schulz(x, "classic"), 60),
    "newton_schulz hybrid": Case(lambda r, B, T: (r.standard_normal((B, T + 1, 4)),),
                                 lambda ops, x: ops.newton_schulz(x, "hybrid"), 120),
    "muon_update": Case(lambda r, B, T: tuple(r.standard_normal((3, B, T + 1, 4))),
                        lambda ops, *a: ops.muon_update(*a, 0.02, 0.1, 0.95, True, "sum", "rms", "classic"), 60),
    "muon_update keller": Case(lambda r, B, T: tuple(r.standard_normal((3, B, T + 1, 4))),
                               lambda ops, *a: ops.muon_update(*a, 0.02, 0.1, 0.95, False, "ema", "keller", "hybrid"),
                               120),
}

CASES = INTEGERS | DATA | BASIC | MODULE | BACKBONE | UPDATES
FLOATS = {name: case for name, case in (BASIC | MODULE | BACKBONE | UPDATES).items() if case.terms}
EXACT = {name: case for name, case in CASES.items() if not case.terms}
SHAPES = ((2, 5), (1, 1), (2, 0), (1, 7))
"""(B, T) of the cases; caches always have three rows."""
