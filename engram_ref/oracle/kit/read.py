"""Read a kit, and refuse one that is incomplete, changed, or of another version.

SHA256SUMS lists the digest of every other file. Only these files are opened, after their sizes have been checked, and
never through a symbolic link.
"""

import hashlib
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from engram_ref.errors import InputError
from engram_ref.oracle.cases import Vectors
from engram_ref.oracle.structure import HINT, KIT_FIELDS, check_structure
from engram_ref.oracle.vectors import INTEGERS, MANIFEST, as_arrays, as_vectors, changed, parse_json

KIT_VERSION = 2
"""Format of a kit; it increases with every change that an older reader does not understand."""

ARRAYS, SUMS = "arrays.safetensors", "SHA256SUMS"
MAX_BYTES, MAX_FILES = 2**27, 2**16
"""Largest number of bytes in all files together, and of files. A kit needs a sixth of them."""


@dataclass(frozen=True)
class Kit:
    """The content of a kit.

    vectors   its cases, with noise
    digest    sha256 of SHA256SUMS, which identifies the kit
    dialect   the dialect that it was written for; empty: all
    """

    vectors: Vectors
    digest: str
    dialect: str


def read_kit(folder: Path) -> Kit:
    """Read and check a kit.

    raises   InputError for a file that is missing, a link, truncated or changed, for a manifest with invalid fields,
             for too large files, or for a kit of another version
    """
    folder = Path(folder)
    manifest = parse_json(read_listed(folder, MANIFEST, MAX_BYTES), folder / MANIFEST)
    check_version(manifest, folder / MANIFEST)
    sums = read_listed(folder, SUMS, MAX_BYTES)
    contents, left = {}, MAX_BYTES
    for name, digest in listed(sums, folder / SUMS).items():
        contents[name] = read_listed(folder, name, left)
        left -= len(contents[name])
        if hashlib.sha256(contents[name]).hexdigest() != digest:
            raise changed(folder / name)
    check_structure(manifest, KIT_FIELDS, f"file {folder / MANIFEST}")
    arrays = as_arrays(contents[ARRAYS], folder / ARRAYS) | as_arrays(contents[INTEGERS], folder / INTEGERS)
    return Kit(as_vectors(manifest, arrays, folder / MANIFEST), hashlib.sha256(sums).hexdigest(), manifest["dialect"])


def check_version(manifest: Any, path: Path) -> None:
    """Raise InputError unless the manifest is that of a kit of this version."""
    version = manifest.get("kit") if isinstance(manifest, dict) else None
    if type(version) is not int:
        raise InputError(f"file {path}", "the manifest of a kit", "none", HINT)
    if version != KIT_VERSION:
        raise InputError(f"file {path}", f"kit format {KIT_VERSION}, which this engram-ref reads", f"format {version}",
                         "pip install -U engram_ref" if version > KIT_VERSION else HINT)


def listed(sums: bytes, path: Path) -> dict[str, str]:
    """Return {path: digest} of SHA256SUMS; raise InputError for invalid lines, or if a file that is read is missing."""
    lines = sums.decode(errors="replace").splitlines()
    digests = {line[66:]: line[:64] for line in lines if re.fullmatch(r"[0-9a-f]{64}  [^\0\\]+", line)}
    if len(digests) != len(lines) or len(lines) > MAX_FILES:
        raise InputError(f"file {path}", f"at most {MAX_FILES} lines with a digest and a path",
                         f"{len(lines)} lines, {len(digests)} of them valid", HINT)
    for name in (MANIFEST, ARRAYS, INTEGERS):
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
        raise InputError(f"file {path}", "a readable file of a kit", f"an error: {getattr(error, 'strerror', error)}",
                         HINT) from error
