"""Inputs and outputs of commands: text, configuration, vocabulary, trained model, and paths of output files."""

import argparse
import sys
from pathlib import Path

from engram_ref.cli.streams import is_terminal, print_stderr
from engram_ref.config import EngramConfig
from engram_ref.errors import InputError
from engram_ref.files import check_file
from engram_ref.presets import preset
from engram_ref.text.vocabulary import Vocabulary
from engram_ref.training.checkpoint import Trained, load, load_trained, newest

DEFAULT_PRESET = "deepseek-v4.1-flash"
BYTE_ORDER_MARK = "\ufeff"
CORPORA = {"world": "text about an invented world", "kjv": "the King James Bible"}
UTF16_STARTS = (b"\xff\xfe", b"\xfe\xff")


def add_input(command: argparse.ArgumentParser, name: str | None = DEFAULT_PRESET,
              about: str = f"configuration (default: {DEFAULT_PRESET})") -> None:
    """Add the arguments for the text, in one or several words, and --preset with its default and help text."""
    command.add_argument("text", nargs="*", metavar="TEXT", help="the text; - means UTF-8 from standard input. A "
                         "leading byte-order mark is kept as a token, with a note on standard error")
    command.add_argument("--preset", default=name, help=about)
    command.add_argument("--tokenizer", metavar="FILE", help="tokenizer.json of a different vocabulary; the "
                         "multipliers are redrawn for its canonical size, the preset's other values are kept")


def configured(options: argparse.Namespace) -> tuple[EngramConfig, Vocabulary | None]:
    """The configuration for --preset and --tokenizer, and its vocabulary, None if the vocabulary is unavailable."""
    config = preset(options.preset)
    if options.tokenizer is None:
        return config, None if config.vocabulary is None else Vocabulary.load(config.vocabulary)
    vocabulary = Vocabulary.from_file(options.tokenizer)
    return config if config.vocabulary is None else vocabulary.configure(config), vocabulary


def trained_model(folder: str | None) -> Trained:
    """The newest model in FOLDER/engram if that exists, else in FOLDER; None: the model of this package."""
    if folder is None:
        return load_trained()
    below = Path(folder) / "engram"
    return load(newest(below if folder and below.is_dir() else folder))


def model_line(trained: Trained) -> str:
    """The size and training of a model, with its held-out losses if they were stored."""
    measured, losses = trained.about.get("float16"), ""                         # only of the model of this package
    if measured:
        losses = (f" (held-out loss {measured['held_out']:.2f} nats per token, {measured['held_out_memory_off']:.2f} "
                  "without memory)")
    size, corpus = sum(array.size for array in trained.parameters.values()) / 1e6, trained.config.corpus
    return (f"model {trained.config.name}: {size:.1f}M parameters, trained for {trained.about['step']:,} steps on "
            f"{CORPORA.get(corpus, corpus)}{losses}")


def read_text(words: list[str], most: int | None = None) -> str:
    """Return the TEXT arguments joined by spaces, or standard input if there are none or only "-".

    most     size limit of standard input in bytes; None: no limit
    raises   InputError if the text is empty, too long or not UTF-8
    """
    text = " ".join(words) if words and words != ["-"] else read_standard_input(most)
    if not text:
        raise InputError("TEXT", "at least one character", "an empty string")
    if text.startswith(BYTE_ORDER_MARK):
        print_stderr("engram-ref: note: the text starts with a byte-order mark (U+FEFF), which is tokenised like any "
                     "other character; remove it if it is not part of the text")
    return text


def read_standard_input(most: int | None) -> str:
    """Return standard input decoded as UTF-8, regardless of the locale, without a trailing newline."""
    if sys.stdin is None or is_terminal(sys.stdin):
        raise InputError("TEXT", "text, as an argument or on standard input", "neither")
    try:
        data = sys.stdin.buffer.read(-1 if most is None else most + 1)
    except OSError as error:                                # a folder, a closed terminal
        raise InputError("standard input", "readable text", f"an error: {error.strerror}") from error
    if most is not None and len(data) > most:
        raise InputError("standard input", f"at most {most:,} bytes", "more",
                         "engram-ref ids accepts text of any length")
    try:
        return data.decode("utf-8").removesuffix("\n")
    except UnicodeDecodeError as error:
        raise InputError("standard input", "UTF-8 text", f"invalid bytes at position {error.start}",
                         "is it UTF-16?" if data.startswith(UTF16_STARTS) else "") from error


def output_path(name: str | None, suffix: str, option: str) -> Path | None:
    """Path of an output file, or None if the option is not given; InputError for a wrong suffix or unwritable path."""
    if name is None:
        return None
    if Path(name).suffix.lower() != suffix:
        raise InputError(option, f"a file name ending in {suffix}", repr(name))
    check_file(name, option)
    return Path(name)
