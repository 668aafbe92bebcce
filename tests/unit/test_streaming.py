"""Streaming: history over any cut, rollback, the one-token path, and the effect of DEAD and EOS."""

from dataclasses import replace

import numpy as np
import pytest

from engram_ref import Addressing, preset
from engram_ref.ops.canonical import DEAD
from engram_ref.oracle.slow import addressing as slow_addressing

RELEASE, QWEN = "deepseek-v4.1-flash", "qwen4exp-ple"
EOS = 248_044
IDS = [17, 4, 99_000, 4, 250, 31, 8, 8, 77, 5, 1024, 3]

STREAMS = {
    "plain": (RELEASE, IDS),
    "shorter than N": (RELEASE, IDS[:2]),
    "DEAD span": (RELEASE, [*IDS[:4], DEAD, DEAD, *IDS[4:]]),
    "DEAD first and last": (RELEASE, [DEAD, *IDS, DEAD]),
    "every other DEAD": (RELEASE, [x for token in IDS for x in (token, DEAD)]),
    "documents": (QWEN, [*IDS[:3], EOS, *IDS[3:5], EOS, EOS, *IDS[5:]]),
    "no barrier": ("demo", IDS[3:]),
}


def in_chunks(addressing, layer, ids, sizes):
    """Rows of a stream in chunks of these sizes, with the history passed on by `advance`."""
    history, start, rows = None, 0, []
    for size in sizes:
        chunk = np.array(ids[start : start + size], dtype=np.int64)
        rows.append(addressing.rows(chunk, layer, history))
        history = addressing.advance(history, chunk)
        start += size
    assert start == len(ids)
    return np.concatenate(rows)


@pytest.mark.parametrize("name, ids", STREAMS.values(), ids=STREAMS)
def test_every_cut_gives_the_rows_of_one_call(name, ids):
    addressing = Addressing(preset(name))
    layer = addressing.config.layer_ids[-1]
    whole = addressing.rows(ids, layer)
    for first in range(len(ids) + 1):
        for sizes in ([first, len(ids) - first], [0, first, 0, len(ids) - first]):
            assert np.array_equal(in_chunks(addressing, layer, ids, sizes), whole), sizes
    assert np.array_equal(in_chunks(addressing, layer, ids, [1] * len(ids)), whole)


def test_history_keeps_dead_marks():
    """The second of four tokens is DEAD and the cut is after the third: the 4-gram excludes ids before the mark."""
    config, addressing = preset(RELEASE), Addressing(preset(RELEASE))
    ids = [10, DEAD, 12, 13]
    history = addressing.advance(None, np.array(ids[:3]))
    assert history.tolist() == [10, DEAD, 12]
    expected = slow_addressing.rows(config, 1, ids, 2)[3:]
    assert addressing.rows(np.array(ids[3:]), 1, history).tolist() == expected


def test_start_is_a_history_of_dead_marks():
    addressing = Addressing(preset(RELEASE))
    assert addressing.start(2).tolist() == [[DEAD] * 3] * 2
    ids = np.array([IDS[:3], IDS[3:6]])
    assert np.array_equal(addressing.rows(ids, 1, addressing.start(2)), addressing.rows(ids, 1))


def test_advance_by_no_tokens_keeps_the_history():
    addressing = Addressing(preset(RELEASE))
    history = np.array([3, DEAD, 4])
    assert addressing.advance(history, []).tolist() == [3, DEAD, 4]
    assert addressing.advance(None, []).tolist() == [DEAD] * 3


def test_rollback_and_replay():
    """After draft tokens are rejected, the caller restores the history that it kept."""
    addressing = Addressing(preset(RELEASE))
    kept = addressing.advance(None, np.array(IDS[:6]))
    before = kept.copy()
    draft = addressing.advance(kept, np.array([1, 2, 3, 4]))
    assert draft.tolist() == [2, 3, 4]
    assert np.array_equal(kept, before), "the old history stays valid"
    replayed = addressing.rows(np.array(IDS[6:]), 1, kept)
    assert np.array_equal(replayed, addressing.rows(np.array(IDS), 1)[6:])


@pytest.mark.parametrize("name, ids", STREAMS.values(), ids=STREAMS)
def test_the_stepper_gives_the_same_rows_as_one_call(name, ids):
    addressing = Addressing(preset(name))
    batch = np.array([ids, ids[::-1]])
    for layer in addressing.config.layer_ids:
        step, history = addressing.stepper(layer), addressing.start(2)
        whole = addressing.rows(batch, layer)
        for t in range(len(ids)):
            assert np.array_equal(step(batch[:, t], history), whole[:, t]), (layer, t)
            history = addressing.advance(history, batch[:, t : t + 1])


def test_histories_are_reordered_with_their_beams():
    addressing = Addressing(preset(RELEASE))
    beams = np.array([IDS[:5], IDS[5:10]])
    history = addressing.advance(None, beams)[[1, 1]]
    result = addressing.rows(np.array([[7], [9]]), 1, history)
    for beam, token in enumerate((7, 9)):
        assert np.array_equal(result[beam, 0], addressing.rows(np.array([*beams[1], token]), 1)[-1])


def orders_that_change(addressing, layer, ids, changed):
    """{(position, order)} whose rows differ, in any head, between two texts of equal length."""
    H = addressing.config.n_heads
    differ = addressing.rows(ids, layer) != addressing.rows(changed, layer)
    return {(int(t), 2 + int(column) // H) for t, column in np.argwhere(differ)}


def test_dead_changes_its_own_and_the_next_three_positions():
    addressing, q = Addressing(preset(RELEASE)), 5
    changed = [*IDS[:q], DEAD, *IDS[q + 1 :]]
    expected = {(q, n) for n in (2, 3, 4)} | {(q + 1, n) for n in (2, 3, 4)} | {(q + 2, 3), (q + 2, 4), (q + 3, 4)}
    for layer in (1, 14):
        assert orders_that_change(addressing, layer, IDS, changed) == expected


def test_a_dead_position_hashes_only_padding():
    addressing = Addressing(preset(RELEASE))
    rows = addressing.rows([*IDS[:5], DEAD], 1)[-1]
    assert np.array_equal(rows, addressing.rows([addressing.pad_id], 1)[0])


def test_text_after_dead_starts_a_new_window():
    addressing = Addressing(preset(RELEASE))
    assert np.array_equal(addressing.rows([*IDS[:5], DEAD, *IDS[5:]], 1)[6:], addressing.rows(IDS[5:], 1))


def test_dead_is_not_the_same_as_the_pad_id():
    """DEAD hides all older ids; a pad id in the text is an ordinary token."""
    addressing = Addressing(preset(RELEASE))
    with_pad, with_dead = [10, addressing.pad_id, 12], [10, DEAD, 12]
    assert orders_that_change(addressing, 1, with_pad, with_dead) == {(1, 2), (1, 3), (1, 4), (2, 3), (2, 4)}


def test_dead_rows_against_the_slow_oracle():
    config, addressing = preset(RELEASE), Addressing(preset(RELEASE))
    for ids in ([10, DEAD, 12, 13, 14, 15], [DEAD, 11], [10, 11, 12, DEAD, DEAD, 15, 16]):
        assert addressing.rows(ids, 14).tolist() == slow_addressing.rows(config, 14, ids, 2)


def test_text_after_eos_starts_a_new_window():
    addressing = Addressing(preset(QWEN))
    assert np.array_equal(addressing.rows([*IDS[:5], EOS, *IDS[5:]], 2)[6:], addressing.rows(IDS[5:], 2))


def test_the_window_of_eos_contains_its_own_document():
    addressing = Addressing(preset(QWEN))
    plain = Addressing(replace(preset(QWEN), eos_id=None))
    ids = [*IDS[:5], EOS, *IDS[5:]]
    assert np.array_equal(addressing.rows(ids, 2)[:6], plain.rows(ids, 2)[:6])


def test_eos_reset_changes_one_order_at_one_position():
    """Windows are padded with EOS itself, so with N = 3 only the 3-gram right after an EOS differs."""
    ids = [*IDS[:5], EOS, *IDS[5:]]
    with_reset, without = [Addressing(replace(preset(QWEN), eos_id=eos)) for eos in (EOS, None)]
    differ = np.argwhere(with_reset.rows(ids, 2) != without.rows(ids, 2))
    assert {(int(t), 2 + int(column) // 8) for t, column in differ} == {(6, 3)}


def test_the_start_of_a_stream_is_padded_with_eos():
    addressing = Addressing(preset(QWEN))
    assert addressing.pad_id == addressing.eos_id == EOS
    assert np.array_equal(addressing.rows(IDS, 2), addressing.rows(IDS, 2, np.array([EOS, EOS])))


def test_the_release_has_no_document_boundaries():
    """Raw ids 0 and 1 begin and end a sequence in DeepSeek's vocabularies; to hashing both are ordinary tokens."""
    config, addressing = preset(RELEASE), Addressing(preset(RELEASE))
    ids = [10, 11, 1, 0, 12, 13]
    assert addressing.eos_id is None
    assert addressing.rows(ids, 1).tolist() == slow_addressing.rows(config, 1, ids, 2)
