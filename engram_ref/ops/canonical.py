"""Canonical ids: tokens with the same normalised text share one id, and therefore the same memory rows.

A tokenizer gives "The", " the" and "THE" three ids. Engram looks rows up by the last few tokens, so it first maps every
raw id to a canonical id: two tokens are in one class if their normalised texts are equal. The map is computed once per
vocabulary. Its steps are implemented here in plain Python:

    key(token) = raw token string            if its text is an incomplete piece of UTF-8
               = text                        if normalise(text) is empty
               = normalise(text)             otherwise
    canonical(token) = number of distinct keys that occur before the first token with this key

Source: Engram demo (tokenizer compression); paper section 2.2 names NFKC and lowercasing only.
The demo normalises with the `tokenizers` library. The steps here give the same result for every string. They use the
library's Unicode tables (engram_ref/unicode.py), so the result does not depend on the Python version.
"""
import re
from collections.abc import Iterable

import numpy as np

from engram_ref.checks import check_shapes
from engram_ref.errors import InputError
from engram_ref.unicode import load_tables

DEAD = -1
"""Marks a position without a canonical id, such as part of an image span or a masked token."""

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
"""The character with which decoding replaces bytes that are not valid UTF-8."""

WHITE_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
"""Unicode's White_Space property; str.strip() would also strip the separators U+001C to U+001F."""

LONE_SPACE = "\ue000"
"""To protect a text of one space from stripping, the demo replaces it with this character, and later every U+E000
with a space."""


def fold_compatibility(text: str) -> str:
    """Replace full-width letters, ligatures and other compatibility forms with plain characters.

    This is NFKC without its last step, which composes letters and accents: `decompose` would undo it.
    """
    return text.translate(load_tables().fold)


def decompose(text: str) -> str:
    """Replace every composed letter with its base letter and separate marks for its accents.

    This is NFD without its last step, which sorts the marks of a letter: `strip_accents` deletes all of them.
    """
    return text.translate(load_tables().decompose)


def strip_accents(text: str) -> str:
    """Delete every mark: categories Mn, Mc and Me, not only non-spacing marks (Mn).

    The library's table of marks is from an older Unicode version, so newer marks are kept.
    """
    return text.translate(load_tables().marks)


def lowercase(text: str) -> str:
    """Lowercase each character separately; str.lower() on a whole string has a special rule for final sigma."""
    return text.translate(load_tables().lowercase)


def collapse_spaces(text: str) -> str:
    """Replace every run of spaces, tabs and line ends with one space."""
    return re.sub(r"[ \t\r\n]+", " ", text)


def strip_ends(text: str) -> str:
    """Strip white space at both ends, except from a text of one space; replace U+E000 with a space."""
    text = LONE_SPACE if text == " " else text.strip(WHITE_SPACE)
    return text.replace(LONE_SPACE, " ")


STEPS = (fold_compatibility, decompose, strip_accents, lowercase, collapse_spaces, strip_ends)
"""The steps of the normaliser, in order."""


def normalise(text: str) -> str:
    r"""Return the normalised text; tokens with equal normalised texts share a canonical id.

    text      any string
    returns   the string after all STEPS; may be empty
    source    Engram demo, the normaliser of its compressed tokenizer

    >>> normalise(" Café\n"), normalise("\t "), normalise("ＴＨＥ")
    ('cafe', ' ', 'the')
    """
    for step in STEPS:
        text = step(text)
    return text


def canonical_key(text: str, raw_token: str) -> str:
    """Return the key of one token; tokens with equal keys share a canonical id.

    text        the token decoded alone, special tokens kept, without any clean-up
    raw_token   its spelling in the vocabulary, in byte-level characters
    returns     the key; both kinds share one dictionary and may coincide
    source      Engram demo

    >>> canonical_key(" The", "ĠThe"), canonical_key("\N{REPLACEMENT CHARACTER}", "Ã")
    ('the', 'Ã')
    """
    if REPLACEMENT in text:
        return raw_token
    return normalise(text) or text


def canonical_map(tokens: Iterable[tuple[str, str]]) -> np.ndarray:
    """Return the canonical id of every raw id.

    tokens     (text, raw_token) of each id, in ascending order from id 0
    returns    int64 [V]; keys are numbered in the order of their first occurrence
    source     Engram demo

    >>> canonical_map([("The", "The"), (" the", "Ġthe"), ("cat", "cat")])
    array([0, 0, 1])
    """
    classes: dict[str, int] = {}
    ids = [classes.setdefault(canonical_key(text, raw), len(classes)) for text, raw in tokens]
    return np.array(ids, dtype=np.int64)


def canonicalise(ids: np.ndarray, canonical: np.ndarray) -> np.ndarray:
    """Look up every raw id in the map; DEAD stays DEAD.

    ids         int64 [...] in [0, V), or DEAD
    canonical   int64 [V]
    returns     int64 [...]
    raises      InputError naming the first id that is neither in [0, V) nor DEAD
    source      Engram demo (the map); V4.1 release (DEAD)

    Deviation: the demo passes negative ids through unchanged. Here a negative id other than DEAD is an error.

    >>> canonicalise(np.array([1, DEAD, 2]), np.array([0, 0, 1]))
    array([ 0, -1,  1])
    """
    check_ids(ids, len(canonical), allow_dead=True)
    return np.where(ids == DEAD, DEAD, canonical[ids])


def mark_dead(ids: np.ndarray, dead: np.ndarray) -> np.ndarray:
    """Set ids to DEAD where the mask is true: int64 [B, T], bool [B, T] -> int64 [B, T]."""
    check_shapes(dead=(dead, ids.shape))
    return np.where(dead, DEAD, ids)


def check_ids(ids: np.ndarray, size: int, allow_dead: bool, argument: str = "ids") -> None:
    """Raise InputError unless all ids are integers in [0, size).

    ids          [...] of a signed integer dtype
    size         number of valid ids
    allow_dead   also accept DEAD
    raises       InputError naming the first invalid id and its position
    """
    if not np.issubdtype(ids.dtype, np.signedinteger):
        raise InputError(argument, "a signed integer dtype (int64)", str(ids.dtype))
    lowest = DEAD if allow_dead else 0
    invalid = np.argwhere((ids < lowest) | (ids >= size))
    if len(invalid):
        position = tuple(int(i) for i in invalid[0])
        where = position[0] if len(position) == 1 else position
        hint = "" if allow_dead or ids[position] != DEAD else "this dialect has no DEAD mark"
        raise InputError(argument, f"values in [0, {size})", f"{ids[position]} at position {where}", hint)
