"""Measurements: times of variants that take turns, peak memory, and fresh processes.

Variants take turns in every round, so a disturbance of the machine affects all of them.
"""

import ctypes
import gc
import math
import os
import subprocess
import sys
import time
import timeit
from collections.abc import Callable, Mapping
from pathlib import Path

import engram_ref

Work = Callable[[], object]
Rounds = dict[str, list[float]]     # measured values of each variant, one per round
PAUSE = 0.005       # seconds between two variants, so that idle threads of the previous one stop spinning
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def interleaved(variants: Mapping[str, Work], rounds: int, shortest: float,
                progress: Callable[[str], None]) -> Rounds:
    """Seconds per call of each variant in each round.

    variants   callables by name; each is called twice first, to compile and to warm up
    rounds     number of rounds; every second one runs the variants in reverse order
    shortest   minimum duration of a measurement, in seconds; short calls are repeated and averaged
    progress   called with a line of text at the start of each round
    """
    calls = {name: calls_for(variant, shortest) for name, variant in variants.items()}
    seconds: Rounds = {name: [] for name in variants}
    for number in range(rounds):
        progress(f"round {number + 1} of {rounds}")
        for name in list(variants) if number % 2 == 0 else reversed(variants):
            time.sleep(PAUSE)
            seconds[name].append(timed(variants[name], calls[name]))
    return seconds


def calls_for(variant: Work, shortest: float) -> int:
    """Number of calls that take at least `shortest` seconds. The first call compiles and does not count."""
    variant()
    return max(1, math.ceil(shortest / max(timed(variant, 1), 1e-7)))


def timed(variant: Work, calls: int) -> float:
    """Mean seconds per call; `timeit` disables garbage collection during the measurement."""
    return timeit.timeit(variant, timer=time.perf_counter, number=calls) / calls


def extra(variant: Work) -> int:
    """Peak memory of a call in bytes, above the memory in use before the call."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)            # return freed memory to the system
    CLEAR.write_text("5", encoding="ascii")
    before = resident("VmRSS")
    kept = variant()
    peak = resident("VmHWM")
    del kept
    return peak - before


def can_reset() -> bool:
    """Whether this system reports and resets a process's peak memory."""
    try:
        CLEAR.write_text("5", encoding="ascii")
    except OSError:
        return False
    return STATUS.exists()


def resident(field: str) -> int:
    """Resident memory in bytes: VmRSS is the current value, VmHWM the peak since the last reset."""
    lines = STATUS.read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def fresh(code: str, **environment: str) -> str:
    """Output of this code in a new Python process that imports this same package."""
    above = str(Path(engram_ref.__file__).parents[1])
    path = os.pathsep.join(filter(None, [above, os.environ.get("PYTHONPATH")]))
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env=os.environ | {"PYTHONPATH": path} | environment).stdout
