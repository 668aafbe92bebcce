"""Hold a namespace of ops against golden vectors, and say where it first differs.

    results = verify(load("numba"), Adapter(), read())
    print([str(result) for result in results if not result.ok])
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

from engram_ref.oracle.compare import Difference, compare
from engram_ref.oracle.run import Adapter, Stages, run
from engram_ref.oracle.vectors import Case, Vectors


@dataclass(frozen=True)
class Result:
    """How one case went, with a trace or without.

    stage        the first one that differs, in the order of computation; None where all agree
    difference   its worst element
    error        what the call raised instead of answering
    """

    case: Case
    traced: bool
    stage: str | None = None
    difference: Difference | None = None
    error: str | None = None

    @property
    def ok(self) -> bool:
        """Did everything agree?"""
        return self.stage is None and self.error is None

    def __str__(self) -> str:
        way = ", without a trace" if self.case.traced and not self.traced else ""
        if self.ok:
            return f"{self.case.name}{way}: ok"
        if self.error is not None:
            return f"{self.case.name}{way}: raised {self.error}"
        [kind] = [stage.tolerance_class for stage in self.case.stages if stage.name == self.stage]
        return f"{self.case.name}{way}: first differs at {self.stage} [{kind}], {self.difference}"


def verify(namespace: ModuleType, adapter: Adapter, vectors: Vectors,
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


def verify_case(case: Case, vectors: Vectors, namespace: ModuleType, adapter: Adapter, traced: bool) -> Result:
    """One case, one way. Whatever the namespace raises is a result as well."""
    try:
        found = run(case, vectors, namespace, adapter, traced)
    except Exception as error:      # the code under test may raise anything; the other cases still run
        return Result(case, traced, error=f"{type(error).__name__}: {error}")
    return first_difference(case, found, traced)


def first_difference(case: Case, found: Stages, traced: bool) -> Result:
    """The first stage whose array is missing or farther away than its class allows."""
    for stage in case.stages:
        if not traced and stage.name not in case.outputs:
            continue
        if stage.name not in found:
            return Result(case, traced, stage.name, Difference(None, "an array", "none of that name"))
        difference = compare(stage.array, found[stage.name], stage.tolerance_class, stage.terms, stage.scale)
        if difference is not None:
            return Result(case, traced, stage.name, difference)
    return Result(case, traced)
