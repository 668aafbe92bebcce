"""Routing, experts, attention and hyper-connections on inputs whose discrete choices rest on exact sums.

Router inputs and weights are small integers, so that logits are exact in any order and equal ones are equal bits. Every
mixture has one token per recipe.
"""

import numpy as np

from engram_ref import ops
from engram_ref.model.declarations import expert_shapes
from engram_ref.model_config import ExpertsConfig, HyperConfig
from engram_ref.oracle.slow import branches as slow
from scripts.builders.attention import parts, slow_layer
from scripts.builders.branches import matrices, site, slow_maps
from scripts.builders.experts import CONFIGS, slow_moe, slow_route
from scripts.builders.planned import bf16, case, rng_of
from scripts.builders.small_models import MLA_LATENT

WIDTH = 4
BIASES = {"far-bias": (2.0**40, 2.0**40), "negative-bias": (-3.0, -0.5), "no-bias": (0.0, 0.0)}
"""Title -> bias of expert e: the first number plus e mod 3 times the second."""


def mixtures():
    """Yield mixtures of tied tokens, one with distinct scores, and two faint ones; the last token's scores are all 0.

    Scores that a far bias would make equal in float32 are equal before: they depend only on e mod 3, as the bias does.
    """
    for name, config in CONFIGS.items():
        E = np.arange(config.n_routed_experts)
        rng = rng_of(f"moe/solved-{name}")
        p = {key: rng.integers(-4, 5, shape) / 4 for key, shape in expert_shapes(config, WIDTH).items()}
        distinct = rng.permutation(E) + 1           # positive: sums of two sigmoids are distinct too
        x = np.array([[[0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]], dtype=np.float64)
        for title, (first, step) in BIASES.items() if config.router_bias else (("no-bias", (None, None)),):
            columns = [E % 3, E % 3 - 2] if title == "far-bias" else [E % 2, distinct]
            columns += [E % 3 - 16, np.full(len(E), -2000)]
            p = p | {"gate.weight": np.stack(columns, axis=1).astype(np.float64)}
            if first is not None:
                p = p | {"gate.bias": first + step * (E % 3)}
            yield case(f"moe/solved-{name}-{title}", outputs=("feed_forward",), traced=True, parameters=p,
                       x=x, config=config, slow=slow_moe, kind_of_case="solved",
                       flags="ties bias faint-scores" + " groups" * (config.n_group > 1))


def routers():
    """Yield routing of equal scores in float32, where (score + bias) - bias loses most digits."""
    weight = np.array([2, 2, 2, 1, 2, 1], dtype=np.float32)[:, None]
    bias = np.array([4096, 4096, 4096, 4096, 4096, 8192], dtype=np.float32)
    for form in ("sigmoid", "sqrt_softplus"):
        config = ExpertsConfig(6, 3, 0, 3, scoring_func=form)
        yield case(f"route/solved-{form}-float32", outputs=("experts", "expert_weights"), kind="f32",
                   flags="ties bias float32", parameters={"gate.weight": weight, "gate.bias": bias}, config=config,
                   x=np.ones((1, 1), np.float32), slow=slow_route, kind_of_case="solved")


def hyper():
    """Yield Sinkhorn-Knopp and maps with logits of standard deviation 30, far from convergence after 20 iterations."""
    logits = 30 * rng_of("sinkhorn/sd-30").standard_normal((3, 4, 4))
    yield case("sinkhorn/sd-30", flags="saturated", logits=logits, iterations=20, eps=0.0,
               kind_of_case="solved", slow=lambda logits, iterations, eps: [
                   slow.sinkhorn(m, iterations) for m in matrices(logits)])
    parameters, X, _ = site("branch_maps/sd-30", (1, 2, 4, 3))
    yield case("branch_maps/sd-30", outputs=("branch_pre", "branch_post", "branch_residual"), slow=slow_maps,
               flags="saturated unequal-branches", kind_of_case="solved",
               parameters=parameters | {"alpha": np.array([0.5, 1.0, 30.0])}, X=X, eps=1e-6, config=HyperConfig(4, 20))


def far_positions():
    """Yield a layer with YaRN whose first position is 1,000: no angle is 0, and the factor m^2 shows.

    Also the mask of rows that start at different positions.
    """
    yield case("visible/rows-apart", flags="positions batch", positions=np.array([[0, 1], [2, 3], [1, 2]]), n_keys=4,
               kind_of_case="solved", slow=lambda positions, n_keys: [
                   [s <= p for s in range(n_keys)] for p in positions.ravel().tolist()])
    config, S, T = MLA_LATENT, 5, 2
    p, whole, positions, _, _ = parts("mla/solved-yarn-far", config, 1, T, S)
    angle = bf16(ops.angles(1000 + np.arange(S)[None], ops.frequencies(config.qk_rope_head_dim, config.rope_theta,
                                                                      config.yarn)))
    c_kv, k_pe = ops.latents(p, whole, angle, config)
    key = [k for k in p if k[:3] in ("wkv", "kv_") and k != "wkv_b.weight"]
    for absorbed in (False, True):
        yield case(f"mla/solved-yarn-far{'-absorbed' if absorbed else ''}", outputs=("attention",), traced=True,
                   flags="positions yarn" + " absorbed" * absorbed, slow=slow_layer,
                   parameters={k: v for k, v in p.items() if k not in key}, x=whole[:, S - T :].copy(), c_kv=c_kv,
                   k_pe=k_pe, positions=positions, angle=angle[:, S - T :].copy(), config=config, absorbed=absorbed,
                   kind_of_case="solved")


AREA = (mixtures, routers, hyper, far_positions)
