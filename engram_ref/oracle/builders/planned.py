"""A golden case before it is frozen: its answer, its tolerance class, its scale, and the checks on all three.

The answer is computed in float64: by the slow implementation of oracle/slow where there is one for that stage, else by
engram_ref.ops. Either way the NumPy definition must agree within the class, or nothing is frozen.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from engram_ref import ops
from engram_ref.oracle.compare import assert_close
from engram_ref.oracle.run import Adapter, call

SEED = 20260112
STEP = 2.0**-20
"""Relative change by which the condition is measured: far above rounding, far below what curves."""


@dataclass
class Planned:
    """One case before its answers are computed; made by `case`, whose arguments explain the fields."""

    name: str
    op: str
    arguments: dict[str, object]
    outputs: tuple[str, ...]
    kind: str                       # tolerance class of floats
    terms: int
    slow: Callable[..., object] | None
    truth: Callable[..., dict] | None
    traced: bool
    flags: tuple[str, ...]
    dialect: str
    exact: tuple[str, ...]          # stages that are rearrangements only
    accept: tuple["Other", ...]     # answers that are right as well


@dataclass
class Other:
    """A second acceptable answer: what the same call gives with some arguments changed."""

    name: str
    why: str
    changed: dict[str, object]
    slow: Callable[..., object]     # as `case` has it


@dataclass
class Frozen:
    """A case with its answers: [(stage, array, class, terms, scale or None)]; likewise for (other, its stages)."""

    planned: Planned
    stages: list[tuple]
    accept: list[tuple] = field(default_factory=list)


def case(name, *, outputs=("output",), kind="f64", terms=1, slow=None, truth=None, traced=False, flags="", dialect="",
         exact=("memory",), accept=(), **arguments):
    """One case: name is "op/title"; everything else by keyword is an argument of the op.

    kind      "f64", "f32", "model", or "exact" for rounding functions and rearrangements
    terms     length of all sums on the way together
    slow      gives the outputs from the same arguments: an array, a tuple, or a dictionary by stage
    truth     gives all stages, where the op itself cannot run in float64
    flags     words of oracle/flags.py
    accept    other acceptable answers, as `Other`
    """
    return Planned(name, name.split("/")[0], arguments, tuple(outputs), kind, terms, slow, truth, traced,
                   tuple(flags.split()), dialect, exact, tuple(accept))


def rng_of(name):
    """Random numbers of one case, which no other case changes."""
    return np.random.default_rng([SEED, zlib.crc32(name.encode())])


def freeze(planned):
    """Answers, classes and scales of a case; AssertionError where the NumPy definition misses them."""
    frozen = Frozen(planned, answered(planned))
    for other in planned.accept:
        changed = replace(planned, arguments=planned.arguments | other.changed, slow=other.slow, accept=())
        frozen.accept.append((other, answered(changed)))
    return frozen


def answered(planned):
    """[(stage, array, class, terms, scale or None)] of one answer."""
    wide = widened(planned.arguments) if planned.kind == "f32" else planned.arguments
    evaluate = planned.truth or (lambda **a: call(planned.op, a, planned.outputs, ops, Adapter(), planned.traced))
    stages = evaluate(**wide)
    expected = stages | by_stage(planned, stages, wide)
    classes = {name: class_of(planned, name, array) for name, array in stages.items()}
    measured = any(c in ("f64", "f32") for c in classes.values())
    scales = condition(evaluate, wide, stages) if measured else {}
    found = call(planned.op, planned.arguments, planned.outputs, ops, Adapter(), planned.traced)
    frozen = []
    for name, array in expected.items():
        scale = scales[name] if classes[name] in ("f64", "f32") else None
        if classes[name] == "exact" and array.dtype.kind == "f":
            array = array.astype(found[name].dtype)
        assert_close(f"{planned.name} {name}", array, found[name], classes[name], planned.terms, scale)
        frozen.append((name, array, classes[name], planned.terms, scale))
    return frozen


def class_of(planned, name, array):
    """Integers, words and rearranged floats are exact, other floats as the case says."""
    return "exact" if array.dtype.kind != "f" or name in planned.exact else planned.kind


def by_stage(planned, stages, arguments):
    """The slow implementation's answers, in the shapes of the definition's."""
    if planned.slow is None:
        return {}
    found = planned.slow(**arguments)
    if not isinstance(found, dict):
        found = dict(zip(planned.outputs, found if isinstance(found, tuple) else (found,), strict=True))
    return {name: np.array(part, dtype=stages[name].dtype).reshape(stages[name].shape) for name, part in found.items()}


def widened(argument):
    """The same numbers with every float32 array as float64."""
    if isinstance(argument, dict):
        return {name: widened(part) for name, part in argument.items()}
    if isinstance(argument, (list, tuple)):
        return type(argument)(map(widened, argument))
    if isinstance(argument, np.ndarray) and argument.dtype == np.float32:
        return argument.astype(np.float64)
    return np.float64 if argument is np.float32 else argument


def condition(evaluate, arguments, stages):
    """|y_i| + sum_j |x_j dy_i/dx_j| of every float stage, over every float64 input but tables, which are only copied.

    The derivative is taken on both sides and the larger one counts, so that a kink is on the safe side.
    """
    floats = {name: array for name, array in stages.items() if array.dtype.kind == "f"}
    total = {name: np.abs(array).astype(np.float64) for name, array in floats.items()}
    for array in leaves(arguments):
        kept = array.copy()
        array.setflags(write=True)
        for index in np.argwhere(np.isfinite(kept) & (kept != 0)):
            index = tuple(index)
            change = dict.fromkeys(floats, 0.0)
            for sign in (1.0, -1.0):
                array[index] = kept[index] * (1 + sign * STEP)
                moved = evaluate(**arguments)
                change = {name: np.maximum(change[name], np.abs(moved[name] - y)) for name, y in floats.items()}
            array[index] = kept[index]
            total = {name: total[name] + change[name] / STEP for name in floats}
    return total


def leaves(argument, name=""):
    """Every float64 array among the arguments."""
    if isinstance(argument, dict):
        for key, part in argument.items():
            yield from leaves(part, key)
    elif isinstance(argument, (list, tuple)):
        for part in argument:
            yield from leaves(part)
    elif isinstance(argument, np.ndarray) and argument.dtype == np.float64 and name != "table":
        yield argument


def each(function, *arrays):
    """A function of numbers, element by element."""
    lists = [np.asarray(array).ravel().tolist() for array in arrays]
    return np.array([function(*numbers) for numbers in zip(*lists, strict=True)])


def lines(function, x, *others):
    """A function of a list, for every vector along the last axis."""
    flat = np.asarray(x).reshape(-1, x.shape[-1]).tolist() if x.size else []
    return [function(line, *others) for line in flat]
