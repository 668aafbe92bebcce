"""Read a module of the authors' demo: the same numbers under our names.

The demo calls the table multi_head_embedding.embedding, the key's gain norm1 and the query's norm2.
"""

from collections.abc import Mapping

import numpy as np

from engram_ref.config import EngramConfig
from engram_ref.errors import InputError
from engram_ref.layout import layout
from engram_ref.model.engram_parameters import check_parameters, shapes

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
    made = {"column_offsets": layout(config, layer_id).offsets}
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
    check_parameters(made, config, layer_id)
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
