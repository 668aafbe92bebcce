"""Check the state that a port keeps between calls, and reduce a failure to the shortest schedule."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engram_ref.checks import integer
from engram_ref.config import EngramConfig
from engram_ref.errors import InputError, check_name, described
from engram_ref.oracle.cases import Case, Vectors
from engram_ref.oracle.run import Stages
from engram_ref.oracle.streams import SnapshotStream
from engram_ref.testing.answers import Convert, answers_of, called, case_of, converted, explained, first_wrong
from engram_ref.testing.checks import check_arguments, random_inputs, random_text
from engram_ref.testing.schedules import ACTIONS, Schedule, random_schedule, shortest, steps_of, timeline


class StepStream(SnapshotStream):
    """A stream that calls a function (*inputs, state) -> (answer, state) and keeps every state, None at the start."""

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
    """Return rows of every array in a state: an array, None, or a dictionary, list or tuple of states."""
    if isinstance(state, Mapping):
        return {name: selected(part, rows) for name, part in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(selected(part, rows) for part in state)
    return state if state is None else state[rows]


def check_streaming(make_stream: Callable[[int], Any], config: EngramConfig | str,
                    parameters: Mapping[str, np.ndarray] | None = None, *, layer_id: int | None = None,
                    schedules: int = 50, seed: int = 0, actions: Sequence[str] = ACTIONS, to: Convert = None) -> None:
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
    config, layer = check_arguments(make_stream, config, layer_id, parameters)
    check_actions(make_stream, actions)
    for number in range(integer("schedules", schedules, 1)):
        trial = Trial(make_stream, config, layer, parameters, (integer("seed", seed), number), to)
        schedule = random_schedule(np.random.default_rng(trial.seed), config.max_ngram, actions)
        if trial.failure(schedule):
            raise AssertionError(trial.failure(shortest(schedule, trial.failure)))


def check_actions(make_stream: Callable[[int], Any], actions: Sequence[str]) -> None:
    """Raise InputError for an unknown action, or one that the stream lacks."""
    stream = as_stream(called(lambda: make_stream(1)))
    for action in actions:
        check_name("actions", action, ACTIONS)
        if not callable(getattr(stream, action, None)):
            raise InputError("make_stream", f"a step function, or a stream with the method {action}",
                             described(stream), "list the methods that it has: actions=['feed', ...]")


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

    def failure(self, schedule: Schedule) -> str:
        """Return what differs, and the schedule as a timeline; "" if all answers are right."""
        steps = steps_of(schedule)
        case, vectors, columns = self.case(schedule.batch, steps)
        answers, at, raised = self.play(schedule.batch, steps, columns)
        wrong = first_wrong(case, vectors, answers)
        if wrong is None and not raised:
            return ""
        text = raised if wrong is None else explained(case, vectors, answers, wrong)
        at = at if wrong is None else int(wrong.stage.split(".")[0])
        verdicts = ["right" if action == "feed" and i < at else "" for i, (_, action, _) in enumerate(steps)]
        verdicts[at] = "raises" if wrong is None else "WRONG"
        lines = timeline(steps[: at + 1], verdicts[: at + 1])
        return f"{text}\nshortest failing schedule, B = {schedule.batch}:\n{lines}"

    def case(self, batch: int, steps: list[list]) -> tuple[Case, Vectors, list[np.ndarray | None]]:
        """Return the case of a schedule, and its columns: the inputs of all feeds, each [B, all tokens, ...]."""
        rng, config = np.random.default_rng([*self.seed, 1]), self.config
        shape = batch, sum(argument for _, action, argument in steps if action == "feed")
        outputs = [f"{i}.{self.stage}" for i, (_, action, _) in enumerate(steps) if action == "feed"]
        if self.parameters is None:
            ids = random_text(rng, config, shape)
            arguments = {"config": config, "layer_id": self.layer, "canonical_ids": ids, "steps": steps}
            return *case_of("addressing_stream", f"stream of {config.name}", arguments, outputs, floats=False), [ids]
        hidden, rows, dead = random_inputs(rng, config, self.layer, shape, self.parameters["value_weight"].dtype.type)
        arguments = {"parameters": {"parameters": self.parameters}, "hidden": hidden, "rows": rows, "config": config,
                     "dead": dead, "steps": steps}
        return *case_of("engram_stream", f"stream of {config.name}", arguments, outputs), [hidden, rows, dead]

    @property
    def stage(self) -> str:
        """The stage that a feed answers."""
        return "rows" if self.parameters is None else "output"

    def play(self, batch: int, steps: list[list], columns: list) -> tuple[Stages, int, str]:
        """Return the answers of the port, the last step, and the error in it or ""."""
        answers, i, used = {}, 0, 0
        try:
            streams = {"main": as_stream(self.make_stream(batch))}
            for i, (name, action, argument) in enumerate(steps):
                if action == "fork":
                    streams[argument] = streams[name].fork()
                elif action != "feed":
                    getattr(streams[name], action)(argument)
                else:
                    part, used = slice(used, used + argument), used + argument
                    given = [None if x is None else converted(x[:, part], self.to) for x in columns]
                    [answer] = answers_of(streams[name].feed(*given), [self.stage]).values()
                    tokens = [-1] if answer.shape[:2] == (batch, argument) else answer.shape[:2]
                    answers[f"{i}.{self.stage}"] = answer.reshape(*tokens, *answer.shape[2:])
        except Exception as error:      # the port may raise anything
            own = isinstance(error, AssertionError)
            return answers, i, f"step {i}: {error if own else f'the port raised {type(error).__name__}: {error}'}"
        return answers, i, ""
