"""Checkpoints: everything that a run needs to continue as if it had not been interrupted.

    FOLDER/step-000125/model.safetensors        parameters
                       optimiser.safetensors    running means, and the number of steps of each parameter
                       tokenizer.json           the vocabulary
                       training.json            settings, step, and the sha256 of the other files

A checkpoint appears under its name only when it is complete. Texts and dropout are drawn from the seed and the number
of the step, so the step is the position in the data and the random state.
"""

import dataclasses
import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

import numpy as np

from engram_ref import __version__
from engram_ref.addressing import Addressing
from engram_ref.checks import annotations
from engram_ref.errors import InputError, check_sha256
from engram_ref.files import write_folder
from engram_ref.model import tree
from engram_ref.model_config import ModelConfig
from engram_ref.packages import require
from engram_ref.text.vocabulary import Vocabulary
from engram_ref.training.loop import Trainer
from engram_ref.training.presets import TrainingConfig, fitted

FORMAT = 1
SHIPPED = Path(__file__).parent.parent / "data" / "trained"
KEPT = 2                        # newest checkpoints of a folder; older ones are removed
NAME = re.compile(r"step-(\d{6,})")
UNFINISHED = f".{'[0-9a-f]' * 16}.part"         # what a killed process leaves: see files.temporary_name
MODEL, OPTIMISER, TOKENIZER, ABOUT = "model.safetensors", "optimiser.safetensors", "tokenizer.json", "training.json"


def save(trainer: Trainer, folder: str | Path) -> Path:
    """Write a checkpoint into the folder and remove old ones; return its path.

    raises   InputError as check_folder, or if it cannot be written; earlier checkpoints are then unchanged
    """
    check_folder(trainer, folder)
    to_bytes = require("safetensors.numpy", "a checkpoint").save
    stored = lambda arrays: to_bytes({name: np.ascontiguousarray(trainer.ops.to_numpy(trainer.ops.as_array(name, x)))
                                      for name, x in arrays.items()})
    path = Path(folder) / f"step-{trainer.done:06d}"
    if path not in checkpoints(folder):                     # else this state was saved before
        files = {MODEL: stored(trainer.parameters), OPTIMISER: stored(trainer.optimiser.arrays()),
                 TOKENIZER: trainer.corpus.vocabulary.tokenizer.to_str().encode()}
        write_folder(path, with_description(files, description(trainer)))
    for old in [*checkpoints(folder)[:-KEPT], *Path(folder).glob(UNFINISHED)]:
        shutil.rmtree(old, ignore_errors=True)
    return path


def with_description(files: dict[str, bytes], described: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the files and training.json, which holds a description and the sha256 of each, and of itself."""
    digests = {name: sha256(data) for name, data in files.items()} | {ABOUT: sha256(json.dumps(described).encode())}
    return files | {ABOUT: json.dumps({**described, "sha256": digests}, indent=1).encode()}


def make_folder(folder: str | Path) -> None:
    """Create a folder if it does not exist; raise InputError if that is impossible."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise InputError(f"folder {folder}", "a folder that can be created", f"an error: {error}") from error


def check_folder(trainer: Trainer, folder: str | Path) -> None:
    """Create a folder for checkpoints if it does not exist.

    raises   InputError if it cannot be created, or holds checkpoints of a different run or of later steps
    """
    make_folder(folder)
    if found := checkpoints(folder):
        described, _ = read(found[-1])
        check_run(found[-1], described, trainer)
        if described["step"] > trainer.done:
            raise InputError(f"folder {folder}", f"no checkpoint after step {trainer.done}", found[-1].name,
                             "continue that run, or use a new folder")


def description(trainer: Trainer) -> dict[str, Any]:
    """Return what identifies a run and its position, as JSON."""
    return {"format": FORMAT, "engram_ref": __version__, "backend": trainer.ops.backend,
            "dtype": trainer.ops.dtype_name(trainer.parameters["embed.weight"]), "step": trainer.done,
            "corpus": fingerprint(trainer), "config": dataclasses.asdict(trainer.config)}


def fingerprint(trainer: Trainer) -> str:
    """Return a digest of the corpus: of its vocabulary, its text and its first training batch."""
    corpus, config = trainer.corpus, trainer.config
    texts = corpus.vocabulary.digest, corpus.vocabulary.tokenizer.to_str(), corpus.digest
    return sha256("\n".join(texts).encode() + corpus.batch(1, config.batch, config.length).ids.tobytes())


def sha256(data: bytes) -> str:
    """Return the hex digest of some bytes."""
    return hashlib.sha256(data).hexdigest()


def checkpoints(folder: str | Path) -> list[Path]:
    """Return the checkpoints in a folder, oldest first; other files and folders are ignored."""
    named = {path: match for path in Path(folder).glob("step-*")
             if (match := NAME.fullmatch(path.name)) and os.path.isdir(path)}
    return sorted(named, key=lambda path: int(named[path][1]))


def newest(folder: str | Path) -> Path:
    """Return the newest checkpoint of a folder, or the folder itself if it is a checkpoint."""
    if os.path.isfile(Path(folder) / ABOUT):
        return Path(folder)
    found = checkpoints(folder) if os.path.isdir(folder) else []
    if not found:
        raise InputError(f"folder {folder}", "a folder with a checkpoint", "none", "engram-ref train --out writes them")
    return found[-1]


def read(path: Path, *names: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the description and some files of a checkpoint.

    raises   InputError for a missing, unreadable or changed file, or a checkpoint of a newer version
    """
    try:
        described = json.loads((path / ABOUT).read_bytes())
        if described["format"] != FORMAT:
            raise InputError(f"checkpoint {path}", f"format {FORMAT}", described["format"],
                             f"written by engram_ref {described.get('engram_ref')}")
        digests = described.pop("sha256")
        files = {name: (path / name).read_bytes() for name in names}
        found = {ABOUT: sha256(json.dumps(described).encode())} | {name: sha256(data) for name, data in files.items()}
        for name, digest in found.items():
            check_sha256(f"checkpoint {path / name}", digest, digests[name], "the file was changed or truncated")
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"checkpoint {path}", "training.json and the files that it lists", f"an error: {error!r}",
                         "is it truncated?") from error
    return described, files


def arrays_of(data: bytes) -> dict[str, np.ndarray]:
    """Return the arrays of a safetensors file, in alphabetical order: the library's order is random."""
    return dict(sorted(require("safetensors.numpy", "a checkpoint").load(data).items()))


def restore(trainer: Trainer, path: Path) -> None:
    """Continue a run from a checkpoint.

    raises   InputError for a checkpoint of other settings, another corpus or dtype; the trainer is then unchanged
    """
    described, files = read(path, MODEL, OPTIMISER)
    check_run(path, described, trainer)
    parameters, state = ({key: trainer.ops.as_array(key, x) for key, x in arrays_of(files[name]).items()}
                         for name in (MODEL, OPTIMISER))
    tree.check(parameters, trainer.model, trainer.ops, tables=True)
    trainer.optimiser.restore(state)
    trainer.parameters = {name: parameters[name] for name in trainer.parameters}    # in whose order sums are added
    trainer.done = described["step"]


def check_run(path: Path, described: Mapping[str, Any], trainer: Trainer) -> None:
    """Raise InputError unless a checkpoint is of this run; its backend may be different."""
    expected = json.loads(json.dumps(description(trainer)))
    for field in ("config", "dtype"):
        check_same(path, described[field], expected[field], field)
    check_sha256(f"checkpoint {path}", described["corpus"], expected["corpus"], "was the text changed?",
                 "a corpus with ")


def check_same(path: Path, found: Any, expected: Any, field: str) -> None:
    """Raise InputError that names the first field in which two settings differ; the number of steps may grow."""
    if isinstance(found, Mapping) and isinstance(expected, Mapping):
        for name in [*expected, *found]:
            check_same(path, found.get(name), expected.get(name), f"{field}.{name}")
    elif found != expected and not (field == "config.steps" and found < expected):
        raise InputError(f"checkpoint {path}", f"{field} {expected}, as in this run", found)


def config_of(kind: Any, values: Any) -> Any:
    """Return the dataclass of this kind whose fields are given as JSON; None stays None."""
    kind = get_args(kind)[0] if get_origin(kind) is UnionType else kind
    if values is None or not dataclasses.is_dataclass(kind):
        return values
    return kind(**{name: config_of(form, values[name]) for name, form in annotations(kind).items()})


@dataclass(frozen=True)
class Trained:
    """A trained model with what is needed to run it.

    about        the content of training.json
    config       the settings of its training
    model        its configuration
    parameters   name -> array, float32 or float64
    addressing   None without Engram
    """

    about: Mapping[str, Any]
    config: TrainingConfig
    model: ModelConfig
    parameters: Mapping[str, np.ndarray]
    vocabulary: Vocabulary
    addressing: Addressing | None


def load(path: Path) -> Trained:
    """Return the model of a checkpoint; 16-bit parameters become float32.

    raises   InputError for a missing or changed file, or parameters that do not match the settings
    """
    about, files = read(path, MODEL, TOKENIZER)
    try:
        config = config_of(TrainingConfig, about["config"])
    except (KeyError, TypeError) as error:
        raise InputError(f"checkpoint {path}", "the settings of a training run", f"an error: {error!r}") from error
    vocabulary = Vocabulary.from_file(path / TOKENIZER)
    model = fitted(config.model, vocabulary)
    parameters = {name: array.astype(np.float32) if array.dtype == np.float16 else array
                  for name, array in arrays_of(files[MODEL]).items()}
    tree.check(parameters, model, tables=True)
    return Trained(about, config, model, parameters, vocabulary,
                   None if model.engram is None else Addressing(model.engram, vocabulary))


def load_trained() -> Trained:
    """Return the small trained model that ships with this package; its `about` states its corpus and licence.

    raises   InputError if its files are missing or changed
    """
    if not (SHIPPED / ABOUT).is_file():
        raise InputError("trained model", f"the files in {SHIPPED}", "none", "reinstall engram_ref")
    return load(SHIPPED)
