"""Planned golden cases, and how their answers, tolerance classes and scales are computed and checked.

The answer is computed in float64, by the slow implementation if it has that stage, else by engram_ref.ops. A case is
frozen only if the NumPy definition agrees with it within the class.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from engram_ref import ops
from engram_ref.errors import InputError
from engram_ref.oracle.compare import UNIT_ROUNDOFF, assert_close
from engram_ref.oracle.run import Adapter, call

SEED = 20260112
NOT_BF16 = {
    "round_bf16/ties": "rounds to bfloat16", "round_bf16/random": "rounds to bfloat16",
    "quantise/scale-edges": "maxima one float32 step beside 448 * 2^k", "requantise/scale-edges": "the same maxima",
    "add_residual/fp8_bf16": "the update is a float32 product; the sum is rounded once",
}
"""Case -> reason that its float arrays are not numbers of bfloat16, as those of all other cases are."""

STEP = 2.0**-20
"""Relative step for measuring the condition: far above rounding errors, small enough to ignore curvature."""


@dataclass
class Planned:
    """One case without its answers; `case` creates it and documents the fields."""

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
    exact: tuple[str, ...]          # stages that only rearrange numbers
    rounded: tuple[str, ...]        # stages of class "bf16"
    accept: tuple["Other", ...]     # other acceptable answers
    kind_of_case: str               # as in oracle/cases.py

    @property
    def result(self):
        """Return "acceptable" if there are other acceptable answers, "invalid" if there is none, else "valid"."""
        return "acceptable" if self.accept else "valid" if self.outputs else "invalid"


@dataclass
class Other:
    """A second acceptable answer: the result of the same call with some arguments changed."""

    name: str
    why: str
    changed: dict[str, object]
    slow: Callable[..., object]     # as in `case`


@dataclass
class Frozen:
    """A case with its stages, [(stage, array, class, terms, scale or None)], and [(other, its stages)]."""

    planned: Planned
    stages: list[tuple]
    accept: list[tuple] = field(default_factory=list)


def case(name, *, outputs=("output",), kind="f64", terms=1, slow=None, truth=None, traced=False, flags="", dialect="",
         exact=("memory",), rounded=(), accept=(), kind_of_case="plain", **arguments):
    """Return one case; `name` is "op/title", and other keywords are arguments of the op. Invalid input has no outputs.

    All float arrays of the arguments are rounded to numbers of bfloat16, except in NOT_BF16.

    kind          "f64", "f32", "model", or "exact" for rounding functions and rearrangements
    terms         total length of all sums
    slow          computes the outputs from the same arguments: an array, a tuple, or a dictionary by stage
    truth         computes all stages, if the op itself cannot run in float64
    flags         names from oracle/flags.py
    rounded       stages whose answer is rounded to bfloat16; `truth` computes them without this rounding
    accept        other acceptable answers, as `Other`
    kind_of_case  "plain", "solved" or "schedules"
    """
    if name not in NOT_BF16:
        arguments = bf16(arguments)
    return Planned(name, name.split("/")[0], arguments, tuple(outputs), kind, terms, slow, truth, traced,
                   tuple(dict.fromkeys(flags.split())), dialect, exact, rounded, tuple(accept), kind_of_case)


def bf16(argument):
    """Return the argument with every float64 or float32 array rounded to numbers of bfloat16, in its own dtype."""
    if isinstance(argument, dict):
        return {name: bf16(part) for name, part in argument.items()}
    if isinstance(argument, (list, tuple)):
        return type(argument)(map(bf16, argument))
    if not isinstance(argument, np.ndarray) or argument.dtype not in (np.float64, np.float32):
        return argument
    mantissa, exponent = np.frexp(argument.astype(np.float64))
    last = np.maximum(exponent - 8, -133)              # exponent of the last bit; subnormals have a fixed one
    return np.ldexp(np.rint(np.ldexp(mantissa, exponent - last)), last).astype(argument.dtype)


def rng_of(name):
    """Return the random generator of one case, independent of all other cases."""
    return np.random.default_rng([SEED, zlib.crc32(name.encode())])


def freeze(planned):
    """Compute answers, classes and scales of a case; AssertionError if the NumPy definition disagrees."""
    if planned.result == "invalid":
        assert refused(planned), f"{planned.name} is accepted"
        return Frozen(planned, [])
    frozen = Frozen(planned, answered(planned))
    for other in planned.accept:
        changed = replace(planned, arguments=planned.arguments | other.changed, slow=other.slow, accept=())
        frozen.accept.append((other, answered(changed)))
    return frozen


def refused(planned):
    """Return whether the NumPy definition refuses the input."""
    try:
        call(planned.op, planned.arguments, (), ops, Adapter(), False)
    except InputError:
        return True
    return False


def answered(planned):
    """Return [(stage, array, class, terms, scale or None)] of one answer."""
    # answers in float64
    wide = widened(planned.arguments) if planned.kind == "f32" else planned.arguments
    evaluate = planned.truth or (lambda **a: call(planned.op, a, planned.outputs, ops, Adapter(), planned.traced))
    stages = evaluate(**wide)
    expected = stages | by_stage(planned, stages, wide)
    classes = {name: class_of(planned, name, array) for name, array in stages.items()}
    measured = any(c in UNIT_ROUNDOFF for c in classes.values())
    scales = condition(evaluate, wide, stages) if measured else {}
    # comparison with the op, computed in its own dtype
    result = call(planned.op, planned.arguments, planned.outputs, ops, Adapter(), planned.traced)
    frozen = []
    for name, array in expected.items():
        scale = scales[name] if classes[name] in UNIT_ROUNDOFF else None
        if classes[name] == "exact" and array.dtype.kind == "f":
            array = array.astype(result[name].dtype)
        assert_close(f"{planned.name} {name}", array, result[name], classes[name], planned.terms, scale)
        frozen.append((name, array, classes[name], planned.terms, scale))
    return frozen


def class_of(planned, name, array):
    """Return "exact" for integers, words and rearranged floats, and the class of the case for other floats."""
    if array.dtype.kind != "f" or name in planned.exact:
        return "exact"
    return "bf16" if name in planned.rounded else planned.kind


def by_stage(planned, stages, arguments):
    """Return the slow implementation's answers in the shapes and dtypes of the definition's stages."""
    if planned.slow is None:
        return {}
    parts = planned.slow(**arguments)
    if not isinstance(parts, dict):
        parts = dict(zip(planned.outputs, parts if isinstance(parts, tuple) else (parts,), strict=True))
    return {name: np.array(part, dtype=stages[name].dtype).reshape(stages[name].shape) for name, part in parts.items()}


def widened(argument):
    """Return the argument with every float32 array converted to float64."""
    if isinstance(argument, dict):
        return {name: widened(part) for name, part in argument.items()}
    if isinstance(argument, (list, tuple)):
        return type(argument)(map(widened, argument))
    if isinstance(argument, np.ndarray) and argument.dtype == np.float32:
        return argument.astype(np.float64)
    return np.float64 if argument is np.float32 else argument


def condition(evaluate, arguments, stages):
    """Return |y_i| + sum_j |x_j dy_i/dx_j| of every float stage, over all float64 inputs except tables.

    Tables are only copied. The larger of the left and right difference quotients counts, which covers kinks.
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
    return {name: np.where(np.isfinite(array), total[name], 0.0) for name, array in floats.items()}


def leaves(argument, name=""):
    """Yield every float64 array of the arguments, except tables."""
    if isinstance(argument, dict):
        for key, part in argument.items():
            yield from leaves(part, key)
    elif isinstance(argument, (list, tuple)):
        for part in argument:
            yield from leaves(part)
    elif isinstance(argument, np.ndarray) and argument.dtype == np.float64 and name != "table":
        yield argument


def each(function, *arrays):
    """Apply a function of numbers element by element."""
    lists = [np.asarray(array).ravel().tolist() for array in arrays]
    return np.array([function(*numbers) for numbers in zip(*lists, strict=True)])


def lines(function, x, *others):
    """Apply a function of a list to every vector along the last axis."""
    flat = np.asarray(x).reshape(-1, x.shape[-1]).tolist() if x.size else []
    return [function(line, *others) for line in flat]
