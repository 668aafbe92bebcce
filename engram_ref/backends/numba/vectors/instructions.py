"""What vector code is written with: the decorator, the array arguments, and the instructions by name."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from llvmlite import ir
from numba import config, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

BYTES = 64
"""Bytes of one vector: 16 float32 or 8 float64; also one cache line."""

I1, I8, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
F16, F32, F64 = ir.HalfType(), ir.FloatType(), ir.DoubleType()
NEVER = I1(0)
STRIP = 4
"""Vectors computed together: the processor works on one while the others wait for their operands."""

inlined = njit(inline="always")
"""Decorates what kernels call in their innermost loops: a call would count references to every array it is given."""


def vector_code(plain: Callable, returns: Callable = lambda *arguments: types.void) -> Callable[[Callable], Callable]:
    """Decorate generate(code, *arguments), which builds the instructions of `plain`.

    The generator gets an `Array` for each array, a named tuple for a named tuple, and an LLVM value for anything
    else. It has the argument names of `plain` and returns the result's LLVM value, or None.

    plain     the plain Python body; without the JIT, it is what the decorated name refers to
    returns   from the Numba types of the arguments to the result's
    """
    def decorate(generate):
        def typed(typing, *arguments):
            def lower(context, builder, signature, values):
                code = Code(context, builder)
                answer = generate(code, *map(code.argument, signature.args, values))
                return context.get_dummy_value() if answer is None else answer

            accepted = [types.intp if isinstance(kind, types.Integer) else kind for kind in arguments]
            return returns(*arguments)(*accepted), lower

        typed.__signature__ = inspect.signature(generate)       # Numba matches arguments by it
        return intrinsic(typed)

    return (lambda generate: plain) if config.DISABLE_JIT else decorate


def lanes(element: ir.Type, count: int) -> ir.VectorType:
    """The type of a vector of `count` numbers."""
    return ir.VectorType(element, count)


def every(element: ir.Type, count: int, value: float) -> ir.Constant:
    """A vector with the same constant in every lane."""
    return ir.Constant(lanes(element, count), [value] * count)


def element_of(kind: ir.Type) -> ir.Type:
    """The type of one lane of a vector; a number's own."""
    return kind.element if isinstance(kind, ir.VectorType) else kind


def like(kind: ir.Type, element: ir.Type) -> ir.Type:
    """`kind`, a number's or a vector's type, with another type of element."""
    return lanes(element, kind.count) if isinstance(kind, ir.VectorType) else element


def constant(kind: ir.Type, value: float) -> ir.Constant:
    """A number of that type, in every lane if it is a vector's."""
    return every(kind.element, kind.count, value) if isinstance(kind, ir.VectorType) else ir.Constant(kind, value)


class Array(NamedTuple):
    """An array argument: a pointer to its first element, and the vector of its elements that fills 64 bytes."""

    data: ir.Value
    kind: ir.VectorType


class Code:
    """The instructions of one intrinsic, by what they do.

    context, builder   as Numba hands them to a code generator
    """

    def __init__(self, context, builder):
        self.context, self.builder = context, builder

    def argument(self, kind: types.Type, value: ir.Value) -> object:
        """An argument as a generator gets it."""
        if isinstance(kind, types.BaseNamedTuple):
            fields = [self.builder.extract_value(value, i) for i in range(len(kind))]
            return kind.instance_class(*map(self.argument, kind, fields))
        if kind == types.none:
            return None
        if not isinstance(kind, types.Array):
            return value
        element = self.context.get_data_type(kind.dtype)
        data = self.context.make_array(kind)(self.context, self.builder, value).data
        return Array(data, lanes(element, BYTES // self.size(element)))

    def size(self, element: ir.Type) -> int:
        """Bytes of a number."""
        return element.get_abi_size(self.context.target_data)

    def place(self, array: Array, index: ir.Value, kind: ir.Type) -> ir.Value:
        """Pointer to a `kind` at element `index` of an array."""
        return self.builder.bitcast(self.builder.gep(array.data, [index]), kind.as_pointer())

    def load(self, array: Array, index: ir.Value, count: int | None = None) -> ir.Value:
        """The elements of an array from `index` on as one vector: `count` of them, or as many as fill 64 bytes."""
        kind = lanes(array.kind.element, count or array.kind.count)
        return self.builder.load(self.place(array, index, kind), align=self.size(kind.element))

    def store(self, value: ir.Value, array: Array, index: ir.Value, stream: ir.Value = NEVER) -> None:
        """Write a vector to an array; if `stream`, by a non-temporal store, which needs 64-byte alignment."""
        place = self.place(array, index, value.type)
        with self.builder.if_else(stream) as (bypassing, cached):
            with bypassing:
                stored = self.builder.store(value, place, align=BYTES)
                stored.set_metadata("nontemporal", self.builder.module.add_metadata([I32(1)]))
            with cached:
                self.builder.store(value, place, align=self.size(value.type.element))

    def spread(self, value: ir.Value, kind: ir.VectorType) -> ir.Value:
        """The same number in every lane."""
        first = self.builder.insert_element(ir.Constant(kind, ir.Undefined), value, I32(0))
        return self.builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), every(I32, kind.count, 0))

    def fill(self, array: Array, index: ir.Value, count: int) -> ir.Value:
        """A vector of `count` times the same element of an array."""
        kind = lanes(array.kind.element, count)
        return self.spread(self.builder.load(self.place(array, index, kind.element)), kind)

    def multiply_add(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        """a * b + c in every lane, rounded once."""
        return self.call("llvm.fma", a, b, c)

    def call(self, name: str, *arguments: ir.Value) -> ir.Value:
        """An operation of LLVM on numbers or vectors of one type."""
        kind = arguments[0].type
        width = f"v{kind.count}" if isinstance(kind, ir.VectorType) else ""
        full = f"{name}.{width}f{64 if element_of(kind) == F64 else 32}"
        signature = ir.FunctionType(kind, [kind] * len(arguments))
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, signature, full), arguments)

    def largest(self, x: ir.Value, least: ir.Value) -> ir.Value:
        """x or, where it is smaller, `least`; NaN stays."""
        return self.builder.select(self.builder.fcmp_ordered("<", x, least), least, x)

    def smallest(self, x: ir.Value, most: ir.Value) -> ir.Value:
        """x or, where it is larger, `most`; NaN stays."""
        return self.builder.select(self.builder.fcmp_ordered(">", x, most), most, x)

    @contextmanager
    def vectors(self, count: ir.Value, kind: ir.VectorType) -> Iterator[ir.Value]:
        """A loop over `count` elements, one vector at a time: gives the index of the vector's first element."""
        with cgutils.for_range(self.builder, self.builder.udiv(count, I64(kind.count))) as loop:
            yield self.builder.mul(loop.index, I64(kind.count))

    def strips(self, count: ir.Value, kind: ir.VectorType, group: int) -> Iterator[tuple[int, list[ir.Value]]]:
        """Loops that cover `count` elements: several vectors at a time, then one at a time, then single elements.

        Yields inside each loop: the number of lanes, and the index of the first element of each vector.
        """
        done, builder = I64(0), self.builder
        for width, number in ((kind.count, group), (kind.count, 1), (1, 1)):
            step = I64(width * number)
            times = builder.udiv(builder.sub(count, done), step)
            with cgutils.for_range(builder, times) as loop:
                first = builder.add(done, builder.mul(loop.index, step))
                yield width, [builder.add(first, I64(k * width)) for k in range(number)]
            done = builder.add(done, builder.mul(times, step))
