# %% [markdown]
# # What the memory is for
#
# ## What you will be able to do
#
# - state what Engram adds to a model of fixed size, and which controls show that the addresses matter;
# - explain why facts and set phrases improve first, and what happens to answers that stand in the context;
# - say what a trained model loses if its memory is switched off;
# - say what a gate detects at this size, and what it does not.
#
# The paper trains models of 27 billion parameters, once each. Here are models of 0.9 million, trained with several
# seeds and with controls that the paper does not have. So this page cannot confirm or refute the paper: it shows what
# the same design does at a desk. Every criterion was written down before the first run that counts. The results are in
# the repository, and this command repeats them:
#
# ```sh
# python scripts/lab.py memory
# ```

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from engram_ref.lab.memory import EXPERIMENT, LONG
from engram_ref.lab.summary import summary

results = summary(EXPERIMENT, Path("docs/results/memory"))
curves = results["curves"]
print(f"{results['finished']} of {results['planned']} runs")
print(results["rule"])


def at_end(run: str, name: str) -> np.ndarray:
    """A measurement at the last step, one value per seed"""
    return np.array([values[-1] for values in curves[run][name]["values"]])


def verdict(name: str) -> dict:
    """The verdict of one criterion"""
    return next(criterion for criterion in results["criteria"] if criterion["name"] == name)


def told(*names: str) -> None:
    """Print verdicts"""
    for name in names:
        found = verdict(name)
        values = " ".join(f"{x:+.3f}" for x in found["values"])
        print(f"{found['claim']}\n    {found['metric']}\n    {values}: {found['verdict']}")

# %% [markdown]
# ## Does it help?
#
# Three models are trained on the invented world of the [previous page](19_train_one.md): one with Engram, a mixture of
# experts (MoE) with as many parameters, and a second MoE whose experts are wider, so that a token also uses as many
# parameters as with Engram.

# %% tags=["fold"]
NAMES = {"engram": "Engram", "moe": "MoE, same size", "moe-wide": "MoE, same active size"}
STYLES = dict(zip(NAMES, (("C0", "-"), ("C1", "--"), ("C2", ":")), strict=True))


def draw(ax, measurement: str, runs=NAMES) -> None:
    """Mean over the seeds against the step, with the range of the seeds"""
    for run in runs:
        found = curves[f"world-{LONG}-{run}"][measurement]
        values, (colour, line) = np.array(found["values"]), STYLES[run]
        ax.plot(found["steps"], values.mean(axis=0), color=colour, linestyle=line, label=NAMES[run])
        ax.fill_between(found["steps"], values.min(axis=0), values.max(axis=0), color=colour, alpha=0.2, linewidth=0)
    ax.set_xlabel("step")


fig, axes = plt.subplots(1, 3, figsize=(9.0, 2.9))
for ax, (measurement, title) in zip(axes, (("loss", "all tokens"), ("by_kind.fact", "facts"),
                                           ("by_kind.look-up", "look-ups in context")), strict=True):
    draw(ax, measurement)
    ax.set_title(title)
axes[0].set_ylabel("held-out loss, nats per token")
axes[0].legend(fontsize=7)
fig.suptitle("Held-out loss by kind of token; bands show the range of the seeds")
fig.set_label("Three panels with the held-out loss of three models against the training step: all tokens, facts, and "
              "look-ups in context.")

# %%
told("world end", "world early", "world active", "kjv", "kjv active")
