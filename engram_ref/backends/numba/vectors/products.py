"""Small matrix products whose sums stay in registers:

    c[i, k] = sum_n a[i, n] b[n, k]

for a few rows i, and for columns k that fill one or two vectors. Each sum runs over n in ascending order.
"""

from collections.abc import Callable

import numpy as np
from numba.core import cgutils

from engram_ref.backends.numba.vectors.instructions import BYTES, I64, every, vector_code
from engram_ref.backends.numba.vectors.memory import prefetch_line


def product_of(rows: int, vectors: int, ahead: bool = False) -> Callable:
    """Build product(a, column, last, b, count, fresh, c) for `rows` rows of a and `vectors` vectors of columns.

    ahead    whether to prefetch, during the sum, the next rows of a, which must then be contiguous

    The product's arguments:

    a        Strided: element n of row i is at a.first + i * a.step + n * column
    last     row i > last of a is replaced by row `last`
    b, c     Strided; rows of b must not overlap each other, nor may rows of c
    count    number of terms per sum
    fresh    whether the sum starts from 0 instead of c
    """
    def product(a, column, last, b, count, fresh, c):
        size = vectors * (BYTES // c.array.itemsize)
        for i in range(rows):
            row, first = a.first + min(i, last) * a.step, c.first + i * c.step
            total = np.zeros(size, c.array.dtype) if fresh else c.array[first : first + size].copy()
            for n in range(count):
                start = b.first + n * b.step
                total += a.array[row + n * column] * b.array[start : start + size]
            c.array[first : first + size] = total

    @vector_code(product)
    def generated(code, a, column, last, b, count, fresh, c):
        builder, kind = code.builder, c.array.kind
        zeros, width = every(kind.element, kind.count, 0.0), I64(kind.count)

        def vectors_of(start):
            return [builder.add(start, builder.mul(I64(v), width)) for v in range(vectors)]

        # Locate the rows of a; start the sums from 0 or from c
        first = [code.pointer(a.array, builder.add(a.first, builder.mul(smaller(builder, I64(i), last), a.step)),
                              kind.element) for i in range(rows)]
        targets = [vectors_of(builder.add(c.first, builder.mul(I64(i), c.step))) for i in range(rows)]
        sums = [[cgutils.alloca_once_value(builder, builder.select(fresh, zeros, code.load(c.array, target)))
                 for target in row] for row in targets]
        next_rows = builder.add(a.first, builder.mul(I64(rows), a.step))
        # For each n, multiply one or two vectors of b by one number of every row of a
        with cgutils.for_range(builder, count) as loop:
            shift = builder.mul(loop.index, column)
            loaded = [code.load(b.array, start)
                      for start in vectors_of(builder.add(b.first, builder.mul(loop.index, b.step)))]
            if ahead:
                whole = builder.and_(builder.mul(loop.index, I64(rows)), I64(-kind.count))      # whole cache lines
                prefetch_line(code, a.array, builder.add(next_rows, whole))
            for start, row in zip(first, sums, strict=True):
                factor = code.spread(builder.load(builder.gep(start, [shift])), kind)
                for x, total in zip(loaded, row, strict=True):
                    builder.store(code.multiply_add(factor, x, builder.load(total)), total)
        # Store the sums
        for row, totals in zip(targets, sums, strict=True):
            for target, total in zip(row, totals, strict=True):
                code.store(builder.load(total), c.array, target)

    return generated


def smaller(builder, a, b):
    """The smaller of two integers."""
    return builder.select(builder.icmp_signed("<", a, b), a, b)
