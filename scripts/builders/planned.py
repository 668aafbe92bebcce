"""Planned golden cases, and how their answers and noise are computed and checked.

The answer is computed in float64, by the slow implementation if it has that stage, else by engram_ref.ops. A case is
frozen only if the NumPy definition agrees with it within the noise.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from engram_ref import ops
from engram_ref.errors import InputError
from engram_ref.oracle.cases import Alternative, Case, Stage, Vectors
from engram_ref.oracle.noise import FLOAT64, with_noise
from engram_ref.oracle.run import Adapter, call, convert
from engram_ref.oracle.verify import verify_case

SEED = 20260112
NOT_BF16 = {
    "round_bf16/ties": "rounds to bfloat16", "round_bf16/random": "rounds to bfloat16",
    "quantise/scale-edges": "maxima one float32 step beside 448 * 2^k", "requantise/scale-edges": "the same maxima",
    "add_residual/fp8_bf16": "the update is a float32 product; the sum is rounded once",
}
"""Case -> reason that its float arrays are not numbers of bfloat16, as those of all other cases are."""

@dataclass
class Planned:
    """One case without its answers; `case` creates it and documents the fields."""

    name: str
    op: str
    arguments: dict[str, object]
    outputs: tuple[str, ...]
    kind: str                       # tolerance class of floats
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


def case(name, *, outputs=("output",), kind="f64", slow=None, truth=None, traced=False, flags="", dialect="",
         exact=("memory",), rounded=(), accept=(), kind_of_case="plain", **arguments):
    """Return one case; `name` is "op/title", and other keywords are arguments of the op. Invalid input has no outputs.

    All float arrays of the arguments are rounded to numbers of bfloat16, except in NOT_BF16.

    kind          "f64", "f32", or "exact" for rounding functions and rearrangements
    slow          computes the outputs from the same arguments: an array, a tuple, or a dictionary by stage
    truth         computes all stages, if the op itself cannot run in float64
    flags         names from oracle/flags.py
    rounded       stages whose answer is rounded to bfloat16; `truth` computes them without this rounding
    accept        other acceptable answers, as `Other`
    kind_of_case  "plain", "solved" or "schedules"
    """
    if name not in NOT_BF16:
        arguments = bf16(arguments)
    return Planned(name, name.split("/")[0], arguments, tuple(outputs), kind, slow, truth, traced,
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
    """Return the case with its answers and their noise; AssertionError if the NumPy definition disagrees.

    Its arguments contain the arrays and configurations themselves, so that it runs without Vectors.
    """
    if planned.result == "invalid":
        assert refused(planned), f"{planned.name} is accepted"
    changed = lambda other: replace(planned, arguments=planned.arguments | other.changed, slow=other.slow, accept=())
    case = Case(planned.name, planned.op, planned.dialect, inline(planned.arguments)["parameters"],
                answered(planned) if planned.outputs else (), planned.outputs, planned.flags,
                tuple(Alternative(other.name, other.why, answered(changed(other))) for other in planned.accept),
                planned.kind_of_case, planned.result)
    case, vectors = with_noise(case, Vectors({}, {}, ())), Vectors({}, {}, ())
    for traced in {case.traced, False}:
        result = verify_case(case, vectors, ops, Adapter(), traced)
        assert result.ok, str(result)
    return case


def inline(argument):
    """Return an argument in the forms of oracle/encoding.py, with arrays and configurations in place of their keys."""
    if isinstance(argument, dict):
        return {"parameters": {name: inline(part) for name, part in argument.items()}}
    if isinstance(argument, (list, tuple)):
        parts = [inline(part) for part in argument]
        return {"tuple": parts} if isinstance(argument, tuple) else parts
    return {"dtype": np.dtype(argument).name} if isinstance(argument, type) else argument


def refused(planned):
    """Return whether the NumPy definition refuses the input."""
    try:
        call(planned.op, planned.arguments, (), ops, Adapter(), False)
    except InputError:
        return True
    return False


def answered(planned):
    """Return the stages of one answer, without noise."""
    # answers in float64
    wide = convert(planned.arguments, FLOAT64) if planned.kind == "f32" else planned.arguments
    evaluate = planned.truth or (lambda **a: call(planned.op, a, planned.outputs, ops, Adapter(), planned.traced))
    stages = evaluate(**wide)
    expected = stages | by_stage(planned, stages, wide)
    classes = {name: class_of(planned, name, array) for name, array in stages.items()}
    # exact ones in the dtype of the op
    result = call(planned.op, planned.arguments, planned.outputs, ops, Adapter(), planned.traced)
    exact = {name: array.astype(result[name].dtype) for name, array in expected.items()
             if classes[name] == "exact" and array.dtype.kind == "f"}
    return tuple(Stage(name, array, classes[name]) for name, array in (expected | exact).items())


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


def each(function, *arrays):
    """Apply a function of numbers element by element."""
    lists = [np.asarray(array).ravel().tolist() for array in arrays]
    return np.array([function(*numbers) for numbers in zip(*lists, strict=True)])


def lines(function, x, *others):
    """Apply a function of a list to every vector along the last axis."""
    flat = np.asarray(x).reshape(-1, x.shape[-1]).tolist() if x.size else []
    return [function(line, *others) for line in flat]
