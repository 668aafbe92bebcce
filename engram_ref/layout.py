"""Layout: the number of rows in each layer's tables, and where each column starts in the flat table.

The layout follows from the configuration alone. It needs no vocabulary, so parameters can be created and checked for
any tokenizer.
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
    """The tables of one layer."""

    primes: np.ndarray      # int64 [C] read-only, rows of each column's table
    offsets: np.ndarray     # int64 [C] read-only, first flat row of each column
    table_rows: int         # of the stored flat table, padding included


def module_order(config: EngramConfig) -> tuple[int, ...]:
    """Return the layer ids in the order in which modules are numbered and primes assigned.

    This is the order of the configuration, except for Qwen4Exp, which seeds by this number and sorts its layers.
    """
    return tuple(sorted(config.layer_ids)) if config.seed_index == "ordinal" else config.layer_ids


@functools.cache
def layouts(config: EngramConfig) -> Mapping[int, Layout]:
    """Return {layer id: Layout} in the order of the configuration; computed once per configuration.

    >>> from engram_ref.presets import preset
    >>> {layer: layout.table_rows for layer, layout in layouts(preset("deepseek-v4.1-flash")).items()}
    {1: 384006168, 14: 384016682}
    """
    multiple = config.row_multiple
    primes = table_primes(config.table_sizes, config.n_heads, len(config.layer_ids))
    by_layer = {layer_id: Layout(p, read_only(column_offsets(p)), -(-int(p.sum()) // multiple) * multiple)
                for layer_id, p in zip(module_order(config), primes, strict=True)}
    return MappingProxyType({layer_id: by_layer[layer_id] for layer_id in config.layer_ids})


def layout(config: EngramConfig, layer_id: int) -> Layout:
    """Return the layout of one layer; raise InputError if it has no Engram module."""
    check_layer(config, layer_id)
    return layouts(config)[layer_id]
