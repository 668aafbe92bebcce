"""Small matrix products whose sums stay in registers:

    c[i, k] = sum_n a[i, n] b[n, k]

for a few i and for the k of one or two vectors. n goes in order, so every sum has a stated order.
"""

from collections.abc import Callable

import numpy as np
from numba.core import cgutils

from engram_ref.backends.numba.vectors.instructions import BYTES, I64, every, vector_code
from engram_ref.backends.numba.vectors.memory import prefetch_line


def product_of(lines: int, vectors: int, ahead: bool = False) -> Callable:
    """product(a, column, last, b, count, fresh, c) for so many i, and for the k of so many vectors.

    ahead    whether to prefetch, while the sum runs, the lines of a after these; they are contiguous then

    The product's arguments:

    a        Lines: element n of line i is at a.first + i * a.step + n * column
    last     line i > last of a is replaced by line `last`
    b, c     Lines; those of b and c may overlap in neither
    count    number of n
    fresh    whether the sum starts from 0 instead of c
    """
    def product(a, column, last, b, count, fresh, c):
        size = vectors * (BYTES // c.array.itemsize)
        for i in range(lines):
            line, first = a.first + min(i, last) * a.step, c.first + i * c.step
            total = np.zeros(size, c.array.dtype) if fresh else c.array[first : first + size].copy()
            for n in range(count):
                start = b.first + n * b.step
                total += a.array[line + n * column] * b.array[start : start + size]
            c.array[first : first + size] = total

    @vector_code(product)
    def generated(code, a, column, last, b, count, fresh, c):
        builder, kind = code.builder, c.array.kind
        zeros, width = every(kind.element, kind.count, 0.0), I64(kind.count)

        def vectors_of(start):
            return [builder.add(start, builder.mul(I64(v), width)) for v in range(vectors)]

        # Where every line of a begins; the sums, from 0 or from c
        first = [code.place(a.array, builder.add(a.first, builder.mul(smaller(builder, I64(i), last), a.step)),
                            kind.element) for i in range(lines)]
        places = [vectors_of(builder.add(c.first, builder.mul(I64(i), c.step))) for i in range(lines)]
        sums = [[cgutils.alloca_once_value(builder, builder.select(fresh, zeros, code.load(c.array, place)))
                 for place in line] for line in places]
        behind = builder.add(a.first, builder.mul(I64(lines), a.step))
        # Each n: one vector (or two) of b, times one number of every line of a
        with cgutils.for_range(builder, count) as loop:
            shift = builder.mul(loop.index, column)
            loaded = [code.load(b.array, place)
                      for place in vectors_of(builder.add(b.first, builder.mul(loop.index, b.step)))]
            if ahead:
                whole = builder.and_(builder.mul(loop.index, I64(lines)), I64(-kind.count))     # one cache line
                prefetch_line(code, a.array, builder.add(behind, whole))
            for start, line in zip(first, sums, strict=True):
                factor = code.spread(builder.load(builder.gep(start, [shift])), kind)
                for x, total in zip(loaded, line, strict=True):
                    builder.store(code.multiply_add(factor, x, builder.load(total)), total)
        # Store
        for line, totals in zip(places, sums, strict=True):
            for place, total in zip(line, totals, strict=True):
                code.store(builder.load(total), c.array, place)

    return generated


def smaller(builder, a, b):
    """The smaller one of two integers."""
    return builder.select(builder.icmp_signed("<", a, b), a, b)
