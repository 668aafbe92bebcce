"""A small kit for tests: a few cases of each form."""

from dataclasses import replace
from unittest import mock

from engram_ref.oracle.kit.write import write_kit
from engram_ref.oracle.vectors import read

USED = ("silu/edges", "swiglu/odd-width", "windows/dead", "decode/fp32", "quantise/faint", "gate/signed_sqrt-edges",
        "expert_weights/plain", "addressing_stream/demo-like-fork", "engram_stream/demo-like-fork", "normalise/accents",
        "canonical_map/classes", "round_bf16/ties", "engram/demo-like-chunked", "addressing/tiny-layer-1",
        "rms_norm/machine-eps", "table_primes/two", "join/three", "mark_dead/batch", "cross_entropy/batch")
"""Names of its cases, as far as they exist."""


def few_cases():
    """Return the golden vectors with the cases in USED only."""
    vectors = read()
    return replace(vectors, cases=tuple(case for case in vectors.cases if case.name in USED))


def write_few(folder, dialect=None):
    """Write a kit with only these cases, and return its folder."""
    with mock.patch("engram_ref.oracle.kit.write.read", few_cases):
        write_kit(folder, dialect)
    return folder
