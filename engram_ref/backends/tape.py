"""A namespace that records what a model computes, for gradients.

    values = {name: Value(array) for name, array in parameters.items()}
    logits = forward(values, ids, config, ops=NAMESPACE, check_values=False)
    loss = NAMESPACE.cross_entropy(logits, targets)
    gradients(loss, upstream, values)                    name -> gradient

Models run on it as they stand. An op that receives a Value computes its result with the underlying namespace, NumPy or
`tape(load("numba"))`, and records its inputs; `gradients` applies the VJPs of engram_ref.ops.vjp in reverse order. A
Value has no operators except indices, so arithmetic outside the namespace raises instead of losing a gradient. An op
that has neither a VJP nor an entry in ops.vjp.WITHOUT raises and names itself.
"""

import inspect
import itertools
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from engram_ref.errors import InputError
from engram_ref.ops.namespace import FIXED, NUMPY, Ops
from engram_ref.ops.vjp import WITHOUT

SERIAL = itertools.count()


class Node:
    """One recorded call.

    name      of the op
    inputs    its arguments, with Values
    results   the arrays that it computed
    back      upstream -> gradients of the inputs; None once it has been used
    """

    __slots__ = ("back", "inputs", "name", "results", "serial")

    def __init__(self, name: str, inputs: tuple, results: tuple[np.ndarray, ...], back: Callable):
        self.name, self.inputs, self.results, self.back, self.serial = name, inputs, results, back, next(SERIAL)

    def parents(self) -> Iterator["Node"]:
        """Yield the calls that computed its inputs."""
        return (value.node for value, _ in values_of(self.inputs) if value.node is not None)


class Value:
    """An array that gradients are wanted for, or that a recorded op computed.

    array   read-only from now on; a change before `gradients` is an error
    node    the call that computed it, and which of its results it is; None for a value that was given
    """

    __slots__ = ("array", "check", "index", "node")
    __array_ufunc__ = None
    __array__ = None

    def __init__(self, array: np.ndarray, node: Node | None = None, index: int = 0):
        self.array, self.node, self.index = array, node, index
        self.check = checksum(array) if node is None else 0

    shape = property(lambda self: self.array.shape)
    dtype = property(lambda self: self.array.dtype)
    ndim = property(lambda self: self.array.ndim)

    @property
    def key(self) -> tuple[int, int]:
        """Identifies the value: the serial number of its call and its place in the results, or its own identity."""
        return (-1, id(self)) if self.node is None else (self.node.serial, self.index)

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, index: Any) -> "Value":
        """Return a part of the array; its gradient is added to the elements that were read, and the others have 0."""
        def back(upstream: np.ndarray) -> tuple:
            gradient = np.zeros_like(self.array)
            np.add.at(gradient, index, upstream)
            return (gradient,)

        part = np.asarray(self.array[index])
        return Value(part, Node("index", (self,), (part,), back))

    def detach(self) -> "Bare":
        """Return the array, in the form that engram_ref.trace.copied expects of a tensor."""
        return Bare(self.array)


class Bare:
    """An array with the method `cpu` of a tensor."""

    def __init__(self, array: np.ndarray):
        self.array, self.dtype = array, array.dtype

    def cpu(self) -> "Bare":
        """Return itself."""
        return self

    def numpy(self) -> np.ndarray:
        """Return the array."""
        return self.array


def checksum(array: np.ndarray) -> int:
    """Return a number that changes if an element does, with high probability."""
    return zlib.crc32(np.ascontiguousarray(array).view(np.uint8).data) if array.size else 0


def bare(x: Any) -> Any:
    """Return the same argument with arrays in place of Values."""
    if isinstance(x, Value):
        return x.array
    if isinstance(x, Mapping):
        return {name: bare(part) for name, part in x.items()}
    return type(x)(map(bare, x)) if type(x) in (list, tuple) else x


def values_of(x: Any, gradient: Any = None) -> Iterator[tuple[Value, Any]]:
    """Yield every Value in an argument, with its part of the argument's gradient."""
    if isinstance(x, Value):
        yield x, gradient
    elif isinstance(x, Mapping):
        for name, part in x.items():
            yield from values_of(part, None if gradient is None else gradient.get(name))
    elif type(x) in (list, tuple):
        for i, part in enumerate(x):
            yield from values_of(part, None if gradient is None else gradient[i])


def recorded(ops: Ops, name: str) -> Callable:
    """Return the op of that name, changed to record its inputs if any of them contains a Value."""
    function, vjp = getattr(ops, name), getattr(ops, f"{name}_vjp", None)
    signature, constant = inspect.signature(getattr(NUMPY, name)), name in WITHOUT or name.endswith("_vjp")

    def op(*arguments: Any, **options: Any) -> Any:
        bound = signature.bind(*arguments, **options)
        bound.apply_defaults()
        inputs = bound.args
        arrays = tuple(map(bare, inputs))
        result = function(*arrays)
        if constant or next(values_of(inputs), None) is None:
            return result
        if vjp is None:
            raise InputError(f"op {name}", "an op with a gradient", "one without", "add a VJP to engram_ref/ops/vjp")
        results = result if type(result) is tuple else (result,)
        node = Node(name, inputs, results, lambda upstream: vjp(upstream, *arrays))
        values = tuple(Value(array, node, i) for i, array in enumerate(results))
        return values if type(result) is tuple else values[0]

    return op


def gradients(output: Any, upstream: Any, wanted: Mapping[str, Value], check_values: bool = False) -> dict[str, Any]:
    """Return the gradient of sum(upstream * output) with respect to each wanted value.

    output         a Value that recorded ops computed, or a tuple of them, whose sums are added; the record can be
                   used once
    upstream       an array of the shape of output, or a tuple of arrays
    wanted         name -> Value that was given, such as the parameters
    check_values   look for NaN and infinity after every VJP, to name the op that computed the first
    returns        name -> gradient: an array, or a RowGradient for a table; zeros for a value that was not used
    raises         InputError if the record was used before, an array was changed since, the shapes differ, or, with
                   check_values, a gradient is not finite
    """
    outputs, upstreams = (x if isinstance(x, tuple) else (x,) for x in (output, upstream))
    for one, its in zip(outputs, upstreams, strict=True):
        if np.shape(its) != one.shape:
            raise InputError("upstream", f"the shape of output, {list(one.shape)}", list(np.shape(its)))
    for name, value in wanted.items():
        if value.node is None and checksum(value.array) != value.check:
            raise InputError(f"value {name}", "the array that the model read", "one that was changed since")
    found: dict[tuple[int, int], Any] = {one.key: its for one, its in zip(outputs, upstreams, strict=True)}
    names = {value.key: f"parameter {name}" for name, value in wanted.items()}
    for node in calls(*outputs):
        if node.back is None:
            raise InputError("output", "a record that was not used before", "a used one", "compute the output again")
        for value, part in arrived(node, [found.pop((node.serial, i), None) for i in range(len(node.results))]):
            if check_values and not np.isfinite(getattr(part, "values", part)).all():
                raise InputError(f"gradient of {names.get(value.key, 'an intermediate result')}", "finite numbers",
                                 f"NaN or infinity, first computed by the VJP of {node.name}")
            found[value.key] = found[value.key] + part if value.key in found else part
        node.back, node.inputs, node.results = None, (), ()             # frees the arrays that nothing else needs
    return {name: found.get(value.key, np.zeros(value.shape, value.dtype)) for name, value in wanted.items()}


def arrived(node: Node, upstream: list) -> list[tuple[Value, Any]]:
    """Return every Value among a call's inputs with its gradient, given those of the results; None stands for 0."""
    if all(part is None for part in upstream):
        return []
    filled = tuple(np.zeros_like(result) if part is None else part
                   for part, result in zip(upstream, node.results, strict=True))
    found = node.back(filled if len(filled) > 1 else filled[0])
    return [(value, part) for x, gradient in zip(node.inputs, found, strict=False)
            for value, part in values_of(x, gradient) if part is not None]


def calls(*outputs: Value) -> list[Node]:
    """Return the recorded calls that the values depend on, last first."""
    found: dict[int, Node] = {}
    waiting = [output.node for output in outputs if output.node is not None]
    while waiting:
        node = waiting.pop()
        if node.serial not in found:
            found[node.serial] = node
            waiting.extend(node.parents())
    return [found[serial] for serial in sorted(found, reverse=True)]


def is_leaf(ops: Ops, name: str) -> bool:
    """Return whether an op is recorded as a whole: it has a VJP or no gradient, or it calls no other op."""
    static = isinstance(inspect.getattr_static(Ops, name), staticmethod)
    return static or name in WITHOUT or name.endswith("_vjp") or hasattr(ops, f"{name}_vjp")


def tape(ops: Ops = NUMPY) -> Ops:
    """Return a namespace that records, and computes with the ops of another: NumPy's or Numba's."""
    steps = ops.steps
    members: dict[str, Any] = {name: staticmethod(recorded(steps, name)) for name in steps.names()
                               if name not in FIXED and is_leaf(steps, name)}
    passes = lambda function: staticmethod(lambda name, x: x if isinstance(x, Value) else function(name, x))
    reads = lambda function: staticmethod(lambda x: function(bare(x)))
    members |= {"as_array": passes(steps.as_array), "as_int64": staticmethod(steps.as_int64),
                "dtype_name": staticmethod(steps.dtype_name),
                "first_non_finite": reads(steps.first_non_finite), "to_numpy": reads(steps.to_numpy),
                "writable": staticmethod(lambda arrays: not any(isinstance(x, Value) for x in arrays)),
                "tensors": staticmethod(lambda arrays: {name: as_value(x) for name, x in arrays.items()}),
                "backend": "tape", "__slots__": ()}
    return type("Tape", (Ops,), members)()


def as_value(array: np.ndarray) -> "Value | np.ndarray":
    """Return a new Value of a float array; integers have no gradient."""
    array = bare(array)
    return Value(array) if array.dtype.kind == "f" else array


NAMESPACE = tape()
