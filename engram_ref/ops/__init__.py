"""The definition of Engram and its backbone in NumPy, one idea per file.

Reading order: first Engram (canonical, primes, hashing, codecs, tables, linear, norm, gate, conv, composite), then the
backbone (rope, attention, experts, branches, caches, loss, sampling), last the supporting files (basic, arrays, record,
small, namespace).

Formulas are plain functions. An op that calls other ops is a method, so that each of these calls goes through the
namespace that the method belongs to: see namespace.py. The names below are the members of `NAMESPACE`, NumPy's.

An op raises InputError for a shape that would broadcast by mistake, and for a dtype that would be rounded. Values are
checked only by the check_ functions and the ops that call them. Other invalid arrays raise NumPy's own errors.
"""

import sys

from engram_ref.ops.namespace import NUMPY as NAMESPACE

DEAD = NAMESPACE.DEAD
add = NAMESPACE.add
add_residual = NAMESPACE.add_residual
address = NAMESPACE.address
address_layers = NAMESPACE.address_layers
angles = NAMESPACE.angles
append = NAMESPACE.append
apply_gate = NAMESPACE.apply_gate
as_array = NAMESPACE.as_array
as_int64 = NAMESPACE.as_int64
attend_absorbed = NAMESPACE.attend_absorbed
attend_expanded = NAMESPACE.attend_expanded
branch_maps = NAMESPACE.branch_maps
canonical_key = NAMESPACE.canonical_key
canonical_map = NAMESPACE.canonical_map
canonicalise = NAMESPACE.canonicalise
cast = NAMESPACE.cast
check_ids = NAMESPACE.check_ids
check_rows = NAMESPACE.check_rows
check_together = NAMESPACE.check_together
collapse = NAMESPACE.collapse
column_offsets = NAMESPACE.column_offsets
concatenate = NAMESPACE.concatenate
constant = NAMESPACE.constant
conv_silu = NAMESPACE.conv_silu
copysign_sqrt = NAMESPACE.copysign_sqrt
cross_entropy = NAMESPACE.cross_entropy
decode = NAMESPACE.decode
dequantise = NAMESPACE.dequantise
dtype_name = NAMESPACE.dtype_name
effective_gain = NAMESPACE.effective_gain
einsum = NAMESPACE.einsum
embed = NAMESPACE.embed
exp = NAMESPACE.exp
expand = NAMESPACE.expand
expert_weights = NAMESPACE.expert_weights
factored_score = NAMESPACE.factored_score
first_non_finite = NAMESPACE.first_non_finite
frequencies = NAMESPACE.frequencies
gate = NAMESPACE.gate
gate_score = NAMESPACE.gate_score
gated_conv = NAMESPACE.gated_conv
gated_update = NAMESPACE.gated_update
gather = NAMESPACE.gather
gather_decode = NAMESPACE.gather_decode
half_split_order = NAMESPACE.half_split_order
ignore = NAMESPACE.ignore
inverse_rms = NAMESPACE.inverse_rms
is_prime = NAMESPACE.is_prime
join = NAMESPACE.join
last = NAMESPACE.last
latents = NAMESPACE.latents
linear = NAMESPACE.linear
log_normalise = NAMESPACE.log_normalise
mark_dead = NAMESPACE.mark_dead
merge_branches = NAMESPACE.merge_branches
mix = NAMESPACE.mix
mla = NAMESPACE.mla
moe = NAMESPACE.moe
multiply = NAMESPACE.multiply
next_history = NAMESPACE.next_history
next_taps = NAMESPACE.next_taps
normalise = NAMESPACE.normalise
pcg64_multipliers = NAMESPACE.pcg64_multipliers
place = NAMESPACE.place
positions_after = NAMESPACE.positions_after
project = NAMESPACE.project
project_and_gate = NAMESPACE.project_and_gate
quantise = NAMESPACE.quantise
queries = NAMESPACE.queries
read_branches = NAMESPACE.read_branches
read_single = NAMESPACE.read_single
repeat = NAMESPACE.repeat
requantise = NAMESPACE.requantise
reshape = NAMESPACE.reshape
rms_norm = NAMESPACE.rms_norm
rotate = NAMESPACE.rotate
round_bf16 = NAMESPACE.round_bf16
route = NAMESPACE.route
routed_grouped = NAMESPACE.routed_grouped
routed_naive = NAMESPACE.routed_naive
router_scores = NAMESPACE.router_scores
sample = NAMESPACE.sample
score = NAMESPACE.score
select_experts = NAMESPACE.select_experts
short_conv = NAMESPACE.short_conv
sigmoid = NAMESPACE.sigmoid
signed_sqrt = NAMESPACE.signed_sqrt
silu = NAMESPACE.silu
sinkhorn = NAMESPACE.sinkhorn
softmax = NAMESPACE.softmax
softmax_scale = NAMESPACE.softmax_scale
split = NAMESPACE.split
splitmix64_multipliers = NAMESPACE.splitmix64_multipliers
sqrt_softplus = NAMESPACE.sqrt_softplus
stack = NAMESPACE.stack
stepper = NAMESPACE.stepper
swiglu = NAMESPACE.swiglu
table_primes = NAMESPACE.table_primes
table_rows = NAMESPACE.table_rows
tail = NAMESPACE.tail
take = NAMESPACE.take
to_numpy = NAMESPACE.to_numpy
up_projections = NAMESPACE.up_projections
visible = NAMESPACE.visible
windows = NAMESPACE.windows
writable = NAMESPACE.writable
write_branches = NAMESPACE.write_branches
write_single = NAMESPACE.write_single
yarn_mscale = NAMESPACE.yarn_mscale
zero_dead = NAMESPACE.zero_dead
zeros = NAMESPACE.zeros

__all__ = list(NAMESPACE.names())

for name in __all__:            # a method is also available from the file that defines it: ops.experts.route
    op = globals()[name]
    if hasattr(op, "__self__"):
        setattr(sys.modules[op.__func__.__module__], name, op)
del name, op
