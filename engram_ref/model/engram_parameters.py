"""Parameters of an Engram module: a dictionary of named arrays.

    table                  [R, W]        the rows; an FP8 table has instead:
    table_codes            [R, W]        uint8, E4M3FN
    table_scales           [R, W/32]     uint8, E8M0
    column_offsets         [C]           int64, index of the first row of each column's table
    key_weight, key_bias   [M, D, C*W], [M, D]     one projection per branch
    value_weight, _bias    [D, C*W], [D]           shared by the branches
    query_gain, key_gain   [M, D]
    conv_gain              [M, D]
    conv_weight            [M, D, L]     oldest tap first
"""

import hashlib
import math
from collections.abc import Mapping, Sequence

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike

from engram_ref.checks import check_kind, check_kinds, float_name
from engram_ref.config import EngramConfig
from engram_ref.errors import InputError
from engram_ref.layout import layout
from engram_ref.memory import check_fits
from engram_ref.model.declarations import Parameter, engram_module, shapes_of
from engram_ref.ops.codecs import BLOCK, quantise
from engram_ref.ops.namespace import NUMPY, Ops

ROWS_PER_BLOCK = 65_536      # drawn and encoded at a time


def shapes(config: EngramConfig, layer_id: int) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every parameter of one layer's module, in the order above.

    >>> from engram_ref.presets import preset
    >>> shapes(preset("deepseek-v4.1-flash"), 1)["table_codes"]
    (384006168, 256)
    """
    return shapes_of(engram_module(config, layer_id))


def table_bytes(config: EngramConfig, layer_id: int) -> int:
    """Stored size of one layer's table, in bytes."""
    return layout(config, layer_id).table_rows * config.bytes_per_row


def bytes_needed(config: EngramConfig, layer_id: int, dtype: DTypeLike) -> int:
    """Memory of one layer's module with weights of this dtype, in bytes."""
    sizes = {"float": np.dtype(dtype).itemsize, "bfloat16": 2, "uint8": 1, "int64": 8}
    return sum(math.prod(p.shape) * sizes[p.dtype] for p in engram_module(config, layer_id))


def as_parameters(parameters: Mapping[str, np.ndarray], ops: Ops = NUMPY,
                  others: Mapping[str, np.ndarray | None] | None = None) -> dict[str, np.ndarray]:
    """Convert parameters to arrays of the backend without changing any value.

    others   further arrays of the call, which must be on the same device
    raises   InputError naming the first parameter that cannot be converted
    """
    check_kind("parameters", parameters, Mapping)
    given = {f"parameter {name}": array for name, array in parameters.items()}
    ops.check_together({**(others or {}), **given})
    return {str(name): ops.as_array(*pair) for name, pair in zip(parameters, given.items(), strict=True)}


def check_parameters(parameters: Mapping[str, np.ndarray], config: EngramConfig, layer_id: int | None = None,
                     ops: Ops = NUMPY) -> None:
    """Raise InputError unless names, shapes, dtypes and column offsets match the layer; None: any layer."""
    layers = config.layer_ids if layer_id is None else (layer_id,)
    declared = {p.name: p for p in engram_module(config, layers[0])}
    allowed = [shapes(config, layer) for layer in layers]
    check_names(parameters, declared, ", ".join(declared))
    for name, p in declared.items():
        array, expected = parameters[name], dict.fromkeys(named[name] for named in allowed)
        if tuple(array.shape) not in expected:
            raise InputError(f"parameter {name}", f"shape {' or '.join(str(list(shape)) for shape in expected)}",
                             f"shape {list(array.shape)}")
        check_dtype(name, p, ops.dtype_name(array))
    check_offsets("column_offsets", ops.to_numpy(parameters["column_offsets"]), config, layers)


def check_names(parameters: Mapping[str, np.ndarray], declared: Mapping[str, Parameter], listed: str) -> None:
    """Raise unless the names are exactly the declared ones, which `listed` describes in the message."""
    for name, p in declared.items():
        if name not in parameters:
            raise InputError("parameters", f"an array named {name} of shape {list(p.shape)}", "none")
    for name in parameters:
        if name not in declared:
            raise InputError("parameters", f"only {listed}", f"an additional array named {name}")


def check_finite(name: str, array: np.ndarray, ops: Ops) -> None:
    """Raise unless every value of a parameter is finite."""
    if ops.first_non_finite(array) is not None:
        raise InputError(f"parameter {name}", "finite values", "NaN or infinity")


def check_offsets(name: str, offsets: np.ndarray, config: EngramConfig, layers: Sequence[int]) -> None:
    """Raise unless the column offsets equal those of one of these layers."""
    if not any(np.array_equal(offsets, layout(config, layer).offsets) for layer in layers):
        listed = ", ".join(map(str, layers))
        raise InputError(f"parameter {name}", f"the column offsets of layer {listed} of {config.name}",
                         "different offsets", "are they from a different layer or configuration?")


def column_sizes(parameters: Mapping[str, np.ndarray], config: EngramConfig, layer_id: int | None,
                 ops: Ops = NUMPY) -> np.ndarray:
    """Number of rows of each column's table, int64 [C].

    layer_id   the layer; None: the configuration's only one. If it has several, the sizes follow from the offsets and
               the stored table, and the last column includes the padding rows
    """
    layers = config.layer_ids if layer_id is None else (layer_id,)
    if len(layers) == 1:
        return layout(config, layers[0]).primes
    table = parameters["table_codes" if config.table_codec == "fp8_e8m0" else "table"]
    return np.diff(ops.to_numpy(parameters["column_offsets"]), append=table.shape[0])


def check_rows(rows: np.ndarray, sizes: np.ndarray, flat: bool, ops: Ops) -> None:
    """Raise unless every row [B, T, C], without offsets, is below its column's size [C].

    flat   whether the caller passed flat rows, for the message
    """
    try:
        ops.check_rows(rows, sizes)
    except InputError as error:
        if not flat:
            raise
        expected = f"{error.expected} after subtraction of the column offsets"
        raise InputError("rows", expected, error.found, "pass flat_rows=False for rows without offsets") from error


def without_offsets(rows: np.ndarray, parameters: Mapping[str, np.ndarray]) -> np.ndarray:
    """Convert flat row indices to row indices within each column: int64 [B, T, C] -> the same shape."""
    return rows - parameters["column_offsets"]


def check_dtype(name: str, declared: Parameter, dtype: str) -> None:
    """Raise unless `dtype`, a name, is one of the declared dtypes."""
    if dtype not in declared.dtypes:
        raise InputError(f"parameter {name}", f"dtype {' or '.join(declared.dtypes)}", dtype)


def initialise(config: EngramConfig, layer_id: int, rng: "np.random.Generator",
               dtype: DTypeLike | None = None) -> dict[str, np.ndarray]:
    """Random parameters of one layer's module.

    layer_id   one of the configuration's layers
    rng        the only source of randomness
    dtype      dtype of the weights, float32 or float64; None: see weight_dtype
    returns    name -> array: table rows N(0, 1) as in the demo, encoded; weights N(0, 1/fan-in), gains 1
               (0 if zero-centred), biases 0, conv weights 0 or, if conv_init is "uniform", U(-1/sqrt(L), 1/sqrt(L))
    raises     InputError with the required size if the parameters do not fit in memory
    """
    check_kinds(config=(config, EngramConfig), rng=(rng, np.random.Generator))
    dtype = weight_dtype(config, dtype)
    check_fits(f"{config.name} layer {layer_id}", bytes_needed(config, layer_id, dtype))
    tables = layout(config, layer_id)
    arrays = random_table(config, tables.table_rows, rng, dtype) | {"column_offsets": tables.offsets}
    declared = (p for p in engram_module(config, layer_id) if p.name not in arrays)
    return arrays | {p.name: initial_array(p, rng, dtype) for p in declared}


def initial_array(parameter: Parameter, rng: "np.random.Generator", dtype: type) -> np.ndarray:
    """Initial values of a parameter that is neither a table nor column offsets."""
    shape, scale = parameter.shape, parameter.scale
    if parameter.start == "full":
        return np.full(shape, scale, dtype=dtype)
    if parameter.start == "uniform":
        return rng.uniform(-scale, scale, shape).astype(dtype)
    return rng.standard_normal(shape, dtype=dtype) * dtype(shape[-1] ** -0.5 if scale is None else scale)


def weight_dtype(config: EngramConfig | None, dtype: object = None) -> type:
    """The NumPy type of random weights: `dtype`; for None float32 if the dialect rounds to bfloat16, else float64."""
    if dtype is None:
        return np.float32 if config is not None and config.rounding == "fp8_bf16" else np.float64
    return np.dtype(float_name("dtype", dtype)).type


def random_table(config: EngramConfig, rows: int, rng: "np.random.Generator", dtype: type) -> dict[str, np.ndarray]:
    """A table of N(0, 1) values in the codec's format, filled in blocks to keep temporary arrays small."""
    W, codec = config.row_width, config.table_codec
    if codec == "fp8_e8m0":
        table = {"table_codes": np.empty((rows, W), np.uint8), "table_scales": np.empty((rows, W // BLOCK), np.uint8)}
    else:
        table = {"table": np.empty((rows, W), ml_dtypes.bfloat16 if codec == "bf16" else dtype)}
    for first in range(0, rows, ROWS_PER_BLOCK):
        part = slice(first, min(first + ROWS_PER_BLOCK, rows))
        values = rng.standard_normal((part.stop - first, W), dtype=dtype if codec == "fp32" else np.float32)
        stored = quantise(values) if codec == "fp8_e8m0" else (values,)
        for array, new in zip(table.values(), stored, strict=True):
            array[part] = new
    return table


def digest(array: np.ndarray) -> str:
    """Hex sha256 of an array's dtype, shape and bytes."""
    head = f"{array.dtype.str} {list(array.shape)} ".encode()
    return hashlib.sha256(head + np.ascontiguousarray(array).tobytes()).hexdigest()
