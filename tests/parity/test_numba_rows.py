"""Rows of the fused kernels equal those of the definition for every preset, chunking and barrier."""

from dataclasses import replace

import numpy as np
import pytest

from engram_ref import Addressing, InputError, preset, presets
from tests.compare import assert_close

pytest.importorskip("numba", reason="numba is not installed")
from numba import config

from engram_ref.backends import numba as fast
from engram_ref.backends.numba import _buffers

POSITIONS = 2_000 if config.DISABLE_JIT else 1_000_000
CHUNK = 100_003


def stream(config, rng, length):
    """Raw ids [1, length] that include the dialect's DEAD or EOS marks."""
    ids = rng.integers(0, config.vocab_size, (1, length))
    if config.dead_barrier:
        ids[rng.random(ids.shape) < 0.02] = fast.DEAD
    if config.eos_id is not None:
        ids[rng.random(ids.shape) < 0.02] = config.eos_id
    return ids


@pytest.mark.parametrize("name", presets())
def test_rows_at_a_million_random_positions(name, rng):
    """Compute the rows in chunks and carry the history from chunk to chunk."""
    config = preset(name)
    slow, quick, history = Addressing(config), Addressing(config, ops=fast), None
    for _ in range(0, POSITIONS, CHUNK):
        ids = stream(config, rng, min(CHUNK, POSITIONS))
        expected = slow.rows_of_tokens(ids, history)
        assert np.array_equal(expected, quick.rows_of_tokens(ids, history))
        canonical = ids if slow.canonical is None else fast.canonicalise(ids, slow.canonical)
        history = slow.advance(history, canonical)


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("name", presets())
def test_rows_of_one_layer_from_canonical_ids(name, flat, rng):
    config = preset(name)
    slow, quick = Addressing(config), Addressing(config, ops=fast)
    for shape in ((1, 0), (0, 3), (1, 1), (3, 2), (2, 700)):
        ids = rng.integers(0, config.canonical_size, shape)
        history = rng.integers(0, config.canonical_size, (shape[0], config.max_ngram - 1))
        for layer in config.layer_ids:
            expected, found = (a.rows(ids, layer, history, flat) for a in (slow, quick))
            assert_close(f"{name} {shape}", expected, found, "exact")


@pytest.mark.parametrize("name", presets())
def test_the_stepper_agrees_with_the_definition(name, rng):
    config = preset(name)
    slow = Addressing(config)
    step, ids = Addressing(config, ops=fast).stepper(config.layer_ids[0]), stream(config, rng, 40)
    canonical = np.repeat(ids if slow.canonical is None else fast.canonicalise(ids, slow.canonical), 2, axis=0)
    canonical[1] = np.roll(canonical[1], 7)
    expected, history = slow.rows(canonical, config.layer_ids[0]), slow.start(2)
    for t in range(canonical.shape[1]):
        new = np.ascontiguousarray(canonical[:, t])
        assert_close(f"step {t}", expected[:, t], step(new, history), "exact")
        history = slow.advance(history, new[:, None])


def test_products_that_wrap(rng):
    """If injected multipliers overflow, products wrap, mixes are negative, and rows are still floor remainders."""
    config = replace(preset("demo"), multipliers=((2**62 + 1, -(2**61) + 1, 2**63 - 1),) * 2)
    ids = rng.integers(0, config.canonical_size, (2, 600))
    with np.errstate(over="ignore"):
        expected = Addressing(config).rows(ids, 1)
    assert_close("rows", expected, Addressing(config, ops=fast).rows(ids, 1), "exact")
    assert (expected >= 0).all()


def layers(config, ids, out=None):
    a = Addressing(config)
    return fast.address_layers(ids, a.canonical, a.start(len(ids)), *(np.stack(list(c.values())) for c in (
        a.multipliers, a.primes)), None, a.pad_id, a.eos_id, out=out)


def test_non_temporal_stores_and_unaligned_output(rng, monkeypatch):
    config = preset("demo")
    ids = stream(config, rng, 700)
    expected = layers(config, ids)
    monkeypatch.setattr(_buffers, "STREAM_ABOVE", 0)
    assert_close("streamed", expected, layers(config, ids), "exact")
    unaligned = _buffers.aligned((expected.size + 1,), np.int64)[1:].reshape(expected.shape)
    assert layers(config, ids, unaligned) is unaligned
    assert_close("unaligned", expected, unaligned, "exact")


@pytest.mark.parametrize("wrong", [-2, 129280])
def test_an_id_outside_the_map_raises_before_anything_is_written(wrong, rng):
    config = preset("demo")
    ids, out = stream(config, rng, 5), np.full((2, 1, 5, 16), 7)
    ids[0, 3] = wrong
    with pytest.raises(InputError, match=rf"{wrong} at position \(0, 3\)"):
        layers(config, ids, out)
    assert (out == 7).all()
