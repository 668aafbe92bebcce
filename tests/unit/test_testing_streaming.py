"""check_streaming: right streams pass; a wrong one is reduced to the shortest schedule that shows its bug."""

import re
from functools import partial
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
import pytest

from engram_ref import Addressing, EngramState, InputError, engram, preset
from engram_ref.backends import load
from engram_ref.oracle.bugs import BUGS
from engram_ref.oracle.check.diagnose import Diagnosis
from engram_ref.testing import check_streaming, streaming
from engram_ref.testing.checks import reduced
from engram_ref.testing.schedules import ACTIONS, Schedule, random_schedule, shortest, simpler, steps_of
from scripts.builders.small_modules import random_parameters
from tests.ports_in_python import module_stream, rows_stream

TINY, V41, QWEN = preset("tiny"), preset("deepseek-v4.1-flash"), preset("qwen4exp-ple")
SMALL = reduced(TINY, 1)
PARAMETERS = random_parameters(SMALL, np.random.default_rng(0))
NEEDS_TORCH = pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")

FEED, WRONG = "main    feed T = 1", "WRONG"
TIMELINES = {
    "history-lost-T1": [(FEED, "right"), (FEED, WRONG)],
    "history-multi-token-reset": [(FEED, "right"), ("main    feed T = 2", WRONG)],
    "rollback-stale": [(FEED, "right"), ("main    roll back [1]", ""), (FEED, WRONG)],
    "beam-reorder": [(FEED, "right"), ("main    reorder [1, 0]", ""), (FEED, WRONG)],
    "fork-shared": [("main    fork as fork 1", ""), ("fork 1  feed T = 1", "right"), (FEED, WRONG)],
}
"""Bug of the catalogue -> the shortest schedule of a stream of rows that shows it."""

MODULE_TIMELINES = {
    "taps-ignored-T1": ["feed", "feed"],
    "drafts-in-conv-state": ["feed", "roll back", "feed"],
    "beam-reorder-taps": ["feed", "reorder", "feed"],
}
"""Likewise for a module: the actions. The convolution reaches back three tokens, in one feed or the other."""


def failure(*arguments, **named):
    with pytest.raises(AssertionError) as caught:
        check_streaming(*arguments, **named)
    return str(caught.value)


def timeline_of(message):
    """The lines of the timeline as (stream and action, verdict)."""
    lines = message.split("shortest failing schedule, B = ")[1]
    return re.findall(r"^ +\d+  (\S.*?)(?:  +(right|WRONG))?$", lines, re.M)


@pytest.mark.parametrize("backend", ["numpy", pytest.param("numba", marks=pytest.mark.skipif(
    find_spec("numba") is None, reason="numba is not installed"))])
@pytest.mark.parametrize("config", [TINY, V41, QWEN], ids=lambda config: config.name)
def test_right_streams_of_rows_pass(config, backend):
    check_streaming(rows_stream(config, namespace=load(backend)), config, schedules=100)


@NEEDS_TORCH
def test_streams_of_tensors_pass():
    to = lambda array: load("torch").tensors({"array": array})["array"]
    check_streaming(rows_stream(TINY, namespace=load("torch")), TINY, to=to)


def test_a_right_stream_of_a_module_passes():
    check_streaming(module_stream(SMALL, PARAMETERS), SMALL, PARAMETERS, schedules=10)


@pytest.mark.parametrize("bug", TIMELINES)
def test_a_wrong_stream_is_reduced_and_named(bug):
    message = failure(rows_stream(TINY, bug), TINY)
    found = timeline_of(message)
    assert f"`{bug}`" in message and (found == TIMELINES[bug] or (bug == "fork-shared" and found[1:] == [
        (FEED, "right"), ("fork 1  feed T = 1", WRONG)]))
    assert re.search("B = [12]:", message)


@pytest.mark.parametrize("bug", MODULE_TIMELINES)
def test_a_wrong_stream_of_a_module_is_reduced(bug, monkeypatch):
    monkeypatch.setattr(streaming, "diagnose", lambda *_: Diagnosis((), ()))
    message = failure(module_stream(SMALL, PARAMETERS, bug), SMALL, PARAMETERS, schedules=8)
    found = timeline_of(message)
    assert [re.sub("^main +| [T[].*", "", text) for text, _ in found] == MODULE_TIMELINES[bug]
    assert [verdict for _, verdict in found if verdict] == ["right", WRONG]
    assert sum(int(T) for T in re.findall(r"feed T = (\d+)", str(found))) == 4


def test_the_named_bugs_exist():
    assert {*TIMELINES, *MODULE_TIMELINES} <= {*BUGS}


# step functions

ADDRESSING = Addressing(TINY)


def step(ids, history):
    """Rows and the next history; None at the start."""
    return ADDRESSING.rows(ids, 1, history), ADDRESSING.advance(history, ids)


def module_step(hidden, rows, dead, taps):
    """Y and the taps, in a dictionary."""
    state = EngramState(np.zeros((len(hidden), SMALL.conv_span, *hidden.shape[2:])) if taps is None else taps["taps"])
    return engram(PARAMETERS, hidden, rows, SMALL, state=state, dead=dead), {"taps": state.taps}


def test_right_step_functions_pass():
    check_streaming(lambda batch: step, TINY)
    check_streaming(lambda batch: lambda ids, state: (step(ids, state and state[0])[0], (step(
        ids, state and state[0])[1],)), TINY)
    check_streaming(lambda batch: module_step, SMALL, PARAMETERS, schedules=4)


def test_a_step_function_that_overwrites_its_state():
    def wrong(ids, history):
        rows, following = step(ids, history)
        if history is not None:
            history[:] = following
            following = history
        return rows, following

    found = timeline_of(failure(lambda batch: wrong, TINY))
    assert len(found) == 4 and any("fork" in text or "roll" in text for text, _ in found)


class State(NamedTuple):
    """A history, number of calls, and a number in an array."""

    history: object
    calls: int
    total: np.ndarray


class WithoutLists(np.ndarray):
    """An array that accepts no list as its index, as those of JAX."""

    def __getitem__(self, index):
        assert not isinstance(index, list)
        return super().__getitem__(index)


def test_states_of_any_form_are_reordered():
    def counting(ids, state):
        rows, history = step(ids, None if state is None else np.asarray(state.history))
        calls = 1 if state is None else state.calls + 1
        return rows, State(history.view(WithoutLists), calls, np.array(calls))

    check_streaming(lambda batch: counting, TINY)


# unusable ports

class Stream:
    """A right stream of rows with some methods replaced."""

    def __init__(self, batch, **methods):
        self.inner = rows_stream(TINY)(batch)
        for name in ACTIONS:
            setattr(self, name, getattr(self.inner, name))
        for name, method in methods.items():
            setattr(self, name, method)


def wrong_at_once(answer):
    return lambda batch: Stream(batch, feed=lambda ids: answer(ids))


UNUSABLE = {
    "None": (lambda ids: None, "it returned None"),
    "without a batch": (lambda ids: step(ids, None)[0][0], r"must return one array of shape \[1, 1, \.\.\.\]"),
    "too many tokens": (lambda ids: step(np.tile(ids, 2), None)[0], "must return one array of shape"),
    "a dictionary": (lambda ids: {"rows": step(ids, None)[0]}, "must return one array of shape"),
    "floats": (lambda ids: step(ids, None)[0].astype(float), "expected dtype integer, found float64"),
    "an exception": (lambda ids: ids[7], "the port raised IndexError"),
}


@pytest.mark.parametrize("answer", UNUSABLE)
def test_unusable_answers(answer):
    function, message = UNUSABLE[answer]
    found = failure(wrong_at_once(function), TINY, schedules=5)
    assert len(timeline_of(found)) == 1
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(found)


def test_a_failure_that_does_not_repeat():
    calls = []

    def feed(stream, ids):
        calls.append(ids)
        return stream.inner.feed(ids) + (len(calls) == 60)

    def make(batch):
        stream = Stream(batch)
        stream.feed = partial(feed, stream)
        return stream

    message = failure(make, TINY, actions=["feed"])
    assert message.startswith("not deterministic: this schedule failed, but passed when repeated\nshortest failing")


def test_a_failure_at_a_dead_token_is_reduced():
    def feed(stream, ids):
        if (ids == -1).any():
            raise ValueError("negative id")
        return stream.feed(ids)

    found = failure(lambda batch: Stream(batch, feed=partial(feed, rows_stream(V41)(batch))), V41, actions=["feed"])
    assert timeline_of(found) == [(FEED, WRONG)]
    assert "B = 1:" in found and found.endswith("\nids in the order of the feeds: [[-1]]")


def test_an_exception_in_a_rollback_is_reduced():
    def rollback(tokens):
        raise NotImplementedError("no rollback")

    found = failure(lambda batch: Stream(batch, rollback=rollback), TINY)
    assert "the port raised NotImplementedError: no rollback" in found
    assert timeline_of(found) == [(FEED, "right"), ("main    roll back [1]", WRONG)]


def test_a_step_function_that_returns_no_state():
    assert "the port raised" in failure(lambda batch: lambda ids, state: None, TINY, schedules=3)


def test_actions_that_a_stream_lacks_must_be_named():
    class FeedOnly:
        def __init__(self, batch):
            self.feed = rows_stream(TINY)(batch).feed

    with pytest.raises(InputError, match=r"the method rollback.*actions=\['feed', ...\]"):
        check_streaming(FeedOnly, TINY)
    check_streaming(FeedOnly, TINY, actions=["feed"])


def test_bad_arguments():
    good = rows_stream(TINY)
    for named, message in ((dict(make_stream=3), "a function"), (dict(config="tny"), "did you mean tiny"),
                           (dict(layer_id=9), "layers of tiny"), (dict(schedules=0), "at least 1"),
                           (dict(actions=["fed"]), "did you mean feed"), (dict(parameters={}), "parameters"),
                           (dict(make_stream=lambda batch: None), "a step function")):
        with pytest.raises(InputError, match=message):
            check_streaming(**{"make_stream": good, "config": TINY} | named)


# schedules

def test_every_schedule_is_valid_after_removing_any_steps():
    for number in range(50):
        schedule = random_schedule(np.random.default_rng(number), 3, ACTIONS)
        for smaller in simpler(schedule):
            for name, action, argument in steps_of(smaller):
                assert action in ACTIONS and (action != "rollback" or argument[0] > 0), (name, argument)


def test_schedules_contain_every_action_and_short_feeds():
    drawn = [step for number in range(50) for step in random_schedule(np.random.default_rng(number), 3, ACTIONS).steps]
    assert {action for _, action, _ in drawn} == {*ACTIONS}
    assert {argument for _, action, argument in drawn if action == "feed"} == {0, 1, 2, 5}


def test_only_the_given_actions_are_drawn():
    drawn = [random_schedule(np.random.default_rng(number), 3, ["feed", "fork"]).steps for number in range(20)]
    assert {action for steps in drawn for _, action, _ in steps} == {"feed", "fork"}


def test_the_shortest_schedule_keeps_what_fails():
    long = Schedule(3, (("main", "feed", 4), ("main", "fork", "a"), ("a", "feed", 1), ("main", "rollback", 2),
                        ("a", "feed", 5), ("main", "feed", 2), ("a", "reorder", (2, 1, 0))))
    fives = lambda schedule: any(action == "feed" and argument >= 5 for _, action, argument in steps_of(schedule))
    assert shortest(long, fives) == Schedule(1, (("main", "feed", 5),))
