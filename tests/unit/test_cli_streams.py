"""Standard streams that are closed or full, and Ctrl-C at any time: documented exit codes and no traceback."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engram_ref.cli.main import main

WITHOUT_OUTPUT = [">&-", ">/dev/full", ">&- 2>&-", ">/dev/full 2>/dev/full", ">&- 2>&- <&-"]
OTHER_STREAMS_UNUSABLE = ["2>&-", "2>/dev/full", "<&-", "2>&- <&-"]

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


def shell(line, **more):
    """Run a line of bash in which $run is the command line."""
    environment = os.environ | {"run": f"{sys.executable} -m engram_ref"} | more
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=environment, timeout=60)


def program(code):
    """argv of a process that runs Python code and then the command line; append the arguments."""
    return [sys.executable, "-c", f"import os, signal, sys\n{code}\nfrom engram_ref.cli.main import main\n"
                                  "sys.exit(main())"]


def run_program(code, *argv, **more):
    return subprocess.run([*program(code), *argv], capture_output=True, text=True, timeout=60, **more)


@pytest.mark.parametrize("streams", WITHOUT_OUTPUT)
@pytest.mark.parametrize("command, unbuffered", [("presets", ""), ("ids --help", "1")], ids=["buffered", "unbuffered"])
def test_unwritable_output_exits_2(command, unbuffered, streams):
    """Without buffering the write fails inside argparse, which would ignore the error."""
    done = shell(f"$run {command} {streams}", PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 2 and done.stdout == ""
    if "2>" not in streams:
        reason = "Bad file descriptor" if "&-" in streams else "No space left on device"
        assert done.stderr == f"engram-ref: standard output: {reason}\n"


@pytest.mark.parametrize("streams", OTHER_STREAMS_UNUSABLE)
def test_output_works_with_the_other_streams_closed_or_full(streams):
    done = shell(f"$run count tiny {streams}")
    assert done.returncode == 0 and done.stdout == shell("$run count tiny").stdout


@pytest.mark.parametrize("command, streams", [("walk --layer 9", "2>&-"), ("walk --layer 9", "2>/dev/full"),
                                              ("walk --nope", "2>/dev/full"), ("wlak", ">&- 2>&-")])
def test_an_error_without_standard_error_exits_2(command, streams):
    done = shell(f"$run {command} {streams}")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


def test_a_command_that_prints_nothing_works_with_closed_output(tmp_path):
    assert shell(f"$run ids x --out {tmp_path}/rows.npy >&-").returncode == 0
    assert (tmp_path / "rows.npy").read_bytes().startswith(b"\x93NUMPY")


def test_an_output_file_never_takes_the_descriptor_of_a_closed_stream(tmp_path):
    done = shell(f"$run walk hi --plot {tmp_path}/walk.svg >&- 2>&- <&-")
    assert done.returncode == 2 and (tmp_path / "walk.svg").read_text(encoding="utf-8").endswith("</svg>\n")


def test_an_unwritable_progress_line_is_ignored(capsys, monkeypatch):
    class Full(io.StringIO):
        def isatty(self):
            return True

        def flush(self):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("engram_ref.cli.terminal.PROGRESS_DELAY", -1.0)
    monkeypatch.setattr(sys, "stderr", Full())
    assert main(["verify"]) == 0


@pytest.mark.parametrize("stream", [None, io.StringIO()], ids=["none", "not a file"])
def test_main_works_with_any_stdout_object(monkeypatch, stream):
    monkeypatch.setattr(sys, "stdout", stream)
    assert main(["count", "tiny"]) == 0


def test_main_without_standard_error_prints_nothing(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", None)
    with pytest.raises(SystemExit) as stop:
        main(["wlak"])
    assert stop.value.code == 2 and capsys.readouterr().out == ""


def test_unreadable_standard_input_prints_one_line():
    done = shell("$run ids 0>/dev/null")
    assert done.returncode == 2 and done.stderr.startswith("engram-ref: standard input: ") and done.stdout == ""
    assert done.stderr.count("\n") == 1


INTERRUPT_AT = """
class Finder:
    def find_spec(name, path=None, target=None):
        if name == {name!r}:
            sys.meta_path.remove(Finder)
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder)
"""


@pytest.mark.parametrize("name", ["engram_ref.errors", "argparse", "numpy", "datetime", "tokenizers"])
def test_ctrl_c_during_an_import_exits_130(name):
    """NumPy's C code imports datetime and replaces KeyboardInterrupt with a different exception."""
    done = run_program(INTERRUPT_AT.format(name=name), "walk")
    assert (done.returncode, done.stderr.strip()) == (130, "")


AT_WORK = """
import threading, time
from engram_ref.cli import presets
class Swallows:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0)
def interrupt(options):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
def with_a_thread(options):
    threading.Thread(target=time.sleep, args=(60,)).start()
    interrupt(options)
def in_a_destructor(options):
    Swallows()
    return 0
def swallowed_at_first(options):
    for _ in range(2):
        try:
            interrupt(options)
        except KeyboardInterrupt:
            pass
"""


@pytest.mark.parametrize("work", ["interrupt", "with_a_thread", "in_a_destructor", "swallowed_at_first"])
def test_ctrl_c_during_a_command_exits_130(work):
    done = run_program(f"{AT_WORK}\npresets.run = {work}", "presets")
    assert (done.returncode, done.stderr.strip()) == (130, "")


def test_ctrl_c_without_standard_error_exits_130():
    command = " ".join(f"'{word}'" for word in program(f"{AT_WORK}\npresets.run = interrupt"))
    assert subprocess.run(["bash", "-c", f"{command} presets 2>/dev/full"], timeout=60).returncode == 130


def test_ctrl_c_after_the_command_has_finished_is_ignored():
    done = run_program("import atexit\natexit.register(os.kill, os.getpid(), signal.SIGINT)", "presets")
    assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_stays_ignored_if_the_shell_ignores_it():
    code = "signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + INTERRUPT_AT.format(name="numpy")
    done = run_program(code, "presets")
    assert done.returncode == 0 and "engram-27b" in done.stdout


@pytest.mark.parametrize("error, message", [
    (ImportError("no such symbol"), "the import of a package failed: no such symbol"),
    (MemoryError("8 GiB"), "out of memory: 8 GiB"),
    (PermissionError(13, "Permission denied", "x"), "x: Permission denied"),
], ids=["import", "memory", "file"])
def test_system_errors_print_one_line(monkeypatch, capsys, error, message):
    def fails(options):
        raise error

    monkeypatch.setattr("engram_ref.cli.presets.run", fails)
    with pytest.raises(SystemExit) as stop:
        main(["presets"])
    assert stop.value.code == 2 and capsys.readouterr() == ("", f"engram-ref: {message}\n")
