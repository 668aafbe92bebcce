"""The hot loops, compiled by Numba; everything else is the definition's own.

What is imported from a file of this folder is what is fast here; the rest comes from engram_ref.ops by name. Pass
this module as ops= to `engram`, `forward` or `Addressing`. Kernels are compiled at their first call, a second or
so each, and use every core unless `threads(n)` says otherwise; the answer has the same bits with any number.
"""

from engram_ref.packages import unusable

try:
    import numba  # noqa: F401
except Exception as error:
    raise unusable(error, "numba", "backend numba", otherwise="the NumPy backend works without it") from error

from engram_ref.backends.numba._threads import thread_count, threads
from engram_ref.backends.numba.attention import attend_absorbed, attend_expanded, mla
from engram_ref.backends.numba.composite import (
    address,
    address_layers,
    gated_update,
    gather_decode,
    project_and_gate,
    stepper,
)
from engram_ref.backends.numba.conv import conv_silu, silu
from engram_ref.backends.numba.experts import moe, routed_grouped, swiglu
from engram_ref.backends.numba.gate import apply_gate, factored_score
from engram_ref.backends.numba.hashing import table_rows
from engram_ref.backends.numba.loss import cross_entropy
from engram_ref.backends.numba.norm import rms_norm
from engram_ref.backends.numba.tables import gather
from engram_ref.ops import (
    DEAD,
    add_residual,
    angles,
    append,
    as_array,
    as_int64,
    branch_maps,
    canonical_key,
    canonical_map,
    canonicalise,
    check_ids,
    check_rows,
    check_together,
    collapse,
    column_offsets,
    concatenate,
    constant,
    copysign_sqrt,
    decode,
    dequantise,
    dtype_name,
    effective_gain,
    embed,
    expand,
    expert_weights,
    first_non_finite,
    frequencies,
    gate,
    gate_score,
    gated_conv,
    half_split_order,
    ignore,
    inverse_rms,
    is_prime,
    join,
    last,
    latents,
    linear,
    mark_dead,
    mix,
    next_history,
    next_taps,
    normalise,
    pcg64_multipliers,
    place,
    positions_after,
    project,
    quantise,
    queries,
    read_branches,
    read_single,
    requantise,
    rotate,
    round_bf16,
    route,
    routed_naive,
    router_scores,
    sample,
    score,
    select_experts,
    short_conv,
    sigmoid,
    signed_sqrt,
    sinkhorn,
    softmax,
    softmax_scale,
    splitmix64_multipliers,
    table_primes,
    to_numpy,
    up_projections,
    visible,
    windows,
    writable,
    write_branches,
    write_single,
    yarn_mscale,
    zeros,
)

__all__ = [
    "DEAD", "add_residual", "address", "address_layers", "angles", "append", "apply_gate", "as_array", "as_int64",
    "attend_absorbed", "attend_expanded", "branch_maps", "canonical_key", "canonical_map", "canonicalise", "check_ids",
    "check_rows", "check_together", "collapse", "column_offsets", "concatenate", "constant", "conv_silu",
    "copysign_sqrt", "cross_entropy", "decode", "dequantise", "dtype_name", "effective_gain", "embed", "expand",
    "expert_weights", "factored_score", "first_non_finite", "frequencies", "gate", "gate_score", "gated_conv",
    "gated_update", "gather", "gather_decode", "half_split_order", "ignore", "inverse_rms", "is_prime", "join", "last",
    "latents", "linear", "mark_dead", "mix", "mla", "moe", "next_history", "next_taps", "normalise",
    "pcg64_multipliers", "place", "positions_after", "project", "project_and_gate", "quantise", "queries",
    "read_branches", "read_single", "requantise", "rms_norm", "rotate", "round_bf16", "route", "routed_grouped",
    "routed_naive", "router_scores", "sample", "score", "select_experts", "short_conv", "sigmoid", "signed_sqrt",
    "silu", "sinkhorn", "softmax", "softmax_scale", "splitmix64_multipliers", "stepper", "swiglu", "table_primes",
    "table_rows", "thread_count", "threads", "to_numpy", "up_projections", "visible", "windows", "writable",
    "write_branches", "write_single", "yarn_mscale", "zeros",
]
