"""Lines of channels: sum several, weighted; copy one out.

Slices of arrays cost a reference count each, and an index that might be negative keeps LLVM from vectorising a loop.
So lines are an array, the element where the first begins, and the distance to the next.
"""

from typing import NamedTuple

import numpy as np
from numba.core import cgutils

from engram_ref.backends.numba.vectors.instructions import BYTES, I64, every, inlined, vector_code
from engram_ref.backends.numba.vectors.memory import copy_line


class Lines(NamedTuple):
    """Line n of `array` [...] begins at element first + n * step."""

    array: np.ndarray
    first: int
    step: int


def add_whole(weight, source, factor, count, fresh, total, size):
    """total[c] += sum over n < count of weight[n, c] * (factor[n] * source[n, c]), for c < size, whole vectors.

    weight, source, factor   Lines; of a line of `factor`, the first element counts
    fresh                    whether the sum starts from 0 instead of `total`
    """
    if fresh:
        total[:size] = 0
    for n in range(count):
        w, x, k = (lines.first + n * lines.step for lines in (weight, source, factor))
        total[:size] += weight.array[w : w + size] * (factor.array[k] * source.array[x : x + size])


@vector_code(add_whole)
def add_whole(code, weight, source, factor, count, fresh, total, size):
    """The sum of one vector of channels stays in a register while the lines are read."""
    builder, kind = code.builder, total.kind
    running = cgutils.alloca_once(builder, kind)

    def start(lines, n):
        return builder.add(lines.first, builder.mul(n, lines.step))

    zeros = every(kind.element, kind.count, 0.0)
    needed = builder.select(builder.or_(fresh, builder.icmp_signed(">", count, I64(0))), size, I64(0))
    with code.vectors(needed, kind) as c:
        builder.store(builder.select(fresh, zeros, code.load(total, c)), running)
        with cgutils.for_range(builder, count) as line:
            w, x = (code.load(lines.array, builder.add(start(lines, line.index), c)) for lines in (weight, source))
            scale = builder.load(code.place(factor.array, start(factor, line.index), kind.element))
            product = builder.fmul(code.spread(scale, kind), x)
            builder.store(code.multiply_add(w, product, builder.load(running)), running)
        code.store(builder.load(running), total, c)


@inlined
def add_lines(weight, source, factor, count, fresh, total):
    """The sum that `add_whole` states, for all of `total`."""
    whole = total.size - total.size % (BYTES // total.itemsize)
    add_whole(weight, source, factor, count, fresh, total, whole)
    for c in range(whole, total.size):
        total[c] = 0 if fresh else total[c]
        for n in range(count):
            scaled = factor.array[factor.first + n * factor.step] * source.array[source.first + n * source.step + c]
            total[c] += weight.array[weight.first + n * weight.step + c] * scaled


@inlined
def write_line(line, stream, y, first):
    """Copy a line to y from `first` on; `stream` uses non-temporal stores, which need whole, aligned vectors."""
    if stream:
        for c in range(0, line.size, BYTES // line.itemsize):
            copy_line(line, c, y, first + c, True)
    else:
        y[first : first + line.size] = line
