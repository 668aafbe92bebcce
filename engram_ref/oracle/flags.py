"""Flags: what a case contains, and the bugs that its failure suggests, as in the Wycheproof vectors."""

FLAGS: dict[str, str] = {
    "empty": "no tokens, or an empty batch: a shape that the code does not handle",
    "one-token": "a single token, as in decoding: state that is not read, or not stored, for one token",
    "short": "fewer tokens than the window or the convolution spans: reads before the start, or a wrong fill there",
    "odd-width": "a width that is not a multiple of 8: a vectorised loop without a tail",
    "batch": "rows of a batch that differ: rows mixed up, or state shared between them",
    "history": "starts from a history: the wrong end of it is read, or pads are read instead",
    "chunked": "one text in several calls: state lost between calls, or stored twice",
    "prefix": "continues after tokens that were processed elsewhere: a history that is empty, or built from pads",
    "microbatches": "parts of a batch in separate calls: a row reads the state at its place in the call, not its own",
    "ragged": "rows of different lengths in one batch: one row's length used for all, or padding stored in the state",
    "rollback": "rejected tokens: history, taps, caches or positions that are not rolled back with the others",
    "fork": "a copy of a state continues independently: a buffer shared by both",
    "reorder": "rows of a batch change places: history, taps or a cache that does not move with its row",
    "out-of-range": "an id or a row that does not exist and must be refused: clamped, counted from the end, or read",
    "dead": "a DEAD position hides itself and all older tokens, even in its own window, and its gate is exactly 0: "
            "only its own token hidden, only its own window hidden, or its mark stored in the history as a pad",
    "eos": "at an EOS the window still contains it and its document; at later positions the EOS and all older tokens "
           "are hidden and read as the EOS id: an EOS that hides itself, or that hides nothing",
    "negative-mix": "a product that wraps below zero: unsigned arithmetic, or a remainder with the sign of C",
    "flat": "column offsets: added twice, not at all, or each with its own column's size included",
    "minus-zero": "-0.0, whose sign copysign keeps: sign(), or a comparison with 0",
    "clamp": "a score near 1e-6, the clamp of the root: no clamp, or a clamp in the wrong place",
    "eps": "a vector so short that eps dominates, or another result that depends on eps: eps outside the root, or a "
           "different value",
    "unequal-branches": "branches of different size: one norm over all branches",
    "saturated": "large values: an exp that overflows",
    "ties": "equal scores, of which the lowest index comes first: a selection without an order",
    "bias": "a balancing bias that affects which experts are chosen: also used in their weights, or not used at all",
    "faint-scores": "scores far below the bias, or all 0: computed as (score + bias) - bias, or as 0 divided by 0",
    "groups": "experts chosen only within the best groups: groups ranked by the best expert instead of the best two, "
              "or the reverse, or other groups masked with 0",
    "subnormal": "subnormal numbers: flushed to zero",
    "rounding": "rounded once, ties to even: rounded twice, cut off, or ties away from zero",
    "floor": "the largest magnitude of a block counts as at least 1e-4: no floor, or a different one",
    "nan": "codes for NaN: decoded as numbers",
    "all-codes": "every code of a number format: a wrong bias, wrong subnormals, or a code of another format",
    "dialect": "one dialect's choice of vocabulary, hash, gate, norm, codec or convolution: the choice of another",
    "positions": "RoPE, in which channels 2i and 2i + 1 form a pair: other pairs, or positions that restart after a "
                 "cache",
    "yarn": "YaRN: slow pairs not interpolated, or a softmax scale without its factor",
    "absorbed": "attention in the absorbed form: an up-projection applied to the wrong side, or not at all",
    "float32": "computed in float32, compared with the float64 answer: sums or functions with too little accuracy",
}
"""Flag -> content of the case: bugs that it detects."""
