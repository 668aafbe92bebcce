"""engram-ref train: train a small model with Engram, and the control without it."""

import argparse
import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

from engram_ref.backends import BACKENDS
from engram_ref.checks import integer
from engram_ref.cli.source import output_path
from engram_ref.cli.terminal import escaped, table, wrap
from engram_ref.cli.train_process import Job, train_all
from engram_ref.cli.train_progress import Display, Run, finding, kinds_of
from engram_ref.errors import InputError, check_name
from engram_ref.files import resolved, write_whole
from engram_ref.packages import require
from engram_ref.training.checkpoint import checkpoints, newest
from engram_ref.training.corpus import load_corpus
from engram_ref.training.presets import TrainingConfig, training_preset, training_presets, without_engram

HELP = "train a small model with Engram and one without it"
DESCRIPTION = """Train a small model with Engram and the control without it, each in its own process on one core, and
compare their losses on held-out text. If the model has experts, the control has more of them, and as many parameters.
Progress shows means of ten steps: the loss in nats per token, also by kind of token if the corpus labels them; gate,
the mean of all gates; load, the tokens of the busiest expert relative to the mean. With --json, one object with every
step is printed at the end."""

PLOT = "engram-ref-train.svg"
LABELS = {"engram": "with Engram", "control": "without"}
"""Model -> what output calls it."""


def arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of `train`."""
    command.add_argument("--preset", default="seconds", metavar="NAME",
                         help=f"settings: {', '.join(training_presets())} (default: seconds)")
    command.add_argument("--corpus", metavar="NAME", help="world, an invented world whose tokens are labelled; kjv, "
                         "the King James Bible; or a text file in UTF-8 (default: the preset's)")
    command.add_argument("--steps", type=int, metavar="N", help="number of steps (default: the preset's)")
    command.add_argument("--seed", type=int, default=0, metavar="N",
                         help="seed of the initial parameters, the texts and the dropout (default: 0)")
    command.add_argument("--backend", default="numba", metavar="NAME", help=f"{', '.join(BACKENDS)} (default: numba)")
    command.add_argument("--only", metavar="MODEL", help="train only one model: engram or control")
    command.add_argument("--out", metavar="FOLDER", help="save checkpoints in FOLDER/engram and FOLDER/control")
    command.add_argument("--resume", action="store_true", help="continue from the checkpoints in --out; the other "
                         "options must be the same as before")
    command.add_argument("--plot", default=PLOT, metavar="FILE.svg", help=f"where to write the chart (default: {PLOT})")


def run(options: argparse.Namespace) -> int:
    """Train the models, show progress on standard error, and print the comparison."""
    configs = chosen(options)
    plot = output_path(options.plot, ".svg", "--plot")
    check_name("--backend", options.backend, BACKENDS)
    folders = checkpoint_folders(options, list(configs))
    require("matplotlib", "--plot")
    first = next(iter(configs.values()))
    corpus = load_corpus(first.corpus, first.vocab_size, first.seed)
    jobs = {name: Job(config, corpus, options.backend, folders.get(name), options.resume)
            for name, config in configs.items()}
    runs = {name: Run(LABELS[name], config, corpus.vocabulary) for name, config in configs.items()}
    display = Display(runs, options.backend)
    with closing(train_all(jobs)) as reports:
        for name, report in reports:
            runs[name].take(report)
            display.update(runs[name], report)
    from engram_ref.cli.train_figure import figure_svg

    write_whole(plot, figure_svg(runs))
    text = "\n".join([*lines(runs), f"wrote {escaped(str(plot))}"])
    print(json.dumps(as_json(runs, options)) if options.json else text)
    return 0


def chosen(options: argparse.Namespace) -> dict[str, TrainingConfig]:
    """Return the settings of the models to train, by name."""
    check_name("--preset", options.preset, training_presets())
    config = replace(training_preset(options.preset), seed=integer("--seed", options.seed))
    if options.steps is not None:
        config = replace(config, steps=integer("--steps", options.steps, 1))
    if options.corpus is not None:
        config = replace(config, corpus=options.corpus)
    configs = {"engram": config, "control": without_engram(config)}
    if options.only is not None:
        check_name("--only", options.only, configs)
    return {name: config for name, config in configs.items() if options.only in (None, name)}


def checkpoint_folders(options: argparse.Namespace, names: list[str]) -> dict[str, Path]:
    """Return the folder of each model's checkpoints, empty without --out.

    raises   InputError if --resume finds no checkpoint, or a new run would mix with an earlier one
    """
    if options.out is None:
        if options.resume:
            raise InputError("--resume", "--out FOLDER, with the checkpoints to continue from", "no --out")
        return {}
    folders = {name: resolved(options.out, "--out")[0] / name for name in names}
    found = [folder for folder in folders.values() if checkpoints(folder)]
    if options.resume and not found:
        newest(folders[names[0]])                       # raises the error of a folder without a checkpoint
    if found and not options.resume:
        raise InputError("--out", "a folder without checkpoints", f"those in {found[0]}",
                         "add --resume to continue from them")
    return folders


def lines(runs: Mapping[str, Run]) -> list[str]:
    """Return the comparison for a terminal: losses by kind of token, and the finding."""
    kinds = kinds_of(runs.values())
    rows = [[f"{run.label}, {text}", f"{result.loss:.3f}",
             *("-" if kind not in result.by_kind else f"{result.by_kind[kind]:.3f}" for kind in kinds)]
            for attribute, text in (("held_out", "held out"), ("trained_on", "trained on"))
            for run in runs.values() for result in [getattr(run.finished, attribute)]]
    heading = ["<nats per token", ">all", *(f">{kind}" for kind in kinds)]
    return [*table(heading, rows, narrow=True), "", *wrap(finding(runs))]


def as_json(runs: Mapping[str, Run], options: argparse.Namespace) -> dict[str, object]:
    """Return settings, every step and the evaluations of each model."""
    models = {name: {"config": asdict(run.config), "parameters": run.parameters, "bytes_of_step": run.needed,
                     "steps": [asdict(step.progress) | {"seconds": step.seconds} for step in run.steps],
                     **asdict(run.finished)} for name, run in runs.items()}
    return {"backend": options.backend, "plot": options.plot, "models": models, "finding": finding(runs)}
