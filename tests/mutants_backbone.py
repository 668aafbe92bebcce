"""Mutants of the backbone: rotation, attention, experts, hyper-connections, decoding.

MUTANTS: name -> (function in engram_ref, wrong variant, test that must fail, the test's arguments); see mutants.py.
The wrong variants are defined in engram_ref/oracle/wrong/backbone.py and decoding.py.
"""

import numpy as np

from engram_ref.oracle.wrong import backbone as wrong
from engram_ref.oracle.wrong import decoding

ROPE, ATTENTION = "unit.test_rope:test_", "unit.test_attention:test_"
EXPERTS, BRANCHES = "unit.test_experts:test_", "unit.test_branches:test_"
MODEL = "unit.test_transformer:test_logits_match_the_slow_model"
DECODE = "unit.test_decode_state:test_"
CUTS = DECODE + "any_cut_gives_the_logits_of_one_call"
RAGGED = DECODE + "rows_of_different_lengths_are_independent"
FROZEN = "golden.test_hf_frozen:test_frozen_logits_agree"
FROZEN_BRANCHES = "golden.test_hf_frozen:test_frozen_hyper_connections_agree"
PLAIN, ALL = ("hf-v3-plain-wide",), ("hf-v3-q-lora-groups-yarn-wide",)
SMALL, HALVES = ("hf-v3-q-lora-groups-yarn-default",), ("hf-v3-q-lora-groups-yarn-halves-wide",)

FULL = ("full", (2, 7), False)
MLA, MLA_YARN = ("three heads", 5, False), ("query latent and YaRN", 5, False)
CHUNKS, ONE_BY_ONE = ("full", (2, 0, 3, 1, 7), False), ("full", (1,) * 13, False)

ROTATE, FREQUENCIES, EXPANDED = "ops.rope:rotate", "ops.rope:frequencies", "ops.attention:attend_expanded"
ROTATIONS: dict[str, tuple] = {
    "rope-half-split": (ROTATE, wrong.rotated_by_halves, ROPE + "adjacent_channels_are_rotated_not_halves"),
    "rope-half-split, frozen": (ROTATE, wrong.rotated_by_halves, FROZEN, PLAIN),
    "rope-half-split, model": (ROTATE, wrong.rotated_by_halves, MODEL, FULL),
    "rope-backwards": (ROTATE, wrong.rotated_backwards, ROPE + "rotation_matches_complex_numbers", ((2, 5, 6),)),
    "half-split-order-inverted": ("ops.rope:half_split_order", wrong.inverse_order,
                                  ROPE + "reordered_weights_work_with_the_half_split_form", (6,)),
    "half-split-not-read": ("model.hf:from_half_split", lambda original, name, array, config: array, FROZEN, HALVES),
    "yarn-mscale-half": (EXPANDED, wrong.yarn_on_the_rotary_part,
                         ATTENTION + "weights_match_the_slow_version", (False,)),
    "yarn-mscale-half, frozen": (EXPANDED, wrong.yarn_on_the_rotary_part, FROZEN, ALL),
    "yarn-mscale-once": ("ops.rope:softmax_scale", wrong.mscale_not_squared, ROPE + "published_yarn_numbers"),
    "yarn-mscale-once, frozen": ("ops.rope:softmax_scale", wrong.mscale_not_squared, FROZEN, ALL),
    "yarn-ramp-swapped": (FREQUENCIES, wrong.ramp_swapped, ROPE + "the_ramp_lowers_low_frequencies_only"),
    "yarn-ramp-not-rounded": ("ops.rope:yarn_range", wrong.ramp_not_rounded, ROPE + "published_yarn_numbers"),
    "yarn-ramp-not-rounded, frozen": ("ops.rope:yarn_range", wrong.ramp_not_rounded, FROZEN, ALL),
    "yarn-missing": (FREQUENCIES, lambda original, dim, theta, yarn=None: original(dim, theta), FROZEN, ALL),
    "angles-in-float32": ("ops.rope:angles", wrong.angles_in_float32,
                          ROPE + "float32_vectors_are_rotated_by_float64_angles"),
}

LATENTS, VISIBLE, UP = "ops.attention:latents", "ops.attention:visible", "ops.attention:up_projections"
SLOW_MLA, CHUNK = ATTENTION + "mla_matches_the_slow_version", ATTENTION + "a_chunk_attends_to_the_cache_and_itself"
ATTENTIONS: dict[str, tuple] = {
    "kv-split-order": (UP, wrong.keys_then_values, ATTENTION + "each_head_packs_key_rows_before_value_rows"),
    "kv-split-order, frozen": (UP, wrong.keys_then_values, FROZEN, PLAIN),
    "query-rope-part-first": ("ops.attention:queries", wrong.rope_part_first,
                                ATTENTION + "the_unrotated_part_of_a_query_comes_first"),
    "score-scale": (EXPANDED, wrong.scaled_by_the_nope_width, SLOW_MLA, MLA),
    "score-scale, frozen": (EXPANDED, wrong.scaled_by_the_nope_width, FROZEN, PLAIN),
    "score-scale-absorbed": ("ops.attention:attend_absorbed", wrong.scaled_by_the_nope_width, SLOW_MLA,
                             ("three heads", 5, True)),
    "mask-without-start": (VISIBLE, wrong.mask_from_chunk_start, CHUNK, ("three heads", False)),
    "mask-without-start, model": (VISIBLE, wrong.mask_from_chunk_start, CUTS, CHUNKS),
    "mask-of-the-first-row": (VISIBLE, wrong.mask_of_the_first_row, RAGGED, ("plain", 0)),
    "mask-strict": (VISIBLE, wrong.itself_masked, SLOW_MLA, MLA),
    "mask-missing": (VISIBLE, wrong.nothing_masked, ATTENTION + "later_tokens_do_not_change_earlier_outputs"),
    "k-pe-normalised": (LATENTS, wrong.rope_key_normalised,
                        ATTENTION + "the_latent_is_normalised_and_the_key_is_not"),
    "k-pe-normalised, frozen": (LATENTS, wrong.rope_key_normalised, FROZEN, PLAIN),
    "latent-cached-before-its-norm": (LATENTS, wrong.latent_not_normalised,
                                      ATTENTION + "the_latent_is_normalised_and_the_key_is_not"),
    "latent-cached-before-its-norm, model": (LATENTS, wrong.latent_not_normalised, MODEL, FULL),
    "latent-eps-of-the-model": (LATENTS, wrong.latent_eps(1e-20), ATTENTION + "latents_use_latent_norm_eps"),
    "latent-eps-1e-5, frozen": (LATENTS, wrong.latent_eps(1e-5), FROZEN, SMALL),
}

SCALED = wrong.with_shared_weight(lambda config: config.routed_scaling_factor)
SELECT, MOE = "ops.experts:select_experts", "ops.experts:moe"
MIXTURE, FIVE = EXPERTS + "mixture_matches_the_slow_version", ("five experts", (2, 3))
CHOICE = EXPERTS + "selection_matches_the_slow_version_with_ties"
MIXTURES: dict[str, tuple] = {
    "route-biased-weight": ("ops.experts:route", wrong.biased_weights, MIXTURE, FIVE),
    "route-biased-weight, frozen": ("ops.experts:route", wrong.biased_weights, FROZEN, PLAIN),
    "weights-by-subtraction": ("ops.experts:route", wrong.weights_by_subtraction,
                               EXPERTS + "weights_stay_accurate_with_a_large_bias", (12.0, "sigmoid")),
    "weights-without-a-floor": ("ops.experts:expert_weights", wrong.weights_without_a_floor,
                                EXPERTS + "scores_of_zero_give_weights_of_zero", ("sigmoid", np.float64)),
    "group-score-sum2 for V2": (SELECT, wrong.groups_by_best_two,
                                EXPERTS + "group_score_of_v2_is_the_best_expert_score"),
    "softmax-of-the-chosen": ("ops.experts:expert_weights", wrong.normalised_for_all, MIXTURE, ("V2's router", (2, 3))),
    "sigmoid-for-softmax": ("ops.experts:router_scores", lambda original, x, w, form: original(x, w, "sigmoid"),
                            MIXTURE, ("V2's router", (2, 3))),
    "route-bias-missing": (SELECT, wrong.without_bias, EXPERTS + "the_bias_affects_selection_but_not_weights"),
    "group-mask-zero": (SELECT, wrong.masked_with_zero,
                        EXPERTS + "dropped_groups_stay_dropped_when_all_scores_are_negative"),
    "group-mask-zero, frozen": (SELECT, wrong.masked_with_zero, FROZEN, ALL),
    "group-score-max": (SELECT, wrong.groups_by_best_one, EXPERTS + "group_score_is_the_sum_of_the_best_two"),
    "group-score-max, frozen": (SELECT, wrong.groups_by_best_one, FROZEN, ALL),
    "group-score-sum": (SELECT, wrong.groups_by_all, EXPERTS + "group_score_is_the_sum_of_the_best_two"),
    "groups-ignored": (SELECT, wrong.groups_ignored, CHOICE, ("groups of two",)),
    "topk-ties": ("ops.experts:descending", wrong.ties_to_the_highest, EXPERTS + "ties_go_to_the_lowest_index"),
    "shared-scaled": (MOE, SCALED, EXPERTS + "shared_experts_are_neither_weighted_nor_scaled"),
    "shared-scaled, frozen": (MOE, SCALED, FROZEN, PLAIN),
    "shared-missing": (MOE, wrong.with_shared_weight(lambda config: 0.0), MIXTURE, FIVE),
    "weights-not-normalised": ("ops.experts:expert_weights", wrong.not_normalised, MIXTURE, FIVE),
    "weights-normalised-over-all": ("ops.experts:expert_weights", wrong.normalised_over_all, MIXTURE, FIVE),
    "gate-and-up-swapped": ("ops.experts:swiglu", wrong.gate_and_up_swapped, MIXTURE, FIVE),
    "sigmoid-for-softplus": ("ops.experts:router_scores", lambda original, x, w, form: original(x, w, "sigmoid"),
                             MIXTURE, ("V4's scores", (2, 3))),
}

WRITE, SINKHORN, MAPS = "ops.branches:write_branches", "ops.branches:sinkhorn", "ops.branches:branch_maps"
SITE, LONG = BRANCHES + "a_hyper_connection_matches_the_slow_version", BRANCHES + "sinkhorn_matches_decimal_arithmetic"
SHAPE = ((1, 2, 4, 3),)
HYPER: dict[str, tuple] = {
    "mhc-untransposed": (WRITE, wrong.transposed, BRANCHES + "matrix_rows_are_the_written_branches"),
    "mhc-untransposed, frozen": (WRITE, wrong.transposed, FROZEN_BRANCHES),
    "mhc-untransposed, model": (WRITE, wrong.transposed, MODEL, FULL),
    "mhc-not-applied": (WRITE, wrong.not_applied, SITE, SHAPE),
    "mhc-not-applied, frozen": (WRITE, wrong.not_applied, FROZEN_BRANCHES),
    "sinkhorn-10": (SINKHORN, wrong.steps(10), LONG, (4, 4.0, 20)),
    "sinkhorn-19": (SINKHORN, wrong.steps(19), LONG, (4, 4.0, 20)),
    "sinkhorn-10, model": (SINKHORN, wrong.steps(10), MODEL, FULL),
    "sinkhorn-rows-first": (SINKHORN, wrong.rows_first, BRANCHES + "columns_are_normalised_first"),
    "sinkhorn-0/0": (SINKHORN, wrong.one_maximum_for_the_matrix, BRANCHES + "rows_sum_to_one", (128.0, np.float32)),
    "post-mult-1": (MAPS, wrong.post_without_its_two, BRANCHES + "untrained_hyper_connection_maps"),
    "post-mult-1, frozen": (MAPS, wrong.post_without_its_two, FROZEN_BRANCHES),
    "alphas-swapped": (MAPS, wrong.alphas_swapped, SITE, SHAPE),
    "branches-normalised-apart": (MAPS, wrong.normalised_by_branch, SITE, SHAPE),
    "collapse-mean": ("ops.branches:collapse", lambda original, X, form, *rest: original(X, "mean", *rest),
                      BRANCHES + "collapse_matches_the_slow_version", (*SHAPE, "sum")),
    "collapse-sum-for-head": ("ops.branches:collapse", lambda original, X, form, *rest: original(X, "sum", *rest),
                              MODEL, ("learned-collapse", (2, 7), False)),
}

LAST, APPEND, STATE = "ops.caches:last", "ops.caches:append", "model.state:DecodeState."
CACHES = "model.state:Caches.__init__"
ROLLBACK, REORDER = DECODE + "rollback_and_replay_equals_one_call", DECODE + "reorder_moves_every_cache"
DECODING: dict[str, tuple] = {
    "conv-taps-lost-over-a-chunk": (LAST, decoding.conv_taps_lost, CUTS, CHUNKS),
    "conv-taps-lost, one by one": (LAST, decoding.conv_taps_lost, CUTS, ONE_BY_ONE),
    "history-lost-over-a-chunk": (LAST, decoding.history_lost, CUTS, CHUNKS),
    "history-lost, one by one": (LAST, decoding.history_lost, CUTS, ONE_BY_ONE),
    "history-of-zeros": (LAST, decoding.history_of_zeros, MODEL, FULL),
    "rollback-stale-history": (LAST, decoding.stale((2,)), ROLLBACK, ("full", 4)),
    "rollback-stale-taps": (LAST, decoding.stale((4,)), ROLLBACK, ("full", 4)),
    "beam-reorder": (STATE + "reorder", decoding.attention_caches_reordered_only, REORDER, ("full", [0, 2, 1])),
    "beam-reorder, lengths": (STATE + "reorder", decoding.lengths_not_reordered, REORDER, ("plain", [1, 0])),
    "fork-shared": (STATE + "fork", decoding.shared_fork, DECODE + "forks_are_independent", ("plain",)),
    "finished-rows-advance": (STATE + "advance", decoding.all_rows_advanced, DECODE + "a_finished_row_does_not_change"),
    "ragged-rows-of-one-length": (APPEND, decoding.one_length_for_all_rows, RAGGED, ("plain", 0)),
    "shared-caches-written-into": (CACHES, decoding.always_in_place,
                                   DECODE + "snapshots_are_unaffected_by_later_writes", ("fork",)),
    "held-caches-written-into": (CACHES, decoding.always_in_place,
                                 DECODE + "returned_caches_are_not_written_to"),
    "always-copied": (APPEND, decoding.copied, DECODE + "a_step_copies_caches_only_to_double_them"),
    "positions-from-zero": ("ops.caches:positions_after", decoding.positions_from_zero, CUTS,
                            ("plain", (1, 12), False)),
    "rollback-past-the-start": (STATE + "rollback", lambda original, self, tokens: None,
                                DECODE + "a_rollback_past_the_start_raises", (6, "tokens")),
}

STREAMS, SNAPSHOTS = "golden.test_streams:test_numpy_agrees_with_the_stream_cases", "oracle.streams:SnapshotStream."
SINGLE = ("forward_stream/full-one-by-one",)
GOLDEN_STREAMS: dict[str, tuple] = {
    "history-lost-T1": ("addressing:Addressing.rows", decoding.history_lost_for_one_token, STREAMS,
                        ("addressing_stream/demo-like-one-by-one",)),
    "history-lost-T1, model": ("ops.composite:address", decoding.model_history_lost_for_one_token, STREAMS, SINGLE),
    "history-multi-token-reset": ("addressing:Addressing.rows", decoding.history_lost_for_several_tokens, STREAMS,
                                  ("addressing_stream/v4.1-like-reorder",)),
    "taps-ignored-T1": ("ops.conv:short_conv", decoding.taps_ignored_for_one_token, STREAMS,
                        ("engram_stream/qwen-like-one-by-one",)),
    "taps-ignored-T1, model": ("ops.conv:short_conv", decoding.taps_ignored_for_one_token, STREAMS, SINGLE),
    **{f"{step}-ignored, {kind}": (f"{SNAPSHOTS}{step}", decoding.nothing_done, STREAMS,
                                   (f"{kind}_stream/demo-like-{step}",))
       for step in ("rollback", "reorder") for kind in ("addressing", "engram")},
    **{f"{step}-ignored, model": (f"model.state:DecodeState.{step}", decoding.nothing_done, STREAMS,
                                  (f"forward_stream/full-{step}",)) for step in ("rollback", "reorder")},
    **{f"fork-shared, {kind}": (f"{SNAPSHOTS}fork", decoding.shared_fork, STREAMS, (f"{kind}_stream/demo-like-fork",))
       for kind in ("addressing", "engram")},
    "fork-shared, model": ("oracle.streams:ModelStream.fork", decoding.shared_fork, STREAMS,
                           ("forward_stream/full-fork",)),
    "rollback-stale-history, golden": (LAST, decoding.stale((2,)), STREAMS, ("forward_stream/full-drafts",)),
    "rollback-stale-taps, golden": (LAST, decoding.stale((4,)), STREAMS, ("forward_stream/full-rollback",)),
    "beam-reorder, golden": (STATE + "reorder", decoding.attention_caches_reordered_only, STREAMS,
                             ("forward_stream/full-reorder",)),
    "ragged-rows-of-one-length, golden": (APPEND, decoding.one_length_for_all_rows, STREAMS,
                                          ("forward_stream/full-ragged",)),
    "positions-of-row-0, golden": ("ops.caches:positions_after", decoding.positions_of_row_0, STREAMS,
                                   ("forward_stream/plain-drafts",)),
}

FORWARD = "model.transformer:forward"
ANSWERS: dict[str, tuple] = {
    "logits-all-zeros": (FORWARD, decoding.all_zeros, MODEL, FULL),
    "logits-of-the-last-position": (FORWARD, decoding.last_position_everywhere, MODEL, FULL),
    "damage-ignored": ("model.tree:check_converted", decoding.errors_suppressed,
                           "unit.test_transformer:test_parameters_are_checked_first",
                           (lambda p: p.update({"norm.weight": np.full(9, np.nan)}),)),
    "temperature-inverted": ("ops.sampling:sample", decoding.multiplied_by_the_temperature,
                                "unit.test_sampling:test_draws_follow_the_softmax", (0.5,)),
    "rho-of-all-experts": ("model.accounting:allocate", decoding.chosen_experts_not_added,
                           "unit.test_accounting:test_both_budgets_of_the_paper", (106, 46)),
}

MUTANTS = ROTATIONS | ATTENTIONS | MIXTURES | HYPER | DECODING | GOLDEN_STREAMS | ANSWERS
