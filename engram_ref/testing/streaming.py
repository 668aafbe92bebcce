"""Check the state that a port keeps between calls, and reduce a failure to the shortest schedule."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from engram_ref.checks import check_kind, integer
from engram_ref.config import EngramConfig
from engram_ref.errors import InputError, check_name, described
from engram_ref.oracle.cases import Case
from engram_ref.oracle.check.diagnose import diagnose
from engram_ref.oracle.check.difference import explained
from engram_ref.oracle.run import Stages
from engram_ref.oracle.streams import SnapshotStream, play
from engram_ref.testing.answers import NO_VECTORS, Convert, answers_of, case_of, failing, prepared
from engram_ref.testing.checks import Parameters, check_arguments, random_inputs
from engram_ref.testing.draw import random_text
from engram_ref.testing.schedules import ACTIONS, Schedule, random_schedule, shortest, steps_of, timeline


class StepStream(SnapshotStream):
    """A stream of a function (*inputs, state) -> (answer, state)."""

    def __init__(self, step: Callable[..., Any]):
        super().__init__(None)
        self.step = step

    def feed(self, *inputs: Any) -> Any:
        """Return the answer for the next tokens."""
        self.past.append((inputs[0].shape[1], self.state))
        answer, self.state = self.step(*inputs, self.state)
        return answer

    def reorder(self, rows: list[int]) -> None:
        """Select rows of every array in the state."""
        self.state, self.past = selected(self.state, rows), []


def selected(state: Any, rows: list[int]) -> Any:
    """Return rows of every array in a state: an array, a number, None, or a dictionary, list or tuple of states."""
    if isinstance(state, Mapping):
        return {name: selected(part, rows) for name, part in state.items()}
    if isinstance(state, list | tuple):
        return getattr(type(state), "_make", type(state))(selected(part, rows) for part in state)      # or a NamedTuple
    if state is None or isinstance(state, int | float) or getattr(state, "ndim", 1) == 0:
        return state
    return state[np.array(rows)]                        # JAX accepts no lists


@dataclass
class Port:
    """A stream of the port with NumPy arrays as inputs and answers, as `play` expects."""

    stream: Any
    batch: int
    to: Convert

    def feed(self, **columns: np.ndarray | None) -> np.ndarray:
        """Return the answer for the next tokens, [B, T, ...]."""
        answers = answers_of(prepared(self.stream.feed, [*columns.values()], self.to), ["answer"])
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
                    parameters: Parameters | None = None, *, layer_id: int | None = None,
                    schedules: int = 40, seed: int = 0, actions: Sequence[str] = ACTIONS, to: Convert = None) -> None:
    """Check that a port computes the same when a text arrives in chunks, and is rolled back, reordered and forked.

    make_stream   called as make_stream(B) for a new text of B rows; returns either a function
                  step(ids, state) -> (rows, state), with state None at the start; afterwards it may be an array
                  [B, ...], a number, None, or a dictionary, list or tuple of states. Or an object with the methods
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
    seed, runs, failed = integer("seed", seed), list[Run](), list[tuple[Trial, Schedule]]()
    for number in range(integer("schedules", schedules, 1)):
        trial: Trial = partial(run_schedule, make_stream, config, layer, parameters, to, (seed, number))
        schedule = random_schedule(np.random.default_rng([seed, number]), config.max_ngram, actions)
        runs.append(trial(schedule))
        if runs[-1].wrong:
            failed.append((trial, schedule))
    if failed:
        trial, schedule = failed[0]
        schedule = shortest(schedule, partial(first_wrong, trial))
        run = first_wrong(trial, schedule)
        difference = run.difference if run else "not deterministic: this schedule failed, but passed when repeated"
        cases, answers = tuple(run.case for run in runs), {run.case.name: run.answers for run in runs}
        named = diagnose(replace(NO_VECTORS, cases=cases), answers, failing(cases, answers)).lines
        raise AssertionError("\n".join([difference, f"shortest failing schedule, B = {schedule.batch}:",
                                        *timeline(steps_of(schedule)), *(run.inputs if run else ()), *named]))


def first_wrong(trial: "Trial", schedule: Schedule) -> "Run | None":
    """Return the first run of a schedule that fails, on one of a few texts."""
    return next((run for text in range(TEXTS) if (run := trial(schedule, text)).wrong), None)


def as_stream(stream: Any) -> Any:
    """Return a stream, or a function of the inputs and the state as a stream."""
    return StepStream(stream) if callable(stream) and not hasattr(stream, "feed") else stream


@dataclass(frozen=True)
class Run:
    """The case of a schedule, the port's answers, and the error that it raised or ""."""

    case: Case
    answers: Stages
    error: str = ""

    @property
    def wrong(self) -> bool:
        """Whether the port raised an exception or gave a wrong answer."""
        return bool(self.error or failing([self.case], {self.case.name: self.answers}))

    @property
    def difference(self) -> str:
        """What is wrong."""
        if self.error:
            return self.error
        results = failing([self.case], {self.case.name: self.answers})[self.case.name]
        return "\n".join(explained(NO_VECTORS, self.case, next(result for result in results if not result.ok)))

    @property
    def inputs(self) -> list[str]:
        """The ids or DEAD marks of the text, if there are any, one line each."""
        columns = {"ids": self.case.arguments.get("canonical_ids"), "dead": self.case.arguments.get("dead")}
        return [f"{name} in the order of the feeds: {x.tolist()}" for name, x in columns.items()
                if isinstance(x, np.ndarray)]


Trial = Callable[..., Run]
"""Runs a schedule on the text with a number; 0 unless given."""

TEXTS = 8
"""Number of texts on which a shorter schedule may fail."""


def run_schedule(make_stream: Callable[[int], Any], config: EngramConfig, layer: int, parameters: Parameters | None,
                 to: Convert, seed: tuple[int, int], schedule: Schedule, text: int = 0) -> Run:
    """Run a schedule on a text, which depends on its number, the seed and the size of the schedule."""
    steps = steps_of(schedule)
    rng, feeds = np.random.default_rng([*seed, 1 + text]), [i for i, step in enumerate(steps) if step[1] == "feed"]
    shape = schedule.batch, sum(steps[i][2] for i in feeds)
    columns: dict[str, Any] = {}
    rest: dict[str, object] = {"config": config, "steps": steps}
    if parameters is None:
        columns["canonical_ids"] = random_text(rng, config, shape)
        op, stage, state, rest["layer_id"] = "addressing_stream", "rows", "history", layer
    else:
        inputs = random_inputs(rng, config, layer, shape, parameters["value_weight"].dtype.type)
        columns |= zip(("hidden", "rows", "dead"), inputs, strict=True)
        op, stage, state, rest["parameters"] = "engram_stream", "output", "taps", {"parameters": parameters}
    case = case_of(op, f"{config.name}, schedule {seed[1]}", rest | columns,
                   [f"{i}.{name}" for i in feeds for name in (stage, state)], floats=stage == "output")
    try:
        port = Port(as_stream(make_stream(schedule.batch)), schedule.batch, to)
        answers = play(steps, columns, port, np.asarray)
    except AssertionError as error:
        return Run(case, {}, str(error))
    except Exception as error:      # the port may raise anything
        return Run(case, {}, f"the port raised {type(error).__name__}: {error}")
    return Run(case, {f"{i}.{stage}": array for i, array in zip(feeds, answers, strict=True)})
