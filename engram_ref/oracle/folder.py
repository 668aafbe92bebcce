"""Read a folder with a manifest, arrays, and SHA256SUMS: golden vectors or a kit.

SHA256SUMS lists the digest of every other file. Only these files are opened, after their sizes have been checked, and
never through a symbolic link.
"""

import hashlib
import json
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from engram_ref.errors import InputError
from engram_ref.oracle.encoding import from_json
from engram_ref.oracle.structure import HINT, INTEGERS_FIELDS, check_structure

MANIFEST, INTEGERS, SUMS = "manifest.json", "integers.json", "SHA256SUMS"
SHORT = "bfloat16.safetensors"
"""File of the float64 arrays whose elements are all numbers of bfloat16, stored as their 16 bits."""

MAX_BYTES, MAX_FILES = 2**27, 2**16
"""Largest number of bytes in all files together, and of files. A kit needs a sixth of them."""

Arrays = dict[str, np.ndarray]


def read_folder(folder: Path, field: str, version: int, structure: Mapping) -> tuple[dict, Arrays, str]:
    """Read and check a folder; return its manifest, the arrays of all files by key, and the sha256 of SHA256SUMS.

    field       field of the manifest with the version of its format, and the version that is expected
    structure   of the manifest
    raises      InputError for a file that is missing, a link, truncated or changed, for a manifest with invalid fields,
                for too large files, or for another version
    """
    path = folder / MANIFEST
    manifest: Any = parse_json(read_listed(folder, MANIFEST, MAX_BYTES), path)
    check_version(manifest, path, field, version)
    sums = read_listed(folder, SUMS, MAX_BYTES)
    contents, left = {}, MAX_BYTES
    for name, digest in listed(sums, folder / SUMS).items():
        contents[name] = read_listed(folder, name, left)
        left -= len(contents[name])
        if hashlib.sha256(contents[name]).hexdigest() != digest:
            raise InputError(f"file {folder / name}", "the digest in SHA256SUMS", "a different digest",
                             "was it changed or truncated?")
    check_structure(manifest, structure, f"file {path}")
    arrays: Arrays = {}
    for name in contents:
        if name == INTEGERS or ("/" not in name and name.endswith(".safetensors")):
            arrays |= as_arrays(contents[name], folder / name)
    return manifest, arrays, hashlib.sha256(sums).hexdigest()


def check_version(manifest: Any, path: Path, field: str, version: int) -> None:
    """Raise InputError unless the manifest has the expected version."""
    found = manifest.get(field) if isinstance(manifest, dict) else None
    if type(found) is not int:
        raise InputError(f"file {path}", f"a manifest with a number as {field}", "none", HINT)
    if found != version:
        raise InputError(f"file {path}", f"{field} format {version}, which this engram-ref reads",
                         f"format {found}",
                         "pip install -U engram_ref" if found > version else HINT)


def sums_of(files: Mapping[str, bytes]) -> bytes:
    """Return SHA256SUMS of {path: content}."""
    return "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files)).encode()


def listed(sums: bytes, path: Path) -> dict[str, str]:
    """Return {path: digest} of SHA256SUMS; raise InputError for invalid lines, or if a file that is read is missing."""
    lines = sums.decode(errors="replace").splitlines()
    digests = {line[66:]: line[:64] for line in lines if re.fullmatch(r"[0-9a-f]{64}  [^\0\\]+", line)}
    if len(digests) != len(lines) or len(lines) > MAX_FILES:
        raise InputError(f"file {path}", f"at most {MAX_FILES} lines with a digest and a path",
                         f"{len(lines)} lines, {len(digests)} of them valid", HINT)
    for name in (MANIFEST, INTEGERS):
        if name not in digests:
            raise InputError(f"file {path}", f"a digest of {name}", "none", HINT)
    return digests


def read_listed(folder: Path, name: str, limit: int) -> bytes:
    """Return the content of a regular file in a folder; raise InputError for a larger file, a link, or another path."""
    path, parts = folder / name, PurePosixPath(name).parts
    if not parts or ".." in parts or PurePosixPath(name).is_absolute():
        raise InputError(f"file {folder / SUMS}", "paths in the same folder", repr(name))
    try:
        for i in range(1, len(parts) + 1):
            status = os.lstat(folder.joinpath(*parts[:i]))
            if stat.S_ISLNK(status.st_mode):
                raise InputError(f"file {path}", "a path without symbolic links", "one at " + "/".join(parts[:i]))
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"file {path}", "a regular file", "a folder or a special file")
        if status.st_size > limit:
            raise InputError(f"file {path}", f"at most {limit:,} bytes", f"{status.st_size:,}",
                             "was it changed after the kit was written?")
        return path.read_bytes()
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"file {path}", "a readable file", f"an error: {getattr(error, 'strerror', error)}",
                         HINT) from error


def as_arrays(data: bytes, path: Path) -> Arrays:
    """Return the arrays of one file, JSON or safetensors."""
    if path.suffix == ".json":
        entries = parse_json(data, path)
        check_structure(entries, INTEGERS_FIELDS, f"file {path}")
        with named_in_errors(path):
            return {key: from_json(entry) for key, entry in entries.items()}
    from safetensors.numpy import load

    with named_in_errors(path):
        arrays = load(data)
        return {key: lengthened(array) for key, array in arrays.items()} if path.name == SHORT else arrays


def lengthened(bits: np.ndarray) -> np.ndarray:
    """Return numbers of bfloat16, given as uint16 [...], in float64."""
    return np.asarray(np.asarray(bits, dtype=np.uint32) << 16, dtype=np.uint32).view(np.float32).astype(np.float64)


@contextmanager
def named_in_errors(path: Path, expected: str = "complete, valid data", hint: str = HINT,
                    named: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Convert any error about a file's content to an InputError that names the file; those of `named` already do."""
    try:
        yield
    except named:
        raise
    except Exception as error:      # numpy, safetensors, json and the configurations raise different types
        raise InputError(f"file {path}", expected, f"an error: {error}", hint) from error


def parse_json(data: bytes, path: Path) -> object:
    """Parse JSON; raise an InputError that names the file if the JSON is invalid or repeats a name in an object."""
    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len(named := dict(pairs)) < len(pairs):
            raise ValueError(f"{Counter(name for name, _ in pairs).most_common(1)[0][0]!r} is repeated")
        return named

    try:
        return json.loads(data, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise InputError(f"file {path}", "valid JSON", f"an error: {error}", "is it truncated?") from error
