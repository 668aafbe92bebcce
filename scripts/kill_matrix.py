"""Compute the kill matrix: which cases of the kit fail for each bug of the catalogue, per form of answer.

    python scripts/kill_matrix.py            write engram_ref/data/kill_matrix.json
    python scripts/kill_matrix.py --check    compare with that file; exit code 1 if they differ or a bug survives

A wrong port is emulated per form of answer: in float64, in float32, in float32 with outputs stored in bfloat16 or
float16 (a fused kernel), and with every stage stored in these formats. A cell is

    K   killed: a case of the group fails
    s   survives: some answer changes, but every case passes
    =   equal by construction: no answer of any case changes
    .   not applicable: no case of the group calls what the bug changes
"""

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

import ml_dtypes
import numpy as np

from engram_ref.files import write_whole
from engram_ref.ops.namespace import NUMPY, Ops
from engram_ref.oracle.bugs import BUGS, Bug, namespace_with, streams_with
from engram_ref.oracle.cases import Case, Vectors
from engram_ref.oracle.check.candidates import SINGLE
from engram_ref.oracle.check.judge import Reference, judge, judge_stage
from engram_ref.oracle.check.report import ORDER
from engram_ref.oracle.kit.cases import kit_cases
from engram_ref.oracle.kit.write import with_noise
from engram_ref.oracle.noise import ALONE
from engram_ref.oracle.run import Adapter, Stages, run
from engram_ref.oracle.vectors import read
from scripts.gate_test import gate_test

FILE = Path(__file__).parents[1] / "engram_ref" / "data" / "kill_matrix.json"
FORMS = ("float64", "float32", "bf16 outputs", "bf16 stages", "fp16 outputs", "fp16 stages")
NARROW = {"bf16": ml_dtypes.bfloat16, "fp16": np.float16}
STORED = ("concatenate", "linear", "rms_norm", "score", "factored_score", "gate", "apply_gate", "conv_silu", "add")
"""Ops whose result is a stage of the module, which a port with stored stages writes to memory."""

KILLED, SURVIVES, EQUAL, NOT_APPLICABLE = "Ks=."
KINDS = ("plain", "gradients", "solved", "schedules", "released")
CLASSES = {"addressing": ("addressing",), "addressing_stream": ("addressing", "rows"), "engram": ("module",),
           "engram_stream": ("module",), "forward": ("model", "addressing"), "forward_stream": ("model", "addressing")}
"""Op -> the stream classes that its runner uses."""


class Port:
    """An emulated port with one form of answer.

    vectors   the arrays and configurations of the cases
    narrow    format in which float answers are stored; None: that of the computation
    part      "outputs" or "stages": which answers it gives
    """

    def __init__(self, form: str, vectors: Vectors):
        name, _, part = form.partition(" ")
        self.vectors, self.narrow, self.part = vectors, NARROW.get(name), part or "stages"
        self.adapter = Adapter() if form == "float64" else SINGLE
        self.known: dict[str, Stages] = {}
        self.judged: dict[str, bool] = {}

    def accepts(self, case: Case) -> bool:
        """Whether the form applies to a case: stages are stored in modules of one chunk, V4.1's in bfloat16."""
        if case.result == "invalid" or self.narrow is None or self.part == "outputs":
            return case.result != "invalid"
        if case.op != "engram" or len(case.arguments["chunks"]) > 1:
            return False
        config = self.vectors.configurations[case.arguments["config"]["configuration"]]
        return config.rounding == "none" or self.narrow is ml_dtypes.bfloat16

    def right(self, case: Case) -> Stages:
        """Return the answers to a case without bugs; computed once."""
        if case.name not in self.known:
            self.known[case.name] = self.answers(case)
        return self.known[case.name]

    def passes(self, case: Case) -> bool:
        """Whether the port without bugs passes a case; judged once."""
        if case.name not in self.judged:
            self.judged[case.name] = all(result.ok for result in judge(case, self.vectors, self.right(case)))
        return self.judged[case.name]

    def answers(self, case: Case, *bugs: Bug, runs: dict[object, Stages] | None = None) -> Stages:
        """Return the answers to a case; `runs` keeps the computation for other forms that share it."""
        runs = {} if runs is None else runs
        inside = self.narrow if self.part == "stages" else None
        key = (inside, self.adapter is SINGLE)
        if key not in runs:
            ops = namespace_with(bugs) if inside is None else storing(namespace_with(bugs), inside)
            adapter = Adapter() if case.op in ALONE else self.adapter       # float64 in every port
            with np.errstate(all="ignore"):
                runs[key] = run(case, self.vectors, ops, adapter, case.traced, streams_with(bugs))
        with np.errstate(all="ignore"):
            return {name: array if self.narrow is None or array.dtype.kind != "f" else array.astype(self.narrow)
                    for name, array in runs[key].items() if self.part == "stages" or name in case.outputs}


def storing(ops: Ops, narrow: type) -> Ops:
    """Return a namespace whose STORED ops round their result."""
    base = type(ops)

    def op(name: str, self: Ops, *arguments: object, **named: object) -> object:
        result = getattr(super(derived, self), name)(*arguments, **named)
        return result.astype(narrow).astype(result.dtype)

    members = {name: (lambda self, *a, _name=name, **n: op(_name, self, *a, **n)) for name in STORED}
    derived = type("Storing", (base,), {"__slots__": (), **members})
    return derived()


@cache
def kit() -> Vectors:
    """Return the cases of the kit for all dialects, with their noise, small ones first."""
    vectors = kit_cases(read())
    size = lambda case: sum(stage.array.size for stage in case.stages)
    cases = (with_noise(case, vectors) for case in sorted(vectors.cases, key=size))
    return Vectors(vectors.arrays, vectors.configurations, tuple(cases))


@cache
def ports() -> dict[str, Port]:
    """Return the emulated ports by form."""
    return {form: Port(form, kit()) for form in FORMS}


@cache
def called() -> tuple[frozenset[str], ...]:
    """Return, per case, the ops that it calls and its stream methods' classes."""
    return tuple(frozenset(calls_of(case)) for case in kit().cases)


def calls_of(case: Case) -> set[str]:
    """Return the names of the ops that a case calls, and of its stream classes."""
    names: set[str] = set(CLASSES.get(case.op, ()))

    def op(name: str, self: Ops, *arguments: object, **named: object) -> object:
        names.add(name)
        return getattr(super(recording, self), name)(*arguments, **named)

    members = {name: (lambda self, *a, _name=name, **n: op(_name, self, *a, **n)) for name in NUMPY.names()
               if callable(getattr(Ops, name))}
    recording = type("Recording", (Ops,), {"__slots__": (), **members})
    if case.result != "invalid":
        run(case, kit(), recording(), Adapter(), case.traced, streams_with(()))
    return names


def groups() -> tuple[str, ...]:
    """Return the groups of cases by kind, then by topic in order of computation."""
    places = lambda group: tuple(map(tuple.index, (KINDS, ORDER), group.split("/")))
    return tuple(sorted({case.group for case in kit().cases}, key=places))


def applicable(bug: Bug) -> dict[str, list[Case]]:
    """Return, per group, the cases that call something that the bug changes."""
    targets = {target.partition(".")[0] for target in bug.changes}
    found: dict[str, list[Case]] = {}
    for case, calls in zip(kit().cases, called(), strict=True):
        if targets & calls:
            found.setdefault(case.group, []).append(case)
    return found


def cells(bug: Bug, cases: Sequence[Case]) -> dict[str, str]:
    """Return the cells of one bug and one group by form; further cases are not run after a kill."""
    best = dict.fromkeys(FORMS, NOT_APPLICABLE)
    for case in cases:
        runs: dict[object, Stages] = {}
        for form, port in ports().items():
            if best[form] != KILLED and port.accepts(case):
                best[form] = min(best[form], outcome(bug, port, case, runs), key="Ks=.".index)
        if set(best.values()) <= {KILLED, NOT_APPLICABLE} and KILLED in best.values():
            break
    return best


def outcome(bug: Bug, port: Port, case: Case, runs: dict[object, Stages]) -> str:
    """Return KILLED, SURVIVES or EQUAL for one case."""
    right = port.right(case)
    try:
        answers = port.answers(case, bug, runs=runs)
    except Exception:                                       # the wrong implementation does not accept these inputs
        return EQUAL
    answers = {stage: array.astype(right[stage].dtype) for stage, array in answers.items()}
    changed = [stage for stage in case.stages if stage.name in answers and not identical(answers[stage.name],
                                                                                         right[stage.name])]
    if not changed:
        return EQUAL
    if case.accept:
        accepted = all(result.ok for result in judge(case, kit(), answers))
    else:
        reference = Reference(case, kit(), answers)
        accepted = all(judge_stage(stage, answers[stage.name], reference).ok for stage in changed)
    if not accepted and not port.passes(case):
        raise ValueError(f"{case.name}: the port without bugs fails this case")
    return SURVIVES if accepted else KILLED


def identical(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two answers have the same bits, or NaN in the same places."""
    return a.shape == b.shape and a.dtype == b.dtype and bool(np.all((a == b) & (np.signbit(a) == np.signbit(b))
                                                                     | (a != a) & (b != b)) if a.dtype.kind in "fV"
                                                              else np.array_equal(a, b))


def row(name: str) -> dict[str, dict[str, str]]:
    """Return form -> group -> cell of one bug."""
    found = {group: cells(BUGS[name], cases) for group, cases in applicable(BUGS[name]).items()}
    return {form: {group: by_form[form] for group, by_form in found.items()} for form in FORMS}


def reason(name: str, form: str) -> str:
    """Return why no case kills a bug in one form: how many answers change, and by how many steps of the format."""
    bug, port, changed, total, most = BUGS[name], ports()[form], 0, 0, 0.0
    for case in (case for cases in applicable(bug).values() for case in cases):
        if port.accepts(case):
            wrong = port.answers(case, bug)
            for stage, array in port.right(case).items():
                apart = steps_between(array, wrong[stage].astype(array.dtype))
                changed, total = changed + int((apart > 0).sum()), total + apart.size
                most = max(most, float(apart.max(initial=0.0)))
    if not changed:
        return f"none of {total:,} numbers changes"
    return f"{changed:,} of {total:,} numbers change, by at most {most:,.0f} steps of the format"


def steps_between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the differences of two arrays in units of their format's last place at each number; NaN equals NaN."""
    if a.dtype.kind not in "fV":
        return (a != b).astype(float)
    with np.errstate(all="ignore"):
        apart = np.abs(b.astype(np.float64) - a.astype(np.float64)) / step(a)
    return np.where(np.isnan(apart), np.isnan(a) != np.isnan(b), apart)


def step(array: np.ndarray) -> np.ndarray:
    """Return the distance from each number to the next in its format."""
    if array.dtype != ml_dtypes.bfloat16:
        return np.spacing(np.abs(array)).astype(np.float64)
    exponent = np.maximum(np.frexp(np.abs(array.astype(np.float64)))[1] - 1, -126)
    return np.ldexp(1.0, exponent - 7)


def matrix(names: Sequence[str], jobs: int) -> dict[str, dict[str, dict[str, str]]]:
    """Return the rows of some bugs."""
    called()                                                # in this process, so that the others inherit them
    for case in kit().cases:
        for port in ports().values():
            if port.accepts(case):
                port.right(case)
    if jobs == 1:
        return {name: row(name) for name in names}
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("fork")) as pool:
        return dict(zip(names, pool.map(row, names, chunksize=2), strict=True))


def survivors(rows: Mapping, form: str) -> list[str]:
    """Return the bugs that no group kills in one form, of those that it applies to."""
    return [name for name, forms in rows.items() if {*forms[form].values()} & {SURVIVES, EQUAL}
            and KILLED not in forms[form].values()]


def content(rows: Mapping) -> dict:
    """Return the file's content; a row of cells has one letter per group."""
    columns = groups()
    return {
        "groups": columns, "forms": FORMS,
        "cells": {name: {form: "".join(forms[form].get(group, NOT_APPLICABLE) for group in columns) for form in FORMS}
                  for name, forms in rows.items()},
        "survivors": {form: {name: reason(name, form) for name in survivors(rows, form)} for form in FORMS},
        "gate test": gate_test(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare with the committed file instead of writing it")
    options = parser.parse_args()
    started = time.monotonic()
    found = content(matrix(list(BUGS), jobs=2))
    seconds = time.monotonic() - started
    text = json.dumps(found, indent=1) + "\n"
    surviving = {form: found["survivors"][form] for form in FORMS[:2] if found["survivors"][form]}
    print(f"{len(BUGS)} bugs, {len(kit().cases)} cases, {seconds:.0f} s; survivors: {surviving or 'none'}")
    if options.check:
        same = FILE.read_text(encoding="utf-8") == text
        print("equal to the committed file" if same else f"different from {FILE.name}: run scripts/kill_matrix.py")
        return 0 if same and not surviving else 1
    write_whole(FILE, text.encode())
    return 1 if surviving else 0


if __name__ == "__main__":
    sys.exit(main())
