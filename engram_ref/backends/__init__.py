"""Backends: implementations of engram_ref.ops for speed or for other frameworks.

Importing this package does not import any backend.
"""

import functools
import importlib
from collections.abc import Callable

from engram_ref.errors import InputError, check_name
from engram_ref.ops.namespace import FIXED, Ops
from engram_ref.packages import failure_text

BACKENDS = ("numpy", "numba", "torch")
"""Names of the backends; numba and torch require the package of the same name."""

RECORDING = "tape"
"""The name of a namespace that computes with NumPy and records every op, for gradients."""


def load(name: str) -> Ops:
    """Return the namespace of a backend, to pass to a model as ops=.

    name      "numpy" (the reference), "numba" or "torch"; or "tape": see engram_ref.backends.tape
    returns   a namespace with the functions of engram_ref.ops
    raises    InputError if the name is unknown, or the package is not installed or cannot be imported

    >>> load("numpy")
    <Ops of the backend numpy>
    """
    check_name("backend", name, (*BACKENDS, RECORDING))
    try:
        module = importlib.import_module("engram_ref.ops" if name == "numpy" else f"engram_ref.backends.{name}")
    except ImportError as error:        # the package is installed but lacks a name that the backend imports
        raise InputError(f"backend {name}", f"a compatible version of the package {name}",
                         f"one with which the backend {failure_text(error, name)}",
                         f"pip install -U {name}") from error
    return module.NAMESPACE


def replace(ops: Ops, /, **functions: Callable) -> Ops:
    """Return a namespace in which ops are replaced by other functions, in the compositions that call them too.

    The new namespace is based on the backend's small ops, since a fused op would bypass a replacement.

    ops         a namespace returned by `load` or by this function
    functions   name=function, called with the arguments of the op of that name
    returns     the namespace, to pass to a model as ops=
    raises      InputError if a name is not an op, or is an op that only inspects arrays or creates constants

    >>> import numpy as np
    >>> numpy = load("numpy")
    >>> replace(numpy, sigmoid=lambda x: 2 * numpy.sigmoid(x)).silu(np.array([2.0])) / numpy.silu(np.array([2.0]))
    array([2.])
    """
    ops = getattr(ops, "NAMESPACE", ops)
    if not isinstance(ops, Ops):
        raise InputError("ops", "a namespace of ops", repr(ops), "get one from engram_ref.backends.load(name)")
    for name, function in functions.items():
        if name not in ops.names() or name in FIXED:
            raise InputError("replace", "the name of a replaceable op", name)
        if not callable(function):
            raise InputError(f"replace {name}", "a function", repr(function))
    again = functools.partial(replace, ops, **functions)          # makes it picklable if the functions are
    members: dict[str, object] = {name: staticmethod(function) for name, function in functions.items()}
    members |= {"__slots__": (), "__reduce__": lambda self: (again, ())}
    return type("Replaced", (type(ops.small),), members)()
