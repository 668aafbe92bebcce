"""Measurements and controls of the experiments, against definitions that are obviously right."""

from collections import Counter, defaultdict
from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest

from engram_ref.backends import load
from engram_ref.errors import InputError
from engram_ref.lab.controls import OneRow, OtherText, with_active_width, with_branches
from engram_ref.lab.measures import (
    SETTLED_COUNT,
    SETTLED_SHARE,
    answers,
    auc,
    corrected,
    count_ngrams,
    detectors,
    mean_update,
    ngram_numbers,
    predict,
    recall,
    without_memory,
)
from engram_ref.model.accounting import summarise
from engram_ref.model.transformer import forward
from engram_ref.trace import Trace
from engram_ref.training.corpus import KINDS, Batch, load_corpus
from engram_ref.training.evaluation import Prediction
from engram_ref.training.loop import Trainer
from engram_ref.training.presets import training_preset, without_engram

BASE = training_preset("seconds")


@pytest.fixture(scope="module")
def corpus():
    return load_corpus("world", 400, seed=5)


@pytest.fixture(scope="module")
def trainer(corpus):
    trained = Trainer(replace(BASE, vocab_size=400, batch=3, length=24, steps=3, warm_up=0), corpus)
    while trained.done < 3:
        trained.step()
    return trained


def texts_of(corpus, n=2, batch=3, length=24):
    return [corpus.held_out(i, batch, length) for i in range(n)]


@pytest.mark.parametrize("seed", range(20))
def test_auc_is_the_share_of_pairs_in_order(seed):
    rng = np.random.default_rng(seed)
    scores, positive = rng.integers(0, 1 + seed, 40) / 8, rng.random(40) < 0.3          # with many ties
    pairs = [(a > b) + (a == b) / 2 for a, b in product(scores[positive], scores[~positive])]
    assert auc(scores, positive) == pytest.approx(np.mean(pairs))


@pytest.mark.parametrize("positive", [np.ones(3, bool), np.zeros(3, bool), np.zeros(0, bool)])
def test_auc_of_one_class_is_undefined(positive):
    assert auc(np.arange(positive.size, dtype=float), positive) is None


@pytest.mark.parametrize("listed", [2, 3, 4])
def test_a_guesser_has_a_corrected_accuracy_of_zero(listed):
    rng = np.random.default_rng(listed)
    guesses = rng.integers(0, listed, 100_000) == 0
    deviation = np.sqrt(1 / listed * (1 - 1 / listed) / guesses.size) / (1 - 1 / listed)
    assert abs(corrected(guesses.mean(), 1 / listed)) < 5 * deviation
    assert corrected(1.0, 1 / listed) == 1.0


def example(kinds, right, choices):
    """One text whose tokens after the first have these kinds; `right` says which are predicted correctly."""
    kinds = np.array([[0, *(KINDS.index(kind) for kind in kinds)]])
    ids = np.arange(kinds.size)[None]
    batch = Batch(ids, kinds, kinds > 9, np.array([[0.0, *choices]]))
    return Prediction(batch, np.zeros(ids[:, 1:].shape), np.where([right], ids[:, 1:], -1), None)


def test_recall_counts_first_tokens_and_every_token_of_a_copy():
    kinds = "fact fact other fact look-up look-up copy copy other".split()
    prediction = example(kinds, [0, 1, 1, 1, 1, 0, 1, 0, 1], [0, 0, 0, 0, 0.5, 0.5, 0.25, 0.25, 0])
    assert answers(prediction.batch, "fact").tolist() == [[1, 0, 0, 1, 0, 0, 0, 0, 0]]
    assert recall([prediction], {}) == {"fact": 0.5, "look-up": 1.0, "copy": pytest.approx(1 / 3)}
    assert recall([prediction, prediction], {"fact": 0.25})["fact"] == pytest.approx(1 / 3)


def test_facts_have_as_many_values_as_their_chance_assumes():
    from engram_ref.lab.memory import FACT_CHANCE
    from engram_ref.training.world import CLAUSES, World

    facts = World(0).facts
    assert {len({value for (_, of), value in facts.items() if of == a}) for a in CLAUSES} == {1 / FACT_CHANCE}


def ngrams(batches, canonical, n):
    """Return n-gram -> Counter of next tokens."""
    found = defaultdict(Counter)
    for batch in batches:
        for text in batch.ids.tolist():
            for i in range(len(text) - n):
                found[tuple(canonical[text[i : i + n]].tolist())][text[i + n]] += 1
    return found


@pytest.mark.parametrize("n", [1, 3, 5])
def test_counts_of_ngrams(corpus, n):
    canonical = corpus.vocabulary.canonical
    batches = texts_of(corpus)
    counts, expected = count_ngrams(batches, canonical, n), ngrams(batches, canonical, n)
    assert len(counts.numbers) == len(expected)
    asked = np.array([*list(expected)[:50], (0,) * n])
    number = ngram_numbers(asked, n, len(canonical))[:, 0]
    for gram, count, share in zip(asked.tolist(), *counts.of(number), strict=True):
        following = expected.get(tuple(gram), Counter())
        assert count == following.total()
        assert share == (max(following.values()) / count if count else 0)


def test_too_many_ngrams_are_refused(corpus):
    with pytest.raises(InputError, match="fewer than 2\\^63"):
        count_ngrams([], np.arange(4096), 5)


def test_detectors_of_gates_that_know_the_answer(corpus):
    """Gates that are open at exactly the labelled positions have an AUC of 1, and shut ones 0."""
    config = replace(BASE, batch=8, length=60)
    batches, canonical = texts_of(corpus, 4, 8, 60), corpus.vocabulary.canonical
    sample = [corpus.batch(step, 8, 60) for step in range(1, 41)]
    following = ngrams(sample, canonical, 3)

    def settles(text, t):
        counts = following.get(tuple(canonical[text[t - 2 : t + 1]].tolist()), Counter()) if t >= 2 else Counter()
        return counts.total() >= SETTLED_COUNT and max(counts.values()) / counts.total() > SETTLED_SHARE

    truths = {"settled": [[[settles(text, t) for t in range(60)] for text in b.ids] for b in batches],
              "formula": [b.kinds[:, 1:] == KINDS.index("phrase") for b in batches],
              "ends": [b.ends[:, :-1] for b in batches]}
    trainer = SimpleNamespace(config=config, corpus=corpus)
    for name, truth in truths.items():
        for sign, expected in ((1, 1.0), (-1, 0.0)):
            predicted = [Prediction(b, None, None, 0.5 + sign * 0.25 * np.array(x, float)[..., None])
                         for b, x in zip(batches, truth, strict=True)]
            assert detectors(trainer, predicted, 40)[name] == expected


def test_formulae_of_unlabelled_text():
    """One formula of 7 tokens between random ones: its 3 middle positions have 2 tokens before and 2 after them."""
    rng = np.random.default_rng(0)

    def batch(*_):
        ids = rng.integers(10, 40, (20, 31))
        ids[:, 12:19] = range(7)
        return Batch(ids, np.zeros(ids.shape, np.uint8), np.zeros(ids.shape, bool), np.zeros(ids.shape))

    trainer = SimpleNamespace(config=replace(BASE, batch=20, length=30), corpus=SimpleNamespace(
        vocabulary=SimpleNamespace(canonical=np.arange(40)), batch=batch))
    gates = np.zeros((20, 30, 1))
    gates[:, 14:17] = 1
    found = detectors(trainer, [Prediction(batch(), None, None, gates)], 1)
    assert found["formula"] == 1.0 and "ends" not in found


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_memory_without_its_update_is_memory_whose_gates_are_shut(trainer, corpus, backend):
    pytest.importorskip(backend)
    batch = texts_of(corpus)[0]
    found, = predict(trainer, [batch], without_memory(load(backend)))
    shut = forward(trainer.parameters, batch.ids[:, :-1], trainer.model, dead=np.ones((3, 24), bool),
                   addressing=trainer.addressing)
    assert (found.best == shut.argmax(axis=-1)).all()
    with_memory, = predict(trainer, [batch])
    assert abs(found.losses - with_memory.losses).max() > 1e-3


def test_the_mean_update(trainer, corpus):
    batches, traces = texts_of(corpus), []
    for batch in batches:
        traces.append(Trace())
        forward(trainer.parameters, batch.ids[:, :-1], trainer.model, addressing=trainer.addressing, trace=traces[-1])
    mean = np.mean([trace["layers.1.engram.output"] for trace in traces], axis=(0, 1, 2))
    found = mean_update(trainer, batches)
    assert found.shape == (1, 64) and abs(found - mean).max() <= np.finfo(np.float32).eps * abs(mean).max() * 16
    hidden = np.ones((2, 3, 1, 64), np.float32)
    added = without_memory(trainer.ops, found).add_residual(hidden, 5 * hidden, "none")
    np.testing.assert_array_equal(added, hidden + found.astype(np.float32))


def rows(control, trainer, ids):
    made = control(trainer.model.engram, trainer.corpus.vocabulary)
    return made.rows(trainer.corpus.vocabulary.canonical[ids], 1)


def test_one_row(trainer, corpus):
    ids = corpus.batch(1, 4, 20).ids
    plain = rows(type(trainer.addressing), trainer, ids)
    found = rows(OneRow, trainer, ids)
    assert found.shape == plain.shape and found.dtype == plain.dtype
    assert not found.any() and plain.any()


def test_rows_of_another_text(trainer, corpus):
    ids = corpus.batch(1, 4, 20).ids
    plain, found = rows(type(trainer.addressing), trainer, ids), rows(OtherText, trainer, ids)
    np.testing.assert_array_equal(found, plain[[1, 2, 3, 0]])
    assert (found != plain).any(axis=(1, 2)).all()
    with pytest.raises(InputError, match="at least two texts"):
        rows(OtherText, trainer, ids[:1])


@pytest.mark.parametrize("control", [OneRow, OtherText])
def test_a_control_changes_the_training(trainer, corpus, control):
    losses = []
    for addressing in (type(trainer.addressing), control):
        other = Trainer(trainer.config, corpus)
        other.addressing = addressing(other.model.engram, corpus.vocabulary)
        losses.append([other.step().loss for _ in range(3)])
    assert losses[0] != losses[1]


def test_the_control_with_active_width_is_as_large():
    engram, plain, wide = (summarise(c.model) for c in (BASE, without_engram(BASE), with_active_width(BASE)))
    assert plain.active < engram.active <= wide.active < engram.active * 1.01
    assert wide.total == pytest.approx(engram.total, rel=0.02)
    narrower = with_active_width(BASE).model.backbone.experts.moe_intermediate_size - 1
    assert narrower >= BASE.model.backbone.experts.moe_intermediate_size


@pytest.mark.parametrize("config", [BASE, without_engram(BASE)], ids=["engram", "moe"])
def test_four_branches(config, corpus):
    four = Trainer(replace(with_branches(config, 4), vocab_size=400, batch=2, length=8), corpus)
    assert four.model.backbone.n_branches == 4
    assert np.isfinite(four.step().loss)
