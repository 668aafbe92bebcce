"""Unicode tables of the normaliser: the characters that each of its steps changes, and their replacements.

Python's own tables (`unicodedata`, `str.lower`) differ between Python versions, and so would the canonical ids of a
vocabulary. The demo computes its map with the `tokenizers` library, so this package ships that library's
tables as data.

Source: tokenizers 0.23.3, extracted by scripts/freeze_unicode.py. The tables have been the same since 0.21.0, except
that versions before 0.22.2 lack some of the newest capital letters.
"""

import functools
import gzip
import hashlib
import json
import zlib
from pathlib import Path
from typing import NamedTuple

from engram_ref.errors import InputError, check_sha256

TABLES = Path(__file__).parent / "data" / "unicode.json.gz"
DIGEST = "03fb3adb7a2c1fb7b8d71d79ffaf90f4bfc5e37dc0228fcc104ffba5c067a71e"      # sha256 of the unpacked file

SYLLABLES = range(0xAC00, 0xD7A4)
"""The Hangul syllables. Their decompositions are computed, so the file omits them."""


class UnicodeTables(NamedTuple):
    """One table per step, in the form for `str.translate`: code point -> replacement; other characters are kept."""

    fold: dict[int, str]            # compatibility characters -> plain characters
    decompose: dict[int, str]       # composed characters -> base character, then its marks
    marks: dict[int, None]          # marks that strip_accents deletes
    lowercase: dict[int, str]       # capital letters -> small letters


@functools.cache
def load_tables() -> UnicodeTables:
    """Load the shipped tables at the first call; raise InputError if the file is missing or damaged."""
    try:
        data = gzip.decompress(TABLES.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise InputError("unicode tables", "the file shipped with this package", f"an error: {error}",
                         "reinstall engram_ref") from error
    check_sha256("unicode tables", hashlib.sha256(data).hexdigest(), DIGEST, "reinstall engram_ref")
    stored = json.loads(data)
    return UnicodeTables(
        fold=str.maketrans(stored["fold"]),
        decompose=str.maketrans(stored["decompose"]) | {point: hangul_letters(point) for point in SYLLABLES},
        marks=dict.fromkeys(map(ord, stored["marks"])),
        lowercase=str.maketrans(stored["lowercase"]),
    )


def hangul_letters(point: int) -> str:
    """Return the letters of a Hangul syllable: one of 19 leads, one of 21 vowels, and one of 27 tails or none.

    point    in SYLLABLES
    source   Unicode Standard, section 3.12

    >>> hangul_letters(ord("한")) == "\u1112\u1161\u11ab"
    True
    """
    lead, rest = divmod(point - SYLLABLES.start, 21 * 28)
    vowel, tail = divmod(rest, 28)
    return chr(0x1100 + lead) + chr(0x1161 + vowel) + (chr(0x11A7 + tail) if tail else "")
