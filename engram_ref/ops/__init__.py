"""The definition of Engram and its backbone in NumPy, one idea a file; what models compose.

Reading order: arrays, canonical, primes, hashing, codecs, tables, linear, norm, gate, conv, composite; then
the backbone: rope, attention, experts, branches, caches, loss, sampling.

An op raises InputError for a shape that would broadcast where it must not, and for a dtype that would be rounded; it
looks at no values, but for the check_ functions. Other arrays that do not fit raise NumPy's own errors.
"""

from engram_ref.ops.arrays import (
    as_array,
    as_int64,
    check_together,
    constant,
    dtype_name,
    first_non_finite,
    to_numpy,
    zeros,
)
from engram_ref.ops.attention import (
    attend_absorbed,
    attend_expanded,
    latents,
    mla,
    queries,
    softmax,
    up_projections,
    visible,
)
from engram_ref.ops.branches import (
    branch_maps,
    collapse,
    expand,
    read_branches,
    read_single,
    sinkhorn,
    write_branches,
    write_single,
)
from engram_ref.ops.caches import append, last, place, positions_after, writable
from engram_ref.ops.canonical import DEAD, canonical_key, canonical_map, canonicalise, check_ids, mark_dead, normalise
from engram_ref.ops.codecs import dequantise, quantise, requantise, round_bf16
from engram_ref.ops.composite import (
    address,
    address_layers,
    gate_score,
    gated_conv,
    gated_update,
    gather_decode,
    project,
    project_and_gate,
    stepper,
)
from engram_ref.ops.conv import conv_silu, next_taps, short_conv, silu
from engram_ref.ops.experts import (
    expert_weights,
    moe,
    route,
    routed_grouped,
    routed_naive,
    router_scores,
    select_experts,
    swiglu,
)
from engram_ref.ops.gate import apply_gate, copysign_sqrt, factored_score, gate, score, sigmoid, signed_sqrt
from engram_ref.ops.hashing import (
    mix,
    next_history,
    pcg64_multipliers,
    splitmix64_multipliers,
    table_rows,
    windows,
)
from engram_ref.ops.linear import add_residual, embed, linear
from engram_ref.ops.loss import cross_entropy
from engram_ref.ops.norm import effective_gain, inverse_rms, rms_norm
from engram_ref.ops.primes import column_offsets, is_prime, table_primes
from engram_ref.ops.record import ignore
from engram_ref.ops.rope import angles, frequencies, half_split_order, rotate, softmax_scale, yarn_mscale
from engram_ref.ops.sampling import join, sample
from engram_ref.ops.tables import check_rows, concatenate, decode, gather

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
    "table_rows", "to_numpy", "up_projections", "visible", "windows", "writable", "write_branches", "write_single",
    "yarn_mscale", "zeros",
]
