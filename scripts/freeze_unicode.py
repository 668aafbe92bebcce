"""Write the Unicode tables of the normaliser, taken from the `tokenizers` library: engram_ref/data/unicode.json.gz.

    python scripts/freeze_unicode.py

The script applies each step of the library to every character, because the steps use different Unicode versions.
Python's own tables are not used. Copy the printed digest to engram_ref/unicode.py. tests/unit/test_unicode.py
compares the normaliser with the library.
"""

import gzip
import hashlib
import json
import sys
from pathlib import Path

from tokenizers import normalizers

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from engram_ref.files import write_whole  # noqa: E402
from engram_ref.unicode import SYLLABLES, TABLES  # noqa: E402

CHARACTERS = [chr(c) for c in range(sys.maxunicode + 1) if not 0xD800 <= c < 0xE000]
LOWEST, HIGHEST = "\u0334", "\u0345"
"""Marks of the lowest and the highest nonzero combining class."""

nfkc, nfc, nfd, strip_accents, lowercase = (
    getattr(normalizers, name)().normalize_str for name in ("NFKC", "NFC", "NFD", "StripAccents", "Lowercase"))


def check_order_is_irrelevant(marks):
    """Check that all characters with a combining class are deleted, so that the normaliser need not sort them."""
    # A character without a class never moves; all others move past a mark of the lowest or the highest class.
    for c in CHARACTERS:
        moves = nfd(c) == c and (nfd(c + LOWEST) != c + LOWEST or nfd(HIGHEST + c) != HIGHEST + c)
        if moves and c not in marks:
            raise SystemExit(f"U+{ord(c):04X} has a combining class and is kept: decompose must sort")


def main():
    """Write all tables and print their sizes."""
    tables = {
        "fold": {c: nfkc(c) for c in CHARACTERS if nfkc(c) != nfc(c)},
        "decompose": {c: nfd(c) for c in CHARACTERS if nfd(c) != c and ord(c) not in SYLLABLES},
        "marks": "".join(c for c in CHARACTERS if strip_accents(c) == ""),
        "lowercase": {c: lowercase(c) for c in CHARACTERS if lowercase(c) != c},
    }
    check_order_is_irrelevant(set(tables["marks"]))
    data = json.dumps(tables, ensure_ascii=False, separators=(",", ":")).encode()
    packed = gzip.compress(data, mtime=0)
    write_whole(TABLES, packed)
    print(*(f"{name} {len(table):,}" for name, table in tables.items()), sep=", ")
    print(f"{TABLES.name}: {len(packed):,} bytes, {len(data):,} unpacked; sha256 of the latter:")
    print(hashlib.sha256(data).hexdigest())


if __name__ == "__main__":
    main()
