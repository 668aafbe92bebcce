"""Moving rows: ask for what is needed soon, copy a cache line at a time."""

from llvmlite import ir
from numba import types
from numba.core import cgutils

from engram_ref.backends.numba.vectors.instructions import BYTES, I8, I32, Code, vector_code, vector_of


def prefetch(array, index):
    """Ask for the cache line of array[index], which will be read soon; changes nothing."""


@vector_code(prefetch)
def prefetch(typing, array, index):
    """The instruction, for reading, to be kept in every cache."""
    def generate(context, builder, signature, arguments):
        code = Code(context, builder, signature, arguments)
        kind = ir.FunctionType(ir.VoidType(), [I8.as_pointer(), I32, I32, I32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        place = builder.bitcast(code.address(0, arguments[1]), I8.as_pointer())
        builder.call(function, [place, I32(0), I32(3), I32(1)])          # to read; keep it close; data
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


def plain_copy(source, i, target, j):
    """target[j : j + n] = source[i : i + n], where n elements are 64 bytes; of uint8, float32 or float64."""
    n = BYTES // source.itemsize
    target[j : j + n] = source[i : i + n]


def copies(stream: bool):
    """The vector code of `plain_copy`; `stream` writes past the cache, to 64-byte aligned places."""
    def build(typing, source, i, target, j):
        def generate(context, builder, signature, arguments):
            code = Code(context, builder, signature, arguments)
            code.store(code.load(0, arguments[1], vector_of(source)), 2, arguments[3], stream)
            return context.get_dummy_value()

        return types.void(source, types.intp, target, types.intp), generate

    return vector_code(plain_copy)(build)


copy_line, stream_line = copies(stream=False), copies(stream=True)
