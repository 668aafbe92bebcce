"""Decoding: any schedule gives the logits of one call on the whole text."""

import copy
import pickle
from types import SimpleNamespace

import numpy as np
import pytest

from engram_ref import InputError, Trace, ops
from engram_ref.backends import replace
from engram_ref.model.state import DecodeState
from engram_ref.model.transformer import forward
from scripts.builders.small_models import FULL, MODELS, PLAIN, random_ids, random_model
from tests.compare import assert_close

LENGTH = 13
CUTS = [(13,), (1,) * 13, (0, 13, 0), (1, 12), (12, 1), (2, 0, 3, 1, 7)]


def text(config, batch=2, seed=1):
    """Ids [B, 13] and dead marks, or None if the dialect has no DEAD."""
    ids = random_ids(config, batch, LENGTH, seed)
    if config.engram is None or not config.engram.dead_barrier:
        return ids, None
    return ids, np.random.default_rng(seed).uniform(size=ids.shape) < 0.2


def part(ids, dead, begin, end):
    return {"ids": ids[:, begin:end], "dead": None if dead is None else dead[:, begin:end]}


@pytest.mark.parametrize("absorbed", [False, True], ids=["expanded", "absorbed"])
@pytest.mark.parametrize("lengths", CUTS, ids=lambda c: "cut in " + ",".join(map(str, c)))
@pytest.mark.parametrize("name", MODELS)
def test_any_cut_gives_the_logits_of_one_call(name, lengths, absorbed):
    config = MODELS[name]
    parameters, (ids, dead) = random_model(config), text(config)
    state, result, begin = DecodeState.start(2), [], 0
    for length in lengths:
        result.append(forward(parameters, config=config, state=state, absorbed=absorbed,
                              **part(ids, dead, begin, begin + length)))
        begin += length
    whole = forward(parameters, ids, config, dead=dead)
    assert_close("logits", whole, np.concatenate(result, axis=1), "model")
    assert state.lengths.tolist() == [LENGTH] * 2


def ragged(ids, dead, lengths, counts):
    """The next counts[b] tokens of each row, padded on the right with an id that would change the result if read."""
    T = int(max(counts))
    new, marks = np.full((len(ids), T), 60), np.zeros((len(ids), T), dtype=bool)
    for b, (start, count) in enumerate(zip(lengths, counts, strict=True)):
        new[b, :count] = ids[b, start : start + count]
        marks[b, :count] = False if dead is None else dead[b, start : start + count]
    return {"ids": new, "dead": None if dead is None else marks, "counts": counts}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", MODELS)
def test_rows_of_different_lengths_are_independent(name, seed):
    """Take random ragged steps, in which a finished row has a count of 0."""
    config, rng = MODELS[name], np.random.default_rng(seed)
    parameters, (ids, dead) = random_model(config), text(config, 3)
    whole, state = forward(parameters, ids, config, dead=dead), DecodeState.start(3)
    while (state.lengths < LENGTH).any():
        start = state.lengths.copy()
        counts = np.minimum(rng.integers(0, 5, 3), LENGTH - start)
        logits = forward(parameters, config=config, state=state, **ragged(ids, dead, start, counts))
        for b, count in enumerate(counts):
            assert_close(f"row {b}", whole[b, start[b] : start[b] + count], logits[b, :count], "model")
        assert state.lengths.tolist() == (start + counts).tolist()


@pytest.mark.parametrize("tokens", [0, 1, 4, 9, [0, 9], [5, 2]], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_rollback_and_replay_equals_one_call(name, tokens):
    """Compute nine tokens, reject four drafts, roll back further, then compute the rest of the text."""
    config = MODELS[name]
    parameters, (ids, dead) = random_model(config), text(config)
    whole, state = forward(parameters, ids, config, dead=dead), DecodeState.start(2)
    forward(parameters, config=config, state=state, **part(ids, dead, 0, 9))
    forward(parameters, (ids[:, 9:] + 1) % 60, config, state=state)                       # rejected drafts
    state.rollback(4)
    state.rollback(tokens)
    start = state.lengths.copy()
    result = forward(parameters, config=config, state=state, **ragged(ids, dead, start, LENGTH - start))
    for b in range(2):
        assert_close(f"row {b}", whole[b, start[b] :], result[b, : LENGTH - start[b]], "model")


@pytest.mark.parametrize("name", MODELS)
def test_rows_accept_different_numbers_of_drafts(name):
    """Speculative decoding has three drafts per step, of which the two rows accept different numbers."""
    config = MODELS[name]
    parameters, (ids, dead) = random_model(config), text(config)
    whole, state = forward(parameters, ids, config, dead=dead), DecodeState.start(2)
    for accepted in ([1, 2], [1, 2], [3, 1], [0, 3]):
        start = state.lengths.copy()
        step = ragged(ids, dead, start, np.array([3, 3]))
        for b, good in enumerate(accepted):
            step["ids"][b, good:] = (step["ids"][b, good:] + 7) % 60
        logits = forward(parameters, config=config, state=state, **step)
        state.rollback([3 - good for good in accepted])
        for b, good in enumerate(accepted):
            assert_close(f"row {b}", whole[b, start[b] : start[b] + good], logits[b, :good], "model")
    assert state.lengths.tolist() == [5, 8]


@pytest.mark.parametrize("name", MODELS)
def test_forks_are_independent(name):
    config = MODELS[name]
    parameters, (ids, _), (other, _) = random_model(config), text(config), text(config, seed=2)
    other[:, :5] = ids[:, :5]
    state = DecodeState.start(2)
    forward(parameters, ids[:, :5], config, state=state)
    branch = state.fork()
    result = {"one": [], "two": []}
    for t in range(5, LENGTH):                                          # alternate, so that shared caches are noticed
        result["one"].append(forward(parameters, ids[:, t : t + 1], config, state=state))
        result["two"].append(forward(parameters, other[:, t : t + 1], config, state=branch))
    for key, whole in (("one", ids), ("two", other)):
        expected = forward(parameters, whole, config)[:, 5:]
        assert_close(key, expected, np.concatenate(result[key], axis=1), "model")
    state.rollback(3)
    assert branch.lengths.tolist() == [LENGTH] * 2


def stepped(state, parameters, ids, steps, namespace=ops):
    """Logits of single-token steps at the positions `steps`."""
    return [forward(parameters, ids[:, t : t + 1], FULL, state=state, ops=namespace) for t in steps]


SNAPSHOTS = {
    "fork": lambda state: state.fork(),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda state: pickle.loads(pickle.dumps(state)),
    "constructor": lambda state: DecodeState(state.lengths, state.caches),
    "dictionary": lambda state: DecodeState(state.lengths.copy(), dict(state.caches)),
}


@pytest.mark.parametrize("method", SNAPSHOTS)
def test_snapshots_are_unaffected_by_later_writes(method):
    """After a rollback the original overwrites slots that the snapshot still uses, and vice versa."""
    parameters, (ids, _), (other, _) = random_model(FULL), text(FULL), text(FULL, seed=2)
    state = DecodeState.start(2)
    stepped(state, parameters, ids, range(9))
    snapshot = SNAPSHOTS[method](state)
    kept = {name: cache[:, :9].copy() for name, cache in snapshot.caches.items()}
    # write into either one and check that the other keeps its length and values
    for one, two in ((state, snapshot), (snapshot, state)):
        one.rollback(4)
        stepped(one, parameters, other, range(4))
        assert two.lengths.tolist() == [9, 9]
        if two is snapshot:
            for name, cache in kept.items():
                assert_close(name, cache, two.caches[name][:, :9], "exact")
    # both now hold the same text and must continue it alike
    text_of_both = np.concatenate([ids[:, :5], other[:, :4]], axis=1)
    for one in (state, snapshot):
        logits = forward(parameters, ids[:, 9:10], FULL, state=one)
        expected = forward(parameters, np.concatenate([text_of_both, ids[:, 9:10]], axis=1), FULL)[:, -1:]
        assert_close("logits", expected, logits, "model")


def test_returned_caches_are_not_written_to():
    parameters, (ids, _) = random_model(FULL), text(FULL)
    state = DecodeState.start(2)
    stepped(state, parameters, ids, range(6))
    held = dict(state.caches)
    kept = {name: cache.copy() for name, cache in held.items()}
    state.rollback(3)
    stepped(state, parameters, ids, range(6))
    for name, cache in held.items():
        assert_close(name, kept[name], cache, "exact")


class Allocations:
    """A namespace that records the length of every newly allocated cache."""

    def __init__(self):
        self.made = []
        spied = {name: self.spy(getattr(ops, name)) for name in ("append", "place")}
        self.ops = SimpleNamespace(**{name: getattr(ops, name) for name in ops.__all__} | spied)

    def spy(self, op):
        def call(cache, new, lengths):
            result = op(cache, new, lengths)
            if result is not cache:
                self.made.append(result.shape[1])
            return result
        return call


def test_a_step_copies_caches_only_to_double_them():
    parameters, (ids, _) = random_model(FULL), text(FULL)
    state, allocations, per_step = DecodeState.start(2), Allocations(), []
    forward(parameters, ids[:, :8], FULL, state=state)
    for t in range(8, 40):
        stepped(state, parameters, ids[:, t % 13 :], [0], allocations.ops)
        per_step.append(len(set(allocations.made)))
        if t in (10, 20):                                    # rejected drafts cost no copy either
            state.rollback([1, 0])
    caches = 3 * 2 + 2 + 1
    assert sorted(allocations.made) == [16] * caches + [32] * caches + [64] * caches
    assert per_step.count(per_step[0]) > 5


def test_reading_the_caches_costs_one_copy_at_the_next_step():
    parameters, (ids, _) = random_model(FULL), text(FULL)
    state, allocations = DecodeState.start(2), Allocations()
    stepped(state, parameters, ids, range(5))
    assert {cache.shape[:2] for cache in state.caches.values()} == {(2, 5)}
    stepped(state, parameters, ids, [5, 6, 7, 8], allocations.ops)
    caches = 3 * 2 + 2 + 1
    assert allocations.made == [6] * caches + [12] * caches


@pytest.mark.parametrize("stop", ["layers.2.attention.c_kv", "logits"])
def test_a_call_that_stops_early_leaves_the_caches_unchanged(stop):
    """This includes slots past a row's end: attention reads them with weight 0, so NaN would spread."""
    parameters, (ids, _) = random_model(FULL), text(FULL)
    bad = parameters | {"embed.weight": np.where(np.arange(61)[:, None] == 5, np.nan, parameters["embed.weight"])}
    state = DecodeState.start(2)
    forward(parameters, ids[:, :9], FULL, state=state, counts=[9, 2])
    stepped(state, parameters, ids, [9])
    before = {name: cache.copy() for name, cache in state._arrays.items()}
    with Trace(stop=stop) as trace:
        forward(bad, np.full((2, 4), 5), FULL, state=state, trace=trace, check_values=False)
    assert np.isnan(trace[stop]).any()
    for name, cache in before.items():
        assert_close(name, cache, state._arrays[name], "exact")
    assert np.isfinite(stepped(state, parameters, ids, [10])).all()


@pytest.mark.parametrize("rows", [[1, 0], [1, 1], [2], [0, 2, 1, 1, 0]], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_reorder_moves_every_cache(name, rows):
    """Beam search: each new row continues from the row that it was copied from."""
    config = MODELS[name]
    parameters, (ids, _), (rest, _) = random_model(config), text(config, 3), text(config, len(rows), 5)
    state = DecodeState.start(3)
    forward(parameters, ids[:, :5], config, state=state, counts=[5, 3, 4])
    state.reorder(rows)
    assert state.lengths.tolist() == [(5, 3, 4)[row] for row in rows]
    result = forward(parameters, rest[:, :6], config, state=state)
    for b, row in enumerate(rows):
        whole = np.concatenate([ids[row, : (5, 3, 4)[row]], rest[b, :6]])
        assert_close(f"row {b}", forward(parameters, whole, config)[-6:], result[b], "model")


def test_a_finished_row_does_not_change():
    parameters, (ids, _) = random_model(FULL), text(FULL)
    state = DecodeState.start(2)
    forward(parameters, ids[:, :6], FULL, state=state)
    kept = {name: cache[0, :6].copy() for name, cache in state.caches.items()}
    for t in range(6, 9):
        forward(parameters, ids[:, t : t + 1], FULL, state=state, counts=[0, 1])
    assert state.lengths.tolist() == [6, 9]
    for name, cache in kept.items():
        assert_close(name, cache, state.caches[name][0, :6], "exact")
    result = forward(parameters, ids[:, 6:9], FULL, state=state, counts=[3, 0])[0]
    assert_close("row 0", forward(parameters, ids[0, :9], FULL)[6:], result, "model")


@pytest.mark.parametrize("dtype", [np.int8, np.int32])
@pytest.mark.parametrize("config", [FULL, PLAIN], ids=lambda c: c.name)
def test_narrow_integer_ids_are_accepted(config, dtype):
    """Ids from other libraries are often int32; the next chunk may be int64."""
    parameters, (ids, _) = random_model(config), text(config)
    state = DecodeState.start(2)
    result = [forward(parameters, ids[:, :5].astype(dtype), config, state=state),
              forward(parameters, ids[:, 5:], config, state=state)]
    assert_close("logits", forward(parameters, ids, config), np.concatenate(result, axis=1), "model")


def test_shapes_of_the_caches_of_a_state():
    parameters, (ids, _) = random_model(FULL), text(FULL)
    state = DecodeState.start(2)
    forward(parameters, ids, FULL, state=state)
    shapes = sorted(cache.shape[2:] for cache in state.caches.values())
    assert shapes == sorted([(4,), (6,)] * 3 + [()] + [(3, 9)] * 2), "c_kv and k_pe, ids, gated values of two modules"
    assert {cache.shape[:2] for cache in state.caches.values()} == {(2, LENGTH)}


@pytest.mark.parametrize(("tokens", "message"), [
    (6, "expected an integer from 0 to 5, the length of row 0, found 6"), ([1, 4], "the length of row 1, found 4"),
    (-1, "tokens"), ([0, -2], "tokens"), (1.5, "tokens"), ([1, 2, 3], "tokens"), ("two", "tokens")], ids=str)
def test_a_rollback_past_the_start_raises(tokens, message):
    parameters, (ids, _) = random_model(PLAIN), text(PLAIN)
    state = DecodeState.start(2)
    forward(parameters, ids[:, :5], PLAIN, state=state, counts=[5, 3])
    with pytest.raises(InputError, match=message):
        state.rollback(tokens)
    assert state.lengths.tolist() == [5, 3]


@pytest.mark.parametrize("rows", [[2], [-1], [[0, 1]], [0.5], "one"], ids=str)
def test_reorder_to_missing_rows_raises(rows):
    parameters, (ids, _) = random_model(PLAIN), text(PLAIN)
    state = DecodeState.start(2)
    forward(parameters, ids[:, :5], PLAIN, state=state)
    with pytest.raises(InputError, match="rows"):
        state.reorder(rows)
    assert state.batch == 2


@pytest.mark.parametrize("name", ["layers.1.c_kv", "layers.0.k_pe", "canonical_ids", "conv_norm"])
@pytest.mark.parametrize("damage", ["short", "missing"])
def test_a_cache_shorter_than_the_lengths_raises(name, damage):
    parameters, (ids, _) = random_model(FULL), text(FULL)
    state = DecodeState.start(2)
    forward(parameters, ids[:, :5], FULL, state=state)
    key = next(key for key in state.caches if key.endswith(name))
    state.caches[key] = state.caches[key][:, :4]
    if damage == "missing":
        del state.caches[key]
    with pytest.raises(InputError, match="cache"):
        forward(parameters, ids[:, 5:], FULL, state=state)
    assert state.lengths.tolist() == [5, 5]


def test_a_state_with_lengths_but_no_caches_raises():
    parameters, (ids, _) = random_model(PLAIN), text(PLAIN)
    with pytest.raises(InputError, match="cache"):
        forward(parameters, ids, PLAIN, state=DecodeState(np.array([3, 3])))


def test_a_state_from_a_different_model_raises():
    state, (ids, _) = DecodeState.start(2), text(PLAIN)
    forward(random_model(PLAIN), ids[:, :5], PLAIN, state=state)
    with pytest.raises(InputError, match="cache"):
        forward(random_model(FULL), ids[:, 5:], FULL, state=state)
    assert state.lengths.tolist() == [5, 5]


def nan_token():
    """Ids without token 60, and a forward call of a model that embeds token 60 as NaN."""
    parameters = random_model(PLAIN)
    parameters["embed.weight"][60] = np.nan
    ids = np.random.default_rng(0).integers(0, 60, (2, 12))
    return ids, lambda x, **options: forward(parameters, x, PLAIN, check_values=False, **options)


def test_rolled_back_nan_has_no_effect():
    """Attention reads slots past a shorter row's end with weight 0, and 0 * NaN is NaN."""
    ids, run = nan_token()
    state = DecodeState.start(2)
    run(ids[:, :4], state=state)
    run(ids[:, 4:5], state=state)
    run(np.full((2, 5), 60), state=state)
    state.rollback(5)
    for i in (5, 6, 7):
        run(ids[:, i : i + 1], state=state, counts=[1, 0])
    assert np.isfinite(run(ids[:, 8:9], state=state)).all()


def test_a_failed_call_leaves_no_nan_in_unused_slots():
    ids, run = nan_token()
    state = DecodeState.start(2)
    run(ids[:, :4], state=state, counts=[4, 1])
    run(ids[:, 4:5], state=state)

    def fails(*arguments, **options):
        raise FloatingPointError

    with pytest.raises(FloatingPointError):
        run(np.full((2, 3), 60), state=state, ops=replace(ops, collapse=fails))
    assert state.lengths.tolist() == [5, 2]
    expected = [run(ids[:1, :6])[0, -1], run(np.concatenate([ids[1:, :1], ids[1:, 4:6]], axis=1))[0, -1]]
    result = run(ids[:, 5:6], state=state)[:, 0]
    assert_close("logits", np.stack(expected), result, "model")
