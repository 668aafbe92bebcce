"""The first question of the experiment about the memory, in its shortest form: 125 steps on `world`."""

import pytest

from engram_ref.lab.measures import predict
from engram_ref.lab.memory import EARLY, ENGRAM, MOE, planned
from engram_ref.lab.runs import trainer_of
from engram_ref.training.evaluation import held_out, summarised

MARGIN = 0.05       # nats; less than half of the differences in pilot runs, about 0.13


def loss_of(config):
    run = planned(config, "world", (EARLY,), seed=101)
    trainer = trainer_of(run, "numba")
    while trainer.done < EARLY:
        trainer.step()
    return summarised(predict(trainer, held_out(trainer.corpus, run.config.length))).loss


def test_engram_lowers_the_loss():
    pytest.importorskip("numba")
    assert loss_of(MOE) - loss_of(ENGRAM) > MARGIN
