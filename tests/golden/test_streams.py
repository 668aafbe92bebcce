"""The golden cases of streams: NumPy agrees with them, and they cover every kind of step."""

from functools import cache

import pytest

from engram_ref import ops
from engram_ref.errors import InputError
from engram_ref.oracle.run import Adapter
from engram_ref.oracle.streams import check_steps
from engram_ref.oracle.vectors import read
from engram_ref.oracle.verify import verify_case

vectors = cache(read)
KINDS = ("addressing_stream", "engram_stream", "forward_stream")


@pytest.mark.parametrize("kind", KINDS)
def test_numpy_agrees_with_the_stream_cases(kind):
    """Mutants call this test with the name of one case."""
    results = [verify_case(case, vectors(), ops, Adapter(), False) for case in vectors().cases
               if case.name == kind or case.op == kind]
    assert results and [str(result) for result in results if not result.ok] == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_step_is_covered(kind):
    steps = [step for case in vectors().cases if case.op == kind for step in case.arguments["steps"]]
    prefix = {"prefix"} if kind == "addressing_stream" else set()
    assert {step[1] for step in steps} == {"feed", "rollback", "fork", "reorder"} | prefix
    assert all(case.kind == "schedules" for case in vectors().cases if case.op == kind)
    assert {0, 1, 2} <= {step[2] for step in steps if step[1] == "feed"}
    assert (kind == "forward_stream") == any(len(step) == 4 for step in steps)


def test_steps_determine_the_text_of_each_row():
    """Row 0 rolls back columns 1 and 2 and continues with column 3; the rows are swapped; a copy continues."""
    from scripts.builders.streams import feeds

    steps = [["main", "feed", 3], ["main", "rollback", [2, 0]], ["main", "feed", 1], ["main", "reorder", [1, 0]],
             ["main", "fork", "copy"], ["copy", "feed", 1], ["main", "feed", 2, [0, 1]]]
    texts = {i: [[column for _, column in text] for text, _ in rows] for i, rows in feeds(steps, 2)}
    assert texts == {0: [[0, 1, 2]] * 2, 2: [[0, 3], [0, 1, 2, 3]], 5: [[0, 1, 2, 3, 4], [0, 3, 4]],
                     6: [[0, 1, 2, 3], [0, 3, 5]]}
    assert [new for _, new in dict(feeds(steps, 2))[6]] == [0, 1]


@pytest.mark.parametrize("steps", [None, [[]], [["main"]], [["main", "feed"]], [["main", "feed", "1"]],
                                   [["main", "feed", 1, 2]], [["main", "feed", 1, [1.5]]], [["main", "rollback", 2]],
                                   [["main", "fork", "a"], ["b", "feed", 1]], [["main", "reorder", [True]]]], ids=str)
def test_invalid_steps_raise(steps):
    with pytest.raises(InputError, match="steps"):
        check_steps(steps)
