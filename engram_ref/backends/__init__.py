"""Backends: the same ops as engram_ref.ops, computed by something faster or something else.

Importing this loads none of them.
"""

import functools
import importlib
from collections.abc import Callable

from engram_ref.errors import InputError, check_name
from engram_ref.ops.namespace import FIXED, Ops
from engram_ref.packages import failure_text

BACKENDS = ("numpy", "numba", "torch")
"""The backends; the last two need the package they are named after."""


def load(name: str) -> Ops:
    """The namespace of a backend, to be handed to a model as ops=.

    name      "numpy" (the definition), "numba" or "torch"
    returns   a namespace with the functions of engram_ref.ops
    raises    InputError for an unknown name, or if the package it needs is not installed or cannot be imported

    >>> load("numpy")
    <Ops of the backend numpy>
    """
    check_name("backend", name, BACKENDS)
    try:
        module = importlib.import_module("engram_ref.ops" if name == "numpy" else f"engram_ref.backends.{name}")
    except ImportError as error:        # the package is there and lacks something that its backend takes from it
        raise InputError(f"backend {name}", f"the package {name}", f"one whose backend {failure_text(error, name)}",
                         f"pip install -U {name}") from error
    return module.NAMESPACE


def replace(ops: Ops, /, **functions: Callable) -> Ops:
    """A namespace in which every call of an op goes to another function.

    It starts from the backend's small ops: what is fused, or hides the call of an op otherwise, is left out.

    ops         a namespace that `load` returned, or that this function made
    functions   name=function, called with the arguments of the op of that name
    returns     the namespace, to be handed to a model as ops=
    raises      InputError for a name that is no op, or that of an op which only looks at arrays or makes constants

    >>> import numpy as np
    >>> numpy = load("numpy")
    >>> replace(numpy, sigmoid=lambda x: 2 * numpy.sigmoid(x)).silu(np.array([2.0])) / numpy.silu(np.array([2.0]))
    array([2.])
    """
    ops = getattr(ops, "NAMESPACE", ops)
    if not isinstance(ops, Ops):
        raise InputError("ops", "a namespace of ops", repr(ops), "engram_ref.backends.load(name) returns a backend's")
    for name, function in functions.items():
        if name not in ops.names() or name in FIXED:
            raise InputError("replace", "the name of an op that computes", name)
        if not callable(function):
            raise InputError(f"replace {name}", "a function", repr(function))
    again = functools.partial(replace, ops, **functions)          # so that it can be pickled where the functions can
    members = {name: staticmethod(function) for name, function in functions.items()}
    made = type("Replaced", (type(ops.small),), {"__slots__": (), "__reduce__": lambda self: (again, ()), **members})
    return made()
