"""Counting in several threads at once."""

import threading

from engram_ref.backends.numba.vectors.instructions import I64, vector_code

_one_at_a_time = threading.Lock()


def fetch_add(counters, index, amount):
    """counters[index] += amount as one indivisible step; returns what it was before. counters is int64."""
    with _one_at_a_time:
        before = int(counters[index])
        counters[index] += amount
        return before


@vector_code(fetch_add, lambda counters, *others: counters.dtype)
def fetch_add(code, counters, index, amount):
    """The instruction; what a thread wrote before it is visible to whoever reads the new count."""
    return code.builder.atomic_rmw("add", code.place(counters, index, I64), amount, "seq_cst")
