"""Write files completely or not at all. No other module writes files.

Data is written to a temporary file in the same folder, which then replaces the target. Symbolic links are followed and
kept. A replaced file keeps its mode and, if the system permits it, its owner.
"""

import os
import secrets
import shutil
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from engram_ref.checks import check_kind
from engram_ref.errors import InputError

FILE_TYPES = {stat.S_IFREG: "a file", stat.S_IFDIR: "a folder", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
              stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
"""File type -> its name in messages."""


def check_file(path: str | Path, argument: str = "") -> Path:
    """Resolve the links in a path and return the file; raise InputError if `write_whole` cannot write it.

    argument   name of the argument, for messages; default: "file PATH"
    returns    absolute path of a regular file, or of one that does not exist yet
    raises     InputError for a folder, a device, a FIFO, a socket, a read-only file, or a folder that is missing or
               not writable
    """
    check_kind(argument or "path", path, str, os.PathLike)
    argument = argument or f"file {path}"
    target, status = resolved(path, argument)
    if status is not None and not stat.S_ISREG(status.st_mode):
        raise InputError(argument, "a regular file or a path that does not exist yet", file_type(status))
    if os.fspath(path).endswith(os.sep):
        raise InputError(argument, "a file name", f"a folder name, which ends in {os.sep}")
    if status is not None and not (status.st_mode & 0o222 and os.access(target, os.W_OK)):   # root may write any file
        raise InputError(argument, "a writable file", "a read-only file")
    check_writable(target.parent, argument)
    return target


def write_whole(path: str | Path, data: bytes) -> None:
    """Write a file completely or not at all.

    A new file gets the permissions that the umask allows. Hard links to a replaced file keep the old data.

    raises   InputError like check_file, or if the disk is full; an existing file is then unchanged
    """
    target = check_file(path)
    old = target.stat() if target.exists() else None
    temporary = temporary_name(target.parent)
    mode = 0o666 if old is None else 0o600              # the temporary file must not be more accessible than the old
    try:
        with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())                     # some file systems report a full disk only here
        if old is not None:
            keep_owner_and_mode(temporary, old)
        os.replace(temporary, target)
    except OSError as error:
        raise InputError(f"file {path}", "a writable file", f"an error: {error.strerror}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_folder(path: str | Path, files: Mapping[str, bytes]) -> None:
    """Write a folder of files completely or not at all.

    path     a new or empty folder, possibly the current folder or a link to a folder
    files    relative path, with "/" between folders -> content
    raises   InputError if it contains files, is not a folder, or is not writable
    """
    target = check_folder(path)
    existed = target.exists()
    staged = temporary_name(target if existed else target.parent)
    moved: list[Path] = []
    try:
        os.mkdir(staged)
        for name, data in files.items():
            (staged / name).parent.mkdir(parents=True, exist_ok=True)
            with open(staged / name, "xb") as file:     # without fsync, which would take a minute for a kit
                file.write(data)
        if not existed:
            os.replace(staged, target)
        else:                                           # keep the folder itself: it may be a current directory
            for name in dict.fromkeys(Path(name).parts[0] for name in files):
                moved.append(target / name)
                os.replace(staged / name, target / name)
    except BaseException as error:
        for path_moved in moved:
            shutil.rmtree(path_moved, ignore_errors=True)       # a folder
            with suppress(OSError):
                path_moved.unlink(missing_ok=True)              # a file
        if isinstance(error, OSError):
            raise InputError(f"folder {path}", "a writable folder", f"an error: {error.strerror}") from error
        raise
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def check_folder(path: str | Path) -> Path:
    """Resolve the links in a path and return the folder; raise InputError unless it is new or empty."""
    argument = f"folder {path}"
    target, status = resolved(path, argument)
    is_folder = status is not None and stat.S_ISDIR(status.st_mode)
    if status is not None and not (is_folder and not any(target.iterdir())):
        raise InputError(argument, "a new or empty folder",
                         "a folder that contains files" if is_folder else file_type(status), "choose a different name")
    check_writable(target if is_folder else target.parent, argument)
    return target


def resolved(path: str | Path, argument: str) -> tuple[Path, os.stat_result | None]:
    """Resolve the links in a path; return the target and its stat result, or None if the target does not exist."""
    if not os.fspath(path):
        raise InputError(argument.strip(), "a path", "an empty string")
    try:
        target = Path(os.path.realpath(path))
        return target, target.stat()
    except FileNotFoundError:
        return target, None
    except (OSError, ValueError) as error:              # a cycle of links, a zero byte, an unpaired surrogate
        raise InputError(argument, "a valid path", f"an error: {getattr(error, 'strerror', None) or error}") from error


def file_type(status: os.stat_result) -> str:
    """Return the name of the file's type, such as "a folder"."""
    return FILE_TYPES.get(stat.S_IFMT(status.st_mode), "a special file")


def check_writable(folder: Path, argument: str) -> None:
    """Raise InputError unless files can be created in the folder."""
    if not folder.is_dir():
        raise InputError(argument, "an existing folder", f"{str(folder)!r}, which is not one")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(argument, "a writable folder", f"{str(folder)!r}, which is not writable")


def temporary_name(folder: Path) -> Path:
    """Return an unused hidden name in a folder. Its length is fixed: the target's may be the maximum."""
    return folder / f".{secrets.token_hex(8)}.part"


def keep_owner_and_mode(path: Path, old: os.stat_result) -> None:
    """Copy group, owner and mode from the replaced file's status; group and owner only if permitted."""
    for owner, group in ((-1, old.st_gid), (old.st_uid, -1)):
        with suppress(PermissionError):
            os.chown(path, owner, group)
    os.chmod(path, stat.S_IMODE(old.st_mode))           # last, since changing the owner clears some mode bits
