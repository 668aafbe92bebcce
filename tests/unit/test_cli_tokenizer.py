"""--tokenizer FILE: ids and walk with a custom vocabulary."""

import json

import numpy as np
import pytest

from engram_ref import Addressing, Vocabulary, preset
from engram_ref.text.vocabulary import packaged_tokenizer_file
from tests.unit.test_cli import run


@pytest.fixture(scope="module")
def custom_file(tmp_path_factory):
    """Path of a byte-level BPE tokenizer with 300 ids."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(["the quick brown fox"] * 9,
                                  trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False))
    path = tmp_path_factory.mktemp("own") / "own.json"
    tokenizer.save(str(path))
    return str(path)


def test_ids_with_a_custom_vocabulary(capsys, custom_file):
    vocabulary = Vocabulary.from_file(custom_file)
    config = vocabulary.configure(preset("demo"))
    ids = vocabulary.canonical[vocabulary.encode("the fox")]
    expected = Addressing(config, vocabulary).rows(ids, 15)
    options = ["--preset", "demo", "--layer", "15", "--tokenizer", custom_file, "--json"]
    code, out, err = run(capsys, "ids", *options, "the fox")
    assert (code, err) == (0, "")
    assert np.array_equal(np.array(json.loads(out)["rows"])[0, :, 0], expected)
    raw = ",".join(map(str, vocabulary.encode("the fox")))
    assert run(capsys, "ids", *options, "--tokens", raw)[1] == out
    assert run(capsys, "ids", "--preset", "demo", "--layer", "15", "--json", "the fox")[1] != out


def test_the_released_file_is_recognised_by_its_digest(capsys):
    text = "Only Alexander"
    assert run(capsys, "ids", "--digest", "--tokenizer", str(packaged_tokenizer_file()), text) == (
        run(capsys, "ids", "--digest", text))


def test_a_raw_id_dialect_accepts_a_tokenizer(capsys, custom_file):
    ids = Vocabulary.from_file(custom_file).encode("the fox")
    code, out, _ = run(capsys, "ids", "--preset", "qwen4exp-ple", "--tokenizer", custom_file, "--json", "the fox")
    assert code == 0
    assert json.loads(out)["canonical_ids"] == ids.tolist()


def test_walk_with_a_custom_vocabulary(capsys, custom_file):
    vocabulary = Vocabulary.from_file(custom_file)
    config = vocabulary.configure(preset("deepseek-v4.1-flash"))
    argv = ["walk", "--preset", config.name, "--tokenizer", custom_file, "the fox"]
    code, out, err = run(capsys, *argv, "--json")
    assert (code, err) == (0, "")
    walk = json.loads(out)
    ids = vocabulary.encode("the fox")
    assert (walk["vocabulary"], [token["raw_id"] for token in walk["tokens"]]) == ("own", ids.tolist())
    rows = Addressing(config, vocabulary).rows(vocabulary.canonical[ids], 1)
    assert walk["stages"]["rows"]["values"] == rows.tolist()
    assert "vocabulary own" in run(capsys, *argv)[1]


def test_invalid_tokenizer_files_exit_2(capsys, custom_file, tmp_path):
    words = tmp_path / "words.json"
    model = {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}
    words.write_text(json.dumps({"version": "1.0", "model": model}), encoding="utf-8")
    cases = {"": "vocabulary file", str(tmp_path / "none.json"): "no file at", str(tmp_path): "vocabulary file",
             __file__: "a tokenizer.json", str(words): "pad_id: expected a raw id"}
    for path, message in cases.items():
        for command in ("ids", "walk"):
            code, out, err = run(capsys, command, "--preset", "deepseek-v4.1-flash", "--tokenizer", path, "a")
            assert (code, out, err.count("\n")) == (2, "", 1)
            assert message in err
