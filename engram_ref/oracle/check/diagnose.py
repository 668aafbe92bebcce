"""Diagnosis: find the known bug that gives the same answers as a port at the first stage that differs.

A bug is named only if every element agrees, correct ones included, within the rounding noise of the wrong computation.
Each bug of the catalogue is tried alone, then pairs that change different ops. Bugs that give the same answers in all
compared cases are named together.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from engram_ref.oracle.bugs import BUGS
from engram_ref.oracle.cases import Case, Vectors
from engram_ref.oracle.check.candidates import Candidate, equal, nearness, size, spread, with_last_rounding
from engram_ref.oracle.check.judge import Reference, StageResult, judge, judge_floats
from engram_ref.oracle.noise import noise_of
from engram_ref.oracle.run import Stages

FAILING, PASSING = 14, 4
"""Largest number of compared cases that fail, and that pass."""

SEARCHED = 4
"""Number of cases of which one must change if a bug is to be part of a pair."""

MORE = 400
"""Largest number of other cases that are searched for one that tells tied bugs apart."""

PAIRED = 6
"""Number of bugs, the nearest ones, that are combined with all others."""

WORTH = 0.9
"""Least share of elements that must agree roughly before a candidate is compared exactly."""

Answers = Mapping[str, Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Diagnosis:
    """What explains some wrong answers.

    lines   text for a person
    names   of the bugs that equal the answers; those of a pair joined by " + "; empty if nothing explains them
    """

    lines: tuple[str, ...]
    names: tuple[str, ...]


def diagnose(vectors: Vectors, answers: Answers, failures: Mapping[str, Sequence[StageResult]]) -> Diagnosis:
    """Find the bugs that explain the first stage that differs.

    vectors    the cases of the kit, those with the earliest stage that differs first
    answers    of the port: case -> stage -> array
    failures   case -> results, of the cases that fail
    """
    failing = [case for case in vectors.cases if first_difference(failures.get(case.name, ()))]
    if not failing:
        return Diagnosis((), ())
    comparison = Comparison(vectors, answers, failures, failing[0])
    singles = comparison.ranked([Candidate((bug,)) for bug in BUGS.values()])
    best = comparison.told_apart([each for each in singles if each.share == 1])
    if not best and singles:
        others = [each for each in [Candidate((bug,)) for bug in BUGS.values()] if comparison.changes_some(each)]
        pairs = {frozenset((a.name, b.name)): Candidate(a.bugs + b.bugs) for a in singles[:PAIRED] for b in others
                 if not a.changed & b.changed}
        best = comparison.told_apart([each for each in comparison.ranked(list(pairs.values())) if each.share == 1])
    return Diagnosis(*described(best, singles, comparison))


def described(best: list[Candidate], singles: list[Candidate], comparison: "Comparison") -> tuple[tuple, tuple]:
    """Return the lines and the names of a diagnosis."""
    where, names = f"{comparison.first.op}, stage {comparison.stage}", tuple(each.name for each in best)
    if names:
        count = f"{comparison.elements:,} of {comparison.elements:,} positions"
        said = " or ".join(f"`{name}`" for name in names[:4]) + (" or ..." if len(names) > 4 else "")
        return (f"{where}: equal to bug {said} in {count}",), names
    nearest = f"; nearest: {singles[0].name} ({singles[0].share:.1%} of elements)" if singles else ""
    return (f"{where}: no known bug{nearest}",), ()


def first_difference(results: Sequence[StageResult]) -> str | None:
    """Return the first stage of a case whose elements differ."""
    return next((result.stage for result in results if result.wrong is not None and result.wrong.any()), None)


class Comparison:
    """The compared cases: some that fail at the first stage that differs, and some that pass."""

    def __init__(self, vectors: Vectors, answers: Answers, failures: Mapping[str, Sequence[StageResult]], first: Case):
        self.vectors, self.answers, self.first = vectors, answers, first
        self.stage = first_difference(failures[first.name])
        self.limits = {name: first_difference(results) for name, results in failures.items()}
        alike = [case for case in vectors.cases if case.op == first.op and answers.get(case.name) and
                 case.result != "invalid" and size(case) > 0]
        failing = [case for case in alike if self.limits.get(case.name) == self.stage]
        passing = [case for case in alike if case.name not in failures]
        self.cases = [*islice(spread(failing), FAILING), *islice(spread(passing), PASSING)]
        self.right: dict[str, Stages | None] = {}
        self.elements = sum(result.wrong.size for case in self.cases for result in self.judged(case, Candidate(())))

    def judged(self, case: Case, candidate: Candidate) -> Iterator[StageResult]:
        """Yield the results of the stages up to the first that differs, with a candidate as the reference."""
        for result in judge(case, self.vectors, self.answers[case.name], candidate.ops, candidate.streams):
            if result.wrong is None:
                continue
            yield result
            if result.stage == self.limits.get(case.name):
                return

    def ranked(self, candidates: list[Candidate]) -> list[Candidate]:
        """Return the candidates that change an answer, with their shares, nearest first."""
        shares = [replace(each, share=self.share(each)) for each in candidates]
        return sorted((each for each in shares if each.share >= 0), key=lambda each: -each.share)

    def changes_some(self, candidate: Candidate) -> bool:
        """Whether a candidate changes the stage that differs in one of the first cases."""
        return any(self.has_effect(case, self.run(candidate, case)) for case in self.cases[:SEARCHED])

    def run(self, candidate: Candidate, case: Case) -> Stages | None:
        """Return the stages of a case with a candidate, in the precision of the answers."""
        return candidate.stages(case, self.vectors, self.answers[case.name])

    def has_effect(self, case: Case, found: Stages | None) -> bool:
        """Whether a stage that differs has other values than without bugs."""
        if case.name not in self.right:
            self.right[case.name] = self.run(Candidate(()), case)
        name = self.limits.get(case.name)
        return found is not None and name in found and not equal({name: found[name]}, self.right[case.name])

    def share(self, candidate: Candidate) -> float:
        """Return the share of elements that agree, in all cases or up to the first that does not; -1 without effect."""
        right, total = 0, 0
        for case in self.cases:
            found, limit = self.run(candidate, case), self.limits.get(case.name)
            if found is None or (limit is not None and limit not in found):
                return -1.0
            if limit is not None and not self.has_effect(case, found):
                return right / (total + 1) if total else -1.0
            if limit is not None and total == 0:
                near = nearness(found[limit], self.answers[case.name][limit])
                if near < WORTH:
                    return near * WORTH
            results = self.results(case, found, candidate)
            right += sum(int((~result.wrong).sum()) for result in results)
            total += sum(result.wrong.size for result in results)
            if right < total:
                break
        return right / max(total, 1)

    def told_apart(self, tied: list[Candidate]) -> list[Candidate]:
        """Return those candidates that also agree in other cases, as long as several are left."""
        known = {case.name for case in self.cases}
        others = [case for case in self.vectors.cases if case.name not in known and self.answers.get(case.name)]
        order = lambda case: (case.name not in self.limits, case.op != self.first.op, size(case))
        for case in sorted(others, key=order)[:MORE]:
            if len(tied) < 2:
                break
            found = [self.run(each, case) for each in tied]
            if any(not equal(stages, found[0]) for stages in found):
                tied = [each for each, stages in zip(tied, found, strict=True) if stages is not None and not any(
                    result.wrong.any() for result in self.results(case, stages, each))] or tied
        return tied

    def results(self, case: Case, found: Stages, candidate: Candidate) -> list[StageResult]:
        """Judge the answers to one case, up to the first stage that differs, with a candidate as the reference.

        A bug of a composition does not change the ops by which a stage follows from the previous one, so a stage also
        agrees if it equals that of the whole run.
        """
        try:
            noise = noise_of(case, self.vectors, candidate.ops, streams=candidate.streams)
        except Exception:                                   # a wrong formula for float32 only
            noise = {stage.name: stage.noise for stage in case.stages}
        noise = {name: with_last_rounding(noise[name], array) for name, array in found.items() if name in noise}
        stages = [replace(stage, array=found[stage.name], noise=noise.get(stage.name)) for stage in case.stages
                  if stage.name in found]
        bugged = replace(case, stages=tuple(stages), accept=())
        whole = {stage.name: stage for stage in stages if stage.noise is not None and stage.tolerance_class != "exact"}
        reference = Reference(bugged, self.vectors, {}, candidate.ops, candidate.streams)
        results = []
        for result in self.judged(bugged, candidate):
            if result.wrong.any() and result.stage in whole:
                stage = whole[result.stage]
                for expected, least in ((stage.array, stage.noise), *reference.end_to_end(stage, result.precision)):
                    wrong = judge_floats(stage, expected, with_last_rounding(least, expected), result.found).wrong
                    result = replace(result, wrong=result.wrong & wrong)
            results.append(result)
        return results
