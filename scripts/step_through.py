"""Engram for one sentence as a flat script, op by op, without classes or loops over layers; it prints the arrays.

Run it, or step through it in a debugger to inspect every array:

    python scripts/step_through.py
    python -m pdb scripts/step_through.py

It computes the same arrays as the module `engram_ref.engram` with the preset tiny and random weights, with composites
written out as single ops.
"""

import numpy as np

from engram_ref import Vocabulary, ops, preset

np.set_printoptions(precision=3, suppress=True, linewidth=100, edgeitems=2, threshold=60)

# The configuration and the text -------------------------------------------------------------------
config = preset("tiny")
layer = config.layer_ids[0]
N, H, M, D = config.max_ngram, config.n_heads, config.n_branches, config.hidden_size
text = "Only Alexander the Great could tame the horse Bucephalus."
print("text           ", text)

# Canonical ids: tokens with the same normalised text share one id -----------------------------------
vocabulary = Vocabulary.load(config.vocabulary)
raw_ids = vocabulary.encode(text)                                        # [T]
canonical_ids = ops.canonicalise(raw_ids, vocabulary.canonical)[None]    # [B=1, T]
B, T = canonical_ids.shape
print("raw ids        ", raw_ids)
print("canonical ids  ", canonical_ids[0])

# Constants of the layer: multipliers, one prime per table, offsets -----------------------------------
multipliers = ops.pcg64_multipliers(config.seed, layer, N, config.canonical_size)               # [N]
primes = ops.table_primes(config.table_sizes, H, len(config.layer_ids))[0]                      # [C]
offsets = ops.column_offsets(primes)                                                            # [C]
print("multipliers    ", multipliers)
print("primes         ", primes)

# Windows, mix, rows ---------------------------------------------------------------------------------
pad_id = int(vocabulary.canonical[config.pad_id])
history = np.full((B, N - 1), ops.DEAD)                                  # the text has no prefix
windows = ops.windows(canonical_ids, history, pad_id)                    # [B, T, N], newest first
mixes = ops.mix(windows, multipliers)                                    # [B, T, N-1]
rows = ops.table_rows(mixes, primes)                                     # [B, T, C]
print("windows        ", windows[0, 3], "at ' Great'")
print("mix            ", [hex(m) for m in mixes[0, 3]])
print("rows           ", rows[0, 3])

# Random weights: real shapes, untrained values ------------------------------------------------------
rng = np.random.default_rng(0)
table = rng.standard_normal((primes.sum(), config.row_width))            # [R, W]
key_weight = rng.standard_normal((M, D, config.memory_width)) / np.sqrt(config.memory_width)
value_weight = rng.standard_normal((D, config.memory_width)) / np.sqrt(config.memory_width)
query_gain = key_gain = conv_gain = np.ones((M, D))
conv_weight = rng.uniform(-0.5, 0.5, (M, D, config.conv_kernel))         # [M, D, L], oldest tap first
hidden = rng.standard_normal((B, T, M, D))                               # the residual stream

# Memory: the gathered rows, concatenated ------------------------------------------------------------
memory = ops.concatenate(ops.gather(table, rows, offsets))               # [B, T, C*W]
print("memory         ", memory.shape, memory[0, 3])

# Keys, value, gate ----------------------------------------------------------------------------------
key = np.stack([ops.linear(memory, key_weight[m]) for m in range(M)], axis=2)    # [B, T, M, D]
value = ops.linear(memory, value_weight)                                         # [B, T, D]
query_norm = ops.rms_norm(hidden, query_gain, config.norm_eps)                   # [B, T, M, D]
key_norm = ops.rms_norm(key, key_gain, config.norm_eps)                          # [B, T, M, D]
score = ops.score(query_norm, key_norm)                                          # [B, T, M]
gate = ops.gate(score, config.gate_form)                                         # [B, T, M]
gated = ops.apply_gate(gate, value)                                              # [B, T, M, D]
print("score          ", score[0, 3])
print("gate           ", gate[0, 3])

# Short convolution, output, residual stream ---------------------------------------------------------
conv_norm = ops.rms_norm(gated, conv_gain, config.conv_norm_eps)                 # [B, T, M, D]
taps = np.zeros((B, config.conv_span, M, D))                                     # the text has no prefix
conv = ops.silu(ops.short_conv(conv_norm, conv_weight, config.conv_dilation, taps))
output = conv + gated                                                            # Y
residual = ops.add_residual(hidden, output)                                      # H + Y
print("conv           ", conv[0, 3, 0])
print("output         ", output[0, 3, 0])
print("residual       ", residual[0, 3, 0])
