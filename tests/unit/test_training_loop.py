"""What a step computes and changes, and what it leaves unchanged when it fails."""

import math
import tracemalloc
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from engram_ref import ops
from engram_ref.errors import InputError
from engram_ref.model.transformer import forward
from engram_ref.model.tree import shapes
from engram_ref.ops.namespace import NUMPY
from engram_ref.ops.vjp.tables import RowGradient
from engram_ref.text.vocabulary import Vocabulary
from engram_ref.trace import Trace
from engram_ref.training.corpus import KINDS, Batch, Corpus, TextCorpus, load_corpus
from engram_ref.training.evaluation import by_kind, held_out, predictions, summarised
from engram_ref.training.groups import names_by_group
from engram_ref.training.loop import Trainer
from engram_ref.training.memory import TEMPORARY, recorded_sizes
from engram_ref.training.optimisers import Adam
from engram_ref.training.presets import training_preset, training_presets, without_engram
from engram_ref.training.schedule import warm_up_and_drops
from tests.compare import assert_close
from tests.training import ALL, CONFIGS, CONTROL, PLAIN, arrays, corpus, losses, trainer

EMBED, TABLE, BIAS = "embed.weight", "layers.1.engram.table", "layers.1.ffn.gate.bias"


@cache
def world():
    return load_corpus("world", PLAIN.vocab_size)


def batch_of(run, number=1):
    return run.corpus.batch(number, run.config.batch, run.config.length)


def traced(run, batch, dead=None):
    """Return the logits and a trace of the forward pass."""
    trace = Trace()
    logits = forward(run.parameters, batch.ids[:, :-1], run.model, dead=dead, addressing=run.addressing, trace=trace)
    return logits, trace


def dense(gradient):
    return gradient.dense() if isinstance(gradient, RowGradient) else gradient


# one step --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_progress_describes_the_step(config):
    run = Trainer(config, world(), dtype=np.float64)
    losses(run, 2)
    batch, dead = batch_of(run, 3), run.dropped(3)
    logits, trace = traced(run, batch, dead)
    expected = ops.cross_entropy(logits, batch.ids[:, 1:])
    found, _, gradients = run.backward(batch, dead)
    progress = run.step()
    assert progress.step == run.done == 3
    assert_close("losses", expected, found, "f64", terms=config.model.backbone.hidden_size + PLAIN.vocab_size)
    assert progress.loss == found.mean()
    means = {kind: [x for x, i in zip(found.ravel(), batch.kinds[:, 1:].ravel(), strict=True) if KINDS[i] == kind]
             for kind in KINDS}
    assert progress.by_kind == {kind: pytest.approx(np.mean(x)) for kind, x in means.items() if x}
    norm = math.sqrt(sum(float((dense(g)**2).sum()) for g in gradients.values()))
    assert progress.norm == pytest.approx(norm)
    counts = np.bincount(trace["layers.1.experts.experts"].ravel(), minlength=4)
    assert progress.load == counts.max() / counts.mean()
    if config is CONTROL:
        assert progress.gate is None
    else:
        assert progress.gate == pytest.approx(trace["layers.1.engram.gate"].mean())


@pytest.mark.parametrize("bias_rate", [1e-3, 0.0])
def test_balancing_biases(bias_rate):
    run = trainer(replace(PLAIN, bias_rate=bias_rate))
    losses(run, 1)
    before, (_, trace) = run.parameters[BIAS], traced(run, batch_of(run, 2))
    run.step()
    counts = np.bincount(trace["layers.1.experts.experts"].ravel(), minlength=4)
    np.testing.assert_array_equal(run.parameters[BIAS], ops.bias_update(before, counts, bias_rate))
    assert len(set(counts)) > 1 and not any(BIAS in name for name in run.optimiser.arrays())


def test_routers_without_biases():
    backbone = PLAIN.model.backbone
    backbone = replace(backbone, experts=replace(backbone.experts, router_bias=False))
    run = trainer(replace(PLAIN, model=replace(PLAIN.model, backbone=backbone)))
    progress = run.step()
    assert 1 <= progress.load <= 4 and run.done == 1 and BIAS not in run.parameters


def test_the_learning_rate_follows_the_schedule(monkeypatch):
    run, factors = trainer(replace(PLAIN, steps=20, warm_up=3)), []
    step = run.optimiser.step
    monkeypatch.setattr(run.optimiser, "step", lambda p, g, factor: (factors.append(factor), step(p, g, factor))[1])
    losses(run, 20)
    assert factors == [warm_up_and_drops(n, 20, 3) for n in range(1, 21)] and len(set(factors)) == 5
    before = arrays(run)
    with pytest.raises(InputError, match="step: expected a number from 1 to 20, found 21"):
        run.step()
    np.testing.assert_equal(arrays(run), before)


def test_tables_have_a_higher_rate_and_no_weight_decay():
    one, decayed = trainer(replace(PLAIN, weight_decay=0.0)), trainer(replace(PLAIN, weight_decay=0.5))
    start = arrays(one)
    losses(one, 1), losses(decayed, 1)
    lr, names = PLAIN.lr / PLAIN.warm_up, names_by_group(one.declared)
    rates = {group: [np.abs(one.parameters[name] - start[name]).max() for name in names[group]] for group in names}
    assert round(max(rates["matrix"]) / lr, 3) == 1                             # the first step of Adam is lr * sign(g)
    assert round(max(rates["table"]) / lr, 3) == PLAIN.table_rate
    ids = np.setdiff1d(np.arange(PLAIN.vocab_size), batch_of(one).ids[:, :-1])
    start[EMBED][ids] = 0                                   # rows that were not read do not decay
    for name, x in one.parameters.items():
        if name in names["table"] or name not in one.optimiser.group_of:
            np.testing.assert_array_equal(decayed.parameters[name], x)
        else:
            assert_close(name, x - lr * 0.5 * start[name], decayed.parameters[name], "f64", terms=4)


@pytest.mark.parametrize("limit", [0.25, 1e9])
def test_gradients_are_clipped_together(limit):
    run = trainer(replace(PLAIN, clip=limit))
    _, _, gradients = run.backward(batch_of(run), None)
    factor = min(1.0, limit / run.step().norm)
    for name, gradient in gradients.items():
        mean = run.optimiser.arrays()[f"{run.optimiser.group_of[name]}/mean/{name}"]
        assert_close(name, factor * (1 - 0.9) * dense(gradient), mean, "f64", terms=4)
    assert (factor < 0.5) == (limit == 0.25)


# the cost of the gate and memory dropout -------------------------------------------------------------------

STEP = 2.0**-15


def cost_of(run, batch, dead):
    """Return what the gradients are of: the mean loss and the cost of the gate."""
    logits, trace = traced(run, batch, dead)
    gate = run.config.gate_cost * trace["layers.1.engram.gate"].mean()
    return float(ops.cross_entropy(logits, batch.ids[:, 1:]).mean() + gate)


def test_gradients_with_a_cost_of_the_gate(rng):
    """As in test_vjps.py: the error is that of the difference, estimated with two steps, and rounding."""
    run = trainer(replace(ALL, gate_cost=3.0))
    losses(run, 3)                                          # so that no parameter is 0
    run.parameters[BIAS] = np.array([20.0, 10.0, 0.0, 0.0])     # a change of the chosen experts would be a jump
    batch, dead, start = batch_of(run, 4), run.dropped(4), run.parameters
    _, _, gradients = run.backward(batch, dead)
    assert dead.any() and not dead.all() and gradients.keys() == run.optimiser.group_of.keys()
    for _ in range(3):
        direction = {name: rng.standard_normal(start[name].shape) for name in gradients}
        costs = {}
        for k in (-2, -1, 1, 2):
            run.parameters = start | {name: start[name] + k * STEP * d for name, d in direction.items()}
            costs[k] = cost_of(run, batch, dead)
        fine, coarse = ((costs[k] - costs[-k]) / (2 * k * STEP) for k in (1, 2))
        bound = abs(fine - coarse) + 64 * 2.0**-53 * abs(costs[1]) / STEP
        expected = sum((dense(gradient) * direction[name]).sum() for name, gradient in gradients.items())
        assert abs(expected - fine) <= bound


def test_memory_dropout_switches_the_memory_off_for_whole_texts():
    run = trainer(replace(PLAIN, memory_dropout=0.5, batch=6))
    losses(run, 3)
    batch, dead = batch_of(run, 4), run.dropped(4)
    found, stages, gradients = run.backward(batch, dead)
    with_memory, _, _ = run.backward(batch, None)
    texts = dead[:, 0]
    assert 0 < texts.sum() < 6 and (dead == texts[:, None]).all()
    plain = {name: x for name, x in run.parameters.items() if ".engram." not in name}
    logits = forward(plain, batch.ids[:, :-1], replace(run.model, engram=None))
    without = ops.cross_entropy(logits, batch.ids[:, 1:])
    np.testing.assert_array_equal(found[texts], without[texts])
    np.testing.assert_array_equal(found[~texts], with_memory[~texts])
    assert (found[~texts] != without[~texts]).all()
    assert (stages.arrays("gate", run.ops)[0][texts] == 0).all()
    read = run.addressing.rows(run.addressing.canonical[batch.ids[~texts, :-1]], 1, flat=True)
    changed = np.flatnonzero(dense(gradients[TABLE]).any(axis=1))
    assert set(changed) == set(read.ravel())


def test_dropped_texts_are_drawn_anew_for_every_step():
    run = trainer(replace(PLAIN, memory_dropout=0.25, batch=8))
    masks = np.array([run.dropped(n)[:, 0] for n in range(1, 101)])
    assert abs(masks.mean() - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 800)          # 4 standard deviations
    assert len(np.unique(masks, axis=0)) > 30
    np.testing.assert_array_equal(run.dropped(7), trainer(run.config).dropped(7))
    assert (trainer(replace(run.config, seed=1)).dropped(7) != run.dropped(7)).any()
    assert trainer(PLAIN).dropped(1) is None


# steps that fail -------------------------------------------------------------------------------------------


def enlarge(x):
    """Multiply, so that the largest number is about 2^1023: a sum of several overflows."""
    x *= 2.0**1000
    x *= 2.0**23 / np.abs(x / 2.0**1000).max()


def unread(run):
    ids = batch_of(run, 3).ids[:, :-1]
    read = run.addressing.rows(run.addressing.canonical[ids], 1, flat=True)
    return np.setdiff1d(np.arange(len(run.parameters[TABLE])), read)[0]


FAILURES = {
    "parameter": (lambda run: run.parameters[EMBED].__setitem__((3, 2), np.nan), f"parameter {EMBED}"),
    "unread row": (lambda run: run.parameters[TABLE].__setitem__(unread(run), np.inf), f"parameter {TABLE}"),
    "stage": (lambda run: enlarge(run.parameters["head.weight"]), "stage logits"),
    "inner stage": (lambda run: enlarge(run.parameters["layers.0.ffn.w3.weight"]),
                    "stage layers.0.experts.feed_forward"),
    "learning rate": (lambda run: setattr(run.optimiser.optimisers["matrix"], "lr", math.inf),
                      "parameter layers.0.attn"),
}


@pytest.mark.parametrize("config", [PLAIN, ALL], ids=lambda config: config.name)
@pytest.mark.parametrize("damage, name", FAILURES.values(), ids=FAILURES)
def test_numbers_that_are_not_finite(damage, name, config):
    run = trainer(config)
    losses(run, 2)
    run.parameters = {name: x.copy() for name, x in run.parameters.items()}
    damage(run)
    before = arrays(run)
    with pytest.raises(InputError, match=rf"^{name}.*expected finite values.*step 3 was not taken"):
        run.step()
    assert run.done == 2
    np.testing.assert_equal(arrays(run), before)


def test_an_infinite_gradient(monkeypatch):
    run = trainer()
    losses(run, 2)
    before, backward = arrays(run), run.backward

    def infinite(*arguments):
        found, stages, gradients = backward(*arguments)
        gradients["norm.weight"][3] = np.inf
        return found, stages, gradients

    monkeypatch.setattr(run, "backward", infinite)
    with pytest.raises(InputError, match=r"gradient norm\.weight: expected a finite norm"):
        run.step()
    assert run.done == 2
    np.testing.assert_equal(arrays(run), before)


def test_a_learning_rate_that_is_far_too_high():
    """The last state is finite, so its checkpoint can be read."""
    run = Trainer(replace(PLAIN, lr=1e36, warm_up=0), corpus(), dtype=np.float32)
    with pytest.raises(InputError, match=r"use a smaller learning rate than 1e\+36"):
        losses(run, 20)
    assert all(np.isfinite(x).all() for x in arrays(run).values())


INTERRUPTED = {"backward pass": (Trainer, "backward", 0), "first update": (Adam, "update", 0),
               "a later update": (Adam, "update", 20), "biases": (Trainer, "balance", 0)}


@pytest.mark.parametrize("owner, method, calls", INTERRUPTED.values(), ids=INTERRUPTED)
def test_an_interrupted_step_changes_nothing(monkeypatch, owner, method, calls):
    run, whole = trainer(), trainer()
    losses(run, 2), losses(whole, 3)
    before, original, count = arrays(run), getattr(owner, method), []

    def interrupted(*arguments):
        count.append(1)
        if len(count) > calls:
            raise KeyboardInterrupt
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(owner, method, interrupted)
        with pytest.raises(KeyboardInterrupt):
            run.step()
    assert run.done == 2
    np.testing.assert_equal(arrays(run), before)
    losses(run, 1)
    np.testing.assert_equal(arrays(run), arrays(whole))


def test_a_text_shorter_than_a_sequence():
    run = Trainer(PLAIN, TextCorpus("short", "abc\n" * 3, 257), dtype=np.float64)
    before = arrays(run)
    with pytest.raises(InputError, match="corpus short: expected more than 17 tokens of training text"):
        run.step()
    assert run.done == 0
    np.testing.assert_equal(arrays(run), before)


# settings --------------------------------------------------------------------------------------------------


class AnyText(Corpus):
    """Random tokens of a vocabulary of any size."""

    def __init__(self, size):
        self.name, self.vocabulary = "any", Vocabulary("any", np.arange(size))

    def batch(self, step, batch, length):
        ids = np.random.default_rng(step).integers(0, self.vocabulary.size, (batch, length + 1))
        return Batch(ids, np.zeros(ids.shape, np.uint8), np.zeros(ids.shape, bool), np.zeros(ids.shape))

    held_out = batch


def total(config):
    return sum(math.prod(shape) for shape in shapes(config.model).values())


@pytest.mark.parametrize("name", training_presets())
def test_the_control_has_as_many_parameters(name):
    config = training_preset(name)
    control, experts = without_engram(config), config.model.backbone.experts
    assert control.model.engram is None and control.gate_cost == control.memory_dropout == 0
    if experts is None:
        assert control.model.backbone == config.model.backbone
    else:
        D, F, layers = config.model.backbone.hidden_size, experts.moe_intermediate_size, config.model.backbone.n_layers
        expert = layers * (3 * D * F + D + 1)               # with its row of the router, and its bias
        assert abs(total(config) - total(control)) <= expert / 2
    with pytest.raises(InputError, match="a model with Engram"):
        without_engram(control)


@pytest.mark.parametrize("name", training_presets())
@pytest.mark.parametrize("change", [lambda config: config, without_engram], ids=["", "without Engram"])
def test_every_preset_trains(name, change):
    config = replace(change(training_preset(name)), batch=1, length=9)
    run = Trainer(config, AnyText(config.vocab_size))
    before = run.parameters
    assert math.isfinite(run.step().loss)
    assert all((run.parameters[name] != before[name]).any() for name in run.optimiser.group_of)


REFUSED = {
    "dropout without Engram": (lambda: replace(CONTROL, memory_dropout=0.1), "0 without Engram"),
    "gate cost without Engram": (lambda: replace(CONTROL, gate_cost=0.1), "0 without Engram"),
    "dropout without barrier": (lambda: replace(PLAIN, memory_dropout=0.1, model=replace(
        PLAIN.model, engram=replace(PLAIN.model.engram, dead_barrier=False))), "0 without dead_barrier"),
    "bf16 table": (lambda: replace(PLAIN, model=replace(
        PLAIN.model, engram=replace(PLAIN.model.engram, table_codec="bf16"))), "table_codec fp32"),
    "certain dropout": (lambda: replace(PLAIN, memory_dropout=1.0), "a number of at most"),
    "learning rate": (lambda: replace(PLAIN, lr=0.0), "a number above 0"),
}


@pytest.mark.parametrize("make, message", REFUSED.values(), ids=REFUSED)
def test_settings_that_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def peak_of_step(run):
    """Bytes at the peak of a step, with all that the run keeps, apart from the corpus."""
    tracemalloc.start()
    run.step()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak + sum(np.asarray(x).nbytes for x in arrays(run).values())


@pytest.mark.parametrize("sizes", [(1, 16), (4, 96)], ids=str)
@pytest.mark.parametrize("name", ["seconds", "readable"])
def test_stated_memory(name, sizes):
    """As in test_training_memory.py; with few tokens the update needs more than the gradients."""
    runs = []
    for batch, length in ((1, 1), sizes):
        config = replace(training_preset(name), batch=batch, length=length)
        runs.append(Trainer(config, AnyText(config.vocab_size)))
        runs[-1].step()
    one, run = runs
    peak, not_stated = peak_of_step(run), max(peak_of_step(one) - one.needed, 0)
    assert peak <= run.needed + not_stated
    largest = sizes[0] * max(recorded_sizes(run.parameters, run.model, sizes[1], NUMPY, run.addressing))
    assert run.needed <= peak + sum(x.nbytes for x in run.parameters.values()) + TEMPORARY * largest


def test_all_random_parameters_start_with_the_same_standard_deviation():
    config = replace(training_preset("seconds"), init_std=0.07)
    run = Trainer(config, AnyText(config.vocab_size))
    other, same = Trainer(replace(config, seed=1), run.corpus), Trainer(config, run.corpus, dtype=np.float64)
    random = {name: x for name, x in run.parameters.items() if (x != other.parameters[name]).any()}
    assert {p.name for p in run.declared if p.start in ("normal", "table")} == set(random)
    for name, x in random.items():
        assert abs(x.std() / 0.07 - 1) < 5 / math.sqrt(2 * x.size), name        # 5 standard deviations
    for name, x in same.parameters.items():
        np.testing.assert_array_equal(x, run.parameters[name])


# evaluation ------------------------------------------------------------------------------------------------


def test_means_by_kind_against_a_loop():
    run = Trainer(PLAIN, world(), dtype=np.float64)
    batches = [*held_out(world(), 90, 2, 4), *held_out(world(), 25, 1, 2)]             # of different lengths
    found = summarised(predictions(run.parameters, run.model, run.addressing, batches))
    tokens = []
    for batch in batches:
        logits, trace = traced(run, batch)
        for b, t in np.ndindex(*logits.shape[:2]):
            z, target = logits[b, t], batch.ids[b, t + 1]
            loss = math.log(sum(math.exp(x) for x in z)) - z[target]
            best = max(range(len(z)), key=z.__getitem__)
            tokens.append((KINDS[batch.kinds[b, t + 1]], loss, best == target, trace["layers.1.engram.gate"][b, t, 0]))
    mean = lambda column, kind=None: pytest.approx(
        np.mean([token[column] for token in tokens if kind in (None, token[0])]))
    kinds = {token[0] for token in tokens}
    assert found.tokens == len(tokens) == 2 * 4 * 90 + 2 * 25 and len(kinds) > 3
    assert found.loss == mean(1) and found.gate == mean(3)
    assert found.by_kind == {kind: mean(1, kind) for kind in kinds}
    assert found.accuracy == {kind: mean(2, kind) for kind in kinds}


def test_held_out_text_is_the_same_in_every_call():
    first, second = ([batch.ids for batch in held_out(corpus(), 20, 3, 2)] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert len({ids.tobytes() for ids in first}) == 3


def test_nothing_to_predict():
    run = trainer(CONTROL)
    empty = Batch(*(x[:, :1] for x in vars(batch_of(run)).values()))
    one = next(predictions(run.parameters, run.model, None, [empty]))
    assert one.losses.shape == one.best.shape == (3, 0) and one.gates is None
    for batches in ([], [empty]):
        with pytest.raises(InputError, match="at least one token"):
            summarised(predictions(run.parameters, run.model, None, batches))
    assert by_kind(one.losses, empty.kinds[:, 1:]) == {}


def test_one_token():
    run = trainer()
    batch = Batch(*(x[:1, :2] for x in vars(batch_of(run)).values()))
    found = summarised(predictions(run.parameters, run.model, run.addressing, [batch]))
    assert found.tokens == 1 and found.by_kind == {"other": found.loss} and found.accuracy["other"] in (0, 1)
