"""Measuring: sides take turns, round after round, so that whatever slows the machine slows all of them."""

import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import repeat
from typing import NamedTuple

Side = Callable[[], object]
PAUSE = 0.005
"""Seconds between two sides: time for the idle threads of the one before to stop spinning."""


class Spread(NamedTuple):
    """A median and the quartiles around it."""

    median: float
    q1: float
    q3: float


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles, linear between neighbours.

    >>> spread([4.0, 1.0, 2.0, 3.0])
    Spread(median=2.5, q1=1.75, q3=3.25)
    """
    ordered = sorted(values)

    def at(share: float) -> float:
        place = share * (len(ordered) - 1)
        below = math.floor(place)
        above = min(below + 1, len(ordered) - 1)
        return ordered[below] + (place - below) * (ordered[above] - ordered[below])

    return Spread(at(0.5), at(0.25), at(0.75))


def interleaved(sides: Mapping[str, Side], rounds: int, least: float,
                said: Callable[[str], None]) -> dict[str, list[float]]:
    """Seconds of one call of each side, round by round.

    sides    what to call, by name; each is called twice beforehand, to compile and to warm up
    rounds   how often; every second round goes through the sides backwards
    least    seconds that one measurement lasts at least; short calls are repeated and divided
    said     is told which round begins
    returns  {name: seconds, one a round}
    """
    calls = {name: calls_for(side, least) for name, side in sides.items()}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
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
    """Seconds of one call, as the mean of so many."""
    with collector_off():
        start = time.perf_counter()
        for _ in repeat(None, calls):
            side()
        return (time.perf_counter() - start) / calls


@contextmanager
def collector_off() -> Iterator[None]:
    """No garbage collection inside the block."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
