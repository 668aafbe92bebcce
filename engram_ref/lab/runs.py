"""Runs of an experiment: each is trained and measured once, writes one JSON file, and can be interrupted at any time.

    RESULTS/world-3500-engram-11.json       the result; a run that has one is skipped
    WORK/world-3500-engram-11/              checkpoint and measurements so far; removed when the result is written
"""

import dataclasses
import functools
import hashlib
import json
import multiprocessing
import platform
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from engram_ref import __version__
from engram_ref.addressing import Addressing
from engram_ref.backends import load
from engram_ref.errors import InputError
from engram_ref.files import write_whole
from engram_ref.lab.verdicts import Criterion
from engram_ref.model.accounting import summarise
from engram_ref.training.checkpoint import checkpoints, make_folder, restore, save
from engram_ref.training.corpus import Corpus, load_corpus
from engram_ref.training.loop import Trainer
from engram_ref.training.presets import TrainingConfig, training_preset

FORMAT = 1


@dataclass(frozen=True)
class Run:
    """One training run.

    config       its settings; the name is that of the variant, such as "engram"
    preset       name of the training preset of which the settings are a variation
    evaluate     steps after which the model is measured, ascending; the last is the end of the training
    seconds      expected per step, on one core
    addressing   the class that computes the rows
    """

    config: TrainingConfig
    preset: str
    evaluate: tuple[int, ...]
    seconds: float
    addressing: type[Addressing] = Addressing

    def __post_init__(self) -> None:
        if not self.evaluate or self.evaluate[-1] != self.config.steps or list(self.evaluate) != sorted(self.evaluate):
            raise InputError("evaluate", f"ascending steps, the last {self.config.steps}", self.evaluate)

    @property
    def key(self) -> str:
        """Name without the seed."""
        return f"{Path(self.config.corpus).stem}-{self.config.steps}-{self.config.name}"

    @property
    def name(self) -> str:
        """Name of its file."""
        return f"{self.key}-{self.config.seed}"

    def described(self) -> dict[str, Any]:
        """Return what identifies the run, as JSON."""
        settings = dataclasses.asdict(self.config)
        text = json.dumps([settings, self.evaluate, self.addressing.__name__], sort_keys=True)
        return {"format": FORMAT, "name": self.name, "seed": self.config.seed, "preset": self.preset,
                "config": changes(dataclasses.asdict(training_preset(self.preset)), settings),
                "addressing": self.addressing.__name__, "sha256": hashlib.sha256(text.encode()).hexdigest()}


@dataclass(frozen=True)
class Experiment:
    """Runs, most important first, what is measured in each, and the criteria."""

    name: str
    runs: tuple[Run, ...]
    measure: Callable[[Trainer], dict[str, Any]]
    criteria: tuple[Criterion, ...]


def changes(old: Any, new: Any, path: str = "") -> dict[str, Any]:
    """Return path -> new value for every field in which two nested dictionaries differ.

    >>> changes({"a": 1, "b": {"c": 2, "d": 3}}, {"a": 1, "b": {"c": 2, "d": 4}})
    {'b.d': 4}
    """
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return {} if old == new else {path: new}
    return {key: value for name in new
            for key, value in changes(old.get(name), new[name], f"{path}.{name}" if path else name).items()}


@functools.lru_cache(maxsize=1)
def corpus_of(name: str, vocab_size: int, seed: int) -> Corpus:
    """Return a corpus; the last one is kept."""
    return load_corpus(name, vocab_size, seed)


def trainer_of(run: Run, backend: str) -> Trainer:
    """Return the trainer of a run, before its first step."""
    config = run.config
    trainer = Trainer(config, corpus_of(config.corpus, config.vocab_size, config.seed), load(backend))
    if trainer.model.engram is not None:
        trainer.addressing = run.addressing(trainer.model.engram, trainer.corpus.vocabulary)
    return trainer


def perform(run: Run, measure: Callable[[Trainer], dict[str, Any]], results: Path, work: Path, backend: str,
            about: Mapping[str, Any]) -> dict[str, Any]:
    """Train and measure one run, or continue it, and write its result; return the result.

    about    further fields of the result, such as the command
    raises   InputError if the result or the checkpoint exists and belongs to different settings
    """
    path, part = results / f"{run.name}.json", work / run.name
    if path.exists():
        return read(run, path)
    make_folder(results)
    make_folder(part)
    trainer, state = trainer_of(run, backend), {"seconds": 0.0, "evaluations": []}
    if found := checkpoints(part):
        restore(trainer, found[-1])
        state = json.loads((part / "state.json").read_bytes())
        state["evaluations"] = [e for e in state["evaluations"] if e["step"] <= trainer.done]
    for step in (step for step in run.evaluate if step > trainer.done):
        started = time.perf_counter()
        while trainer.done < step:
            trainer.step()
        state["evaluations"].append({"step": step, **measure(trainer)})
        state["seconds"] += time.perf_counter() - started
        write_whole(part / "state.json", json.dumps(state).encode())       # before the checkpoint, which refers to it
        save(trainer, part)
    counted = summarise(trainer.model)
    result = {**run.described(), **about, "backend": backend, "versions": versions(backend),
              "parameters": {"total": counted.total, "active": counted.active},
              "seconds": round(state["seconds"], 1), "evaluations": state["evaluations"]}
    write_whole(path, as_text(result).encode())
    shutil.rmtree(part, ignore_errors=True)
    return result


def versions(backend: str) -> dict[str, str]:
    """Return the versions on which the numbers may depend."""
    names = ("numpy", "tokenizers", *(() if backend == "numpy" else (backend,)))
    return {"engram_ref": __version__, "python": platform.python_version()} | {name: version(name) for name in names}


def as_text(result: Mapping[str, Any]) -> str:
    """Return the JSON of a result, with a line per field and per evaluation."""
    fields = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in result.items() if name != "evaluations"]
    evaluations = ",\n".join(json.dumps(e) for e in result["evaluations"])
    return "{" + ",\n".join(fields) + ',\n"evaluations": [\n' + evaluations + "\n]}\n"


def read(run: Run, path: Path) -> dict[str, Any]:
    """Return the result of a run; raise InputError if the file is unreadable or belongs to different settings."""
    try:
        result = json.loads(path.read_bytes())
        found = {name: result[name] for name in run.described()}
        steps = tuple(e["step"] for e in result["evaluations"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"result {path}", "the JSON of a run", f"an error: {error!r}", "move it away") from error
    for field, value in run.described().items():
        if found[field] != value:
            raise InputError(f"result {path}", f"{field} {value}, as planned", found[field], "move it away")
    if steps != run.evaluate:
        raise InputError(f"result {path}", f"evaluations at steps {run.evaluate}", steps, "move it away")
    return result


def read_all(experiment: Experiment, results: Path) -> list[dict[str, Any]]:
    """Return the results of all runs of the plan that have one; raises InputError, as `read` does."""
    paths = [(run, results / f"{run.name}.json") for run in experiment.runs]
    return [read(run, path) for run, path in paths if path.exists()]


def by_seed(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Group results by seed, ascending; each group is a mapping from the name without seed to the result."""
    groups: dict[int, dict[str, Any]] = {}
    for result in results:
        groups.setdefault(result["seed"], {})[result["name"].rpartition("-")[0]] = result
    return [groups[seed] for seed in sorted(groups)]


def perform_all(experiment: Experiment, runs: Sequence[Run], results: Path, work: Path, backend: str, workers: int,
                about: Mapping[str, Any]) -> Iterator[tuple[Run, dict[str, Any] | InputError]]:
    """Perform runs in worker processes; yield each with its result, or with the error that ended it.

    raises   InputError if a process was killed; the runs that it performed can be continued
    """
    context = multiprocessing.get_context("spawn")                  # the number of threads is read at the start
    with ProcessPoolExecutor(workers, context, signal.signal, (signal.SIGINT, signal.SIG_DFL)) as pool:
        waiting = {pool.submit(perform, run, experiment.measure, results, work, backend, about): run for run in runs}
        for future in as_completed(waiting):
            try:
                yield waiting[future], future.result()
            except BrokenProcessPool as error:
                raise InputError("worker process", "one that ends by itself", "one that was killed",
                                 "is the memory full? the same command continues") from error
            except InputError as error:
                yield waiting[future], error
