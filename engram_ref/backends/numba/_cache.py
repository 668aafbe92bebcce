"""Compiled kernels on disk, if ENGRAM_REF_JIT_CACHE names a folder for them.

Numba's own cache checks the file that a kernel is in, but not the files of the functions it calls. It also keeps one
index per kernel, and two processes that add a signature at the same time can leave an entry that points to the machine
code of the other signature. Here a subfolder is named after a digest of everything the machine code depends on, and
every compiled signature is a file of its own that is written whole and found by its name.
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
SOURCES = ("backends/numba", "ops")
"""Where kernels and the constants in them come from, below the package."""


def digest_of(package: Path, facts: Iterable[str] = ()) -> str:
    """A digest of the Python sources that kernels are made from, by name and content, and of other facts."""
    found = hashlib.sha256(repr(tuple(facts)).encode())
    for folder in SOURCES:
        for path in sorted((package / folder).rglob("*.py")):
            data = path.read_bytes()
            found.update(f"\n{path.relative_to(package).as_posix()} {len(data)}\n".encode() + data)
    return found.hexdigest()[:32]


def facts() -> list[str]:
    """Versions, and settings of Numba. The processor is not among them: it is part of a file's name."""
    versions = [sys.version, platform.machine(), numba.__version__, llvmlite.__version__, np.__version__]
    return versions + [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith("NUMBA_")]


def open_folder(named: str) -> Path:
    """The subfolder of the named folder for these sources, made if it is missing.

    raises   InputError if it cannot be made or written to, or if it belongs to another user: files in it are executed
    """
    folder = Path(named).absolute() / digest_of(Path(__file__).parents[2], facts())
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    except (OSError, ValueError) as error:
        raise InputError(VARIABLE, "a folder that can be written", f"{named}: {getattr(error, 'strerror', error)}",
                         "unset it to compile in every process") from error
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise InputError(VARIABLE, "a folder that can be read and written", str(folder), "its files may be deleted")
    if hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
        raise InputError(VARIABLE, "a folder of the user who runs this, since its files are executed",
                         f"{folder}, which belongs to another user", "name another folder")
    return folder


class Kernels(NullCache):
    """The compiled signatures of one kernel, in the form of Numba's own caches.

    A file holds a sha256 and a pickle of (signature, compiled result). One that is damaged is compiled again.
    """

    def __init__(self, kernel, folder: Path):
        self.folder, self.name = folder, f"{kernel.__module__.rpartition('.')[2]}.{kernel.__qualname__}"

    @property
    def cache_path(self) -> str:
        return str(self.folder)

    def path(self, signature, codegen) -> Path:
        """The file of one signature on this processor."""
        key = repr((self.name, str(signature), codegen.magic_tuple()))
        return self.folder / f"{self.name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.nbc"

    def load_overload(self, signature, context):
        """The compiled result, or None if there is none."""
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
        """Write the compiled result; a warning if that fails, since the kernel works without it."""
        if result.library.has_dynamic_globals:
            return
        data = dumps((signature, result._reduce()))
        try:
            write_whole(self.path(signature, result.codegen), hashlib.sha256(data).digest() + data)
        except InputError as error:
            warnings.warn(f"a compiled kernel was not cached: {error}", stacklevel=2)


FOLDER = None if numba.config.DISABLE_JIT or not os.environ.get(VARIABLE) else open_folder(os.environ[VARIABLE])
"""Where this process keeps compiled kernels; None: nowhere."""


def cached(dispatcher):
    """A kernel, as njit returns it, with its cache; kernels defined in a function have none, as their names repeat."""
    if FOLDER is not None and "<locals>" not in dispatcher.py_func.__qualname__:
        dispatcher._cache = Kernels(dispatcher.py_func, FOLDER)
    return dispatcher
