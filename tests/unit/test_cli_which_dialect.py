"""engram-ref ids --which-dialect: which preset, layer or known bug gives the rows in a file."""

import json

import numpy as np
import pytest

from engram_ref import Addressing, preset
from engram_ref.oracle.bugs import BUGS, namespace_with
from tests.unit.test_cli import run

IDS, TOKENS = np.array([5, 6, 7, 1, 2]), ["ids", "--canonical", "--tokens", "5,6,7,1,2", "--which-dialect"]


def rows_of(name="deepseek-v4.1-flash", layer=14, bug=None, flat=False):
    ops = {"ops": namespace_with(bug)} if bug else {}
    return Addressing(preset(name), **ops).rows(IDS, layer, flat=flat)


@pytest.fixture
def asked(capsys, tmp_path):
    """Ask for the dialect of some rows; return exit code, standard output and standard error."""
    def ask(rows, *options):
        np.save(tmp_path / "rows.npy", rows)
        return run(capsys, *TOKENS, str(tmp_path / "rows.npy"), *options)
    return ask


@pytest.mark.parametrize("name, layer, flat, kind", [("deepseek-v4.1-flash", 14, False, "rows per head"),
                                                     ("demo", 15, True, "flat rows"),
                                                     ("qwen4exp-ple", 2, False, "rows per head")])
def test_presets(asked, name, layer, flat, kind):
    code, out, _ = asked(rows_of(name, layer, flat=flat))
    assert code == 0 and f"{name}, layer {layer}, {kind}" in " ".join(out.split()) and "bug" not in out


@pytest.mark.parametrize("bug", ["window-late", "multipliers-oldest-first", "column-order"])
def test_bugs(asked, bug):
    code, out, _ = asked(rows_of(bug=BUGS[bug]), "--json")
    assert code == 0 and json.loads(out)["layers"] == [
        {"share": 1.0, "matches": [f"deepseek-v4.1-flash, layer 14, rows per head, with bug `{bug}`"]}]


def test_the_output_of_ids_itself(capsys, tmp_path):
    file = tmp_path / "rows.json"
    file.write_text(run(capsys, "ids", "--json", "--tokens", "5,6,7,1,2", "--canonical")[1], encoding="utf-8")
    code, out, _ = run(capsys, *TOKENS, str(file))
    assert code == 0 and out.splitlines() == [f"rows {i}: deepseek-v4.1-flash, layer {layer}, rows per head"
                                              for i, layer in enumerate((1, 14))]


def test_no_dialect_matches(asked):
    code, out, _ = asked(rows_of() + (np.arange(24) == 3))
    assert code == 1 and "no known dialect or bug; nearest (96% of rows): deepseek-v4.1-flash" in " ".join(out.split())
    for rows, found in ((rows_of()[:, :5], "rows of shape [5, 5]"), (rows_of()[:2], "rows of shape [2, 24]"),
                        (rows_of() + 10**9, "any of the rows")):
        code, out, _ = asked(rows)
        assert code == 1 and " ".join(out.split()) == f"rows 0: no known dialect or bug gives {found}"


@pytest.mark.parametrize("content", [b"", b"[1, 2]", b'{"rows": "x"}', b"[[0.5, 1]]", b"[[[[1]]], 2]", b"\xff", b"[]"])
def test_unusable_files(capsys, tmp_path, content):
    for name in ("rows.json", "rows.npy"):
        (tmp_path / name).write_bytes(content)
        code, _, err = run(capsys, *TOKENS, str(tmp_path / name))
        assert code == 2 and err.count("\n") == 1 and "expected integers [T, C] or" in err


def test_ids_of_no_preset(capsys, tmp_path):
    np.save(tmp_path / "rows.npy", rows_of())
    code, _, err = run(capsys, "ids", "--tokens", "99999999", "--which-dialect", str(tmp_path / "rows.npy"))
    assert code == 2 and err.startswith("engram-ref: --tokens: expected ids or a text of at least one preset")
