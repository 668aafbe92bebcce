"""Canonical ids: the normaliser step by step, the keys, the lookup and invalid ids."""

import numpy as np
import pytest

from engram_ref.errors import InputError
from engram_ref.ops import canonical as ops
from engram_ref.ops.canonical import DEAD, canonical_key, canonical_map, canonicalise, check_ids, normalise

MAP = np.array([0, 1, 2, 1, 0])

STEPS = [
    ("NFKC: full-width letters", ops.fold_compatibility, "ＴＨＥ", "THE"),
    ("NFKC: a ligature", ops.fold_compatibility, "ﬁne", "fine"),
    ("NFKC: no-break space", ops.fold_compatibility, "\xa0", " "),
    ("NFKC: the era Reiwa is newer than the table", ops.fold_compatibility, "\u32ff", "\u32ff"),
    ("NFD: letter, then accent", ops.decompose, "\u00e9", "e\u0301"),
    ("NFD: Hangul syllable", ops.decompose, "\uac00", "\u1100\u1161"),
    ("NFD: Hangul syllable with a tail", ops.decompose, "\ud7a3", "\u1112\u1175\u11c2"),
    ("marks: non-spacing, Mn", ops.strip_accents, "e\u0301", "e"),
    ("marks: spacing, Mc", ops.strip_accents, "\u0915\u093e", "\u0915"),
    ("marks: enclosing, Me", ops.strip_accents, "a\u20dd", "a"),
    ("marks: a precomposed letter has none", ops.strip_accents, "\u00e9", "\u00e9"),
    ("marks: newer than the table", ops.strip_accents, "a\u0898\u08d3", "a\u0898\u08d3"),
    ("lowercase: final sigma stays medial", ops.lowercase, "\u039f\u03a3", "\u03bf\u03c3"),
    ("lowercase: one letter may become two", ops.lowercase, "\u0130", "i\u0307"),
    ("lowercase: sharp s", ops.lowercase, "\u1e9e\u00df", "\u00df\u00df"),
    ("spaces: a mixed run", ops.collapse_spaces, "a \t\r\n b", "a b"),
    ("spaces: one tab", ops.collapse_spaces, "\t", " "),
    ("spaces: vertical tab is not one", ops.collapse_spaces, "a\v\vb", "a\v\vb"),
    ("strip: both ends", ops.strip_ends, " \va\u2003", "a"),
    ("strip: a lone space stays", ops.strip_ends, " ", " "),
    ("strip: U+E000 becomes a space", ops.strip_ends, " \ue000a\ue000 ", " a "),
    ("strip: a lone vertical tab is removed", ops.strip_ends, "\v", ""),
    ("strip: U+001C..1F are not white space", ops.strip_ends, "\x1ca\x1f", "\x1ca\x1f"),
    ("strip: line and paragraph separator are", ops.strip_ends, "\u2028a\u2029", "a"),
    ("strip: zero-width space is not", ops.strip_ends, "\u200ba", "\u200ba"),
]

NORMALISED = [
    ("empty", "", ""),
    ("one space", " ", " "),
    ("one tab", "\t", " "),
    ("many line ends", "\r\n\n", " "),
    ("no-break space, through NFKC", "\xa0", " "),
    ("leading space", " the", "the"),
    ("capitals, accent, line end", "CAF\u00c9\n", "cafe"),
    ("only a mark", "\u0301", ""),
    ("marks of all three kinds", "a\u0301\u0903\u20dd", "a"),
    ("final sigma", "\u039f\u0394\u039f\u03a3", "\u03bf\u03b4\u03bf\u03c3"),
    ("separator U+001C", "\x1c", "\x1c"),
    ("separator U+001C before a letter", "\x1ca", "\x1ca"),
    ("dotted capital I", "\u0130", "i"),
    ("space, then a mark", " \u0301", " "),
    ("vertical tab", "\v", ""),
    ("era newer than the tables", "\u32ff", "\u32ff"),
    ("U+E000 alone", "\ue000", " "),
    ("U+E000 inside", "\ue000A\ue000", " a "),
    ("an old and a new mark", "a\u0301\u0898\u0323", "a\u0898"),
]


@pytest.mark.parametrize("step, text, expected", [s[1:] for s in STEPS], ids=[s[0] for s in STEPS])
def test_normaliser_step(step, text, expected):
    assert step(text) == expected


@pytest.mark.parametrize("text, expected", [s[1:] for s in NORMALISED], ids=[s[0] for s in NORMALISED])
def test_normalise(text, expected):
    assert normalise(text) == expected


def test_steps_are_applied_in_order():
    assert [step.__name__ for step in ops.STEPS] == [
        "fold_compatibility", "decompose", "strip_accents", "lowercase", "collapse_spaces", "strip_ends",
    ]  # fmt: skip


def test_key_of_invalid_utf8_is_the_raw_token():
    assert canonical_key("\ufffd", "\u00c3") == "\u00c3"
    assert canonical_key("A\ufffd", "A\u00c3") == "A\u00c3", "not normalised either"


def test_text_that_normalises_to_empty_is_its_own_key():
    assert canonical_key("\u0301", "\u00cc\u0123") == "\u0301"
    assert canonical_key("\v", "\u010b") == "\v"
    assert canonical_key("", "<empty>") == ""


def test_both_kinds_of_key_share_one_dictionary():
    # A raw token that is spelled like another token's text joins its class.
    tokens = [("\u00e3", "x"), ("a", "a"), ("\ufffd", "a"), ("\ufffd", "\u00c3"), ("b", "b")]
    assert canonical_map(tokens).tolist() == [0, 0, 0, 1, 2]


def test_classes_are_numbered_by_first_appearance():
    result = canonical_map((text, text) for text in ["b", "a", "B", "c", "A"])
    assert result.tolist() == [0, 1, 0, 2, 1]
    assert result.dtype == np.int64


def test_no_tokens_give_an_empty_map():
    assert canonical_map([]).shape == (0,)
    assert canonical_map([]).dtype == np.int64


@pytest.mark.parametrize("shape", [(0,), (1,), (2, 0), (1, 5), (2, 3)], ids=str)
def test_canonicalise_keeps_the_shape(shape):
    ids = np.full(shape, 3)
    result = canonicalise(ids, MAP)
    assert result.shape == shape
    assert result.dtype == np.int64
    assert (result == 1).all()


def test_dead_bypasses_the_map():
    ids = np.array([DEAD, 4, DEAD, 3])
    assert canonicalise(ids, MAP).tolist() == [DEAD, 0, DEAD, 1]
    assert ids.tolist() == [DEAD, 4, DEAD, 3], "the input is not modified"


def test_an_id_out_of_range_raises_with_its_position():
    with pytest.raises(InputError, match=r"ids: expected values in \[0, 5\), found 5 at position 2"):
        canonicalise(np.array([0, 1, 5]), MAP)
    with pytest.raises(InputError, match=r"found -2 at position \(1, 0\)"):
        canonicalise(np.array([[0, 1], [-2, 9]]), MAP)


@pytest.mark.parametrize("dtype", ["float64", "bool", "uint64", "uint8", "complex128", "U1"])
def test_ids_must_be_signed_integers(dtype):
    with pytest.raises(InputError, match="signed integer dtype"):
        canonicalise(np.zeros(2, dtype=dtype), MAP)


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64"])
def test_narrow_integer_ids_are_accepted(dtype):
    check_ids(np.array([127, 0], dtype=dtype), 129_280, allow_dead=False)


def test_dead_without_a_barrier_raises():
    with pytest.raises(InputError, match=r"words: .*found -1 at position 1 \(this dialect has no DEAD mark\)"):
        check_ids(np.array([0, DEAD]), 5, allow_dead=False, argument="words")
