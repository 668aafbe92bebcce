"""The definition of Engram and its backbone in NumPy, one idea per file.

Reading order: first Engram (canonical, primes, hashing, codecs, tables, linear, norm, gate, conv, composite), then the
backbone (rope, attention, experts, branches, caches, loss, sampling, updates), last the supporting files (basic,
arrays, record, small, namespace). The folder vjp has the gradients of the ops, in files of the same names.

Formulas are plain functions. An op that calls other ops is a method, so that each of these calls goes through the
namespace that the method belongs to: see namespace.py. The names below are the members of `NAMESPACE`, NumPy's.

An op raises InputError for a shape that would broadcast by mistake, and for a dtype that would be rounded. Values are
checked only by the check_ functions and the ops that call them. Other invalid arrays raise NumPy's own errors.
"""

import sys

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
from engram_ref.ops.attention import softmax, visible
from engram_ref.ops.basic import add, cast, einsum, exp, multiply, repeat, reshape, split, stack, tail, take
from engram_ref.ops.branches import expand, log_normalise, merge_branches, read_single, write_single
from engram_ref.ops.caches import append, last, place, positions_after, writable
from engram_ref.ops.canonical import DEAD, canonical_key, canonical_map, canonicalise, check_ids, mark_dead, normalise
from engram_ref.ops.codecs import dequantise, quantise, round_bf16
from engram_ref.ops.conv import next_taps, short_conv
from engram_ref.ops.experts import expert_weights, select_experts, sqrt_softplus
from engram_ref.ops.gate import apply_gate, copysign_sqrt, score, sigmoid, signed_sqrt, zero_dead
from engram_ref.ops.hashing import mix, next_history, pcg64_multipliers, splitmix64_multipliers, table_rows, windows
from engram_ref.ops.linear import embed, linear
from engram_ref.ops.loss import balance_loss, cross_entropy
from engram_ref.ops.namespace import NUMPY as NAMESPACE
from engram_ref.ops.norm import effective_gain, inverse_rms
from engram_ref.ops.primes import column_offsets, is_prime, table_primes
from engram_ref.ops.record import ignore
from engram_ref.ops.rope import angles, frequencies, half_split_order, rotate, softmax_scale, yarn_mscale
from engram_ref.ops.sampling import join, sample
from engram_ref.ops.tables import check_rows, concatenate, gather
from engram_ref.ops.updates import adam_update, batch_weights, bias_update, newton_schulz, replace_rows

add_residual = NAMESPACE.add_residual
address = NAMESPACE.address
address_layers = NAMESPACE.address_layers
attend_absorbed = NAMESPACE.attend_absorbed
attend_expanded = NAMESPACE.attend_expanded
branch_maps = NAMESPACE.branch_maps
collapse = NAMESPACE.collapse
conv_silu = NAMESPACE.conv_silu
decode = NAMESPACE.decode
factored_score = NAMESPACE.factored_score
gate = NAMESPACE.gate
gate_score = NAMESPACE.gate_score
gated_conv = NAMESPACE.gated_conv
gated_update = NAMESPACE.gated_update
gather_decode = NAMESPACE.gather_decode
latents = NAMESPACE.latents
lazy_adam_update = NAMESPACE.lazy_adam_update
mla = NAMESPACE.mla
moe = NAMESPACE.moe
muon_update = NAMESPACE.muon_update
project = NAMESPACE.project
project_and_gate = NAMESPACE.project_and_gate
queries = NAMESPACE.queries
read_branches = NAMESPACE.read_branches
requantise = NAMESPACE.requantise
rms_norm = NAMESPACE.rms_norm
route = NAMESPACE.route
routed_grouped = NAMESPACE.routed_grouped
routed_naive = NAMESPACE.routed_naive
router_scores = NAMESPACE.router_scores
silu = NAMESPACE.silu
sinkhorn = NAMESPACE.sinkhorn
stepper = NAMESPACE.stepper
swiglu = NAMESPACE.swiglu
up_projections = NAMESPACE.up_projections
write_branches = NAMESPACE.write_branches

__all__ = [
    "DEAD", "adam_update", "add", "add_residual", "address", "address_layers", "angles", "append", "apply_gate",
    "as_array", "as_int64", "attend_absorbed", "attend_expanded", "balance_loss", "batch_weights", "bias_update",
    "branch_maps", "canonical_key", "canonical_map", "canonicalise", "cast", "check_ids", "check_rows",
    "check_together", "collapse", "column_offsets", "concatenate", "constant", "conv_silu", "copysign_sqrt",
    "cross_entropy", "decode", "dequantise", "dtype_name", "effective_gain", "einsum", "embed", "exp", "expand",
    "expert_weights", "factored_score", "first_non_finite", "frequencies", "gate", "gate_score", "gated_conv",
    "gated_update", "gather", "gather_decode", "half_split_order", "ignore", "inverse_rms", "is_prime", "join", "last",
    "latents", "lazy_adam_update", "linear", "log_normalise", "mark_dead", "merge_branches", "mix", "mla", "moe",
    "multiply", "muon_update", "newton_schulz", "next_history", "next_taps", "normalise", "pcg64_multipliers", "place",
    "positions_after", "project", "project_and_gate", "quantise", "queries", "read_branches", "read_single", "repeat",
    "replace_rows", "requantise", "reshape", "rms_norm", "rotate", "round_bf16", "route", "routed_grouped",
    "routed_naive", "router_scores", "sample", "score", "select_experts", "short_conv", "sigmoid", "signed_sqrt",
    "silu", "sinkhorn", "softmax", "softmax_scale", "split", "splitmix64_multipliers", "sqrt_softplus", "stack",
    "stepper", "swiglu", "table_primes", "table_rows", "tail", "take", "to_numpy", "up_projections", "visible",
    "windows", "writable", "write_branches", "write_single", "yarn_mscale", "zero_dead", "zeros",
]

gradients = {name: getattr(NAMESPACE, name) for name in NAMESPACE.names() if name.endswith("_vjp")}
globals().update(gradients)
__all__ += list(gradients)
__all__.sort()

for name in NAMESPACE.names():  # a method is also available from the file that defines it: ops.experts.route
    op = globals()[name]
    if hasattr(op, "__self__"):
        setattr(sys.modules[op.__func__.__module__], name, op)
del gradients, name, op
