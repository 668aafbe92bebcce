"""Emulate the released model's roundings bit for bit: FP8 rows, FP8 projection input, bfloat16 projections.

The inputs are chosen so that every float32 sum is exact in any order: small integers, hidden states with one
magnitude per branch, widths that are powers of four. Only the roundings at the stated boundaries remain, and each is
emulated with exact fractions.
"""

from dataclasses import replace
from functools import cache

import numpy as np

from engram_ref.oracle.slow import codecs, released
from scripts.builders.small_modules import V41, random_inputs, random_parameters


@cache
def integer_case(width, **shape):
    """Return integer rows up to 30, projections that add at most 16 of them, and hidden states of one magnitude.

    shape   other fields of the configuration
    """
    config, rng = replace(V41, hidden_size=width, **shape), np.random.default_rng(width)
    hidden, rows = random_inputs(config, rng, 2, 3)
    signs = np.where(hidden < 0, -1.0, 1.0)
    magnitudes = 2.0 ** rng.integers(-3, 4, hidden.shape[:3])[..., None]
    parameters = random_parameters(replace(config, table_codec="fp32"), rng, dtype=np.float32)
    R = len(parameters.pop("table"))
    codes = [code for code in range(127) if codecs.e4m3(code)[1] in range(16)]
    M, D, memory = config.n_branches, config.hidden_size, config.memory_width
    parameters |= {
        "table_codes": rng.choice(codes, (R, config.row_width)).astype(np.uint8),
        "table_scales": rng.integers(127, 129, (R, config.row_width // 32)).astype(np.uint8),
        "key_weight": sparse(rng, (M, D, memory)), "value_weight": sparse(rng, (D, memory)) * np.float32(1.25),
        "query_gain": rng.integers(1, 3, (M, D)).astype(np.float32),
        "key_gain": rng.choice([-2, -1, 1, 2], (M, D)).astype(np.float32),
    }
    return config, parameters, (signs * magnitudes).astype(np.float32), rows


def sparse(rng, shape):
    """Return a float32 array whose last-axis vectors have twelve 1.0, four -1.0 and otherwise zeros, shuffled."""
    signs = np.array([1.0] * 12 + [-1.0] * 4 + [0.0] * (shape[-1] - 16), dtype=np.float32)
    return rng.permuted(np.broadcast_to(signs, shape), axis=-1)


def emulated_memory(parameters, rows):
    """Return the rows of one position, decoded to float32 and rounded to bfloat16."""
    flat = rows + parameters["column_offsets"]
    codes, scale_bytes = parameters["table_codes"][flat].tolist(), parameters["table_scales"][flat].tolist()
    return released.memory(zip(codes, scale_bytes, strict=True))


def emulated_project(parameters, memories, floor=1e-4):
    """Return the keys [T][M][D] and values [T][D] of memories [T][E]."""
    inputs = [emulated_requantise(memory, floor) for memory in memories]
    return ([[released.project(weight.tolist(), x) for weight in parameters["key_weight"]] for x in inputs],
            [released.project(parameters["value_weight"].tolist(), x) for x in inputs])


emulated_requantise = released.requantise
