"""Parameters of a whole model: a dictionary of arrays under the names that the DeepSeek releases use.

    embed.weight [V, D]     norm.weight [D]     head.weight [V, D] unless tied
    layers.<i>.attn_norm.weight, ffn_norm.weight [D]
    layers.<i>.attn.wq.weight, or wq_a, q_norm, wq_b; wkv_a, kv_norm, wkv_b, wo
    layers.<i>.ffn.w1, w2, w3 .weight        dense; or gate.weight [E, D], gate.bias [E] if any,
        experts.w1, w3 [E, F, D], experts.w2 [E, D, F], shared_experts.w1, w2, w3 .weight
    layers.<i>.attn_hc, ffn_hc . phi, bias, alpha        hyper-connections; head_hc for a learned collapse
    layers.<i>.engram . ...                              see engram_ref.model.engram_parameters

DeepSeek-V3's inference code uses the same names, except that it stores each expert separately
(experts.<e>.w1.weight) and has no hyper-connections.
"""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from engram_ref.checks import as_ops, check_is_file, check_kinds, check_shapes
from engram_ref.errors import InputError
from engram_ref.files import check_file, write_whole
from engram_ref.memory import check_fits
from engram_ref.model import declarations, engram_parameters
from engram_ref.model.declarations import Parameter, shapes_of
from engram_ref.model_config import ModelConfig
from engram_ref.ops.namespace import NUMPY, Ops
from engram_ref.packages import require


def shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every parameter of a model, in order."""
    return shapes_of(declarations.model(config))


def initialise(config: ModelConfig, rng: "np.random.Generator",
               dtype: DTypeLike | None = None) -> dict[str, np.ndarray]:
    """Random parameters: matrices N(0, 1/fan-in), embeddings N(0, 1), gains 1, biases 0; see declarations.py.

    dtype    float32 or float64; None: float32 if the Engram dialect rounds to bfloat16, else float64
    raises   InputError if the model does not fit in memory
    """
    check_kinds(config=(config, ModelConfig), rng=(rng, np.random.Generator))
    dtype = engram_parameters.weight_dtype(config.engram, dtype)
    declared = tuple(declarations.model(config))
    check_fits(config.name, sum(math.prod(p.shape) for p in declared) * np.dtype(dtype).itemsize)
    arrays: dict[str, np.ndarray] = {}
    for p in declared:
        if p.layer is None:
            arrays[p.name] = engram_parameters.initial_array(p, rng, dtype)
        elif p.name not in arrays:                           # first of its Engram module: initialise all of it
            path = p.name.rpartition(".")[0]
            module = engram_parameters.initialise(config.engram, p.layer, rng, dtype)
            arrays |= {f"{path}.{name}": array for name, array in module.items()}
    return arrays


def check(parameters: Mapping[str, np.ndarray], config: ModelConfig, ops: Ops = NUMPY, *,
          tables: bool = False) -> None:
    """Raise InputError unless the parameters match the configuration; the error names the first that does not.

    tables   also check the Engram tables for NaN and infinity; off by default, since they can be very large
    """
    check_kinds(config=(config, ModelConfig), tables=(tables, bool))
    ops = as_ops(ops)
    check_converted(engram_parameters.as_parameters(parameters, ops), config, ops, tables)


def check_converted(parameters: Mapping[str, np.ndarray], config: ModelConfig, ops: Ops,
                    tables: bool = False) -> None:
    """Check parameters that as_parameters has already converted to arrays of the backend."""
    declared = {p.name: p for p in declarations.model(config)}
    engram_parameters.check_names(parameters, declared, f"the names of {config.name}")
    for name, p in declared.items():
        check_array(parameters[name], p, parameters["embed.weight"], config, ops)
        if tables or p.group != "table":
            engram_parameters.check_finite(name, parameters[name], ops)


def check_array(array: np.ndarray, declared: Parameter, embedding: np.ndarray, config: ModelConfig,
                ops: Ops) -> None:
    """Raise InputError unless one array has the declared shape and dtype."""
    name, dtype = declared.name, ops.dtype_name(array)
    check_shapes(**{f"parameter {name}": (array, declared.shape)})
    if declared.start == "offsets":
        engram_parameters.check_offsets(name, ops.to_numpy(array), config.engram, (declared.layer,))
    if declared.kind in ("table", "constant"):
        engram_parameters.check_dtype(name, declared, dtype)
    elif dtype not in declared.dtypes or array.dtype != embedding.dtype:
        raise InputError(f"parameter {name}", "dtype float32 or float64, the same as embed.weight", dtype)


def save(parameters: Mapping[str, np.ndarray], path: str | Path) -> None:
    """Write parameters and their digests to a safetensors file, atomically."""
    check_file(path)
    to_bytes = require("safetensors.numpy", f"parameter file {path}").save
    arrays = {name: np.ascontiguousarray(array) for name, array in engram_parameters.as_parameters(parameters).items()}
    write_whole(path, to_bytes(arrays, metadata={f"sha256 {n}": engram_parameters.digest(a)
                                                 for n, a in arrays.items()}))


def load(path: str | Path, config: ModelConfig) -> dict[str, np.ndarray]:
    """Read parameters; InputError if the file is missing, damaged, modified or does not match the configuration."""
    check_is_file(f"parameter file {path}", path, "a safetensors file")
    safe_open = require("safetensors", f"parameter file {path}").safe_open
    try:
        with safe_open(path, framework="numpy") as stored:
            digests = stored.metadata() or {}
            parameters = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118  not a dict
    except Exception as error:  # safetensors raises a different class for each kind of damage
        raise InputError(f"parameter file {path}", "a complete safetensors file", f"an error: {error}",
                         "is it truncated?") from error
    for name, array in parameters.items():
        if digests.get(f"sha256 {name}") != engram_parameters.digest(array):
            raise InputError(f"parameter file {path}", f"the stored digest of {name}", "a different digest",
                             "the file was modified, or was not written by engram_ref")
    check(parameters, config, tables=True)
    return {name: parameters[name] for name in shapes(config)}
