"""One process per model in training, what each reports, and how all of them end.

A process uses one thread, so that two models on two cores do not slow each other down. Ctrl-C reaches only the command,
which ends its processes; and a process ends when nobody reads its reports.
"""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass
from multiprocessing import connection, resource_tracker
from pathlib import Path

from engram_ref.backends import load
from engram_ref.errors import InputError
from engram_ref.training import checkpoint
from engram_ref.training.corpus import Corpus
from engram_ref.training.evaluation import BATCHES, Evaluation, held_out, predictions, summarised
from engram_ref.training.loop import Progress, Trainer
from engram_ref.training.presets import TrainingConfig

EVERY = 25              # steps between checkpoints, and between lines of progress
PATIENCE = 2.0          # seconds in which a process may end its step


@dataclass(frozen=True)
class Job:
    """What a process trains; `folder` is where its checkpoints are, None: nowhere."""

    config: TrainingConfig
    corpus: Corpus
    backend: str
    folder: Path | None
    resume: bool


@dataclass(frozen=True)
class Started:
    """Bytes that a step needs, and the number of steps that the checkpoint had taken."""

    needed: int
    done: int


@dataclass(frozen=True)
class Step:
    """One step and its duration."""

    progress: Progress
    seconds: float


@dataclass(frozen=True)
class Finished:
    """The trained model on held-out text, and on the texts of its last steps."""

    held_out: Evaluation
    trained_on: Evaluation


Report = Started | Step | Finished


def train(job: Job) -> Iterator[Report]:
    """Train a model and yield reports; with a folder, save checkpoints, the first one before training."""
    config, corpus = job.config, job.corpus
    trainer = Trainer(config, corpus, load(job.backend))
    if job.resume and checkpoint.checkpoints(job.folder):
        checkpoint.restore(trainer, checkpoint.newest(job.folder))
    save = (lambda: None) if job.folder is None else (lambda: checkpoint.save(trainer, job.folder))
    save()
    yield Started(trainer.needed, trainer.done)
    while trainer.done < config.steps:
        started = time.perf_counter()
        progress = trainer.step()
        seconds = time.perf_counter() - started
        if trainer.done % EVERY == 0 or trainer.done == config.steps:
            save()
        yield Step(progress, seconds)
    seen = (corpus.batch(step, config.batch, config.length)
            for step in range(max(1, config.steps - BATCHES + 1), config.steps + 1))
    evaluated = (summarised(predictions(trainer.parameters, trainer.model, trainer.addressing, batches, trainer.ops))
                 for batches in (held_out(corpus, config.length), seen))
    yield Finished(*evaluated)


def send_reports(job: Job, writer: connection.Connection) -> None:
    """Train in this process, and send every report, or the error that ends the training."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))       # so that a save in progress removes its files
    threads = nullcontext
    with suppress(BrokenPipeError):                             # the command has ended
        try:
            if job.backend == "numba":
                load(job.backend)
                from engram_ref.backends.numba import threads
            with threads(1):
                for report in train(job):
                    writer.send(report)
        except Exception as error:
            writer.send(error)


def train_all(jobs: Mapping[str, Job]) -> Iterator[tuple[str, Report]]:
    """Train each job in a process of its own, and yield (name, report) as they arrive.

    Close the iterator to end the processes early. Raises the first error of any process.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")               # for the processes; this one computes nothing
    context = multiprocessing.get_context("spawn")
    readers: dict[connection.Connection, str] = {}
    processes = {}
    try:
        for name, job in jobs.items():
            reader, writer = context.Pipe(duplex=False)
            readers[reader] = name
            with closing(writer):
                processes[name] = context.Process(target=send_reports, args=(job, writer), daemon=True)
                start_without_interrupts(processes[name])
        while readers:
            for reader in connection.wait(list(readers)):
                name = readers[reader]
                report = received(reader, processes[name])
                if isinstance(report, Finished):
                    del readers[reader]
                yield name, report
    finally:
        end([process for process in processes.values() if process.pid is not None])


def received(reader: connection.Connection, process: multiprocessing.Process) -> Report:
    """Return the next report of a process, or raise its error."""
    try:
        report = reader.recv()
    except EOFError:
        process.join()
        raise InputError("training", "a process that runs to its end", f"exit code {process.exitcode}",
                         "was it killed, perhaps because memory is full?") from None
    if isinstance(report, Exception):
        raise report
    return report


def start_without_interrupts(process: multiprocessing.Process) -> None:
    """Start a process that ignores Ctrl-C from its first moment, because it inherits the blocked signal."""
    resource_tracker.ensure_running()                   # else starting the process unblocks the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end(processes: list[multiprocessing.Process]) -> None:
    """End all processes and wait for them; kill those that do not end soon."""
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + PATIENCE
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        process.kill()
        process.join()
