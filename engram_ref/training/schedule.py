"""The learning rate of each step, as a factor of the base rate."""

from engram_ref.checks import integer
from engram_ref.errors import InputError

DROPS = ((0.8, 0.316), (0.9, 0.1))
"""(fraction of all steps, factor of the base rate from there on): paper, appendix A; mHC paper, table 5."""


def warm_up_and_drops(step: int, total: int, warm_up: int = 2000) -> float:
    """Return the factor of the learning rate: linear warm-up, then 1, then two drops.

    step      of this update, from 1 to total
    total     number of steps of the whole training
    warm_up   number of steps of the warm-up; 0: none

    >>> [warm_up_and_drops(step, 1000, 10) for step in (1, 10, 800, 801, 901)]
    [0.1, 1.0, 1.0, 0.316, 0.1]
    """
    total, warm_up = integer("total", total, 1), integer("warm_up", warm_up)
    if integer("step", step, 1) > total:
        raise InputError("step", f"a number from 1 to {total}", step)
    drops = [factor for fraction, factor in DROPS if step > fraction * total]
    return min(step / warm_up if warm_up else 1.0, drops[-1] if drops else 1.0)
