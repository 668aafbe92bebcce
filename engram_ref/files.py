"""Writing files: the one place that does, completely or not at all.

Data goes to a temporary name in the same folder first, then takes the target's name. Symbolic links are followed
and stay. A file that is replaced keeps its mode and, where the system permits it, its owner.
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

KINDS = {stat.S_IFREG: "a file", stat.S_IFDIR: "a folder", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
         stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
"""What can have a path."""


def check_file(path: str | Path, argument: str = "") -> Path:
    """The file that a path leads to, after all links, if `write_whole` can write it.

    argument   how the error calls it; by default "file PATH"
    returns    an absolute path of a regular file, or of none yet
    raises     InputError for a folder, a device, a FIFO, a socket, a read-only file, or a folder that is missing or
               cannot be written to
    """
    check_kind(argument or "path", path, str, os.PathLike)
    argument = argument or f"file {path}"
    target, found = followed(path, argument)
    if found is not None and not stat.S_ISREG(found.st_mode):
        raise InputError(argument, "a regular file or a new name", kind(found))
    if os.fspath(path).endswith(os.sep):
        raise InputError(argument, "a file name", f"a folder's: it ends in {os.sep}")
    if found is not None and not (found.st_mode & 0o222 and os.access(target, os.W_OK)):    # root may write any file
        raise InputError(argument, "a file that can be written", "a read-only file")
    check_writable(target.parent, argument)
    return target


def write_whole(path: str | Path, data: bytes) -> None:
    """Write a file completely or not at all.

    A new file gets the permissions that the umask leaves. Other names of the file (hard links) keep the old data.

    raises   InputError as check_file does, or where the disk is full; the old file is then as it was
    """
    target = check_file(path)
    old = target.stat() if target.exists() else None
    temporary = temporary_name(target.parent)
    mode = 0o666 if old is None else 0o600              # never more open on the way than the file it replaces
    try:
        with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())                     # some disks say only here that they are full
        if old is not None:
            keep_owner_and_mode(temporary, old)
        os.replace(temporary, target)
    except OSError as error:
        raise InputError(f"file {path}", "a file that can be written", error.strerror) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_folder(path: str | Path, files: Mapping[str, bytes]) -> None:
    """Write a folder of files completely or not at all.

    path     a folder that does not exist yet, or is empty: the current one and a link to one included
    raises   InputError where it holds files, is not a folder, or cannot be written
    """
    target = check_folder(path)
    existed = target.exists()
    staged = temporary_name(target if existed else target.parent)
    moved: list[Path] = []
    try:
        os.mkdir(staged)
        for name, data in files.items():
            write_whole(staged / name, data)
        if not existed:
            os.replace(staged, target)
        else:                                           # it stays the folder it is: shells may be inside
            for name in files:
                moved.append(target / name)
                os.replace(staged / name, target / name)
    except BaseException as error:
        for file in moved:
            file.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise InputError(f"folder {path}", "a folder that can be written", error.strerror) from error
        raise
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def check_folder(path: str | Path) -> Path:
    """The new or empty folder that a path leads to, after all links; InputError where it is anything else."""
    argument = f"folder {path}"
    target, found = followed(path, argument)
    if found is not None and not (stat.S_ISDIR(found.st_mode) and not any(target.iterdir())):
        raise InputError(argument, "a new or an empty folder",
                         "files in it" if stat.S_ISDIR(found.st_mode) else kind(found), "choose another name")
    check_writable(target.parent if found is None else target, argument)
    return target


def followed(path: str | Path, argument: str) -> tuple[Path, os.stat_result | None]:
    """Where a path leads after all links, and what is there; None where nothing is yet."""
    if not os.fspath(path):
        raise InputError(argument.strip(), "a name", "an empty one")
    try:
        target = Path(os.path.realpath(path))
        return target, target.stat()
    except FileNotFoundError:
        return target, None
    except (OSError, ValueError) as error:              # links in a circle, a zero byte, half a surrogate pair
        raise InputError(argument, "a path", getattr(error, "strerror", None) or str(error)) from error


def kind(found: os.stat_result) -> str:
    """What it is that has a path."""
    return KINDS.get(stat.S_IFMT(found.st_mode), "something else")


def check_writable(folder: Path, argument: str) -> None:
    """Refuse a folder in which no file can be made."""
    if not folder.is_dir():
        raise InputError(argument, "a folder that exists", repr(str(folder)))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(argument, "a folder that can be written", repr(str(folder)))


def temporary_name(folder: Path) -> Path:
    """A hidden name in a folder that nothing else has. It does not grow with the target's, which may be the longest."""
    return folder / f".{secrets.token_hex(8)}.part"


def keep_owner_and_mode(path: Path, old: os.stat_result) -> None:
    """Give a file the group, the owner and the mode of the one it replaces; the first two only where permitted."""
    for owner, group in ((-1, old.st_gid), (old.st_uid, -1)):
        with suppress(PermissionError):
            os.chown(path, owner, group)
    os.chmod(path, stat.S_IMODE(old.st_mode))           # last: a new owner clears some of its bits
