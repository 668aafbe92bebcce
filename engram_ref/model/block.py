"""One block: Engram where there is one, then attention, then experts, each on the residual branches.

    X <- X + Engram(X)          in the layers that have one, before everything else
    X <- site(X, attention)     read the branches, normalise, attend, write back
    X <- site(X, experts)       likewise

Composition only: every number is computed by an op.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from engram_ref.addressing import Addressing
from engram_ref.model.engram import through_module
from engram_ref.model.state import DecodeState
from engram_ref.model_config import BackboneConfig, ModelConfig
from engram_ref.trace import Trace

Parameters = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Step:
    """What all blocks of one forward call share."""

    config: ModelConfig
    state: DecodeState
    ops: ModuleType
    angle: np.ndarray               # float64 [B, T, dr/2], of the new positions
    positions: np.ndarray           # int64 [B, T]
    canonical_ids: np.ndarray       # int64 [B, T], DEAD where masked
    dead: np.ndarray | None         # bool [B, T]
    addressing: Addressing | None
    absorbed: bool


def below(parameters: Parameters, prefix: str) -> dict[str, np.ndarray]:
    """The parameters whose names start with a path, under what follows it."""
    return {name[len(prefix) + 1 :]: array for name, array in parameters.items() if name.startswith(f"{prefix}.")}


def cache_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name of every cache that a model fills, and the shape of one slot."""
    attention = config.backbone.attention
    named: dict[str, tuple[int, ...]] = {}
    for index in range(config.backbone.n_layers):
        layer_id = config.engram_layer(index)
        if layer_id is not None and config.engram.conv_kernel:
            named[f"layers.{index}.conv_norm"] = (config.backbone.n_branches, config.backbone.hidden_size)
        named[f"layers.{index}.c_kv"] = (attention.kv_lora_rank,)
        named[f"layers.{index}.k_pe"] = (attention.qk_rope_head_dim,)
    if config.engram is not None:
        named["canonical_ids"] = ()
    return named


def under(trace: Trace | None, path: str) -> Trace | None:
    """The same trace below a path, where there is one (an empty trace counts as false, so ask for None)."""
    return None if trace is None else trace.at(path)


def block(parameters: Parameters, X: np.ndarray, index: int, step: Step, trace: Trace | None) -> np.ndarray:
    """The residual branches after one block.

    parameters   those of this layer, without "layers.<index>."
    X            [B, T, M, D]
    index        of the block, from 0
    returns      [B, T, M, D]
    """
    backbone = step.config.backbone
    layer_id = step.config.engram_layer(index)
    if layer_id is not None:
        X = engram_site(below(parameters, "engram"), X, index, layer_id, step, under(trace, "engram"))
    X = site(parameters, X, "attn", backbone, step.ops, trace,
             lambda x: attention(below(parameters, "attn"), x, index, step, under(trace, "attention")))
    return site(parameters, X, "ffn", backbone, step.ops, trace,
                lambda x: feed_forward(below(parameters, "ffn"), x, index, step, under(trace, "experts")))


def site(parameters: Parameters, X: np.ndarray, name: str, config: BackboneConfig, ops: ModuleType,
         trace: Trace | None, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Read the branches, normalise, apply one function, write its answer back: [B, T, M, D] -> the same."""
    record = ops.ignore if trace is None else trace.at(f"{name}_branches").record
    gain = parameters[f"{name}_norm.weight"]
    if config.hyper is None:
        X = ops.write_single(X, function(ops.rms_norm(ops.read_single(X), gain, config.rms_norm_eps)))
    else:
        maps = ops.branch_maps(below(parameters, f"{name}_hc"), X, config.rms_norm_eps, config.hyper)
        for stage, array in zip(("branch_pre", "branch_post", "branch_residual"), maps, strict=True):
            record(stage, array)
        pre, post, res = maps
        y = function(ops.rms_norm(ops.read_branches(X, pre), gain, config.rms_norm_eps))
        X = ops.write_branches(X, y, post, res)
    record("branches", X)
    return X


def attention(parameters: Parameters, x: np.ndarray, index: int, step: Step, trace: Trace | None) -> np.ndarray:
    """MLA over everything this row has seen; the new latents enter the cache: [B, T, D] -> [B, T, D]."""
    config, ops, caches = step.config.backbone.attention, step.ops, step.state.caches
    record = ops.ignore if trace is None else trace.record
    for name, new in zip(("c_kv", "k_pe"), ops.latents(parameters, x, step.angle, config), strict=True):
        key = f"layers.{index}.{name}"
        old = caches.get(key, new[:, :0])
        caches[key] = ops.place(old, new, step.state.lengths)
        record(name, new)
    y = ops.mla(parameters, x, caches[f"layers.{index}.c_kv"], caches[f"layers.{index}.k_pe"], step.positions,
                step.angle, config, step.absorbed, record)
    record("attention", y)
    return y


def feed_forward(parameters: Parameters, x: np.ndarray, index: int, step: Step, trace: Trace | None) -> np.ndarray:
    """Dense SwiGLU in the first layers, experts in the others: [B, T, D] -> [B, T, D]."""
    ops, backbone = step.ops, step.config.backbone
    record = ops.ignore if trace is None else trace.record
    if index < backbone.n_dense_layers:
        y = ops.swiglu(x, *(parameters[f"w{i}.weight"] for i in (1, 2, 3)))
    else:
        y = ops.moe(parameters, x, backbone.experts, record)
    record("feed_forward", y)
    return y


def engram_site(parameters: Parameters, X: np.ndarray, index: int, layer_id: int, step: Step,
                trace: Trace | None) -> np.ndarray:
    """X + Y, the Engram module of one layer on the branches: [B, T, M, D] -> [B, T, M, D]."""
    config, ops, state = step.config.engram, step.ops, step.state
    record = ops.ignore if trace is None else trace.record
    history = ops.last(state.caches.get("canonical_ids", step.canonical_ids[:, :0]), state.lengths,
                       config.max_ngram - 1, ops.DEAD)
    constants = step.addressing
    rows = ops.address(step.canonical_ids, history, constants.multipliers[layer_id], constants.primes[layer_id],
                       None, constants.pad_id, constants.eos_id, record)
    key = f"layers.{index}.conv_norm"
    taps = ops.last(state.caches.get(key, X[:, :0]), state.lengths, config.conv_span, 0)
    Y, normalised = through_module(parameters, X, rows, taps, step.dead, config, X.shape[1], ops, record)
    if normalised is not None:
        state.caches[key] = ops.place(state.caches.get(key, X[:, :0]), normalised, state.lengths)
    X = ops.add_residual(X, Y, config.rounding)
    record("residual", X)
    return X
