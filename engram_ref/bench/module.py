"""P7 and P9: the whole Engram forward, and its short convolution by itself."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from engram_ref.bench import limits
from engram_ref.bench.judge import OURS, Case, Comparison
from engram_ref.bench.rows import FRESH
from engram_ref.bench.setting import Setting, Sides, aligned
from engram_ref.config import EngramConfig
from engram_ref.layout import layout
from engram_ref.model.engram import engram
from engram_ref.model.engram_parameters import initialise
from engram_ref.presets import preset

MODULE = "the torch module"
SGEMM = "the bare matrix product"
CONV1D, SHIFTS = "torch Conv1d with transposes", "torch shifts"
STREAM = "copying the input"
TOKENS = (4096, 37)     # in full, quick
SMALL = {"hidden_size": 48, "row_width": 8}


def forward(setting: Setting) -> Iterator[Case]:
    """P7: from rows and hidden state to Y."""
    config, parameters, hidden, rows = inputs(setting.quick, setting.size(*TOKENS))
    M, D, width = config.n_branches, config.hidden_size, config.memory_width
    sides = Sides(setting)
    sides.add(OURS, partial(engram, parameters, hidden, rows, config, ops=setting.ops, check=False))
    sides.rival(MODULE, lambda rivals: partial(rivals.torch_engram(
        parameters, config.norm_eps, config.conv_norm_eps, config.conv_dilation), rows, hidden), "torch")
    rng = np.random.default_rng(8)
    memory = rng.standard_normal((rows.shape[1], width), dtype=np.float32)
    weight = rng.standard_normal(((M + 1) * D, width), dtype=np.float32)
    sides.add(SGEMM, limits.sgemm(memory, weight.T))
    yield Case("the whole Engram forward", sizes_of(config, rows), setting.threads, sides.there,
               [Comparison("faster", MODULE, 3.5), Comparison("limit", SGEMM, 0.8)], sides.missing, uses_blas=True)


def conv(setting: Setting) -> Iterator[Case]:
    """P9: the dilated convolution and SiLU over all channels."""
    config = module_config(setting.quick)
    M, D, L, dilation = config.n_branches, config.hidden_size, config.conv_kernel, config.conv_dilation
    rng = np.random.default_rng(9)
    x = rng.standard_normal((1, setting.size(*TOKENS), M, D), dtype=np.float32)
    weight = rng.uniform(-0.5, 0.5, (M, D, L)).astype(np.float32)
    taps = np.zeros((1, config.conv_span, M, D), dtype=np.float32)
    out = aligned(x.shape, np.float32)
    sides = Sides(setting)
    sides.add(OURS, partial(setting.ops.conv_silu, x, weight, dilation, taps, out=out))
    sides.add(FRESH, partial(setting.ops.conv_silu, x, weight, dilation, taps))
    sides.rival(CONV1D, lambda rivals: rivals.torch_conv(x, weight, dilation), "torch")
    sides.rival(SHIFTS, lambda rivals: rivals.torch_shifts(x, weight, dilation), "torch")
    sides.add(STREAM, limits.copy(aligned(x.shape, np.float32), x, setting.threads))
    sizes = {"tokens": x.shape[1], "channels": M * D, "kernel": L, "dilation": dilation}
    yield Case("convolution and SiLU", sizes, setting.threads, sides.there, [
        Comparison("faster", CONV1D, 30.0), Comparison("faster", SHIFTS, 8.0), Comparison("faster", SHIFTS, of=FRESH),
        Comparison("limit", STREAM),
    ], sides.missing)


def inputs(quick: bool, tokens: int) -> tuple[EngramConfig, dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Configuration, float32 parameters, hidden [1, T, M, D] and rows [1, T, C] of one module."""
    config, rng = module_config(quick), np.random.default_rng(7)
    layer = config.layer_ids[0]
    parameters = initialise(config, layer, rng, np.float32)
    hidden = rng.standard_normal((1, tokens, config.n_branches, config.hidden_size), dtype=np.float32)
    rows = rng.integers(0, layout(config, layer).primes, (1, tokens, config.columns))
    return config, parameters, hidden, rows


def module_config(quick: bool) -> EngramConfig:
    """The paper's module with tables that fit on a desk and weights in its convolution."""
    table = 997 if quick else 50_021
    return replace(preset("engram-27b"), name="engram-27b, small tables", table_sizes=(table, table),
                   conv_init="uniform", **(SMALL if quick else {}))


def sizes_of(config: EngramConfig, rows: np.ndarray) -> dict[str, int | str]:
    """What the size of a module's work depends on."""
    return {"tokens": rows.shape[1], "hidden size": config.hidden_size, "memory width": config.memory_width,
            "branches": config.n_branches, "dtype": "float32"}
