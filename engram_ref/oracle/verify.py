"""Hold a namespace of ops against golden vectors, and say where it first differs.

    results = verify(load("numba"), Adapter(), read())
    print([str(result) for result in results if not result.ok])
"""

from collections.abc import Callable
from dataclasses import dataclass

from engram_ref.ops.namespace import Ops
from engram_ref.oracle.cases import Case, Stage, Vectors
from engram_ref.oracle.compare import Difference, compare
from engram_ref.oracle.run import Adapter, Stages, run


@dataclass(frozen=True)
class Result:
    """How one case went, with a trace or without.

    stage        the first one that differs, in the order of computation; None where all agree
    difference   its worst element
    error        what the call raised instead of answering
    accepted     name of the case's other acceptable answer that was met; None for the answer itself
    """

    case: Case
    traced: bool
    stage: str | None = None
    difference: Difference | None = None
    error: str | None = None
    accepted: str | None = None

    @property
    def ok(self) -> bool:
        """Did everything agree?"""
        return self.stage is None and self.error is None

    def __str__(self) -> str:
        way = ", without a trace" if self.case.traced and not self.traced else ""
        if self.ok:
            answer = "" if self.accepted is None else f", by the acceptable answer {self.accepted}"
            return f"{self.case.name}{way}: ok{answer}"
        if self.error is not None:
            return f"{self.case.name}{way}: raised {self.error}"
        [kind] = [stage.tolerance_class for stage in self.case.stages if stage.name == self.stage]
        return f"{self.case.name}{way}: first differs at {self.stage} [{kind}], {self.difference}"


def verify(namespace: Ops, adapter: Adapter, vectors: Vectors,
           progress: Callable[[int, int], None] = lambda done, total: None) -> list[Result]:
    """Every case, those with stages twice: with a trace, which shows each, and without, which may be fused.

    namespace   the functions under test, such as engram_ref.ops
    adapter     how arrays get in and out
    vectors     from oracle.vectors.read
    progress    called with how many runs are done, and how many there are
    """
    planned = [(case, traced) for case in vectors.cases for traced in ((True, False) if case.traced else (False,))]
    results = []
    for case, traced in planned:
        results.append(verify_case(case, vectors, namespace, adapter, traced))
        progress(len(results), len(planned))
    return results


def verify_case(case: Case, vectors: Vectors, namespace: Ops, adapter: Adapter, traced: bool) -> Result:
    """One case, one way. Whatever the namespace raises is a result as well."""
    try:
        found = run(case, vectors, namespace, adapter, traced)
    except Exception as error:      # the code under test may raise anything; the other cases still run
        return Result(case, traced, error=f"{type(error).__name__}: {error}")
    return judged(case, found, traced)


def judged(case: Case, found: Stages, traced: bool) -> Result:
    """Right by the answer or by another acceptable one; else the first stage that differs from the answer."""
    stage, difference = first_difference(case, case.stages, found, traced)
    if stage is not None:
        for other in case.accept:
            if first_difference(case, other.stages, found, traced)[0] is None:
                return Result(case, traced, accepted=other.name)
    return Result(case, traced, stage, difference)


def first_difference(case: Case, stages: tuple[Stage, ...], found: Stages,
                     traced: bool) -> tuple[str | None, Difference | None]:
    """The first stage whose array is missing or farther away than its class allows, and its worst element."""
    for stage in stages:
        if not traced and stage.name not in case.outputs:
            continue
        if stage.name not in found:
            return stage.name, Difference(None, "an array", "none of that name")
        difference = compare(stage.array, found[stage.name], stage.tolerance_class, stage.terms, stage.scale)
        if difference is not None:
            return stage.name, difference
    return None, None
