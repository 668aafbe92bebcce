"""Answers of a port: call it, convert what it returns, and compare that with the definition."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np

from engram_ref.checks import check_kinds
from engram_ref.errors import InputError, check_name
from engram_ref.ops.arrays import as_array
from engram_ref.ops.namespace import NUMPY
from engram_ref.oracle.cases import Case, Stage, Vectors
from engram_ref.oracle.check.diagnose import diagnose
from engram_ref.oracle.check.difference import explained
from engram_ref.oracle.check.judge import StageResult, judge
from engram_ref.oracle.encoding import decode_all
from engram_ref.oracle.kit.read import read_kit
from engram_ref.oracle.noise import FLOAT64, measure
from engram_ref.oracle.run import Adapter, Stages, convert, run
from engram_ref.oracle.vectors import read

Convert = Callable[[np.ndarray], Any] | None
Call = tuple[Case, Sequence | Mapping[str, Any], str]
"""A case, the arguments of the port, in order or by name, and a description of them."""

NO_VECTORS = Vectors({}, {}, ())
"""For cases whose arguments are the arrays themselves."""


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
        arguments = decode_all(self.case.arguments, self.vectors.arrays, self.vectors.configurations)
        if self.case.result != "invalid":
            check_calls(port, [(self.case, arguments, "")], self.case.outputs, to, self.vectors)
            return
        call = prepared(port, arguments, to)
        try:
            call()
        except Exception:
            return
        raise AssertionError(f"{self.case.name}: the port accepts invalid input")


def port_cases(*names: str, kit: str | Path | None = None) -> list[PortCase]:
    """Return the cases of a kit, or the golden vectors of the package.

    names    ops, such as "gate", or groups, such as "solved/gate"; none: all cases
    kit      a folder written by `engram-ref kit`
    raises   InputError for a name without cases, or a folder that is no complete kit
    """
    check_kinds(kit=(kit, str, os.PathLike, NoneType))
    vectors = read() if kit is None else read_kit(Path(kit)).vectors
    for name in names:
        check_name("names", name, sorted({key for case in vectors.cases for key in (case.op, case.group)}))
    return [PortCase(case, vectors) for case in vectors.cases if not names or {case.op, case.group} & {*names}]


def case_of(op: str, name: str, arguments: Mapping[str, object], outputs: Sequence[str], *, traced: bool = False,
            floats: bool = True) -> Case:
    """Return a case whose answers are those of the definition: integers, or float64 with their rounding noise."""
    case, noise = Case(name, op, "", arguments, (), tuple(outputs), ()), Stages()
    if floats:
        exact, noise = measure(lambda namespace: run(case, NO_VECTORS, namespace, FLOAT64, traced), seed=0)
    else:
        exact = run(case, NO_VECTORS, NUMPY, Adapter(), traced)
    return replace(case, stages=tuple(Stage(stage, array, "f64" if stage in noise else "exact",
                                            noise.get(stage)) for stage, array in exact.items()))


def prepared(port: Callable[..., Any], arguments: Sequence | Mapping[str, Any], to: Convert) -> Callable[[], Any]:
    """Return the call of the port with converted copies of the arguments; AssertionError if `to` raises."""
    try:
        given: Any = convert(arguments, Adapter(lambda array: array.copy() if to is None else to(array.copy())))
    except Exception as error:
        raise AssertionError(f"the function `to` raised {type(error).__name__}: {error}") from error
    return partial(port, **given) if isinstance(given, Mapping) else partial(port, *given)


def answers_of(call: Callable[[], Any], names: Sequence[str]) -> Stages:
    """Call a port and copy what it returns to NumPy arrays, by stage; raise AssertionError for unusable answers.

    call   returns one array, a tuple of arrays in the order of `names`, possibly fewer, or {stage: array}
    """
    try:
        answer = call()
    except Exception as error:
        raise AssertionError(f"the port raised {type(error).__name__}: {error}") from error
    parts = answer if isinstance(answer, tuple) else (answer,)
    named = answer if isinstance(answer, Mapping) else dict(zip(names, parts, strict=False))
    if not isinstance(answer, Mapping) and (len(parts) > len(names) or named.get(names[0]) is None):
        found = "None" if answer is None else f"{len(parts)} values"
        raise AssertionError(f"the port must return {', '.join(names)}, or {{stage: array}}; it returned {found}")
    try:
        return {str(name): as_array(f"{name} of the port", part).copy() for name, part in named.items()
                if part is not None}
    except InputError as error:
        raise AssertionError(str(error)) from error


def check_calls(port: Callable[..., Any], calls: Sequence[Call], names: Sequence[str], to: Convert,
                vectors: Vectors = NO_VECTORS) -> None:
    """Call a port in several cases, the shortest first; raise AssertionError that explains the differences, if any.

    names   the stages that the port returns, in order; it may leave out those after the first
    """
    cases, answers = [case for case, *_ in calls], dict[str, Stages]()
    answer = lambda arguments: answers_of(prepared(port, arguments, to), names)
    for case, arguments, text in calls:
        try:
            answers[case.name] = answer(arguments)
            if names[0] not in answers[case.name]:
                raise AssertionError(f"the port returned no stage named {names[0]!r}")
        except AssertionError as error:
            raise AssertionError(f"{case.name}: {error}" + (f"\ninputs: {text}" if text else "")) from error
    failures = failing(cases, answers, vectors)
    if not failures:
        return
    longest = next(case for case in reversed(cases) if case.name in failures)
    arguments, inputs = next(rest for case, *rest in calls if case.name in failures)
    lines = [*explained(vectors, longest, next(result for result in failures[longest.name] if not result.ok)),
             *diagnose(replace(vectors, cases=tuple(cases)), answers, failures).lines]
    lines += [f"shortest inputs: {inputs}"] if inputs else []
    again, first = answer(arguments), answers[next(iter(failures))]
    if any(again[name].tobytes() != array.tobytes() for name, array in first.items() if name in again):
        lines.append("not deterministic: a second call with the same inputs returned different numbers")
    raise AssertionError("\n".join(lines))


def failing(cases: Sequence[Case], answers: Mapping[str, Stages],
            vectors: Vectors = NO_VECTORS) -> dict[str, list[StageResult]]:
    """Return the results of the cases with a difference, without stages that have no answer, by name of the case.

    raises   AssertionError for an answer that is not a stage
    """
    failures = {}
    for case in cases:
        known = [stage.name for stage in case.stages]
        unknown = sorted(answers[case.name].keys() - {*known})
        if unknown:
            raise AssertionError(f"the port returned a stage named {unknown[0]!r}; the stages are {', '.join(known)}")
        results = [result for result in judge(case, vectors, answers[case.name]) if result.status != "missing"]
        if not all(result.ok for result in results):
            failures[case.name] = results
    return failures
