"""Verdicts: whether differences between runs, one per seed, support a claim.

A criterion is written before the first run that counts. Its `difference` is a number per seed that is positive if the
claim holds; its margin is the smallest difference that would matter.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

REPLICATED, NOT_REPLICATED, INCONCLUSIVE = "replicated", "not replicated", "inconclusive"

RULE = """The difference is computed for each seed, and its mean gets a 95% interval from Student's t distribution.
Replicated: the interval is above 0, every seed has the sign of the claim, and the mean is at least the margin.
Not replicated: the whole interval is below the margin. Inconclusive: neither, or fewer than three seeds."""
"""How a verdict is reached."""

STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""97.5% quantiles of Student's t distribution for 1, 2, ... degrees of freedom."""

LEAST_SEEDS = 3

Runs = Mapping[str, Any]        # the results of one seed: name of a run without the seed -> content of its file


@dataclass(frozen=True)
class Criterion:
    """How one claim is judged.

    question     part of the experiment to which it belongs
    claim        what is supported if the difference is positive
    metric       the difference, in words
    margin       the smallest difference that would matter, in the unit of the metric
    reason       why this margin
    difference   results of one seed -> the number, or None if a run is missing or the number is undefined
    """

    name: str
    question: str
    claim: str
    metric: str
    margin: float
    reason: str
    difference: Callable[[Runs], float | None]


@dataclass(frozen=True)
class Verdict:
    """The answer to one criterion; mean and interval are None if no seed has a difference, or only one."""

    verdict: Literal["replicated", "not replicated", "inconclusive"]
    values: tuple[float, ...]       # one per seed that has one
    mean: float | None
    low: float | None               # 95% interval of the mean
    high: float | None


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95% interval of the mean of at least 2 and at most 10 values.

    >>> [round(x, 3) for x in interval([1.0, 2.0, 3.0])]
    [-0.484, 4.484]
    """
    half = STUDENT[len(values) - 2] * np.std(values, ddof=1) / math.sqrt(len(values))
    return float(np.mean(values) - half), float(np.mean(values) + half)


def judge(differences: Sequence[float | None], margin: float) -> Verdict:
    """Return the verdict of RULE for the differences of all seeds; None is a seed without one.

    >>> judge([0.2, 0.25, 0.22], margin=0.01).verdict
    'replicated'
    """
    values = tuple(float(value) for value in differences if value is not None)
    if len(values) < 2:
        return Verdict(INCONCLUSIVE, values, values[0] if values else None, None, None)
    (low, high), mean = interval(values), float(np.mean(values))
    verdict = INCONCLUSIVE
    if len(values) >= LEAST_SEEDS:
        if low > 0 and min(values) > 0 and mean >= margin:
            verdict = REPLICATED
        elif high < margin:
            verdict = NOT_REPLICATED
    return Verdict(verdict, values, mean, low, high)


def judge_all(criteria: Sequence[Criterion], by_seed: Sequence[Runs]) -> dict[str, Verdict]:
    """Return criterion -> verdict, given the results of every seed."""
    return {c.name: judge([c.difference(runs) for runs in by_seed], c.margin) for c in criteria}
