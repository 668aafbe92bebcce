"""Threads: kernels are serial and release the interpreter lock; large inputs are split between a few threads.

Numba's own parallel loops come in layers. With "omp", idle workers spin and take the cores from BLAS, whose
matrix products stand between our kernels; "workqueue" ends the process when two Python threads call it at
once. Plain Python threads that run serial, GIL-free kernels have neither fault; but a sleeping thread takes a
while to wake, so small inputs stay with the caller. Every token is computed by itself, in the same order
whatever the cut: the answer has the same bits with any number of threads.
"""

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from numba import njit

from engram_ref.backends.numba._cache import cached
from engram_ref.errors import InputError

WORTH_A_THREAD = 2**24
"""Bytes a call must go through before other threads pay: waking one takes longer than a megabyte."""

PIECES = 4
"""Pieces a thread would get if all started at once; whoever is free takes the next one."""

SPIN = 2e-4
"""Seconds for which a finished thread watches the others before it goes to sleep."""

_limit = threading.local()


def jit(kernel: Callable) -> Callable:
    """Decorates every kernel."""
    return cached(njit(nogil=True, error_model="numpy")(kernel))


def thread_count() -> int:
    """Threads that kernels called from here use: every core this process may run on, or what `threads` says."""
    return getattr(_limit, "count", None) or len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity")
                                                 else range(os.cpu_count() or 1))


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Use this many threads inside the block, for kernels called from this thread.

    count    at least 1
    raises   InputError for anything else
    """
    if type(count) is not int or count < 1:
        raise InputError("threads", "a whole number of at least 1", repr(count))
    before = getattr(_limit, "count", None)
    _limit.count = count
    try:
        yield
    finally:
        _limit.count = before


def over_tokens(kernel: Callable[[int, int], None], tokens: int, moved: int) -> None:
    """Call kernel(start, stop) for pieces that cover range(tokens), at the same time where that pays.

    moved   bytes that the whole call reads or writes, whichever is more
    """
    count = thread_count()
    if count == 1 or moved < WORTH_A_THREAD:
        return kernel(0, tokens)
    number = min(count * PIECES, tokens)
    turns = itertools.count()

    def work() -> None:
        while (i := next(turns)) < number:
            kernel(i * tokens // number, (i + 1) * tokens // number)

    helpers = [_pool(count).submit(work) for _ in range(count - 1)]
    work()
    for helper in helpers:
        if not helper.cancel():     # it did not wake up in time: nothing is left for it
            wait(helper)


def in_parallel(work: Callable[[], bool], moved: int) -> None:
    """Call work() from this thread and, where that pays, from others at the same time, each until it returns True.

    work    takes pieces until none is left; True if all are finished, False while others still compute theirs
    moved   as in over_tokens
    """
    failed: list[bool] = []

    def finish() -> None:
        try:
            while not failed and not work():
                time.sleep(0)
        except BaseException:
            failed.append(True)     # nobody will finish the piece: the others must not wait for it
            raise

    count = thread_count() if moved >= WORTH_A_THREAD else 1
    helpers = [_pool(count).submit(finish) for _ in range(count - 1)]
    finish()
    for helper in helpers:
        if not helper.cancel() and failed:      # one that has not started finds nothing left to do
            helper.result()


def wait(helper: Future) -> None:
    """Until a helper is done: looking again and again for a moment, since waking a sleeper takes longer than that."""
    patience = time.perf_counter() + SPIN
    while not helper.done() and time.perf_counter() < patience:
        time.sleep(0)
    helper.result()


_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}
_making = threading.Lock()


def _pool(count: int) -> ThreadPoolExecutor:
    """Workers for `count` threads, the calling one included; made once in a process: a fork has no threads."""
    key = os.getpid(), count
    with _making:
        if key not in _pools:
            _pools[key] = ThreadPoolExecutor(count - 1, thread_name_prefix="engram_ref")
        return _pools[key]
