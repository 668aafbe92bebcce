"""Answers of a port: call it, convert what it returns, and compare that with the definition."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from engram_ref.errors import InputError
from engram_ref.ops.arrays import as_array
from engram_ref.ops.namespace import NUMPY
from engram_ref.oracle.cases import Case, Stage, Vectors
from engram_ref.oracle.check.columns import axes_of, side_columns
from engram_ref.oracle.check.judge import StageResult, judge
from engram_ref.oracle.check.locate import where
from engram_ref.oracle.encoding import decode_all
from engram_ref.oracle.noise import FLOAT64, measure
from engram_ref.oracle.run import Adapter, Stages, run

Convert = Callable[[np.ndarray], Any] | None


@dataclass(frozen=True)
class PortCase:
    """A case to check a port with; `vectors` has the arrays and configurations of its arguments."""

    case: Case
    vectors: Vectors

    @property
    def op(self) -> str:
        """The name of the op."""
        return self.case.op

    def check(self, port: Callable[..., Any], to: Convert = None) -> None:
        """Call the port with the arguments of the case, by name, and check what it returns.

        port     returns the outputs of the case in order, or {stage: array} with further stages; it must raise an
                 exception if the input is invalid
        to       converts each NumPy array to an array of the port
        raises   AssertionError if the port is wrong
        """
        case, arguments = self.case, decode_all(self.case.arguments, self.vectors.arrays, self.vectors.configurations)
        call = lambda: port(**converted(arguments, to))
        if case.result != "invalid":
            check_calls([(case, self.vectors, call, "")], case.outputs)
        else:
            try:
                call()
            except Exception:
                return
            raise AssertionError(f"{case.name}: the port accepts invalid input")


def case_of(op: str, name: str, arguments: Mapping[str, object], outputs: Sequence[str], *, traced: bool = False,
            floats: bool = True) -> tuple[Case, Vectors]:
    """Return a case whose answers are those of the definition: integers, or float64 with their rounding noise."""
    case = Case(name, op, name, arguments, (), tuple(outputs), ())
    vectors, noise = Vectors({}, {}, (case,)), {}
    if floats:
        exact, noise = measure(lambda namespace: run(case, vectors, namespace, FLOAT64, traced), seed=0)
    else:
        exact = run(case, vectors, NUMPY, Adapter(), traced)
    stages = tuple(Stage(stage, array, "f64" if stage in noise else "exact", 1, None, noise.get(stage))
                   for stage, array in exact.items())
    return replace(case, stages=stages), vectors


def converted(argument: Any, to: Convert) -> Any:
    """Return copies of all arrays in an argument, converted to arrays of the port."""
    if isinstance(argument, Mapping):
        return {name: converted(part, to) for name, part in argument.items()}
    if not isinstance(argument, np.ndarray):
        return argument
    return argument.copy() if to is None else to(argument.copy())


def called(call: Callable[[], Any]) -> Any:
    """Return the result of a call to the port; any exception becomes an AssertionError."""
    try:
        return call()
    except Exception as error:
        raise AssertionError(f"the port raised {type(error).__name__}: {error}") from error


def answers_of(answer: Any, names: Sequence[str]) -> Stages:
    """Convert what a port returned to NumPy arrays, by stage.

    answer   one array, a tuple of arrays in the order of `names`, or {stage: array}; None in a tuple is left out
    raises   AssertionError for anything else
    """
    parts = answer if isinstance(answer, tuple) else (answer,)
    named = answer if isinstance(answer, Mapping) else dict(zip(names, parts, strict=False))
    if not isinstance(answer, Mapping) and (len(parts) > len(names) or named.get(names[0]) is None):
        found = "None" if answer is None else f"{len(parts)} values"
        raise AssertionError(f"the port must return {', '.join(names)}, or {{stage: array}}; it returned {found}")
    try:
        return {str(name): as_array(f"{name} of the port", part) for name, part in named.items() if part is not None}
    except InputError as error:
        raise AssertionError(str(error)) from error


def check_calls(calls: Iterable[tuple[Case, Vectors, Callable[[], Any], str]], names: Sequence[str]) -> None:
    """Call a port in several cases, the shortest first, and compare its answers.

    calls    case, vectors, the call to the port, and a description of its inputs
    names    the stages that the port returns, in order; it may leave out those after the first
    raises   AssertionError that explains the longest case with a difference and describes the shortest
    """
    failed = []
    for case, vectors, call, inputs in calls:
        answers = answers_of(called(call), names)
        wrong = first_wrong(case, vectors, answers)
        if wrong is not None:
            failed.append((inputs, call, (case, vectors, answers, wrong)))
    if failed:
        shortest, (_, call, arguments) = failed[0][0], failed[-1]
        lines = [explained(*arguments), shortest and f"shortest failing input: {shortest}"]
        again = answers_of(called(call), names)
        if any(again[name].tobytes() != array.tobytes() for name, array in arguments[2].items() if name in again):
            lines.append("not deterministic: a second call with the same inputs returned different numbers")
        raise AssertionError("\n".join(filter(None, lines)))


def first_wrong(case: Case, vectors: Vectors, answers: Stages) -> StageResult | None:
    """Return the result of the first answered stage that differs, or None; AssertionError for an unknown stage."""
    known = [stage.name for stage in case.stages]
    for name in answers:
        if name not in known:
            raise AssertionError(f"the port returned a stage named {name!r}; the stages are {', '.join(known)}")
    return next((result for result in judge(case, vectors, answers)
                 if result.status not in ("ok", "accepted", "missing")), None)


def explained(case: Case, vectors: Vectors, answers: Stages, result: StageResult) -> str:
    """Return what differs, where, the worst element and the bug that explains it."""
    expected, found = result.expected, result.found
    if result.status != "differs":
        return f"{case.name}: {result.stage}: {result.status}"
    arguments = decode_all(case.arguments, vectors.arrays, vectors.configurations)
    axes = axes_of(case, result.stage, result.wrong.ndim)
    expectations = {stage.name: stage.array for stage in case.stages}
    places = where(result.wrong, axes, side_columns(case, result.stage, arguments, expectations))
    error = np.where(result.wrong, np.abs(found.astype(np.float64) - expected) / (result.allowed + 1e-300), -1.0)
    at = tuple(map(int, np.unravel_index(np.argmax(error), error.shape)))
    return (f"{case.name}: {result.stage} differs in {result.wrong.sum()} of {result.wrong.size} elements, {places}\n"
            f"worst: {', '.join(f'{a} = {i}' for a, i in zip(axes, at, strict=True))}: expected {expected[at]}, "
            f"found {found[at]}")
