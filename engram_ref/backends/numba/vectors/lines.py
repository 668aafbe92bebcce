"""Lines of channels: sum several, weighted; add one, weighted, to another; copy one out.

Slices of arrays cost a count of references each, and an index that might be negative keeps LLVM from making
vectors of a loop. So a line is an array and where in it the line begins.
"""

from numba import njit, types
from numba.core import cgutils

from engram_ref.backends.numba.vectors.instructions import BYTES, I64, Code, every, vector_code, vector_of
from engram_ref.backends.numba.vectors.memory import stream_line

inlined = njit(inline="always")     # a call would count references to every array it is given


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


def whole_taps(weight, i, i_step, source, j, j_step, factor, k, k_step, taps, total, count):
    """total[c] = sum over n < taps of weight[i + n i_step + c] * (factor[k + n k_step] * source[j + n j_step + c])."""
    total[:count] = 0
    for n in range(taps):
        whole_add(weight, i + n * i_step, source, j + n * j_step, factor[k + n * k_step], total, count)


@vector_code(whole_taps)
def whole_taps(typing, weight, i, i_step, source, j, j_step, factor, k, k_step, taps, total, count):
    """The sum of one vector of channels stays in a register while its taps are read."""
    def generate(context, builder, signature, arguments):
        code, kind = Code(context, builder, signature, arguments), vector_of(total)
        _, i_at, i_by, _, j_at, j_by, _, k_at, k_by, n_taps, _, size = arguments
        running = cgutils.alloca_once(builder, kind)

        def element(start, step, n, at):
            return builder.add(builder.add(start, builder.mul(n, step)), at)

        with cgutils.for_range(builder, builder.udiv(size, I64(kind.count))) as channel:
            at = builder.mul(channel.index, I64(kind.count))
            builder.store(every(kind.element, kind.count, 0.0), running)
            with cgutils.for_range(builder, n_taps) as tap:
                w, x = code.load(0, element(i_at, i_by, tap.index, at), kind), code.load(
                    3, element(j_at, j_by, tap.index, at), kind)
                scale = builder.load(code.address(6, element(k_at, k_by, tap.index, I64(0))))
                product = builder.fmul(code.spread(scale, kind), x)
                builder.store(code.multiply_add(w, product, builder.load(running)), running)
            code.store(builder.load(running), 10, at)
        return context.get_dummy_value()

    intp = types.intp
    return types.void(weight, intp, intp, source, intp, intp, factor, intp, intp, intp, total, intp), generate


@inlined
def sum_lines(weight, i, i_step, source, j, j_step, factor, k, k_step, taps, total):
    """The sum that `whole_taps` states, for all of `total`."""
    whole = total.size - total.size % (BYTES // total.itemsize)
    whole_taps(weight, i, i_step, source, j, j_step, factor, k, k_step, taps, total, whole)
    for c in range(whole, total.size):
        total[c] = 0
        for n in range(taps):
            total[c] += weight[i + n * i_step + c] * (factor[k + n * k_step] * source[j + n * j_step + c])


@inlined
def add_line(weight, i, source, j, factor, total):
    """total[c] += weight[i + c] * (factor * source[j + c]) for all of `total`."""
    whole = total.size - total.size % (BYTES // total.itemsize)
    whole_add(weight, i, source, j, factor, total, whole)
    for c in range(whole, total.size):
        total[c] += weight[i + c] * (factor * source[j + c])


@inlined
def write_line(line, stream, y, first):
    """Copy a line to y from `first` on; `stream` writes past the cache, whole vectors to aligned places."""
    if stream:
        for c in range(0, line.size, BYTES // line.itemsize):
            stream_line(line, c, y, first + c)
    else:
        y[first : first + line.size] = line
