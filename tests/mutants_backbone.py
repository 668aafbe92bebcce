"""Mutants of the backbone: rotation, attention, experts, hyper-connections, decoding.

BUGS: name of a bug in engram_ref.oracle.bugs -> (its target, test that must fail, the test's arguments).
MUTANTS: name -> (function in engram_ref, wrong variant, test that must fail, the test's arguments); see mutants.py.
"""

from contextlib import suppress

import numpy as np

from engram_ref.ops.caches import append, place
from tests.catalogue import port_bugs

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

EXPANDED = "attend_expanded"
ROTATIONS: dict[str, tuple] = {
    "rope-half-split": ("rotate", ROPE + "adjacent_channels_are_rotated_not_halves"),
    "rope-half-split, frozen": ("rotate", FROZEN, PLAIN),
    "rope-half-split, model": ("rotate", MODEL, FULL),
    "rope-backwards": ("rotate", ROPE + "rotation_matches_complex_numbers", ((2, 5, 6),)),
    "yarn-mscale-half": (EXPANDED, ATTENTION + "weights_match_the_slow_version", (False,)),
    "yarn-mscale-half, frozen": (EXPANDED, FROZEN, ALL),
    "yarn-mscale-once": ("softmax_scale", ROPE + "published_yarn_numbers"),
    "yarn-mscale-once, frozen": (EXPANDED, FROZEN, ALL),
    "yarn-m2-missing": ("softmax_scale", ROPE + "published_yarn_numbers"),
    "yarn-m2-missing, frozen": (EXPANDED, FROZEN, ALL),
    "yarn-ramp-swapped": ("frequencies", ROPE + "the_ramp_lowers_low_frequencies_only"),
    "yarn-ramp-not-rounded, frozen": ("frequencies", FROZEN, ALL),
    "yarn-missing": ("frequencies", FROZEN, ALL),
    "angles-in-float32": ("angles", MODEL, FULL),
}

SLOW_MLA, CHUNK = ATTENTION + "mla_matches_the_slow_version", ATTENTION + "a_chunk_attends_to_the_cache_and_itself"
ATTENTIONS: dict[str, tuple] = {
    "kv-split-order": ("up_projections", ATTENTION + "each_head_packs_key_rows_before_value_rows"),
    "kv-split-order, frozen": ("up_projections", FROZEN, PLAIN),
    "query-rope-first": ("queries", ATTENTION + "the_unrotated_part_of_a_query_comes_first"),
    "score-scale-nope": (EXPANDED, SLOW_MLA, MLA),
    "score-scale-nope, frozen": (EXPANDED, FROZEN, PLAIN),
    "score-scale-nope, absorbed": ("attend_absorbed", SLOW_MLA, ("three heads", 5, True)),
    "mask-from-chunk": ("visible", CHUNK, ("three heads", False)),
    "mask-from-chunk, model": ("visible", CUTS, CHUNKS),
    "mask-of-row-0": ("visible", RAGGED, ("plain", 0)),
    "mask-strict": ("visible", SLOW_MLA, MLA),
    "mask-missing": ("visible", ATTENTION + "later_tokens_do_not_change_earlier_outputs"),
    "k-pe-normalised": ("latents", ATTENTION + "the_latent_is_normalised_and_the_key_is_not"),
    "k-pe-normalised, frozen": ("latents", FROZEN, PLAIN),
    "latent-not-normalised": ("latents", ATTENTION + "the_latent_is_normalised_and_the_key_is_not"),
    "latent-not-normalised, model": ("latents", MODEL, FULL),
    "eps-1e-5, frozen": ("inverse_rms", FROZEN, SMALL),
}

MIXTURE, FIVE = EXPERTS + "mixture_matches_the_slow_version", ("five experts", (2, 3))
SELECT, CHOICE = "select_experts", EXPERTS + "selection_matches_the_slow_version_with_ties"
BEST_TWO = EXPERTS + "group_score_is_the_sum_of_the_best_two"
MIXTURES: dict[str, tuple] = {
    "route-biased-weight": ("route", MIXTURE, FIVE),
    "route-biased-weight, frozen": ("route", FROZEN, PLAIN),
    "weights-by-subtraction": ("route", EXPERTS + "weights_stay_accurate_with_a_large_bias", (12.0, "sigmoid")),
    "weights-without-floor": ("expert_weights", EXPERTS + "scores_of_zero_give_weights_of_zero",
                              ("sigmoid", np.float64)),
    "group-score-sum2": (SELECT, EXPERTS + "group_score_of_v2_is_the_best_expert_score"),
    "norm-topk-always": ("expert_weights", MIXTURE, ("V2's router", (2, 3))),
    "sigmoid-for-softmax": ("router_scores", MIXTURE, ("V2's router", (2, 3))),
    "sigmoid-for-softplus": ("router_scores", MIXTURE, ("V4's scores", (2, 3))),
    "route-bias-missing": (SELECT, EXPERTS + "the_bias_affects_selection_but_not_weights"),
    "group-mask-zero": (SELECT, EXPERTS + "dropped_groups_stay_dropped_when_all_scores_are_negative"),
    "group-mask-zero, frozen": (SELECT, FROZEN, ALL),
    "group-score-max": (SELECT, BEST_TWO),
    "group-score-max, frozen": (SELECT, FROZEN, ALL),
    "group-score-sum": (SELECT, BEST_TWO),
    "groups-ignored": (SELECT, CHOICE, ("groups of two",)),
    "topk-ties": (SELECT, EXPERTS + "ties_go_to_the_lowest_index"),
    "shared-scaled": ("moe", EXPERTS + "shared_experts_are_neither_weighted_nor_scaled"),
    "shared-scaled, frozen": ("moe", FROZEN, PLAIN),
    "shared-missing": ("moe", MIXTURE, FIVE),
    "norm-topk-ignored": ("expert_weights", MIXTURE, FIVE),
    "weights-over-all-experts": ("expert_weights", MIXTURE, FIVE),
    "gate-and-up-swapped": ("swiglu", MIXTURE, FIVE),
}

SITE, LONG = BRANCHES + "a_hyper_connection_matches_the_slow_version", BRANCHES + "sinkhorn_matches_decimal_arithmetic"
SHAPE = ((1, 2, 4, 3),)
HYPER: dict[str, tuple] = {
    "mhc-untransposed": ("write_branches", BRANCHES + "matrix_rows_are_the_written_branches"),
    "mhc-untransposed, frozen": ("write_branches", FROZEN_BRANCHES),
    "mhc-untransposed, model": ("write_branches", MODEL, FULL),
    "mhc-not-applied": ("write_branches", SITE, SHAPE),
    "mhc-not-applied, frozen": ("write_branches", FROZEN_BRANCHES),
    "sinkhorn-10": ("sinkhorn", LONG, (4, 4.0, 20)),
    "sinkhorn-10, model": ("sinkhorn", MODEL, FULL),
    "sinkhorn-rows-first": ("sinkhorn", BRANCHES + "columns_are_normalised_first"),
    "sinkhorn-clamp": ("sinkhorn", BRANCHES + "rows_sum_to_one", (128.0, np.float32)),
    "sinkhorn-overflow": ("sinkhorn", BRANCHES + "rows_sum_to_one", (128.0, np.float32)),
    "post-mult-1": ("branch_maps", BRANCHES + "untrained_hyper_connection_maps"),
    "post-mult-1, frozen": ("branch_maps", FROZEN_BRANCHES),
    "alphas-swapped": ("branch_maps", SITE, SHAPE),
    "branches-normalised-apart": ("branch_maps", SITE, SHAPE),
    "collapse-mean": ("collapse", BRANCHES + "collapse_matches_the_slow_version", (*SHAPE, "sum")),
    "collapse-sum-for-head": ("collapse", MODEL, ("learned-collapse", (2, 7), False)),
}

ROLLBACK, REORDER = DECODE + "rollback_and_replay_equals_one_call", DECODE + "reorder_moves_every_cache"
DECODING: dict[str, tuple] = {
    "conv-state-lost, model": ("last", CUTS, CHUNKS),
    "conv-state-lost, one by one": ("last", CUTS, ONE_BY_ONE),
    "chunk-amnesia, model": ("last", CUTS, CHUNKS),
    "chunk-amnesia, one by one": ("last", CUTS, ONE_BY_ONE),
    "history-of-zeros": ("last", MODEL, FULL),
    "rollback-stale": ("last", ROLLBACK, ("full", 4)),
    "drafts-in-conv-state": ("last", ROLLBACK, ("full", 4)),
    "beam-reorder": ("model.reorder", REORDER, ("full", [0, 2, 1])),
    "beam-reorder-taps": ("model.reorder", REORDER, ("full", [0, 2, 1])),
    "reorder-keeps-lengths": ("model.reorder", REORDER, ("plain", [1, 0])),
    "prefix-hit-empty": ("model.fork", DECODE + "forks_are_independent", ("full",)),
    "one-length-for-all-rows": ("append", RAGGED, ("plain", 0)),
    "positions-from-zero": ("positions_after", CUTS, ("plain", (1, 12), False)),
    "positions-of-row-0": ("positions_after", RAGGED, ("plain", 0)),
    "rope-row0-position": ("angles", RAGGED, ("plain", 0)),
}

BUGS: dict[str, tuple] = ROTATIONS | ATTENTIONS | MIXTURES | HYPER | DECODING


def all_rows_advanced(original, self, counts):
    original(self, np.full_like(counts, counts.max(initial=0)))


def always_in_place(original, self, state, *others):
    """Writes into the state's arrays even if they are shared."""
    original(self, state, *others)
    if state is not None:
        self.in_place, self.place, self.arrays = True, append, dict(state._arrays)


def errors_suppressed(original, parameters, config, *others):
    with suppress(ValueError):
        original(parameters, config, *others)


def all_zeros(original, *arguments, **named):
    return np.zeros_like(original(*arguments, **named))


def last_position_everywhere(original, *arguments, **named):
    logits = original(*arguments, **named)
    return np.broadcast_to(logits[..., -1:, :], logits.shape)


def ramp_not_rounded(original, dim, theta, yarn):
    low, high = (dim * np.log(yarn.original_length / (2 * np.pi * beta)) / (2 * np.log(theta))
                 for beta in (yarn.beta_fast, yarn.beta_slow))
    return max(low, 0), min(high, dim - 1)


STATE, CACHES, FORWARD = "model.state:DecodeState.", "model.state:Caches.__init__", "model.transformer:forward"
MUTANTS: dict[str, tuple] = port_bugs(BUGS) | {
    "half-split order inverted": ("ops.rope:half_split_order", lambda original, dim: np.argsort(original(dim)),
                                  ROPE + "reordered_weights_work_with_the_half_split_form", (6,)),
    "half-split not read": ("model.hf:from_half_split", lambda original, name, array, config: array, FROZEN, HALVES),
    "ramp not rounded": ("ops.rope:yarn_range", ramp_not_rounded, ROPE + "published_yarn_numbers"),
    "fork shared": (STATE + "fork", lambda original, self: self, DECODE + "forks_are_independent", ("plain",)),
    "finished rows advance": (STATE + "advance", all_rows_advanced, DECODE + "a_finished_row_does_not_change"),
    "shared caches written into": (CACHES, always_in_place, DECODE + "snapshots_are_unaffected_by_later_writes",
                                   ("fork",)),
    "held caches written into": (CACHES, always_in_place, DECODE + "returned_caches_are_not_written_to"),
    "always copied": ("ops.caches:append", lambda original, cache, new, lengths: place(cache, new, lengths),
                      DECODE + "a_step_copies_caches_only_to_double_them"),
    "rollback past the start": (STATE + "rollback", lambda original, self, tokens: None,
                                DECODE + "a_rollback_past_the_start_raises", (6, "tokens")),
    "logits all zeros": (FORWARD, all_zeros, MODEL, FULL),
    "logits of the last position": (FORWARD, last_position_everywhere, MODEL, FULL),
    "damage ignored": ("model.tree:check_converted", errors_suppressed,
                       "unit.test_transformer:test_parameters_are_checked_first",
                       (lambda p: p.update({"norm.weight": np.full(9, np.nan)}),)),
    "temperature inverted": ("ops.sampling:sample", lambda original, logits, temperature, rng: original(
        logits, temperature and 1 / temperature, rng), "unit.test_sampling:test_draws_follow_the_softmax", (0.5,)),
    "rho of all experts": ("model.accounting:allocate", lambda original, total, active, rho, expert, top_k, engram:
                           original(total, active, rho, expert, 0, engram),
                           "unit.test_accounting:test_both_budgets_of_the_paper", (106, 46)),
}
