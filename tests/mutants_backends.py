"""The mutants of the Numba backend: wrong variants of what stands between its kernels.

MUTANTS: name -> (function below engram_ref, wrong variant, test below tests, the test's arguments).
tests/mutants.py replaces the function and expects the test to fail. A kernel is replaced by a wrong call of it.
"""

from dataclasses import replace

import numpy as np

from engram_ref.oracle.small_models import EXPERTS


def one_inverse_is_rounded_to_float32(original, primes, offsets, lines):
    columns = original(primes, offsets, lines)
    columns.inverses[3] = np.float32(columns.inverses[3])
    return columns


def any_prime_is_fast(original, primes):
    return True


def one_line_of_offsets_for_all_layers(original, primes, offsets, lines):
    columns = original(primes, offsets, lines)
    columns.offsets[:] = np.resize(columns.offsets[: columns.offsets.size // 2], columns.offsets.size)
    return columns


def the_window_starts_at_the_piece(original, ids, canonical, history, *others):
    """What stands before a thread's piece is forgotten: the history shows nothing."""
    return original(ids, canonical, np.full_like(history, -1), *others)


def copies_the_row_asked_for_ahead(original, stored, rows, stream, written, start, stop):
    ahead = np.append(rows[1:], rows[-1:])
    return original(stored, ahead, stream, written, start, stop)


def the_last_row_is_left_out(original, stored, rows, stream, written, start, stop):
    return original(stored, rows, stream, written, start, max(start, stop - 1))


def decodes_the_row_asked_for_ahead(original, codes, scales, rows, *others):
    return original(codes, scales, np.append(rows[1:], rows[-1:]), *others)


def never_rounded(original, codes, scales, rows, rounded, *others):
    return original(codes, scales, rows, False, *others)


def memory_not_rounded(original, parameters, rows, config, *others, **named):
    return original(parameters, rows, replace(config, rounding="none"), *others, **named)


def eps_inside_the_gates_square(original, alpha, squares, eps):
    return alpha / np.sqrt(np.maximum(alpha * alpha * (squares + eps), 1e-300))      # a dead gate stays 0


def eps_outside_the_root(original, alpha, squares, eps):
    return alpha / (np.sqrt(alpha * alpha * squares) + eps)


def taps_normed_again(original, value, alpha, factor, conv, normed_weight, *others):
    return original(value, alpha, factor, conv._replace(weight=normed_weight), normed_weight, *others)


def no_eps(original, dtype, eps):
    return dtype.type(0)


def gain_of_one_branch_for_all(original, hidden, key, gain, *others):
    return original(hidden, key, np.broadcast_to(gain[:1], gain.shape), *others)


def share_of_the_slot_before(original, answer, token, share, y):
    return original(answer, token, np.roll(share, 1), y)


def pieces_overlap(original, kernel, tokens, moved):
    """Both halves compute the middle token: harmless where results are written, wrong where they are added."""
    kernel(0, tokens // 2 + 1)
    kernel(tokens // 2, tokens)


NUMBA = "backends.numba."
ROWS, TABLES, FLOATS = (f"parity.test_numba_{what}:test_" for what in ("rows", "tables", "floats"))
ONE_LAYER, FUSED = ROWS + "one_layer_from_canonical_ids", FLOATS + "fused_is_unfused"
RNG = np.random.default_rng
DEMO_64 = ("demo-like", (2, 7), np.float64)

MUTANTS: dict[str, tuple] = {
    "numba-one-inverse-off": (NUMBA + "hashing:columns_of", one_inverse_is_rounded_to_float32, ONE_LAYER,
                              ("demo", False, RNG(0))),
    "numba-modulus-outside-its-range": (NUMBA + "vectors.modulus:is_fast", any_prime_is_fast,
                                        "parity.test_numba_modulus:test_rows_by_any_primes_and_any_sign",
                                        ("2^61", RNG(0))),
    "numba-offsets-of-the-first-half": (NUMBA + "hashing:columns_of", one_line_of_offsets_for_all_layers, ONE_LAYER,
                                        ("demo", True, RNG(0))),
    "numba-history-forgotten": (NUMBA + "hashing:_rows", the_window_starts_at_the_piece, ONE_LAYER,
                                ("demo", False, RNG(0))),
    "numba-copies-ahead": (NUMBA + "tables:_copy", copies_the_row_asked_for_ahead,
                           TABLES + "gathered_rows_are_the_rows_as_cached", (64, RNG(0))),
    "numba-last-row-missing": (NUMBA + "tables:_copy", the_last_row_is_left_out,
                               TABLES + "gathered_rows_are_the_rows_as_cached", (64, RNG(0))),
    "numba-decodes-ahead": (NUMBA + "tables:_decode", decodes_the_row_asked_for_ahead,
                            TABLES + "every_pair_of_code_and_scale", (False,)),
    "numba-not-rounded": (NUMBA + "tables:_decode", never_rounded, TABLES + "every_pair_of_code_and_scale", (True,)),
    "numba-memory-not-rounded": ("backends.numba:gather_decode", memory_not_rounded, TABLES +
                                 "a_table_of_plain_numbers_is_rounded_if_the_configuration_rounds", (RNG(0),)),
    "numba-eps-inside-the-gates-square": (NUMBA + "conv:branch_factors", eps_inside_the_gates_square, FUSED,
                                          (*DEMO_64, RNG(0))),
    "numba-eps-outside-the-root": (NUMBA + "conv:branch_factors", eps_outside_the_root, FUSED, (*DEMO_64, RNG(0))),
    "numba-taps-normed-again": (NUMBA + "conv:_convolve", taps_normed_again, FUSED, (*DEMO_64, RNG(0))),
    "numba-no-eps-in-the-gate": (NUMBA + "norm:machine_eps", no_eps, FUSED, (*DEMO_64, RNG(0))),
    "numba-one-gain-for-all-branches": (NUMBA + "gate:score_and_gate", gain_of_one_branch_for_all, FUSED,
                                        (*DEMO_64, RNG(0))),
    "numba-share-of-another-slot": (NUMBA + "experts:combine", share_of_the_slot_before,
                                    FLOATS + "experts_are_the_definitions", (EXPERTS, RNG(0))),
    "numba-pieces-overlap": (NUMBA + "_threads:over_tokens", pieces_overlap, FLOATS + "experts_are_the_definitions",
                             (EXPERTS, RNG(0))),
}

NEEDS_THE_JIT = ("numba-one-inverse-off",)
"""Mutants of what only vector code uses: the plain bodies divide."""
