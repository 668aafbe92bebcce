"""Small vocabularies: byte-level BPE, trained on a corpus.

A word is spelled with its leading space, and the first word of every line is treated as if it had one, so that a word
has the same token everywhere in a line. Token 0 is the line end; it starts every line, and pads windows on the left.
"""

from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np

from engram_ref.checks import integer
from engram_ref.errors import InputError
from engram_ref.packages import require
from engram_ref.text.vocabulary import Vocabulary

LINE_END = 0
"""Id of the line end."""


def train_vocabulary(lines: Iterable[str], vocab_size: int, name: str) -> Vocabulary:
    """Train a vocabulary; the same lines always give the same one.

    lines        text without line ends; 257 tokens are the line end and the 256 bytes, the others are merges
    vocab_size   number of tokens
    name         name of the corpus and of the vocabulary
    raises       InputError if the text has too few different words for so large a vocabulary
    """
    vocab_size = integer("vocab_size", vocab_size, 257)
    tokenizers = require("tokenizers", f"corpus {name}")
    bytes_of_text = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = bytes_of_text, tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=["\n"], show_progress=False,
                                             initial_alphabet=bytes_of_text.alphabet())
    tokenizer.train_from_iterator(lines, trainer)
    if tokenizer.get_vocab_size() != vocab_size:
        raise InputError(f"corpus {name}", f"enough text for {vocab_size} tokens",
                         f"text for {tokenizer.get_vocab_size()}", "use a longer text or a smaller vocabulary")
    return Vocabulary.from_tokenizer(tokenizer, name)


def encode_lines(vocabulary: Vocabulary, lines: Sequence[str]) -> np.ndarray:
    """Encode lines, each after a line end: int64 [T], as vocabulary.encode of the joined text, but faster."""
    encoded = vocabulary.tokenizer.encode_batch_fast(lines, add_special_tokens=False)
    return np.fromiter(chain.from_iterable((LINE_END, *line.ids) for line in encoded), np.int64)
