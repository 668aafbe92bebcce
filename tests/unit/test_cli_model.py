"""Commands on whole models: count, and scripts/step_model.py."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from engram_ref.cli import terminal
from engram_ref.model.accounting import PRINTED, summarise
from engram_ref.model_presets import model_preset, model_presets
from tests.unit.test_cli import run

SCRIPT = Path(__file__).parents[2] / "scripts" / "step_model.py"


def test_count_shows_every_model_and_every_published_number(capsys):
    code, out, _ = run(capsys, "count")
    assert code == 0 and all(name in out for name in model_presets())
    assert all(figure in out for figures in PRINTED.values() for _, figure, _ in figures)
    every = json.loads(run(capsys, "count", "--json")[1])
    assert {entry["agrees"] for model in every for entry in model["printed"]} == {"rounded", "truncated"}


def test_count_of_one_model_as_text_and_json(capsys):
    result = summarise(model_preset("engram-27b"))
    out = run(capsys, "count", "engram-27b")[1]
    [shown] = json.loads(run(capsys, "count", "engram-27b", "--json")[1])
    assert f"{result.total:,}" in out and shown["summary"]["total"] == result.total
    assert sum(part["total"] for part in shown["parts"].values()) == result.total
    assert {entry["agrees"] for entry in shown["printed"]} == {"rounded", "truncated"}


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("argv", [["count"], ["count", "engram-40b"]], ids=["count", "count one"])
def test_output_fits_the_terminal(capsys, monkeypatch, argv, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert max(terminal.columns(line) for line in run(capsys, *argv)[1].splitlines()) <= columns


def test_an_unknown_model_exits_2(capsys):
    code, out, err = run(capsys, "count", "engram-27")
    assert (code, out) == (2, "") and "did you mean engram-27b?" in err and err.count("\n") == 1


def test_step_model_runs_to_the_end():
    """The script asserts that its logits equal those of `forward`; this test checks that it gets there."""
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("next token")
