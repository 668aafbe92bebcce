"""One block: Engram if the layer has it, then attention, then experts, each on the residual branches.

    X <- X + Engram(X)          in layers with an Engram module, before everything else
    X <- site(X, attention)     read the branches, normalise, attend, write back
    X <- site(X, experts)       likewise, with experts or a dense SwiGLU

This module only calls ops, which compute every number.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from engram_ref.addressing import Addressing
from engram_ref.model.engram import apply_module
from engram_ref.model.state import Caches
from engram_ref.model_config import ModelConfig
from engram_ref.ops.namespace import Ops
from engram_ref.ops.record import Parameters
from engram_ref.trace import Trace


@dataclass(frozen=True)
class Model:
    """Parameters and constants of a model, converted and checked once for any number of calls."""

    modules: Mapping[str, Parameters]       # path of a module -> its arrays, see by_module
    config: ModelConfig
    addressing: Addressing | None           # None without Engram modules
    ops: Ops


@dataclass(frozen=True)
class Step:
    """The values of one forward call that all blocks share."""

    model: Model
    caches: Caches
    angle: np.ndarray               # float64 [B, T, dr/2], of the new positions
    positions: np.ndarray           # int64 [B, T]
    canonical_ids: np.ndarray       # int64 [B, T], DEAD where masked
    history: np.ndarray | None      # int64 [B, N-1], the preceding canonical ids; None without Engram modules
    dead: np.ndarray | None         # bool [B, T]
    absorbed: bool


def by_module(parameters: Parameters) -> dict[str, dict[str, np.ndarray]]:
    """Group parameters by the path of their module: {"embed": {"weight": ...}, "layers.0.attn": {"wo.weight": ...}}.

    >>> list(by_module({"norm.weight": np.ones(2), "layers.0.ffn.shared_experts.w1.weight": np.ones((2, 2))}).items())
    [('norm', {'weight': array([1., 1.])}), ('layers.0.ffn', {'shared_experts.w1.weight': array([[1., 1.],
           [1., 1.]])})]
    """
    modules: dict[str, dict[str, np.ndarray]] = {}
    for name, array in parameters.items():
        *path, rest = name.split(".", 3 if name.startswith("layers.") else 1)
        modules.setdefault(".".join(path), {})[rest] = array
    return modules


def below(parameters: Parameters, prefix: str) -> dict[str, np.ndarray]:
    """The parameters under a path, with the path removed from their names."""
    return {name[len(prefix) + 1 :]: array for name, array in parameters.items() if name.startswith(f"{prefix}.")}


def cache_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name of every cache of a model -> shape of one slot."""
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
    """The trace with `path` prepended to all names; None without a trace."""
    return None if trace is None else trace.at(path)         # not `if trace`: an empty trace is false


def block(X: np.ndarray, index: int, step: Step, trace: Trace | None) -> np.ndarray:
    """Return the residual branches after block `index`, counted from 0: [B, T, M, D] -> [B, T, M, D]."""
    layer_id = step.model.config.engram_layer(index)
    if layer_id is not None:
        X = engram_site(X, index, layer_id, step, under(trace, "engram"))
    X = site(X, f"layers.{index}.attn", step.model, under(trace, "attn_branches"),
             lambda x: attention(x, index, step, under(trace, "attention")))
    return site(X, f"layers.{index}.ffn", step.model, under(trace, "ffn_branches"),
                lambda x: feed_forward(x, index, step.model, under(trace, "experts")))


def site(X: np.ndarray, path: str, model: Model, trace: Trace | None,
         function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Read the branches, normalise, apply the function and write its result back: [B, T, M, D] -> the same shape."""
    config, ops = model.config.backbone, model.ops
    record = ops.ignore if trace is None else trace.record
    gain = model.modules[f"{path}_norm"]["weight"]
    if config.hyper is None:
        X = ops.write_single(X, function(ops.rms_norm(ops.read_single(X), gain, config.rms_norm_eps)))
    else:
        maps = ops.branch_maps(model.modules[f"{path}_hc"], X, config.rms_norm_eps, config.hyper)
        for stage, array in zip(("branch_pre", "branch_post", "branch_residual"), maps, strict=True):
            record(stage, array)
        pre, post, res = maps
        y = function(ops.rms_norm(ops.read_branches(X, pre), gain, config.rms_norm_eps))
        X = ops.write_branches(X, y, post, res)
    record("branches", X)
    return X


def attention(x: np.ndarray, index: int, step: Step, trace: Trace | None) -> np.ndarray:
    """Append the new latents to the caches and attend over the whole stream: [B, T, D] -> [B, T, D]."""
    config, ops = step.model.config.backbone.attention, step.model.ops
    parameters = step.model.modules[f"layers.{index}.attn"]
    record = ops.ignore if trace is None else trace.record
    cached = []
    for name, new in zip(("c_kv", "k_pe"), ops.latents(parameters, x, step.angle, config), strict=True):
        record(name, new)
        cached.append(step.caches.add(f"layers.{index}.{name}", new))
    c_kv, k_pe = cached
    y = ops.mla(parameters, x, c_kv, k_pe, step.positions, step.angle, config, step.absorbed, record)
    record("attention", y)
    return y


def feed_forward(x: np.ndarray, index: int, model: Model, trace: Trace | None) -> np.ndarray:
    """Dense SwiGLU in the leading layers, experts in the others: [B, T, D] -> [B, T, D]."""
    ops, backbone, parameters = model.ops, model.config.backbone, model.modules[f"layers.{index}.ffn"]
    record = ops.ignore if trace is None else trace.record
    if index < backbone.n_dense_layers:
        y = ops.swiglu(x, *(parameters[f"w{i}.weight"] for i in (1, 2, 3)))
    else:
        y = ops.moe(parameters, x, backbone.experts, record)
    record("feed_forward", y)
    return y


def engram_site(X: np.ndarray, index: int, layer_id: int, step: Step, trace: Trace | None) -> np.ndarray:
    """X + Y, where Y is the output of the layer's Engram module: [B, T, M, D] -> [B, T, M, D]."""
    config, ops, key = step.model.config.engram, step.model.ops, f"layers.{index}.conv_norm"
    record = ops.ignore if trace is None else trace.record
    rows = step.model.addressing.unchecked_rows(step.canonical_ids, step.history, layer_id, ops, record)
    taps = step.caches.last(key, X, config.conv_span, 0)
    keep = 0 if step.caches.state is None else X.shape[1]
    Y, normalised = apply_module(step.model.modules[f"layers.{index}.engram"], X, rows, taps, step.dead, config,
                                   keep, ops, record)
    if normalised is not None:
        step.caches.add(key, normalised)
    X = ops.add_residual(X, Y, config.rounding)
    record("residual", X)
    return X
