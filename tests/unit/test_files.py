"""Files are written completely or not at all, through links, and only as regular files."""

import os
import socket
import stat
import subprocess
import sys
import threading

import numpy as np
import pytest

from engram_ref import InputError, Trace
from engram_ref.cli.main import main
from engram_ref.files import write_folder, write_whole
from engram_ref.model import parameters

OLD, NEW = b"old", b"new data"


def make_device(path):
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("creating a device file requires root")


def make_socket(path):
    before = os.getcwd()
    os.chdir(path.parent)                                   # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)
    os.chdir(before)


def make_read_only(path):
    path.write_bytes(OLD)
    path.chmod(0o444)


def make_link_loop(path):
    path.symlink_to(path.name)


UNWRITABLE = {
    "a FIFO": (os.mkfifo, "found a FIFO"),
    "a device": (make_device, "found a device"),
    "a socket": (make_socket, "found a socket"),
    "a folder": (os.mkdir, "found a folder"),
    "a read-only file": (make_read_only, "found a read-only file"),
    "a loop of links": (make_link_loop, "symbolic links"),
}


@pytest.fixture(params=UNWRITABLE)
def unwritable(request, tmp_path):
    """A path that cannot be written, and part of the error message."""
    make, message = UNWRITABLE[request.param]
    path = tmp_path / "target.npy"
    make(path)
    return path, message


def contents_of(folder):
    """Kind, mode and, for files, data of every path in a folder."""
    return {path.name: (stat.filemode(path.lstat().st_mode), path.read_bytes() if path.is_file() else None)
            for path in folder.iterdir()}


def test_unwritable_paths_raise_and_stay_unchanged(unwritable, tmp_path):
    path, message = unwritable
    before = contents_of(tmp_path)
    with pytest.raises(InputError, match=message):
        write_whole(path, NEW)
    (tmp_path / "link").symlink_to(path.name)
    with pytest.raises(InputError, match=message):  # also through a link
        write_whole(tmp_path / "link", NEW)
    (tmp_path / "link").unlink()
    assert contents_of(tmp_path) == before


class Unread:
    """A parameter that fails the test if it is read."""

    def __array__(self, *_, **__):
        pytest.fail("work has started")


def save_trace(path):
    trace = Trace()
    trace.arrays["a"] = Unread()
    trace.save(path)


@pytest.mark.parametrize("save", [
    save_trace, lambda path: parameters.save({"a": Unread()}, path),
    lambda path: main(["ids", "x", "--out", str(path)]),
], ids=["a trace", "parameters", "ids --out"])
def test_unwritable_paths_raise_before_any_work(unwritable, save, monkeypatch, capsys):
    path, message = unwritable
    monkeypatch.setattr("engram_ref.text.vocabulary.Vocabulary.encode", lambda *_: pytest.fail("work has started"))
    with pytest.raises((InputError, SystemExit)) as stop:
        save(path)
    assert message in f"{stop.value} {capsys.readouterr().err}"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to any folder")
def test_a_read_only_folder_raises(tmp_path):
    (tmp_path / "folder").mkdir(mode=0o555)
    with pytest.raises(InputError, match="a writable folder"):
        write_whole(tmp_path / "folder" / "file", NEW)
    with pytest.raises(InputError, match="a writable folder"):
        write_folder(tmp_path / "folder", {"a": NEW})


def test_writing_through_symlinks_changes_only_their_target(tmp_path):
    (tmp_path / "folder").mkdir()
    target = tmp_path / "folder" / "target"
    target.write_bytes(OLD)
    (tmp_path / "second").symlink_to("folder/target")
    (tmp_path / "first").symlink_to("second")
    write_whole(tmp_path / "first", NEW)
    assert target.read_bytes() == NEW and (tmp_path / "first").is_symlink() and (tmp_path / "second").is_symlink()
    assert sorted(path.name for path in target.parent.iterdir()) == ["target"]


def test_writing_through_a_dangling_link_creates_its_target(tmp_path):
    (tmp_path / "link").symlink_to("target")
    write_whole(tmp_path / "link", NEW)
    assert (tmp_path / "link").is_symlink() and (tmp_path / "target").read_bytes() == NEW
    (tmp_path / "lost").symlink_to("nowhere/target")
    with pytest.raises(InputError, match="an existing folder"):
        write_whole(tmp_path / "lost", NEW)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o755, 0o200])
def test_a_file_keeps_its_mode(tmp_path, mode):
    path = tmp_path / "file"
    path.write_bytes(OLD)
    path.chmod(mode)
    write_whole(path, NEW)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    path.chmod(0o600)
    assert path.read_bytes() == NEW


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may change a file's owner")
def test_a_file_keeps_its_owner_if_permitted(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(OLD)
    os.chown(path, 12345, 23456)
    write_whole(path, NEW)
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 23456)

    def forbidden(*_):
        raise PermissionError

    monkeypatch.setattr(os, "chown", forbidden)
    write_whole(path, OLD)
    assert path.read_bytes() == OLD and path.stat().st_uid == os.geteuid()


def test_new_files_respect_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "file", NEW)
        write_folder(tmp_path / "folder", {"a": NEW})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o750


@pytest.mark.parametrize("name", ["n" * 255, "é\n $'\" *", ".hidden", "-"], ids=["longest", "odd", "hidden", "dash"])
def test_unusual_file_names_work(tmp_path, name):
    write_whole(tmp_path / name, NEW)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(name, NEW)]


@pytest.mark.parametrize("name", ["", "n" * 256, "a\0b", "\ud800", "file/", "file/x", "nowhere/x"],
                         ids=["empty", "too long", "zero byte", "surrogate", "slash", "below a file", "no folder"])
def test_invalid_names_raise(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_bytes(OLD)
    with pytest.raises(InputError):
        write_whole(name, NEW)
    with pytest.raises(InputError):
        write_folder(name, {"a": NEW})
    assert contents_of(tmp_path) == {"file": (stat.filemode((tmp_path / "file").stat().st_mode), OLD)}


FULL = """
import resource, sys
from engram_ref.files import write_folder, write_whole
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
files = {"a": b"1", "b": bytes(200_000)}
for write in (lambda: write_whole("file", files["b"]), lambda: write_folder("folder", files),
              lambda: write_folder("empty", files)):
    try:
        write()
    except ValueError as error:
        print(error)
"""


def test_a_full_disk_leaves_everything_unchanged(tmp_path):
    (tmp_path / "file").write_bytes(OLD)
    (tmp_path / "empty").mkdir()
    before = contents_of(tmp_path)
    done = subprocess.run([sys.executable, "-c", FULL], cwd=tmp_path, capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))})
    assert done.stdout.count("File too large\n") == 3, done.stderr
    assert contents_of(tmp_path) == before and list((tmp_path / "empty").iterdir()) == []


def test_ids_out_option_prints_one_line_if_the_file_is_too_large(tmp_path):
    code = ("import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))\n"
            "from engram_ref.cli.main import main; sys.exit(main())")
    done = subprocess.run([sys.executable, "-c", code, "ids", "a horse", "--out", str(tmp_path / "rows.npy")],
                          capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "File too large" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_concurrent_writers_do_not_mix_their_data(tmp_path):
    path, mixed = tmp_path / "file", []
    contents = [bytes([i]) * 100_000 for i in range(4)]
    write_whole(path, contents[0])

    def write(data):
        for _ in range(20):
            write_whole(path, data)
            if path.read_bytes() not in contents:
                mixed.append(data)

    threads = [threading.Thread(target=write, args=(data,)) for data in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert mixed == [] and [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("where", ["empty", "empty/", "link", "link/", "new", "new/", "empty/../new"])
def test_a_folder_can_be_new_or_empty_or_a_link(tmp_path, monkeypatch, where):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    write_folder(where, {"a": NEW, "b": OLD})
    assert {path.name: path.read_bytes() for path in (tmp_path / where).iterdir()} == {"a": NEW, "b": OLD}
    assert (tmp_path / "link").is_symlink() and {path.name for path in tmp_path.iterdir()} <= {"empty", "link", "new"}


@pytest.mark.parametrize("where", [".", "./"])
def test_the_current_folder_is_filled_in_place(tmp_path, monkeypatch, where):
    monkeypatch.chdir(tmp_path)
    write_folder(where, {"a": NEW})
    assert os.listdir(".") == ["a"]                         # this process is still in it


def test_an_empty_name_is_not_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="found an empty string"):
        write_folder("", {"a": NEW})
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_keeps_its_mode_and_inode(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o700)
    before = folder.stat()
    write_folder(folder, {"a": NEW})
    assert (folder.stat().st_ino, folder.stat().st_mode) == (before.st_ino, before.st_mode)


@pytest.mark.parametrize("make", [os.mkfifo, make_read_only, lambda path: (path.mkdir(), (path / "mine").touch())],
                         ids=["a FIFO", "a file", "files"])
def test_an_occupied_path_raises(tmp_path, make):
    make(tmp_path / "taken")
    with pytest.raises(InputError, match="a new or empty folder"):
        write_folder(tmp_path / "taken", {"a": NEW})
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_failed_write_leaves_the_folder_empty(tmp_path, monkeypatch):
    replace, calls = os.replace, []

    def second_move_fails(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise OSError(5, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(os, "replace", second_move_fails)
    with pytest.raises(InputError, match="Input/output error"):
        write_folder(tmp_path, {"a": NEW, "b": NEW})
    assert list(tmp_path.iterdir()) == []


def test_save_follows_symlinks(tmp_path):
    (tmp_path / "link").symlink_to("model.safetensors")
    parameters.save({"a": np.zeros(2)}, tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "model.safetensors").stat().st_size > 0


def test_a_folder_may_contain_folders(tmp_path, monkeypatch):
    files = {"a/b/c": NEW, "a/d": OLD, "e": NEW}
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty"):
        write_folder(tmp_path / name, files)
        assert {path.relative_to(tmp_path / name).as_posix(): path.read_bytes()
                for path in (tmp_path / name).rglob("*") if path.is_file()} == files
    replace, calls = os.replace, []

    def last_move_fails(source, target):
        calls.append(target)
        if len(calls) == 2:                                 # the folder was moved, the file was not
            raise OSError(5, "Input/output error")
        replace(source, target)

    (tmp_path / "other").mkdir()
    monkeypatch.setattr(os, "replace", last_move_fails)
    with pytest.raises(InputError, match="Input/output error"):
        write_folder(tmp_path / "other", files)
    assert list((tmp_path / "other").iterdir()) == []


def test_a_failed_write_leaves_nothing_beside_the_folder(monkeypatch, tmp_path):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(InputError, match="No space left"):
        write_folder(tmp_path / "out", {"a": b"1"})
    assert list(tmp_path.iterdir()) == []


def test_a_written_folder_has_default_permissions(tmp_path):
    write_folder(tmp_path / "out", {"a": b"1", "b/c": b"2"})
    (tmp_path / "plain").mkdir()
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("out", "out/b", "plain")]
    assert len(set(modes)) == 1 and (tmp_path / "out" / "a").read_bytes() == b"1"
