# %% [markdown]
# # Train one yourself
#
# ## What you will be able to do
#
# - train a model with Engram, and a control with as many parameters, in a few lines;
# - say which tokens Engram learns first, and which it does not help with;
# - continue a training run from a checkpoint, with exactly the same numbers;
# - train on your own text from the command line.
#
# The models on this page are small: 0.9 million parameters, three layers, 64 channels. They are trained on an invented
# world, so that we know the right answers. On two cores, the full run takes about a minute:
#
# ```sh
# engram-ref train
# ```
#
# ## The text
#
# `world` is text about 200 invented people. Their names have several tokens, and each person has four fixed facts.
# There are also set phrases, and lists whose words have to be found again in the same text. The text is drawn anew in
# every step, so a model never reads the same sequence twice, but the facts stay the same.

# %%
import tempfile
import textwrap
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np

from engram_ref.backends import load
from engram_ref.lab.controls import OneRow
from engram_ref.model.accounting import summarise
from engram_ref.training import checkpoint
from engram_ref.training.corpus import KINDS, load_corpus
from engram_ref.training.evaluation import held_out, predictions, summarised
from engram_ref.training.loop import Trainer
from engram_ref.training.presets import training_preset, without_engram

corpus = load_corpus("world", vocab_size=1024)
sample = corpus.batch(step=1, batch=1, length=255)
text = corpus.vocabulary.tokenizer.decode(sample.ids[0].tolist())
print(*(textwrap.fill(passage.strip(), 88) for passage in text.split("\n")), sep="\n")

# %% [markdown]
# Every token has a label that says what kind of answer it is, if it is one:
#
# | kind | the token is | who can predict it |
# |---|---|---|
# | fact | the trade, animal, colour or town of a person | who has memorised it |
# | phrase | a later word of a set phrase | who has memorised the phrase |
# | look-up, needle | the partner of a word in a list, or among other sentences | who reads the context |
# | copy | a word of a repeated list | who reads the context |
# | other | anything else | |

# %%
many = [corpus.batch(step, 12, 128) for step in range(1, 21)]
share = {kind: float(np.mean([batch.kinds == i for batch in many])) for i, kind in enumerate(KINDS)}
print(*(f"{kind} {100 * x:.1f}%" for kind, x in share.items()), sep=", ")
assert share["other"] < 0.9 and all(x > 0.002 for x in share.values())

# %% [markdown]
# ## Two models
#
# The model with Engram has one module, in its second layer: n-grams of two and three tokens, four heads each, in tables
# of about 1,400 rows of 16 numbers. The control has more experts instead, so both have the same number of parameters.
# Here we train for fewer steps than the preset, with fewer texts per step.

# %%
preset = replace(training_preset("seconds"), batch=8, length=64, steps=100)
models = {"with Engram": preset, "without": without_engram(preset)}
for name, config in models.items():
    experts = config.model.backbone.experts.n_routed_experts
    print(f"{name:12} {summarise(config.model).total:,} parameters, {experts} experts per layer")
totals = [summarise(config.model).total for config in models.values()]
assert abs(totals[0] / totals[1] - 1) < 0.005

# %% [markdown]
# ## The loop
#
# A `Trainer` holds the parameters and the optimiser. Its method `step` draws a batch, computes the loss and its
# gradients ([tutorial 17](17_backpropagation.md)), and updates the parameters ([tutorial 18](18_two_optimisers.md)).

# %%
numba = load("numba")
trainers, losses = {}, {}
for name, config in models.items():
    trainers[name] = trainer = Trainer(config, corpus, numba)
    losses[name] = [trainer.step().loss for _ in range(config.steps)]
for step in (1, 25, 50, 100):
    means = (f"{name} {np.mean(x[max(step - 10, 0) : step]):.2f}" for name, x in losses.items())
    print(f"step {step:3}:", ", ".join(means))

# %% [markdown]
# The loss is in nats per token. A model that considers all tokens equally likely has $\ln 1024 = 6.9$; a model with
# random parameters starts slightly above. On text that neither model has seen:

# %%
results = {}
for name, trainer in trainers.items():
    texts = held_out(corpus, length=64, batches=8)
    results[name] = summarised(predictions(trainer.parameters, trainer.model, trainer.addressing, texts, numba))
    kinds = (f"{kind} {x:.2f}" for kind, x in results[name].by_kind.items())
    print(f"{name:12} {results[name].loss:.2f} ", *kinds)
gain = results["without"].loss - results["with Engram"].loss
variance = 64 * preset.init_std**2                         # of the initial logits, from 64 normalised channels
targets = len(np.unique(corpus.batch(1, 8, 64).ids[:, 1:]))
start = np.log(1024) + variance / 2                        # mean of log sum exp of normal logits
assert abs(losses["without"][0] - start) < 4 * np.sqrt(variance / targets) and gain > 0.1

# %% tags=["fold"]
fig, ax = plt.subplots(figsize=(6.2, 3.0))
for (name, x), colour, line in zip(losses.items(), ("C0", "C1"), ("-", "--"), strict=True):
    smooth = np.convolve(x, np.ones(10) / 10, mode="valid")
    ax.plot(np.arange(10, len(x) + 1), smooth, color=colour, linestyle=line, label=name)
ax.set(xlabel="step", ylabel="loss, nats per token", title="After a few dozen steps, the model with Engram is ahead")
ax.legend(fontsize=8)
fig.set_label("Training loss of both models, averaged over ten steps. Both fall from about 7; after about step 40 the "
              "curve of the model with Engram is below the other one, and stays there.")
tails = {name: np.mean(x[-30:]) for name, x in losses.items()}
assert tails["with Engram"] < tails["without"] - 0.05

# %% [markdown]
# Engram is ahead because of facts and phrases: their last two or three tokens determine the next one, and a table can
# store that directly. The answers that stand in the context need attention, which has learned nothing yet in either
# model. That takes thousands of steps.
#
# ## Interrupt and continue
#
# A checkpoint contains the parameters, the state of the optimiser and the number of steps. The texts of each step are
# drawn from the seed and the number of the step, so nothing else is needed. A run that continues from a checkpoint
# computes exactly the same numbers as one that was not interrupted:

# %%
trainer = Trainer(preset, corpus, numba)
trainer.step()
with tempfile.TemporaryDirectory() as folder:
    path = checkpoint.save(trainer, folder)
    print(path.name, *sorted(file.name for file in path.iterdir()))
    continued = Trainer(preset, corpus, numba)
    checkpoint.restore(continued, path)
first, second = ([t.step().loss for _ in range(3)] for t in (trainer, continued))
assert first == second
assert all(np.array_equal(trainer.parameters[name], x) for name, x in continued.parameters.items())

# %% [markdown]
# ## On your own text
#
# The same from the command line, for any text in UTF-8. `--out` saves checkpoints, and `--resume` continues:
#
# ```sh
# engram-ref train --corpus book.txt --steps 500 --out runs/book
# engram-ref train --corpus book.txt --steps 500 --out runs/book --resume
# engram-ref sample "Once upon a time" --checkpoint runs/book/engram
# engram-ref walk "Once upon a time" --checkpoint runs/book/engram
# ```
#
# `pip install 'engram_ref[corpora]'` installs the King James Bible, 4.2 million characters, for `--corpus kjv`.
#
# ## Exercises
#
# **1.** Is the gain due to the addresses, or to the extra computation? Let every n-gram read row 0, and train again.
#
# ??? tip "Hint"
#     `Trainer.addressing` computes the rows. Before the first step, replace it by a subclass of `Addressing` whose
#     `unchecked_rows` returns zeros.

# %% tags=["answer"]
trainer = Trainer(preset, corpus, numba)
trainer.addressing = OneRow(trainer.model.engram, corpus.vocabulary)
one_row = [trainer.step().loss for _ in range(preset.steps)]
tails["one row"] = np.mean(one_row[-30:])
print(*(f"{name} {x:.2f}" for name, x in tails.items()), sep=", ")
assert tails["with Engram"] < tails["one row"] - 0.05

# %% [markdown] tags=["answer"]
# With a single row, the module is no better than the control: the same memory for every n-gram says nothing about what
# comes next.

# %% [markdown]
# This is the last tutorial. Next: [type your own text](type-your-own-text.md) to see which rows Engram reads for it, or
# [test your own port](../oracle/python.md).
