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

The demo calls the table multi_head_embedding.embedding, the key's gain norm1 and the query's norm2.
"""

from collections.abc import Mapping

import numpy as np

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


def check_parameters(parameters: Mapping[str, np.ndarray], config: EngramConfig) -> None:
    """Refuse parameters that do not fit the configuration, naming the first that does not.

    The layer is found by its column offsets. Raises InputError for a missing, extra, misshapen or
    wrongly typed array.
    """
    if "column_offsets" not in parameters:
        raise InputError("parameters", "an array column_offsets", f"only {', '.join(sorted(parameters))}")
    layer_id = layer_of(parameters, config)
    expected = shapes(config, layer_id)
    for name in [*expected, *parameters]:
        if name not in parameters:
            raise InputError("parameters", f"an array {name} {list(expected[name])}", "none of that name")
        if name not in expected:
            raise InputError("parameters", f"only {', '.join(expected)}", f"an array {name}")
        if parameters[name].shape != expected[name]:
            raise InputError(f"parameter {name}", f"shape {list(expected[name])}", list(parameters[name].shape))
        _check_dtype(name, parameters[name].dtype, config)


def layer_of(parameters: Mapping[str, np.ndarray], config: EngramConfig) -> int:
    """The layer whose column offsets these parameters have; of several (one column), that of the table's size."""
    constants = addressing_of(config)
    fitting = [layer_id for layer_id, expected in constants.offsets.items()
               if np.array_equal(parameters["column_offsets"], expected)]
    table = parameters.get("table", parameters.get("table_codes", ()))
    if fitting:
        return next((layer_id for layer_id in fitting if constants.table_rows[layer_id] == len(table)), fitting[0])
    layers = ", ".join(map(str, constants.offsets))
    raise InputError("parameter column_offsets", f"those of a layer of {config.name}: {layers}",
                     "offsets of no layer", "made for another configuration?")


def _check_dtype(name: str, dtype: np.dtype, config: EngramConfig) -> None:
    wanted = STANDARD_DTYPES[config.table_codec] if name.startswith("table") else "float"
    wanted = "int64" if name == "column_offsets" else wanted
    allowed = ("float32", "float64") if wanted == "float" else (wanted,)
    if dtype.name not in allowed:
        raise InputError(f"parameter {name}", f"dtype {' or '.join(allowed)}", str(dtype))


def initialise(config: EngramConfig, layer_id: int, rng: np.random.Generator,
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


DEMO_NAMES = {
    "table": "multi_head_embedding.embedding.weight",
    "key_weight": "key_projs.{m}.weight",
    "key_bias": "key_projs.{m}.bias",
    "value_weight": "value_proj.weight",
    "value_bias": "value_proj.bias",
    "query_gain": "norm2.{m}.weight",
    "key_gain": "norm1.{m}.weight",
    "conv_gain": "short_conv.norms.{m}.weight",
    "conv_weight": "short_conv.conv.weight",
}
"""Our name -> the demo's; {m} counts branches. The demo's conv weight is [M*D, 1, L], branch-major."""


DEMO_OFFSETS = "multi_head_embedding.offsets"
"""A buffer of the demo that some state dicts carry."""


def from_engram_demo(state_dict: Mapping[str, np.ndarray], config: EngramConfig,
                     layer_id: int | None = None) -> dict[str, np.ndarray]:
    """The state dict of one module of the authors' demo, under our names.

    state_dict   arrays by the demo's names; a buffer multi_head_embedding.offsets is checked, not needed
    config       the demo's configuration
    layer_id     which layer; may be left out where the configuration has one only
    returns      the dictionary above
    raises       InputError for a missing, extra or misshapen array
    """
    layer_id = _only_layer(config) if layer_id is None else layer_id
    named = shapes(config, layer_id)
    made = {"column_offsets": addressing_of(config).offsets[layer_id]}
    taken: set[str] = set()
    for name, pattern in DEMO_NAMES.items():
        if name not in named:
            continue
        theirs = [pattern.format(m=m) for m in range(config.n_branches if "{m}" in pattern else 1)]
        for key in theirs:
            if key not in state_dict:
                raise InputError("state_dict", f"an array {key}", "none of that name")
        taken.update(theirs)
        arrays = [np.asarray(state_dict[key]) for key in theirs]
        for key, array in zip(theirs, arrays, strict=True):
            if array.shape != demo_shape(name, named[name]):
                raise InputError(f"state_dict {key} ({name})", f"shape {list(demo_shape(name, named[name]))}",
                                 list(array.shape))
        made[name] = np.stack(arrays).reshape(named[name])
    check_nothing_left(state_dict, taken, made["column_offsets"])
    check_parameters(made, config)
    return made


def demo_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the demo's array, or of one branch's, for one of our parameters."""
    if name == "conv_weight":
        return (shape[0] * shape[1], 1, shape[2])
    return shape[1:] if "{m}" in DEMO_NAMES[name] else shape


def check_nothing_left(state_dict: Mapping[str, np.ndarray], taken: set[str], offsets: np.ndarray) -> None:
    """Refuse arrays of other names, and offsets that are not this layer's."""
    extra = sorted(set(state_dict) - taken - {DEMO_OFFSETS})
    if extra:
        raise InputError("state_dict", "only the demo's names", f"an array {extra[0]}")
    if DEMO_OFFSETS in state_dict and not np.array_equal(state_dict[DEMO_OFFSETS], offsets):
        raise InputError(f"state_dict {DEMO_OFFSETS}", "this layer's column offsets", "others",
                         "another layer, or another configuration?")


def _only_layer(config: EngramConfig) -> int:
    if len(config.layer_ids) != 1:
        raise InputError("layer_id", f"one of {config.layer_ids}", "none", "this configuration has several layers")
    return config.layer_ids[0]
