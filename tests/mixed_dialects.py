"""Cases of random configurations, with random streams, parameters and memory layouts; engram_ref/testing/draw.py draws.

(SEED, number) determines a case. The environment variables ENGRAM_REF_MIXED_SEED and ENGRAM_REF_MIXED_CASES change the
seed and the number of cases.
"""

import os
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

import ml_dtypes
import numpy as np

from engram_ref import Addressing, Vocabulary, ops
from engram_ref.config import EngramConfig
from engram_ref.layout import layout
from engram_ref.model.engram_parameters import shapes
from engram_ref.oracle.slow import addressing as slow_addressing
from engram_ref.oracle.slow import primes as slow_primes
from engram_ref.testing.draw import (
    picker,
    random_config,
    random_history,
    random_ids,
    random_shape,
)
from tests import enclosures

SEED = int(os.environ.get("ENGRAM_REF_MIXED_SEED", "20260112"))
COMPILED = os.environ.get("NUMBA_DISABLE_JIT", "0") == "0"
CASES = int(os.environ.get("ENGRAM_REF_MIXED_CASES", "300" if COMPILED else "60"))     # plain Python kernels are slow


@contextmanager
def reproducible(number):
    """Add the seed and the case number to the message of any exception in the block."""
    try:
        yield
    except Exception as error:
        raise AssertionError(f"seed {SEED}, case {number}: {type(error).__name__}: {error}") from error


def one_layer(config):
    """Return the configuration with its first layer only."""
    given = None if config.multipliers is None else config.multipliers[:1]
    return replace(config, layer_ids=config.layer_ids[:1], multipliers=given)


def random_addressing(rng):
    """Return (configuration, vocabulary or None); some have a canonical map, many heads or larger tables."""
    pick, config = picker(rng), random_config(rng)
    if rng.random() < 0.3:
        config = replace(config, n_heads=pick(8, 16), table_codec="fp32", rounding="none",
                         table_sizes=tuple(rng.integers(3500, 6000, config.max_ngram - 1).tolist()))
    elif rng.random() < 0.1:
        config = replace(one_layer(config), n_heads=1, table_codec="fp32", rounding="none",
                         table_sizes=(pick(2**31 - 9, 2**31, 2**33), *config.table_sizes[1:]))
    if rng.random() < 0.5:
        return config, None
    canonical = np.unique(rng.integers(0, 50, min(config.vocab_size, 300)), return_inverse=True)[1]
    size, classes = len(canonical), int(canonical.max()) + 1
    config = replace(config, vocabulary="mixed", vocab_size=size, canonical_size=classes, pad_id=config.pad_id % size,
                     eos_id=None if config.eos_id is None else config.eos_id % size)
    return config, Vocabulary("mixed", canonical)


def random_cuts(rng, length):
    """Return slices that cover range(length), some of them empty."""
    ends = [0, *sorted(rng.integers(0, length + 1, rng.integers(1, 4)).tolist()), length]
    return [slice(begin, end) for begin, end in pairwise(ends)]


def layouts(rng):
    """Return a function that changes the strides of some arrays: of all, few or none, depending on the case."""
    share = picker(rng)(0.0, 0.2, 1.0)
    return lambda array: relaid(rng.integers(1, 6), array) if rng.random() < share else array


def relaid(layout, array):
    """Return an equal array in Fortran order, reversed, as a view of a larger array, or with two axes exchanged."""
    if layout == 1:
        return np.asfortranarray(array)
    if layout == 2:
        backwards = (slice(None, None, -1),) * array.ndim
        return np.ascontiguousarray(array[backwards])[backwards]
    if layout == 3:
        wider = np.zeros((*array.shape[:-1], 2 * array.shape[-1] + 3), array.dtype)
        wider[..., 1:-2:2] = array
        return wider[..., 1:-2:2]
    if layout == 4:
        longer = np.zeros((array.shape[0] + 3, *array.shape[1:]), array.dtype)
        longer[2:-1] = array
        return longer[2:-1]
    if layout == 5 and array.ndim > 1:
        return np.ascontiguousarray(array.swapaxes(0, 1)).swapaxes(0, 1)
    return array


@dataclass(frozen=True)
class Rows:
    """Streams of one configuration, with rows and flat rows of the slow version: int64 [Y, B, T, C]."""

    config: EngramConfig
    vocabulary: Vocabulary | None
    raw: np.ndarray
    ids: np.ndarray
    history: np.ndarray
    cuts: list
    expected: np.ndarray
    flat: np.ndarray


@lru_cache(maxsize=2)
def rows_case(number):
    rng = np.random.default_rng([SEED, number])
    config, vocabulary = random_addressing(rng)
    B, T = random_shape(rng, config.max_ngram)
    raw, history = random_ids(rng, config, config.vocab_size, (B, T)), random_history(rng, config, B)
    ids = raw if vocabulary is None else ops.canonicalise(raw, vocabulary.canonical)
    addressing = Addressing(config, vocabulary)
    expected = np.array([[slow_addressing.rows(config, layer, x, addressing.pad_id, h, addressing.eos_id)
                          for x, h in zip(ids.tolist(), history.tolist(), strict=True)]
                         for layer in config.layer_ids], dtype=np.int64)
    expected = expected.reshape(len(config.layer_ids), B, T, config.columns)         # for cases without tokens
    offsets = np.array([slow_primes.offsets(columns) for columns in slow_addressing.table_primes(config).values()])
    raw, ids, history = map(layouts(rng), (raw, ids, history))
    return Rows(config, vocabulary, raw, ids, history, random_cuts(rng, T), expected,
                expected + offsets[:, None, None])


@dataclass(frozen=True)
class Module:
    """One module with its inputs; `stages` has a Ball for each stage, `memory` is the exact memory."""

    config: EngramConfig
    arrays: dict
    cuts: list
    memory: np.ndarray
    stages: dict

    @property
    def parameters(self):
        return {name: array for name, array in self.arrays.items() if name not in ("hidden", "rows", "taps", "dead")}


@lru_cache(maxsize=2)
def module_case(number, **fixed):
    rng = np.random.default_rng([SEED, number, 1])
    config = one_layer(random_config(rng, **fixed))
    dtype = np.float32 if config.rounding == "fp8_bf16" else picker(rng)(np.float32, np.float64)
    B, T = random_shape(rng, config.max_ngram)
    ids, history = random_ids(rng, config, config.vocab_size, (B, T)), random_history(rng, config, B)
    rows = Addressing(config).rows(ids, config.layer_ids[0], history)
    size = 10.0 ** rng.uniform(-10, 2, (config.n_branches, 1)) * (rng.random((B, T, 1, 1)) < 0.9)
    hidden = rng.standard_normal((B, T, config.n_branches, config.hidden_size)) * size
    taps = rng.standard_normal((B, config.conv_span, config.n_branches, config.hidden_size))
    dead = rng.random((B, T)) < 0.2 if rng.random() < 0.7 else None
    parameters = random_parameters(rng, config, dtype)
    hidden, taps = hidden.astype(dtype), taps.astype(dtype)
    memory = ops.gather_decode(parameters, rows, config, dtype)
    stages = enclosures.module(parameters, memory, hidden, taps, dead, config)
    arrays = parameters | {"hidden": hidden, "rows": rows, "taps": taps} | ({} if dead is None else {"dead": dead})
    with_strides = layouts(rng)
    arrays = {name: with_strides(array) for name, array in arrays.items()}
    return Module(config, arrays, random_cuts(rng, T), memory, stages)


def random_parameters(rng, config, dtype):
    """Return parameters whose keys are large or small compared with eps; a gain may be zero in one channel."""
    layer, size = config.layer_ids[0], 10.0 ** rng.uniform(-6, 1)
    parameters = {}
    for name, shape in shapes(config, layer).items():
        values = rng.standard_normal(shape)
        if name.endswith("gain"):
            values = 0.3 * values + (config.gain_form == "plain")
            values[..., 0] = -float(config.gain_form == "zero_centred") if rng.random() < 0.2 else values[..., 0]
        else:
            values = values * (size if name.startswith("table") or name.endswith("bias") else shape[-1] ** -0.5)
        parameters[name] = values.astype(dtype)
    parameters["column_offsets"] = layout(config, layer).offsets
    if config.table_codec == "fp8_e8m0":
        return parameters | random_codes(rng, parameters)
    return parameters | random_numbers(rng, config, parameters)


def random_codes(rng, parameters):
    """Return an FP8 table: all kinds of finite codes, similar scales, and zeros of either sign in one row of five."""
    shape, scales = parameters["table_codes"].shape, parameters["table_scales"].shape
    codes = rng.integers(0, 0x7F, shape) * (rng.random((len(parameters["table_codes"]), 1)) < 0.8)
    return {"table_codes": (codes + 0x80 * rng.integers(0, 2, shape)).astype(np.uint8),
            "table_scales": (rng.integers(0, 3, scales) + rng.integers(100, 128)).astype(np.uint8)}


def random_numbers(rng, config, parameters):
    """Return a table of floats, zero in one row of five; an fp32 table may be stored in float64."""
    table = parameters["table"] * (rng.random((len(parameters["table"]), 1)) < 0.8)
    stored = picker(rng)(parameters["table"].dtype, np.dtype(np.float64))
    return {"table": table.astype(ml_dtypes.bfloat16 if config.table_codec == "bf16" else stored)}
