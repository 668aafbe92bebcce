"""What a command reads: text, token ids, history; shared by `walk` and `ids`."""

import argparse
import sys
from pathlib import Path

import numpy as np

from engram_ref.addressing import Addressing
from engram_ref.cli.streams import is_terminal, say
from engram_ref.config import EngramConfig
from engram_ref.errors import InputError
from engram_ref.files import check_file
from engram_ref.ops.canonical import DEAD, canonicalise, check_ids
from engram_ref.presets import preset
from engram_ref.text.vocabulary import Vocabulary

DEFAULT_PRESET = "deepseek-v4.1-flash"
BYTE_ORDER_MARK = "\ufeff"
UTF16_STARTS = (b"\xff\xfe", b"\xfe\xff")


def add_preset(command: argparse.ArgumentParser) -> None:
    """The option that names a configuration."""
    command.add_argument("--preset", default=DEFAULT_PRESET, help=f"configuration (default {DEFAULT_PRESET})")
    command.add_argument("--tokenizer", metavar="FILE", help="tokenizer.json of your own vocabulary; the preset's "
                         "other values stay, and its multipliers are drawn for the new canonical size")


def add_text(command: argparse.ArgumentParser) -> None:
    """The text, in one argument or in several words."""
    command.add_argument("text", nargs="*", metavar="TEXT", help="the text; - reads standard input, which is UTF-8; a "
                         "byte-order mark at the start is kept as a token, and a note on standard error says so")


def parse_ids(text: str, option: str) -> np.ndarray:
    """ "1,2,dead,3" as int64 ids; the word dead marks a masked position."""
    ids = []
    for position, part in enumerate(text.split(",")):
        word = part.strip()
        try:
            ids.append(DEAD if word == "dead" else int(word))
        except ValueError as error:
            raise InputError(option, "integers separated by commas", f"{word!r} at position {position}") from error
        if word != "dead" and ids[-1] < 0:
            raise InputError(option, "ids of at least 0", f"{word} at position {position}",
                             "a masked position is written as the word dead")
    too_large = [i for i in ids if i > np.iinfo(np.int64).max]
    if too_large:
        raise InputError(option, "ids below 2^63", f"{too_large[0]} at position {ids.index(too_large[0])}")
    return np.array(ids, dtype=np.int64)


def to_canonical(ids: np.ndarray, addressing: Addressing, option: str) -> np.ndarray:
    """Raw ids through the configuration's map, refusing DEAD where the dialect has no barrier."""
    check_ids(ids, addressing.config.vocab_size, addressing.config.dead_barrier, option)
    return ids if addressing.canonical is None else canonicalise(ids, addressing.canonical)


def configured(options: argparse.Namespace) -> tuple[EngramConfig, Vocabulary | None]:
    """The configuration that --preset and --tokenizer name, and the vocabulary that spells its ids, if one is known."""
    config = preset(options.preset)
    if options.tokenizer is None:
        return config, None if config.vocabulary is None else Vocabulary.load(config.vocabulary)
    vocabulary = Vocabulary.from_file(options.tokenizer)
    return config if config.vocabulary is None else vocabulary.configure(config), vocabulary


def read_text(words: list[str], most: int | None = None) -> str:
    """The TEXT arguments joined by spaces, or standard input if there are none or just "-".

    most     the most bytes that standard input may have, read no further; None: any number
    raises   InputError for an empty text, a longer one, or standard input that is not UTF-8
    """
    text = " ".join(words) if words and words != ["-"] else read_standard_input(most)
    if not text:
        raise InputError("TEXT", "at least one character", "an empty text")
    if text.startswith(BYTE_ORDER_MARK):
        say("engram-ref: note: the text starts with a byte-order mark (U+FEFF), which is read as a token like any "
            "other; remove it if it is not part of the text")
    return text


def read_standard_input(most: int | None) -> str:
    """Standard input as UTF-8, whatever the terminal's encoding, without the last line end."""
    if sys.stdin is None or is_terminal(sys.stdin):
        raise InputError("TEXT", "a text, or text on standard input", "neither")
    try:
        data = sys.stdin.buffer.read(-1 if most is None else most + 1)
    except OSError as error:                                # a folder, a terminal that is gone
        raise InputError("standard input", "text", error.strerror) from error
    if most is not None and len(data) > most:
        raise InputError("standard input", f"at most {most:,} bytes", "more",
                         "engram-ref ids takes a text of any length")
    try:
        return data.decode("utf-8").removesuffix("\n")
    except UnicodeDecodeError as error:
        raise InputError("standard input", "UTF-8 text", f"other bytes at position {error.start}",
                         "is it UTF-16?" if data.startswith(UTF16_STARTS) else "") from error


def encode(text: str, config: EngramConfig, vocabulary: Vocabulary | None) -> np.ndarray:
    """Raw ids of a text; a preset without a vocabulary takes ids only, unless a tokenizer is given."""
    if vocabulary is None:
        raise InputError("TEXT", f"--tokens or --tokenizer: {config.name} hashes raw ids of a tokenizer that is not "
                         "shipped", "a text")
    return vocabulary.encode(text)


def output_path(name: str, suffix: str, option: str) -> Path:
    """A file to write, with the one ending the option can write."""
    if Path(name).suffix.lower() != suffix:
        raise InputError(option, f"a file name ending in {suffix}", repr(name))
    check_file(name, option)
    return Path(name)
