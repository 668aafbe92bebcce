"""The bug catalogue: every bug gives a wrong answer in a golden case, and its entry is true."""

import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from engram_ref import Addressing, preset, presets
from engram_ref.errors import InputError
from engram_ref.ops.namespace import NUMPY
from engram_ref.oracle.bugs import BUGS, LEFT_OUT, Bug, backbone, explain, namespace_with, streams_with
from engram_ref.oracle.bugs.gradients import CHANGES as GRADIENTS
from engram_ref.oracle.bugs.updates import CHANGES as UPDATES
from engram_ref.oracle.run import Adapter, run
from engram_ref.oracle.streams import STREAMS
from engram_ref.oracle.vectors import read
from engram_ref.oracle.verify import result_of
from engram_ref.presets import GATES
from engram_ref.stages import BY_NAME

CLASSES = {"addressing": {"addressing"}, "addressing_stream": {"addressing", "rows"}, "engram": {"module"},
           "engram_stream": {"module"}, "forward": {"addressing", "model"}, "forward_stream": {"addressing", "model"}}
"""Op of a case -> the classes that it uses, by the names in STREAMS."""

NO_STAGES = {"codes", "history", "multipliers", "primes", "taps"}
"""Answers that bugs name as their stage, besides the stages of a trace; those of gradients and updates name the op."""

TRAINING = GRADIENTS | UPDATES

vectors = cache(read)


def valid():
    """Return the cases with an answer."""
    return [case for case in vectors().cases if case.result != "invalid"]


@cache
def called():
    """Return {name of a case: the ops and classes that it calls}."""
    seen = set()

    def recording(name):
        return lambda original, *arguments: seen.add(name) or original(*arguments)

    changes = {name: recording(name) for name in NUMPY.names() if callable(getattr(NUMPY, name))}
    recorder = namespace_with(replace(BUGS["window-late"], changes=changes))
    calls = {}
    for case in valid():
        seen.clear()
        run(case, vectors(), recorder, Adapter(), case.traced, streams_with([]))
        calls[case.name] = seen | CLASSES.get(case.op, set())
    return calls


def chosen(bug):
    """Return the cases that call what a bug changes: one per op and dialect, and the others."""
    targets = {target.partition(".")[0] for target in bug.changes}
    concerned = [case for case in valid() if called()[case.name] & targets]
    key = lambda case: case.op if case.op.startswith("forward") else (case.op, case.dialect)
    first = {key(case): case for case in reversed(concerned) if "empty" not in case.flags}
    return [*first.values()], [case for case in concerned if case not in first.values()]


def answers_of(case, bugs):
    with np.errstate(all="ignore"):              # values that a bug has made NaN or infinite
        return run(case, vectors(), namespace_with(bugs), Adapter(), case.traced, streams_with(bugs))


def first_difference(case, bug):
    """Return the first stage that differs, or None; its dtype and shape must be right, or the bug would be trivial."""
    answers = answers_of(case, bug)
    result = result_of(case, vectors(), answers, case.traced)
    if result.ok:
        return None
    if result.stage in answers and bug.stage != "canonical_ids":
        right = run(case, vectors(), NUMPY, Adapter(), case.traced)[result.stage]
        assert (answers[result.stage].dtype, answers[result.stage].shape) == (right.dtype, right.shape)
    return case.op if case.kind == "gradients" else result.stage.rpartition(".")[2]


@pytest.mark.parametrize("name", BUGS)
def test_a_golden_case_shows_the_bug(name):
    """No case raises an error, and the bug's stage differs in one, unless only cases of small ops show the bug."""
    bug, wrong, traced = BUGS[name], set(), False
    first, others = chosen(bug)
    for case in [*first, *others]:
        if bug.stage in wrong and case in others:
            break
        stage = first_difference(case, bug)
        wrong |= {stage} - {None}
        traced = traced or (stage is not None and case.traced)
    assert wrong and (bug.stage in wrong or not traced)
    assert name not in TRAINING or bug.stage in wrong or bug.stage not in {case.op for case in valid()}


@pytest.mark.parametrize("name", BUGS)
def test_the_entry_is_complete(name):
    bug = BUGS[name]
    assert bug.stage in bug.changes if name in TRAINING else bug.stage in BY_NAME or bug.stage in NO_STAGES
    assert set(bug.dialects) <= set(GATES) and len(bug.dialects) == len(set(bug.dialects))
    assert bug.dialects or name in backbone.CHANGES | TRAINING or set(bug.changes) <= BATCHES
    assert all(text.endswith(".") and len(text) < 120 for text in (bug.symptom, bug.cause))
    assert all(text and not text.endswith(".") for text in (bug.seen, bug.look))


BATCHES = {"append", "place", "positions_after", "angles", "model.feed", "model.reorder", "model.rollback"}
"""Targets of bugs in positions and rows of a batch, which do not depend on the dialect of Engram either."""


@pytest.mark.parametrize("name", BUGS)
def test_every_target_exists(name):
    for target in BUGS[name].changes:
        kind, _, method = target.partition(".")
        assert hasattr(STREAMS[kind], method) if method else target in NUMPY.names()


def test_the_two_late_windows_are_equal_for_three_tokens_only():
    late, back = (namespace_with(name).mix for name in ("window-late", "window-one-back"))
    windows, multipliers = np.array([[[3, 5, 7, 9]]]), np.array([1, 10, 100, 1000])
    assert np.array_equal(late(windows[..., :3], multipliers[:3]), back(windows[..., :3], multipliers[:3]))
    assert late(windows, multipliers)[0, 0].tolist() == [7 ^ 90, 5 ^ 70 ^ 900, 3 ^ 50 ^ 700 ^ 9000]
    assert back(windows, multipliers)[0, 0].tolist() == [5 ^ 70, 5 ^ 70 ^ 900, 3 ^ 50 ^ 700 ^ 9000]


def test_the_list_of_bugs_left_out():
    assert len(BUGS) >= 75 and not set(LEFT_OUT) & set(BUGS)
    assert all(reason.endswith(".") for reason in LEFT_OUT.values())
    named = [word for reason in LEFT_OUT.values() for word in re.findall(r"[a-z0-9]+(?:-[a-z0-9]+){2,}", reason)]
    assert named and set(named) <= set(BUGS)


def test_without_bugs_nothing_changes():
    for name in presets():
        right, same = Addressing(preset(name)), streams_with([])["addressing"](preset(name))
        for constants in ("multipliers", "primes", "offsets", "table_rows"):
            for layer, values in getattr(right, constants).items():
                assert np.array_equal(values, getattr(same, constants)[layer])
    assert {kind: streams_with([])[kind] for kind in ("rows", "module", "model")} == {
        kind: STREAMS[kind] for kind in ("rows", "module", "model")}
    assert type(namespace_with("fork-shared")) is type(NUMPY)


def test_bugs_combine_in_any_order():
    """The second bug changes an op that the first one's op calls, and the reverse."""
    s = np.array([[[-4.0, 1e-8]]])
    for pair in (["no-signed-sqrt", "sigmoid-overflow"], ["sigmoid-overflow", "no-signed-sqrt"]):
        right, saturated = (namespace_with(pair).gate(x, "signed_sqrt") for x in (s, -1e3 * s))
        assert np.allclose(right, 1 / (1 + np.exp(-s))) and np.isnan(saturated).any()
    both = namespace_with(["products-summed", BUGS["window-late"]]).mix
    assert both(np.array([[[3, 5, 7]]]), np.array([1, 10, 100])).tolist() == [[[5 + 70, 3 + 50 + 700]]]


def test_bugs_of_two_streams_combine():
    kinds = streams_with(["history-lost-T1", "drafts-in-conv-state", "rollback-ignored"])
    assert [kinds[kind] is STREAMS[kind] for kind in ("rows", "module", "model")] == [False] * 3


def test_a_bug_changes_the_given_namespace():
    halved = namespace_with(Bug("half", {"sigmoid": lambda original, x: original(x) / 2}, *[""] * 6))
    assert namespace_with("bf16-gate", halved).gate(np.zeros((1, 1, 1)), "sigmoid") == 0.25


@pytest.mark.parametrize("function", [explain, namespace_with, streams_with])
def test_unknown_bug(function):
    with pytest.raises(InputError, match="window-late"):
        function("window-lat")


def test_explain_shows_every_text():
    lines = explain("chunk-amnesia")
    bug = BUGS["chunk-amnesia"]
    assert lines[0] == bug.name and all(any(text in line for line in lines)
                                        for text in (bug.stage, bug.symptom, bug.cause, bug.seen, bug.look))
    assert "backbone" in explain("topk-ties")[2]
