"""The row of training: one step of a small model, with its gradients and the optimiser's update."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from engram_ref.addressing import addressing_of
from engram_ref.backends import load
from engram_ref.bench.case import OURS, Case, Comparison
from engram_ref.bench.setting import Setting, load_baselines, without_torch
from engram_ref.checks import as_ops
from engram_ref.model.transformer import forward
from engram_ref.model.tree import initialise
from engram_ref.model_config import HyperConfig, ModelConfig
from engram_ref.training.backward import differentiable, recorder_of
from engram_ref.training.groups import TABLE_RATE, paper_optimiser
from engram_ref.training.presets import training_preset, without_engram

PLAIN, OWN_TORCH = "a plain torch model", "our torch version"
LR, WEIGHT_DECAY = 5e-3, 0.1
BRANCHES = 4


def step(setting: Setting) -> Iterator[Case]:
    """A step of the model of `engram-ref train`: with Engram, without it, and with four branches."""
    ids = np.random.default_rng(12).integers(0, 1024, setting.size((12, 129), (2, 9)))
    for title, config in models().items():
        parameters = initialise(config, np.random.default_rng(13), np.float32)
        ours = partial(our_step(config, parameters, setting.ops), ids)
        sizes = {"texts": len(ids), "tokens per text": ids.shape[1] - 1, "hidden size": config.backbone.hidden_size,
                 "layers": config.backbone.n_layers, "dtype": "float32"}
        if config.backbone.hyper is None:
            plain = setting.baseline(lambda _, given=(config, parameters): partial(plain_step(*given), ids), "torch")
            yield Case(title, sizes, setting.threads, {OURS: ours, PLAIN: plain},
                       [Comparison("speedup", PLAIN, 1.3)], uses_blas=True)
        else:
            theirs = without_torch() or partial(our_step(config, parameters, load("torch")), ids)
            yield Case(title, sizes, setting.threads, {OURS: ours, OWN_TORCH: theirs},
                       [Comparison("speedup", OWN_TORCH, 2.0)], uses_blas=True)


def models() -> dict[str, ModelConfig]:
    """Title of a case -> its model. Raw ids are hashed, so no vocabulary is needed."""
    small = training_preset("seconds")
    small = replace(small, model=replace(small.model, engram=replace(
        small.model.engram, vocabulary=None, dead_barrier=False), backbone=replace(
        small.model.backbone, tie_embeddings=True)))
    branches = replace(small.model, engram=replace(small.model.engram, n_branches=BRANCHES),
                       backbone=replace(small.model.backbone, hyper=HyperConfig(BRANCHES)))
    return {"training step": small.model, "training step without Engram": without_engram(small).model,
            f"training step with {BRANCHES} branches": branches}


def our_step(config: ModelConfig, parameters: Mapping[str, np.ndarray], ops: Any) -> Callable[[np.ndarray], float]:
    """Return step(ids [B, T + 1]) -> mean loss; each call updates the model."""
    ops = as_ops(ops)
    current = {name: ops.as_array(name, array.copy()) for name, array in parameters.items()}
    optimiser = paper_optimiser(config, LR, WEIGHT_DECAY, "adam", ops)

    def run(ids: np.ndarray) -> float:
        recorder, ids = recorder_of(ops), ops.as_array("ids", ids)
        values, wanted = differentiable(current, recorder)
        losses = recorder.ops.cross_entropy(forward(values, ids[:, :-1], config, ops=recorder.ops, check_values=False),
                                            ids[:, 1:])
        found = recorder.ops.to_numpy(losses)
        upstream = ops.constant(np.full(found.shape, 1 / found.size, found.dtype), ids)
        trained = {name: value for name, value in wanted.items() if name in optimiser.group_of}
        current.update(optimiser.step(current, recorder.gradients(losses, upstream, trained)))
        return float(found.mean())

    return run


def plain_step(config: ModelConfig, parameters: Mapping[str, np.ndarray]) -> Callable[[np.ndarray], float]:
    """Return the same for the plain torch model."""
    base = load_baselines("train_baseline")
    return base.step_of(base.model_of(parameters, config, hashing(config)), LR, WEIGHT_DECAY, TABLE_RATE)


def hashing(config: ModelConfig) -> tuple[np.ndarray, ...]:
    """Return the multipliers and primes of the model's only Engram module; nothing without one."""
    if config.engram is None:
        return ()
    addressing, (layer,) = addressing_of(config.engram), config.engram.layer_ids
    return addressing.multipliers[layer], addressing.primes[layer]
