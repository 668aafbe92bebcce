"""The schedules of the kit: NumPy agrees with all of them, they feed a text in every way, and they detect bugs."""

from functools import cache

import numpy as np
import pytest

from engram_ref import ops
from engram_ref.oracle.flags import FLAGS
from engram_ref.oracle.kit.schedules import with_schedules
from engram_ref.oracle.run import Adapter, run
from engram_ref.oracle.streams import STREAMS, ModelStream, ModuleStream, RowStream
from engram_ref.oracle.vectors import read
from engram_ref.oracle.verify import result_of, verify_case

OPS = ("addressing_stream", "engram_stream", "forward_stream")


@cache
def vectors():
    return with_schedules(read())


@cache
def schedules(op):
    golden = {case.name for case in read().cases}
    return [case for case in vectors().cases if case.op == op and case.name not in golden]


@pytest.mark.parametrize("op", OPS)
def test_numpy_agrees_with_every_schedule(op):
    results = [verify_case(case, vectors(), ops, Adapter(), False) for case in schedules(op)]
    assert len(results) > 40 and [str(result) for result in results if not result.ok] == []
    for case in schedules(op):
        assert case.kind == "schedules" and set(case.flags) <= set(FLAGS) and len(set(case.flags)) == len(case.flags)
        for stage in case.stages:
            assert (stage.noise is None) == (stage.tolerance_class == "exact")
            assert stage.noise is None or stage.noise.shape == stage.array.shape


@pytest.mark.parametrize("op", OPS)
def test_every_way_to_feed_a_text_is_covered(op):
    steps = [case.arguments["steps"] for case in schedules(op)]
    feeds = [[step[2] for step in s] for s in steps if all(step[1] == "feed" and len(step) == 3 for step in s)]
    assert all([cut, 10 - cut] in feeds for cut in range(11))
    assert {(3, 1, 2, 3), (0, 1, 0, 1)} <= {tuple(lengths[:4]) for lengths in feeds}
    expected = {"fork", "microbatches", "rollback", "reorder", "dead", "empty", "one-token"}
    expected |= {"eos"} if op != "engram_stream" else set()
    expected |= {"addressing_stream": {"prefix"}, "forward_stream": {"ragged"}}.get(op, set())
    assert expected <= {flag for case in schedules(op) for flag in case.flags}


def test_a_prefix_is_given_in_raw_ids():
    """The V4.1 vocabulary merges ids, so the raw ids of a prefix differ from the canonical ids of its history."""
    [case] = [case for case in schedules("addressing_stream") if case.name.endswith("/v4.1-like-prefix-5")]
    (_, action, texts), *_ = case.arguments["steps"]
    assert action == "prefix" and [len(text) for text in texts] == [5, 5]
    last = [text[-3:] for text in texts]
    assert np.array_equal(np.array(last) < 0, case.stages[0].array < 0)
    assert not np.array_equal(last, case.stages[0].array)


class Forgetful(RowStream):
    """Its history is lost after a feed of one token."""

    def feed(self, canonical_ids):
        rows = super().feed(canonical_ids)
        if canonical_ids.shape[1] == 1:
            self.state = self.addressing.start(self.batch)
        return rows


class Untapped(ModuleStream):
    """It does not read its taps for one token, which the first token does not show: the taps are still zeros."""

    def feed(self, hidden, rows, dead, trace=None):
        if hidden.shape[1] == 1:
            self.state = 0 * self.state
        return super().feed(hidden, rows, dead, trace)


class Stale(ModelStream):
    """Rollbacks leave the rejected tokens in the state."""

    def rollback(self, tokens):
        """Ignore the request."""


@pytest.mark.parametrize(("op", "name", "wrong"), [(OPS[0], "rows", Forgetful), (OPS[1], "module", Untapped),
                                                   (OPS[2], "model", Stale)])
def test_a_wrong_stream_fails_the_schedules_that_reach_it(op, name, wrong):
    passed = []
    for case in schedules(op):
        computed = run(case, vectors(), ops, Adapter(), False, STREAMS | {name: wrong})
        reached = ("rollback" if wrong is Stale else "one-token") in case.flags
        reached &= not (wrong is Untapped and case.name.endswith("-cut-1"))
        passed += [case.name] if reached and result_of(case, vectors(), computed, False).ok else []
        assert reached or result_of(case, vectors(), computed, False).ok, case.name
    assert passed == []
