"""The command line in a new process: pipes, interrupts, terminals without UTF-8, missing files."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from engram_ref import Addressing, Trace, Vocabulary, engram, preset
from engram_ref.cli.main import main
from engram_ref.cli.walk_data import DEFAULT_TEXT
from engram_ref.model.engram_parameters import initialise

SCRIPTS = Path(__file__).parents[2] / "scripts"


def spawn(*argv, env=None, **kwargs):
    return subprocess.run([sys.executable, "-m", "engram_ref", *argv], capture_output=True,
                          env=os.environ | (env or {}), timeout=60, **kwargs)


def test_a_closed_pipe_ends_the_command_quietly():
    command = f"{sys.executable} -m engram_ref walk --step | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, timeout=60)
    assert done.stdout.count(b"\n") == 1 and done.stderr == b"" and done.returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_prints_one_line():
    command = [sys.executable, "-m", "engram_ref", "walk"]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == 2 and done.stderr.count(b"\n") == 1 and b"standard output" in done.stderr


def test_a_dash_reads_standard_input():
    assert spawn("ids", "-", "--digest", input=b"horse").stdout == spawn("ids", "horse", "--digest").stdout


def test_ctrl_c_exits_130_without_a_traceback():
    process = subprocess.Popen([sys.executable, "-m", "engram_ref", "ids"], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(1.5)                      # until it waits for standard input
    process.send_signal(signal.SIGINT)
    err = process.communicate(timeout=30)[1]
    assert process.returncode == 130 and b"Traceback" not in err


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_every_line_is_printed_to_a_terminal_without_utf8(encoding):
    done = spawn("walk", "日本 é 🙂", env={"PYTHONIOENCODING": encoding})
    assert done.returncode == 0 and done.stderr == b"" and b"gate" in done.stdout


def test_no_colour_without_a_terminal():
    assert b"\033[" not in spawn("walk").stdout


def test_invalid_utf8_input_exits_2():
    done = spawn("ids", input=b"\xff\xfe\x00", env={"PYTHONUTF8": "1"})
    assert done.returncode == 2 and done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("damage", ["missing", "truncated", "wrong content"])
def test_a_damaged_vocabulary_file_prints_one_line(capsys, monkeypatch, tmp_path, damage):
    path = tmp_path / "tokenizer.json"
    if damage != "missing":
        path.write_text('{"version": "1.0", "trunc' if damage == "truncated" else "{}", encoding="utf-8")
    monkeypatch.setattr("engram_ref.text.vocabulary.packaged_tokenizer_file", lambda: path)
    with pytest.raises(SystemExit) as stop:
        main(["walk", "--preset", "deepseek-v4.1-flash"])
    err = capsys.readouterr().err
    assert stop.value.code == 2 and err.count("\n") == 1 and err.startswith("engram-ref: vocabulary file")


def test_step_through_prints_the_rows_of_walk_and_the_gates_of_the_module():
    script = [sys.executable, str(SCRIPTS / "step_through.py")]
    done = subprocess.run(script, capture_output=True, text=True, timeout=60)
    argv = ["walk", "--preset", "tiny", "--stage", "rows", "--position", "3", "--json"]
    walked = np.array(json.loads(spawn(*argv).stdout)["stages"]["rows"]["values"][0])
    config, rng = preset("tiny"), np.random.default_rng(0)
    vocabulary = Vocabulary.load(config.vocabulary)
    rows = Addressing(config).rows(vocabulary.canonical[vocabulary.encode(DEFAULT_TEXT)], 1)
    parameters = initialise(config, 1, rng)
    hidden = rng.standard_normal((len(rows), config.n_branches, config.hidden_size))
    with Trace(stop="gate") as trace:
        engram(parameters, hidden, rows, config, trace=trace)
    gates = " ".join(f"{gate:.3f}" for gate in trace["gate"][0, 3])
    assert done.returncode == 0 and f"gate            [{gates}]" in done.stdout
    assert f"rows            {np.array2string(walked, max_line_width=100)}" in done.stdout


def test_without_numba_bench_exits_2_and_other_commands_work():
    code = ("import os, sys; os.environ.pop('NUMBA_DISABLE_JIT', None); sys.modules['numba'] = None\n"
            "from engram_ref.cli.main import main\n"
            "assert main(['presets']) == 0\nmain(['bench'])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2 and "pip install numba" in done.stderr and "Traceback" not in done.stderr


NUMPY_ONLY = {"verify": 0, "walk --step": 0, "ids horse --out {}/rows.npy": 0, "presets": 0,
              "count engram-27b": 0, "verify --backend nothing": 2, "bench --help": 0}


@pytest.mark.parametrize("command", NUMPY_ONLY)
def test_a_command_that_computes_with_numpy_imports_no_other_backend(command, tmp_path):
    code = ("import sys; from engram_ref.cli.main import main\n"
            "try:\n    code = main(sys.argv[1:])\nexcept SystemExit as stop:\n    code = stop.code\n"
            "print(code, {'numba', 'llvmlite', 'torch', 'triton'} & set(sys.modules))")
    done = subprocess.run([sys.executable, "-c", code, *command.format(tmp_path).split()], capture_output=True,
                          text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == f"{NUMPY_ONLY[command]} set()"
