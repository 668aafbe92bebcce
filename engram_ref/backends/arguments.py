"""Arguments of ops, by position: what a tape needs of the definition's signatures, which are inspected once."""

import functools
import inspect
from collections.abc import Mapping
from typing import Any

from engram_ref.ops.namespace import NUMPY, Ops


@functools.cache
def signature_of(name: str) -> tuple[inspect.Signature, tuple]:
    """Return the signature of an op, and the default of every parameter; none at all for a variable number."""
    signature = inspect.signature(getattr(NUMPY, name))
    parameters = signature.parameters.values()
    variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    return signature, () if variadic else tuple(p.default for p in parameters)


def inputs_of(name: str, arguments: tuple, options: Mapping[str, Any]) -> tuple:
    """Return all arguments of a call by position; Signature.bind would take longer than many ops."""
    signature, defaults = signature_of(name)
    missing = defaults[len(arguments) :]
    if not options and len(arguments) <= len(defaults) and all(x is not inspect.Parameter.empty for x in missing):
        return (*arguments, *missing)
    bound = signature.bind(*arguments, **options)
    bound.apply_defaults()
    return bound.args


@functools.cache
def is_static(name: str) -> bool:
    """Return whether an op is a plain function, which calls no other op."""
    return isinstance(inspect.getattr_static(Ops, name), staticmethod)
