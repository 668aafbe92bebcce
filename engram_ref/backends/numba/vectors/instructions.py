"""Tools for writing vector code: the decorator, the array arguments, and named instructions."""

import inspect
from collections.abc import Callable, Iterator
from typing import NamedTuple

from llvmlite import ir
from numba import config, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

BYTES = 64      # per vector, which contains 16 float32 or 8 float64 numbers, and per cache line
STRIP = 4       # vectors computed together: the processor works on one while the others wait for their operands

I1, I8, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
F16, F32, F64 = ir.HalfType(), ir.FloatType(), ir.DoubleType()
NEVER = I1(0)

inlined = njit(inline="always")
"""Decorates functions for innermost loops: a call would update the reference count of every array argument."""


def vector_code(plain: Callable, returns: Callable = lambda *arguments: types.void) -> Callable[[Callable], Callable]:
    """Decorate generate(code, *arguments), which builds the instructions for `plain`.

    The generator receives an `Array` for each array, a named tuple for a named tuple, and an LLVM value for any other
    argument. It has the argument names of `plain` and returns the LLVM value of the result, or None.

    plain     the plain Python body; without the JIT, the decorated name refers to it
    returns   function from the Numba types of the arguments to the type of the result
    """
    def decorate(generate):
        def typed(typing, *arguments):
            def lower(context, builder, signature, values):
                code = Code(context, builder)
                result = generate(code, *map(code.argument, signature.args, values))
                return context.get_dummy_value() if result is None else result

            accepted = [types.intp if isinstance(kind, types.Integer) else kind for kind in arguments]
            return returns(*arguments)(*accepted), lower

        typed.__signature__ = inspect.signature(generate)       # Numba uses it to match arguments
        return intrinsic(typed)

    return (lambda generate: plain) if config.DISABLE_JIT else decorate


def lanes(element: ir.Type, count: int) -> ir.VectorType:
    """The type of a vector of `count` numbers."""
    return ir.VectorType(element, count)


def every(element: ir.Type, count: int, value: float) -> ir.Constant:
    """A vector with the same constant in every lane."""
    return ir.Constant(lanes(element, count), [value] * count)


def element_of(kind: ir.Type) -> ir.Type:
    """The lane type of a vector type; a number's type is returned unchanged."""
    return kind.element if isinstance(kind, ir.VectorType) else kind


def like(kind: ir.Type, element: ir.Type) -> ir.Type:
    """The type of a number or a vector, `kind`, with its element type replaced."""
    return lanes(element, kind.count) if isinstance(kind, ir.VectorType) else element


def constant(kind: ir.Type, value: float) -> ir.Constant:
    """A constant of a number's type; for a vector's type, the same constant in every lane."""
    return every(kind.element, kind.count, value) if isinstance(kind, ir.VectorType) else ir.Constant(kind, value)


class Array(NamedTuple):
    """An array argument: a pointer to its first element, and the type of a 64-byte vector of its elements."""

    data: ir.Value
    kind: ir.VectorType


class Code:
    """Builder of one intrinsic's instructions, from the context and builder that Numba passes to a generator."""

    def __init__(self, context, builder):
        self.context, self.builder = context, builder

    def argument(self, kind: types.Type, value: ir.Value) -> object:
        """Convert an argument to the form that a generator receives."""
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

    def pointer(self, array: Array, index: ir.Value, kind: ir.Type) -> ir.Value:
        """Pointer to a `kind` at element `index` of an array."""
        return self.builder.bitcast(self.builder.gep(array.data, [index]), kind.as_pointer())

    def load(self, array: Array, index: ir.Value, count: int | None = None) -> ir.Value:
        """Load `count` elements of an array from `index` on as a vector; by default, 64 bytes."""
        kind = lanes(array.kind.element, count or array.kind.count)
        return self.builder.load(self.pointer(array, index, kind), align=self.size(kind.element))

    def store(self, value: ir.Value, array: Array, index: ir.Value, stream: ir.Value = NEVER) -> None:
        """Write a vector to an array; if `stream`, use a non-temporal store, which requires 64-byte alignment."""
        pointer = self.pointer(array, index, value.type)
        with self.builder.if_else(stream) as (bypassing, cached):
            with bypassing:
                stored = self.builder.store(value, pointer, align=BYTES)
                stored.set_metadata("nontemporal", self.builder.module.add_metadata([I32(1)]))
            with cached:
                self.builder.store(value, pointer, align=self.size(value.type.element))

    def spread(self, value: ir.Value, kind: ir.VectorType) -> ir.Value:
        """A vector with `value` in every lane."""
        first = self.builder.insert_element(ir.Constant(kind, ir.Undefined), value, I32(0))
        return self.builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), every(I32, kind.count, 0))

    def fill(self, array: Array, index: ir.Value, count: int) -> ir.Value:
        """A vector with one element of an array in each of its `count` lanes."""
        kind = lanes(array.kind.element, count)
        return self.spread(self.builder.load(self.pointer(array, index, kind.element)), kind)

    def multiply_add(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        """a * b + c in every lane, rounded once."""
        return self.call("llvm.fma", a, b, c)

    def call(self, name: str, *arguments: ir.Value) -> ir.Value:
        """Call an LLVM intrinsic on numbers or vectors of the same type."""
        kind = arguments[0].type
        width = f"v{kind.count}" if isinstance(kind, ir.VectorType) else ""
        full = f"{name}.{width}f{64 if element_of(kind) == F64 else 32}"
        signature = ir.FunctionType(kind, [kind] * len(arguments))
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, signature, full), arguments)

    def maximum(self, x: ir.Value, low: ir.Value) -> ir.Value:
        """The larger of x and `low` in every lane; NaN in x is kept."""
        return self.builder.select(self.builder.fcmp_ordered("<", x, low), low, x)

    def minimum(self, x: ir.Value, high: ir.Value) -> ir.Value:
        """The smaller of x and `high` in every lane; NaN in x is kept."""
        return self.builder.select(self.builder.fcmp_ordered(">", x, high), high, x)

    def strips(self, count: ir.Value, kind: ir.VectorType, group: int) -> Iterator[tuple[int, list[ir.Value]]]:
        """Loops that cover `count` elements: several vectors at a time, then one at a time, then single elements.

        Inside each loop, yields the number of lanes and the index of each vector's first element.
        """
        done, builder = I64(0), self.builder
        for width, number in ((kind.count, group), (kind.count, 1), (1, 1)):
            step = I64(width * number)
            times = builder.udiv(builder.sub(count, done), step)
            with cgutils.for_range(builder, times) as loop:
                first = builder.add(done, builder.mul(loop.index, step))
                yield width, [builder.add(first, I64(k * width)) for k in range(number)]
            done = builder.add(done, builder.mul(times, step))
