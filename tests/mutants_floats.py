"""Mutants of the float functions: codecs, tables, norms, gate, roundings, convolution, parameter names.

BUGS: name of a bug in engram_ref.oracle.bugs -> (its target, test that must fail, the test's arguments).
MUTANTS: name -> (function in engram_ref, wrong variant, test that must fail, the test's arguments); see mutants.py.
"""

import numpy as np

from scripts.builders import small_modules
from tests.catalogue import port_bugs

CODECS = "unit.test_codecs:test_"
EVERY_PAIR = CODECS + "every_pair_decodes_to_the_float32_product"
QUANTISE = "unit.test_quantise:test_"
TABLES = "unit.test_tables:test_"
IN_ORDER, FIRST_AND_LAST = TABLES + "columns_stay_in_order", TABLES + "first_and_last_row_of_every_column"
MODULE = "unit.test_module:test_module_matches_the_slow_version"
SHORT_STATES = "unit.test_module:test_small_states_and_keys_distinguish_eps"
RECORDED = "unit.test_module:test_recorded_output_is_reproduced"
NORM = "unit.test_norm:test_"
GATE = "unit.test_gate:test_"
EDGES, DEAD = GATE + "gate_at_the_edges", GATE + "a_dead_position_has_a_gate_of_zero"
CONV = "unit.test_conv:test_"
IMPULSE, CUTS = CONV + "an_impulse_shows_the_taps_newest_first", CONV + "any_cut_gives_the_result_of_one_call"
ROUNDING = "unit.test_rounding:test_"
ROUNDED_INPUT = ROUNDING + "the_projection_input_is_rounded_to_fp8_blocks"
BEFORE_GATE = ROUNDING + "stages_before_the_gate_are_reproduced_exactly"

DEMO, PAPER, QWEN, TILEKERNELS = ((f"{name}-like", (2, 5)) for name in ("demo", "paper", "qwen", "tilekernels"))
"""Arguments of MODULE: dialect, (batch, length)."""

SCALES = (QUANTISE + "quantise_matches_exact_fractions", ("random", 1e-4))
STORED: dict[str, tuple] = {
    **{name: ("dequantise", EVERY_PAIR) for name in ("e8m0-shift", "e4m3-480", "e4m3-fnuz", "e4m3-subnormals",
                                                     "e4m3-subnormals-as-normal")},
    "scale-block-128": ("dequantise", CODECS + "scales_belong_to_blocks_of_32_channels"),
    "bf16-truncated": ("round_bf16", QUANTISE + "round_bf16_is_nearest_ties_to_even"),
    "scale-for-480": ("quantise", QUANTISE + "quantise_matches_exact_fractions", ("edge of the scale", 0.0)),
    "log2-exponent": ("quantise", QUANTISE + "quantise_matches_exact_fractions", ("edge of the scale", 0.0)),
    **{name: ("quantise", *SCALES) for name in ("scale-nearest", "scale-floor", "scale-unrounded")},
    "requantise-missing": ("requantise", ROUNDED_INPUT, (1.0, 1e-4)),
    "memory-channels-first": ("concatenate", IN_ORDER),
    "offset-missing": ("gather", FIRST_AND_LAST),
    "offset-inclusive": ("gather", FIRST_AND_LAST),
    "bias-dropped": ("project", MODULE, DEMO),
    "kv-swap": ("project", RECORDED),
    "one-key-for-all-branches": ("project", MODULE, DEMO),
    "projection-not-rounded": ("project", BEFORE_GATE, ("value", 16)),
}

NORMS: dict[str, tuple] = {
    **{f"{eps}, {dialect}": ("inverse_rms", SHORT_STATES, (f"{dialect}-like",))
       for eps in ("eps-1e-6", "eps-1e-5", "eps-outside") for dialect in ("demo", "paper", "tilekernels")},
    "eps-1e-5, qwen": ("inverse_rms", SHORT_STATES, ("qwen-like",)),
    "eps-1e-20": ("inverse_rms", SHORT_STATES, ("demo-like",)),
    "eps-machine": ("inverse_rms", SHORT_STATES, ("tilekernels-like",)),
    "eps-outside": ("inverse_rms", NORM + "eps_is_added_inside_the_root", ("1e-5",)),
    "eps-shared": ("gated_conv", MODULE, DEMO),
    "joint-norm": ("inverse_rms", NORM + "branches_are_normalised_separately"),
    "joint-norm, factored": ("inverse_rms", MODULE, TILEKERNELS),
    "bf16-norm": ("inverse_rms", MODULE, DEMO),
    "zero-centred-gain": ("effective_gain", MODULE, DEMO),
    "gain-not-zero-centred": ("effective_gain", MODULE, QWEN),
    "gains-of-branch-0": ("gate_score", MODULE, DEMO),
    "conv-norm-shared": ("gated_conv", MODULE, DEMO),
}

GATES: dict[str, tuple] = {
    **{f"{name}, {root}": (root, EDGES, (root,)) for name in ("clamp-missing", "clamp-add", "clamp-after-root")
       for root in ("signed_sqrt", "copysign_sqrt")},
    "sign-for-copysign": ("copysign_sqrt", EDGES, ("copysign_sqrt",)),
    "lt-for-copysign": ("copysign_sqrt", EDGES, ("copysign_sqrt",)),
    "copysign-for-sign": ("signed_sqrt", EDGES, ("signed_sqrt",)),
    "no-signed-sqrt": ("gate", MODULE, DEMO),
    "signed-sqrt-in-paper": ("gate", MODULE, PAPER),
    "unsigned-sqrt": ("signed_sqrt", MODULE, DEMO),
    "scale-missing": ("score", MODULE, DEMO),
    "scale-by-width": ("score", MODULE, DEMO),
    "scale-missing, factored": ("factored_score", GATE + "factored_equals_the_normalised_score", (np.float64,)),
    "dead-gate-not-zero": ("gate", DEAD, ("signed_sqrt",)),
    "dead-score-zero": ("gate", DEAD, ("signed_sqrt",)),
}

ROUNDINGS: dict[str, tuple] = {
    "bf16-gate": ("gate", ROUNDING + "the_gate_is_computed_in_float32", (4,)),
    "bf16-product": ("apply_gate", ROUNDING + "the_product_is_rounded_to_float32_only", (4,)),
    "bf16-score": ("gate_score", BEFORE_GATE, ("score", 4)),
    "double-round": ("add_residual", "unit.test_linear:test_residual_is_rounded_once"),
    "residual-not-rounded": ("add_residual", ROUNDING + "the_sum_with_the_residual_is_rounded_once", (4,)),
}

CONVOLUTIONS: dict[str, tuple] = {
    "taps-reversed": ("short_conv", IMPULSE),
    "dilation-1": ("short_conv", IMPULSE),
    "non-causal": ("short_conv", CONV + "convolution_is_causal"),
    "conv-kernel-shared": ("short_conv", MODULE, DEMO),
    "conv-channel-major": ("short_conv", RECORDED),
    "conv-state-reversed": ("short_conv", CUTS, ((3, 0, 5, 3),)),
    "conv-state-lost": ("next_taps", CUTS, ((3, 0, 5, 3),)),
    "conv-state-of-one-chunk": ("next_taps", CUTS, ((1,) * 11,)),
    "conv-state-not-normalised": ("gated_conv", "unit.test_state:test_any_cut_gives_the_output_of_one_call",
                                  (small_modules.DEMO, (2, 0, 3, 1, 7))),
    "conv-unnormalised": ("gated_conv", MODULE, DEMO),
    "silu-missing": ("conv_silu", MODULE, DEMO),
    "sigmoid-for-silu": ("conv_silu", MODULE, DEMO),
    "gated-value-not-added": ("gated_conv", MODULE, DEMO),
    "hash-ids-dropped": ("gated_update", RECORDED),
    "returns-residual": ("gated_update", RECORDED),
}

BUGS: dict[str, tuple] = STORED | NORMS | GATES | ROUNDINGS | CONVOLUTIONS


def copy_of_input(original, parameters, hidden, *rest, **named):
    return hidden.copy()


MUTANTS: dict[str, tuple] = port_bugs(BUGS) | {
    "amax floor missing": ("ops.codecs:quantise", lambda original, x, floor=0.0: original(x, 0.0),
                           QUANTISE + "no_scale_is_below_the_floors"),
    "amax floor missing, projection": ("ops.codecs:requantise", lambda original, x, floor: original(x, 0.0),
                                       ROUNDED_INPUT, (2.0**-34, 1e-4)),
    "amax floor of the release only": ("ops.codecs:requantise", lambda original, x, floor: original(x),
                                       ROUNDED_INPUT, (2.0**-34, 0.0)),
    "conv eps of the machine": ("ops.norm:inverse_rms", lambda original, x, eps: original(
        x, None if eps == 1e-5 else eps), RECORDED),
    "copy of the input": ("model.engram:engram", copy_of_input, RECORDED),
}
