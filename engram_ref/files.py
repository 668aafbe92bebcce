"""Writing files: completely or not at all."""

import os
import tempfile
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
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp makes it private; a plain open() would not
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"file {path}", "a file that can be written", error.strerror) from error
    finally:
        Path(temporary).unlink(missing_ok=True)
