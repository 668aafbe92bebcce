"""Measuring: seconds of sides that take turns, bytes of memory at the peak, new processes.

Sides take turns round after round, so that whatever slows the machine slows all of them.
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

Side = Callable[[], object]
Rounds = dict[str, list[float]]
"""What was measured of each side, one value per round."""

PAUSE = 0.005
"""Seconds between two sides: time for the idle threads of the one before to stop spinning."""
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def interleaved(sides: Mapping[str, Side], rounds: int, least: float, said: Callable[[str], None]) -> Rounds:
    """Seconds of one call of each side, round by round.

    sides    what to call, by name; each is called twice beforehand, to compile and to warm up
    rounds   how often; every second round goes through the sides backwards
    least    seconds that one measurement lasts at least; short calls are repeated and divided
    said     is told which round begins
    """
    calls = {name: calls_for(side, least) for name, side in sides.items()}
    seconds: Rounds = {name: [] for name in sides}
    for number in range(rounds):
        said(f"round {number + 1} of {rounds}")
        for name in list(sides) if number % 2 == 0 else reversed(sides):
            time.sleep(PAUSE)
            seconds[name].append(timed(sides[name], calls[name]))
    return seconds


def calls_for(side: Side, least: float) -> int:
    """How many calls last long enough; the first one compiles and is not counted."""
    side()
    return max(1, math.ceil(least / max(timed(side, 1), 1e-7)))


def timed(side: Side, calls: int) -> float:
    """Seconds of one call, as the mean of so many; `timeit` keeps the garbage collector from running meanwhile."""
    return timeit.timeit(side, timer=time.perf_counter, number=calls) / calls


def extra(side: Side) -> int:
    """Bytes that a call takes at its peak beyond what was in use before it."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)            # what earlier calls freed goes back to the system
    CLEAR.write_text("5", encoding="ascii")
    before = resident("VmRSS")
    kept = side()
    peak = resident("VmHWM")
    del kept
    return peak - before


def can_reset() -> bool:
    """Whether this system reports the peak memory of a process and can reset it."""
    try:
        CLEAR.write_text("5", encoding="ascii")
    except OSError:
        return False
    return STATUS.exists()


def resident(field: str) -> int:
    """Bytes of memory in use, VmRSS, or their peak since it was reset, VmHWM."""
    lines = STATUS.read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def fresh(code: str, **environment: str) -> str:
    """What this code prints in a new Python process that finds this very package."""
    above = str(Path(engram_ref.__file__).parents[1])
    path = os.pathsep.join(filter(None, [above, os.environ.get("PYTHONPATH")]))
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env=os.environ | {"PYTHONPATH": path} | environment).stdout
