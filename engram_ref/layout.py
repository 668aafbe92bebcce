"""Layout: how many rows the tables of each layer have, and where each column starts in the flat table.

It follows from the configuration alone and needs no vocabulary, so parameters can be shaped, checked and
made for any tokenizer.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from engram_ref.config import EngramConfig, check_layer
from engram_ref.ops.primes import column_offsets, table_primes
from engram_ref.readonly import ReadOnlyArrays, read_only


@dataclass(frozen=True)
class Layout(ReadOnlyArrays):
    """The tables of one layer.

    primes       int64 [C] read-only, rows of each column's table
    offsets      int64 [C] read-only, where each column starts in the flat table
    table_rows   rows of the flat table as stored, padding included
    """

    primes: np.ndarray
    offsets: np.ndarray
    table_rows: int


def module_order(config: EngramConfig) -> tuple[int, ...]:
    """The layer ids in the order in which modules are numbered and primes are handed out.

    That is the order of the configuration. Qwen4Exp, which seeds by this number, sorts its layers first.
    """
    return tuple(sorted(config.layer_ids)) if config.seed_index == "ordinal" else config.layer_ids


@functools.cache
def layouts(config: EngramConfig) -> Mapping[int, Layout]:
    """{layer id: Layout}, in the order of the configuration; computed once per configuration.

    >>> from engram_ref.presets import preset
    >>> {layer: layout.table_rows for layer, layout in layouts(preset("deepseek-v4.1-flash")).items()}
    {1: 384006168, 14: 384016682}
    """
    multiple = config.row_multiple
    primes = table_primes(config.table_sizes, config.n_heads, len(config.layer_ids))
    made = {layer_id: Layout(p, read_only(column_offsets(p)), -(-int(p.sum()) // multiple) * multiple)
            for layer_id, p in zip(module_order(config), primes, strict=True)}
    return MappingProxyType({layer_id: made[layer_id] for layer_id in config.layer_ids})


def layout(config: EngramConfig, layer_id: int) -> Layout:
    """The layout of one layer. Raises InputError for a layer without an Engram module."""
    check_layer(config, layer_id)
    return layouts(config)[layer_id]
