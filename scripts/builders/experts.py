"""Routing and experts; oracle/slow/experts.py computes the answers."""

from dataclasses import replace

import numpy as np

from engram_ref.model.declarations import expert_shapes
from engram_ref.model_config import ExpertsConfig
from engram_ref.oracle.slow import experts as slow
from scripts.builders.planned import case, lines, rng_of
from scripts.builders.small_models import EXPERTS, GROUPED, V2_EXPERTS, slow_experts_config
from scripts.builders.small_modules import as_lists

WIDTH = 7
V4 = replace(EXPERTS, n_shared_experts=0, scoring_func="sqrt_softplus", norm_topk_prob=False)
ONE = ExpertsConfig(1, 1, 0, 3)
V2 = replace(V2_EXPERTS, n_routed_experts=6)
BEST = replace(GROUPED, group_score="best")
CONFIGS = {"plain": EXPERTS, "grouped": GROUPED, "v4": V4, "one-expert": ONE, "v2": V2, "best-of-group": BEST}
BIAS_SIZES = (12.0, 3e3, 1e9)


def networks():
    """Yield cases for SwiGLU and the router's scores."""
    rng = rng_of("swiglu/odd")
    for title, n, F, flags in (("odd-width", 3, 5, "odd-width"), ("empty", 0, 2, "empty")):
        yield case(f"swiglu/{title}", flags=flags, x=rng.standard_normal((n, WIDTH)),
                   w1=rng.standard_normal((F, WIDTH)), w2=rng.standard_normal((WIDTH, F)),
                   w3=rng.standard_normal((F, WIDTH)), slow=lambda x, **weights: lines(
                       lambda v: slow.network(*(weights[f"w{i}"].tolist() for i in (1, 2, 3)), v), x))
    x, weight = rng.standard_normal((3, WIDTH)), rng.standard_normal((5, WIDTH))
    x[1] *= 300.0
    for form in ("sigmoid", "sqrt_softplus", "softmax"):
        yield case(f"router_scores/{form}", flags="saturated", x=x, weight=weight, scoring_func=form,
                   slow=lambda x, weight, scoring_func: [
                       slow.scores_of(slow.times(weight.tolist(), v), scoring_func) for v in x.tolist()])


def choices():
    """Yield cases for choosing experts, with ties, groups and negative biases, and for their weights."""
    rng = rng_of("select_experts/random")
    tied = np.array([[0.5, 0.5, 0.5, 0.5, 0.25, 0.5, 0.25, 0.25], [0.125] * 8])
    for name, config in CONFIGS.items():
        E = config.n_routed_experts
        flags = "groups" if config.n_group > 1 else ""
        for title, scores, bias in (("random", rng.random((4, E)), 0.3 * rng.standard_normal(E) - 1.2),
                                    ("ties", tied[:, :E], np.zeros(E)), ("empty", tied[:0, :E], np.zeros(E))):
            extra = {"ties": " ties", "empty": " empty"}.get(title, " bias" if config.router_bias else "")
            yield case(f"select_experts/{name}-{title}", flags=flags + extra, scores=scores,
                       bias=bias if config.router_bias else None, config=config,
                       slow=lambda scores, bias, config: [chosen_of(s, bias, config) for s in scores.tolist()])
        chosen = np.array([chosen_of(s, None, config) for s in tied[:, :E].tolist()])
        yield case(f"expert_weights/{name}", scores=tied[:, :E],
                   chosen=chosen, config=config, slow=lambda scores, chosen, config: [
                       slow.weigh(s, c, config.routed_scaling_factor, config.norm_topk_prob)
                       for s, c in zip(scores.tolist(), chosen.tolist(), strict=True)])
    two_good = np.array([[0.9, 0.1, 0.1, 0.6, 0.6, 0.0]])                # group 0: best expert, group 1: best pair
    for score in ("best", "best_two"):
        config = ExpertsConfig(6, 1, 0, 1, n_group=2, topk_group=1, group_score=score)
        yield case(f"select_experts/groups-by-{score}", flags="groups", scores=two_good, bias=np.zeros(6),
                   config=config, slow=lambda scores, bias, config: [chosen_of(scores[0].tolist(), bias, config)])


def chosen_of(scores, bias, config):
    bias = [0.0] * len(scores) if bias is None else np.asarray(bias).tolist()
    return slow.choose(scores, bias, config.num_experts_per_tok, config.n_group, config.topk_group,
                       slow_experts_config(config)["group_best"])


def mixtures():
    """Yield cases for routing, both forms of routed experts, and the whole mixture."""
    for name, config in CONFIGS.items():
        rng = rng_of(f"moe/{name}")
        p = {key: rng.standard_normal(shape) * (shape[-1] ** -0.5 if len(shape) > 1 else 0.3)
             for key, shape in expert_shapes(config, WIDTH).items()}
        flags = "groups " * (config.n_group > 1) + "bias " * config.router_bias
        for title, shape in (("batch", (2, 3, WIDTH)), ("one-token", (1, 1, WIDTH)), ("empty", (2, 0, WIDTH))):
            x = rng.standard_normal(shape)
            extra = {"empty": "empty", "one-token": "one-token"}.get(title, "")
            yield case(f"moe/{name}-{title}", outputs=("feed_forward",), traced=True, flags=flags + extra,
                       parameters=p, x=x, config=config, slow=slow_moe)
        tokens = rng.standard_normal((4, WIDTH))
        router = {key: array for key, array in p.items() if key.startswith("gate.")}
        yield case(f"route/{name}", outputs=("experts", "expert_weights"), flags=flags,
                   parameters=router, x=tokens, config=config, slow=slow_route)
        chosen, weights = (np.array(part) for part in slow_route(router, tokens, config))
        routed = {key: p[key] for key in ("experts.w1", "experts.w2", "experts.w3")}
        for way in ("naive", "grouped"):
            yield case(f"routed_{way}/{name}", parameters=routed, x=tokens, chosen=chosen,
                       weights=weights, slow=slow_routed)


def edges():
    """Yield cases with biases far above the scores, and with scores that are all 0; the second token is ordinary."""
    logits = np.array([-17.0, -16.0, -15.5, -30.0])
    x = np.array([[1.0], [-0.05]])
    for form in ("sigmoid", "sqrt_softplus"):
        config = ExpertsConfig(4, 2, 0, 3, routed_scaling_factor=2.5, scoring_func=form)
        shared = {"outputs": ("experts", "expert_weights"), "slow": slow_route, "config": config,
                  "flags": "bias faint-scores"}
        for size in BIAS_SIZES:
            router = {"gate.weight": logits[:, None], "gate.bias": size * np.array([1.0, 1.5, 1.25, -1.0])}
            yield case(f"route/{form}-bias-{size:g}", parameters=router, x=x, **shared)
        single = {name: array.astype(np.float32) for name, array in router.items()}
        yield case(f"route/{form}-bias-{size:g}-float32", kind="f32", parameters=single, x=x.astype(np.float32),
                   **shared | {"flags": "bias faint-scores float32"})
        router = {"gate.weight": 100.0 * logits[:, None], "gate.bias": np.array([0.5, -1.5, 0.25, 1.0])}
        yield case(f"route/{form}-all-zero", parameters=router, x=x, **shared)
    yield from faint_mixtures()


def faint_mixtures():
    """Yield the same two edge cases for a whole mixture; the first channel is always 1 and sets the logits."""
    rng = rng_of("moe/faint")
    p = {key: rng.standard_normal(shape) * shape[-1] ** -0.5 for key, shape in expert_shapes(EXPERTS, WIDTH).items()}
    x = rng.standard_normal((1, 2, WIDTH))
    x[..., 0] = 1.0
    for title, logit, bias in (("bias-12", -16.0, 12.0), ("all-zero", -2000.0, 0.0)):
        weight, spread = p["gate.weight"].copy(), np.arange(len(p["gate.bias"]))
        weight[:, 0] = logit
        changed = {"gate.weight": weight, "gate.bias": bias + 0.25 * spread}
        yield case(f"moe/{title}", outputs=("feed_forward",), traced=True,
                   flags="bias faint-scores", parameters=p | changed, x=x, config=EXPERTS, slow=slow_moe)


def slow_moe(parameters, x, config):
    tokens = lines(lambda v: slow.mixture(as_lists(parameters), v, slow_experts_config(config)), x)
    return {stage: [t[i] for t in tokens] for i, stage in enumerate(("feed_forward", "experts", "expert_weights"))}


def slow_route(parameters, x, config):
    weight = parameters["gate.weight"].tolist()
    scores = [slow.scores_of(slow.times(weight, v), config.scoring_func) for v in x.tolist()]
    chosen = [chosen_of(s, parameters.get("gate.bias"), config) for s in scores]
    return chosen, [slow.weigh(s, c, config.routed_scaling_factor, config.norm_topk_prob)
                    for s, c in zip(scores, chosen, strict=True)]


def slow_routed(parameters, x, chosen, weights):
    w1, w2, w3 = (parameters[f"experts.w{i}"].tolist() for i in (1, 2, 3))
    outputs = []
    for v, experts, shares in zip(x.tolist(), chosen.tolist(), weights.tolist(), strict=True):
        parts = [[share * a for a in slow.network(w1[e], w2[e], w3[e], v)]
                 for e, share in zip(experts, shares, strict=True)]
        outputs.append([sum(column) for column in zip(*parts, strict=True)])
    return outputs


AREA = (networks, choices, mixtures, edges)
