"""Mutants of the float functions: codecs, tables, norms, gate, roundings, convolution, parameter names.

MUTANTS: name -> (function in engram_ref, wrong variant, test that must fail, the test's arguments); see mutants.py.
The wrong variants are defined in engram_ref/oracle/wrong/floats.py.
"""

import numpy as np

from engram_ref.oracle import small_modules
from engram_ref.oracle.wrong import floats as wrong

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

STORED: dict[str, tuple] = {
    "e8m0-shift": ("ops.codecs:dequantise", wrong.shifted_scale, EVERY_PAIR),
    "e4m3-480": ("ops.codecs:dequantise", wrong.nan_codes_are_480, EVERY_PAIR),
    "e4m3-fnuz": ("ops.codecs:dequantise", wrong.fnuz_bias, EVERY_PAIR),
    "e4m3-subnormals-flushed": ("ops.codecs:dequantise", wrong.flushed_subnormals, EVERY_PAIR),
    "e4m3-subnormals-normal": ("ops.codecs:dequantise", wrong.subnormals_with_a_hidden_one, EVERY_PAIR),
    "scale-block-128": ("ops.codecs:dequantise", wrong.scale_per_128_channels,
                        CODECS + "scales_belong_to_blocks_of_32_channels"),
    "bf16-truncated": ("ops.codecs:round_bf16", wrong.truncated_bf16, QUANTISE + "round_bf16_is_nearest_ties_to_even"),
    "quantise-for-480": ("ops.codecs:quantise", wrong.scale_for_480, QUANTISE + "quantise_matches_exact_fractions",
                         ("edge of the scale", 0.0)),
    "quantise-missing": ("ops.codecs:requantise", lambda original, x, floor: x, ROUNDED_INPUT, (1.0, 1e-4)),
    "amax-floor-missing": ("ops.codecs:quantise", lambda original, x, floor=0.0: original(x, 0.0),
                           QUANTISE + "no_scale_is_below_the_floors"),
    "amax-floor-missing, projection": ("ops.codecs:requantise", lambda original, x, floor: original(x, 0.0),
                                       ROUNDED_INPUT, (2.0**-34, 1e-4)),
    "amax-floor-of-the-release-only": ("ops.codecs:requantise", lambda original, x, floor: original(x),
                                       ROUNDED_INPUT, (2.0**-34, 0.0)),
    "scale-to-the-nearest-power": ("ops.codecs:quantise", wrong.scale_to_the_nearest_power,
                                   QUANTISE + "quantise_matches_exact_fractions", ("random", 1e-4)),
    "scale-of-the-power-below": ("ops.codecs:quantise", wrong.scale_of_the_power_below,
                                 QUANTISE + "quantise_matches_exact_fractions", ("random", 1e-4)),
    "column-order": ("ops.tables:concatenate", lambda original, rows: original(rows[:, :, ::-1]), IN_ORDER),
    "channels-before-columns": ("ops.tables:concatenate", lambda original, rows: original(np.swapaxes(rows, 2, 3)),
                                IN_ORDER),
    "offset-missing": ("ops.tables:gather", lambda original, table, rows, offsets: table[rows], FIRST_AND_LAST),
    "offset-inclusive": ("ops.tables:gather", wrong.inclusive_offsets, FIRST_AND_LAST),
    "bias-dropped": ("ops.linear:linear", lambda original, x, weight, bias=None: original(x, weight), MODULE, DEMO),
    "one-key-for-all-branches": ("ops.composite:project", wrong.one_key_for_all_branches, MODULE, DEMO),
}

INVERSE, GAIN, SCORE = "ops.norm:inverse_rms", "ops.norm:effective_gain", "ops.composite:gate_score"
NORMS: dict[str, tuple] = {
    **{f"eps-machine-to-{eps}": (INVERSE, wrong.eps_replaced(None, eps), SHORT_STATES, ("demo-like",))
       for eps in (1e-20, 1e-6, 1e-5)},
    **{f"eps-1e-20-to-{eps}": (INVERSE, wrong.eps_replaced(1e-20, eps), SHORT_STATES, ("tilekernels-like",))
       for eps in (None, 0.0, 1e-6, 1e-5)},
    "eps-paper-to-1e-06": (INVERSE, wrong.eps_replaced(1e-20, 1e-6), SHORT_STATES, ("paper-like",)),
    "eps-qwen-to-1e-05": (INVERSE, wrong.eps_replaced(1e-6, 1e-5), SHORT_STATES, ("qwen-like",)),
    "eps-conv-to-1e-06": (INVERSE, wrong.eps_replaced(1e-5, 1e-6), MODULE, DEMO),
    "eps-conv-to-machine": (INVERSE, wrong.eps_replaced(1e-5, None), RECORDED),
    "eps-outside": (INVERSE, wrong.eps_outside, NORM + "eps_is_added_inside_the_root", ("1e-5",)),
    "eps-outside-machine": (INVERSE, wrong.eps_outside, SHORT_STATES, ("demo-like",)),
    "joint-norm": (INVERSE, wrong.joint_norm, NORM + "branches_are_normalised_separately"),
    "joint-norm-factored": (INVERSE, wrong.joint_norm, MODULE, TILEKERNELS),
    "zero-centred-everywhere": (GAIN, lambda original, weight, form: 1.0 + weight, MODULE, DEMO),
    "zero-centred-nowhere": (GAIN, lambda original, weight, form: weight, MODULE, QWEN),
    "query-gain-of-branch-0": (SCORE, wrong.gain_of_branch_0("query_gain"), MODULE, DEMO),
    "key-gain-of-branch-0": (SCORE, wrong.gain_of_branch_0("key_gain"), MODULE, DEMO),
    "gains-swapped-between-branches": (SCORE, wrong.with_parameter("query_gain", lambda g: g[::-1]), MODULE, DEMO),
    "conv-norm-shared": ("ops.composite:gated_conv", wrong.gain_of_branch_0("conv_gain"), MODULE, DEMO),
}

SIGNED, COPYSIGN, GATED = "ops.gate:signed_sqrt", "ops.gate:copysign_sqrt", "ops.gate:gate"
GATES: dict[str, tuple] = {
    "sign-for-copysign": (COPYSIGN, wrong.sign_times_root, EDGES, ("copysign_sqrt",)),
    "lt-for-copysign": (COPYSIGN, wrong.sign_by_comparison, EDGES, ("copysign_sqrt",)),
    "copysign-for-sign": (SIGNED, wrong.copysign_of_root, EDGES, ("signed_sqrt",)),
    "no-signed-sqrt": (GATED, wrong.gate_of_form("sigmoid"), MODULE, DEMO),
    "signed-sqrt-in-the-paper": (GATED, wrong.gate_of_form("signed_sqrt"), MODULE, PAPER),
    "unsigned-sqrt": (SIGNED, lambda original, s: np.abs(original(s)), MODULE, DEMO),
    "clamp-missing": (SIGNED, wrong.unclamped, EDGES, ("signed_sqrt",)),
    "clamp-missing-copysign": (COPYSIGN, wrong.unclamped, EDGES, ("copysign_sqrt",)),
    "clamp-added": (SIGNED, wrong.clamp_added, EDGES, ("signed_sqrt",)),
    "clamp-added-copysign": (COPYSIGN, wrong.clamp_added, EDGES, ("copysign_sqrt",)),
    "clamp-after-the-root": (SIGNED, wrong.clamped_after_the_root, EDGES, ("signed_sqrt",)),
    "scale-missing": ("ops.gate:score", wrong.scaled_by(0.5), MODULE, DEMO),
    "scale-by-the-width": ("ops.gate:score", wrong.scaled_by(-0.5), MODULE, DEMO),
    "scale-missing-factored": ("ops.gate:factored_score", wrong.scaled_by(0.5),
                               GATE + "factored_equals_the_normalised_score", (np.float64,)),
    "dead-gate-not-zero": (GATED, wrong.dead_ignored, DEAD, ("signed_sqrt",)),
    "dead-score-is-zero": (GATED, wrong.dead_score_is_zero, DEAD, ("signed_sqrt",)),
}

RESIDUAL = "ops.linear:add_residual"
ROUNDINGS: dict[str, tuple] = {
    "bf16-gate": (GATED, wrong.result_in_bf16, ROUNDING + "the_gate_is_computed_in_float32", (4,)),
    "bf16-product": ("ops.gate:apply_gate", wrong.result_in_bf16,
                     ROUNDING + "the_product_is_rounded_to_float32_only", (4,)),
    "bf16-score": (SCORE, wrong.result_in_bf16, BEFORE_GATE, ("score", 4)),
    "projection-not-rounded": ("ops.codecs:round_bf16", lambda original, x: x, BEFORE_GATE, ("value", 16)),
    "double-rounding": (RESIDUAL, wrong.product_rounded_first, "unit.test_linear:test_residual_is_rounded_once"),
    "residual-not-rounded": (RESIDUAL, wrong.residual_not_rounded,
                             ROUNDING + "the_sum_with_the_residual_is_rounded_once", (4,)),
}

SHORT_CONV, NEXT_TAPS, GATED_CONV = "ops.conv:short_conv", "ops.conv:next_taps", "ops.composite:gated_conv"
CONVOLUTIONS: dict[str, tuple] = {
    "taps-reversed": (SHORT_CONV, wrong.reversed_taps, IMPULSE),
    "dilation-1": (SHORT_CONV, wrong.without_dilation, IMPULSE),
    "non-causal": (SHORT_CONV, wrong.non_causal, CONV + "convolution_is_causal"),
    "conv-kernel-shared": (SHORT_CONV, wrong.one_kernel_for_all_branches, MODULE, DEMO),
    "conv-state-lost": (NEXT_TAPS, wrong.state_lost, CUTS, ((3, 0, 5, 3),)),
    "conv-state-of-one-chunk": (NEXT_TAPS, wrong.state_of_one_chunk, CUTS, ((1,) * 11,)),
    "conv-state-not-normalised": (GATED_CONV, wrong.state_not_normalised,
                                  "unit.test_state:test_any_cut_gives_the_output_of_one_call",
                                  (small_modules.DEMO, (2, 0, 3, 1, 7))),
    "silu-missing": ("ops.conv:silu", lambda original, x: x, MODULE, DEMO),
    "sigmoid-for-silu": ("ops.conv:silu", lambda original, x: original(x) / np.where(x == 0, 1, x), MODULE, DEMO),
    "gated-value-not-added": (GATED_CONV, wrong.gated_value_not_added, MODULE, DEMO),
}

ENGRAM, FROM_DEMO = "model.engram:engram", "model.parameters:from_engram_demo"
MODULES: dict[str, tuple] = {
    "kv-swap": (FROM_DEMO, wrong.key_and_value_swapped, RECORDED),
    "conv-channel-major": (FROM_DEMO, wrong.channels_before_branches, RECORDED),
    "all-zeros": (ENGRAM, wrong.all_zeros, RECORDED),
    "copy-of-input": (ENGRAM, wrong.copy_of_input, RECORDED),
    "residual-included": (ENGRAM, wrong.residual_included, RECORDED),
}

MUTANTS = STORED | NORMS | GATES | ROUNDINGS | CONVOLUTIONS | MODULES
