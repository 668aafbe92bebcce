"""The command `engram-ref verify`."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from engram_ref import ops
from engram_ref.cli import verify
from engram_ref.cli.main import main
from engram_ref.oracle.vectors import read


def run(capsys, *argv):
    """Run the command and return exit code, standard output and standard error."""
    try:
        code = main([*map(str, argv)])
    except SystemExit as stop:
        code = stop.code
    return code, *capsys.readouterr()


def verify_with(monkeypatch, **replaced):
    """Make `verify` use the NumPy ops with one of them replaced, on the cases of this op and of norms."""
    namespace, vectors = SimpleNamespace(**{name: getattr(ops, name) for name in ops.__all__} | replaced), read()
    cases = tuple(case for case in vectors.cases if case.op in {*replaced, "rms_norm"})
    monkeypatch.setattr(verify, "load", lambda name: namespace)
    monkeypatch.setattr(verify, "read", lambda: replace(vectors, cases=cases))


def test_verify_prints_counts_and_succeeds(capsys):
    code, out, err = run(capsys, "verify")
    assert code == 0 and err == "" and "rms_norm 8/8" in out and out.endswith("all agree\n")
    assert max(map(len, out.splitlines())) <= 80


def test_failure_report_is_complete(capsys, monkeypatch):
    verify_with(monkeypatch, silu=lambda x: np.maximum(x, 0))
    code, out, _ = run(capsys, "verify")
    assert code == 1 and "silu 0/1" in out and "rms_norm 8/8" in out and re.search(r"\n1 of \d+ runs differ\n$", out)
    report = " ".join(out.split())
    assert "First difference: case silu/edges, stage output: " in report and "ULP apart, allowed deviation" in report
    assert "saturated: large values: an exp that overflows" in report
    code, out, _ = run(capsys, "verify", "--json")
    report = json.loads(out)
    [failure] = report["failures"]
    assert code == 1 and not report["ok"] and failure["case"] == "silu/edges" and failure["ulps"] > 1e6


def test_alternative_answer_is_reported(capsys, monkeypatch):
    verify_with(monkeypatch, quantise=lambda x, floor: ops.quantise(x, 0.0))
    code, out, _ = run(capsys, "verify")
    assert code == 0 and out.endswith("all agree\n")
    assert "runs gave a different but acceptable answer:\n  quantise/faint: ok, with the acceptable" in out
    report = json.loads(run(capsys, "verify", "--json")[1])
    assert report["accepted"] == [{"case": "quantise/faint", "traced": False, "answer": "without a floor"}]


@pytest.mark.parametrize("argv", [("verify", "somewhere"), ("verify", "--backend", "jax"), ("verify", "--from", "x")])
def test_wrong_usage_gives_a_one_line_error(capsys, argv):
    code, out, err = run(capsys, *argv)
    assert code == 2 and out == "" and err.count("\n") == 1


@pytest.mark.parametrize("argv", [(), ("verify",), ("export", "x"), ("--help",)])
def test_the_earlier_command_names_those_that_replace_it(capsys, monkeypatch, tmp_path, argv):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, "golden", *argv)
    assert code == 2 and out == "" and err.count("\n") == 1 and list(tmp_path.iterdir()) == []
    assert "golden verify is now verify, and golden export DIR is now kit DIR" in err


def test_missing_backend_error_names_the_extra():
    """Run in a separate process that cannot import torch."""
    code = ("import sys; sys.modules['torch'] = None; from engram_ref.cli.main import main; "
            "sys.exit(main(['verify', '--backend', 'torch']))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2 and "found none (pip install 'engram_ref[torch]'; " in done.stderr
