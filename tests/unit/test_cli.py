"""The command line: output, exit codes, one-line errors and standard input."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engram_ref.cli.doctor import PUBLISHED
from engram_ref.cli.main import main
from engram_ref.presets import presets
from engram_ref.stages import STAGES

V41 = ["--preset", "deepseek-v4.1-flash"]
ROWS_OF_0_3 = ["ids", "--layer", "all", "--flat", "--canonical", "--tokens", "0,3"]


def run(capsys, *argv):
    """Run one command in this process; return exit code, standard output and standard error."""
    try:
        code = main(list(argv))
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    return code, out, err


def spawn(*argv, env=None, **kwargs):
    """Run one command in a new process."""
    return subprocess.run([sys.executable, "-m", "engram_ref", *argv], capture_output=True, text=True,
                          env=os.environ | (env or {}), timeout=60, **kwargs)


def test_ids_digests_match_the_published_ones(capsys, known_addressing):
    published = known_addressing["deepseek-v4.1-flash"]["digests"]
    assert run(capsys, *ROWS_OF_0_3, "--digest")[1].strip() == published["rows_of_0_3"]
    step = ["ids", "--flat", "--canonical", "--history", "0,3", "--tokens", "15", "--digest"]
    assert run(capsys, *step)[1].strip() == published["step_15_after_0_3"]


def test_ids_text_json_and_npy_agree(capsys, tmp_path):
    code, out, _ = run(capsys, *ROWS_OF_0_3, "--json")
    rows = np.array(json.loads(out)["rows"])
    assert code == 0 and rows.shape == (1, 2, 2, 24)
    run(capsys, *ROWS_OF_0_3, "--out", str(tmp_path / "rows.npy"))
    assert np.array_equal(np.load(tmp_path / "rows.npy"), rows)
    printed = run(capsys, *ROWS_OF_0_3)[1]
    numbers = {int(word) for word in printed.split() if word.isdigit()}
    assert set(rows.ravel().tolist()) <= numbers


def test_ids_of_a_text_equal_those_of_its_tokens(capsys):
    by_text = json.loads(run(capsys, "ids", "the The", "--json")[1])
    by_tokens = json.loads(run(capsys, "ids", "--tokens", "1805,455", "--json")[1])
    assert by_text == by_tokens
    assert by_text["canonical_ids"][0] == by_text["canonical_ids"][1]


def test_ids_reads_standard_input():
    from_pipe = spawn("ids", "--digest", input="the The\n")
    assert from_pipe.stdout == spawn("ids", "the The", "--digest").stdout and from_pipe.returncode == 0


def test_dead_is_accepted_as_a_word(capsys):
    result = json.loads(run(capsys, "ids", "--canonical", "--tokens", "5,dead,7", "--json")[1])
    assert result["canonical_ids"] == [5, -1, 7]


def test_walk_of_a_preset_shows_its_addresses_and_no_values(capsys):
    code, out, _ = run(capsys, "walk", *V41)
    shown = json.loads(run(capsys, "walk", *V41, "--json")[1])
    assert code == 0 and "addresses only" in out and "preset deepseek-v4.1-flash, layer 1" in out
    assert not any(line.endswith(" float32") for line in out.splitlines())
    for row in shown["stages"]["rows"]["values"][3]:
        assert str(row) in out
    assert list(shown["stages"]) == ["canonical_ids", "windows", "mix", "rows"] and "next" not in shown["tokens"][0]


def test_walk_and_ids_give_the_same_rows(capsys):
    argv = ["walk", *V41, "horse", "--layer", "14", "--json"]
    walked = json.loads(run(capsys, *argv)[1])["stages"]["rows"]["values"]
    rows = json.loads(run(capsys, "ids", "horse", "--layer", "14", "--json")[1])["rows"][0]
    assert walked == [row[0] for row in rows]


def test_walk_step_shows_formula_and_source(capsys):
    out = run(capsys, "walk", "hi", "--step")[1]
    assert all(stage.formula in out for stage in STAGES)
    assert "engram_ref/ops/hashing.py:" in out


def test_walk_plot_writes_the_readme_figure(capsys, tmp_path):
    path = tmp_path / "walk.svg"
    assert run(capsys, "walk", "--plot", str(path))[0] == 0
    committed = (Path(__file__).parents[2] / "docs/assets/walk.svg").read_text(encoding="utf-8")
    shown = json.loads(run(capsys, "walk", "--json")[1])
    gates = np.mean(shown["stages"]["gate"]["values"], axis=1)
    firsts = [token["next"][0] for token in shown["tokens"]]
    focus = int(np.argmax([first["probability"] - first["without_memory"] for first in firsts]))
    first = firsts[focus]
    texts = [f"the gate is {gates[focus]:.2f}", *(f"{gate:.2f}" for gate in gates), "King James Bible",
             f"row {shown['stages']['rows']['values'][focus][0]:,}", first["text"].strip(),
             f"{first['probability']:.2f}", f"{first['without_memory']:.2f}"]
    for figure in (path.read_text(encoding="utf-8"), committed):
        assert [text for text in texts if text not in figure] == []


def test_the_figure_of_a_preset_has_no_gates(capsys, tmp_path):
    assert run(capsys, "walk", *V41, "--plot", str(tmp_path / "walk.svg"))[0] == 0
    figure = (tmp_path / "walk.svg").read_text(encoding="utf-8")
    row = json.loads(run(capsys, "walk", *V41, "--json")[1])["stages"]["rows"]["values"][3][0]
    assert f"row {row:,}" in figure and "Alexander" in figure and "gate" not in figure


@pytest.mark.parametrize("argv", [["presets"], ["doctor"]], ids=["presets", "doctor"])
def test_presets_and_doctor_print_text_and_json(capsys, argv):
    code, out, _ = run(capsys, *argv)
    assert code == 0 and out
    assert json.loads(run(capsys, *argv, "--json")[1])


def test_presets_lists_every_preset_and_its_size(capsys):
    out = run(capsys, "presets")[1]
    assert all(name in out for name in presets()) and "196,613,849,600" in out


def test_doctor_fails_if_a_digest_differs(capsys, monkeypatch):
    monkeypatch.setitem(PUBLISHED, "primes", "0" * 64)
    code, out, _ = run(capsys, "doctor")
    assert code == 1 and "differs" in out


def test_several_words_are_joined_into_one_text(capsys):
    assert run(capsys, "ids", "the", "horse", "--json")[1] == run(capsys, "ids", "the horse", "--json")[1]


def test_json_contains_every_position_of_a_long_text(capsys):
    text = " ".join(f"word{i}" for i in range(60))
    shown = json.loads(run(capsys, "walk", text, "--json")[1])
    assert len(shown["tokens"]) == len(shown["stages"]["rows"]["values"]) > 100


def test_fit_reads_only_the_part_that_it_keeps(capsys):
    """Shortening a line must not read the part that is cut off."""
    from engram_ref.cli.terminal import fit

    assert fit("x" * 2_000_000, 80, keep="right").endswith("x") and len(fit("日" * 10**6, 80)) < 80


def test_plot_shows_the_requested_position(capsys, tmp_path):
    text, path = " ".join(f"tok{i}" for i in range(60)), tmp_path / "far.svg"
    run(capsys, "walk", text, "--position", "100", "--plot", str(path))
    row = json.loads(run(capsys, "walk", text, "--position", "100", "--json")[1])["stages"]["rows"]["values"][0][0]
    assert f"row {row:,}" in path.read_text(encoding="utf-8")


def test_ngrams_are_shown_as_canonical_text(capsys):
    shown = json.loads(run(capsys, "walk", *V41, "ﬁnance français", "--json")[1])["tokens"]
    words = [word for token in shown for word in token["ngrams"]["2"]]
    assert "fi" in words and "ﬁ" not in words and not any("ç" in word for word in words)


BAD_INPUT = {
    "empty text": (["walk", ""], "an empty string"),
    "negative id": (["ids", "--tokens", "5,-3"], "-3 at position 1"),
    "id too large": (["ids", "--tokens", "5,129280"], "129280 at position 1"),
    "id past int64": (["ids", "--tokens", "9" * 30], "position 0"),
    "not a number": (["ids", "--tokens", "1,x"], "'x' at position 1"),
    "canonical id too large": (["ids", "--canonical", "--tokens", "99092"], "99092 at position 0"),
    "unknown preset": (["walk", "--preset", "deepseek-v4"], "did you mean deepseek-v4.1-flash?"),
    "layer not in preset": (["walk", *V41, "--layer", "15"], "1, 14"),
    "layer not a number": (["ids", "--layer", "one", "hi"], "'one'"),
    "superscript as layer": (["ids", "--layer", "²", "hi"], "'²'"),
    "dead without barrier": (["ids", "--preset", "demo", "--tokens", "1,dead"], "position 1"),
    "history too long": (["ids", "--tokens", "1", "--history", "1,2,3,4"], "at most 3"),
    "text and tokens": (["ids", "hi", "--tokens", "1"], "both"),
    "canonical text": (["ids", "hi", "--canonical"], "found text"),
    "position past the end": (["walk", "hi", "--position", "9"], "9"),
    "unknown stage": (["walk", "--stage", "gates"], "did you mean gate?"),
    "value of a preset": (["walk", *V41, "--stage", "gate"], "without --preset, a trained model is shown"),
    "stage of other models": (["walk", "--stage", "experts.experts"], "this model has no such stage"),
    "preset and checkpoint": (["walk", *V41, "--checkpoint", "."], "no --preset"),
    "tokenizer of a model": (["walk", "--tokenizer", "own.json"], "its own vocabulary"),
    "no checkpoint": (["walk", "--checkpoint", "."], "a folder with a checkpoint"),
    "text for raw-id preset": (["ids", "hi", "--preset", "qwen4exp-ple"], "not included"),
    "walk of raw-id preset": (["walk", "--preset", "qwen4exp-ple"], "not included"),
    "unknown plot format": (["walk", "--plot", "a.png"], ".svg"),
    "plot without folder": (["walk", "--plot", "no/such/a.svg"], "folder"),
    "unknown command": (["wlak"], "did you mean walk?"),
    "unknown option": (["walk", "--fast"], "--fast"),
    "half a surrogate": (["walk", "\ud800"], "surrogate"),
}


@pytest.mark.parametrize("argv, message", BAD_INPUT.values(), ids=BAD_INPUT)
def test_bad_input_prints_one_line_and_exits_2(capsys, monkeypatch, tmp_path, argv, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *argv)
    assert (code, out) == (2, "")
    assert message in err and err.count("\n") == 1 and "Traceback" not in err
    assert list(tmp_path.iterdir()) == []
