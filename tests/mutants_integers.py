"""Mutants of the integer functions: canonical ids, primes, multipliers, windows, rows and history.

BUGS: name of a bug in engram_ref.oracle.bugs -> (its target, test that must fail, the test's arguments).
MUTANTS: name -> (function in engram_ref, wrong variant, test that must fail, the test's arguments); see mutants.py.
"""

from engram_ref.ops.canonical import DEAD
from tests.catalogue import port_bugs

PRESETS = "unit.test_addressing:test_presets_against_the_slow_oracle"
DRAWN = "unit.test_hashing:test_generated_multipliers_against_the_slow_oracle"
STREAM = "unit.test_streaming:"
FLAT = "unit.test_addressing:test_published_rows"
CANONICAL = "unit.test_canonical:"
RELEASE = "deepseek-v4.1-flash"
DOCUMENTS = ("qwen4exp-ple", [10, 11, 12, 248_044, 13, 14])
WITH_DEAD = (RELEASE, [10, 11, DEAD, 12, 13, 14])
WHOLE_MAP = "unit.test_vocabulary_files:test_our_normaliser_rebuilds_the_v4_map_from_its_file"
ONE_TEXT = CANONICAL + "test_normalise"
PCG64 = "unit.test_hashing:test_pcg_multipliers_against_plain_integers"
SPLITMIX = "unit.test_hashing:test_splitmix_multipliers_against_plain_integers"
ORDERS_SHARE = "unit.test_primes:test_a_prime_of_one_order_is_not_used_by_the_next"
LAYERS_SHARE = "unit.test_primes:test_a_prime_of_one_layer_is_not_used_by_the_next"
DEAD_ROWS = STREAM + "test_dead_rows_against_the_slow_oracle"
CUTS = STREAM + "test_every_cut_gives_the_rows_of_one_call"
WRAPPED = "unit.test_addressing:test_products_that_wrap_give_rows_in_range"

IDS_AND_PRIMES = {
    "naive-normaliser": ("normalise", WHOLE_MAP),
    "two-namespaces": ("canonical_map", CANONICAL + "test_both_kinds_of_key_share_one_dictionary"),
    "lowercase-whole-string": ("normalise", ONE_TEXT, ("\u039f\u03a3", "\u03bf\u03c3")),
    "strip-separators": ("normalise", ONE_TEXT, ("\x1c", "\x1c")),
    "unicode-of-the-platform": ("normalise", ONE_TEXT, ("\u32ff", "\u32ff")),
    "unicode-of-the-platform, marks": ("normalise", ONE_TEXT, ("a\u0898", "a\u0898")),
    "private-use-kept": ("normalise", ONE_TEXT, ("\ue000", " ")),
    "lone-space-stripped": ("normalise", WHOLE_MAP),
    "broken-utf8-normalised": ("canonical_key", CANONICAL + "test_key_of_invalid_utf8_is_the_raw_token"),
    "empty-key-kept": ("canonical_key", CANONICAL + "test_text_that_normalises_to_empty_is_its_own_key"),
    "negative-id-wraps": ("canonicalise", CANONICAL + "test_dead_bypasses_the_map"),
    "id-clamped": ("canonicalise", CANONICAL + "test_dead_bypasses_the_map"),
    "map-built-not-applied": ("canonicalise", "unit.test_addressing:test_rows_of_the_demo_module"),
    "primes-per-layer-alone": ("table_primes", LAYERS_SHARE),
    "primes-per-layer-alone, rows": ("table_primes", PRESETS, (RELEASE,)),
    "prime-reuse": ("table_primes", ORDERS_SHARE),
    "prime-reuse, rows": ("table_primes", PRESETS, (RELEASE,)),
    "table-split": ("table_primes", PRESETS, ("demo",)),
    "prime-strictly-above": ("table_primes", ORDERS_SHARE),
    "prime-fermat": ("is_prime", "unit.test_primes:test_carmichael_numbers_are_composite"),
    "prime-two-bases": ("is_prime", "unit.test_primes:test_strong_pseudoprimes_are_composite"),
    "offset-inclusive, rows": ("column_offsets", FLAT),
    "offset-missing, rows": ("column_offsets", FLAT),
}

MULTIPLIERS_AND_WINDOWS = {
    "multipliers-reversed": ("pcg64_multipliers", PCG64, (1, 0)),
    "multipliers-oldest-first": ("mix", PRESETS, (RELEASE,)),
    "multipliers-even": ("pcg64_multipliers", PCG64, (1, 0)),
    "multipliers-int32": ("pcg64_multipliers", PCG64, (1, 0)),
    "layer-base": ("pcg64_multipliers", PCG64, (1, 0)),
    "multipliers-for-raw-size": ("pcg64_multipliers", PCG64, (1, 0)),
    "seed-by-layer-id": ("addressing.__init__", DRAWN, ("qwen4exp-ple",)),
    "seed-by-ordinal": ("addressing.__init__", DRAWN, (RELEASE,)),
    "splitmix-one-increment-less": ("splitmix64_multipliers", SPLITMIX, (1234, 0)),
    "splitmix-signed": ("splitmix64_multipliers", SPLITMIX, (1234, 14)),
    "window-late": ("mix", PRESETS, ("demo",)),
    "window-oldest-first": ("windows", PRESETS, ("demo",)),
    "pad-raw": ("addressing.__init__", "unit.test_addressing:test_windows_are_padded_with_the_canonical_pad_id"),
    "pad-zero": ("windows", PRESETS, ("demo",)),
    "dead-no-latch": ("windows", DEAD_ROWS),
    "dead-no-latch, facts": ("windows", STREAM + "test_text_after_dead_starts_a_new_window"),
    "dead-by-position": ("windows", DEAD_ROWS),
    "no-dead-barrier": ("windows", DEAD_ROWS),
    "no-eos-reset-in-qwen": ("windows", STREAM + "test_text_after_eos_starts_a_new_window"),
    "eos-hides-itself": ("windows", STREAM + "test_the_window_of_eos_contains_its_own_document"),
    "pad-in-qwen": ("windows", "unit.test_hashing:test_windows", ([7, 8], [3, 1, 5], 1, [[7, 5, 1, 1], [8, 7, 5, 1]])),
    "eos-reset-in-v41": ("windows", STREAM + "test_the_release_has_no_document_boundaries"),
}

ROWS_AND_HISTORY = {
    "products-summed": ("mix", PRESETS, ("demo",)),
    "qwen-as-longcat": ("mix", PRESETS, ("qwen4exp-ple",)),
    "products-in-float64": ("mix", PRESETS, ("demo",)),
    "products-in-float64, one mix": ("mix", "unit.test_hashing:test_mix_keeps_every_bit_of_a_product"),
    "products-in-32-bits": ("mix", "unit.test_hashing:test_mix_keeps_every_bit_of_a_product"),
    "mix-in-float64": ("table_rows", PRESETS, ("demo",)),
    "trunc-mod": ("table_rows", WRAPPED),
    "unsigned-mod": ("table_rows", WRAPPED),
    "abs-mod": ("table_rows", WRAPPED),
    "column-order": ("table_rows", PRESETS, ("demo",)),
    "one-prime-per-layer": ("table_rows", PRESETS, ("demo",)),
    "int32-row": ("address", "unit.test_addressing:test_rows_past_two_to_the_31"),
    "dead-as-pad-history": ("next_history", STREAM + "test_history_keeps_dead_marks"),
    "dead-as-pad-history, every cut": ("next_history", CUTS, WITH_DEAD),
    "chunk-amnesia": ("next_history", CUTS, DOCUMENTS),
    "history-of-last-chunk": ("next_history", CUTS, (RELEASE, [10, 11, 12, 13])),
    "history-newest-first": ("next_history", "unit.test_addressing:test_published_decode_step_by_advancing"),
}

BUGS: dict[str, tuple] = IDS_AND_PRIMES | MULTIPLIERS_AND_WINDOWS | ROWS_AND_HISTORY


def in_place(original, history, ids):
    """Overwrites the caller's history."""
    history[:] = original(history, ids)
    return history


MUTANTS: dict[str, tuple] = port_bugs(BUGS) | {
    "any map of the right size": ("text.maps:check_digest", lambda f, *a: None,
                                  "unit.test_vocabulary:test_map_of_the_same_size_with_a_different_digest_raises"),
    "history overwritten": ("ops.hashing:next_history", in_place, STREAM + "test_rollback_and_replay"),
}
