"""An atomic counter that several threads share."""

import threading

from engram_ref.backends.numba.vectors.instructions import I64, vector_code

_lock = threading.Lock()


def fetch_add(counters, index, amount):
    """Atomically add `amount` to counters[index] (int64) and return the previous value."""
    with _lock:
        before = int(counters[index])
        counters[index] += amount
        return before


@vector_code(fetch_add, lambda counters, *others: counters.dtype)
def fetch_add(code, counters, index, amount):
    """The instruction; everything that a thread wrote before it is visible to threads that read the new count."""
    return code.builder.atomic_rmw("add", code.pointer(counters, index, I64), amount, "seq_cst")
