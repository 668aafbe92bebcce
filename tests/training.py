"""A model and a text that are small enough to train for hundreds of steps in a test."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from engram_ref.model_config import AttentionConfig, ExpertsConfig, HyperConfig
from engram_ref.training import checkpoint
from engram_ref.training.corpus import TextCorpus
from engram_ref.training.loop import Trainer
from engram_ref.training.presets import TrainingConfig, training_preset

DESK = training_preset("seconds").model
_ENGRAM = replace(DESK.engram, hidden_size=16, n_heads=2, table_sizes=(53, 53), row_width=4)
_BACKBONE = replace(DESK.backbone, n_layers=2, n_dense_layers=1, hidden_size=16, intermediate_size=24,
                    attention=AttentionConfig(2, 8, 4, 8, 8, None, 1e-6), experts=ExpertsConfig(4, 2, 0, 8))
_BRANCHES = replace(_BACKBONE, hyper=HyperConfig(2, iterations=5))

PLAIN = TrainingConfig("plain", "rhymes", 280, replace(DESK, name="plain", engram=_ENGRAM, backbone=_BACKBONE),
                       batch=3, length=17, steps=50, warm_up=5, lr=5e-3)
"""One branch; a dense layer, then Engram and a layer with experts."""

COST = replace(PLAIN, name="cost", gate_cost=0.05, memory_dropout=0.3)
"""The same with a cost of the gate, and memory dropout."""

ALL = replace(COST, name="all", matrices="muon", model=replace(
    PLAIN.model, name="branches", engram=replace(_ENGRAM, n_branches=2), backbone=_BRANCHES))
"""Also with two branches and Muon."""

CONTROL = replace(PLAIN, name="control", model=replace(PLAIN.model, engram=None))
"""Without Engram."""

CONFIGS = {config.name: config for config in (PLAIN, COST, ALL, CONTROL)}

WORDS = "the of and a to in he was that it his her with as had for she not at but be on they have him which said from"


@cache
def corpus() -> TextCorpus:
    """Return a text of random lines about nothing."""
    rng = np.random.default_rng(7)
    lines = [" ".join(rng.choice(WORDS.split(), 8)) for _ in range(400)]
    return TextCorpus("rhymes", "\n".join(lines), PLAIN.vocab_size)


def trainer(config=PLAIN, ops=None, dtype=np.float64) -> Trainer:
    """Return a new run."""
    return Trainer(config, corpus(), dtype=dtype, **({} if ops is None else {"ops": ops}))


def losses(run: Trainer, steps: int) -> np.ndarray:
    """Train for some steps and return their losses."""
    return np.array([run.step().loss for _ in range(steps)])


def arrays(run: Trainer) -> dict[str, np.ndarray]:
    """Return everything that a run changes, as NumPy arrays."""
    named = {**run.parameters, **{f"optimiser/{name}": x for name, x in run.optimiser.arrays().items()}}
    return {name: np.array(run.ops.to_numpy(run.ops.as_array(name, x))) for name, x in named.items()}


def resumed(folder: Path, config=PLAIN, **options) -> Trainer:
    """Return a run that continues from the newest checkpoint of a folder."""
    run = trainer(config, **options)
    checkpoint.restore(run, checkpoint.newest(folder))
    return run


def names(folder: Path) -> list[str]:
    """Return the names in a folder."""
    return sorted(path.name for path in folder.iterdir())


def assert_same(expected: Trainer, found: Trainer) -> None:
    """Raise AssertionError unless two runs are at the same step, with the same bits."""
    one, other = arrays(expected), arrays(found)
    assert expected.done == found.done and one.keys() == other.keys()
    bits = lambda x: (x.dtype, x.shape, x.tobytes())
    assert [name for name, x in one.items() if bits(x) != bits(other[name])] == []
