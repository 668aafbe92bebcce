"""The bug catalogue: mistakes that ports of Engram make, each as a small wrong implementation.

A bug changes one ingredient. Its `changes` say what is replaced; there are two kinds of target:

    "mix"          an op of the namespace: wrong(original, *all arguments of the op, defaults included), where
                   `original` is the op of the namespace that is changed, and `original.__self__` this namespace
                   if the op is a composition
    "rows.feed"    a method of a class of oracle/streams.py ("rows", "module", "model") or of "addressing", which is
                   engram_ref.Addressing: wrong(original, self, *arguments of the method)

`namespace_with` applies the first kind and `streams_with` the second; `oracle.run.run` takes both results. A bug has
changes of several targets if a port can call the same mistake in several ways. Both functions accept several bugs and
apply them in order. Constants are computed by ops, too (`pcg64_multipliers`, `table_primes`, ...): the "addressing" of
`streams_with` takes them from its namespace. Wrong implementations work on NumPy arrays only.

The texts are in catalogue.json, the functions in the other files of this folder.
"""

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engram_ref.addressing import Addressing
from engram_ref.errors import check_name
from engram_ref.layout import module_order
from engram_ref.ops.namespace import NUMPY, Ops
from engram_ref.oracle.bugs import addresses, backbone, constants, gradients, history, storage, updates, values
from engram_ref.oracle.streams import STREAMS


@dataclass(frozen=True)
class Bug:
    """One mistake.

    changes    target -> wrong implementation, as described in the module docstring
    stage      the first stage of a trace that differs, or the answer of a small op; the op of a gradient or an update
    dialects   the gates of presets.GATES for which it matters, such as "demo"; empty for bugs of backbone and training
    symptom    what the author of the port observes
    cause      what the port computes instead
    seen       where it was found: repositories and numbers, or "class of bug" without a public example
    look       an input that shows it
    """

    name: str
    changes: Mapping[str, Callable]
    stage: str
    dialects: tuple[str, ...]
    symptom: str
    cause: str
    seen: str
    look: str


_CATALOGUE = json.loads(Path(__file__).with_name("catalogue.json").read_text(encoding="utf-8"))
_CHANGES = {name: changes for file in (constants, addresses, history, storage, values, backbone, gradients, updates)
            for name, changes in file.CHANGES.items()}

BUGS: dict[str, Bug] = {name: Bug(name, _CHANGES[name], **entry | {"dialects": tuple(entry["dialects"])})
                        for name, entry in _CATALOGUE["bugs"].items()}
"""Every bug, by name."""

LEFT_OUT: dict[str, str] = _CATALOGUE["left out"]
"""Reported defects without an entry, and why: equal to a bug or to the definition, or no answer to compare."""


def namespace_with(bugs: Bug | str | Sequence[Bug | str], ops: Ops = NUMPY) -> Ops:
    """Return the namespace with the bugs' ops, which also affect every composition that calls them.

    bugs      one or several bugs or their names; a later one calls the ops of the earlier ones
    ops       any namespace of NumPy functions; its small ops are used, since a fused op would bypass a change
    returns   a namespace, without changes if the bugs concern only streams
    raises    InputError for an unknown name

    >>> import numpy as np
    >>> namespace_with("products-summed").mix(np.array([[[3, 5]]]), np.array([7, 9]))
    array([[[66]]])
    """
    kind = type(ops.small)
    for target, wrong in _changes(bugs):
        if "." not in target:
            kind = _with_op(kind, target, wrong)
    return kind()


def streams_with(bugs: Bug | str | Sequence[Bug | str], streams: Mapping[str, type] = STREAMS) -> dict[str, type]:
    """Return the classes of streams with the bugs' methods; arguments as for `namespace_with`."""
    kinds = dict(streams)
    if kinds["addressing"] is Addressing:
        kinds["addressing"] = AddressingOfOps
    for target, wrong in _changes(bugs):
        name, _, method = target.partition(".")
        if method:
            kinds[name] = _with_method(kinds[name], method, wrong)
    return kinds


def explain(name: str) -> list[str]:
    """Return the entry of one bug, line by line; raise InputError for an unknown name.

    >>> explain("window-late")[:2]
    ['window-late', 'stage     mix']
    """
    bug = _bug(name)
    dialects = ", ".join(bug.dialects) or "any, since it concerns the backbone or training"
    lines = {"stage": bug.stage, "dialects": dialects, "symptom": bug.symptom, "cause": bug.cause, "seen in": bug.seen,
             "look at": bug.look}
    return [bug.name, *(f"{label:<10}{text}" for label, text in lines.items())]


def _bug(bug: Bug | str) -> Bug:
    if isinstance(bug, Bug):
        return bug
    check_name("bug", bug, [*BUGS])
    return BUGS[bug]


def _changes(bugs: Bug | str | Sequence[Bug | str]) -> list[tuple[str, Callable]]:
    """Return (target, wrong) of all changes of the bugs, in order."""
    several = [bugs] if isinstance(bugs, Bug | str) else bugs
    return [change for bug in several for change in _bug(bug).changes.items()]


def _with_op(kind: type[Ops], name: str, wrong: Callable) -> type[Ops]:
    """Derive a class of ops; the original op is bound to the instance, so it calls the other changed ops."""
    signature = inspect.signature(getattr(NUMPY, name))

    def op(self: Ops, *arguments: Any, **named: Any) -> Any:
        call = signature.bind(*arguments, **named)
        call.apply_defaults()
        return wrong(getattr(super(derived, self), name), *call.args)

    derived: Any = type("WithBug", (kind,), {"__slots__": (), name: op})
    return derived


def _with_method(kind: type, name: str, wrong: Callable) -> type:
    original = getattr(kind, name)
    return type("WithBug", (kind,), {name: lambda self, *a, **named: wrong(original, self, *a, **named)})


class AddressingOfOps(Addressing):
    """Addressing whose multipliers, primes and offsets are computed by its namespace, without the literals."""

    def __init__(self, config, vocabulary=None, *, ops=NUMPY):
        super().__init__(config, vocabulary, ops=ops)
        order, layers = module_order(config), config.layer_ids
        primes = ops.table_primes(config.table_sizes, config.n_heads, len(layers))
        self.primes = {layer: primes[order.index(layer)] for layer in layers}
        self.offsets = {layer: ops.column_offsets(self.primes[layer]) for layer in layers}
        multiple = config.row_multiple
        self.table_rows = {layer: -(-int(p.sum()) // multiple) * multiple for layer, p in self.primes.items()}
        if config.multipliers is None:
            draw = getattr(ops, f"{config.multiplier_generator}_multipliers")
            index = {layer: layer if config.seed_index == "layer_id" else order.index(layer) for layer in layers}
            self.multipliers = {layer: draw(config.seed, index[layer], config.max_ngram, config.canonical_size)
                                for layer in layers}
