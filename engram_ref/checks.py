"""Checks of single values: the fields of configurations and the plain arguments of public functions.

The annotation of a field says what it takes, and `check_fields` enforces it:

    hidden_size: Count                       an integer, at least 1
    norm_eps: NonNegative | None             a finite number, at least 0, or None
    gate_form: Literal["sigmoid", ...]       one of these names
    layer_ids: tuple[Whole, ...]             integers, at least 0; a list becomes a tuple
    attention: AttentionConfig               an instance of that class

A bool is not an integer, and text is not a number. NumPy scalars become Python numbers.
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
    """The numbers that a field takes: least <= x <= most; least < x if `above`."""

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
    """Check each field of a dataclass against its annotation, and store it converted.

    raises   InputError naming the first field that does not fit
    """
    for field, annotation in annotations(type(config)).items():      # type: ignore[arg-type]
        object.__setattr__(config, field, checked(field, getattr(config, field), annotation))


@functools.cache
def annotations(kind: type) -> dict[str, Any]:
    """Field -> annotation of a dataclass, ranges included."""
    return get_type_hints(kind, include_extras=True)


def choices(kind: type) -> dict[str, tuple[str, ...]]:
    """Field -> the names it takes, for the fields of a dataclass that take one of several."""
    return {field: get_args(wanted) for field, wanted in annotations(kind).items() if get_origin(wanted) is Literal}


def checked(argument: str, value: Any, wanted: Any) -> Any:
    """The value as its annotation asks for it, converted only where nothing is lost.

    argument   its name, for the message
    wanted     an annotation of one of the forms above
    raises     InputError if the value does not fit
    """
    form, inner = get_origin(wanted), get_args(wanted)
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
    if wanted is bool and isinstance(value, np.bool_):
        return bool(value)
    check_kind(argument, value, wanted)
    return value


def number(argument: str, value: Any, kind: type[Number], limits: Range) -> Number:
    """The value as a Python int or a finite float, of the same value and within limits; InputError otherwise."""
    allowed: tuple[type, ...] = (int, np.integer)
    expected = "an integer"
    if kind is float:
        allowed, expected = (*allowed, float, np.floating), "a finite number that a float64 holds"
    is_number = isinstance(value, allowed) and not isinstance(value, bool)
    try:
        found = kind(value) if is_number else None
    except OverflowError:                                    # an int beyond every float
        found = None
    if found is None or found != value or (kind is float and not math.isfinite(found)):
        raise InputError(argument, expected, described(value))
    if found < limits.least or (limits.above and found == limits.least):
        raise InputError(argument, f"{'above' if limits.above else 'at least'} {limits.least}", described(value))
    if found > limits.most:
        raise InputError(argument, f"at most {limits.most}", described(value))
    return found


def integer(argument: str, value: object, least: int = 0, most: int = 2**31 - 1) -> int:
    """A size or count as an int; InputError unless it is an integer in [least, most]."""
    return number(argument, value, int, Range(least, most))


def check_kinds(**arguments: tuple) -> None:
    """Raise InputError unless each argument is an instance of one of its classes: name=(value, class, ...)."""
    for name, given in arguments.items():
        check_kind(name, *given)


def check_shapes(**arrays: tuple) -> None:
    """Raise InputError unless each array has its shape: name=(array, shape).

    Otherwise NumPy and PyTorch may broadcast it, and a Numba kernel would read past its end.
    """
    for name, (array, shape) in arrays.items():
        if array.shape != shape:
            raise InputError(name, f"shape {list(shape)}", list(array.shape))


def as_batch(argument: str, axes: str, array: Any, *others: Any) -> tuple:
    """Whether an array has a batch axis, then the array and those that come with it, each with such an axis.

    argument   its name, for the message
    axes       of the array without a batch, a letter each: "T"
    others     arrays that have a batch axis if the first has one; None stays None
    raises     InputError if the first array has neither these axes nor one more
    """
    batched = array.ndim == len(axes) + 1
    if not batched and array.ndim != len(axes):
        letters = ", ".join(axes)
        raise InputError(argument, f"shape [B, {letters}] or [{letters}]", list(array.shape))
    return batched, *(x if batched or x is None else x[None] for x in (array, *others))


def as_ops(ops: Any, traced: bool = False) -> Any:
    """The namespace to compute with.

    ops       a namespace, or a module of ops: engram_ref.ops, or a backend
    traced    whether a trace wants to see the steps: then no fused op may hide them
    raises    InputError for anything else
    """
    found = getattr(ops, "NAMESPACE", ops)
    if isinstance(getattr(found, "steps", None), property) or not hasattr(found, "as_array"):     # a class of ops
        raise InputError("ops", "a namespace of ops, such as engram_ref.ops", described(ops),
                         "engram_ref.backends.load(name) returns a backend's")
    return getattr(found, "steps", found) if traced else found


def float_name(argument: str, dtype: Any) -> str:
    """"float32" or "float64", from a dtype of NumPy or PyTorch; InputError for any other dtype."""
    name = str(dtype).removeprefix("torch.")
    if name not in ("float32", "float64"):                   # torch.compile cannot trace np.dtype of PyTorch's
        with contextlib.suppress(TypeError, ValueError):
            name = np.dtype(dtype).name
    if dtype is None or name not in ("float32", "float64"):
        raise InputError(argument, "float32 or float64", name)
    return name


def check_is_file(argument: str, path: object, expected: str, hint: str = "") -> None:
    """Raise InputError unless `path` is the path of a file; any object is accepted, and a name of any length."""
    if not (isinstance(path, str | os.PathLike) and os.path.isfile(path)):
        raise InputError(argument, expected, "no such file", hint)


def check_kind(argument: str, value: object, *kinds: type) -> None:
    """Raise InputError unless the value is an instance of one of the classes."""
    if not isinstance(value, kinds):
        expected = " or ".join("None" if kind is types.NoneType else kind.__name__ for kind in kinds)
        raise InputError(argument, expected, described(value))
