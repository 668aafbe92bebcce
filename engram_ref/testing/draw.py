"""Random configurations, parameters and texts: every field of a dialect is drawn, and short texts are common."""

from dataclasses import fields, replace
from math import gcd
from typing import Any

import numpy as np

from engram_ref.addressing import addressing_of
from engram_ref.checks import check_kind
from engram_ref.config import CHOICES, EngramConfig
from engram_ref.errors import check_name
from engram_ref.model.engram_parameters import initialise
from engram_ref.ops.canonical import DEAD
from engram_ref.presets import preset

HIDDEN_SIZES = (1, 2, 3, 7, 16, 17, 33, 60, 64)
ROW_WIDTHS = (1, 2, 3, 5, 7, 13, 33)


def picker(rng):
    """Return a function that picks one of its arguments at random."""
    return lambda *values: values[rng.integers(len(values))]


def random_config(rng: np.random.Generator, **fixed: Any) -> EngramConfig:
    """Return a configuration of raw ids; all variable fields are drawn independently, except those in `fixed`."""
    check_kind("rng", rng, np.random.Generator)
    for name in fixed:
        check_name("fixed", name, [field.name for field in fields(EngramConfig)])
    pick = picker(rng)
    choices = {field: pick(*names) for field, names in CHOICES.items()}
    choices |= {field: value for field, value in fixed.items() if field in CHOICES}
    drawn_sizes = {"max_ngram": pick(2, 3, 4, 5), "n_heads": pick(1, 2, 3), "vocab_size": pick(7, 300, 129_280),
                   "layer_base": pick(0, 1)}
    N, heads, size, base = (drawn_sizes | {name: fixed[name] for name in drawn_sizes if name in fixed}).values()
    layers = fixed.get("layer_ids", tuple(int(i) + base for i in rng.choice(40, pick(1, 2, 3), replace=False)))
    pad = int(rng.integers(size))
    drawn = replace(
        preset("tiny"), name="mixed", **choices, layer_ids=layers, layer_base=base, hidden_size=pick(*HIDDEN_SIZES),
        n_branches=pick(1, 2, 3, 4), vocabulary=None, vocab_size=size, canonical_size=size, pad_id=pad,
        dead_barrier=pick(True, False), eos_id=pick(None, pad, int(rng.integers(size))), max_ngram=N, n_heads=heads,
        table_sizes=tuple(rng.integers(1, 40, N - 1).tolist()), seed=int(rng.integers(2**40)),
        multipliers=random_multipliers(rng, len(layers), N), row_width=random_width(rng, choices, (N - 1) * heads),
        row_multiple=pick(1, 1, 7, 128), projection_bias=pick(True, False), norm_eps=pick(None, 1e-20, 1e-6, 1e-5),
        conv_kernel=pick(0, 1, 2, 3, 4), conv_dilation=pick(1, 2, 3), conv_norm_eps=pick(1e-20, 1e-6, 1e-5),
        quantise_floor=pick(0.0, 1e-4, 0.5))
    return replace(drawn, **fixed)


def random_multipliers(rng, layers, N):
    """Return None, for generated multipliers, or arbitrary int64: some are negative, some have products that wrap."""
    drawn = rng.integers(-(2**63), 2**63 - 1, (layers, N), endpoint=True)
    return None if rng.random() < 0.6 else tuple(map(tuple, drawn.tolist()))


def random_width(rng, choices, columns):
    """Return a row width that is valid for codec and rounding."""
    if choices["table_codec"] == "fp8_e8m0":
        return 32 * int(rng.integers(1, 3))
    if choices["rounding"] == "fp8_bf16":
        return 32 // gcd(columns, 32) * int(rng.integers(1, 4))
    return picker(rng)(*ROW_WIDTHS)


def random_shape(rng, N):
    """Return batch size and number of tokens: none, one, the length of the history, or more."""
    return picker(rng)(0, 1, 1, 3, 3), picker(rng)(0, 1, 1, N - 1, int(rng.integers(1, 20)), 63)


def random_ids(rng, config, size, shape):
    """Return raw or canonical ids below `size`, some of them the first or the last; DEAD and EOS are frequent if the
    dialect has them."""
    ids = np.where(rng.random(shape) < 0.1, rng.integers(0, 2, shape) * (size - 1), rng.integers(0, size, shape))
    if config.eos_id is not None:
        ids = np.where(rng.random(shape) < 0.15, config.eos_id % size, ids)
    return np.where(rng.random(shape) < 0.15, DEAD, ids) if config.dead_barrier else ids


def random_text(rng, config, shape):
    """Return canonical ids, DEAD and EOS among them if the dialect has them."""
    return random_ids(rng, replace(config, eos_id=addressing_of(config).eos_id), config.canonical_size, shape)


def random_history(rng, config, batch):
    """Return the last N-1 canonical ids of streams of any length; short streams are padded with DEAD on the left."""
    span = config.max_ngram - 1
    ids = random_ids(rng, config, config.canonical_size, (batch, span))
    return np.where(np.arange(span) < rng.integers(0, span + 1, (batch, 1)), DEAD, ids)


def random_parameters(config, rng, layer_id, dtype):
    """Return parameters in which no gain, bias or tap is constant, so that none can be left out or mixed up unnoticed;
    some scales of an FP8 table are 2^-127, whose byte is 0."""
    parameters = initialise(config, layer_id, rng, dtype)
    for name, array in parameters.items():
        if name.endswith(("gain", "bias")) or name == "conv_weight":
            parameters[name] = array + 0.3 * rng.standard_normal(array.shape, dtype=array.dtype)
        elif name == "table_scales":
            array[rng.random(array.shape) < 0.1] = 0
    return parameters
