"""Check the state that a port keeps between calls, and reduce a failure to the shortest schedule."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from engram_ref.checks import check_kind, integer
from engram_ref.config import EngramConfig
from engram_ref.errors import InputError, check_name, described
from engram_ref.oracle.cases import Case
from engram_ref.oracle.check.diagnose import diagnose
from engram_ref.oracle.run import Stages
from engram_ref.oracle.streams import play
from engram_ref.testing.answers import NO_VECTORS, Convert, answers_of, case_of, converted, explained, failing
from engram_ref.testing.checks import check_arguments, random_inputs
from engram_ref.testing.draw import random_text
from engram_ref.testing.schedules import ACTIONS, Schedule, random_schedule, shortest, steps_of, timeline


class StepStream:
    """A stream of a function (*inputs, state) -> (answer, state); the states of all feeds are kept for rollbacks."""

    def __init__(self, step: Callable[..., Any], states: Sequence[tuple[int, Any]] = ((0, None),)):
        self.step, self.states = step, list(states)        # tokens of a feed, and the state after it

    def feed(self, *inputs: Any) -> Any:
        """Return the answer for the next tokens."""
        answer, state = self.step(*inputs, self.states[-1][1])
        self.states.append((inputs[0].shape[1], state))
        return answer

    def rollback(self, tokens: Sequence[int]) -> None:
        """Forget the newest feeds."""
        left = tokens[0]
        while left > 0:
            left -= self.states.pop()[0]

    def reorder(self, rows: list[int]) -> None:
        """Select rows of every array in the state."""
        self.states = [(0, selected(self.states[-1][1], rows))]

    def fork(self) -> "StepStream":
        """Return a copy, which shares the states."""
        return StepStream(self.step, self.states)


def selected(state: Any, rows: list[int]) -> Any:
    """Return rows of every array in a state: an array, None, or a dictionary, list or tuple of states."""
    if isinstance(state, Mapping):
        return {name: selected(part, rows) for name, part in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(selected(part, rows) for part in state)
    return state if state is None else state[rows]


@dataclass
class Port:
    """A stream of the port with NumPy arrays as inputs and answers, as `play` expects."""

    stream: Any
    batch: int
    to: Convert

    def feed(self, **columns: np.ndarray | None) -> np.ndarray:
        """Return the answer for the next tokens, [B, T, ...]."""
        answers = answers_of(lambda: self.stream.feed(*converted(columns, self.to).values()), ["answer"])
        shape = next(array.shape[:2] for array in columns.values() if array is not None)
        if [*answers] != ["answer"] or answers["answer"].shape[:2] != shape:
            raise AssertionError(f"the port must return one array of shape [{shape[0]}, {shape[1]}, ...]; it returned "
                                 f"{', '.join(f'{name} {list(array.shape)}' for name, array in answers.items())}")
        return answers["answer"]

    def fork(self) -> "Port":
        """Return an independent copy."""
        return Port(self.stream.fork(), self.batch, self.to)

    def states(self) -> dict[str, np.ndarray]:
        """Return nothing: the state of a port may have any form."""
        return {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def check_streaming(make_stream: Callable[[int], Any], config: EngramConfig | str,
                    parameters: Mapping[str, np.ndarray] | None = None, *, layer_id: int | None = None,
                    schedules: int = 40, seed: int = 0, actions: Sequence[str] = ACTIONS, to: Convert = None) -> None:
    """Check that a port computes the same when a text arrives in chunks, and is rolled back, reordered and forked.

    make_stream   called as make_stream(B) for a new text of B rows; returns either a function
                  step(ids, state) -> (rows, state), with state None at the start, or an object with the methods
                      feed(ids int64 [B, T])     -> rows int64 [B, T, C] of the next T tokens
                      rollback(tokens)           forgets the newest tokens[b] tokens of row b, always whole feeds
                      reorder(rows)              the batch becomes these rows, in this order
                      fork()                     -> an independent copy
                  With parameters, inputs are (hidden [B, T, M, D], rows int64 [B, T, C], dead bool [B, T] or None)
                  and the answer is Y [B, T, M, D]
    config        a configuration or the name of a preset
    parameters    of one layer's module; None: the rows are checked
    layer_id      the layer; default: the first
    schedules     number of schedules, each on a new text
    seed          of the schedules and texts
    actions       the methods that the stream supports
    to            converts each NumPy array to an array of the port
    raises        AssertionError with the shortest failing schedule; InputError for invalid arguments
    """
    config, layer = check_arguments(make_stream, config, layer_id, to, parameters)
    check_kind("actions", actions, list, tuple)
    try:
        stream = as_stream(make_stream(1))
    except Exception as error:
        raise AssertionError(f"make_stream raised {type(error).__name__}: {error}") from error
    for action in actions:
        check_name("actions", action, ACTIONS)
        if not callable(getattr(stream, action, None)):
            raise InputError("make_stream", f"a step function, or a stream with the method {action}",
                             described(stream), "list the methods that it has: actions=['feed', ...]")
    seed, failed, cases, answers = integer("seed", seed), [], list[Case](), dict[str, Stages]()
    for number in range(integer("schedules", schedules, 1)):
        trial = Trial(make_stream, config, layer, parameters, (seed, number), to)
        schedule = random_schedule(np.random.default_rng(trial.seed), config.max_ngram, actions)
        case, found, raised = trial.run(schedule)
        cases.append(case)
        answers[case.name] = found
        if raised or failing([case], answers, NO_VECTORS):
            failed.append((trial, schedule))
    if failed:
        trial, schedule = failed[0]
        schedule = shortest(schedule, trial.fails)
        names = diagnose(replace(NO_VECTORS, cases=tuple(cases)), answers, failing(cases, answers, NO_VECTORS)).lines
        raise AssertionError("\n".join([*trial.explained(schedule), *names]))


def as_stream(stream: Any) -> Any:
    """Return a stream, or a function of the inputs and the state as a stream."""
    return StepStream(stream) if callable(stream) and not hasattr(stream, "feed") else stream


@dataclass(frozen=True)
class Trial:
    """A port and a text, which depends on the seed and the size of the schedule."""

    make_stream: Callable[[int], Any]
    config: EngramConfig
    layer: int
    parameters: Mapping[str, np.ndarray] | None
    seed: tuple[int, int]
    to: Convert

    def fails(self, schedule: Schedule) -> bool:
        """Return whether the port raises an exception or gives a wrong answer."""
        case, answers, error = self.run(schedule)
        return bool(error or failing([case], {case.name: answers}, NO_VECTORS))

    def explained(self, schedule: Schedule) -> list[str]:
        """Return what differs, and the schedule, of which the last step fails, as a timeline."""
        case, answers, error = self.run(schedule)
        failures = failing([case], {case.name: answers}, NO_VECTORS)
        return [error or explained(case, failures[case.name]), f"shortest failing schedule, B = {schedule.batch}:",
                *timeline(steps_of(schedule))]

    def run(self, schedule: Schedule) -> tuple[Case, Stages, str]:
        """Return the case of a schedule, the port's answers, and the error that it raised or ""."""
        steps, config = steps_of(schedule), self.config
        rng, feeds = np.random.default_rng([*self.seed, 1]), [i for i, step in enumerate(steps) if step[1] == "feed"]
        shape = schedule.batch, sum(steps[i][2] for i in feeds)
        columns: dict[str, Any] = {}
        rest: dict[str, object] = {"config": config, "steps": steps}
        if self.parameters is None:
            columns["canonical_ids"] = random_text(rng, config, shape)
            op, stage, state, rest["layer_id"] = "addressing_stream", "rows", "history", self.layer
        else:
            inputs = random_inputs(rng, config, self.layer, shape, self.parameters["value_weight"].dtype.type)
            columns |= zip(("hidden", "rows", "dead"), inputs, strict=True)
            op, stage, state, rest["parameters"] = "engram_stream", "output", "taps", {"parameters": self.parameters}
        outputs = [f"{i}.{name}" for i in feeds for name in (stage, state)]
        case = case_of(op, f"{config.name}, schedule {self.seed[1]}", rest | columns, outputs,
                       floats=stage == "output")
        try:
            port = Port(as_stream(self.make_stream(schedule.batch)), schedule.batch, self.to)
            answers = play(steps, columns, port, np.asarray)
        except AssertionError as error:
            return case, {}, str(error)
        except Exception as error:      # the port may raise anything
            return case, {}, f"the port raised {type(error).__name__}: {error}"
        return case, {f"{i}.{stage}": array for i, array in zip(feeds, answers, strict=True)}, ""
