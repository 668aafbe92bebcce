"""train and sample: models that are trained in processes, checkpoints, what is printed and drawn, bad input."""

import contextlib
import dataclasses
import io
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from engram_ref.cli import sample, train, train_process, train_progress
from engram_ref.cli.main import main
from engram_ref.cli.terminal import columns
from engram_ref.cli.train_figure import figure_svg
from engram_ref.cli.train_process import Finished, Job, Started, train_all
from engram_ref.errors import InputError
from engram_ref.training import presets
from engram_ref.training.checkpoint import checkpoints
from engram_ref.training.corpus import load_corpus
from engram_ref.training.presets import training_preset, without_engram

TINY = dataclasses.replace(training_preset("seconds"), name="tiny", vocab_size=300, batch=2, length=16, steps=4)
BOTH = {"engram": TINY, "control": without_engram(TINY)}
RUN = ["train", "--preset=tiny", "--backend=numpy"]


@pytest.fixture(autouse=True)
def tiny_preset(monkeypatch, tmp_path):
    monkeypatch.setitem(presets._PRESETS, "tiny", TINY)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def corpus():
    return load_corpus("world", TINY.vocab_size)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of the command for both models: its folder, its JSON, and the objects that it printed."""
    folder, out, runs = tmp_path_factory.mktemp("trained"), io.StringIO(), []
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        patch.setitem(presets._PRESETS, "tiny", TINY)
        patch.chdir(folder)
        patch.setattr(train, "Run", lambda *given: runs.append(train_progress.Run(*given)) or runs[-1])
        assert main([*RUN, "--out=run", "--plot=chart.svg", "--json"]) == 0
    return folder, json.loads(out.getvalue()), dict(zip(BOTH, runs, strict=True))


@pytest.fixture
def folder(trained, monkeypatch):
    """The folder of the run, as the current one."""
    monkeypatch.chdir(trained[0])
    return trained[0]


@pytest.fixture
def runs(trained):
    return trained[2]


def run(capsys, *argv):
    """Run a command in this process; return exit code, standard output and standard error."""
    try:
        code = main(list(argv))
    except SystemExit as stop:
        code = stop.code
    return code, *capsys.readouterr()


def test_both_models_are_trained_and_saved(trained):
    folder, result, _ = trained
    losses = {name: model["held_out"]["loss"] for name, model in result["models"].items()}
    assert f"{losses['engram']:.3f} nats per token with Engram, {losses['control']:.3f} without" in result["finding"]
    for name, model in result["models"].items():
        assert [step["step"] for step in model["steps"]] == [1, 2, 3, 4] and model["bytes_of_step"] > 0
        assert [path.name for path in checkpoints(folder / "run" / name)] == ["step-000000", "step-000004"]
    assert (folder / "chart.svg").exists() and result["models"]["control"]["held_out"]["gate"] is None


def test_a_finished_run_is_resumed(trained, folder, capsys):
    code, out, err = run(capsys, *RUN, "--out=run", "--resume", "--only=engram", "--plot=again.svg")
    loss = trained[1]["models"]["engram"]["held_out"]["loss"]
    assert code == 0 and "continues after step 4" in err and "control" not in out
    assert f"{loss:.3f} nats per token with Engram" in out and out.endswith("wrote again.svg\n")
    assert ET.parse("again.svg")                # without a step


def test_the_comparison_states_losses_tokens_and_parameters(runs, folder):
    kinds = train_progress.kinds_of(runs.values())
    text, found = train.lines(runs), train_progress.finding(runs)
    assert "fact" in kinds and set(text[0].split()) >= {"all", *kinds}
    for line, run in zip(text[1:5], [*runs.values()] * 2, strict=True):
        assert line.startswith(run.label) and max(map(columns, text)) <= 80
    assert f"{runs['engram'].finished.held_out.loss:.3f}" in text[1] and found == " ".join(text[6:])
    assert f"after {4 * 2 * 16} tokens" in found
    arrays = load_file("run/engram/step-000004/model.safetensors")
    trained = [array.size for name, array in arrays.items() if not name.endswith(("bias", "offsets"))]
    assert runs["engram"].parameters == sum(trained)
    one = {"engram": runs["engram"]}
    assert "without" not in "".join(train.lines(one)) and "M parameters)" in train_progress.finding(one)


def test_progress_is_a_table_on_a_terminal_and_lines_elsewhere(runs, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for terminal in (False, True):
        monkeypatch.setattr(train_progress, "is_terminal", lambda _, value=terminal: value)
        display = train_progress.Display(runs, "numpy")
        for run in runs.values():
            display.update(run, Started(2**20, 0))
        for run in runs.values():
            display.update(run, run.steps[-1])
        display.update(runs["engram"], runs["engram"].finished)
        err = capsys.readouterr().err
        lines = err.splitlines()
        assert lines[0].startswith("4 steps of 2 x 16 tokens on the corpus world, backend numpy") and "1 MiB" in err
        assert not terminal or max(columns(line.split("\033[K")[-1]) for line in lines) <= 80
        assert ("\033[3A" in err) is terminal
        assert ("with Engram: step 4, tokens/s" in err) is not terminal
    gates = [step.progress.gate for step in runs["engram"].steps]
    assert display.cells(runs["engram"])["gate"] == f"{np.mean(gates):.2f}"
    assert display.cells(runs["control"])["gate"] == "-" and float(display.cells(runs["control"])["load"]) >= 1


def test_the_chart_states_the_finding_and_is_reproducible(runs):
    svg = figure_svg(runs)
    assert svg == figure_svg(runs)
    text = " ".join(" ".join(element.itertext()) for element in ET.fromstring(svg).iter())
    assert train_progress.finding(runs) in text
    assert "fact" in text and f"{runs['control'].finished.held_out.loss:.3f} without" in text


def test_a_sample_shows_gates_and_probabilities(folder, capsys):
    code, out, _ = run(capsys, "sample", "Mado keeps", "--checkpoint=run", "--tokens=5", "--json")
    result = json.loads(out)
    tokens = result["tokens"]
    assert code == 0 and len(tokens) == result["given"] + 5 and result["text"].startswith("\n Mado keeps")
    assert "".join(token["text"] for token in tokens) == result["text"]
    assert all(0 < token["gate"] < 1 for token in tokens) and all(0 < t["probability"] < 1 for t in tokens[1:])
    again = run(capsys, "sample", "Mado keeps", "--checkpoint=run/engram", "--tokens=5")[1]
    assert result["text"].splitlines()[1].strip() in again and "gate before the next token" in again
    control = json.loads(run(capsys, "sample", "--checkpoint=run/control", "--tokens=3", "--json")[1])
    assert [token["gate"] for token in control["tokens"]] == [None] * 4
    assert "gate" not in run(capsys, "sample", "--checkpoint=run/control", "--tokens=3")[1]


def test_gates_are_below_the_column_after_their_token(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sample, "shade", lambda value: str(int(value)))
    words = [" And", " the", "y", "\n", " In"]
    assert list(sample.with_gates(words, np.arange(6), 0)) == ["And they", "0  1   23", "In", "4 5"]
    assert list(sample.with_gates(words, None, 0)) == ["And they", "In"]
    shown = list(sample.with_gates([" word"] * 40, np.arange(41) % 10, 0))
    assert max(map(columns, shown)) <= 80
    assert "".join(shown[1::2]).replace(" ", "") == "".join(str(t % 10) for t in range(41))    # each gate once


LATER = {"same folder": ([*RUN, "--out=run"], "add --resume"),
         "other seed": ([*RUN, "--out=run", "--resume", "--seed=1", "--only=engram"],
                        "config.seed 1, as in this run, found 0"),
         "long prompt": (["sample", "--checkpoint=run", "word " * 50], "at most 15 tokens"),
         "not text": (["sample", "--checkpoint=run", "\ud800"], "valid Unicode"),
         "empty prompt": (["sample", "--checkpoint=run", ""], "at least one character")}


@pytest.mark.parametrize(("argv", "message"), LATER.values(), ids=LATER)
def test_bad_input_after_a_run(folder, capsys, argv, message):
    code, out, err = run(capsys, *argv)
    assert (code, out) == (2, "") and message in err and "Traceback" not in err
    assert err.splitlines()[-1].startswith("engram-ref: ")


BAD = {"no folder": (["train", "--resume"], "--resume: expected --out FOLDER"),
       "nothing to resume": ([*RUN, "--resume", "--out=new"], "a folder with a checkpoint"),
       "no steps": (["train", "--steps=0"], "--steps"), "model": (["train", "--only=moe"], "engram, control"),
       "missing file": (["train", "--corpus=nowhere"], "world, kjv"),
       "not UTF-8": (["train", "--corpus=latin"], "UTF-8"), "too short": (["train", "--corpus=short"], "a longer text"),
       "no checkpoint": (["sample", "--checkpoint=."], "engram-ref train --out"),
       "no tokens": (["sample", "--tokens=0"], "--tokens"), "cold": (["sample", "--temperature=-1"], "--temperature")}


@pytest.mark.parametrize(("argv", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line(capsys, argv, message):
    Path("latin").write_bytes("é".encode("latin-1"))
    Path("short").write_bytes(b"one word")
    code, out, err = run(capsys, *argv)
    assert (code, out) == (2, "") and message in err and "Traceback" not in err
    assert err.splitlines()[-1].startswith("engram-ref: ") and not Path(train.PLOT).exists()


def test_a_folder_that_cannot_be_created_and_a_loss_that_is_not_finite(corpus):
    Path("file").write_bytes(b"")
    with pytest.raises(InputError, match="file/engram"):
        next(train_process.train(Job(TINY, corpus, "numpy", Path("file/engram"), False)))
    steps = train_process.train(Job(dataclasses.replace(TINY, lr=1e30), corpus, "numpy", Path("out"), False))
    with pytest.raises(InputError, match=r"step [23] was not taken"), np.errstate(all="ignore"):
        list(steps)
    assert [path.name for path in checkpoints("out")] == ["step-000000"]


def test_a_killed_process_is_an_error_and_ends_the_other(corpus):
    jobs = {name: Job(dataclasses.replace(config, steps=10**6), corpus, "numpy", None, False)
            for name, config in BOTH.items()}
    with contextlib.closing(train_all(jobs)) as reports, pytest.raises(InputError, match="exit code -9"):
        assert isinstance(next(reports)[1], Started)
        os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
        assert not any(isinstance(report, Finished) for _, report in reports)
    assert multiprocessing.active_children() == []


ENDLESS = """
import dataclasses, sys
from engram_ref.training import presets
from engram_ref.cli.main import main
known = presets._PRESETS
known["tiny"] = dataclasses.replace(known["seconds"], vocab_size=300, batch=2, length=16, steps=10**6)
sys.argv[1:] = ["train", "--preset=tiny", "--backend=numpy", "--only=engram"]
sys.exit(main())
"""


def ignores_interrupts(pid):
    """True if a process blocks or ignores Ctrl-C, so that it cannot print a traceback before it is ended."""
    status = dict(line.split(":\t") for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines())
    return bool((int(status["SigBlk"], 16) | int(status["SigIgn"], 16)) >> (signal.SIGINT - 1) & 1)


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_an_interrupted_run_leaves_no_process(sent, code):
    """The processes hold standard error open, so its end shows that all have ended."""
    process = subprocess.Popen([sys.executable, "-c", ENDLESS], stderr=subprocess.PIPE, stdout=subprocess.PIPE,
                               text=True, start_new_session=True)
    while ": step 1," not in process.stderr.readline():
        assert process.poll() is None
    if (children := Path(f"/proc/{process.pid}/task/{process.pid}/children")).exists():
        pids = children.read_text(encoding="ascii").split()
        assert len(pids) >= 1 and all(map(ignores_interrupts, pids))
    os.killpg(process.pid, sent) if sent == signal.SIGINT else process.kill()   # Ctrl-C reaches every process
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, "") and "Traceback" not in err
