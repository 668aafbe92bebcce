"""What a model predicts on held-out text: losses, best guesses and gates, token by token and by kind of token."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from engram_ref.addressing import Addressing
from engram_ref.checks import as_ops
from engram_ref.errors import InputError
from engram_ref.model.transformer import prepare_model, run
from engram_ref.model_config import ModelConfig
from engram_ref.ops.namespace import NUMPY, Ops
from engram_ref.training.backward import Stages
from engram_ref.training.corpus import KINDS, Batch, Corpus

BATCHES, TEXTS = 16, 12         # of the default evaluation


@dataclass(frozen=True)
class Prediction:
    """What a model predicts in one batch of texts with T + 1 tokens.

    losses   [B, T] nats, cross-entropy of each next token
    best     int64 [B, T], the most likely next token
    gates    [B, T, M] of the first Engram module, at the token that is read; None without Engram
    """

    batch: Batch
    losses: np.ndarray
    best: np.ndarray
    gates: np.ndarray | None


@dataclass(frozen=True)
class Evaluation:
    """Means over held-out text, in total and by kind of the predicted token.

    loss       nats per token
    accuracy   kind -> share of tokens that were the most likely ones
    gate       None without Engram
    """

    tokens: int
    loss: float
    by_kind: Mapping[str, float]
    accuracy: Mapping[str, float]
    gate: float | None


def predictions(parameters: Mapping[str, Any], model: ModelConfig, addressing: Addressing | None,
                batches: Iterable[Batch], ops: Ops = NUMPY) -> Iterator[Prediction]:
    """Yield what a model predicts in each batch; a replaced op of `ops` changes the model."""
    ops = as_ops(ops, traced=True)
    for batch in batches:
        ids = ops.as_array("ids", batch.ids)
        prepared = prepare_model(parameters, model, addressing, ops, {"ids": ids}, check_values=False)
        stages = Stages("gate")
        logits = run(prepared, ids[:, :-1], None, trace=stages)
        losses = ops.to_numpy(ops.cross_entropy(logits, ids[:, 1:]))
        gates = stages.arrays("gate", ops)
        yield Prediction(batch, losses, ops.to_numpy(logits).argmax(axis=-1), gates[0] if gates else None)


def held_out(corpus: Corpus, length: int, batches: int = BATCHES, texts: int = TEXTS) -> Iterator[Batch]:
    """Yield held-out texts of the corpus, the same in every call."""
    return (corpus.held_out(index, texts, length) for index in range(batches))


def by_kind(values: np.ndarray, kinds: np.ndarray) -> dict[str, float]:
    """Return kind -> mean of the values of its tokens, for the kinds that occur; kinds are indices of KINDS."""
    return {kind: float(values[kinds == i].mean()) for i, kind in enumerate(KINDS) if (kinds == i).any()}


def summarised(predicted: Iterable[Prediction]) -> Evaluation:
    """Return the means over all tokens of these predictions; InputError if there are none."""
    predicted = [p for p in predicted if p.losses.size]
    if not predicted:
        raise InputError("predictions", "at least one token", "none")
    joined = lambda arrays: np.concatenate([x.ravel() for x in arrays])
    losses, kinds = joined(p.losses for p in predicted), joined(p.batch.kinds[:, 1:] for p in predicted)
    right = joined(p.best == p.batch.ids[:, 1:] for p in predicted)
    gates = [p.gates for p in predicted if p.gates is not None]
    return Evaluation(losses.size, float(losses.mean()), by_kind(losses, kinds), by_kind(right, kinds),
                      float(joined(gates).mean()) if gates else None)
