"""Lines of channels: add one, weighted, to another; copy one out.

Slices of arrays cost a count of references each, and an index that might be negative keeps LLVM from making
vectors of a loop. So a line is an array and where in it the line begins.
"""

from numba import types
from numba.core import cgutils
from numba.extending import register_jitable

from engram_ref.backends.numba._memory import stream_line
from engram_ref.backends.numba._vectors import BYTES, I64, Code, vector_code, vector_of


def whole_add(weight, i, source, j, factor, total, count):
    """total[c] += weight[i + c] * (factor * source[j + c]) for c in range(count), a whole number of vectors."""
    total[:count] += weight[i : i + count] * (factor * source[j : j + count])


@vector_code(whole_add)
def whole_add(typing, weight, i, source, j, factor, total, count):
    """One product, one fused multiply-add."""
    def generate(context, builder, signature, arguments):
        code, kind = Code(context, builder, signature, arguments), vector_of(total)
        _, i_at, _, j_at, scale, _, n = arguments
        scales = code.spread(scale, kind)
        with cgutils.for_range(builder, builder.udiv(n, I64(kind.count))) as loop:
            at = builder.mul(loop.index, I64(kind.count))
            w, x = code.load(0, builder.add(i_at, at), kind), code.load(2, builder.add(j_at, at), kind)
            code.store(code.multiply_add(w, builder.fmul(scales, x), code.load(5, at, kind)), 5, at)
        return context.get_dummy_value()

    intp = types.intp
    return types.void(weight, intp, source, intp, total.dtype, total, intp), generate


@register_jitable
def add_line(weight, i, source, j, factor, total):
    """total[c] += weight[i + c] * (factor * source[j + c]) for all of `total`."""
    whole = total.size - total.size % (BYTES // total.itemsize)
    whole_add(weight, i, source, j, factor, total, whole)
    for c in range(whole, total.size):
        total[c] += weight[i + c] * (factor * source[j + c])


@register_jitable
def write_line(line, stream, y, first):
    """Copy a line to y from `first` on; `stream` writes past the cache, whole vectors to aligned places."""
    if stream:
        for c in range(0, line.size, BYTES // line.itemsize):
            stream_line(line, c, y, first + c)
    else:
        y[first : first + line.size] = line
