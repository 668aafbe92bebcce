"""What the memory is for: Engram against models without it, at a size that trains in minutes.

Four questions:

    i     Does Engram lower the loss, compared with a mixture of experts (MoE) that has as many parameters, and with one
          that also has as many active parameters? Does the gain need addresses that depend on the text, a table with
          many rows, a higher learning rate of the tables, several residual branches?
    ii    Does looking up in context improve earlier ("frees attention")?
    iii   Does a trained model without its memory lose facts, rather than what it reads in context?
    iv    Is the gate open where the last tokens settle the next one, inside set phrases, and at the ends of names?

This file is the plan and the criteria; it was committed before the first run that counts. Margins were chosen from the
paper's effects and from pilot runs, which do not count: 125 steps on `world` with seeds 100 and 101.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from engram_ref.addressing import Addressing
from engram_ref.lab.controls import OneRow, OtherText, with_active_width, with_branches
from engram_ref.lab.measures import detectors, mean_update, predict, recall, without_memory
from engram_ref.lab.runs import Experiment, Run
from engram_ref.lab.verdicts import Criterion, Runs
from engram_ref.training.corpus import KINDS
from engram_ref.training.evaluation import Prediction, held_out, summarised
from engram_ref.training.loop import Trainer
from engram_ref.training.presets import TrainingConfig, training_preset, without_engram
from engram_ref.training.world import TRADES

LONG, SHORT, EARLY, GRID = 3500, 500, 125, 250              # steps
SEEDS = 11, 12, 13              # not used during development
SECONDS, SLOWER = 0.12, 3           # expected per step with one branch, and how much slower four are

FACT_CHANCE = 1 / len(TRADES)       # every attribute of a person has as many values
CONTEXT = ("look-up", "needle")     # answers that stand only in the context, as those of copies do
IN_CONTEXT = [KINDS.index(kind) for kind in (*CONTEXT, "copy")]
LEARNED = 0.1                       # least recall from which a retained share is computed
SAMPLE, TRAIN = 200, 16             # steps of training text: in which n-grams are counted, and for the training loss

ENGRAM = replace(training_preset("seconds"), name="engram")
MOE = replace(without_engram(ENGRAM), name="moe")
WIDE = replace(with_active_width(ENGRAM), name="moe-wide")
FOUR = tuple(replace(with_branches(config, 4), name=f"{config.name}-4") for config in (ENGRAM, MOE))


def plan() -> tuple[Run, ...]:
    """Return all runs, the most important first."""
    long = [EARLY, *range(GRID, LONG + 1, GRID)]
    runs = [planned(config, "world", long, seed) for seed in SEEDS for config in (ENGRAM, MOE, WIDE)]
    for config in (ENGRAM, MOE, WIDE):
        runs += [planned(config, "kjv", (EARLY, SHORT), seed) for seed in SEEDS]
    one_row, shuffled = replace(ENGRAM, name="one-row"), replace(ENGRAM, name="shuffled")
    for config, addressing in ((ENGRAM, Addressing), (MOE, Addressing), (one_row, OneRow), (shuffled, OtherText),
                               *((config, Addressing) for config in FOUR),
                               (replace(ENGRAM, name="x1", table_rate=1.0), Addressing)):
        runs += [planned(config, "world", (EARLY, SHORT), seed, addressing) for seed in SEEDS]
    return tuple(runs)


def planned(config: TrainingConfig, corpus: str, evaluate: Sequence[int], seed: int,
            addressing: type[Addressing] = Addressing) -> Run:
    """Return a run of the plan."""
    seconds = SECONDS * (1 if config.model.backbone.hyper is None else SLOWER)
    config = replace(config, corpus=corpus, steps=evaluate[-1], seed=seed)
    return Run(config, "seconds", tuple(evaluate), seconds, addressing)


def measure(trainer: Trainer) -> dict[str, Any]:
    """Return what is measured at one step, rounded.

    loss      on held-out text, in nats per token; `train`: on the text of the last 16 steps
    by_kind   loss by kind of token; `outside`: of all tokens that are not an answer in context
    accuracy  share of held-out tokens that were the most likely ones
    answers   kind -> accuracy of answers, corrected for chance
    gate      deciles of all gates, from the smallest to the largest
    zero      loss and answers without the memory's update, at the last step; `mean`: with its mean instead
    auc       the gate as a detector, at the last step; see measures.detectors
    """
    config = trainer.config
    texts = list(held_out(trainer.corpus, config.length))
    seen = range(max(trainer.done - TRAIN, 0) + 1, trainer.done + 1)
    train = predict(trainer, (trainer.corpus.batch(step, config.batch, config.length) for step in seen))
    predicted = predict(trainer, texts)
    found = described(predicted) | {"train": float(np.mean([p.losses for p in train]))}
    if trainer.model.engram is not None:
        found["gate"] = np.quantile([p.gates for p in predicted], np.linspace(0, 1, 11)).tolist()
        if trainer.done == config.steps:
            for name, update in (("zero", None), ("mean", mean_update(trainer, texts))):
                found[name] = described(predict(trainer, texts, without_memory(trainer.ops, update)))
            found["auc"] = detectors(trainer, predicted, SAMPLE)
    return rounded(found)


def described(predicted: Sequence[Prediction]) -> dict[str, Any]:
    """Return the losses and recall of some predictions."""
    evaluation = summarised(predicted)
    outside = np.concatenate([p.losses[~np.isin(p.batch.kinds[:, 1:], IN_CONTEXT)] for p in predicted])
    right = [p.best == p.batch.ids[:, 1:] for p in predicted]
    return {"loss": evaluation.loss, "by_kind": dict(evaluation.by_kind), "outside": float(outside.mean()),
            "accuracy": float(np.mean(right)), "answers": recall(predicted, {"fact": FACT_CHANCE})}


def rounded(values: Any) -> Any:
    """Return the same nested dictionary with numbers rounded to 5 decimals."""
    if isinstance(values, dict):
        return {name: rounded(value) for name, value in values.items()}
    return [rounded(value) for value in values] if isinstance(values, list) else round(values, 5)


def at(runs: Runs, key: str, *path: str, step: int | None = None) -> float | None:
    """Return one measurement of one run, at its last step by default; None if it does not exist."""
    value: Any = None
    for evaluation in runs.get(key, {"evaluations": []})["evaluations"]:
        if step in (None, evaluation["step"]):
            value = evaluation
    for name in path:
        value = None if value is None else value.get(name)
    return value


def minus(first: float | None, second: float | None) -> float | None:
    """Return the difference of two measurements; None if one does not exist."""
    return None if first is None or second is None else first - second


def lower_loss(key: str, than: str, step: int | None = None) -> Callable[[Runs], float | None]:
    """By how much the held-out loss of one run is lower than that of another."""
    return lambda runs: minus(at(runs, than, "loss", step=step), at(runs, key, "loss", step=step))


def curve(runs: Runs, key: str, loss: str) -> np.ndarray | None:
    """Return the recall of look-ups, 0 below chance, and a loss at all steps that are multiples of GRID: [2, n]."""
    if key not in runs:
        return None
    points = [(max(e["answers"]["look-up"], 0.0), e[loss]) for e in runs[key]["evaluations"] if e["step"] % GRID == 0]
    return np.array(points).T


def at_equal_tokens(runs: Runs) -> float | None:
    """Mean over the steps of the difference in recall of look-ups, Engram against the MoE."""
    engram, moe = (curve(runs, f"world-{LONG}-{name}", "loss") for name in ("engram", "moe"))
    return None if engram is None or moe is None else float(np.mean(engram[0] - moe[0]))


def at_equal_loss(loss: str) -> Callable[[Runs], float | None]:
    """The same at equal loss: mean over 21 losses between the lowest and the highest that both have, interpolated."""
    def difference(runs: Runs) -> float | None:
        engram, moe = (curve(runs, f"world-{LONG}-{name}", loss) for name in ("engram", "moe"))
        if engram is None or moe is None:
            return None
        low, high = max(engram[1].min(), moe[1].min()), min(engram[1].max(), moe[1].max())
        if low >= high:
            return None
        losses = np.linspace(low, high, 21)
        recalls = [np.interp(losses, *points[::-1, points[1].argsort()]) for points in (engram, moe)]
        return float(np.mean(recalls[0] - recalls[1]))

    return difference


def retained(form: str) -> Callable[[Runs], float | None]:
    """Share of recall that is retained without the memory: in context, mean of its kinds, less that of facts."""
    def share(runs: Runs, kind: str) -> float | None:
        key = f"world-{LONG}-engram"
        on, off = at(runs, key, "answers", kind), at(runs, key, form, "answers", kind)
        return None if on is None or off is None or on < LEARNED else max(off, 0.0) / on

    def difference(runs: Runs) -> float | None:
        shares = [x for kind in CONTEXT if (x := share(runs, kind)) is not None]
        return minus(float(np.mean(shares)) if shares else None, share(runs, "fact"))

    return difference


def above_half(key: str, name: str) -> Callable[[Runs], float | None]:
    """AUC of the gate as a detector, less 0.5."""
    return lambda runs: minus(at(runs, key, "auc", name), 0.5)


def gain_of_branches(runs: Runs) -> float | None:
    """By how much the gain of Engram is larger with four branches than with one."""
    key = f"world-{SHORT}-"
    return minus(lower_loss(f"{key}engram-4", f"{key}moe-4")(runs), lower_loss(f"{key}engram", f"{key}moe")(runs))


LOSS = "held-out loss of {} minus that of Engram, {}, nats per token"
AS_LARGE = 0.01, "the paper's gain in validation loss is 0.012"
CLEAR = 0.05, "a tenth of the way from chance to certainty"
LOOK_UP = "recall of look-ups (accuracy, 0 at chance and below) with Engram minus without, "
WORLD, WORLD_SHORT, KJV = f"world-{LONG}-", f"world-{SHORT}-", f"kjv-{SHORT}-"


def compared(name: str, claim: str, corpus: str, control: str, step: int | None = None) -> Criterion:
    """Return the criterion of question i that compares the loss of Engram with that of a control."""
    when = f"{corpus[:-1]}, " + (f"step {step}" if step else "last step")
    return Criterion(name, "i", claim, LOSS.format(control, when), *AS_LARGE,
                     lower_loss(f"{corpus}engram", f"{corpus}{control}", step))


def detects(name: str, claim: str, corpus: str, what: str) -> Criterion:
    """Return a criterion of question iv."""
    return Criterion(name, "iv", claim, f"AUC of the gate, {corpus[:-1]}, {what}, minus 0.5", *CLEAR,
                     above_half(f"{corpus}engram", what))


CRITERIA = (
    compared("world end", "Engram lowers the loss at equal total parameters", WORLD, "moe"),
    compared("world early", "It does so early in the training", WORLD, "moe", EARLY),
    compared("world active", "It does so at equal active parameters", WORLD, "moe-wide"),
    compared("kjv", "Engram lowers the loss of real text at equal total parameters", KJV, "moe"),
    compared("kjv active", "It does so at equal active parameters", KJV, "moe-wide"),
    compared("one row", "The gain needs a table with many rows", WORLD_SHORT, "one-row"),
    compared("shuffled", "The gain needs addresses that depend on the text", WORLD_SHORT, "shuffled"),
    compared("rate", "Tables need a higher learning rate", WORLD_SHORT, "x1"),
    compared("one branch", "Engram lowers the loss without hyper-connections", WORLD_SHORT, "moe"),
    Criterion("four branches", "i", "Engram lowers the loss with hyper-connections",
              LOSS.format("moe-4", f"{WORLD_SHORT[:-1]}, four branches"), *AS_LARGE,
              lower_loss(f"{WORLD_SHORT}engram-4", f"{WORLD_SHORT}moe-4")),
    Criterion("needs branches", "i", "The gain is larger with hyper-connections",
              f"gain with four branches minus gain with one, {WORLD_SHORT[:-1]}, nats per token", 0.05,
              "a quarter of the gain with one branch in the first pilot run, 0.21", gain_of_branches),
    Criterion("equal tokens", "ii", "In-context look-up improves earlier with Engram",
              f"{LOOK_UP}mean over every {GRID}th step", *CLEAR, at_equal_tokens),
    Criterion("equal loss", "ii", "In-context look-up is better at equal loss, as in the paper's long-context tests",
              f"{LOOK_UP}mean over equal held-out losses", *CLEAR, at_equal_loss("loss")),
    Criterion("equal loss outside", "ii", "It is better at equal loss of all tokens that are not answers in context",
              f"{LOOK_UP}mean over equal losses of these tokens", *CLEAR, at_equal_loss("outside")),
    *(Criterion(f"suppressed by {form}", "iii", f"Facts need the memory more than in-context answers do ({how})",
                "retained share of recall (0 at chance and below), mean of look-ups and needles, minus facts", 0.1,
                "the smallest difference between reading and facts in the paper is 0.37", retained(form))
      for form, how in (("zero", "its update is omitted"), ("mean", "its update is replaced by the mean"))),
    detects("settled world", "The gate opens where the last three tokens settle the next one", WORLD, "settled"),
    detects("settled kjv", "The gate opens there in real text", KJV, "settled"),
    detects("formula world", "The gate opens inside set phrases", WORLD, "formula"),
    detects("formula kjv", "The gate opens inside formulae of real text", KJV, "formula"),
    detects("ends", "The gate opens at the ends of names (not expected here)", WORLD, "ends"),
)
"""All criteria, in the order of the questions."""

EXPERIMENT = Experiment("memory", plan(), measure, CRITERIA)
