"""A small kit for tests: a few cases of each form."""

import functools
from contextlib import ExitStack
from dataclasses import replace
from unittest import mock

from engram_ref.oracle.kit import cases
from engram_ref.oracle.kit.write import write_kit
from engram_ref.oracle.vectors import read

USED = ("silu/edges", "swiglu/odd-width", "windows/dead", "decode/fp32", "decode/bf16-float32", "quantise/faint",
        "gate/signed_sqrt-edges", "expert_weights/plain", "addressing_stream/demo-like-fork",
        "engram_stream/demo-like-fork", "normalise/accents", "canonical_map/classes", "round_bf16/ties",
        "engram/demo-like-chunked", "addressing/tiny-layer-1", "rms_norm/machine-eps", "table_primes/two", "join/three",
        "mark_dead/batch", "cross_entropy/batch")
"""Names of its golden cases."""

RELEASED = ("decode/deepseek-v4.1-flash", "released_gate/demo", "released_project/demo")
"""Names of its released cases."""

actual = cases.released_cases


@functools.cache
def few_cases():
    """Return the golden vectors with the cases in USED only."""
    vectors = read()
    kept = tuple(case for case in vectors.cases if case.name in USED)
    assert len(kept) == len(USED)
    return replace(vectors, cases=kept)


@functools.cache
def all_released():
    """Return all released cases, which take seconds to compute."""
    return tuple(actual(read()))


def few_released():
    """Return the cases in RELEASED."""
    return [case for case in all_released() if case.name in RELEASED]


def patches():
    """Yield patches with which a kit has only these cases."""
    yield mock.patch("engram_ref.oracle.kit.write.read", few_cases)
    yield mock.patch("engram_ref.oracle.kit.cases.with_every_score", lambda vectors: vectors)
    yield mock.patch("engram_ref.oracle.kit.cases.with_schedules", lambda vectors: vectors)
    yield mock.patch("engram_ref.oracle.kit.cases.released_cases", lambda vectors: few_released())


def few(function, *arguments):
    """Call a function with the patches."""
    with ExitStack() as stack:
        for patch in patches():
            stack.enter_context(patch)
        return function(*arguments)


def few_kit_cases():
    """Return the cases of the kit."""
    return few(cases.kit_cases, few_cases())


def write_few(folder, dialect=None):
    """Write a kit with only these cases, and return its folder."""
    few(write_kit, folder, dialect)
    return folder
