"""Read the answers of a port from a folder, in the forms that any language can write.

    OP/TITLE/STAGE.f32.2x3x4.bin     raw little-endian numbers in C order, dtype and shape in the name
    OP/TITLE/STAGE.npy
    OP/TITLE/refused                 the port refused the inputs of this case
    *.safetensors                    keys "OP/TITLE=STAGE"
    answers.json                     {"OP/TITLE": {STAGE: {"dtype", "shape", "values"}}}, or {"refused": true}
    unsupported                      one group or op per line that the port does not support

Nothing is read before its size is known: at most 100,000 files and 1 GiB, no links, and every file as long as its name
or header states.
"""

import io
import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import ml_dtypes
import numpy as np

from engram_ref.errors import InputError
from engram_ref.oracle.folder import named_in_errors, parse_json
from engram_ref.oracle.structure import ANY, check_structure

DTYPES = {"f64": "<f8", "f32": "<f4", "f16": "<f2", "bf16": ml_dtypes.bfloat16, "i64": "<i8", "i32": "<i4",
          "u8": "u1", "bool": "?"}
"""Dtype word -> dtype; words in capitals, as in safetensors, and NumPy's names are accepted too."""

RAW_NAME = re.compile(r"(.+)\.([a-z]+[0-9]*)\.(scalar|[0-9]+(?:x[0-9]+)*)\.bin")
NUMBERS, ELEMENTS = {int, float}, {"U": {str}, "b": {bool, int}, "i": {int}, "u": {int}}
"""Types of the values in JSON: by default, and by kind of dtype."""

ENTRY = {"dtype": str, "shape": [int], "values": ANY}
MAX_FILES, MAX_BYTES = 100_000, 2**30
REFUSED, UNSUPPORTED = "refused", "unsupported"


@dataclass
class Answers:
    """The answers of a port.

    cases         case name -> stage -> array; a refused case has an empty array named "refused"
    unsupported   groups and ops that the port does not support
    """

    cases: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    unsupported: tuple[str, ...] = ()

    def add(self, case: str, stage: str, array: np.ndarray, place: object) -> None:
        """Store one answer; raise InputError if the stage already has one, or if a refused case has any."""
        stages = self.cases.setdefault(case, {})
        if stage in stages:
            raise InputError(f"file {place}", "one answer per stage", f"a second one to {case}={stage}")
        stages[stage] = array
        if REFUSED in stages and len(stages) > 1:
            raise InputError(f"file {place}", f"case {case} to be either answered or refused", "both")


def read_answers(folder: Path, kit: Path | None = None) -> Answers:
    """Read all answers in a folder.

    kit      folder of the kit, which must neither contain the answers nor be among them
    raises   InputError for a folder or file that cannot be read, is too large or truncated, or has an unknown name
    """
    root = folder.resolve()
    if kit is not None and (root == kit.resolve() or root in kit.resolve().parents or kit.resolve() in root.parents):
        raise InputError(f"results folder {folder}", "a folder outside the kit", "one that contains it or is inside it")
    answers = Answers()
    for path in files_of(folder):
        name = path.relative_to(folder)
        with named_in_errors(path, "complete answers", "is it truncated, or in a different format?", (InputError,)):
            if len(name.parts) == 3:
                stage, array = read_file(path)
                answers.add("/".join(name.parts[:2]), stage, array, path)
            elif len(name.parts) == 1 and path.suffix == ".safetensors":
                read_safetensors(path, answers)
            elif str(name) == "answers.json":
                read_json(path, answers)
            elif str(name) == UNSUPPORTED:
                lines = path.read_text(encoding="utf-8-sig").splitlines()
                answers.unsupported = tuple(filter(None, map(str.strip, lines)))
            else:
                raise InputError(f"file {path}", "OP/TITLE/STAGE.DTYPE.SHAPE.bin or .npy, *.safetensors, answers.json "
                                 "or unsupported", "a different name")
    return answers


def files_of(folder: Path) -> list[Path]:
    """Return all files of a folder, sorted; raise InputError for links, special files, too many files or bytes."""
    def failed(error: OSError) -> None:
        raise InputError(f"folder {error.filename}", "a readable folder", f"an error: {error.strerror}") from error

    if not folder.is_dir():
        raise InputError(f"results folder {folder}", "an existing folder", "a file" if folder.exists() else "none")
    files, total = [], 0
    for parent, folders, names in os.walk(folder, onerror=failed):
        for name in (*folders, *names):
            path = Path(parent, name)
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                raise InputError(f"file {path}", "a regular file", "a link or a special file")
        files += [Path(parent, name) for name in names]
        total += sum(path.stat().st_size for path in files[len(files) - len(names) :])
        if len(files) > MAX_FILES or total > MAX_BYTES:
            raise InputError(f"results folder {folder}", f"at most {MAX_FILES:,} files and {MAX_BYTES:,} bytes",
                             f"at least {len(files):,} files and {total:,} bytes")
    return sorted(files)


def read_file(path: Path) -> tuple[str, np.ndarray]:
    """Return stage and array of one file of a case."""
    if path.name == REFUSED:
        return REFUSED, np.zeros(0)
    if path.suffix == ".npy":
        stream = io.BytesIO(path.read_bytes())
        array = np.lib.format.read_array(stream, allow_pickle=False)
        if extra := len(stream.read()):
            raise InputError(f"file {path}", "one array", f"{extra:,} more bytes")
        return path.stem, array.view(ml_dtypes.bfloat16) if array.dtype.str[1:] == "V2" else array
    match = RAW_NAME.fullmatch(path.name)
    if match is None:
        raise InputError(f"file {path}", "STAGE.DTYPE.SHAPE.bin, such as output.f32.2x3.bin, or STAGE.npy",
                         "a different name")
    stage, word, sizes = match.groups()
    return stage, as_array(path.read_bytes(), word, [] if sizes == "scalar" else [*map(int, sizes.split("x"))], path)


def as_array(data: bytes, word: str, shape: list[int], path: Path) -> np.ndarray:
    """Return the array that raw bytes hold; raise InputError if their number does not match the shape."""
    dtype = dtype_of(word, path)
    if len(data) != math.prod(shape) * dtype.itemsize:
        raise InputError(f"file {path}", f"{math.prod(shape) * dtype.itemsize:,} bytes for {word} {shape}",
                         f"{len(data):,} bytes", "is it truncated?")
    return np.frombuffer(data, dtype).reshape(shape)


def dtype_of(word: str, path: Path) -> np.dtype:
    """Return the dtype of a word, such as "f32", "F32" or "float32"; raise InputError if it is unknown."""
    known = DTYPES | {np.dtype(dtype).name: dtype for dtype in DTYPES.values()}
    if word.lower() not in known:
        raise InputError(f"file {path}", f"a dtype among {', '.join(DTYPES)}", repr(word))
    return np.dtype(known[word.lower()])


def read_safetensors(path: Path, answers: Answers) -> None:
    """Read the tensors named "OP/TITLE=STAGE"."""
    from safetensors import deserialize

    for key, tensor in deserialize(path.read_bytes()):
        case, equals, stage = key.rpartition("=")
        if not equals:
            raise InputError(f"file {path}", "keys such as gate/edges=output", repr(key))
        answers.add(case, stage, as_array(bytes(tensor["data"]), tensor["dtype"], tensor["shape"], path), path)


def read_json(path: Path, answers: Answers) -> None:
    """Read answers.json; values are nested or flat lists of numbers, or text."""
    entries = parse_json(path.read_bytes(), path)
    check_structure(entries, {"*": {"*": ANY}}, f"file {path}")
    for case, stages in entries.items():
        for stage, entry in stages.items():
            if stage == REFUSED and entry is True:
                answers.add(case, REFUSED, np.zeros(0), path)
                continue
            entry = dict.fromkeys(ENTRY) | entry if isinstance(entry, dict) else entry
            check_structure(entry, ENTRY, f"file {path}", f"{case}.{stage}")
            dtype = np.dtype(str) if entry["dtype"] == "str" else dtype_of(entry["dtype"], path)
            values = np.array(entry["values"], object).reshape(-1)
            known = ELEMENTS.get(dtype.kind, NUMBERS)
            if len(values) != math.prod(entry["shape"]) or not {*map(type, values)} <= known:
                raise InputError(f"file {path}", f"{entry['dtype']} values of shape {entry['shape']} at {case}.{stage}",
                                 repr(entry["values"])[:60])
            with np.errstate(over="ignore"):                            # a number that is too large becomes infinite
                answers.add(case, stage, values.astype(dtype).reshape(entry["shape"]), path)
