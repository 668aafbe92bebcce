"""Checkpoints: everything that a run needs to continue as if it had not been interrupted.

    FOLDER/step-000125/model.safetensors        parameters
                       optimiser.safetensors    running means, and the number of steps of each parameter
                       tokenizer.json           the vocabulary
                       training.json            settings, step, and the sha256 of the other files

A checkpoint appears under its name only when it is complete. Texts and dropout are drawn from the seed and the number of
the step, so the step is the position in the data and the random state.
"""

import dataclasses
import hashlib
import json
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
MODEL, OPTIMISER, TOKENIZER, ABOUT = "model.safetensors", "optimiser.safetensors", "tokenizer.json", "training.json"


def save(trainer: Trainer, folder: str | Path) -> Path:
    """Write a checkpoint into the folder and remove old ones; return its path.

    raises   InputError if it cannot be written; earlier checkpoints are then unchanged
    """
    to_bytes = require("safetensors.numpy", "a checkpoint").save
    stored = lambda arrays: to_bytes({name: np.ascontiguousarray(trainer.ops.to_numpy(trainer.ops.as_array(name, x)))
                                      for name, x in arrays.items()})
    files = {MODEL: stored(trainer.parameters), OPTIMISER: stored(trainer.optimiser.arrays()),
             TOKENIZER: trainer.corpus.vocabulary.tokenizer.to_str().encode()}
    path = Path(folder) / f"step-{trainer.done:06d}"
    make_folder(path.parent)
    if not path.exists():                                   # else this state was saved before
        write_folder(path, with_description(files, description(trainer)))
    for old in [*checkpoints(folder)[:-KEPT], *Path(folder).glob(".*.part")]:
        shutil.rmtree(old, ignore_errors=True)
    return path


def with_description(files: dict[str, bytes], described: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the files and training.json, which holds a description and the sha256 of each."""
    digests = {name: sha256(data) for name, data in files.items()}
    return files | {ABOUT: json.dumps({**described, "sha256": digests}, indent=1).encode()}


def make_folder(folder: Path) -> None:
    """Create a folder for checkpoints if it does not exist."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"folder {folder}", "a folder that can be created", f"an error: {error.strerror}") from error


def description(trainer: Trainer) -> dict[str, Any]:
    """Return what identifies a run and its position, as JSON."""
    return {"format": FORMAT, "engram_ref": __version__, "backend": trainer.ops.backend,
            "dtype": trainer.ops.dtype_name(trainer.parameters["embed.weight"]), "step": trainer.done,
            "corpus": fingerprint(trainer), "config": dataclasses.asdict(trainer.config)}


def fingerprint(trainer: Trainer) -> str:
    """Return a digest of the corpus: of its vocabulary's canonical map, a training batch and a held-out batch."""
    batches = trainer.corpus.batch(1, 4, 64), trainer.corpus.held_out(0, 4, 64)
    return sha256(trainer.corpus.vocabulary.digest.encode() + b"".join(batch.ids.tobytes() for batch in batches))


def sha256(data: bytes) -> str:
    """Return the hex digest of some bytes."""
    return hashlib.sha256(data).hexdigest()


def checkpoints(folder: str | Path) -> list[Path]:
    """Return the checkpoints in a folder, oldest first; other files and folders are ignored."""
    named = [(match, path) for path in Path(folder).glob("step-*") if (match := NAME.fullmatch(path.name))]
    return [path for _, path in sorted((int(match[1]), path) for match, path in named)]


def newest(folder: str | Path) -> Path:
    """Return the newest checkpoint of a folder, or the folder itself if it is a checkpoint."""
    if (Path(folder) / ABOUT).is_file():
        return Path(folder)
    found = checkpoints(folder)
    if not found:
        raise InputError(f"folder {folder}", "a folder with a checkpoint", "none", "engram-ref train --out writes them")
    return found[-1]


def read(path: Path, *names: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the description and some files of a checkpoint.

    raises   InputError for a missing, unreadable or changed file, or a checkpoint of a newer version
    """
    try:
        described = json.loads((path / ABOUT).read_bytes())
        files = {name: (path / name).read_bytes() for name in names}
        digests = {name: described["sha256"][name] for name in names}
        version = described["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"checkpoint {path}", "training.json and the files that it lists", f"an error: {error!r}",
                         "is it truncated?") from error
    if version != FORMAT:
        raise InputError(f"checkpoint {path}", f"format {FORMAT}", version, f"written by engram_ref "
                         f"{described.get('engram_ref')}")
    for name, data in files.items():
        check_sha256(f"checkpoint {path / name}", sha256(data), digests[name], "the file was changed or truncated")
    return described, files


def arrays_of(data: bytes) -> dict[str, np.ndarray]:
    """Return the arrays of a safetensors file."""
    return require("safetensors.numpy", "a checkpoint").load(data)


def restore(trainer: Trainer, path: Path) -> None:
    """Continue a run from a checkpoint.

    raises   InputError for a checkpoint of other settings, another corpus or dtype; the trainer is then unchanged
    """
    described, files = read(path, MODEL, OPTIMISER)
    check_same(path, described["config"], json.loads(json.dumps(dataclasses.asdict(trainer.config))))
    for field, value in description(trainer).items():
        if field in ("corpus", "dtype") and described.get(field) != value:
            raise InputError(f"checkpoint {path}", f"the {field} of this run", "a different one")
    trainer.optimiser.restore({name: trainer.ops.as_array(name, x) for name, x in arrays_of(files[OPTIMISER]).items()})
    trainer.parameters = {name: trainer.ops.as_array(name, x) for name, x in arrays_of(files[MODEL]).items()}
    trainer.done = described["step"]


def check_same(path: Path, found: Any, expected: Any, field: str = "config") -> None:
    """Raise InputError that names the first field in which two settings differ; the number of steps may grow."""
    if isinstance(found, Mapping) and isinstance(expected, Mapping):
        for name in [*expected, *found]:
            check_same(path, found.get(name), expected.get(name), f"{field}.{name}")
    elif found != expected:
        raise InputError(f"checkpoint {path}", f"{field} {expected}, as in this run", found)


def config_of(kind: Any, values: Any) -> Any:
    """Return the dataclass of this kind whose fields are given as JSON; None stays None."""
    kind = next(part for part in (get_args(kind) if get_origin(kind) is UnionType else (kind,)))
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
