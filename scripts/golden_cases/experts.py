"""Routing and experts: answers by tests/slow/experts.py."""

from dataclasses import replace

import numpy as np

from engram_ref.model.declarations import expert_shapes
from engram_ref.model_config import ExpertsConfig
from golden_cases.make import case, lines, rng_of
from tests.cases_backbone import EXPERTS, GROUPED, slow_experts_config
from tests.slow import experts as slow

WIDTH = 7
V4 = replace(EXPERTS, n_shared_experts=0, scoring_func="sqrt_softplus", norm_topk_prob=False)
ONE = ExpertsConfig(1, 1, 0, 3)
CONFIGS = {"plain": EXPERTS, "grouped": GROUPED, "v4": V4, "one-expert": ONE}


def networks():
    """SwiGLU and the scores of a router."""
    rng = rng_of("swiglu/odd")
    for title, n, F, flags in (("odd-width", 3, 5, "odd-width"), ("empty", 0, 2, "empty")):
        yield case(f"swiglu/{title}", terms=2 * WIDTH + F, flags=flags, x=rng.standard_normal((n, WIDTH)),
                   w1=rng.standard_normal((F, WIDTH)), w2=rng.standard_normal((WIDTH, F)),
                   w3=rng.standard_normal((F, WIDTH)), slow=lambda x, **weights: lines(
                       lambda v: slow.network(*(weights[f"w{i}"].tolist() for i in (1, 2, 3)), v), x))
    x, weight = rng.standard_normal((3, WIDTH)), rng.standard_normal((5, WIDTH))
    x[1] *= 300.0
    for form in ("sigmoid", "sqrt_softplus"):
        yield case(f"router_scores/{form}", terms=WIDTH, flags="saturated", x=x, weight=weight, scoring_func=form,
                   slow=lambda x, weight, scoring_func: [
                       [slow.score(z, scoring_func) for z in slow.times(weight.tolist(), v)] for v in x.tolist()])


def choices():
    """Ties, groups, biases that are all negative, and what the chosen ones weigh."""
    rng = rng_of("select_experts/random")
    tied = np.array([[0.5, 0.5, 0.5, 0.5, 0.25, 0.5, 0.25, 0.25], [0.125] * 8])
    for name, config in CONFIGS.items():
        E = config.n_routed_experts
        flags = "groups bias" if config.n_group > 1 else "bias"
        for title, scores, bias in (("random", rng.random((4, E)), 0.3 * rng.standard_normal(E) - 1.2),
                                    ("ties", tied[:, :E], np.zeros(E)), ("empty", tied[:0, :E], np.zeros(E))):
            extra = {"ties": " ties", "empty": " empty"}.get(title, "")
            yield case(f"select_experts/{name}-{title}", flags=flags + extra, scores=scores, bias=bias, config=config,
                       slow=lambda scores, bias, config: [chosen_of(s, bias.tolist(), config) for s in scores.tolist()])
        chosen = np.array([chosen_of(s, [0.0] * E, config) for s in tied[:, :E].tolist()])
        yield case(f"expert_weights/{name}", terms=config.num_experts_per_tok, flags="bias", scores=tied[:, :E],
                   chosen=chosen, config=config, slow=lambda scores, chosen, config: [
                       slow.weigh(s, c, config.routed_scaling_factor, config.norm_topk_prob)
                       for s, c in zip(scores.tolist(), chosen.tolist(), strict=True)])


def chosen_of(scores, bias, config):
    return slow.choose(scores, bias, config.num_experts_per_tok, config.n_group, config.topk_group)


def mixtures():
    """Routed experts both ways, and the whole mixture."""
    for name, config in CONFIGS.items():
        rng = rng_of(f"moe/{name}")
        p = {key: rng.standard_normal(shape) * (shape[-1] ** -0.5 if len(shape) > 1 else 0.3)
             for key, shape in expert_shapes(config, WIDTH).items()}
        F, K, S = config.moe_intermediate_size, config.num_experts_per_tok, config.n_shared_experts
        terms = 3 * WIDTH + F + 2 * K + S * F + 1
        flags = "groups bias" if config.n_group > 1 else "bias"
        for title, shape in (("batch", (2, 3, WIDTH)), ("one-token", (1, 1, WIDTH)), ("empty", (2, 0, WIDTH))):
            x = rng.standard_normal(shape)
            extra = {"empty": " empty", "one-token": " one-token"}.get(title, "")
            yield case(f"moe/{name}-{title}", outputs=("feed_forward",), traced=True, terms=terms, flags=flags + extra,
                       parameters=p, x=x, config=config, slow=slow_moe)
        tokens = rng.standard_normal((4, WIDTH))
        router = {key: p[key] for key in ("gate.weight", "gate.bias")}
        yield case(f"route/{name}", outputs=("experts", "expert_weights"), terms=WIDTH + K, flags=flags,
                   parameters=router, x=tokens, config=config, slow=slow_route)
        chosen, weights = (np.array(part) for part in slow_route(router, tokens, config))
        own = {key: p[key] for key in ("experts.w1", "experts.w2", "experts.w3")}
        for way in ("naive", "grouped"):
            yield case(f"routed_{way}/{name}", terms=2 * WIDTH + F + K, parameters=own, x=tokens, chosen=chosen,
                       weights=weights, slow=slow_routed)


def plain(parameters):
    return {name: array.tolist() for name, array in parameters.items()}


def slow_moe(parameters, x, config):
    found = lines(lambda v: slow.mixture(plain(parameters), v, slow_experts_config(config)), x)
    return {stage: [f[i] for f in found] for i, stage in enumerate(("feed_forward", "experts", "expert_weights"))}


def slow_route(parameters, x, config):
    weight = parameters["gate.weight"].tolist()
    scores = [[slow.score(z, config.scoring_func) for z in slow.times(weight, v)] for v in x.tolist()]
    chosen = [chosen_of(s, parameters["gate.bias"].tolist(), config) for s in scores]
    return chosen, [slow.weigh(s, c, config.routed_scaling_factor, config.norm_topk_prob)
                    for s, c in zip(scores, chosen, strict=True)]


def slow_routed(parameters, x, chosen, weights):
    w1, w2, w3 = (parameters[f"experts.w{i}"].tolist() for i in (1, 2, 3))
    answers = []
    for v, experts, shares in zip(x.tolist(), chosen.tolist(), weights.tolist(), strict=True):
        parts = [[share * a for a in slow.network(w1[e], w2[e], w3[e], v)]
                 for e, share in zip(experts, shares, strict=True)]
        answers.append([sum(column) for column in zip(*parts, strict=True)])
    return answers


AREA = (networks, choices, mixtures)
