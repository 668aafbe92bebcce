"""What a command reads, and the files that it will write: text, configuration and vocabulary, names of outputs."""

import argparse
import sys
from pathlib import Path

from engram_ref.cli.streams import is_terminal, say
from engram_ref.config import EngramConfig
from engram_ref.errors import InputError
from engram_ref.files import check_file
from engram_ref.presets import preset
from engram_ref.text.vocabulary import Vocabulary

DEFAULT_PRESET = "deepseek-v4.1-flash"
BYTE_ORDER_MARK = "\ufeff"
UTF16_STARTS = (b"\xff\xfe", b"\xfe\xff")


def add_input(command: argparse.ArgumentParser) -> None:
    """The text, in one argument or in several words, and the configuration with its vocabulary."""
    command.add_argument("text", nargs="*", metavar="TEXT", help="the text; - reads standard input, which is UTF-8; a "
                         "byte-order mark at the start is kept as a token, and a note on standard error says so")
    command.add_argument("--preset", default=DEFAULT_PRESET, help=f"configuration (default {DEFAULT_PRESET})")
    command.add_argument("--tokenizer", metavar="FILE", help="tokenizer.json of your own vocabulary; the preset's "
                         "other values stay, and its multipliers are drawn for the new canonical size")


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


def output_path(name: str | None, suffix: str, option: str) -> Path | None:
    """The file that an option names, None without one; its ending is that of what will be written."""
    if name is None:
        return None
    if Path(name).suffix.lower() != suffix:
        raise InputError(option, f"a file name ending in {suffix}", repr(name))
    check_file(name, option)
    return Path(name)
