"""P10 and P11: a layer of experts, and one decode step of latent attention."""

from collections.abc import Iterator
from functools import partial

import numpy as np

from engram_ref.bench import limits
from engram_ref.bench.clock import Side
from engram_ref.bench.judge import OURS, Case, Comparison
from engram_ref.bench.setting import Setting, Sides, aligned
from engram_ref.model_config import AttentionConfig, ExpertsConfig
from engram_ref.model_presets import model_preset
from engram_ref.ops import route
from engram_ref.ops.rope import softmax_scale

LOOP = "a torch expert loop"
GEMMS = "the bare matrix products"
EXPANDED = "our expanded form"
LATENTS = "reading the latents"


def experts(setting: Setting) -> Iterator[Case]:
    """P10: routing and routed experts of one layer; no shared expert."""
    tokens, D, E, F = setting.size((4096, 1024, 64, 704), (33, 40, 8, 24))
    config = ExpertsConfig(E, 6, 0, F, routed_scaling_factor=2.5)
    rng = np.random.default_rng(10)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, dtype=np.float32)

    parameters = {"gate.weight": normal(E, D) / np.float32(D**0.5), "gate.bias": np.zeros(E, np.float32),
                  "experts.w1": normal(E, F, D) / np.float32(D**0.5),
                  "experts.w2": normal(E, D, F) / np.float32(F**0.5),
                  "experts.w3": normal(E, F, D) / np.float32(D**0.5)}
    x = normal(1, tokens, D)
    sides = Sides(setting)
    sides.add(OURS, partial(setting.ops.moe, parameters, x, config))
    sides.rival(LOOP, lambda rivals: as_batch(rivals.torch_experts(
        parameters, x[0], config.num_experts_per_tok, config.routed_scaling_factor)), "torch")
    sides.add(GEMMS, bare_products(parameters, x[0], route(parameters, x[0], config)[0]))
    sizes = {"tokens": tokens, "experts": E, "experts a token": config.num_experts_per_tok, "hidden size": D,
             "expert width": F, "dtype": "float32"}
    yield Case("mixture of experts", sizes, setting.threads, sides.there,
               [Comparison("faster", LOOP, 1.3), Comparison("limit", GEMMS, 0.75)], sides.missing, uses_blas=True)


def as_batch(side: Side) -> Side:
    """The answer [N, D] as [1, N, D]."""
    return lambda: side()[None]


def bare_products(parameters: dict[str, np.ndarray], x: np.ndarray, chosen: np.ndarray) -> Side:
    """The three products of every expert with as many tokens as it serves, into arrays that are there already."""
    w1, w2, w3 = (parameters[f"experts.w{i}"] for i in (1, 2, 3))
    parts = [np.ascontiguousarray(x[(chosen == e).any(axis=1)]) for e in range(len(w1))]
    most = max(map(len, parts))
    inner, outer = np.zeros((most, w1.shape[1]), np.float32), np.zeros((most, w1.shape[2]), np.float32)

    def run() -> None:
        for e, part in enumerate(parts):
            n = len(part)
            np.matmul(part, w1[e].T, out=inner[:n])
            np.matmul(part, w3[e].T, out=inner[:n])
            np.matmul(inner[:n], w2[e].T, out=outer[:n])

    return run


def latent_attention(setting: Setting) -> Iterator[Case]:
    """P11: one new token over a cache of latents, both forms ours."""
    config = setting.size(model_preset("mhc-3b"), model_preset("tiny")).backbone.attention
    for cached, goal in zip(setting.size((1024, 4096), (33, 70)), (15.0, 25.0), strict=True):
        arguments = step_of(config, cached)
        sides = Sides(setting)
        sides.add(OURS, partial(setting.ops.attend_absorbed, *arguments))
        sides.add(EXPANDED, partial(setting.ops.attend_expanded, *arguments))
        sides.add(LATENTS, limits.read_all(arguments[2], setting.threads))
        sizes = {"cached tokens": cached, "new tokens": 1, "heads": config.n_heads,
                 "latent width": config.kv_lora_rank, "head width": config.qk_nope_head_dim,
                 "rotary width": config.qk_rope_head_dim, "dtype": "float32"}
        yield Case(f"latent attention, a step after {cached:,} tokens", sizes, setting.threads, sides.there,
                   [Comparison("faster", EXPANDED, goal), Comparison("limit", LATENTS)], uses_blas=True)


def step_of(config: AttentionConfig, cached: int) -> tuple:
    """The arguments of attend_absorbed and attend_expanded for one token that sees so many."""
    A, r, dn, dr = config.n_heads, config.kv_lora_rank, config.qk_nope_head_dim, config.qk_rope_head_dim
    rng = np.random.default_rng(11)

    def normal(*shape: int) -> np.ndarray:
        array = aligned(shape, np.float32)
        array[...] = rng.standard_normal(shape, dtype=np.float32)
        return array

    return (normal(1, 1, A, dn), normal(1, 1, A, dr), normal(1, cached, r), normal(1, cached, dr),
            normal(A, dn, r) / np.float32(r**0.5), normal(A, config.v_head_dim, r) / np.float32(r**0.5),
            np.ones((1, 1, cached), dtype=bool), softmax_scale(config.qk_head_dim, config.yarn))
