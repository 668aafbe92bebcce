"""walk: computes only the positions that it shows, fits the terminal, and shows partial characters as bytes."""

import io
import itertools
import json
import subprocess
import sys

import numpy as np
import pytest

from engram_ref import Addressing, Vocabulary, load_trained, preset, presets
from engram_ref.cli import terminal, walk_data
from engram_ref.cli.commands import COMMANDS
from engram_ref.cli.walk import MAX_BYTES, MAX_COMPUTED
from engram_ref.cli.walk_data import compute_walk
from engram_ref.cli.walk_text import PAGES
from engram_ref.ops.canonical import REPLACEMENT
from engram_ref.text.pieces import bytes_of_letters, token_bytes
from tests.unit.test_cli import V41, run

LONG = " ".join(f"w{i}" for i in range(400))            # at least 800 tokens
CONFIG = preset("deepseek-v4.1-flash")


@pytest.fixture(scope="module")
def vocabulary():
    return Vocabulary.load("deepseek-v4")


def walk_of(vocabulary, ids, span, trained=None):
    config = CONFIG if trained is None else trained.model.engram
    return compute_walk("", ids, vocabulary, config, config.layer_ids[0], span, trained)


def pages(walk, positions):
    """Everything that walk prints for the given positions."""
    return {name: page(walk, positions) for name, page in PAGES.items() if name in walk.stages}


@pytest.mark.parametrize("has_values", [False, True], ids=["preset", "model"])
def test_selected_positions_are_shown_as_in_the_whole_text(vocabulary, rng, has_values):
    trained = load_trained() if has_values else None
    vocabulary = trained.vocabulary if has_values else vocabulary
    ids = rng.integers(0, vocabulary.size - 1000, 30)
    whole = walk_of(vocabulary, ids, range(30), trained)
    for span in (range(0, 1), range(3, 4), range(25, 30)):
        part = walk_of(vocabulary, ids, span, trained)
        assert pages(part, list(span)) == pages(whole, list(span))
        assert len(part.stages["rows"]) == len(span)


def test_the_cost_of_an_address_does_not_depend_on_its_distance(vocabulary, rng, monkeypatch):
    lengths, plain = [], Addressing.rows
    monkeypatch.setattr(Addressing, "rows", lambda self, ids, *more, **options:
                        lengths.append(len(ids)) or plain(self, ids, *more, **options))
    ids = rng.integers(0, 128_000, 250_000)
    walk = walk_of(vocabulary, ids, range(249_999, 250_000))
    assert lengths == [CONFIG.max_ngram] and len(walk.raw_ids) == 250_000
    assert max(terminal.columns(line) for lines in pages(walk, [249_999]).values() for line in lines) <= 80


def test_a_model_computes_no_positions_after_the_last_one_shown(capsys, monkeypatch):
    lengths, plain = [], walk_data.forward
    monkeypatch.setattr(walk_data, "forward", lambda parameters, ids, *more, **options:
                        lengths.append(len(ids)) or plain(parameters, ids, *more, **options))
    code, out, _ = run(capsys, "walk", LONG)
    assert code == 0 and set(lengths) == {32} and "the first 32 positions" in out
    lengths.clear()
    stages = json.loads(run(capsys, "walk", LONG, "--position", "40", "--json")[1])["stages"]
    heads = load_trained().model.backbone.attention.n_heads
    assert set(lengths) == {41} and stages["attention.attention_weights"]["shape"] == [heads, 1, 41]


def test_the_token_count_covers_the_whole_text(capsys, vocabulary):
    length = len(vocabulary.encode(LONG))
    out = run(capsys, "walk", *V41, LONG)[1]
    assert f"{length} tokens; each reads" in out and f"'{LONG[:70]}" in out
    shown = json.loads(run(capsys, "walk", *V41, LONG, "--position", "700", "--json")[1])
    assert shown["length"] == length and [token["position"] for token in shown["tokens"]] == [700]


@pytest.mark.parametrize("argv, message", [
    (["--json"], f"at most {MAX_COMPUTED} tokens"),
    (["--position", str(MAX_COMPUTED)], f"a position below {MAX_COMPUTED},"),
    (["--position", str(MAX_COMPUTED - 5), "--plot", "x.svg"], f"a position below {MAX_COMPUTED - 11},"),
], ids=["json", "model", "plot"])
def test_too_large_requests_exit_2_before_any_work(capsys, monkeypatch, tmp_path, argv, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("engram_ref.cli.walk.compute_walk", lambda *_: pytest.fail("work has started"))
    code, out, err = run(capsys, "walk", LONG, *argv)
    assert (code, out) == (2, "") and message in err and err.count("\n") == 1 and list(tmp_path.iterdir()) == []


def test_the_last_position_allowed_with_a_model(capsys, monkeypatch):
    monkeypatch.setattr("engram_ref.cli.walk.MAX_COMPUTED", 40)
    argv = ["walk", LONG, "--position"]
    assert run(capsys, *argv, "39")[0] == 0 and run(capsys, *argv, "40")[0] == 2
    assert run(capsys, *argv, "40", *V41)[0] == 0


def test_an_endless_standard_input_exits_2():
    command = f"yes | {sys.executable} -m engram_ref walk -"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and f"at most {MAX_BYTES:,} bytes" in done.stderr and done.stderr.count("\n") == 1


def test_ids_accepts_longer_input_than_walk(capsys, monkeypatch):
    monkeypatch.setattr("engram_ref.cli.walk.MAX_BYTES", 10)
    for argv, text, code in ((["walk", "-"], b"ten bytes.", 0), (["walk", "-"], b"ten and one", 2),
                             (["ids", "-"], b"ten and one", 0)):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
        assert run(capsys, *argv)[0] == code


def test_part_of_a_character_is_shown_as_its_bytes(capsys):
    code, out, _ = run(capsys, "walk", *V41, "✈é")
    assert code == 0 and "'<E2 9C>'" in out and "'<88>'" in out and "â" not in out
    shown = json.loads(run(capsys, "walk", *V41, "✈é", "--json")[1])["tokens"]
    assert [token["bytes"] for token in shown] == ["e2 9c", "88", "c3 a9"]
    assert [token["text"] for token in shown] == ["<E2 9C>", "<88>", "é"]
    assert shown[1]["ngrams"]["2"] == ["<E2 9C>", "<88>"]
    assert "".join(token["bytes"] for token in shown).replace(" ", "") == "✈é".encode().hex()


def test_the_figure_shows_parts_of_characters_as_bytes(capsys, tmp_path):
    run(capsys, "walk", *V41, "✈é", "--plot", str(tmp_path / "walk.svg"))
    assert "&lt;E2 9C&gt;" in (tmp_path / "walk.svg").read_text(encoding="utf-8")


def test_token_bytes_match_the_tokenizers_decoder(vocabulary):
    """Checks every token of the vocabulary that is spelled in byte-level letters."""
    from tokenizers.pre_tokenizers import ByteLevel

    assert set(bytes_of_letters()) == set(ByteLevel.alphabet())
    spelled = {i: token_bytes(vocabulary.spelling(i)) for i in range(vocabulary.size)}
    assert sum(data is None for data in spelled.values()) < 1000
    assert [i for i, data in spelled.items() if data is not None
            and data.decode("utf-8", "replace") != vocabulary.text(i)] == []


def test_spellings_of_other_tokenizers_are_readable(monkeypatch, vocabulary, rng):
    walk = walk_of(vocabulary, rng.integers(0, 100, 3), range(3))
    monkeypatch.setattr(Vocabulary, "text", lambda *_: REPLACEMENT)
    monkeypatch.setattr(Vocabulary, "spelling", lambda *_: "<0xE2>")
    assert walk.spell(0) == "<E2>" and walk.token_bytes(5) == b"\xe2"
    monkeypatch.setattr(Vocabulary, "spelling", lambda *_: "語")
    assert walk.spell(0) == REPLACEMENT


@pytest.mark.parametrize("command", ["walk", "ids"])
def test_a_byte_order_mark_is_reported_and_kept(capsys, command):
    plain, marked = (run(capsys, command, text, "--json") for text in ("horse", "\ufeffhorse"))
    assert plain[2] == "" and "byte-order mark (U+FEFF)" in marked[2] and marked[2].count("\n") == 1
    assert marked[0] == 0 and marked[1] != plain[1]
    assert "byte-order mark" in " ".join(run(capsys, command, "--help")[1].split()).replace("byte- ", "byte-")


def test_text_in_utf_16_is_recognised(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("horse".encode("utf-16"))))
    code, _, err = run(capsys, "ids")
    assert code == 2 and "is it UTF-16?" in err


TEXTS = {
    "wide": "日本語の長い文章です。馬は草原を走る。" * 3,
    "emoji": "🙂 ❤️ 👩‍👩‍👧 ✈️ 🇯🇵 👍🏽 1️⃣",
    "marks": "e\u0301\u0302 \u0301x हिन्दी ไทย 한국어 \u1112\u1161\u11ab",
    "long tokens": "=" * 500 + "-" * 500,
    "control": "a\tb\nc\x00\x1b[31m\u200d\u202e\ufeff\u00ad",
}


SHOWN = {f"{name}, {kind}": (["walk", "--step", *options, text], True) for name, text in TEXTS.items()
         for kind, options in (("preset", V41), ("model", []))}
SHOWN |= {
    "wide, ascii": (["walk", "--step", TEXTS["wide"]], False),
    "marks, ascii": (["walk", TEXTS["marks"]], False),
    "far": (["walk", *V41, "--step", LONG * 2, "--position", "1500"], True),
    "flat ids": (["ids", "--flat", TEXTS["wide"]], True),
}


@pytest.mark.parametrize("argv, unicode", SHOWN.values(), ids=SHOWN)
def test_every_page_fits_80_columns(capsys, monkeypatch, argv, unicode):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("engram_ref.cli.terminal.supports_unicode", lambda: unicode)
    code, out, _ = run(capsys, *argv)
    assert code == 0 and max(map(terminal.columns, out.splitlines())) <= 80 and (unicode or out.isascii())


def test_every_preset_and_help_page_fits_80_columns(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    pages = [["--help"], ["presets"], ["count"], *([command, "--help"] for command in COMMANDS)]
    walks = [["walk", "--step", "--preset", name] for name in presets() if preset(name).vocabulary is not None]
    wide = {" ".join(argv): line for argv in (*pages, *walks) for line in run(capsys, *argv)[1].splitlines()
            if terminal.columns(line) > 80}
    assert wide == {}


@pytest.mark.parametrize("columns, widest", [(60, 80), (100, 100), (300, 120)])
def test_output_uses_at_most_120_columns(capsys, monkeypatch, columns, widest):
    monkeypatch.setenv("COLUMNS", str(columns))
    texts = [run(capsys, *argv)[1] for argv in (["walk"], ["walk", *V41], ["walk", "--help"], ["presets"])]
    result = [max(map(terminal.columns, text.splitlines())) for text in texts]
    assert max(result) <= widest and (columns == 60 or max(result) > 80)


def test_combining_characters_have_zero_width():
    widths = {"한": 2, "\u1112\u1161\u11ab": 2, "1\ufe0f\u20e3": 2, "é": 1, "e\u0301": 1}
    assert {text: terminal.columns(text) for text in widths} == widths
    for text, width in itertools.product(TEXTS.values(), range(4, 30)):
        assert {terminal.columns(terminal.fit(text, width, side)) for side in ("left", "right")} == {width}


def test_every_stage_in_json_has_only_the_requested_positions(capsys):
    argv = ["walk", LONG, "--json", "--position", "333"]
    for name, stage in json.loads(run(capsys, *argv)[1])["stages"].items():
        letters = stage["axes"].split()
        assert stage["shape"][letters.index("T") - (len(letters) - len(stage["shape"]))] == 1, name
        assert stage["values"] is None or list(np.shape(stage["values"])) == stage["shape"]
