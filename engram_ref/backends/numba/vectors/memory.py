"""Memory instructions: prefetch a cache line, copy a cache line."""

from llvmlite import ir
from numba.core import cgutils

from engram_ref.backends.numba.vectors.instructions import BYTES, I8, I32, vector_code


def prefetch(array, index):
    """Prefetch the cache line of array[index]; the plain version does nothing."""


@vector_code(prefetch)
def prefetch(code, array, index):
    """The instruction."""
    prefetch_line(code, array, index)


def prefetch_line(code, array, index):
    """Build the instruction that prefetches the cache line of array[index] for reading, into every cache level."""
    pointer = code.pointer(array, index, I8)
    kind = ir.FunctionType(ir.VoidType(), [pointer.type, I32, I32, I32])
    function = cgutils.get_or_insert_function(code.builder.module, kind, "llvm.prefetch.p0")
    code.builder.call(function, [pointer, I32(0), I32(3), I32(1)])            # for reading; keep in cache; data


def copy_line(source, i, target, j, stream):
    """target[j : j + n] = source[i : i + n], where n elements of uint8, float32 or float64 are 64 bytes.

    stream   whether to use a non-temporal store, which requires 64-byte alignment
    """
    n = BYTES // source.itemsize
    target[j : j + n] = source[i : i + n]


@vector_code(copy_line)
def copy_line(code, source, i, target, j, stream):
    """One load and one store."""
    code.store(code.load(source, i), target, j, stream)
