"""Check a namespace of ops against golden vectors and report where it first differs.

    results = verify(load("numba"), Adapter(), read())
    print([str(result) for result in results if not result.ok])
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from engram_ref.errors import InputError
from engram_ref.ops.namespace import Ops
from engram_ref.oracle.cases import Case, Stage, Vectors
from engram_ref.oracle.check.difference import explained
from engram_ref.oracle.check.judge import StageResult, judge
from engram_ref.oracle.compare import COMPUTED_IN
from engram_ref.oracle.run import Adapter, Stages, run


@dataclass(frozen=True)
class Result:
    """The result of one case, with or without a trace.

    difference   of the first stage that differs, in order of computation; None if all agree
    error        the exception that the call raised, or a remark that it should have raised one
    accepted     name of the alternative answer that the result equals; None for the main answer
    """

    case: Case
    vectors: Vectors
    traced: bool
    difference: StageResult | None = None
    error: str | None = None
    accepted: str | None = None

    @property
    def stage(self) -> str | None:
        """The first stage that differs."""
        return None if self.difference is None else self.difference.stage

    @property
    def ok(self) -> bool:
        """True if the call raised nothing and all stages agree."""
        return self.stage is None and self.error is None

    def __str__(self) -> str:
        name = self.case.name + (", without a trace" if self.case.traced and not self.traced else "")
        if self.difference is not None:
            return "\n".join(explained(self.vectors, replace(self.case, name=name), self.difference))
        if self.error is not None:
            return f"{name}: raised {self.error}"
        return f"{name}: ok" if self.accepted is None else f"{name}: ok, with the acceptable answer {self.accepted}"


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
            return Result(case, vectors, traced)
        return Result(case, vectors, traced, error=f"{type(error).__name__}: {error}")
    if case.result == "invalid":
        return Result(case, vectors, traced, error="nothing, although the input is invalid")
    return result_of(case, vectors, computed, traced)


def result_of(case: Case, vectors: Vectors, computed: Stages, traced: bool) -> Result:
    """Judge what a namespace computed: all stages, or the outputs if not `traced`, in the dtypes of this package."""
    stages = [stage for stage in case.stages if traced or stage.name in case.outputs]
    for stage in stages:
        found, dtype = computed.get(stage.name), dtype_of(stage)
        if found is None:
            return Result(case, vectors, traced, StageResult(stage.name, "missing", None, "an array", "none"))
        if found.dtype.kind != dtype.kind or (dtype.kind == "f" and found.dtype != dtype):
            return Result(case, vectors, traced, StageResult(stage.name, "dtype", None, dtype, found.dtype))
    results = judge(case, vectors, {stage.name: computed[stage.name] for stage in stages})
    difference = next((result for result in results if not result.ok), None)
    accepted = next((str(result.expected) for result in results if result.status == "accepted"), None)
    return Result(case, vectors, traced, difference, accepted=accepted)


def dtype_of(stage: Stage) -> np.dtype:
    """Return the dtype in which this package computes a stage; integers may have other widths."""
    return np.dtype(COMPUTED_IN.get(stage.tolerance_class, stage.array.dtype))
