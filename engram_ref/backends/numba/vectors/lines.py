"""Taps of a convolution: weighted lines of channels are added, activated and stored without leaving the registers.

Slices of arrays cost a reference count each, and an index that might be negative keeps LLVM from vectorising a loop.
So lines are an array, the element where the first begins, and the distance to the next.
"""

from typing import NamedTuple

import numpy as np
from numba.core import cgutils

from engram_ref.backends.numba.vectors.exp import silu_of
from engram_ref.backends.numba.vectors.instructions import STRIP, constant, lanes, vector_code
from engram_ref.backends.numba.vectors.memory import prefetch_line


class Lines(NamedTuple):
    """Line n of `array` [...] begins at element first + n * step."""

    array: np.ndarray | None
    first: int
    step: int


class Taps(NamedTuple):
    """`count` products weight[n, c] * (factor[n] * source[n, c]), to be added.

    weight, source   Lines
    factor           Lines, of which the first element counts; an array of None stands for ones
    """

    weight: Lines
    source: Lines
    factor: Lines
    count: int


def store_convolved(inside, before, alpha, value, ahead, size, stream, y, first):
    """y[first + c] = silu(sum of `inside` and `before`) + alpha[0] * value[c], for c < size.

    inside, before   Taps
    alpha, value     Lines; if alpha's array is None, nothing is added
    ahead            index in the source of `inside`; the line there is prefetched
    stream           use non-temporal stores, which need whole, aligned vectors
    """
    total = np.zeros(size, y.dtype)
    for weight, source, factor, count in (inside, before):
        for n in range(count):
            w, x = (lines.array[lines.first + n * lines.step :][:size] for lines in (weight, source))
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
        # Add the taps, tap by tap
        for place in sums:
            builder.store(constant(place.type.pointee, 0.0), place)
        for taps in (inside, before):
            with cgutils.for_range(builder, taps.count) as tap:
                add_tap(code, taps, tap.index, indices, width, sums)
        # Activate, add the value and store
        for index, place in zip(indices, sums, strict=True):
            prefetch_line(code, inside.source.array, builder.add(ahead, index))
            answer = silu_of(code, builder.load(place))
            if alpha.array is not None:
                here = code.load(value.array, builder.add(value.first, index), width)
                answer = code.multiply_add(code.fill(alpha.array, alpha.first, width), here, answer)
            code.store(answer, y, builder.add(first, index), stream)


def add_tap(code, taps, n, indices, width, sums):
    """One tap's products, added to the sums of a strip."""
    builder = code.builder
    weight, source, factor = (builder.add(lines.first, builder.mul(n, lines.step))
                              for lines in (taps.weight, taps.source, taps.factor))
    scale = None if taps.factor.array is None else code.fill(taps.factor.array, factor, width)
    for index, place in zip(indices, sums, strict=True):
        w, x = (code.load(array, builder.add(start, index), width)
                for array, start in ((taps.weight.array, weight), (taps.source.array, source)))
        builder.store(code.multiply_add(w, x if scale is None else builder.fmul(scale, x), builder.load(place)), place)
