"""Checks of configuration fields and of plain arguments of public functions.

The annotation of a field states which values it accepts, and `check_fields` enforces it:

    hidden_size: Count                       an integer of at least 1
    norm_eps: NonNegative | None             a finite number of at least 0, or None
    gate_form: Literal["sigmoid", ...]       one of these names
    layer_ids: tuple[Whole, ...]             integers of at least 0; a list becomes a tuple
    attention: AttentionConfig               an instance of that class

A bool is not accepted as an integer, nor text as a number. NumPy scalars become Python numbers.
"""

import contextlib
import functools
import math
import os
import types
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from engram_ref.errors import InputError, check_name, described

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class Range:
    """The numbers that a field accepts: least <= x <= most, or least < x <= most if `above`."""

    least: float
    most: float
    above: bool = False


INT64_MAX = 2**63 - 1

Int64 = Annotated[int, Range(-INT64_MAX - 1, INT64_MAX)]
Whole = Annotated[int, Range(0, INT64_MAX)]
Count = Annotated[int, Range(1, INT64_MAX)]
Finite = Annotated[float, Range(-math.inf, math.inf)]
NonNegative = Annotated[float, Range(0, math.inf)]
Positive = Annotated[float, Range(0, math.inf, above=True)]


def check_fields(config: Any) -> None:
    """Check each field of a dataclass against its annotation, and store the converted value."""
    for field, annotation in annotations(type(config)).items():   # type: ignore[arg-type]  # mypy: types are unhashable
        object.__setattr__(config, field, checked(field, getattr(config, field), annotation))


@functools.cache
def annotations(kind: type) -> dict[str, Any]:
    """Return field -> annotation of a dataclass, including the ranges."""
    return get_type_hints(kind, include_extras=True)


def choices(kind: type) -> dict[str, tuple[str, ...]]:
    """Return field -> accepted names, for the `Literal` fields of a dataclass."""
    return {field: get_args(form) for field, form in annotations(kind).items() if get_origin(form) is Literal}


def checked(argument: str, value: Any, annotation: Any) -> Any:
    """Return the value as its annotation requires, converted if no information is lost; else raise InputError."""
    form, inner = get_origin(annotation), get_args(annotation)
    if form in (Union, types.UnionType):                     # X | None
        return None if value is None else checked(argument, value, inner[0])
    if form is Annotated:
        return number(argument, value, *inner)
    if form is Literal:
        check_name(argument, value, inner)
        return value
    if form is tuple:
        check_kind(argument, value, list, tuple)
        return tuple(checked(f"{argument}[{i}]", item, inner[0]) for i, item in enumerate(value))
    if annotation is bool and isinstance(value, np.bool_):
        return bool(value)
    check_kind(argument, value, annotation)
    return value


def number(argument: str, value: Any, kind: type[Number], limits: Range) -> Number:
    """Convert a number to an equal Python int or finite float; raise InputError if that is impossible."""
    allowed: tuple[type, ...] = (int, np.integer)
    noun = expected = "an integer"
    if kind is float:
        allowed, noun = (*allowed, float, np.floating), "a number"
        expected = "a finite number that float64 can represent"
    is_number = isinstance(value, allowed) and not isinstance(value, bool)
    try:
        converted = kind(value) if is_number else None
    except OverflowError:                                    # an int beyond the range of float64
        converted = None
    if converted is None or converted != value or (kind is float and not math.isfinite(converted)):
        raise InputError(argument, expected, described(value))
    if converted < limits.least or (limits.above and converted == limits.least):
        least = f"{noun} {'above' if limits.above else 'of at least'} {limits.least}"
        raise InputError(argument, least, described(value))
    if converted > limits.most:
        raise InputError(argument, f"{noun} of at most {limits.most}", described(value))
    return converted


def integer(argument: str, value: object, least: int = 0, most: int = 2**31 - 1) -> int:
    """Return a size or count as an int; raise InputError unless it is an integer in [least, most]."""
    return number(argument, value, int, Range(least, most))


def check_kinds(**arguments: tuple) -> None:
    """Raise InputError unless each argument is an instance of one of its classes: name=(value, class, ...)."""
    for name, (value, *kinds) in arguments.items():
        check_kind(name, value, *kinds)


def check_shapes(**arrays: tuple) -> None:
    """Raise InputError unless each array has its shape: name=(array, shape).

    Without the check, NumPy and PyTorch might broadcast the array, and a Numba kernel would read past its end.
    """
    for name, (array, shape) in arrays.items():
        if array.shape != shape:
            raise InputError(name, f"shape {list(shape)}", f"shape {list(array.shape)}")


def as_batch(argument: str, axes: str, array: Any, *others: Any) -> tuple:
    """Return whether an array has a batch axis, and all arrays with a batch axis, added if missing.

    argument   name of the array, for messages
    axes       axis letters of the array without a batch, such as "T"
    others     further arrays, with a batch axis if and only if `array` has one; None stays None
    raises     InputError unless `array` has these axes, alone or after a batch axis
    """
    batched = array.ndim == len(axes) + 1
    if not batched and array.ndim != len(axes):
        letters = ", ".join(axes)
        raise InputError(argument, f"shape [B, {letters}] or [{letters}]", f"shape {list(array.shape)}")
    return batched, *(x if batched or x is None else x[None] for x in (array, *others))


def as_ops(ops: Any, traced: bool = False) -> Any:
    """Return the namespace to compute with.

    ops       a namespace, or a module of ops: engram_ref.ops, or a backend
    traced    return the namespace without fused ops, so that a trace records every step
    raises    InputError for anything else
    """
    namespace = getattr(ops, "NAMESPACE", ops)
    if isinstance(getattr(namespace, "steps", None), property) or not hasattr(namespace, "as_array"):   # a class of ops
        raise InputError("ops", "a namespace of ops, such as engram_ref.ops", described(ops),
                         "get one from engram_ref.backends.load(name)")
    return getattr(namespace, "steps", namespace) if traced else namespace


def float_name(argument: str, dtype: Any) -> str:
    """Return "float32" or "float64" for a NumPy or PyTorch dtype; raise InputError for any other."""
    name = str(dtype).removeprefix("torch.")
    if name not in ("float32", "float64"):                   # torch.compile cannot trace np.dtype of a torch dtype
        with contextlib.suppress(TypeError, ValueError):
            name = np.dtype(dtype).name
    if dtype is None or name not in ("float32", "float64"):
        raise InputError(argument, "float32 or float64", name)
    return name


def check_is_file(argument: str, path: object, expected: str, hint: str = "") -> None:
    """Raise InputError unless `path` is the path of a file; `path` may be any object, and a name of any length."""
    if not (isinstance(path, str | os.PathLike) and os.path.isfile(path)):
        raise InputError(argument, expected, "no file at this path", hint)


def check_kind(argument: str, value: object, *kinds: type) -> None:
    """Raise InputError unless the value is an instance of one of the classes."""
    if not isinstance(value, kinds):
        expected = " or ".join("None" if kind is types.NoneType else kind.__name__ for kind in kinds)
        raise InputError(argument, expected, described(value))
