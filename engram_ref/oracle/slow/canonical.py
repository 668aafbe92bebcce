"""The canonical map: tokens whose normalised texts are equal share one id."""

import re
import unicodedata

LONE_SPACE = "\ue000"
WHITE_SPACE = "".join(map(chr, [*range(9, 14), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029,
                                0x202F, 0x205F, 0x3000]))


def byte_letters():
    """Return {character: byte} of the byte-level spelling: printable bytes spell themselves, the others U+0100 on."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + i): byte for i, byte in enumerate(others)}


BYTES = byte_letters()


def text_of(raw_token):
    """Return the text of a token from its byte-level spelling; bytes that are not UTF-8 become U+FFFD."""
    return bytes(BYTES[c] for c in raw_token).decode("utf-8", errors="replace")


def normalise(text):
    """Return the text without case, accents, compatibility forms and repeated or outer white space."""
    text = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", text))
    text = "".join(c.lower() for c in text if not unicodedata.category(c).startswith("M"))
    text = re.sub(r"[ \t\r\n]+", " ", text)
    text = LONE_SPACE if text == " " else text.strip(WHITE_SPACE)
    return text.replace(LONE_SPACE, " ")


def key(text, raw_token):
    """Return the key of a token; incomplete UTF-8 is its own key, in its byte-level spelling."""
    return raw_token if "\ufffd" in text else normalise(text) or text


def canonical_map(tokens):
    """Return the canonical id of every raw id, from the (text, raw_token) of each id in ascending order."""
    numbers = {}
    return [numbers.setdefault(key(text, raw_token), len(numbers)) for text, raw_token in tokens]


def canonicalise(ids, canonical, dead=()):
    """Return the canonical id of every raw id; the positions in `dead` become -1."""
    return [-1 if t in dead else canonical[token] for t, token in enumerate(ids)]
