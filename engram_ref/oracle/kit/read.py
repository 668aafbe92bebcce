"""Read a kit, and refuse one that is incomplete, changed, or of another version.

Only files that the manifest lists are opened, after their sizes have been compared with it, and never through a
symbolic link.
"""

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from engram_ref.errors import InputError
from engram_ref.oracle.cases import Vectors
from engram_ref.oracle.structure import HINT, KIT_FIELDS, check_structure
from engram_ref.oracle.vectors import INTEGERS, MANIFEST, as_arrays, as_vectors, changed, parse_json

KIT_VERSION = 1
ARRAYS, SUMS = "arrays.safetensors", "SHA256SUMS"
MAX_BYTES, MAX_FILES = 2**27, 2**16
"""Limits on a kit: bytes in all files, and in the manifest; number of files. A whole kit needs a tenth of them."""


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

    raises   InputError for a file that is missing, a link, truncated or changed, for a manifest with invalid fields or
             too large announcements, or for a kit of another version
    """
    folder = Path(folder)
    data = read_listed(folder, MANIFEST, MAX_BYTES)
    manifest = parse_json(data, folder / MANIFEST)
    check_manifest(manifest, folder / MANIFEST)
    contents = {}
    for name, file in manifest["files"].items():
        contents[name] = read_listed(folder, name, file["bytes"])
        if len(contents[name]) != file["bytes"] or hashlib.sha256(contents[name]).hexdigest() != file["sha256"]:
            raise changed(folder / name)
    sums = sums_of(manifest["files"], data)
    if read_listed(folder, SUMS, len(sums)) != sums:
        raise changed(folder / SUMS)
    arrays = as_arrays(contents[ARRAYS], folder / ARRAYS) | as_arrays(contents[INTEGERS], folder / INTEGERS)
    return Kit(as_vectors(manifest, arrays, folder / MANIFEST), hashlib.sha256(sums).hexdigest(), manifest["dialect"])


def check_manifest(manifest: Any, path: Path) -> None:
    """Raise InputError unless the manifest is one of this version, with the documented fields and acceptable files."""
    version = manifest.get("kit") if isinstance(manifest, dict) else None
    if type(version) is not int:
        raise InputError(f"file {path}", "the manifest of a kit", "none", HINT)
    if version != KIT_VERSION:
        raise InputError(f"file {path}", f"a kit of version {KIT_VERSION}", f"version {version}",
                         "pip install -U engram_ref" if version > KIT_VERSION else HINT)
    check_structure(manifest, KIT_FIELDS, f"file {path}")
    files = manifest["files"]
    for name in (ARRAYS, INTEGERS):
        if name not in files:
            raise InputError(f"file {path}", f"the file {name} in the list of files", "none", HINT)
    total = sum(max(file["bytes"], 0) for file in files.values())
    if len(files) > MAX_FILES or total > MAX_BYTES:
        raise InputError(f"file {path}", f"at most {MAX_FILES} files with {MAX_BYTES:,} bytes in total",
                         f"{len(files)} files with {total:,} bytes")


def read_listed(folder: Path, name: str, limit: int) -> bytes:
    """Return the content of a regular file in a folder; raise InputError for a larger file, a link, or another path."""
    path = folder / name
    parts = PurePosixPath(name).parts
    if not parts or ".." in parts or "\\" in name or "\0" in name or PurePosixPath(name).is_absolute():
        raise InputError(f"file {folder / MANIFEST}", "names of files in the same folder", repr(name))
    try:
        for i in range(1, len(parts) + 1):
            status = os.lstat(folder.joinpath(*parts[:i]))
            if stat.S_ISLNK(status.st_mode):
                raise InputError(f"file {path}", "a path without symbolic links", "one at " + "/".join(parts[:i]))
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"file {path}", "a regular file", "something else")
        if status.st_size > limit:
            raise InputError(f"file {path}", f"at most {limit:,} bytes", f"{status.st_size:,}",
                             "was it changed after the kit was written?")
        return path.read_bytes()
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"file {path}", "a readable file of a kit", f"an error: {getattr(error, 'strerror', error)}",
                         HINT) from error


def sums_of(files: Mapping[str, Mapping[str, Any]], manifest: bytes) -> bytes:
    """Return SHA256SUMS: the digest of every other file, in the form that `sha256sum -c` reads."""
    digests = {name: file["sha256"] for name, file in files.items()} | {MANIFEST: hashlib.sha256(manifest).hexdigest()}
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests)).encode()
