"""Threads: kernels are serial and release the interpreter lock; large inputs are split between a few threads.

Numba's own parallel loops have drawbacks. In its threading layer "omp", idle workers spin and take cores from BLAS,
which computes the matrix products between kernels; "workqueue" ends the process if two Python threads call it at
the same time. Plain Python threads that run serial kernels without the GIL have neither problem. But waking a
sleeping thread takes time, so small inputs are computed in the calling thread. Every token is computed separately,
in the same order however the input is split, so results are bit-identical for any number of threads.
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

MIN_PARALLEL_BYTES = 2**24
"""Calls that process fewer bytes use one thread: waking a thread takes longer than processing a megabyte."""

CHUNKS_PER_THREAD = 4       # if all threads start at once; an idle thread takes the next chunk
SPIN = 2e-4                 # seconds for which the calling thread polls a helper before it sleeps
_limit = threading.local()


def jit(kernel: Callable) -> Callable:
    """Decorate a kernel: compile it to run without the GIL, and cache it."""
    return cached(njit(nogil=True, error_model="numpy")(kernel))


def thread_count() -> int:
    """Number of threads for kernels called from this thread: as set by `threads`, or else one per available core."""
    return getattr(_limit, "count", None) or len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity")
                                                 else range(os.cpu_count() or 1))


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Use `count` threads, at least 1, inside the block for kernels called from this thread."""
    if type(count) is not int or count < 1:
        raise InputError("threads", "an integer of at least 1", repr(count))
    before = getattr(_limit, "count", None)
    _limit.count = count
    try:
        yield
    finally:
        _limit.count = before


def over_tokens(kernel: Callable[[int, int], None], tokens: int, moved: int) -> None:
    """Call kernel(start, stop) for chunks that cover range(tokens), in several threads if that is faster.

    moved   bytes that the whole call reads or writes, whichever is larger
    """
    count = thread_count()
    if count == 1 or moved < MIN_PARALLEL_BYTES:
        return kernel(0, tokens)
    chunks = min(count * CHUNKS_PER_THREAD, tokens)
    counter = itertools.count()
    failed: list[bool] = []

    def work() -> None:
        try:
            while not failed and (i := next(counter)) < chunks:
                kernel(i * tokens // chunks, (i + 1) * tokens // chunks)
        except BaseException:
            failed.append(True)
            raise

    helpers = [_pool(count).submit(work) for _ in range(count - 1)]
    try:
        work()
    finally:                            # after an error too: nothing is written once the caller goes on
        for helper in helpers:
            if not helper.cancel():     # it has already started
                wait(helper)


def in_parallel(work: Callable[[], bool], moved: int) -> None:
    """Call work() in this thread and, if that is faster, in others at the same time, each until it returns True.

    work    runs tasks until none is left; returns False if other threads have not finished theirs
    moved   as in over_tokens
    """
    failed: list[bool] = []

    def finish() -> None:
        try:
            while not failed and not work():
                time.sleep(0)
        except BaseException:
            failed.append(True)     # this task stays unfinished: the others must not wait for it
            raise

    count = thread_count() if moved >= MIN_PARALLEL_BYTES else 1
    helpers = [_pool(count).submit(finish) for _ in range(count - 1)]
    finish()
    for helper in helpers:
        if not helper.cancel() and failed:      # if it has not started, no task is left for it
            helper.result()


def wait(helper: Future) -> None:
    """Wait until a helper is done. Poll briefly first, since waking a sleeping thread takes longer than the poll."""
    deadline = time.perf_counter() + SPIN
    while not helper.done() and time.perf_counter() < deadline:
        time.sleep(0)
    helper.result()


_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}
_pools_lock = threading.Lock()


def _pool(count: int) -> ThreadPoolExecutor:
    """Return the pool of `count` - 1 helpers, created once per process: a forked process has none of the threads."""
    key = os.getpid(), count
    with _pools_lock:
        if key not in _pools:
            _pools[key] = ThreadPoolExecutor(count - 1, thread_name_prefix="engram_ref")
        return _pools[key]
