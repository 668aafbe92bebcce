"""Mutants of the integer functions: canonical ids, primes, multipliers, windows, rows and history.

MUTANTS: name -> (function in engram_ref, wrong variant, test that must fail, the test's arguments); see mutants.py.
The wrong variants are defined in engram_ref/oracle/wrong/integers.py.
"""

import numpy as np

from engram_ref.ops.canonical import DEAD, normalise
from engram_ref.oracle.wrong import integers as wrong

PRESETS = "unit.test_addressing:test_presets_against_the_slow_oracle"
DRAWN = "unit.test_hashing:test_generated_multipliers_against_the_slow_oracle"
STREAM = "unit.test_streaming:"
FLAT = "unit.test_addressing:test_published_rows"
CANONICAL = "unit.test_canonical:"
RELEASE = "deepseek-v4.1-flash"
DOCUMENTS = ("qwen4exp-ple", [10, 11, 12, 248_044, 13, 14])
WITH_DEAD = (RELEASE, [10, 11, DEAD, 12, 13, 14])
HASHING, PRIMES, MULTIPLIERS = "ops.hashing:", "ops.primes:", "addressing:_multipliers"
WHOLE_MAP = "unit.test_vocabulary_files:test_our_normaliser_rebuilds_the_v4_map_from_its_file"
ONE_TEXT = CANONICAL + "test_normalise"
SPLITMIX = "unit.test_hashing:test_splitmix_multipliers_against_plain_integers"
ORDERS_SHARE = "unit.test_primes:test_a_prime_of_one_order_is_not_used_by_the_next"
LAYERS_SHARE = "unit.test_primes:test_a_prime_of_one_layer_is_not_used_by_the_next"
DEAD_ROWS = STREAM + "test_dead_rows_against_the_slow_oracle"
CUTS = STREAM + "test_every_cut_gives_the_rows_of_one_call"

IDS_AND_PRIMES = {
    "Mn marks only": ("ops.canonical:normalise", wrong.with_step("strip_accents", wrong.drop_mn), WHOLE_MAP),
    "two key namespaces": ("ops.canonical:canonical_key", wrong.two_namespaces,
                           CANONICAL + "test_both_kinds_of_key_share_one_dictionary"),
    "two key namespaces, whole map": ("ops.canonical:canonical_key", wrong.two_namespaces, WHOLE_MAP),
    "lowercase of the whole string": ("ops.canonical:normalise", wrong.with_step("lowercase", str.lower), ONE_TEXT,
                                      ("\u039f\u03a3", "\u03bf\u03c3")),
    "strip as Python does": ("ops.canonical:normalise", wrong.with_step("strip_ends", wrong.python_strip),
                             ONE_TEXT, ("\x1c", "\x1c")),
    "NFKC of this Python": ("ops.canonical:normalise", wrong.with_step("fold_compatibility", wrong.nfkc_of_python),
                            ONE_TEXT, ("\u32ff", "\u32ff")),
    "marks of this Python": ("ops.canonical:normalise",
                             wrong.with_step("strip_accents", wrong.marks_of_python),
                             ONE_TEXT, ("a\u0898", "a\u0898")),
    "U+E000 kept": ("ops.canonical:normalise", wrong.with_step("strip_ends", wrong.private_use_kept), ONE_TEXT,
                    ("\ue000", " ")),
    "single space stripped": ("ops.canonical:normalise", wrong.with_step("strip_ends", str.strip), WHOLE_MAP),
    "broken UTF-8 normalised": ("ops.canonical:canonical_key", lambda f, text, raw: normalise(text) or text,
                                CANONICAL + "test_key_of_invalid_utf8_is_the_raw_token"),
    "empty key kept": ("ops.canonical:canonical_key", lambda f, text, raw: raw if "\ufffd" in text else normalise(text),
                       CANONICAL + "test_text_that_normalises_to_empty_is_its_own_key"),
    "negative id wraps": ("ops.canonical:canonicalise", lambda f, ids, canonical: canonical[ids],
                          CANONICAL + "test_dead_bypasses_the_map"),
    "raw ids hashed": ("ops.canonical:canonicalise", lambda f, ids, canonical: ids,
                       "unit.test_addressing:test_rows_of_the_demo_module"),
    "any map of the right size": ("text.maps:check_digest", lambda f, *a: None,
                                  "unit.test_vocabulary:test_map_of_the_same_size_with_a_different_digest_raises"),
    "primes not shared over layers": (PRIMES + "table_primes", wrong.not_shared_over_layers, LAYERS_SHARE),
    "primes not shared over layers, rows": (PRIMES + "table_primes", wrong.not_shared_over_layers,
                                            PRESETS, (RELEASE,)),
    "primes not shared over orders": (PRIMES + "table_primes", wrong.not_shared_over_orders, ORDERS_SHARE),
    "primes not shared over orders, rows": (PRIMES + "table_primes", wrong.not_shared_over_orders,
                                            PRESETS, (RELEASE,)),
    "table split over the heads": (PRIMES + "table_primes", wrong.split_over_heads, PRESETS, ("demo",)),
    "primes strictly above the size": (PRIMES + "table_primes", wrong.strictly_above, ORDERS_SHARE),
    "Fermat's test": (PRIMES + "is_prime", wrong.fermat, "unit.test_primes:test_carmichael_numbers_are_composite"),
    "two strong bases": (PRIMES + "is_prime", wrong.two_bases,
                         "unit.test_primes:test_strong_pseudoprimes_are_composite"),
    "offsets inclusive": (PRIMES + "column_offsets", lambda f, primes: np.cumsum(primes, axis=-1), FLAT),
    "offsets missing": (PRIMES + "column_offsets", lambda f, primes: np.zeros_like(primes), FLAT),
}

MULTIPLIERS_AND_WINDOWS = {
    "multiplier order": (MULTIPLIERS, lambda f, *a: f(*a)[::-1], PRESETS, ("demo",)),
    "multipliers oldest first": (HASHING + "mix", wrong.oldest_first, PRESETS, (RELEASE,)),
    "multipliers even": (MULTIPLIERS, lambda f, *a: f(*a) - 1, PRESETS, ("demo",)),
    "layer base off by one": (MULTIPLIERS, wrong.layer_plus_one, DRAWN, ("demo",)),
    "drawn for the raw vocabulary's size": (MULTIPLIERS, wrong.for_raw_size, DRAWN, ("demo",)),
    "seeded with the layer, not the ordinal": (MULTIPLIERS, wrong.layer_as_ordinal, DRAWN, ("qwen4exp-ple",)),
    "splitmix with one increment only": (HASHING + "splitmix64", wrong.one_increment_too_few, SPLITMIX, (1234, 0)),
    "splitmix signed": (HASHING + "splitmix64", wrong.signed, SPLITMIX, (1234, 14)),
    "window end": (HASHING + "mix", wrong.window_late, PRESETS, ("demo",)),
    "window oldest first": (HASHING + "windows", lambda f, *a: f(*a)[..., ::-1], PRESETS, ("demo",)),
    "raw pad": ("ops.composite:address", wrong.raw_pad,
                "unit.test_addressing:test_windows_are_padded_with_the_canonical_pad_id"),
    "zero pad": (HASHING + "windows", wrong.filled_with_zero, PRESETS, ("demo",)),
    "latch missing": (HASHING + "windows", wrong.no_latch, DEAD_ROWS),
    "latch missing, facts": (HASHING + "windows", wrong.no_latch, STREAM + "test_text_after_dead_starts_a_new_window"),
    "DEAD masked by position only": (HASHING + "windows", wrong.dead_by_position, DEAD_ROWS),
    "reset dropped": (HASHING + "windows", wrong.never_reset, STREAM + "test_text_after_eos_starts_a_new_window"),
    "reset at the EOS itself": (HASHING + "windows", wrong.eos_hides_itself,
                                STREAM + "test_the_window_of_eos_contains_its_own_document"),
    "padded instead of EOS": (HASHING + "windows", wrong.always_padded, "unit.test_hashing:test_windows",
                               ([7, 8], [3, 1, 5], 1, [[7, 5, 1, 1], [8, 7, 5, 1]])),
    "reset without EOS": (HASHING + "windows", wrong.always_reset,
                                  STREAM + "test_the_release_has_no_document_boundaries"),
}

ROWS_AND_HISTORY = {
    "products summed": (HASHING + "mix", wrong.summed, PRESETS, ("demo",)),
    "polynomial hash": (HASHING + "mix", wrong.polynomial, PRESETS, ("qwen4exp-ple",)),
    "products through float64": (HASHING + "mix", wrong.mixed_in_float64, PRESETS, ("demo",)),
    "products through float64, one mix": (HASHING + "mix", wrong.mixed_in_float64,
                                          "unit.test_hashing:test_mix_keeps_every_bit_of_a_product"),
    "mix through float64": (HASHING + "table_rows", wrong.rounded_mix, PRESETS, ("demo",)),
    "modulus truncates": (HASHING + "table_rows", wrong.truncated,
                          "unit.test_addressing:test_products_that_wrap_give_rows_in_range"),
    "columns head-major": (HASHING + "table_rows", wrong.head_major, PRESETS, ("demo",)),
    "one prime for all heads": (HASHING + "table_rows", wrong.one_prime, PRESETS, ("demo",)),
    "row in 32 bits": ("ops.composite:address", wrong.in_32_bits, "unit.test_addressing:test_rows_past_two_to_the_31"),
    "DEAD stored as pad": (HASHING + "next_history", wrong.dead_as_pad, STREAM + "test_history_keeps_dead_marks"),
    "DEAD stored as pad, every cut": (HASHING + "next_history", wrong.dead_as_pad, CUTS, WITH_DEAD),
    "history not carried": (HASHING + "next_history", wrong.forgotten, CUTS, DOCUMENTS),
    "history of the last chunk only": (HASHING + "next_history", wrong.last_chunk_only, CUTS,
                                       (RELEASE, [10, 11, 12, 13])),
    "history newest first": (HASHING + "next_history", lambda f, *a: f(*a)[:, ::-1],
                             "unit.test_addressing:test_published_decode_step_by_advancing"),
    "history overwritten": (HASHING + "next_history", wrong.in_place, STREAM + "test_rollback_and_replay"),
}

MUTANTS: dict[str, tuple] = IDS_AND_PRIMES | MULTIPLIERS_AND_WINDOWS | ROWS_AND_HISTORY
