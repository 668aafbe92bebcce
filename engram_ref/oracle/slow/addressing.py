"""What the slow oracle says to a configuration of the package: the fields go in, plain lists come out.

Nothing here calls the package. A canonical pad id has to be handed in, since only a map knows it.
"""

import hashlib

import numpy as np

from engram_ref.oracle.slow import hashing, primes

DEAD = hashing.DEAD


def digest(numbers):
    """sha256 over raw little-endian int64, as the releases publish it."""
    return hashlib.sha256(np.asarray(numbers).astype("<i8").tobytes()).hexdigest()


def numbered_layers(config):
    """Layer ids in the order in which modules are counted: ascending if their number seeds the generator."""
    return sorted(config.layer_ids) if config.seed_index == "ordinal" else list(config.layer_ids)


def table_primes(config):
    """{layer id: [C]}, layers as the configuration lists them."""
    found = primes.table_primes(config.table_sizes, config.n_heads, len(config.layer_ids))
    found = dict(zip(numbered_layers(config), found, strict=True))
    return {layer: found[layer] for layer in config.layer_ids}


def drawn_multipliers(config):
    """{layer id: [N]} from the generator, whether or not the configuration carries literals."""
    draw = {"pcg64": hashing.pcg_multipliers, "splitmix64": hashing.splitmix_multipliers}
    draw = draw[config.multiplier_generator]
    index = {layer: i if config.seed_index == "ordinal" else layer for i, layer in enumerate(numbered_layers(config))}
    return {layer: draw(config.seed, i, config.max_ngram, config.canonical_size) for layer, i in index.items()}


def multipliers(config):
    """{layer id: [N]}, literals where the configuration carries them."""
    if config.multipliers is None:
        return drawn_multipliers(config)
    return dict(zip(config.layer_ids, map(list, config.multipliers), strict=True))


def rows(config, layer_id, ids, pad_id, history=(), eos_id=None, flat=False):
    """Rows [T][C] of one sequence."""
    columns = table_primes(config)[layer_id]
    orders = primes.by_order(columns, config.n_heads)
    found = hashing.rows(ids, history, multipliers(config)[layer_id], orders, pad_id, eos_id)
    starts = primes.offsets(columns) if flat else [0] * len(columns)
    return [[row + start for row, start in zip(line, starts, strict=True)] for line in found]
