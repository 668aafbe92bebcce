"""The normaliser against the `tokenizers` library, character by character and on random strings; damaged tables."""

import gzip
import random

import pytest
from tokenizers import Regex, normalizers

from engram_ref import InputError, unicode
from engram_ref.ops.canonical import normalise
from tests.unit.test_canonical import NORMALISED

ASSIGNED_PLANES = (0, 1, 2, 3, 14)      # the others are for private use or empty
PLANE = 0x10000

BLOCKS = [
    range(0x20), range(0x20, 0x7F), range(0x80, 0x250), range(0x250, 0x300), range(0x300, 0x370), range(0x370, 0x530),
    range(0x591, 0x660), range(0x890, 0x980), range(0x980, 0xE80), range(0x1100, 0x1200), range(0x1AB0, 0x1AFF),
    range(0x1CD0, 0x1D00), range(0x1DC0, 0x2000), range(0x2000, 0x2070), range(0x20D0, 0x2190), range(0x3000, 0x3200),
    range(0x3200, 0x3400), range(0xA640, 0xA6A0), range(0xAC00, 0xD7A4), range(0xF900, 0xFB50), range(0xFE00, 0xFFF0),
    range(0x11000, 0x11A00), range(0x1D100, 0x1D800), range(0x1E800, 0x1E960), range(0x2F800, 0x2FA20),
    [0xE000], [0x20], [ord("\n")], [0x03A3], [0x0130], [0x0345], [0x0898], [0x32FF], [0xFEFF],
]  # fmt: skip
"""Ranges with decomposing letters, combining marks and other special cases; random strings mix them."""


def library_normaliser():
    """The normaliser as the demo builds it from the library's parts."""
    lone_space = "\ue000"
    return normalizers.Sequence([
        normalizers.NFKC(), normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase(),
        normalizers.Replace(Regex(r"[ \t\r\n]+"), " "), normalizers.Replace(Regex("^ $"), lone_space),
        normalizers.Strip(), normalizers.Replace(lone_space, " "),
    ])  # fmt: skip


def random_strings(seed, count):
    draw = random.Random(seed)
    return ["".join(chr(draw.choice(draw.choice(BLOCKS))) for _ in range(draw.randint(0, 8))) for _ in range(count)]


def differences(strings):
    """Up to five strings that the library normalises differently: (string, our answer, the library's)."""
    library = library_normaliser().normalize_str
    return [tuple(ascii(text)[:100] for text in (string, normalise(string), library(string)))
            for string in strings if normalise(string) != library(string)][:5]


def test_every_character_of_the_assigned_planes():
    characters = [chr(c) for plane in ASSIGNED_PLANES for c in range(PLANE * plane, PLANE * (plane + 1))
                  if not 0xD800 <= c < 0xE000]
    assert differences(characters) == []


def test_every_character_of_the_other_planes():
    others = set(range(17)) - set(ASSIGNED_PLANES)
    assert differences("".join(map(chr, range(PLANE * plane, PLANE * (plane + 1)))) for plane in others) == []


@pytest.mark.parametrize("seed", range(3), ids="seed {}".format)
def test_random_strings(seed):
    assert differences(random_strings(seed, 20_000)) == []


@pytest.mark.parametrize("text", [case[1] for case in NORMALISED], ids=[case[0] for case in NORMALISED])
def test_the_library_normalises_to_the_same_text(text):
    assert library_normaliser().normalize_str(text) == normalise(text)


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "not gzip", "one letter changed"])
def test_damaged_tables_raise(damage, tmp_path, monkeypatch):
    packed = unicode.TABLES.read_bytes()
    contents = {"empty": b"", "truncated": packed[:1000], "not gzip": b"{}",
                "one letter changed": gzip.compress(gzip.decompress(packed).replace(b'"A":"a"', b'"A":"b"'))}
    if damage in contents:
        (tmp_path / "tables").write_bytes(contents[damage])
    monkeypatch.setattr(unicode, "TABLES", tmp_path / "tables")
    with pytest.raises(InputError, match=r"unicode tables: .*\(reinstall engram_ref\)"):
        unicode.load_tables.__wrapped__()  # bypass the cache
