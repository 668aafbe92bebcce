"""Vocabularies: the shipped maps and their counts, encoding, and invalid maps."""

import io
import unicodedata
from collections import Counter
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from engram_ref import Addressing, InputError, Vocabulary, preset
from engram_ref.ops.canonical import normalise
from engram_ref.oracle.slow.addressing import digest
from engram_ref.text import maps

NAMES = ("deepseek-v3", "deepseek-v4")
SIZES = {"deepseek-v3": (128_815, 98_627, 23.435), "deepseek-v4": (129_280, 99_092, 23.351)}
DIGESTS = {
    "deepseek-v3": "0e84461b633329215755b30226757dc28a1c49772f351048fe3b4c2070fb7649",
    "deepseek-v4": "26b9be2936d236a124ba318a998c417bc7032e3e92a3107fe98deee49f1dc496",
}


@cache
def loaded(name):
    """A vocabulary whose tokenizer file is parsed once for all tests."""
    return Vocabulary.load(name)


@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_map_matches_the_published_digest(name):
    vocabulary = Vocabulary.load(name)
    size, classes, reduction = SIZES[name]
    assert (vocabulary.size, vocabulary.canonical_size) == (size, classes)
    assert round(100 * (1 - classes / size), 3) == reduction
    assert vocabulary.digest == digest(vocabulary.canonical) == DIGESTS[name]
    assert vocabulary.canonical.dtype == np.int64


@pytest.mark.parametrize("name", NAMES)
def test_first_ids_map_to_themselves(name):
    assert Vocabulary.load(name).canonical[:3].tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", NAMES)
def test_classes_are_numbered_by_their_first_id(name):
    canonical = Vocabulary.load(name).canonical
    classes, first = np.unique(canonical, return_index=True)
    assert classes.tolist() == list(range(len(classes)))
    assert (np.diff(first) > 0).all()


def test_the_cached_map_is_read_only():
    with pytest.raises(ValueError, match="read-only"):
        Vocabulary.load("deepseek-v4").canonical[0] = 7


@pytest.mark.parametrize("name", NAMES)
def test_largest_classes(name):
    vocabulary = loaded(name)
    members = Counter(vocabulary.canonical.tolist()).most_common(8)
    result = [(normalise(vocabulary.text(int(vocabulary.members(c)[0]))), size) for c, size in members]
    assert result[:4] == [(" ", 163), ("a", 54), ("o", 40), ("e", 35)]
    assert sorted(result[4:6]) == [("i", 30), ("u", 30)]
    assert "BENGALI" in unicodedata.name(result[6][0]) and result[6][1] == 26
    assert result[7] == ("s", 24)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", ["", "a", "the The THE", " \n\t", "\u0928\u092e\u0938\u094d\u0924\u0947 \U0001f40e",
                                  "\ufeffthe"],
                         ids=["empty", "one letter", "cases", "white space", "not Latin", "byte-order mark"])
def test_encode_then_decode(name, text):
    vocabulary = loaded(name)
    ids = vocabulary.encode(text)
    assert ids.dtype == np.int64 and ids.ndim == 1
    assert vocabulary.tokenizer.decode(ids.tolist(), skip_special_tokens=False) == text


def test_encode_adds_no_special_tokens():
    assert loaded("deepseek-v4").encode("").shape == (0,)
    ids = loaded("deepseek-v4").encode("the The THE")
    assert ids.tolist() == [1805, 455, 6367]
    assert set(loaded("deepseek-v4").canonical[ids]) == {237}


def test_v3_encodes_ordinary_text_like_v4():
    text = "Only Alexander the Great could tame the horse Bucephalus."
    assert np.array_equal(*[loaded(name).encode(text) for name in NAMES])


@pytest.mark.parametrize("text, token", [("a<think>", 128_821), ("</think>", 128_822)], ids=["think", "end of think"])
def test_v3_raises_for_text_that_v4_encodes_differently(text, token):
    with pytest.raises(InputError, match=f"id {token} at position {len(text) - len(text.lstrip('a'))}"):
        loaded("deepseek-v3").encode(text)
    assert token in loaded("deepseek-v4").encode(text)


@pytest.mark.parametrize("token", [128_798, 128_799, 128_815, 129_279])
def test_v3_raises_for_ids_without_a_known_spelling(token):
    vocabulary = loaded("deepseek-v3")
    for method in (vocabulary.text, vocabulary.spelling):
        with pytest.raises(InputError, match=f"found id {token}"):
            method(token)


def test_half_a_surrogate_pair_raises():
    with pytest.raises(InputError, match=r"text: .*surrogate at position 1"):
        loaded("deepseek-v4").encode("a\ud800")


def test_unknown_name_raises_with_a_suggestion():
    with pytest.raises(InputError, match=r"one of deepseek-v3, deepseek-v4, found .*did you mean deepseek-v4\?"):
        Vocabulary.load("deepseek-v44")


def pack_map(canonical: np.ndarray) -> bytes:
    """Pack a map as the package stores it, as a compressed .npz: int64 [V] -> bytes."""
    starts_class = np.zeros(len(canonical), dtype=bool)
    starts_class[np.unique(canonical, return_index=True)[1]] = True
    joined = np.flatnonzero(~starts_class)
    buffer = io.BytesIO()
    gaps = np.diff(joined, prepend=0).astype("<u2")
    np.savez_compressed(buffer, size=len(canonical), gaps=gaps, classes=canonical[joined].astype("<u4"))
    return buffer.getvalue()


def test_packed_map_round_trip():
    for canonical in ([0], [0, 0, 0], [0, 1, 0, 2, 1], list(range(9))):
        packed = pack_map(np.array(canonical))
        assert maps.unpack_map(packed).tolist() == canonical


@pytest.mark.parametrize("damage", ["truncated", "empty", "one entry changed", "missing"])
def test_damaged_packed_map_raises(damage, tmp_path, monkeypatch):
    canonical = maps.load_map("deepseek-v4").copy()
    canonical[-1] = 5
    contents = {"truncated": maps.PACKED_MAP.read_bytes()[:1000], "empty": b"",
                "one entry changed": pack_map(canonical)}
    if damage in contents:
        (tmp_path / "map.npz").write_bytes(contents[damage])
    monkeypatch.setattr(maps, "PACKED_MAP", tmp_path / "map.npz")
    with pytest.raises(InputError, match="canonical map"):
        maps.load_map.__wrapped__("deepseek-v4")  # bypass the cache


def test_map_of_the_same_size_with_a_different_digest_raises():
    canonical = Vocabulary.load("deepseek-v4").canonical.copy()
    canonical[[100, 101]] = canonical[[101, 100]]
    with pytest.raises(InputError, match=r"canonical map: expected the map of deepseek-v4, sha256 26b9be2936d236a1"):
        Addressing(preset("tiny"), Vocabulary("revised", canonical))


def test_map_of_the_wrong_size_raises():
    config = replace(preset("tiny"), vocabulary="words", vocab_size=5, canonical_size=4, pad_id=2)
    with pytest.raises(InputError, match="canonical_size: expected 5 and 3, as in words, found 5 and 4"):
        Addressing(config, Vocabulary("words", np.array([0, 0, 1, 1, 2])))
