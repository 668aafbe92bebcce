"""The command `engram-ref golden`."""

import json
import os
import re
import stat
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from engram_ref import ops
from engram_ref.cli import golden
from engram_ref.cli.main import main
from engram_ref.errors import InputError
from engram_ref.files import write_folder
from engram_ref.oracle.vectors import GOLDEN, MANIFEST, manifest_digest


def run(capsys, *argv):
    """Run the command and return exit code, standard output and standard error."""
    try:
        code = main(["golden", *map(str, argv)])
    except SystemExit as stop:
        code = stop.code
    return code, *capsys.readouterr()


def verify_with(monkeypatch, **replaced):
    """Make `golden verify` use the NumPy ops with some of them replaced."""
    namespace = SimpleNamespace(**{name: getattr(ops, name) for name in ops.__all__} | replaced)
    monkeypatch.setattr(golden, "load", lambda name: namespace)


def test_verify_prints_counts_and_succeeds(capsys):
    code, out, err = run(capsys, "verify")
    assert code == 0 and err == "" and "rms_norm 8/8" in out and out.endswith("all agree\n")
    assert max(map(len, out.splitlines())) <= 80


def test_failure_report_is_complete(capsys, monkeypatch):
    verify_with(monkeypatch, silu=lambda x: np.maximum(x, 0))
    code, out, _ = run(capsys, "verify")
    assert code == 1 and "silu 0/1" in out and re.search(r"\n1 of \d+ runs differ\n$", out)
    report = " ".join(out.split())
    assert "silu/edges: first differs at output [f64], at (" in report and "ULP apart; allowed difference" in report
    assert "saturated: values so large that a naive exp overflows" in report
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


@pytest.mark.parametrize("field", ["files", "cases", "configurations"])
def test_manifest_without_a_field_gives_a_one_line_error(capsys, tmp_path, field):
    run(capsys, "export", tmp_path / "out")
    path = tmp_path / "out" / MANIFEST
    manifest = json.loads(path.read_bytes())
    del manifest[field]
    path.write_text(json.dumps(manifest | {"sha256": manifest_digest(manifest)}), encoding="utf-8")
    code, out, err = run(capsys, "verify", "--from", tmp_path / "out")
    assert code == 2 and out == "" and err.count("\n") == 1 and f"the field {field}, found none" in err


def test_export_round_trip(capsys, tmp_path):
    folder = tmp_path / "vectors"
    code, out, _ = run(capsys, "export", folder)
    assert code == 0 and MANIFEST in out
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {p.name: p.read_bytes() for p in GOLDEN.iterdir()}
    assert run(capsys, "verify", "--from", folder)[0] == 0
    (folder / "integers.json").write_text("{}", encoding="utf-8")
    code, _, err = run(capsys, "verify", "--from", folder)
    assert code == 2 and err.count("\n") == 1 and "integers.json" in err


def test_export_to_nonempty_folder_fails(capsys, tmp_path):
    (tmp_path / "mine").write_text("precious", encoding="utf-8")
    code, _, err = run(capsys, "export", tmp_path)
    assert code == 2 and "expected a new or empty folder" in err
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]
    assert run(capsys, "export", tmp_path / "mine")[0] == 2
    assert run(capsys, "export", tmp_path / "no" / "where")[0] == 2


def test_export_to_new_and_empty_folders(capsys, tmp_path):
    code, out, _ = run(capsys, "export", tmp_path / "new", "--json")
    assert code == 0 and MANIFEST in json.loads(out)["files"]
    (tmp_path / "empty").mkdir()
    assert run(capsys, "export", tmp_path / "empty")[0] == 0


@pytest.mark.parametrize("place", [".", "../link"])
def test_export_to_current_folder_and_symlink(capsys, monkeypatch, tmp_path, place):
    (tmp_path / "here").mkdir()
    (tmp_path / "link").symlink_to("here")
    monkeypatch.chdir(tmp_path / "here")
    assert run(capsys, "export", place)[0] == 0
    assert {p.name for p in (tmp_path / "here").iterdir()} == {p.name for p in GOLDEN.iterdir()}


def test_export_to_an_empty_path_fails(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, "export", "")
    assert code == 2 and "found an empty name" in err and list(tmp_path.iterdir()) == []


def test_failed_export_leaves_no_files(monkeypatch, tmp_path):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(InputError, match="No space left"):
        write_folder(tmp_path / "out", {"a": b"1"})
    assert list(tmp_path.iterdir()) == []


def test_written_folder_has_default_permissions(tmp_path):
    write_folder(tmp_path / "out", {"a": b"1"})
    (tmp_path / "plain").mkdir()
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("out", "plain")]
    assert modes[0] == modes[1] and (tmp_path / "out" / "a").read_bytes() == b"1"


@pytest.mark.parametrize("argv", [("verify", "somewhere"), ("export",), ("export", "x", "--backend", "numba"),
                                  ("export", "x", "--from", "y"), ("verify", "--backend", "jax"), ("check",), (),
                                  ("verify", "--from", "/nowhere")])
def test_wrong_usage_gives_a_one_line_error(capsys, argv):
    code, out, err = run(capsys, *argv)
    assert code == 2 and out == "" and err.count("\n") == 1


def test_missing_backend_error_names_the_extra():
    """Run in a separate process that cannot import torch."""
    code = ("import sys; sys.modules['torch'] = None; from engram_ref.cli.main import main; "
            "sys.exit(main(['golden', 'verify', '--backend', 'torch']))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2 and "found none (pip install 'engram_ref[torch]'; " in done.stderr


def test_verify_with_numpy_loads_no_backend():
    code = ("import sys; from engram_ref.cli.main import main; main(['golden', 'verify']); "
            "print(sorted({'numba', 'torch'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
