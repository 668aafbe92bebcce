"""Taps of a convolution: weighted rows of channels are summed, activated and stored without leaving the registers.

Every array slice updates a reference count, and an index that might be negative keeps LLVM from vectorising a loop. So
the rows are passed as an array, the index of the first row, and the distance between rows.
"""

from typing import NamedTuple

import numpy as np
from numba.core import cgutils

from engram_ref.backends.numba.vectors.exp import silu_of
from engram_ref.backends.numba.vectors.instructions import STRIP, constant, lanes, vector_code
from engram_ref.backends.numba.vectors.memory import prefetch_line


class Strided(NamedTuple):
    """Rows of `array` [...]: row n begins at element first + n * step."""

    array: np.ndarray | None
    first: int
    step: int


class Taps(NamedTuple):
    """`count` products weight[n, c] * (factor[n] * source[n, c]), to be summed over n."""

    weight: Strided
    source: Strided
    factor: Strided     # only the first element of each row is used; if its array is None, every factor is 1
    count: int


def store_convolved(inside, before, alpha, value, ahead, size, stream, y, first):
    """y[first + c] = silu(sum of `inside` and `before`) + alpha[0] * value[c], for c < size.

    inside, before   Taps
    alpha, value     Strided; if alpha's array is None, nothing is added
    ahead            index in the source of `inside` from which a row is prefetched
    stream           whether to use non-temporal stores, which require whole, aligned vectors
    """
    total = np.zeros(size, y.dtype)
    for weight, source, factor, count in (inside, before):
        for n in range(count):
            w, x = (rows.array[rows.first + n * rows.step :][:size] for rows in (weight, source))
            total += w * x if factor.array is None else w * (factor.array[factor.first + n * factor.step] * x)
    with np.errstate(over="ignore"):
        total /= 1 + np.exp(-total)
    if alpha.array is not None:
        total += alpha.array[alpha.first] * value.array[value.first :][:size]
    y[first : first + size] = total


@vector_code(store_convolved)
def store_convolved(code, inside, before, alpha, value, ahead, size, stream, y, first):
    """The sums of a strip of channels stay in registers while the taps are read."""
    builder = code.builder
    for width, indices in code.strips(size, y.kind, STRIP):
        sums = [cgutils.alloca_once(builder, lanes(y.kind.element, width)) for _ in indices]
        # Sum the taps one by one
        for total in sums:
            builder.store(constant(total.type.pointee, 0.0), total)
        for taps in (inside, before):
            with cgutils.for_range(builder, taps.count) as tap:
                add_tap(code, taps, tap.index, indices, width, sums)
        # Activate, add the value and store
        for index, total in zip(indices, sums, strict=True):
            prefetch_line(code, inside.source.array, builder.add(ahead, index))
            result = silu_of(code, builder.load(total))
            if alpha.array is not None:
                added = code.load(value.array, builder.add(value.first, index), width)
                result = code.multiply_add(code.fill(alpha.array, alpha.first, width), added, result)
            code.store(result, y, builder.add(first, index), stream)


def add_tap(code, taps, n, indices, width, sums):
    """Add one tap's products to the sums of a strip."""
    builder = code.builder
    weight, source, factor = (builder.add(rows.first, builder.mul(n, rows.step))
                              for rows in (taps.weight, taps.source, taps.factor))
    scale = None if taps.factor.array is None else code.fill(taps.factor.array, factor, width)
    for index, total in zip(indices, sums, strict=True):
        w, x = (code.load(array, builder.add(start, index), width)
                for array, start in ((taps.weight.array, weight), (taps.source.array, source)))
        builder.store(code.multiply_add(w, x if scale is None else builder.fmul(scale, x), builder.load(total)), total)
