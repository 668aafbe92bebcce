"""The definition's twin in PyTorch: same files, same functions, same signatures, on tensors of any device.

Formulas and shapes stand in engram_ref.ops; a docstring here says only what differs. What touches no data is
taken over from there. Functions that look at values, and so wait for the device, say so; no other does.
"""

from engram_ref.packages import unusable

try:
    import torch  # noqa: F401
except Exception as error:
    raise unusable(error, "torch", "backend torch", "pip install 'engram_ref[torch]'",
                   "the NumPy backend works without it") from error

from engram_ref.backends.torch._tensors import tensors as tensors
from engram_ref.backends.torch.arrays import (
    as_array,
    as_int64,
    check_together,
    constant,
    dtype_name,
    first_non_finite,
    to_numpy,
    zeros,
)
from engram_ref.backends.torch.attention import (
    attend_absorbed,
    attend_expanded,
    latents,
    mla,
    queries,
    softmax,
    up_projections,
    visible,
)
from engram_ref.backends.torch.branches import (
    branch_maps,
    collapse,
    expand,
    read_branches,
    read_single,
    sinkhorn,
    write_branches,
    write_single,
)
from engram_ref.backends.torch.caches import append, last, place, positions_after, writable
from engram_ref.backends.torch.canonical import canonicalise, check_ids, mark_dead
from engram_ref.backends.torch.codecs import dequantise, quantise, requantise, round_bf16
from engram_ref.backends.torch.composite import (
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
from engram_ref.backends.torch.conv import conv_silu, next_taps, short_conv, silu
from engram_ref.backends.torch.experts import (
    expert_weights,
    moe,
    route,
    routed_grouped,
    routed_naive,
    router_scores,
    select_experts,
    swiglu,
)
from engram_ref.backends.torch.gate import apply_gate, copysign_sqrt, factored_score, gate, score, sigmoid, signed_sqrt
from engram_ref.backends.torch.hashing import mix, next_history, table_rows, windows
from engram_ref.backends.torch.linear import add_residual, embed, linear
from engram_ref.backends.torch.loss import cross_entropy
from engram_ref.backends.torch.norm import effective_gain, inverse_rms, rms_norm
from engram_ref.backends.torch.rope import angles, rotate
from engram_ref.backends.torch.sampling import join, sample
from engram_ref.backends.torch.tables import check_rows, concatenate, decode, gather
from engram_ref.ops import (
    DEAD,
    canonical_key,
    canonical_map,
    column_offsets,
    frequencies,
    half_split_order,
    ignore,
    is_prime,
    normalise,
    pcg64_multipliers,
    softmax_scale,
    splitmix64_multipliers,
    table_primes,
    yarn_mscale,
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
    "table_rows", "to_numpy", "up_projections", "visible", "windows", "writable", "write_branches", "write_single",
    "yarn_mscale", "zeros",
]
