"""The definition of Engram in NumPy, one idea a file; this namespace is what models compose.

Reading order: canonical, primes, hashing, codecs, tables, linear, norm, gate, conv, composite.
"""

from engram_ref.ops.canonical import DEAD, canonical_key, canonical_map, canonicalise, check_ids, normalise
from engram_ref.ops.codecs import dequantise, quantise, requantise, round_bf16
from engram_ref.ops.composite import (
    address,
    gate_score,
    gated_conv,
    gather_decode,
    ignore,
    project,
    project_and_gate,
)
from engram_ref.ops.conv import next_taps, short_conv, silu
from engram_ref.ops.gate import apply_gate, copysign_sqrt, factored_score, gate, score, sigmoid, signed_sqrt
from engram_ref.ops.hashing import (
    mix,
    next_history,
    pcg64_multipliers,
    splitmix64_multipliers,
    table_rows,
    windows,
)
from engram_ref.ops.linear import add_residual, linear
from engram_ref.ops.norm import effective_gain, inverse_rms, rms_norm
from engram_ref.ops.primes import column_offsets, is_prime, table_primes
from engram_ref.ops.tables import check_rows, concatenate, decode, gather

__all__ = [
    "DEAD", "add_residual", "address", "apply_gate", "canonical_key", "canonical_map", "canonicalise", "check_ids",
    "check_rows", "column_offsets", "concatenate", "copysign_sqrt", "decode", "dequantise", "effective_gain",
    "factored_score", "gate", "gate_score", "gated_conv", "gather", "gather_decode", "ignore", "inverse_rms",
    "is_prime", "linear", "mix", "next_history", "next_taps", "normalise", "pcg64_multipliers", "project",
    "project_and_gate", "quantise", "requantise", "rms_norm", "round_bf16", "score", "short_conv", "sigmoid",
    "signed_sqrt", "silu", "splitmix64_multipliers", "table_primes", "table_rows", "windows",
]
