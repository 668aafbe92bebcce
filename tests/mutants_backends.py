"""Mutants of the Numba backend: wrong variants of the functions that prepare and call its kernels.

MUTANTS: name -> (function in engram_ref, wrong variant, test that must fail, the test's arguments); see mutants.py.
A kernel is replaced by a wrong call of it.
"""

from dataclasses import replace

import numpy as np

from scripts.builders.small_models import EXPERTS


def one_inverse_in_float32(original, primes, offsets, mixes):
    columns = original(primes, offsets, mixes)
    columns.inverses[3] = np.float32(columns.inverses[3])
    return columns


def every_prime_is_fast(original, primes):
    return True


def offsets_of_the_first_half_repeated(original, primes, offsets, mixes):
    columns = original(primes, offsets, mixes)
    columns.offsets[:] = np.resize(columns.offsets[: columns.offsets.size // 2], columns.offsets.size)
    return columns


def history_ignored(original, ids, canonical, history, *others):
    """Ignores the tokens before a thread's chunk: the history is empty."""
    return original(ids, canonical, np.full_like(history, -1), *others)


def copies_the_next_row(original, stored, rows, stream, written, start, stop):
    ahead = np.append(rows[1:], rows[-1:])
    return original(stored, ahead, stream, written, start, stop)


def last_row_omitted(original, stored, rows, stream, written, start, stop):
    return original(stored, rows, stream, written, start, max(start, stop - 1))


def decodes_the_next_row(original, codes, scales, rows, *others):
    return original(codes, scales, np.append(rows[1:], rows[-1:]), *others)


def never_rounded(original, codes, scales, rows, rounded, *others):
    return original(codes, scales, rows, False, *others)


def memory_not_rounded(original, parameters, rows, config, *others, **named):
    return original(parameters, rows, replace(config, rounding="none"), *others, **named)


def eps_inside_the_gates_square(original, alpha, squares, eps):
    return alpha / np.sqrt(np.maximum(alpha * alpha * (squares + eps), 1e-300))      # the gate of DEAD stays 0


def eps_outside_the_root(original, alpha, squares, eps):
    return alpha / (np.sqrt(alpha * alpha * squares) + eps)


def taps_normalised_twice(original, value, alpha, factor, conv, normed_weight, *others):
    return original(value, alpha, factor, conv._replace(weight=normed_weight), normed_weight, *others)


def no_eps(original, dtype, eps):
    return dtype.type(0)


def gain_of_branch_0(original, hidden, key, gain, *others):
    return original(hidden, key, np.broadcast_to(gain[:1], gain.shape), *others)


def weight_of_the_previous_slot(original, output, token, weight, y):
    return original(output, token, np.roll(weight, 1), y)


def chunks_overlap(original, kernel, tokens, moved):
    """Computes the middle token in both halves: harmless if results are written, wrong if they are added."""
    kernel(0, tokens // 2 + 1)
    kernel(tokens // 2, tokens)


def every_position_is_allowed(original, *arguments):
    allowed = arguments[6]
    return original(*arguments[:6], np.ones_like(allowed), *arguments[7:])


def slices_as_if_contiguous(original, x):
    flat, _ = original(x)
    return flat, x[0].size


NUMBA = "backends.numba."
ROWS, TABLES, FLOATS = (f"parity.test_numba_{topic}:test_" for topic in ("rows", "tables", "floats"))
ONE_LAYER, FUSED = ROWS + "rows_of_one_layer_from_canonical_ids", FLOATS + "fused_equals_unfused"
RNG = np.random.default_rng
DEMO_64 = ("demo-like", (2, 7), np.float64)

MUTANTS: dict[str, tuple] = {
    "numba-one-inverse-off": (NUMBA + "hashing:columns_of", one_inverse_in_float32, ONE_LAYER,
                              ("demo", False, RNG(0))),
    "numba-modulus-outside-its-range": (NUMBA + "vectors.modulus:is_fast", every_prime_is_fast,
                                        "parity.test_numba_modulus:test_rows_for_any_primes_and_signs",
                                        ("2^61", RNG(0))),
    "numba-offsets-of-the-first-half": (NUMBA + "hashing:columns_of", offsets_of_the_first_half_repeated, ONE_LAYER,
                                        ("demo", True, RNG(0))),
    "numba-history-forgotten": (NUMBA + "hashing:_rows", history_ignored, ONE_LAYER,
                                ("demo", False, RNG(0))),
    "numba-copies-ahead": (NUMBA + "tables:_copy", copies_the_next_row,
                           TABLES + "gathered_rows_equal_the_definition", (64, RNG(0))),
    "numba-last-row-missing": (NUMBA + "tables:_copy", last_row_omitted,
                               TABLES + "gathered_rows_equal_the_definition", (64, RNG(0))),
    "numba-decodes-ahead": (NUMBA + "tables:_decode", decodes_the_next_row,
                            TABLES + "every_pair_of_code_and_scale", (False,)),
    "numba-not-rounded": (NUMBA + "tables:_decode", never_rounded, TABLES + "every_pair_of_code_and_scale", (True,)),
    "numba-memory-not-rounded": ("backends.numba:gather_decode", memory_not_rounded, TABLES +
                                 "an_fp32_table_is_rounded_if_the_configuration_rounds", (RNG(0),)),
    "numba-eps-inside-the-gates-square": (NUMBA + "conv:branch_factors", eps_inside_the_gates_square, FUSED,
                                          (*DEMO_64, RNG(0))),
    "numba-eps-outside-the-root": (NUMBA + "conv:branch_factors", eps_outside_the_root, FUSED, (*DEMO_64, RNG(0))),
    "numba-taps-normalised-twice": (NUMBA + "conv:_convolve", taps_normalised_twice, FUSED, (*DEMO_64, RNG(0))),
    "numba-no-eps-in-the-gate": (NUMBA + "norm:machine_eps", no_eps, FUSED, (*DEMO_64, RNG(0))),
    "numba-one-gain-for-all-branches": (NUMBA + "gate:score_and_gate", gain_of_branch_0, FUSED,
                                        (*DEMO_64, RNG(0))),
    "numba-weight-of-the-wrong-slot": (NUMBA + "experts:combine", weight_of_the_previous_slot,
                                     FLOATS + "experts_equal_the_definition", (EXPERTS, RNG(0))),
    "numba-attention-without-a-mask": (NUMBA + "attention:_attend", every_position_is_allowed,
                                       "parity.test_numba_attention:test_random_masks", (RNG(0),)),
    "numba-slices-as-contiguous": (NUMBA + "attention:blocks", slices_as_if_contiguous,
                                   "parity.test_numba_attention:test_slices_of_weights_and_caches_give_identical_results",
                                   (RNG(0),)),
    "numba-chunks-overlap": (NUMBA + "_threads:over_tokens", chunks_overlap, FLOATS + "experts_equal_the_definition",
                             (EXPERTS, RNG(0))),
}

NEEDS_THE_JIT = ("numba-one-inverse-off",)
"""Mutants of data that only vector code uses; without the JIT, the plain bodies divide instead."""
