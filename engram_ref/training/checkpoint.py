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
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

import numpy as np

from engram_ref import __version__
from engram_ref.checks import annotations
from engram_ref.errors import InputError, check_sha256
from engram_ref.files import write_folder
from engram_ref.packages import require
from engram_ref.text.vocabulary import Vocabulary
from engram_ref.training.loop import Trainer
from engram_ref.training.presets import TrainingConfig

FORMAT = 1
KEPT = 2                        # newest checkpoints of a folder; older ones are removed
NAME = re.compile(r"step-(\d{6,})")
FILES = ("model.safetensors", "optimiser.safetensors", "tokenizer.json")


def save(trainer: Trainer, folder: str | Path) -> Path:
    """Write a checkpoint into the folder and remove old ones; return its path.

    raises   InputError if it cannot be written; earlier checkpoints are then unchanged
    """
    to_bytes = require("safetensors.numpy", "a checkpoint").save
    stored = lambda arrays: to_bytes({name: np.ascontiguousarray(trainer.ops.to_numpy(trainer.ops.as_array(name, x)))
                                      for name, x in arrays.items()})
    files = dict(zip(FILES, (stored(trainer.parameters), stored(trainer.optimiser.arrays()),
                             trainer.corpus.vocabulary.tokenizer.to_str().encode()), strict=True))
    described = description(trainer) | {"sha256": {name: sha256(data) for name, data in files.items()}}
    files["training.json"] = json.dumps(described, indent=1).encode()
    path = Path(folder) / f"step-{trainer.done:06d}"
    make_folder(path.parent)
    if not path.exists():                                   # else this state was saved before
        write_folder(path, files)
    for old in [*checkpoints(folder)[:-KEPT], *Path(folder).glob(".*.part")]:
        shutil.rmtree(old, ignore_errors=True)
    return path


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
    if (Path(folder) / "training.json").is_file():
        return Path(folder)
    found = checkpoints(folder)
    if not found:
        raise InputError(f"folder {folder}", "a folder with a checkpoint", "none", "engram-ref train --out writes them")
    return found[-1]


def read(path: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the description and the files of a checkpoint.

    raises   InputError for a missing, unreadable or changed file, or a checkpoint of a newer version
    """
    try:
        described = json.loads((path / "training.json").read_bytes())
        files = {name: (path / name).read_bytes() for name in FILES}
        digests = {name: described["sha256"][name] for name in FILES}
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
    described, files = read(path)
    check_same(path, described["config"], json.loads(json.dumps(dataclasses.asdict(trainer.config))))
    for field, value in description(trainer).items():
        if field in ("corpus", "dtype") and described.get(field) != value:
            raise InputError(f"checkpoint {path}", f"the {field} of this run", "a different one")
    trainer.optimiser.restore({name: trainer.ops.as_array(name, x) for name, x in arrays_of(files[FILES[1]]).items()})
    trainer.parameters = {name: trainer.ops.as_array(name, x) for name, x in arrays_of(files[FILES[0]]).items()}
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


def load(path: Path) -> tuple[TrainingConfig, dict[str, np.ndarray], Vocabulary]:
    """Return settings, parameters and vocabulary of a checkpoint."""
    described, files = read(path)
    try:
        config = config_of(TrainingConfig, described["config"])
    except (KeyError, TypeError) as error:
        raise InputError(f"checkpoint {path}", "the settings of a training run", f"an error: {error!r}") from error
    return config, arrays_of(files[FILES[0]]), Vocabulary.from_file(path / FILES[2])
