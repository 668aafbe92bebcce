"""Unicode tables of the normaliser: which characters each of its steps changes, and into what.

Python's own tables (`unicodedata`, `str.lower`) change from one Python version to the next, and with them
the canonical ids of a vocabulary would change. The demo computes its map with the `tokenizers` library. So
the library's tables ship with this package, as data.

Source: tokenizers 0.23.3, by scripts/freeze_unicode.py. Of the versions from 0.21.0 on, those before 0.22.2 lack
some of the newest capital letters; the other tables are the same.
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
DIGEST = "03fb3adb7a2c1fb7b8d71d79ffaf90f4bfc5e37dc0228fcc104ffba5c067a71e"
"""sha256 of the unpacked file."""

SYLLABLES = range(0xAC00, 0xD7A4)
"""The Hangul syllables. They decompose by arithmetic, so the file leaves them out."""


class UnicodeTables(NamedTuple):
    """One table per step, in the form that `str.translate` takes: character number -> replacement.

    A character that is not in a table stays as it is.
    """

    fold: dict[int, str]            # compatibility characters -> their plain form
    decompose: dict[int, str]       # composed characters -> base character, then marks
    marks: dict[int, None]          # marks that strip_accents deletes
    lowercase: dict[int, str]       # capital letters -> small letters


@functools.cache
def load_tables() -> UnicodeTables:
    """The shipped tables, checked against their digest; read at the first call.

    raises   InputError if the file is missing or damaged
    """
    try:
        data = gzip.decompress(TABLES.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise InputError("unicode tables", "the file of this package", str(error), "reinstall engram_ref") from error
    check_sha256("unicode tables", hashlib.sha256(data).hexdigest(), DIGEST, "reinstall engram_ref")
    stored = json.loads(data)
    return UnicodeTables(
        fold=by_number(stored["fold"]),
        decompose=by_number(stored["decompose"]) | {number: hangul_letters(number) for number in SYLLABLES},
        marks=dict.fromkeys(map(ord, stored["marks"])),
        lowercase=by_number(stored["lowercase"]),
    )


def by_number(table: dict[str, str]) -> dict[int, str]:
    """The same table with character numbers as keys."""
    return {ord(character): replacement for character, replacement in table.items()}


def hangul_letters(number: int) -> str:
    """The two or three letters of a Hangul syllable: 19 leads, 21 vowels, 27 tails or none.

    number   in SYLLABLES
    source   Unicode Standard, section 3.12

    >>> hangul_letters(ord("한")) == "\u1112\u1161\u11ab"
    True
    """
    lead, rest = divmod(number - SYLLABLES.start, 21 * 28)
    vowel, tail = divmod(rest, 28)
    return chr(0x1100 + lead) + chr(0x1161 + vowel) + (chr(0x11A7 + tail) if tail else "")
