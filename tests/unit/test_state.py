"""Decoding a module: any cut of a sequence gives the output of one call, and snapshots can be restored."""

import copy

import numpy as np
import pytest

from engram_ref import EngramState, InputError, Trace, engram
from engram_ref.model.engram import start_state
from scripts.builders.small_modules import DEMO, DIALECTS, NO_CONV, SHORT, random_inputs, random_parameters
from tests.bounds import module_scale
from tests.compare import assert_close

STREAMS = [config for config in DIALECTS.values() if config.conv_kernel]
LENGTH = 13
CUTS = [(13,), (1,) * 13, (0, 13, 0), (1, 12), (12, 1), (2, 0, 3, 1, 7)]


def stream(config):
    rng = np.random.default_rng(1)
    parameters = random_parameters(config, rng)
    hidden, rows = random_inputs(config, rng, 2, LENGTH)
    dead = rng.uniform(size=(2, LENGTH)) < 0.3
    return parameters, hidden, rows, dead


def in_chunks(config, parameters, hidden, rows, dead, lengths, state):
    result, begin = [], 0
    for length in lengths:
        part = slice(begin, begin + length)
        result.append(engram(parameters, hidden[:, part], rows[:, part], config, dead=dead[:, part], state=state))
        begin += length
    return np.concatenate(result, axis=1)


@pytest.mark.parametrize("lengths", CUTS, ids=lambda c: "cut in " + ",".join(map(str, c)))
@pytest.mark.parametrize("config", STREAMS, ids=lambda config: config.name)
def test_any_cut_gives_the_output_of_one_call(config, lengths):
    parameters, hidden, rows, dead = stream(config)
    trace = Trace()
    whole = engram(parameters, hidden, rows, config, dead=dead, trace=trace)
    scale = module_scale(trace, parameters, config, hidden)      # the projections may sum in a different order
    result = in_chunks(config, parameters, hidden, rows, dead, lengths, start_state(config, 2))
    assert_close("output", whole, result, "f64", max(config.memory_width, config.hidden_size) + 1, scale)


def test_a_new_state_is_the_start_of_a_sequence():
    parameters, hidden, rows, _ = stream(DEMO)
    state = start_state(DEMO, 2)
    assert_close("output", engram(parameters, hidden, rows, DEMO),
                 engram(parameters, hidden, rows, DEMO, state=state), "exact")
    assert np.abs(state.taps).min() > 0


def test_state_length_equals_the_kernel_span():
    for config, span in ((DEMO, 9), (SHORT, 4), (NO_CONV, 0)):
        assert start_state(config, 3).taps.shape == (3, span, config.n_branches, config.hidden_size)


def test_a_copy_of_the_state_is_a_snapshot():
    parameters, hidden, rows, _ = stream(DEMO)
    state = start_state(DEMO, 2)
    engram(parameters, hidden[:, :5], rows[:, :5], DEMO, state=state)
    snapshot, taps = copy.copy(state), state.taps.copy()
    first = engram(parameters, hidden[:, 5:], rows[:, 5:], DEMO, state=state)
    assert_close("snapshot", taps, snapshot.taps, "exact")
    assert_close("replay", first, engram(parameters, hidden[:, 5:], rows[:, 5:], DEMO, state=snapshot), "exact")
    assert_close("state after", state.taps, snapshot.taps, "exact")


def test_sequences_of_a_batch_have_separate_states():
    parameters, hidden, rows, _ = stream(DEMO)
    state = start_state(DEMO, 2)
    engram(parameters, hidden, rows, DEMO, state=state)
    swapped = EngramState(state.taps[::-1])
    again = engram(parameters, hidden[::-1], rows[::-1], DEMO, state=swapped)
    straight = engram(parameters, hidden, rows, DEMO, state=state)
    assert_close("swapped", straight, again[::-1], "exact")


def test_an_unbatched_stream_has_a_state_of_batch_size_one():
    parameters, hidden, rows, _ = stream(DEMO)
    state = start_state(DEMO, 1)
    halves = [engram(parameters, hidden[0, part], rows[0, part], DEMO, state=state)
              for part in (slice(0, 6), slice(6, LENGTH))]
    whole = start_state(DEMO, 1)
    batched = [engram(parameters, hidden[:1, part], rows[:1, part], DEMO, state=whole)
               for part in (slice(0, 6), slice(6, LENGTH))]
    for one, other in zip(batched, halves, strict=True):
        assert_close("output", one[0], other, "exact")


BAD_TAPS = {
    "wrong batch size": np.zeros((3, 9, 3, 10)),
    "wrong dialect": np.zeros((2, 6, 3, 10)),
    "wrong number of branches": np.zeros((2, 9, 4, 10)),
    "wrong precision": np.zeros((2, 9, 3, 10), dtype=np.float32),
}


@pytest.mark.parametrize("case", BAD_TAPS)
def test_an_invalid_state_raises(case):
    parameters, hidden, rows, _ = stream(DEMO)
    state = EngramState(BAD_TAPS[case])
    for check in (True, False):
        with pytest.raises(InputError, match=r"state\.taps"):
            engram(parameters, hidden, rows, DEMO, state=state, check=check)
    assert state.taps is BAD_TAPS[case]
