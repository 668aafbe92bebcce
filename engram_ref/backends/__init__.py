"""Backends: the same functions as engram_ref.ops, computed by something faster or something else.

Importing this loads none of them.
"""

import importlib
from types import ModuleType

from engram_ref.errors import InputError, check_name
from engram_ref.packages import fault_of

BACKENDS = ("numpy", "numba", "torch")
"""The backends; the last two need the package they are named after."""


def load(name: str) -> ModuleType:
    """The namespace of a backend, to be handed to a model as ops=.

    name      "numpy" (the definition), "numba" or "torch"
    returns   a module with the functions of engram_ref.ops
    raises    InputError for an unknown name, or if the package it needs is not installed or cannot be imported

    >>> load("numpy").__name__
    'engram_ref.ops'
    """
    check_name("backend", name, BACKENDS)
    try:
        return importlib.import_module("engram_ref.ops" if name == "numpy" else f"engram_ref.backends.{name}")
    except ImportError as error:        # the package is there and lacks something that its backend takes from it
        raise InputError(f"backend {name}", f"the package {name}", f"one whose backend {fault_of(error, name)}",
                         f"pip install -U {name}") from error
