"""Where an answer is wrong: the shortest description of a mask of wrong elements.

Candidates are predicates over axes (`t = 0`, `channel >= 32`, `channel % 4 = 1`) and over columns of data that explain
an element (`where score = 0`, `with a NaN code`). The best one has the smallest description length in bits, which
counts the predicate and the elements that it describes wrongly. With P of N elements in the predicate, W wrong ones,
and h of these in the predicate:

    bits(predicate) + log2((P + 1) C(P, h)) + log2((N - P + 1) C(N - P, W - h))

So an element that is correct by chance, or a wrong one elsewhere, costs a few bits and does not rule a predicate out.
Two predicates are joined if that saves more than JOINED_SAVES bits.
"""

from collections.abc import Iterator, Mapping
from itertools import combinations
from math import lgamma, log, log2
from typing import NamedTuple

import numpy as np

JOINED_SAVES = 3.0
NAMELESS = 2.0
"""Additional bits of an axis without a name, so that data with the same values are preferred."""

LONGEST = 256
"""Number of different integers up to which each one is a candidate."""

KEPT = 24
"""Number of predicates of which pairs are tried."""

INDICES = ("sequence", "t", "order", "head")
"""Columns that are indices, like an axis."""

FIRST = {"order": 2}
"""First value of an axis that does not count from 0."""


class Predicate(NamedTuple):
    """A predicate with its length and its counts; the mask broadcasts against the wrong elements."""

    length: float       # bits, with the elements that it describes wrongly
    text: str
    bits: float         # bits of the predicate alone
    mask: np.ndarray
    total: int          # elements in the predicate
    hits: int           # wrong elements in the predicate


def where(wrong: np.ndarray, axes: tuple[str, ...], side: Mapping[str, np.ndarray]) -> str:
    """Describe which elements are wrong.

    wrong     bool [...]
    axes      a name per axis, such as ("t", "order")
    side      columns of data by name, as from `side_columns`; each broadcasts against `wrong`
    returns   "nowhere", "everywhere", "only PREDICATE", or the predicate with its counts if it is not exact

    >>> where(np.array([[False, False], [True, True], [False, False]]), ("t", "branch"), {})
    'only t = 1'
    """
    wrong = np.asarray(wrong)
    if not wrong.any():
        return "nowhere"
    everywhere = measured(wrong, "everywhere", 0.0, np.ones((1,) * wrong.ndim, bool))
    found = sorted(enriched(wrong, axes, side), key=lambda p: p.length)[:KEPT]
    best = min((everywhere, *found), key=lambda p: p.length)
    for a, b in combinations(found, 2):
        pair = measured(wrong, f"{a.text} and {b.text}", a.bits + b.bits, a.mask & b.mask)
        if pair.hits and pair.length < min(best.length, a.length - JOINED_SAVES, b.length - JOINED_SAVES):
            best = pair
    return described(best, int(wrong.sum()), everywhere)


def described(best: Predicate, count: int, everywhere: Predicate) -> str:
    """Return the text of a predicate; counts follow unless it contains all wrong elements and no other."""
    exact = best.hits == best.total == count
    if exact or (best is everywhere and best.hits > 0.99 * best.total):
        return best.text if best is everywhere else f"only {best.text}"
    if best is everywhere:
        return f"in no pattern ({count:,} of {best.total:,})"
    outside = f", and {count - best.hits:,} elsewhere" if count > best.hits else ""
    return f"{'mostly' if outside else 'only'} {best.text} ({best.hits:,} of {best.total:,} there{outside})"


def measured(wrong: np.ndarray, text: str, bits: float, mask: np.ndarray) -> Predicate:
    """Count the elements of a predicate, and compute its description length."""
    share = wrong.size // mask.size if mask.size else 0                     # elements per element of the mask
    inside = wrong & mask
    total, hits = share * int(mask.sum()), int(inside.sum())
    missed = int(wrong.sum()) - hits
    length = bits + subset_bits(total, hits) + subset_bits(wrong.size - total, missed)
    return Predicate(length, text, bits, mask, total, hits)


def subset_bits(n: int, k: int) -> float:
    """Return the bits that describe a subset of n elements: its size k, then one of the subsets of that size."""
    return log2(n + 1) + (lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)) / log(2)


def enriched(wrong: np.ndarray, axes: tuple[str, ...], side: Mapping[str, np.ndarray]) -> Iterator[Predicate]:
    """Yield the predicates with a larger share of wrong elements than the whole array has."""
    overall, share = int(wrong.sum()), wrong.size
    columns: dict[str, np.ndarray] = {}
    for axis, (name, size) in enumerate(zip(axes, wrong.shape, strict=True)):
        index = np.arange(size) + FIRST.get(name, 0)
        columns[name] = index.reshape([-1 if i == axis else 1 for i in range(wrong.ndim)])
    for name, values in (columns | dict(side)).items():
        for text, bits, mask in predicates(name, np.asarray(values), name in columns or name in INDICES):
            predicate = measured(wrong, text, bits + NAMELESS * name.startswith("axis "), mask)
            if predicate.hits * share > overall * predicate.total:
                yield predicate


def predicates(name: str, values: np.ndarray, is_axis: bool) -> Iterator[tuple[str, float, np.ndarray]]:
    """Yield text, bits and mask of the predicates over one column; names of columns of booleans follow "with"."""
    label, name = name, name if is_axis or values.dtype.kind == "b" else f"where {name}"
    if values.dtype.kind == "b":
        yield f"with {name}", 3, values
        yield f"without {name}", 3, ~values
    elif values.dtype.kind == "f":
        size = np.abs(values)
        yield from ((f"{name} {sign} 0", 4, mask) for sign, mask in
                    (("<", values < 0), ("=", values == 0), (">", values > 0)))
        yield f"{name} not finite", 5, ~np.isfinite(values)
        for power in range(-30, 5):
            yield f"where |{label}| < 1e{power}", 8, size < 10.0**power
            yield f"where |{label}| >= 1e{power}", 8, size >= 10.0**power
    else:
        distinct = np.unique(values)
        bits = (1 if is_axis and not name.startswith("axis ") else 4) + log2(max(len(distinct), 2))
        few = len(distinct) <= LONGEST
        for value in distinct if few else ():
            yield f"{name} = {value}", bits, values == value
        for bound in distinct[1:] if few else 2 ** np.array((16, 24, 31, 32, 53, 62)):
            yield f"{name} < {bound}", bits + 1, values < bound
            yield f"{name} >= {bound}", bits + 1, values >= bound
        for modulus in (2, 4, 8, 16, 32, 64) if is_axis else ():
            for rest in range(modulus if modulus < len(distinct) else 0):
                yield f"{name} % {modulus} = {rest}", 7 + log2(modulus), values % modulus == rest
