"""Cases with the shapes of released models, each starting at the input of one step, with three tokens.

Their inputs are generated, since the weights alone would take gigabytes. A port computes a step completely, and its
answers are compared in some output channels: both ends and random ones. V4.1's projection multiplies small integers
whose sums are exact in float32 in any order, so that its answers are exact.
"""

import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from engram_ref.config import EngramConfig
from engram_ref.ops.namespace import NUMPY
from engram_ref.oracle.cases import Case, Stage, Vectors
from engram_ref.oracle.kit.generator import mixed
from engram_ref.oracle.noise import FLOAT64, measure
from engram_ref.oracle.run import Adapter, run
from engram_ref.presets import preset

TOKENS, SAMPLED = 3, 64
DIALECTS = ("deepseek-v4.1-flash", "engram-27b", "demo", "qwen4exp-ple")
UNIT = -6
"""Exponent of hidden states, keys, values and memory: elements up to 2."""

SHORT = {1e-20: -39, 1e-6: -15, None: -31}
"""norm_eps -> exponent of a hidden state whose mean square is about eps; None stands for float64's machine epsilon."""

Arguments = dict[str, Any]


def released_cases(vectors: Vectors) -> list[Case]:
    """Return all cases; `vectors` has the configurations of the presets."""
    keys = {config.name: key for key, config in vectors.configurations.items()
            if config in map(preset, DIALECTS)}
    return [answered(*planned, vectors) for name in DIALECTS for planned in plan(preset(name), keys[name])]


def plan(config: EngramConfig, key: str) -> Iterator[tuple[str, EngramConfig, tuple[str, ...], Arguments]]:
    """Yield name, configuration, outputs and arguments of the cases of one dialect; `key` is of its configuration."""
    M, D, n, T = config.n_branches, config.hidden_size, config.memory_width, TOKENS
    tensors, named = Tensors(config), {"config": {"configuration": key}}
    if config.table_codec == "fp8_e8m0":
        codes, scales = ((1, T, config.columns, config.row_width // part) for part in (1, 32))
        yield f"decode/{config.name}", config, ("output",), {
            "gathered": {"tuple": [tensors(codes, 0, dtype="uint8"), tensors(scales, 0, dtype="uint8")]},
            "codec": config.table_codec, "dtype": {"dtype": "float32"}}
    rows = channels(tensors.seed, (M + 1) * D)
    yield f"released_project/{config.name}", config, ("output",), {
        "memory": tensors((1, T, n), UNIT), "weight": tensors(((M + 1) * D, n), UNIT - 6, rows),
        "bias": tensors(((M + 1) * D,), UNIT, rows) if config.projection_bias else None} | named
    chosen = {"channels": channels(tensors.seed, D)}
    for label, size in (("", UNIT), ("-short", SHORT[config.norm_eps])):
        yield f"released_gate/{config.name}{label}", config, ("score", "gate", "residual"), {
            "parameters": {"parameters": {name: tensors((M, D), UNIT) for name in ("query_gain", "key_gain")}},
            "hidden": tensors((1, T, M, D), size), "key": tensors((1, T, M, D), UNIT),
            "value": tensors((1, T, D), UNIT)} | chosen | named
    if config.conv_kernel:
        yield f"released_conv/{config.name}", config, ("output", "conv_norm"), {
            "parameters": {"parameters": {"conv_gain": tensors((M, D), UNIT - 1),
                                          "conv_weight": tensors((M, D, config.conv_kernel), UNIT - 1)}},
            "gated": tensors((1, T, M, D), UNIT - 8), "taps": tensors((1, config.conv_span, M, D), UNIT)
        } | chosen | named


class Tensors:
    """Arguments of one dialect in the form of oracle/encoding.py; every array has a different tensor number."""

    def __init__(self, config: EngramConfig):
        self.seed, self.count = zlib.crc32(config.name.encode()), 0
        self.dtype = "float32" if config.rounding == "fp8_bf16" else "float64"

    def __call__(self, shape: tuple[int, ...], exponent: int, rows: list[int] | None = None,
                 dtype: str = "") -> Arguments:
        """Return the next generated array."""
        self.count += 1
        chosen = [] if rows is None else [rows]
        return {"generated": [dtype or self.dtype, list(shape), self.seed, self.count, exponent, *chosen]}


def channels(seed: int, count: int) -> list[int]:
    """Return sampled channels in ascending order, among them the first and the last."""
    drawn = mixed(seed, 0, np.arange(SAMPLED - 2, dtype=np.uint64)) % np.uint64(count)
    return sorted({0, count - 1, *drawn.tolist()})


def answered(title: str, config: EngramConfig, outputs: tuple[str, ...], arguments: Arguments,
             vectors: Vectors) -> Case:
    """Return the case "op/title" with its answers in float64 and their noise; exact ones are computed in float32."""
    op, emulated = title.split("/")[0], config.rounding == "fp8_bf16"
    flags = ("dialect", *(["all-codes", "nan"] if op == "decode" else ["rounding"] * emulated))
    case = Case(title, op, config.name, arguments, (), outputs, flags, (), "released")
    if op == "decode" or (op == "released_project" and emulated):
        found = run(case, vectors, NUMPY, Adapter(), False)
        return replace(case, stages=tuple(Stage(name, found[name], "exact") for name in outputs))
    found, noise = measure(lambda ops: run(case, vectors, ops, FLOAT64, False), zlib.crc32(title.encode()))
    kinds = {name: "f32" if emulated else "f64" for name in outputs} | ({"residual": "bf16"} if emulated else {})
    return replace(case, stages=tuple(Stage(name, found[name], kinds[name], noise[name]) for name in outputs))
