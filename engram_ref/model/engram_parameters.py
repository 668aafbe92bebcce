"""Parameters of an Engram module: a dictionary of named arrays.

    table                  [R, W]        the rows; or, where they are FP8:
    table_codes            [R, W]        uint8, E4M3FN
    table_scales           [R, W/32]     uint8, E8M0
    column_offsets         [C]           int64, where each column's table starts
    key_weight, key_bias   [M, D, C*W], [M, D]     one projection per branch
    value_weight, _bias    [D, C*W], [D]           shared by the branches
    query_gain, key_gain   [M, D]
    conv_gain              [M, D]
    conv_weight            [M, D, L]     oldest tap first
"""

import hashlib
from collections.abc import Mapping
from types import ModuleType

import numpy as np

from engram_ref import ops as numpy_ops
from engram_ref.addressing import addressing_of
from engram_ref.config import EngramConfig, check_layer
from engram_ref.errors import InputError
from engram_ref.memory import check_fits

STANDARD_DTYPES = {"fp32": "float", "bf16": "bfloat16", "fp8_e8m0": "uint8"}
"""Dtype of the stored table by codec; "float" means float32 or float64."""


def shapes(config: EngramConfig, layer_id: int) -> dict[str, tuple[int, ...]]:
    """Name and shape of every parameter of one layer's module, in the order above.

    >>> from engram_ref.presets import preset
    >>> shapes(preset("deepseek-v4.1-flash"), 1)["table_codes"]
    (384006168, 256)
    """
    check_layer(config, layer_id)
    R = addressing_of(config).table_rows[layer_id]
    M, D, W, memory = config.n_branches, config.hidden_size, config.row_width, config.memory_width
    if config.table_codec == "fp8_e8m0":
        named = {"table_codes": (R, W), "table_scales": (R, W // 32)}
    else:
        named = {"table": (R, W)}
    named |= {"column_offsets": (config.columns,), "key_weight": (M, D, memory), "value_weight": (D, memory)}
    if config.projection_bias:
        named |= {"key_bias": (M, D), "value_bias": (D,)}
    named |= {"query_gain": (M, D), "key_gain": (M, D)}
    if config.conv_kernel:
        named |= {"conv_gain": (M, D), "conv_weight": (M, D, config.conv_kernel)}
    return named


def table_bytes(config: EngramConfig, layer_id: int) -> int:
    """Stored size of one layer's table, in bytes."""
    return addressing_of(config).table_rows[layer_id] * config.bytes_per_row


def bytes_needed(config: EngramConfig, layer_id: int, dtype: type) -> int:
    """What one layer's module takes in memory, weights of that dtype, in bytes."""
    plain = config.table_codec == "fp32"
    counted = [shape for name, shape in shapes(config, layer_id).items() if plain or not name.startswith("table")]
    weights = sum(int(np.prod(shape)) for shape in counted) * np.dtype(dtype).itemsize
    return weights if plain else weights + table_bytes(config, layer_id)


def check_parameters(parameters: Mapping[str, np.ndarray], config: EngramConfig, ops: ModuleType = numpy_ops) -> None:
    """Refuse parameters that do not fit the configuration, naming the first that does not.

    The layer is found by its column offsets. Raises InputError for a missing, extra, misshapen or
    wrongly typed array.
    """
    if "column_offsets" not in parameters:
        raise InputError("parameters", "an array column_offsets", f"only {', '.join(sorted(parameters))}")
    layer_id = layer_of(parameters, config, ops)
    expected = shapes(config, layer_id)
    for name in [*expected, *parameters]:
        if name not in parameters:
            raise InputError("parameters", f"an array {name} {list(expected[name])}", "none of that name")
        if name not in expected:
            raise InputError("parameters", f"only {', '.join(expected)}", f"an array {name}")
        if parameters[name].shape != expected[name]:
            raise InputError(f"parameter {name}", f"shape {list(expected[name])}", list(parameters[name].shape))
        check_dtype(name, ops.dtype_name(parameters[name]), config)


def layer_of(parameters: Mapping[str, np.ndarray], config: EngramConfig, ops: ModuleType = numpy_ops) -> int:
    """The layer whose column offsets these parameters have; of several (one column), that of the table's size."""
    constants, offsets = addressing_of(config), ops.to_numpy(parameters["column_offsets"])
    fitting = [layer_id for layer_id, expected in constants.offsets.items() if np.array_equal(offsets, expected)]
    table = parameters.get("table", parameters.get("table_codes", ()))
    if fitting:
        return next((layer_id for layer_id in fitting if constants.table_rows[layer_id] == len(table)), fitting[0])
    layers = ", ".join(map(str, constants.offsets))
    raise InputError("parameter column_offsets", f"those of a layer of {config.name}: {layers}",
                     "offsets of no layer", "made for another configuration?")


def check_dtype(name: str, dtype: str, config: EngramConfig) -> None:
    """Refuse a parameter of another dtype, given by its name, than the configuration stores it in."""
    wanted = STANDARD_DTYPES[config.table_codec] if name.startswith("table") else "float"
    wanted = "int64" if name == "column_offsets" else wanted
    allowed = ("float32", "float64") if wanted == "float" else (wanted,)
    if dtype not in allowed:
        raise InputError(f"parameter {name}", f"dtype {' or '.join(allowed)}", dtype)


def initialise(config: EngramConfig, layer_id: int, rng: "np.random.Generator",
               dtype: type = np.float64) -> dict[str, np.ndarray]:
    """Random parameters of one layer's module.

    config     the table's codec must be "fp32": random FP8 codes would mean nothing
    layer_id   one of the configuration's layers
    rng        the only source of randomness
    dtype      float32 or float64
    returns    the dictionary above; rows N(0, 1) as in the demo, weights N(0, 1/fan-in), gains 1 (0 where
               zero-centred), biases and conv zero or, where conv_init says so, U(-1/sqrt(L), 1/sqrt(L))
    raises     InputError where the table would not fit into memory, with the size it would need
    """
    named = shapes(config, layer_id)
    check_fits(f"{config.name} layer {layer_id}", bytes_needed(config, layer_id, dtype))
    if config.table_codec != "fp32":
        raise InputError("config.table_codec", "fp32, for random parameters", config.table_codec)
    gain = 0.0 if config.gain_form == "zero_centred" else 1.0
    made: dict[str, np.ndarray] = {}
    for name, shape in named.items():
        if name == "column_offsets":
            made[name] = addressing_of(config).offsets[layer_id]
        elif name == "table":
            made[name] = rng.standard_normal(shape, dtype=dtype)
        elif name.endswith("gain"):
            made[name] = np.full(shape, gain, dtype=dtype)
        elif name == "conv_weight" and config.conv_init == "uniform":
            bound = config.conv_kernel**-0.5
            made[name] = rng.uniform(-bound, bound, shape).astype(dtype)
        elif name.endswith("bias") or name == "conv_weight":
            made[name] = np.zeros(shape, dtype=dtype)
        else:
            made[name] = rng.standard_normal(shape, dtype=dtype) * shape[-1] ** -0.5
    return made


def digest(array: np.ndarray) -> str:
    """sha256 of an array's dtype, shape and bytes."""
    head = f"{array.dtype.str} {list(array.shape)} ".encode()
    return hashlib.sha256(head + np.ascontiguousarray(array).tobytes()).hexdigest()
