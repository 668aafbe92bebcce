"""Backends: the same functions as engram_ref.ops, computed by something faster or something else.

Importing this loads none of them.
"""

import importlib
import importlib.util
from types import ModuleType

from engram_ref.errors import InputError, check_name

PACKAGES = {"numpy": "numpy", "numba": "numba", "torch": "torch"}
"""Backend -> what must be installed for it."""


def load(name: str) -> ModuleType:
    """The namespace of a backend, to be handed to a model as ops=.

    name      "numpy" (the definition), "numba" or "torch"
    returns   a module with the functions of engram_ref.ops
    raises    InputError for another name, or where the package it stands on is not installed

    >>> load("numpy").__name__
    'engram_ref.ops'
    """
    check_name("backend", name, PACKAGES)
    if name == "numpy":
        return importlib.import_module("engram_ref.ops")
    package = PACKAGES[name]
    hint = f"pip install {package}; the backend numpy works without it"
    if importlib.util.find_spec(package) is None:
        raise InputError(f"backend {name}", f"the package {package}", "not installed", hint)
    try:
        return importlib.import_module(f"engram_ref.backends.{name}")
    except ImportError as error:
        raise InputError(f"backend {name}", f"a package {package} that can be imported", str(error), hint) from error
