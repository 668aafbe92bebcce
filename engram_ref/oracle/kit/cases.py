"""The cases of a kit: the golden vectors, cases that are computed when the kit is written, and the noise of each.

A kit for one dialect has the cases that a port of this dialect can pass: the ops that the dialect uses, with its
choices, and modules whose choices equal its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from engram_ref.config import EngramConfig
from engram_ref.errors import check_name
from engram_ref.model_config import ModelConfig
from engram_ref.oracle.cases import Case, Vectors
from engram_ref.oracle.encoding import decode
from engram_ref.oracle.kit.exhaustive import with_every_score
from engram_ref.oracle.kit.released import released_cases
from engram_ref.oracle.kit.schedules import with_schedules
from engram_ref.presets import ALIASES, GATES, preset, presets

MODULE_FIELDS = ("score_form", "gate_form", "gain_form", "norm_eps", "projection_bias", "rounding")
"""Fields in which a module must equal the dialect; sizes, and the codec of tables without rounding, may differ."""

ARGUMENT_FIELDS = {"gate.form": "gate_form", "effective_gain.gain_form": "gain_form", "decode.codec": "table_codec",
                   "add_residual.rounding": "rounding"}
"""op.argument -> the field whose value it takes."""

USED: Mapping[str, Callable[[EngramConfig], bool]] = {
    "normalise canonical_key canonical_map canonicalise": lambda c: c.vocabulary is not None,
    "pcg64_multipliers": lambda c: c.multiplier_generator == "pcg64",
    "splitmix64_multipliers": lambda c: c.multiplier_generator == "splitmix64",
    "mark_dead": lambda c: c.dead_barrier,
    "dequantise": lambda c: c.table_codec == "fp8_e8m0",
    "quantise requantise round_bf16": lambda c: c.rounding == "fp8_bf16",
    "score": lambda c: c.score_form == "normalised",
    "factored_score": lambda c: c.score_form == "factored",
    "signed_sqrt": lambda c: c.gate_form == "signed_sqrt",
    "copysign_sqrt": lambda c: c.gate_form == "copysign_sqrt",
    "short_conv conv_silu next_taps gated_conv": lambda c: c.conv_kernel > 0,
}
"""Ops -> whether a dialect uses them; every dialect uses all others."""


def dialects() -> tuple[str, ...]:
    """Return the names that `dialect_config` accepts."""
    return (*presets(), *ALIASES, "tilekernels")


def dialect_config(name: str) -> EngramConfig:
    """Return the configuration of a dialect: a preset, or the paper's module with the gate of TileKernels.

    raises   InputError that lists the names
    """
    check_name("dialect", name, dialects())
    return replace(preset("paper"), name=name, **GATES[name]) if name == "tilekernels" else preset(name)


def kit_cases(vectors: Vectors, dialect: EngramConfig | None = None) -> Vectors:
    """Return the cases of a kit.

    vectors   the golden vectors
    dialect   only the cases that concern this configuration; None: all cases
    """
    vectors = with_schedules(with_every_score(vectors))
    cases = (*vectors.cases, *released_cases(vectors))
    return replace(vectors, cases=tuple(case for case in cases if dialect is None or concerns(case, vectors, dialect)))


def concerns(case: Case, vectors: Vectors, dialect: EngramConfig) -> bool:
    """Whether a port of the dialect can pass the case."""
    if any(case.op.removesuffix("_vjp") in ops.split() and not used(dialect) for ops, used in USED.items()):
        return False
    dead = decode(case.arguments.get("dead"), vectors.arrays, vectors.configurations)
    marked = dead.any() if isinstance(dead, np.ndarray) else "dead" in case.flags and "parameters" not in case.arguments
    if (marked and not dialect.dead_barrier) or ("eos" in case.flags and dialect.eos_id is None):
        return False
    if "eos_id" in case.arguments and (case.arguments["eos_id"] is None) != (dialect.eos_id is None):
        return False
    for argument, value in case.arguments.items():
        field = ARGUMENT_FIELDS.get(f"{case.op}.{argument}")
        if field is not None and value != getattr(dialect, field):
            return False
    return case.dialect == dialect.name if case.dialect in presets() else all(
        same_choices(config, dialect, case.op) for config in engram_configs(case, vectors))


def engram_configs(case: Case, vectors: Vectors) -> list[EngramConfig]:
    """Return the configurations of Engram modules among the arguments of a case."""
    found = [vectors.configurations[argument["configuration"]] for argument in case.arguments.values()
             if isinstance(argument, dict) and "configuration" in argument]
    found = [config.engram if isinstance(config, ModelConfig) else config for config in found]
    return [config for config in found if isinstance(config, EngramConfig)]


def same_choices(config: EngramConfig, dialect: EngramConfig, op: str) -> bool:
    """Whether a module of one configuration, or its addressing, follows the choices of a dialect."""
    if op.startswith("addressing"):
        return (config.eos_id is None) == (dialect.eos_id is None)
    choices = lambda c: [getattr(c, field) for field in MODULE_FIELDS] + [c.conv_kernel > 0]
    return choices(config) == choices(dialect)
