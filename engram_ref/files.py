"""Writing files: completely or not at all."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from engram_ref.errors import InputError


def write_whole(path: Path, data: bytes) -> None:
    """Write a file completely or not at all: a temporary neighbour, then a rename.

    raises   InputError where the folder does not exist or cannot be written
    """
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise InputError(f"file {path}", "a folder that can be written", error.strerror) from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o666 & ~current_umask())  # mkstemp makes it private; a plain open() would not
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"file {path}", "a file that can be written", error.strerror) from error
    finally:
        Path(temporary).unlink(missing_ok=True)


def write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder of files completely or not at all: a temporary neighbour, then a rename.

    path     a folder that does not exist yet, or is empty
    raises   InputError where it holds files, is no folder, or cannot be written
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"folder {path}", "a new or an empty folder", "files" if path.is_dir() else "a file",
                         "name another one")
    parent = path.absolute().parent
    try:
        temporary = Path(tempfile.mkdtemp(dir=parent, prefix=f".{path.name}."))
    except OSError as error:
        raise InputError(f"folder {parent}", "a folder that can be written", error.strerror) from error
    try:
        for name, data in files.items():
            write_whole(temporary / name, data)
        os.chmod(temporary, 0o777 & ~current_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"folder {path}", "a folder that can be written", error.strerror) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def current_umask() -> int:
    """The permissions that new files do not get."""
    umask = os.umask(0)
    os.umask(umask)
    return umask
