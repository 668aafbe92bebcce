"""Sums of products in a fixed order: lane i adds the elements i, i + L, i + 2L, ...; then the lanes are added in pairs.

In a plain loop, each addition waits for the previous one. L independent sums (16 in float32, 8 in float64) do not
wait, and their order is always the same, because the compiler cannot change it.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import register_jitable

from engram_ref.backends.numba.vectors.instructions import BYTES, I32, I64, every, lanes, vector_code


def lane_sum(products, count):
    """Add products in lanes, then the lanes in pairs: the order of every sum in this module."""
    width = BYTES // products.itemsize
    partial = products.reshape(count // width, width).sum(axis=0)
    while partial.size > 1:
        partial = partial[: partial.size // 2] + partial[partial.size // 2 :]
    return partial[0]


def whole_dot(a, i, b, j, count):
    """sum of a[i + k] * b[j + k] for k in range(count); count is a multiple of the vector width."""
    return lane_sum(a[i : i + count] * b[j : j + count], count)


def whole_triple(a, i, b, j, c, k, count):
    """Return sum(a * a), sum(b * b) and sum(a * (c * b)), in one pass; count is a multiple of the vector width."""
    x, y, z = a[i : i + count], b[j : j + count], c[k : k + count]
    return lane_sum(x * x, count), lane_sum(y * y, count), lane_sum(x * (z * y), count)


def accumulate(code, count, kind, sums, step):
    """Run step(offset, sums) -> sums for the vectors of `count` elements; return the sums, lanes added in pairs."""
    builder, width = code.builder, I64(kind.count)
    totals = [cgutils.alloca_once_value(builder, every(kind.element, kind.count, 0.0)) for _ in range(sums)]
    with cgutils.for_range(builder, builder.udiv(count, width)) as loop:
        values = step(builder.mul(loop.index, width), [builder.load(total) for total in totals])
        for total, value in zip(totals, values, strict=True):
            builder.store(value, total)
    return [pairwise(builder, builder.load(total)) for total in totals]


def pairwise(builder, vector):
    """The sum of a vector's lanes: halves added until one is left."""
    while vector.type.count > 1:
        half = vector.type.count // 2
        low, high = (builder.shuffle_vector(vector, vector, ir.Constant(lanes(I32, half), list(part)))
                     for part in (range(half), range(half, 2 * half)))
        vector = builder.fadd(low, high)
    return builder.extract_element(vector, I32(0))


@vector_code(whole_dot, lambda a, *others: a.dtype)
def whole_dot(code, a, i, b, j, count):
    """Fused multiply-adds."""
    def step(offset, sums):
        x, y = code.load(a, code.builder.add(i, offset)), code.load(b, code.builder.add(j, offset))
        return [code.multiply_add(x, y, sums[0])]

    return accumulate(code, count, a.kind, 1, step)[0]


@vector_code(whole_triple, lambda a, *others: types.UniTuple(a.dtype, 3))
def whole_triple(code, a, i, b, j, c, k, count):
    """Fused multiply-adds."""
    builder = code.builder

    def step(offset, sums):
        x, y, z = (code.load(array, builder.add(start, offset)) for array, start in ((a, i), (b, j), (c, k)))
        return [code.multiply_add(x, x, sums[0]), code.multiply_add(y, y, sums[1]),
                code.multiply_add(x, builder.fmul(z, y), sums[2])]

    return cgutils.pack_array(builder, accumulate(code, count, a.kind, 3, step))


@register_jitable
def dot(a, i, b, j, count):
    """sum of a[i + k] * b[j + k] for k in range(count): whole vectors first, then the remaining elements one by one."""
    whole = count - count % (BYTES // a.itemsize)
    total = whole_dot(a, i, b, j, whole)
    for k in range(whole, count):
        total += a[i + k] * b[j + k]
    return total


@register_jitable
def triple(a, i, b, j, c, k, count):
    """Return sum(a * a), sum(b * b) and sum(a * (c * b)) over `count` elements, each in the order of `dot`."""
    whole = count - count % (BYTES // a.itemsize)
    aa, bb, acb = whole_triple(a, i, b, j, c, k, whole)
    for n in range(whole, count):
        x, y = a[i + n], b[j + n]
        aa += x * x
        bb += y * y
        acb += x * (c[k + n] * y)
    return aa, bb, acb
