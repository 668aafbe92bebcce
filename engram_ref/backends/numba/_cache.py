"""A disk cache for compiled kernels, used if ENGRAM_REF_JIT_CACHE names a folder.

Numba's own cache checks the source file of a kernel, but not the files of the functions it calls. It also keeps one
index per kernel, and two processes that add a signature at the same time can leave an entry that points to the machine
code of the other signature. Here, a subfolder is named after a digest of everything that the machine code depends on.
Every compiled signature is stored in a separate file, which is written atomically and identified by its name.
"""

import hashlib
import os
import pickle
import platform
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path

import llvmlite
import numba
import numpy as np
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from engram_ref.errors import InputError
from engram_ref.files import write_whole

VARIABLE = "ENGRAM_REF_JIT_CACHE"
SOURCES = ("backends/numba", "ops")         # folders that define the kernels and the constants in them


def digest_of(package: Path, facts: Iterable[str] = ()) -> str:
    """Digest of the Python sources of the kernels, by name and content, and of other facts."""
    digest = hashlib.sha256(repr(tuple(facts)).encode())
    for folder in SOURCES:
        for path in sorted((package / folder).rglob("*.py")):
            data = path.read_bytes()
            digest.update(f"\n{path.relative_to(package).as_posix()} {len(data)}\n".encode() + data)
    return digest.hexdigest()[:32]


def facts() -> list[str]:
    """Versions and Numba's settings. The processor is not included, since it is part of each file name."""
    versions = [sys.version, platform.machine(), numba.__version__, llvmlite.__version__, np.__version__]
    return versions + [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith("NUMBA_")]


def open_folder(path: str) -> Path:
    """Return the subfolder for the current sources, created if it is missing; raise InputError if it is unusable."""
    folder = Path(path).expanduser().absolute() / digest_of(Path(__file__).parents[2], facts())
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    except (OSError, ValueError) as error:
        raise InputError(VARIABLE, "a writable folder", f"{path}, which failed: {getattr(error, 'strerror', error)}",
                         "unset it to compile in every process") from error
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise InputError(VARIABLE, "a readable and writable folder", f"{folder}, which is not", "you can delete it")
    if hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
        raise InputError(VARIABLE, "a folder that belongs to you", f"{folder}, which belongs to a different user",
                         "choose a different folder, since its files are executed")
    return folder


class Kernels(NullCache):
    """The compiled signatures of one kernel, with the interface of Numba's own caches.

    A file contains a sha256 digest and a pickle of (signature, compiled result). Damaged files are replaced.
    """

    def __init__(self, kernel, folder: Path):
        self.folder, self.name = folder, f"{kernel.__module__.rpartition('.')[2]}.{kernel.__qualname__}"

    @property
    def cache_path(self) -> str:
        return str(self.folder)

    def path(self, signature, codegen) -> Path:
        """The file for one signature on this processor."""
        key = repr((self.name, str(signature), codegen.magic_tuple()))
        return self.folder / f"{self.name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.nbc"

    def load_overload(self, signature, context):
        """Return the compiled result, or None if it is not cached."""
        context.refresh()
        try:
            data = self.path(signature, context.codegen()).read_bytes()
        except OSError:
            return None
        if hashlib.sha256(data[32:]).digest() != data[:32]:
            return None
        stored, parts = pickle.loads(data[32:])
        return CompileResult._rebuild(context, *parts) if stored == signature else None

    def save_overload(self, signature, result) -> None:
        """Write the compiled result; if that fails, only warn, since the kernel works without it."""
        if result.library.has_dynamic_globals:
            return
        data = dumps((signature, result._reduce()))
        try:
            write_whole(self.path(signature, result.codegen), hashlib.sha256(data).digest() + data)
        except InputError as error:
            warnings.warn(f"a compiled kernel was not cached: {error}", stacklevel=2)


FOLDER = None if numba.config.DISABLE_JIT or not os.environ.get(VARIABLE) else open_folder(os.environ[VARIABLE])
"""The folder where this process caches compiled kernels, or None."""


def cached(dispatcher):
    """Add a cache to a kernel returned by njit, unless it is defined in a function: such names are not unique."""
    if FOLDER is not None and "<locals>" not in dispatcher.py_func.__qualname__:
        dispatcher._cache = Kernels(dispatcher.py_func, FOLDER)
    return dispatcher
