"""Measurements of a trained model: suppressed memory, chance, and the gate as a detector."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engram_ref.backends import replace
from engram_ref.errors import InputError
from engram_ref.ops.namespace import Ops
from engram_ref.training.corpus import KINDS, Batch
from engram_ref.training.evaluation import Prediction, predictions
from engram_ref.training.loop import Trainer

SETTLED_COUNT, SETTLED_SHARE = 5, 0.9       # of 3-grams that settle the next token
FORMULA_COUNT = 10                          # of 5-grams in unlabelled text that count as a formula

def predict(trainer: Trainer, batches: Iterable[Batch], ops: Ops | None = None) -> list[Prediction]:
    """Return what the model predicts in these batches; ops replaces the trainer's."""
    return list(predictions(trainer.parameters, trainer.model, trainer.addressing, batches, ops or trainer.ops))


def without_memory(ops: Ops, update: np.ndarray | None = None) -> Ops:
    """Return a namespace in which the update of Engram is ignored, and the given one [M, D] added instead, or none."""
    def add_residual(hidden: Any, _: Any, rounding: str = "none") -> Any:
        if update is None:
            return hidden
        constant = np.broadcast_to(update, tuple(hidden.shape)).astype(ops.dtype_name(hidden))
        return ops.add_residual(hidden, ops.constant(constant, hidden), rounding)

    return replace(ops, add_residual=add_residual)


def mean_update(trainer: Trainer, batches: Sequence[Batch]) -> np.ndarray:
    """Return the mean update of the only Engram module over all tokens of some batches of one size: float64 [M, D]."""
    ops, found = trainer.ops, []

    def add_residual(hidden: Any, update: Any, rounding: str = "none") -> Any:
        found.append(ops.to_numpy(update).mean(axis=(0, 1), dtype=np.float64))
        return ops.add_residual(hidden, update, rounding)

    predict(trainer, batches, replace(ops, add_residual=add_residual))
    if len(found) != len(batches):
        raise InputError("model", "one Engram module", f"{len(found) // len(batches)}")
    return np.mean(found, axis=0)


def answers(batch: Batch, kind: str) -> np.ndarray:
    """Return which predicted tokens are the first of an answer of this kind, bool [B, T].

    The other tokens of an answer are left out, since the first determines them. In a copy, every token is an answer.
    """
    of_kind = batch.kinds == KINDS.index(kind)
    return of_kind[:, 1:] & (True if kind == "copy" else ~of_kind[:, :-1])


def corrected(accuracy: float, chance: float) -> float:
    """Return the accuracy on a scale on which guessing is 0 and answering everything correctly is 1.

    >>> corrected(0.25, 0.25), corrected(0.75, 0.5), corrected(1.0, 0.5)
    (0.0, 0.5, 1.0)
    """
    return (accuracy - chance) / (1 - chance)


def recall(predicted: Sequence[Prediction], chances: Mapping[str, float]) -> dict[str, float]:
    """Return kind -> accuracy of its answers, corrected for chance, for the kinds that occur.

    chances   chance of kinds whose tokens have no `choices`; 0 if the kind is missing
    """
    right = np.concatenate([p.best == p.batch.ids[:, 1:] for p in predicted])
    chance = np.concatenate([p.batch.choices[:, 1:] for p in predicted])
    found = {}
    for kind in KINDS[1:]:
        chosen = np.concatenate([answers(p.batch, kind) for p in predicted])
        if chosen.any():
            guessed = float(chance[chosen].mean()) or chances.get(kind, 0.0)
            found[kind] = corrected(float(right[chosen].mean()), guessed)
    return found


def auc(scores: np.ndarray, positive: np.ndarray) -> float | None:
    """Return the probability that a positive has a higher score than a negative, where a tie counts one half.

    scores     float [n]
    positive   bool [n]
    returns    area under the ROC curve; None if there are no positives or no negatives

    >>> auc(np.array([0.1, 0.4, 0.4, 0.9]), np.array([False, True, False, True]))
    0.875
    """
    n = int(positive.sum())
    m = positive.size - n
    if not n or not m:
        return None
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2                    # mean rank of each group of equal scores, from 1
    return float((ranks[inverse][positive].sum() - n * (n + 1) / 2) / (n * m))


def ngram_numbers(ids: np.ndarray, n: int, size: int) -> np.ndarray:
    """Return a number for every n-gram inside the texts: ids [..., T] -> int64 [..., T - n + 1].

    size   upper limit of the ids; size^n must be below 2^63
    """
    if ids.shape[-1] < n:
        return np.zeros((*ids.shape[:-1], 0), np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(ids, n, axis=-1)                       # [..., T - n + 1, n]
    return windows @ size ** np.arange(n - 1, -1, -1, dtype=np.int64)


@dataclass(frozen=True)
class Counts:
    """How often n-grams occur in a text, and what follows them.

    numbers   int64 [K], sorted, see ngram_numbers
    counts    int64 [K]
    share     float64 [K], of the most frequent next token
    """

    numbers: np.ndarray
    counts: np.ndarray
    share: np.ndarray

    def of(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return count and share of other n-grams; both are 0 for unknown ones."""
        at = np.minimum(np.searchsorted(self.numbers, numbers), len(self.numbers) - 1)
        known = self.numbers[at] == numbers
        return np.where(known, self.counts[at], 0), np.where(known, self.share[at], 0.0)


def count_ngrams(batches: Iterable[Batch], canonical: np.ndarray, n: int) -> Counts:
    """Count the n-grams of canonical ids, as Engram reads them, with the raw token that follows each.

    raises   InputError if there are too many ids to number the n-grams
    """
    size, found = len(canonical), []
    if size ** (n + 1) >= 2**63:
        raise InputError("n", f"n-grams with a next token, fewer than 2^63 of {size} ids", n)
    for batch in batches:
        found.append(ngram_numbers(canonical[batch.ids[:, :-1]], n, size) * size + batch.ids[:, n:])
    pairs, counts = np.unique(np.concatenate([x.ravel() for x in found]), return_counts=True)
    numbers, first = np.unique(pairs // size, return_index=True)
    total = np.add.reduceat(counts, first)
    return Counts(numbers, total, np.maximum.reduceat(counts, first) / total)


def detectors(trainer: Trainer, predicted: Sequence[Prediction], steps: int) -> dict[str, float]:
    """Return how well the gate detects three things, as AUC: above 0.5 if it is more open there than elsewhere.

    settled   the last 3 tokens settle the next one: in the training text of the first `steps` steps, they occur at
              least SETTLED_COUNT times, and more than SETTLED_SHARE of the times before the same token; compared with
              3-grams that occur as often and do not settle it
    formula   the next token belongs to a set phrase; in unlabelled text: the last 3 tokens and the next 2 occur
              at least FORMULA_COUNT times; compared with all other positions
    ends      the token is the last one of a name; compared with all other positions

    One that occurs nowhere, or everywhere, is omitted.
    """
    config, canonical = trainer.config, trainer.corpus.vocabulary.canonical
    sample = [trainer.corpus.batch(step, config.batch, config.length) for step in range(1, steps + 1)]
    threes, fives = (count_ngrams(sample, canonical, n) for n in (3, 5))
    batches = [p.batch for p in predicted]
    gates = np.stack([p.gates.mean(axis=-1) for p in predicted])                              # [n, B, T]
    ids, kinds, ends = (np.stack([getattr(batch, name) for batch in batches]) for name in ("ids", "kinds", "ends"))
    texts = canonical[ids[..., :-1]]
    count, share = threes.of(ngram_numbers(texts, 3, len(canonical)))                         # [n, B, T - 2]
    known = count >= SETTLED_COUNT
    found = {"settled": auc(gates[..., 2:][known], share[known] > SETTLED_SHARE)}
    if kinds.any():
        found["formula"] = auc(gates.ravel(), (kinds[..., 1:] == KINDS.index("phrase")).ravel())
    else:
        frequent = fives.of(ngram_numbers(texts, 5, len(canonical)))[0] >= FORMULA_COUNT      # [n, B, T - 4]
        found["formula"] = auc(gates[..., 2:-2].ravel(), frequent.ravel())
    found["ends"] = auc(gates.ravel(), ends[..., :-1].ravel())
    return {name: value for name, value in found.items() if value is not None}
