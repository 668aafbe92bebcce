"""Mutants: named wrong variants of important functions, each caught by a named test.

A mutant replaces one function everywhere in the package, or one method of a class, by a wrong version. The test that it
names must then fail: with an assertion, with the package's own error, or with a NumPy warning, which these tests turn
into an error. Mistakes of ports are taken from the bug catalogue, engram_ref.oracle.bugs: a mutant "NAME" or
"NAME, where" is its bug NAME. The others are mistakes in the package's internals.
"""

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import MethodType

import pytest

from engram_ref import ops
from engram_ref.errors import InputError
from engram_ref.layout import layouts
from engram_ref.ops.small import Small
from tests import mutants_backbone, mutants_backends, mutants_floats, mutants_integers


@dataclass(frozen=True)
class Mutant:
    """One wrong variant.

    target   "module:function" or "module:Class.method" in engram_ref that is replaced
    wrong    the replacement, called as wrong(original, *arguments)
    caught   "module:test" in tests that must fail, called with `arguments`
    """

    target: str
    wrong: Callable
    caught: str
    arguments: tuple = ()


MUTANTS = {name: Mutant(*entry) for name, entry in (
    mutants_integers.MUTANTS | mutants_floats.MUTANTS | mutants_backbone.MUTANTS | mutants_backends.MUTANTS).items()}

PASSED = set()
"""Tests, with their arguments, that have passed without a change in this process."""


def replace_everywhere(monkeypatch, original, replacement, owner=None):
    """Rebind every name in the package and the tests that is bound to `original`, and its attribute of `owner`."""
    if owner is not None:
        monkeypatch.setattr(owner, original.__name__, replacement)
    plain = unbound(original)
    for kind in namespaces(Small):
        for attribute, value in list(vars(kind).items()):
            if unbound(value) is plain:
                monkeypatch.setattr(kind, attribute, staticmethod(replacement))
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] in ("engram_ref", "tests"):
            for attribute, value in list(vars(module).items()):
                if value is original or (isinstance(value, MethodType) and unbound(value) is plain):
                    monkeypatch.setattr(module, attribute, replacement)


def unbound(function):
    """Return the function itself for a method or a static method."""
    return getattr(function, "__func__", function)


def namespaces(kind):
    """Return a class of ops and all its subclasses."""
    return [kind, *(below for derived in kind.__subclasses__() for below in namespaces(derived))]


def resolve(path, package):
    """Return (function, its class or None) for "module:name"; a missing name is looked up in engram_ref.ops."""
    module_name, name = path.split(":")
    owner, _, method = name.rpartition(".")
    module = importlib.import_module(f"{package}.{module_name}")
    if owner:
        return getattr(getattr(module, owner), method), getattr(module, owner)
    return (getattr(module, name) if hasattr(module, name) else getattr(ops, name)), None


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_caught(name, monkeypatch):
    mutant = MUTANTS[name]
    if mutant.target.startswith("backends.numba"):
        numba = pytest.importorskip("numba", reason="numba is not installed")
        if numba.config.DISABLE_JIT and name in mutants_backends.NEEDS_THE_JIT:
            pytest.skip("it changes data that only vector code uses")
    (original, owner), (test, _) = resolve(mutant.target, "engram_ref"), resolve(mutant.caught, "tests")
    if (mutant.caught, repr(mutant.arguments)) not in PASSED:
        test(*mutant.arguments)     # must pass before the change
        PASSED.add((mutant.caught, repr(mutant.arguments)))
    replace_everywhere(monkeypatch, original, lambda *a, **k: mutant.wrong(original, *a, **k), owner)
    layouts.cache_clear()           # or the correct constants would be reused
    try:
        with pytest.raises((AssertionError, InputError, RuntimeWarning, pytest.fail.Exception)):
            test(*mutant.arguments)
    finally:
        layouts.cache_clear()
