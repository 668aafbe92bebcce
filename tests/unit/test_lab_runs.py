"""Runs of an experiment: resumed after any interruption, skipped when finished, refused if they belong elsewhere."""

import json
import multiprocessing
import os
import signal
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engram_ref.errors import InputError
from engram_ref.lab import runs
from engram_ref.lab.controls import OneRow
from engram_ref.lab.runs import Experiment, Run, by_seed, perform, perform_all, read_all
from engram_ref.lab.summary import summary
from engram_ref.lab.verdicts import Criterion
from engram_ref.training.presets import training_preset
from scripts import lab

ABOUT = {"experiment": "tiny", "criteria": "abc"}


def measure(trainer):
    """Return a digest of the parameters as the loss."""
    arrays = [trainer.parameters[name] for name in sorted(trainer.parameters)]
    digest = zlib.crc32(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays))
    return {"loss": digest, "answers": {"fact": trainer.done}}


def measure_once(trainer):
    """Kill the process in the second measurement, once."""
    marker = Path(trainer.config.corpus).with_name("killed")
    if trainer.done == 4 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return measure(trainer)


def never(_):
    raise AssertionError("a finished run is trained again")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="module")
def run(folder):
    text = folder / "text.txt"
    text.write_text("\n".join(f"{i} times {i + 1} is {i * i + i}" for i in range(500)), encoding="utf-8")
    config = replace(training_preset("seconds"), name="engram", corpus=str(text), vocab_size=300, batch=2, length=8,
                     steps=4, warm_up=2)
    return Run(config, "seconds", (2, 4), 0.1)


def perform_in(folder, run, measure=measure):
    return perform(run, measure, folder / "results", folder / "work", "numpy", ABOUT)


@pytest.fixture(scope="module")
def whole(folder, run):
    """The evaluations of a run that was not interrupted."""
    return perform_in(folder / "whole", run)["evaluations"]


def test_a_result_states_what_is_needed_to_repeat_it(run, tmp_path):
    result = perform_in(tmp_path, run)
    assert [e["step"] for e in result["evaluations"]] == [2, 4]
    assert len({e["loss"] for e in result["evaluations"]}) == 2
    assert result["name"] == "text-4-engram-0" and result["criteria"] == "abc" and result["backend"] == "numpy"
    assert result["config"]["length"] == 8 and result["versions"]["numpy"] == np.__version__
    assert json.loads((tmp_path / "results" / "text-4-engram-0.json").read_bytes()) == result
    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.parametrize("where, which", [
    ("measure", 1), ("write_whole", 1), ("save", 1),
    ("measure", 2), ("write_whole", 2), ("save", 2), ("write_whole", 3)])
def test_an_interrupted_run_continues_to_the_same_numbers(run, whole, tmp_path, monkeypatch, where, which):
    """The third file that is written is the result."""
    calls, old = [], measure if where == "measure" else getattr(runs, where)

    def interrupted(*arguments):
        calls.append(where)
        if len(calls) == which:
            raise KeyboardInterrupt
        return old(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        if where != "measure":
            patch.setattr(runs, where, interrupted)
        perform_in(tmp_path / "broken", run, interrupted if where == "measure" else measure)
    assert list((tmp_path / "broken" / "results").glob("*.json")) == []
    assert perform_in(tmp_path / "broken", run)["evaluations"] == whole


def test_a_killed_process_continues_from_its_checkpoint(run, whole, tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=perform_in, args=(tmp_path, run, measure_once))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert [path.name for path in (tmp_path / "work" / run.name).glob("step-*")] == ["step-000002"]
    assert perform_in(tmp_path, run)["evaluations"] == whole


def test_a_finished_run_is_skipped(run, tmp_path):
    assert perform_in(tmp_path, run) == perform_in(tmp_path, run, never)


@pytest.mark.parametrize("change", [
    lambda run: replace(run, config=replace(run.config, lr=1e-3)), lambda run: replace(run, evaluate=(1, 4)),
    lambda run: replace(run, addressing=OneRow)], ids=["config", "evaluate", "addressing"])
def test_a_result_of_other_settings_is_refused(run, tmp_path, change):
    perform_in(tmp_path, run)
    other = change(run)
    with pytest.raises(InputError, match="as planned"):
        perform_in(tmp_path, other)
    with pytest.raises(InputError, match="as planned"):
        read_all(Experiment("tiny", (other,), measure, ()), tmp_path / "results")


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"evaluations": 1}'])
def test_an_unreadable_result_is_refused(run, tmp_path, content):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / f"{run.name}.json").write_bytes(content)
    with pytest.raises(InputError, match="move it away"):
        perform_in(tmp_path, run)


def test_a_result_that_lacks_an_evaluation_is_refused(run, tmp_path):
    path = tmp_path / "results" / f"{run.name}.json"
    result = perform_in(tmp_path, run)
    path.write_text(json.dumps(result | {"evaluations": result["evaluations"][:1]}), encoding="utf-8")
    with pytest.raises(InputError, match="evaluations at steps"):
        perform_in(tmp_path, run)


@pytest.mark.parametrize("evaluate", [(), (2, 3), (2, 1, 4)])
def test_the_last_evaluation_is_at_the_end(run, evaluate):
    with pytest.raises(InputError, match="ascending steps"):
        replace(run, evaluate=evaluate)


def test_processes_perform_a_plan_and_one_that_fails_does_not_stop_the_others(run, tmp_path):
    plan = tuple(replace(run, config=replace(run.config, seed=seed, lr=lr))
                 for seed, lr in ((1, 5e-3), (2, 1e30), (3, 5e-3)))
    experiment = Experiment("tiny", plan, measure, (
        Criterion("growth", "i", "", "", 0.0, "", lambda runs: runs["text-4-engram"]["evaluations"][0]["loss"]),))
    found = dict(perform_all(experiment, plan, tmp_path / "results", tmp_path / "work", "numpy", 2, ABOUT))
    assert isinstance(found[plan[1]], InputError) and "learning rate" in str(found[plan[1]])
    results = read_all(experiment, tmp_path / "results")
    assert [result["seed"] for result in results] == [1, 3]
    assert [list(group) for group in by_seed(results)] == [["text-4-engram"]] * 2
    shown = summary(experiment, tmp_path / "results")
    assert (shown["planned"], shown["finished"], shown["commits"]) == (3, 2, ["abc"])
    assert shown["criteria"][0]["verdict"] == "inconclusive" and len(shown["criteria"][0]["values"]) == 2
    assert shown["curves"]["text-4-engram"]["answers.fact"] == {"steps": [2, 4], "values": [[2, 4]] * 2}
    json.dumps(shown)


def test_the_plan_is_printed(capsys):
    assert lab.main(["memory", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("world-") and lines[-1].startswith(f"{len(lines) - 1} runs")


@pytest.mark.parametrize("arguments", [["memoy"], ["memory", "--only", "x"], ["memory", "--workers", "0"],
                                       ["memory", "--backend", "jax"]])
def test_bad_arguments_are_one_line(arguments, capsys):
    assert lab.main([*arguments, "--list"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("outcome, code", [({"evaluations": [{"loss": 1.5}], "seconds": 2}, 0),
                                           (InputError("loss", "finite values", "NaN"), 2)], ids=["result", "error"])
def test_the_command_reports_every_run(monkeypatch, tmp_path, capsys, outcome, code):
    monkeypatch.setattr(lab, "RESULTS", tmp_path)
    monkeypatch.setattr(lab, "commit_of", lambda path: path.name)
    monkeypatch.setattr(lab, "perform_all", lambda experiment, runs, *_: ((run, outcome) for run in runs))
    assert lab.main(["memory", "--only", "kjv-*-moe-1*"]) == code
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and all(("1.5" if code == 0 else "NaN") in line for line in lines)


def test_criteria_must_be_committed(tmp_path):
    with pytest.raises(InputError, match="commit the criteria"):
        lab.commit_of(tmp_path / "memory.py")
