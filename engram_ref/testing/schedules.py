"""Schedules: drawn sequences of calls to a stream, and the shortest one that still fails.

The steps are those of docs/reference/golden.md, but a rollback counts whole feeds, so that a schedule stays valid when
steps are removed: `steps_of` converts it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

ACTIONS = ("feed", "rollback", "reorder", "fork")
"""The methods of a stream."""


@dataclass(frozen=True)
class Schedule:
    """A number of rows per batch, and steps (stream, action, argument)."""

    batch: int
    steps: tuple[tuple, ...]


def random_schedule(rng: np.random.Generator, span: int, actions: Sequence[str]) -> Schedule:
    """Draw a schedule of up to 12 steps, with feeds of any length, of one token, or of several."""
    batch, steps, streams = int(rng.integers(1, 4)), [], ["main"]
    lengths = ((0, 1, 1, 1, 2, span + 2), (1,), (2, span + 2))[rng.integers(3)]
    for action in [*rng.choice([*actions, "feed", "feed", "feed"], rng.integers(2, 12)).tolist(), "feed"]:
        argument: object = int(rng.choice(lengths))
        if action == "rollback":
            argument = int(rng.integers(1, 3))
        elif action == "reorder":
            argument = tuple(rng.integers(batch, size=batch).tolist())
        steps.append((streams[rng.integers(len(streams))], action, argument))
        if action == "fork":
            streams.append(f"fork {len(streams)}")
            steps[-1] = (*steps[-1][:2], streams[-1])
    return Schedule(batch, tuple(steps))


def steps_of(schedule: Schedule) -> list[list]:
    """Return the steps in the form of docs/reference/golden.md, without those that have no effect."""
    fed: dict[str, list[int]] = {"main": []}            # tokens of the feeds that each stream can roll back
    steps: list[list] = []
    for name, action, argument in schedule.steps:
        if name not in fed:
            continue
        if action == "feed":
            fed[name].append(argument)
        elif action == "fork":
            fed[argument] = list(fed[name])
        elif action == "reorder":
            argument, fed[name] = [row % schedule.batch for row in argument[: schedule.batch]], []
        elif not sum(fed[name][-argument:]):
            continue
        else:
            kept = fed[name][:-argument]
            argument, fed[name] = [sum(fed[name][-argument:])] * schedule.batch, kept
        steps.append([name, action, argument])
    return steps


def shortest(schedule: Schedule, fails: Callable[[Schedule], object]) -> Schedule:
    """Return a schedule that fails although none of the schedules that are one change simpler does."""
    while (smaller := next(filter(fails, simpler(schedule)), None)) is not None:
        schedule = smaller
    return schedule


def simpler(schedule: Schedule) -> Iterator[Schedule]:
    """Yield schedules with fewer steps, rows, streams or tokens."""
    steps, size = schedule.steps, len(schedule.steps)
    while (size := size // 2) > 0:
        for start in range(0, len(steps), size):
            yield replace(schedule, steps=steps[:start] + steps[start + size :])
    if schedule.batch > 1:
        yield replace(schedule, batch=schedule.batch - 1)
    for i, (name, action, argument) in enumerate(steps):
        before, after = steps[:i], steps[i + 1 :]
        if action == "fork":                            # the copy replaces the original
            yield replace(schedule, steps=before + tuple((name if s == argument else s, *rest) for s, *rest in after))
        if action == "feed" and after and after[0][:2] == (name, "feed"):
            yield replace(schedule, steps=(*before, (name, action, argument + after[0][2]), *after[1:]))
        if action in ("feed", "rollback") and argument > 1:
            yield from (replace(schedule, steps=(*before, (name, action, less), *after)) for less in (1, argument - 1))


def timeline(steps: Sequence[Sequence]) -> list[str]:
    """Return one line per step: its number, stream and action, and whether the answer is right; the last one fails."""
    words = {"feed": "feed T = {}", "rollback": "roll back {}", "reorder": "reorder {}", "fork": "fork as {}"}
    done = [words[action].format(argument) for _, action, argument in steps]
    ends = ["right" if action == "feed" else "" for _, action, _ in steps[:-1]] + ["WRONG"]
    return [f"  {i:3}  {name:8}{text:{max(map(len, done))}}  {end}".rstrip()
            for i, ((name, *_), text, end) in enumerate(zip(steps, done, ends, strict=True))]
