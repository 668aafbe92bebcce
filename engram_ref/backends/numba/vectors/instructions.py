"""How a kernel says "eight at once": functions written as LLVM vector instructions, called from Numba.

Numba leaves vectors to LLVM's guesses. Where a guess is several times too slow, the few instructions are
spelled out here. Every such function has a plain Python body of the same name that says what it computes;
the body runs where the JIT is switched off (NUMBA_DISABLE_JIT=1), and tests hold the two together.
"""

from collections.abc import Callable

from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

BYTES = 64
"""Bytes of one vector: 16 float32 or 8 float64; also one cache line."""

I8, I16, I32, I64 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64)
F16, F32, F64 = ir.HalfType(), ir.FloatType(), ir.DoubleType()


def vector_code(plain: Callable) -> Callable[[Callable], Callable]:
    """Decorate the function that builds the vector code of `plain`; without the JIT, `plain` itself results."""
    return lambda build: plain if config.DISABLE_JIT else intrinsic(build)


def lanes(element: ir.Type, count: int) -> ir.VectorType:
    """The type of `count` numbers side by side."""
    return ir.VectorType(element, count)


def vector_of(array: types.Array) -> ir.VectorType:
    """The vector of an array's elements that fills 64 bytes."""
    element, size = {types.uint8: (I8, 1), types.float32: (F32, 4), types.float64: (F64, 8)}[array.dtype]
    return lanes(element, BYTES // size)


def every(element: ir.Type, count: int, value: float) -> ir.Constant:
    """A vector that holds the same constant in every lane."""
    return ir.Constant(lanes(element, count), [value] * count)


class Code:
    """The instructions of one intrinsic, by what they do.

    context, builder, signature, arguments   as Numba hands them to a code generator
    """

    def __init__(self, context, builder, signature, arguments):
        self.context, self.builder = context, builder
        self.types, self.arguments = signature.args, arguments

    def address(self, argument: int, index: ir.Value) -> ir.Value:
        """Where element `index` of an array argument stands."""
        array = self.context.make_array(self.types[argument])(self.context, self.builder, self.arguments[argument])
        return self.builder.gep(array.data, [index])

    def load(self, argument: int, index: ir.Value, kind: ir.VectorType) -> ir.Value:
        """The elements of an array argument from `index` on, as one vector."""
        loaded = self.builder.load(self.builder.bitcast(self.address(argument, index), kind.as_pointer()))
        loaded.align = kind.element.get_abi_size(self.context.target_data)
        return loaded

    def store(self, value: ir.Value, argument: int, index: ir.Value, stream: bool = False) -> None:
        """Write a vector into an array argument. `stream` bypasses the cache; the place must be 64-byte aligned."""
        place = self.builder.bitcast(self.address(argument, index), value.type.as_pointer())
        stored = self.builder.store(value, place)
        stored.align = BYTES if stream else value.type.element.get_abi_size(self.context.target_data)
        if stream:
            stored.set_metadata("nontemporal", self.builder.module.add_metadata([I32(1)]))

    def spread(self, value: ir.Value, kind: ir.VectorType) -> ir.Value:
        """One number in every lane."""
        first = self.builder.insert_element(ir.Constant(kind, ir.Undefined), value, I32(0))
        return self.builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), every(I32, kind.count, 0))

    def multiply_add(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        """a * b + c in every lane, rounded once."""
        name = f"llvm.fma.v{a.type.count}f{64 if a.type.element == F64 else 32}"
        function = cgutils.get_or_insert_function(self.builder.module, ir.FunctionType(a.type, [a.type] * 3), name)
        return self.builder.call(function, [a, b, c])
