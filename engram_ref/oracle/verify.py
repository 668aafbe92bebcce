"""Check a namespace of ops against golden vectors and report where it first differs.

    results = verify(load("numba"), Adapter(), read())
    print([str(result) for result in results if not result.ok])
"""

from collections.abc import Callable
from dataclasses import dataclass

from engram_ref.errors import InputError
from engram_ref.ops.namespace import Ops
from engram_ref.oracle.cases import Case, Stage, Vectors
from engram_ref.oracle.compare import Difference, compare
from engram_ref.oracle.run import Adapter, Stages, run


@dataclass(frozen=True)
class Result:
    """The result of one case, with or without a trace.

    stage        the first stage that differs, in order of computation; None if all agree
    difference   its worst element
    error        the exception that the call raised, or a remark that it should have raised one
    accepted     name of the alternative answer that the result equals; None for the main answer
    """

    case: Case
    traced: bool
    stage: str | None = None
    difference: Difference | None = None
    error: str | None = None
    accepted: str | None = None

    @property
    def ok(self) -> bool:
        """True if the call raised nothing and all stages agree."""
        return self.stage is None and self.error is None

    def __str__(self) -> str:
        name = self.case.name + (", without a trace" if self.case.traced and not self.traced else "")
        if self.ok:
            return f"{name}: ok" if self.accepted is None else f"{name}: ok, with the acceptable answer {self.accepted}"
        if self.error is not None:
            return f"{name}: raised {self.error}"
        [kind] = [stage.tolerance_class for stage in self.case.stages if stage.name == self.stage]
        return f"{name}: first differs at {self.stage} [{kind}], {self.difference}"


def verify(namespace: Ops, adapter: Adapter, vectors: Vectors,
           progress: Callable[[int, int], None] = lambda done, total: None) -> list[Result]:
    """Verify every case, and cases with traced stages also without a trace, so that fused kernels run.

    namespace   the functions under test, such as engram_ref.ops
    adapter     conversion of arrays and dtypes
    vectors     from oracle.vectors.read
    progress    called with the number of finished runs and the total
    """
    planned = [(case, traced) for case in vectors.cases for traced in ((True, False) if case.traced else (False,))]
    results = []
    for case, traced in planned:
        results.append(verify_case(case, vectors, namespace, adapter, traced))
        progress(len(results), len(planned))
    return results


def verify_case(case: Case, vectors: Vectors, namespace: Ops, adapter: Adapter, traced: bool) -> Result:
    """Verify one case, with or without a trace. An exception of the namespace is reported as a result.

    A case with invalid input is ok if the namespace raises InputError.
    """
    try:
        computed = run(case, vectors, namespace, adapter, traced)
    except Exception as error:      # the code under test may raise anything; the other cases still run
        if case.result == "invalid" and isinstance(error, InputError):
            return Result(case, traced)
        return Result(case, traced, error=f"{type(error).__name__}: {error}")
    if case.result == "invalid":
        return Result(case, traced, error="nothing, although the input is invalid")
    return result_of(case, computed, traced)


def result_of(case: Case, computed: Stages, traced: bool) -> Result:
    """Compare with the main answer and the alternatives; report the first difference from the main answer."""
    stage, difference = first_difference(case, case.stages, computed, traced)
    if stage is not None:
        for other in case.accept:
            if first_difference(case, other.stages, computed, traced)[0] is None:
                return Result(case, traced, accepted=other.name)
    return Result(case, traced, stage, difference)


def first_difference(case: Case, stages: tuple[Stage, ...], computed: Stages,
                     traced: bool) -> tuple[str | None, Difference | None]:
    """Return the first stage that is missing or differs by more than its class allows, and its worst element."""
    for stage in stages:
        if not traced and stage.name not in case.outputs:
            continue
        if stage.name not in computed:
            return stage.name, Difference(None, "an array", "none")
        difference = compare(stage.array, computed[stage.name], stage.tolerance_class, stage.terms, stage.scale)
        if difference is not None:
            return stage.name, difference
    return None, None
