"""The verdict on a port: counts by stage, the first stage that differs, where and why, as text and as JSON."""

import functools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from engram_ref.errors import InputError
from engram_ref.oracle.cases import Case, topic_of
from engram_ref.oracle.check.answers import Answers
from engram_ref.oracle.check.diagnose import Diagnosis, diagnose
from engram_ref.oracle.check.difference import difference
from engram_ref.oracle.check.judge import REFUSED, StageResult, judge
from engram_ref.oracle.flags import FLAGS
from engram_ref.oracle.kit.read import Kit

COMPOSED = ("addressing", "module", "model")
"""Topics whose cases have several stages; other cases are listed under their op."""

ORDER = ("canonical", "primes", "hashing", "codecs", "tables", "linear", "norm", "gate", "conv", "composite", "rope",
         "attention", "experts", "branches", "caches", "loss", "updates", "sampling", "addressing", "module", "model")
"""Topics in order of computation."""

SHOWN = 6
"""Rows of the table, and names in a list, unless everything is shown."""


@dataclass(frozen=True)
class Verdict:
    """The verdict on one port.

    results     case name -> results in order of computation; not for skipped cases
    skipped     cases of groups and ops that the port declares unsupported
    unknown     names that are not in the kit: of cases, of CASE=STAGE, and of unsupported groups
    diagnosis   of the first stage that differs
    """

    kit: Kit
    results: dict[str, list[StageResult]]
    skipped: tuple[Case, ...]
    unknown: tuple[str, ...]
    diagnosis: Diagnosis

    @functools.cached_property
    def failures(self) -> dict[str, StageResult]:
        """Failed case -> its first result that is not ok, in the order of the kit."""
        return {name: next(each for each in results if not each.ok) for name, results in self.results.items()
                if not all(each.ok for each in results)}

    @functools.cached_property
    def cases(self) -> dict[str, Case]:
        """The cases of the kit, by name."""
        return {case.name: case for case in self.kit.vectors.cases}

    def first(self) -> Case | None:
        """Return the case with the earliest stage that differs, or None."""
        cases = [self.cases[name] for name, result in self.failures.items() if result.wrong is not None]
        return min(cases, key=lambda case: order_of(case, self.failures[case.name].stage), default=None)

    def precisions(self) -> dict[str, int]:
        """Return the number of float answers in each format."""
        found = (result.precision for results in self.results.values() for result in results)
        return dict(sorted(Counter(name for name in found if "float" in name).items()))


def verdict_of(kit: Kit, answers: Answers) -> Verdict:
    """Judge all cases of a kit, and find the bug that explains the first stage that differs.

    raises   InputError if no case is left to judge
    """
    cases = {case.name: case for case in kit.vectors.cases}
    skipped = tuple(case for case in cases.values() if {case.group, case.op} & set(answers.unsupported))
    names = {case.name for case in skipped}
    results = {name: judge(case, kit.vectors, answers.cases.get(name, {})) for name, case in cases.items()
               if name not in names}
    if not results:
        raise InputError("cases to judge", "at least one", f"none; {len(skipped)} of {len(cases)} are unsupported")
    verdict = Verdict(kit, results, skipped, tuple(unknown_names(cases, answers)), Diagnosis((), ()))
    failed = sorted(verdict.failures, key=lambda name: order_of(cases[name], verdict.failures[name].stage))
    others = [name for name in cases if name not in verdict.failures]
    ordered = replace(kit.vectors, cases=tuple(cases[name] for name in (*failed, *others)))
    return replace(verdict, diagnosis=diagnose(ordered, answers.cases, {name: results[name] for name in failed}))


def unknown_names(cases: dict[str, Case], answers: Answers) -> Iterator[str]:
    """Yield the names in the answers that are not in the kit."""
    for name, stages in answers.cases.items():
        known = {stage.name for stage in cases[name].stages} | {REFUSED} if name in cases else set()
        yield from [name] if name not in cases else (f"{name}={stage}" for stage in stages if stage not in known)
    known = {case.group for case in cases.values()} | {case.op for case in cases.values()}
    yield from (f"unsupported {name}" for name in answers.unsupported if name not in known)


def order_of(case: Case, stage: str) -> tuple[bool, int, bool, int]:
    """Sort key: single ops before compositions, topics in order of computation, streams last, stages in order."""
    topic, stages = topic_of(case.op), [each.name for each in case.stages]
    return (topic in COMPOSED, ORDER.index(topic) if topic in ORDER else len(ORDER),
            case.op.endswith("_stream"), stages.index(stage) if stage in stages else 0)


def label(case: Case, stage: str) -> str:
    """Return the row of the table that a stage belongs to."""
    return stage.rsplit(".", 1)[-1] if topic_of(case.op) in COMPOSED else case.op


def text(verdict: Verdict, every: bool) -> Iterator[str]:
    """Yield the report, at most one screen unless `every` stage and failure is to be shown."""
    failures, cases, shown = verdict.failures, verdict.cases, None if every else SHOWN
    agree = len(verdict.results) - len(failures)
    formats = ", ".join(verdict.precisions()) or "no floats"
    yield f"{agree:,} of {len(verdict.results):,} cases agree ({formats}); kit {verdict.kit.digest[:12]}"
    yield from table(verdict, shown)
    first = verdict.first()
    if first is not None:
        yield ""
        yield from difference(verdict.kit.vectors, first, failures[first.name])
        names = verdict.diagnosis.names
        yield from verdict.diagnosis.lines
        yield from [f"  what this is: engram-ref check --explain {names[0]}"] if len(names) == 1 else ()
        yield from () if names else (f"  flag {flag}: {FLAGS.get(flag, '')}" for flag in first.flags[:2])
    others = [f"{name} ({result.stage}: {described(result)})" for name, result in failures.items()
              if first is None or name != first.name]
    lists = {"Also failed" if first else "Failed": others, "Not in the kit": verdict.unknown,
             "Skipped as unsupported": tuple(dict.fromkeys(case.group for case in verdict.skipped)),
             "Other acceptable answers": [name for name, found in verdict.results.items() if name in cases and any(
                 result.status == "accepted" for result in found)]}
    for title, names in lists.items():
        if names:
            yield f"{title}: {', '.join(names[:shown])}" + (", ..." if len(names[:shown]) < len(names) else "")


def table(verdict: Verdict, shown: int | None) -> Iterator[str]:
    """Yield the counts of each stage that has failures, and of all others together."""
    counts: dict[str, Counter] = {}
    for name, results in verdict.results.items():
        states: dict[str, bool] = {}
        for result in results:
            row = label(verdict.cases[name], result.stage)
            states[row] = states.get(row, True) and result.ok
        for row, ok in states.items():
            counts.setdefault(row, Counter())["ok" if ok else "failed"] += 1
    for case in verdict.skipped:
        for row in {label(case, stage) for stage in case.outputs}:
            counts.setdefault(row, Counter())["skipped"] += 1
    failed = [row for row in counts if counts[row]["failed"]][:shown]
    rest = sum((counts[row] for row in counts if row not in failed), Counter())
    yield f"{'stage':24}{'cases':>8}{'ok':>8}{'failed':>8}{'skipped':>8}"
    for row, count in [*((row, counts[row]) for row in failed), ("others" if failed else "all stages", rest)]:
        yield f"{row[:24]:24}{count.total():8}{count['ok']:8}{count['failed']:8}{count['skipped']:8}"


def described(result: StageResult) -> str:
    """Describe a failed result in a few words."""
    if result.wrong is not None:
        return f"{int(result.wrong.sum()):,} of {result.wrong.size:,} elements"
    return result.status if result.status in ("missing", REFUSED) else f"{result.status} {result.found}"


def as_json(verdict: Verdict, version: str) -> dict[str, object]:
    """Return the verdict as JSON, equal for equal answers, so that it can be committed; `version` is the package's."""
    groups: dict[str, Counter] = {}
    for name, case in verdict.cases.items():
        state = "failed" if name in verdict.failures else "ok" if name in verdict.results else "skipped"
        groups.setdefault(case.group, Counter(ok=0, failed=0, skipped=0))[state] += 1
    failures = [{"case": name, "stage": result.stage, "status": result.status,
                 "wrong": None if result.wrong is None else int(result.wrong.sum()),
                 "elements": None if result.wrong is None else result.wrong.size}
                for name, result in verdict.failures.items()]
    return {"kit": verdict.kit.digest, "engram_ref": version, "ok": not failures,
            "precision": verdict.precisions(), "groups": {name: dict(groups[name]) for name in sorted(groups)},
            "failures": failures, "bugs": list(verdict.diagnosis.names), "unknown": list(verdict.unknown)}
