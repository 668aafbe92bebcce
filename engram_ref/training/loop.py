"""The training loop: batches in, updated parameters out.

    trainer = Trainer(training_preset("seconds"), load_corpus("world", 1024))
    while trainer.done < trainer.config.steps:
        progress = trainer.step()

A step computes the mean cross-entropy of the next tokens, its gradients, and one update of the paper's optimisers; then
the balancing biases of the routers move. Texts and memory dropout are drawn from the seed and the number of the step,
so a run that continues from a checkpoint needs no other random state.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from engram_ref.addressing import Addressing
from engram_ref.checks import as_ops, check_kinds, float_name
from engram_ref.errors import InputError
from engram_ref.model import declarations
from engram_ref.model.transformer import forward, prepare_model, run
from engram_ref.model.tree import initialise
from engram_ref.ops.namespace import NUMPY, Ops
from engram_ref.trace import Trace
from engram_ref.training.backward import Stages, differentiable, recorder_of
from engram_ref.training.corpus import Batch, Corpus
from engram_ref.training.evaluation import by_kind
from engram_ref.training.gradients import clip
from engram_ref.training.groups import names_by_group, optimiser_of
from engram_ref.training.memory import check_step
from engram_ref.training.presets import TrainingConfig, fitted
from engram_ref.training.schedule import warm_up_and_drops

PARAMETERS, DROPOUT = range(2)          # what is drawn from a seed


@dataclass(frozen=True)
class Progress:
    """One step: values before its update."""

    step: int                           # from 1
    loss: float                         # mean cross-entropy in nats, without the cost of gates
    by_kind: Mapping[str, float]        # kind of token -> mean cross-entropy; kinds that the batch lacks are omitted
    gate: float | None                  # mean of all gates; None without Engram
    load: float | None                  # tokens of the busiest expert over the mean, worst layer; None without experts
    norm: float                         # of all gradients together, before clipping


class Trainer:
    """A model in training.

    config       the settings
    corpus       the text, with its vocabulary
    ops          the backend's namespace
    dtype        float32 or float64; both start with the same numbers
    model        configuration of the model with the corpus's vocabulary
    parameters   name -> array of the backend, replaced by every step
    done         number of steps taken
    needed       bytes that a step needs
    raises       InputError if a step needs more memory than is available
    """

    def __init__(self, config: TrainingConfig, corpus: Corpus, ops: Ops = NUMPY, dtype: Any = np.float32):
        check_kinds(config=(config, TrainingConfig), corpus=(corpus, Corpus))
        self.config, self.corpus, self.ops, self.done = config, corpus, as_ops(ops), 0
        self.model = model = fitted(config.model, corpus.vocabulary)
        self.addressing = None if model.engram is None else Addressing(model.engram, corpus.vocabulary)
        self.declared = tuple(declarations.model(model))
        start = self.start(float_name("dtype", dtype))
        self.needed = check_step(start, model, config.batch, config.length, addressing=self.addressing)
        self.parameters = {name: self.ops.as_array(name, array) for name, array in start.items()}
        self.optimiser = optimiser_of(names_by_group(self.declared), config.lr, config.weight_decay, config.matrices,
                                      self.ops, config.table_rate)

    def start(self, dtype: str) -> dict[str, np.ndarray]:
        """Return the initial parameters: all random ones, tables included, have the same standard deviation."""
        config = self.config
        arrays = initialise(self.model, np.random.default_rng([config.seed, PARAMETERS]), np.float32)
        for p in self.declared:
            if p.start in ("normal", "table"):
                drawn = 1.0 if p.start == "table" else p.scale or p.shape[-1] ** -0.5
                arrays[p.name] *= arrays[p.name].dtype.type(config.init_std / drawn)
        return {name: x.astype(dtype) if x.dtype.kind == "f" else x for name, x in arrays.items()}

    def step(self) -> Progress:
        """Train on the next batch.

        raises   InputError naming the first stage, parameter or gradient that is not finite; parameters, optimiser and
                 number of steps are then as before, which also holds for an interruption
        """
        number = self.done + 1
        factor = warm_up_and_drops(number, self.config.steps, self.config.warm_up)
        batch = self.corpus.batch(number, self.config.batch, self.config.length)
        with np.errstate(all="ignore"):                     # the checks find NaN and infinity
            losses, stages, found = self.backward(batch, self.dropped(number))
            clipped, norm = clip(found, self.config.clip)
            biases, load = self.balance(stages.arrays("experts", self.ops))
            gates = stages.arrays("gate", self.ops)
            progress = Progress(number, float(losses.mean()), by_kind(losses, batch.kinds[:, 1:]),
                                float(np.mean(gates)) if gates else None, load, norm)
            self.parameters, self.done = self.updated(clipped, factor) | biases, number
        return progress

    def updated(self, gradients: Mapping[str, Any], factor: float) -> dict[str, Any]:
        """Return the parameters after an update; if it raises or is interrupted, the optimiser is as before."""
        before = self.optimiser.arrays()
        try:
            parameters = self.optimiser.step(self.parameters, gradients, factor)
            if name := self.not_finite(parameters):
                raise self.refused(f"parameter {name}")
        except BaseException:
            self.optimiser.restore(before)
            raise
        return parameters

    def dropped(self, number: int) -> np.ndarray | None:
        """Return which texts of a step are trained without memory, as a mask bool [B, T]; None: no dropout."""
        if not self.config.memory_dropout:
            return None
        drawn = np.random.default_rng([self.config.seed, DROPOUT, number]).random((self.config.batch, 1))
        return np.repeat(drawn < self.config.memory_dropout, self.config.length, axis=1)

    def backward(self, batch: Batch, dead: np.ndarray | None) -> tuple[np.ndarray, Stages, dict[str, Any]]:
        """Return the cross-entropy of each token, NumPy [B, T], the stages gate and experts, and the gradients."""
        recorder, stages = recorder_of(self.ops), Stages("gate", "experts")
        values, wanted = differentiable(self.parameters, recorder)
        ids = self.ops.as_array("ids", batch.ids)
        dead = None if dead is None else self.ops.as_array("dead", dead)
        model = prepare_model(values, self.model, self.addressing, recorder.ops, {"ids": ids}, check_values=False)
        logits = run(model, ids[:, :-1], None, dead=dead, trace=stages)
        losses = recorder.ops.cross_entropy(logits, ids[:, 1:])
        found = recorder.ops.to_numpy(losses)
        if not np.isfinite(found).all():
            raise self.cause(ids, dead)
        outputs = losses, *stages.values["gate"]
        weights = 1.0, *(self.config.gate_cost / (len(outputs) - 1) for _ in outputs[1:])
        upstream = tuple(self.ops.constant(np.full(tuple(x.shape), weight / math.prod(x.shape), found.dtype), ids)
                         for x, weight in zip(outputs, weights, strict=True))
        trained = {name: value for name, value in wanted.items() if name in self.optimiser.group_of}
        return found, stages, recorder.gradients(outputs, upstream, trained)

    def not_finite(self, parameters: Mapping[str, Any]) -> str | None:
        """Return the name of the first parameter that is not finite."""
        return next((name for name, x in parameters.items() if self.ops.first_non_finite(x) is not None), None)

    def refused(self, what: str, found: object = "NaN or infinity") -> InputError:
        """Return the error of a step in which something is not finite."""
        return InputError(what, "finite values", found,
                          f"step {self.done + 1} was not taken; use a smaller learning rate than {self.config.lr}")

    def cause(self, ids: Any, dead: Any) -> InputError:
        """Return the error of a loss that is not finite: it names the first parameter or stage that is not."""
        if name := self.not_finite(self.parameters):
            return self.refused(f"parameter {name}")
        try:
            forward(self.parameters, ids[:, :-1], self.model, dead=dead, addressing=self.addressing, ops=self.ops,
                    trace=Trace(check_finite=True), check_values=False)
        except InputError as error:
            return self.refused(f"stage {error.argument}", error.found)
        return self.refused("loss")

    def balance(self, chosen: list[np.ndarray]) -> tuple[dict[str, Any], float | None]:
        """Return the new balancing biases of all routers, given their choices [B, T, K], and the largest relative load.

        A model may have routers without biases.
        """
        counts = [np.bincount(x.ravel(), minlength=self.model.backbone.experts.n_routed_experts) for x in chosen]
        biased = [(p.name, self.parameters[p.name]) for p in self.declared if p.kind == "statistic"]
        biases = {name: self.ops.bias_update(bias, self.ops.constant(n, bias), self.config.bias_rate)
                  for (name, bias), n in zip(biased, counts, strict=bool(biased))}
        return biases, max((float(n.max() / n.mean()) for n in counts), default=None)
