"""Import an Engram module from the authors' demo: the same values under this package's names.

The demo names the table multi_head_embedding.embedding, the key gain norm1 and the query gain norm2.
"""

from collections.abc import Mapping

import numpy as np

from engram_ref.config import EngramConfig
from engram_ref.errors import InputError
from engram_ref.layout import layout
from engram_ref.model.engram_parameters import check_parameters, shapes
from engram_ref.model.state_dicts import bfloat16_array, one_dtype, take, without_prefix
from engram_ref.ops.arrays import as_array

DEMO_NAMES = {
    "table": "multi_head_embedding.embedding.weight",
    "key_weight": "key_projs.{m}.weight", "key_bias": "key_projs.{m}.bias",
    "value_weight": "value_proj.weight", "value_bias": "value_proj.bias",
    "query_gain": "norm2.{m}.weight", "key_gain": "norm1.{m}.weight",
    "conv_gain": "short_conv.norms.{m}.weight", "conv_weight": "short_conv.conv.weight",
}
"""Our name -> the demo's; {m} is the branch. The demo's conv weight is [M*D, 1, L], branch-major."""

DEMO_OFFSETS = "multi_head_embedding.offsets"       # a buffer that is present in some state dicts


def from_engram_demo(state_dict: Mapping[str, np.ndarray], config: EngramConfig,
                     layer_id: int | None = None) -> dict[str, np.ndarray]:
    """Convert the state dict of one module of the authors' demo.

    state_dict   arrays or tensors under the demo's names, with or without a common prefix; the buffer
                 multi_head_embedding.offsets is optional, and checked if present
    config       the demo's configuration
    layer_id     the layer; may be omitted if the configuration has only one
    returns      the dictionary of engram_ref.model.engram_parameters: float64 if any array is float64, else float32
    raises       InputError for a missing or extra array, or a wrong shape or dtype
    """
    if layer_id is None:
        if len(config.layer_ids) != 1:
            raise InputError("layer_id", f"one of {config.layer_ids}", None, "this configuration has several layers")
        [layer_id] = config.layer_ids
    named = shapes(config, layer_id)
    remaining = without_prefix(state_dict, DEMO_NAMES["table"])
    parameters = {"column_offsets": layout(config, layer_id).offsets}
    if (offsets := remaining.pop(DEMO_OFFSETS, None)) is not None:
        name = f"state_dict {DEMO_OFFSETS}"
        if not np.array_equal(as_array(name, offsets), parameters["column_offsets"]):
            raise InputError(name, "this layer's column offsets", "different offsets",
                             "are they from a different layer or configuration?")
    for name, pattern in DEMO_NAMES.items():
        if name in named:
            theirs = [pattern.format(m=m) for m in range(config.n_branches if "{m}" in pattern else 1)]
            arrays = [take(remaining, key, demo_shape(name, named[name]), name) for key in theirs]
            parameters[name] = np.stack(arrays).reshape(named[name])
    if remaining:
        raise InputError("state_dict", "only the arrays of the demo", f"an additional array named {min(remaining)}")
    parameters = one_dtype(parameters)
    if config.table_codec == "bf16":
        parameters["table"] = bfloat16_array(f"state_dict {DEMO_NAMES['table']}", parameters["table"])
    check_parameters(parameters, config, layer_id)
    return parameters


def demo_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of the demo's array (per branch, if it has one per branch) for one of our parameters."""
    if name == "conv_weight":
        return (shape[0] * shape[1], 1, shape[2])
    return shape[1:] if "{m}" in DEMO_NAMES[name] else shape
