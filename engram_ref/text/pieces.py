"""The bytes of tokens that contain only part of a character.

A byte-level tokenizer spells each of the 256 bytes as one printable character, so "é", the bytes C3 A9, is spelled
"Ã©". A token may end between the two.
"""

import re
from functools import cache


@cache
def bytes_of_letters() -> dict[str, int]:
    """Return the byte that each character of the byte-level alphabet represents.

    Printable Latin-1 characters represent their own byte; U+0100 and later code points represent the other bytes.

    source   GPT-2, bytes_to_unicode; `tokenizers`, pre_tokenizers.ByteLevel

    >>> bytes_of_letters()["Ġ"], bytes_of_letters()["Ã"], len(bytes_of_letters())
    (32, 195, 256)
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


def token_bytes(spelling: str) -> bytes | None:
    """Return the bytes of a token that is not valid UTF-8, from its spelling; None if the spelling is unknown.

    >>> token_bytes("âĤ"), token_bytes("<0xE2>"), token_bytes("語")
    (b'\\xe2\\x82', b'\\xe2', None)
    """
    if re.fullmatch("<0x[0-9A-F]{2}>", spelling):              # SentencePiece: one token per byte
        return bytes.fromhex(spelling[3:5])
    alphabet = bytes_of_letters()
    return bytes(alphabet[letter] for letter in spelling) if all(letter in alphabet for letter in spelling) else None


def show_bytes(data: bytes) -> str:
    """Decode UTF-8, with the bytes of incomplete characters in angle brackets.

    >>> show_bytes(b"caf\\xc3\\xa9 "), show_bytes(b" \\xe2\\x82"), show_bytes(b"\\xac!")
    ('café ', ' <E2 82>', '<AC>!')
    """
    text = data.decode("utf-8", "surrogateescape")          # an invalid byte becomes one of U+DC80 to U+DCFF
    in_brackets = lambda run: f"<{' '.join(f'{byte:02X}' for byte in run[0].encode('utf-8', 'surrogateescape'))}>"
    return re.sub("[\udc80-\udcff]+", in_brackets, text)
