"""Rounding noise: how far honest rounding can move each element of an answer, measured by Monte Carlo arithmetic.

Every formula is evaluated in float64 with random errors of relative size u = 2^-30: far above float64's own rounding,
and small enough that the answers respond linearly. In units of u, a sum of n products changes its inputs by a random
sqrt(1 + n/2), which models the additions and survives cancellation, and its result by 1 + sqrt(n/3). Elementwise
operations change only their result; budgets.py has the numbers. The noise of an element is the root mean square of its
deviation, in units of u; a computation with the unit roundoff 2^-24 has 2^-24 times this noise.

Decisions follow the run without errors: signs of scores, chosen experts and quantised codes. Cases with decisions
that rounding could change list every acceptable answer instead. Only the rounding to bfloat16 may go either way, and
only for numbers that float32 noise can move across the midpoint of two bfloat16 numbers.
"""

import functools
import inspect
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from engram_ref.ops.namespace import NUMPY, Ops
from engram_ref.ops.vjp.tables import RowGradient
from engram_ref.oracle.budgets import ALONE, ELEMENTWISE, MOVED, SUMS, UPDATES, budget
from engram_ref.oracle.cases import Case, Vectors
from engram_ref.oracle.run import Adapter, Stages, run
from engram_ref.oracle.streams import STREAMS

SAMPLES = 16
LINEAR_U, FLOAT32_U = 2.0**-30, 2.0**-24
CONFIDENCE = 9.0
"""C: largest deviation, in multiples of the measured noise. Derived in docs/oracle/tolerances.md."""

Call = Callable[[Ops], Stages]
FLOAT64 = Adapter(to=lambda array: array.astype(np.float64) if array.dtype == np.float32 else array,
                  dtype=lambda dtype: np.float64)
"""Converts float32 arguments to float64, in which errors of 2^-30 can be represented."""


DECISIONS = ("signed_sqrt", "copysign_sqrt", "select_experts", "round_bf16", "quantise")


class Noise:
    """The random errors of one measurement, and the decisions of its first run.

    u       size of the errors; 0 in the first run
    eps     value of eps = None in norms
    """

    def __init__(self, seed: int, eps: float):
        self.u, self.rng, self.eps = 0.0, np.random.default_rng(seed), eps
        self.decided: list[list] = []       # per call of a decision: its input, its result, its noise, its limits
        self.called = 0

    def start(self, u: float) -> None:
        """Start the next run."""
        self.u, self.called = u, 0

    def around(self, x: Any, relative: float, absolute: float = 0.0) -> Any:
        """Return x with random errors if it is a float array."""
        if not (self.u and (relative or absolute) and isinstance(x, np.ndarray) and x.dtype == np.float64):
            return x
        return x + self.u * (relative * np.abs(x) + absolute) * self.rng.standard_normal(x.shape)

    def around_each(self, x: Any, relative: float) -> Any:
        """Return the result of a VJP or of an update with random errors in each of its arrays."""
        if isinstance(x, tuple):
            return tuple(self.around_each(part, relative) for part in x)
        if isinstance(x, dict):
            return {name: self.around_each(part, relative) for name, part in x.items()}
        if isinstance(x, RowGradient):
            return replace(x, values=self.around(x.values, relative))
        return self.around(x, relative)

    def decide(self, name: str, original: Callable, x: Any, *others: Any) -> object:
        """Decide as in the first run."""
        self.called += 1
        if not self.u:
            narrow = x.astype(np.float32) if name in ("round_bf16", "quantise") else x
            result = original(narrow, *others)
            result = result.astype(np.float64) if name == "round_bf16" else result
            self.decided.append([x, result, np.zeros(x.shape), None])
            return result
        decision = self.decided[self.called - 1]
        first, result, total, limits = decision
        if name.endswith("_sqrt"):
            return original(np.copysign(np.where(first == 0, 0.0, np.abs(x)), first), *others)
        if name == "round_bf16":
            decision[2] = np.hypot(total, (x - first) / self.u)
            return result if limits is None else np.where(self.rng.random(x.shape) < 0.5, *limits)
        return result

    def widen(self, round_bf16: Callable) -> bool:
        """Let roundings go both ways where float32 noise permits; return whether any newly can."""
        found = False
        for decision in self.decided:
            first, result, total, before = decision
            if not np.any(total):
                continue
            reach = CONFIDENCE * FLOAT32_U * total / SAMPLES**0.5
            limits = [round_bf16((first + way * reach).astype(np.float32)).astype(np.float64) for way in (-1, 1)]
            changed = any((new != old).any() for new, old in zip(limits, before or (result, result), strict=True))
            decision[2], decision[3] = np.zeros(first.shape), limits if changed else before
            found |= changed
        return found


def noisy(ops: Ops, noise: Noise, alone: str = "") -> Ops:
    """Return a namespace whose formulas have the errors of `noise`; compositions are inherited.

    alone   the op of the case, if it is in ALONE
    """
    base = type(ops)
    members: dict[str, object] = {"__slots__": (), "dtype_name": staticmethod(named_float32)}
    gradients = {name for name in dir(base) if name.endswith("_vjp")} - MOVED
    for name in {*SUMS, *ELEMENTWISE, *DECISIONS, *gradients, alone} - {""}:
        members[name] = with_errors(name, getattr(base, name), ops, noise)
    members["add_residual"] = lambda self, hidden, update, rounding="none": noise.around(
        ops.add_residual(hidden, update), 1)            # class bf16: the answer before its rounding
    return type(f"Noisy{base.__name__}", (base,), members)()


def named_float32(x: np.ndarray) -> str:
    """Return the dtype's name, "float32" for float64: configurations that round accept only float32."""
    return "float32" if x.dtype == np.float64 else x.dtype.name


def with_errors(name: str, function: Callable, ops: Ops, noise: Noise) -> Callable:
    """Return the method that evaluates one op with errors."""
    static = isinstance(inspect.getattr_static(ops, name), staticmethod)
    signature = inspect.signature(getattr(NUMPY, name))                 # of the definition, without self

    @functools.wraps(function)
    def method(self: Ops, *arguments: Any, **named: object) -> object:
        owner = () if static else (ops if name == "sinkhorn" else self,)
        if named:
            bound = signature.bind(*arguments, **named)
            bound.apply_defaults()
            arguments = bound.args
        inputs, result, absolute = budget(name, arguments)
        if name == "inverse_rms" and arguments[1] is None:
            arguments = arguments[0], noise.eps
        if inputs:
            arguments = tuple(x if name == "rotate" and i else noise.around(x, inputs) for i, x in enumerate(arguments))
        if name in UPDATES and noise.u:
            arguments = tuple(float(noise.around(np.array(x), 1)) if isinstance(x, float) else x for x in arguments)
        if name in UPDATES or name.endswith("_vjp"):
            return noise.around_each(function(*owner, *arguments), result)
        compute = functools.partial(function, *owner)
        answer: Any = noise.decide(name, compute, *arguments) if name in DECISIONS else compute(*arguments)
        if any(answer is x for x in arguments):             # a gain that effective_gain returns unchanged
            return answer
        if name == "sinkhorn" and noise.u:                  # its logarithms may be rounded instead
            answer = np.exp(noise.around(np.log(np.maximum(answer, 1e-300)), result))
        return noise.around(np.asarray(answer) if isinstance(answer, float) else answer, result, absolute)

    return method


@np.errstate(all="ignore")                              # inputs at the edge of a format overflow, as they should
def measure(call: Call, seed: int, ops: Ops = NUMPY, alone: str = "", eps: float = 2.0**-52,
            samples: int = SAMPLES) -> tuple[Stages, Stages]:
    """Return the stages of a call without errors, and the noise of each float stage in units of u.

    call    evaluates the call with a namespace
    seed    of the random errors
    eps     value of eps = None
    """
    noise = Noise(seed, eps)
    namespace, u = noisy(ops, noise, alone), LINEAR_U
    noise.start(0.0)
    exact = call(namespace)
    floats = [stage for stage, array in exact.items() if array.dtype.kind == "f"]
    for _ in range(4):                                          # flipped roundings may let later ones flip
        totals = {stage: np.zeros(exact[stage].shape) for stage in floats}
        for _ in range(samples):
            noise.start(u)
            found = call(namespace)
            for stage in floats:
                totals[stage] = np.hypot(totals[stage], (found[stage] - exact[stage]) / u)
        if not noise.widen(ops.round_bf16):
            break
        u = FLOAT32_U                                           # a bfloat16 step is not linear
    return exact, {stage: np.nan_to_num(total / max(samples, 1) ** 0.5, posinf=0.0) for stage, total in totals.items()}


def noise_of(case: Case, vectors: Vectors, ops: Ops = NUMPY, samples: int = SAMPLES,
             streams: Mapping[str, type] = STREAMS) -> Stages:
    """Return the noise of each float stage of a case, [...] like the stage, in units of u."""
    call = lambda namespace: run(case, vectors, namespace, FLOAT64, case.traced, streams)
    return measure(call, zlib.crc32(case.name.encode()), ops, case.op if case.op in ALONE else "", samples=samples)[1]


def with_noise(case: Case, vectors: Vectors) -> Case:
    """Return the case with the noise of its float stages, unless they have it; input to refuse has none."""
    lacking = lambda stage: stage.tolerance_class != "exact" and stage.noise is None
    if case.result == "invalid" or not any(map(lacking, case.stages)):
        return case
    noise = noise_of(case, vectors)
    add = lambda stages: tuple(replace(s, noise=noise[s.name]) if lacking(s) else s for s in stages)
    return replace(case, stages=add(case.stages),
                   accept=tuple(replace(other, stages=add(other.stages)) for other in case.accept))
