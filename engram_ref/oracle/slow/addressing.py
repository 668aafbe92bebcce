"""The slow constants and rows of an EngramConfig, as plain lists.

This module reads the fields of the configuration and calls nothing else in the package. The caller passes the
canonical pad id, which depends on the canonical map.
"""

import hashlib

import numpy as np

from engram_ref.oracle.slow import hashing, primes

DEAD = hashing.DEAD


def digest(numbers):
    """Return the sha256 of the numbers as little-endian int64, as published with the releases."""
    return hashlib.sha256(np.asarray(numbers).astype("<i8").tobytes()).hexdigest()


def numbered_layers(config):
    """Return the layer ids in the order in which modules are counted: ascending if the ordinal seeds the generator."""
    return sorted(config.layer_ids) if config.seed_index == "ordinal" else list(config.layer_ids)


def table_primes(config):
    """Return {layer id: [C]}, layers in the order of the configuration."""
    per_layer = primes.table_primes(config.table_sizes, config.n_heads, len(config.layer_ids))
    per_layer = dict(zip(numbered_layers(config), per_layer, strict=True))
    return {layer: per_layer[layer] for layer in config.layer_ids}


def drawn_multipliers(config):
    """Return {layer id: [N]} from the generator, even if the configuration has literals."""
    draw = {"pcg64": hashing.pcg_multipliers, "splitmix64": hashing.splitmix_multipliers}
    draw = draw[config.multiplier_generator]
    index = {layer: i if config.seed_index == "ordinal" else layer for i, layer in enumerate(numbered_layers(config))}
    return {layer: draw(config.seed, i, config.max_ngram, config.canonical_size) for layer, i in index.items()}


def multipliers(config):
    """Return {layer id: [N]}: the literals of the configuration if it has any, else the generator's."""
    if config.multipliers is None:
        return drawn_multipliers(config)
    return dict(zip(config.layer_ids, map(list, config.multipliers), strict=True))


def rows(config, layer_id, ids, pad_id, history=(), eos_id=None, flat=False):
    """Return the rows [T][C] of one sequence."""
    columns = table_primes(config)[layer_id]
    orders = primes.by_order(columns, config.n_heads)
    plain = hashing.rows(ids, history, multipliers(config)[layer_id], orders, pad_id, eos_id)
    starts = primes.offsets(columns) if flat else [0] * len(columns)
    return [[row + start for row, start in zip(line, starts, strict=True)] for line in plain]
