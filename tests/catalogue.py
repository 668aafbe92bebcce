"""Mutants that are bugs of the catalogue, engram_ref.oracle.bugs."""

import inspect
from types import SimpleNamespace

from engram_ref.ops.namespace import NUMPY
from engram_ref.oracle.bugs import BUGS

METHODS = {"addressing": "addressing:Addressing", "model": "model.state:DecodeState"}
"""Name of a stream -> the class whose methods its bugs replace here. The method of a model stream calls that of the
state."""


def port_bugs(entries):
    """Return {name: (target, wrong, caught, arguments)} as in mutants.py.

    entries   "NAME" of a bug, or "NAME, where": (target in its changes, test that must fail, the test's arguments)
    """
    return {name: (path_of(target), wrong_of(BUGS[name.partition(", ")[0]], target), *rest)
            for name, (target, *rest) in entries.items()}


def path_of(target):
    kind, _, method = target.partition(".")
    return f"{METHODS[kind]}.{method}" if method else f"ops:{target}"


def wrong_of(bug, target):
    """Return the wrong implementation as a function of the original and the arguments as the caller passes them."""
    wrong = bug.changes[target]
    if target.startswith("model."):
        return lambda original, self, *arguments: of_state(wrong, original, self, *arguments)
    if "." in target:
        return wrong
    signature = inspect.signature(getattr(NUMPY, target))         # now, while the op is the right one

    def of_op(original, *arguments, **named):
        call = signature.bind(*arguments, **named)
        call.apply_defaults()
        return wrong(original, *call.args)

    return of_op


def of_state(wrong, original, state, *arguments):
    """Call a wrong method of a model stream for its state alone; a fork returns the new state."""
    def of_stream(self, *others):
        result = original(self.state, *others)
        return None if result is None else SimpleNamespace(state=result)

    result = wrong(of_stream, SimpleNamespace(state=state), *arguments)
    return None if result is None else result.state
