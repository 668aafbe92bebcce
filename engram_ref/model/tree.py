"""Parameters of a whole model: a dictionary of named arrays, as the DeepSeek releases name them.

    embed.weight [V, D]     norm.weight [D]     head.weight [V, D] unless tied
    layers.<i>.attn_norm.weight, ffn_norm.weight [D]
    layers.<i>.attn.wq.weight, or wq_a, q_norm, wq_b; wkv_a, kv_norm, wkv_b, wo
    layers.<i>.ffn.w1, w2, w3 .weight        dense; or gate.weight [E, D], gate.bias [E] if any,
        experts.w1, w3 [E, F, D], experts.w2 [E, D, F], shared_experts.w1, w2, w3 .weight
    layers.<i>.attn_hc, ffn_hc . phi, bias, alpha        hyper-connections; head_hc for a learned collapse
    layers.<i>.engram . ...                              see engram_ref.model.engram_parameters

DeepSeek-V3's inference code has the same names but for the experts, which it keeps apart
(experts.<e>.w1.weight), and the hyper-connections, which it has not.
"""

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import numpy as np

from engram_ref import ops as numpy_ops
from engram_ref.checks import check_kind, check_kinds, check_ops, float_name, is_file
from engram_ref.errors import InputError
from engram_ref.files import check_file, write_whole
from engram_ref.memory import check_fits
from engram_ref.model import engram_parameters
from engram_ref.model_config import AttentionConfig, BackboneConfig, ExpertsConfig, ModelConfig
from engram_ref.packages import require

Shapes = dict[str, tuple[int, ...]]


def shapes(config: ModelConfig) -> Shapes:
    """Name and shape of every parameter of a model, in order."""
    backbone = config.backbone
    named: Shapes = {"embed.weight": (backbone.vocab_size, backbone.hidden_size)}
    for i in range(backbone.n_layers):
        for name, shape in layer_shapes(config, i).items():
            named[f"layers.{i}.{name}"] = shape
    if backbone.hyper is not None and backbone.hyper.collapse == "head":
        M = backbone.n_branches
        named |= {"head_hc.phi": (M, M * backbone.hidden_size), "head_hc.bias": (M,), "head_hc.alpha": (1,)}
    named["norm.weight"] = (backbone.hidden_size,)
    if not backbone.tie_embeddings:
        named["head.weight"] = (backbone.vocab_size, backbone.hidden_size)
    return named


def layer_shapes(config: ModelConfig, index: int) -> Shapes:
    """Name and shape of one block's parameters, Engram first."""
    backbone = config.backbone
    D = backbone.hidden_size
    named: Shapes = {}
    layer_id = config.engram_layer(index)
    if layer_id is not None:
        named |= {f"engram.{name}": s for name, s in engram_parameters.shapes(config.engram, layer_id).items()}
    for site in ("attn", "ffn"):
        named[f"{site}_norm.weight"] = (D,)
        if backbone.hyper is not None:
            M = backbone.n_branches
            maps = 2 * M + M * M
            named |= {f"{site}_hc.phi": (maps, M * D), f"{site}_hc.bias": (maps,), f"{site}_hc.alpha": (3,)}
    named |= {f"attn.{name}": shape for name, shape in attention_shapes(backbone.attention, D).items()}
    dense = index < backbone.n_dense_layers
    ffn = dense_shapes(backbone.intermediate_size, D) if dense else expert_shapes(backbone.experts, D)
    return named | {f"ffn.{name}": shape for name, shape in ffn.items()}


def attention_shapes(config: AttentionConfig, D: int) -> Shapes:
    """MLA's matrices and the norms of its latents."""
    A, dq, r = config.n_heads, config.qk_head_dim, config.kv_lora_rank
    if config.q_lora_rank is None:
        named: Shapes = {"wq.weight": (A * dq, D)}
    else:
        rq = config.q_lora_rank
        named = {"wq_a.weight": (rq, D), "q_norm.weight": (rq,), "wq_b.weight": (A * dq, rq)}
    return named | {
        "wkv_a.weight": (r + config.qk_rope_head_dim, D),
        "kv_norm.weight": (r,),
        "wkv_b.weight": (A * (config.qk_nope_head_dim + config.v_head_dim), r),
        "wo.weight": (D, A * config.v_head_dim),
    }


def dense_shapes(F: int, D: int) -> Shapes:
    """One SwiGLU."""
    return {"w1.weight": (F, D), "w2.weight": (D, F), "w3.weight": (F, D)}


def expert_shapes(config: ExpertsConfig, D: int) -> Shapes:
    """Router, routed experts stacked, shared experts as one."""
    E, F = config.n_routed_experts, config.moe_intermediate_size
    named: Shapes = {"gate.weight": (E, D)} | ({"gate.bias": (E,)} if config.router_bias else {})
    named |= {"experts.w1": (E, F, D), "experts.w2": (E, D, F), "experts.w3": (E, F, D)}
    if config.n_shared_experts:
        shared = dense_shapes(config.n_shared_experts * F, D)
        named |= {f"shared_experts.{name}": shape for name, shape in shared.items()}
    return named


def initialise(config: ModelConfig, rng: "np.random.Generator",
               dtype: type | None = None) -> dict[str, np.ndarray]:
    """Random parameters: matrices N(0, 1/fan-in), embeddings N(0, 1), gains 1, biases 0.

    The maps of the hyper-connections start at phi N(0, 0.02^2), alpha as configured, bias 0: published is
    only alpha. Random phi tells the branches apart; with phi = 0 they would stay equal for ever.
    dtype    float32 or float64; None: float32 if the Engram dialect rounds to bfloat16, else float64
    raises   InputError where a model does not fit into memory
    """
    check_kinds(config=(config, ModelConfig), rng=(rng, np.random.Generator))
    if dtype is None:
        dtype = np.float64 if config.engram is None else engram_parameters.standard_dtype(config.engram)
    dtype = np.dtype(float_name("dtype", dtype)).type
    named = shapes(config)
    check_fits(config.name, sum(map(size, named.values())) * np.dtype(dtype).itemsize)
    made: dict[str, np.ndarray] = {}
    for name, shape in named.items():
        if ".engram." not in name:
            made[name] = first_value(name, shape, config.backbone, rng, dtype)
        elif name.endswith(".engram.column_offsets"):
            index = int(name.split(".")[1])
            module = engram_parameters.initialise(config.engram, config.engram_layer(index), rng, dtype)
            made |= {f"layers.{index}.engram.{key}": array for key, array in module.items()}
    return {name: made[name] for name in named}


def first_value(name: str, shape: tuple[int, ...], config: BackboneConfig, rng: "np.random.Generator",
                dtype: type) -> np.ndarray:
    """What one parameter of the backbone starts as."""
    if name.endswith("norm.weight"):
        return np.ones(shape, dtype=dtype)
    if name.endswith("alpha"):
        return np.full(shape, config.hyper.alpha_init, dtype=dtype)
    if name.endswith("bias"):
        return np.zeros(shape, dtype=dtype)
    scale = 1.0 if name == "embed.weight" else 0.02 if name.endswith("phi") else shape[-1] ** -0.5
    return rng.standard_normal(shape, dtype=dtype) * dtype(scale)


def size(shape: tuple[int, ...]) -> int:
    """Numbers in an array of this shape."""
    return int(np.prod(shape, dtype=object))


def check(parameters: Mapping[str, np.ndarray], config: ModelConfig, ops: ModuleType = numpy_ops) -> None:
    """Refuse parameters that do not fit the configuration, naming the first that does not."""
    check_kind("config", config, ModelConfig)
    check_ops(ops)
    parameters, expected = engram_parameters.as_parameters(parameters, ops), shapes(config)
    for name in [*expected, *parameters]:
        if name not in parameters:
            raise InputError("parameters", f"an array {name} {list(expected[name])}", "none of that name")
        if name not in expected:
            raise InputError("parameters", f"only the names of {config.name}", f"an array {name}")
        array = parameters[name]
        if array.shape != expected[name]:
            raise InputError(f"parameter {name}", f"shape {list(expected[name])}", list(array.shape))
        if name.endswith("column_offsets"):
            layer_id = config.engram_layer(int(name.split(".")[1]))
            engram_parameters.check_offsets(name, ops.to_numpy(array), config.engram, (layer_id,))
            continue
        if ".engram.table" in name:
            engram_parameters.check_dtype(name.split(".engram.")[1], ops.dtype_name(array), config.engram)
        elif ops.dtype_name(array) not in ("float32", "float64") or array.dtype != parameters["embed.weight"].dtype:
            raise InputError(f"parameter {name}", "the dtype of embed.weight, float32 or float64",
                             ops.dtype_name(array))
        if ops.first_non_finite(array) is not None:
            raise InputError(f"parameter {name}", "finite values", "NaN or infinity")


def save(parameters: Mapping[str, np.ndarray], path: str | Path) -> None:
    """Write parameters to a safetensors file with the digest of each, whole or not at all."""
    check_file(path)
    to_bytes = require("safetensors.numpy", f"parameter file {path}").save
    arrays = {name: np.ascontiguousarray(array) for name, array in engram_parameters.as_parameters(parameters).items()}
    write_whole(path, to_bytes(arrays, metadata={f"sha256 {n}": engram_parameters.digest(a)
                                                 for n, a in arrays.items()}))


def load(path: str | Path, config: ModelConfig) -> dict[str, np.ndarray]:
    """Read parameters and check them: digests, names, shapes, finite values.

    raises   InputError for a file that is missing, truncated or tampered with, or does not fit
    """
    if not is_file(path):
        raise InputError(f"parameter file {path}", "a safetensors file", "no such file")
    safe_open = require("safetensors", f"parameter file {path}").safe_open
    try:
        with safe_open(path, framework="numpy") as stored:
            digests = stored.metadata() or {}
            parameters = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118  not a dict
    except Exception as error:  # the library raises its own kind for every sort of damage
        raise InputError(f"parameter file {path}", "a whole safetensors file", str(error), "truncated?") from error
    for name, array in parameters.items():
        if digests.get(f"sha256 {name}") != engram_parameters.digest(array):
            raise InputError(f"parameter file {path}", f"the digest stored for {name}", "another",
                             "changed after it was written, or not written by engram_ref")
    check(parameters, config)
    return {name: parameters[name] for name in shapes(config)}
