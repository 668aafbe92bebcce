"""The data that `walk` shows: the stages at selected positions of a text.

A preset gives addresses only, because its tables are too large to include: ids, n-grams and rows of the positions
shown. A trained model gives every stage of one of its blocks, and the next tokens that it predicts with its memory and
without.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from engram_ref import ops
from engram_ref.addressing import Addressing
from engram_ref.backends import replace
from engram_ref.config import EngramConfig
from engram_ref.model.transformer import forward
from engram_ref.ops.canonical import REPLACEMENT, canonical_key, canonicalise
from engram_ref.stages import stage_of
from engram_ref.text.pieces import show_bytes, token_bytes
from engram_ref.text.vocabulary import Vocabulary
from engram_ref.trace import Trace
from engram_ref.training.checkpoint import Trained

DEFAULT_TEXT = "Only Alexander the Great could tame the horse Bucephalus."
TRAINED_TEXT = "Thus saith the LORD of hosts, the God of Israel"
PAD = "<pad>"                    # shown for the positions before the text
MAX_TOKENS = 24                  # per figure; a wider figure would be illegible
MAX_LISTED = 3                   # most likely next tokens


@dataclass(frozen=True)
class Walk:
    """The stages at selected positions of a text, for the pages, the JSON and the figure."""

    config: EngramConfig
    layer: int
    text: str
    vocabulary: Vocabulary
    raw_ids: np.ndarray          # int64 [T] of the whole text
    span: range                  # the positions computed
    stages: Trace                # arrays without a batch axis, at the positions of `span`
    trained: Trained | None    # None: addresses only
    without: np.ndarray | None   # [T = span, V], the logits without memory

    def take(self, key: str, positions: Sequence[int]) -> np.ndarray:
        """Return a stage's array at the given positions."""
        return at_positions(key, self.stages[key], [self.span.index(t) for t in positions])

    def at(self, key: str, position: int) -> np.ndarray:
        """Return a stage's array at one position, without the axis T."""
        array = self.take(key, [position])
        return array.squeeze(axes_of(key, array).index("T"))

    def gate(self, position: int) -> float:
        """Return the mean gate of the branches at one position."""
        return float(self.at("gate", position).mean())

    def gain(self, position: int) -> float:
        """Return by how much the memory raises the probability of the most likely next token."""
        _, on, off = self.next_tokens(position)[0]
        return on - off

    def next_tokens(self, position: int) -> list[tuple[int, float, float]]:
        """Return the most likely next tokens with memory, then those without: raw id, probability with and without."""
        logits = self.at("logits", position), self.without[self.span.index(position)]
        on, off = (ops.softmax(x.astype(np.float64)) for x in logits)
        best = [i for p in (on, off) for i in np.argsort(-p, kind="stable")[:MAX_LISTED].tolist()]
        return [(i, float(on[i]), float(off[i])) for i in dict.fromkeys(best)]

    def token(self, position: int) -> dict[str, object]:
        """Description of a token, as in the JSON; n-grams are canonical texts, oldest first, PAD before the text."""
        raw_id, canonical_id = int(self.raw_ids[position]), int(self.at("canonical_ids", position))
        members = [int(i) for i in self.vocabulary.members(canonical_id) if i != raw_id]
        back = [self.canonical_text(int(c)) if i <= position else PAD
                for i, c in enumerate(self.at("windows", position))]
        return {"position": position, "text": self.spell(raw_id), "bytes": self.token_bytes(raw_id).hex(" "),
                "raw_id": raw_id, "canonical_id": canonical_id, "shares_its_id_with": list(map(self.spell, members)),
                "ngrams": {str(n): back[:n][::-1] for n in self.config.orders}}

    def spell(self, raw_id: int) -> str:
        """The text of a raw id, with the bytes of partial characters in angle brackets, such as <E2 82>."""
        return show_bytes(self.token_bytes(raw_id))

    def token_bytes(self, raw_id: int) -> bytes:
        """The bytes of a raw id."""
        text = self.vocabulary.text(raw_id)
        data = token_bytes(self.vocabulary.spelling(raw_id)) if REPLACEMENT in text else None
        return text.encode() if data is None else data

    def canonical_text(self, canonical_id: int) -> str:
        """The key shared by the members of a class, or the bytes of a partial character."""
        first = int(self.vocabulary.members(canonical_id)[0])
        text = self.spell(first)
        return text if REPLACEMENT in self.vocabulary.text(first) else canonical_key(text, "")


def compute_walk(text: str, raw_ids: np.ndarray, vocabulary: Vocabulary, config: EngramConfig, layer: int,
                 span: range, trained: Trained | None = None) -> Walk:
    """Compute the stages of a span of a text: of a trained model, or the addresses alone."""
    ids, without = raw_ids[: span.stop], None
    if trained is None:
        canonical_ids = canonicalise(ids, vocabulary.canonical)
        stages = address_stages(Addressing(config, vocabulary), layer, canonical_ids, span.start)
    else:
        stages, without = value_stages(trained, ids, layer, span)
    return Walk(config, layer, text, vocabulary, raw_ids, span, stages, trained, without)


def value_stages(trained: Trained, ids: np.ndarray, layer: int, span: range) -> tuple[Trace, np.ndarray]:
    """The stages of the block with this Engram layer, canonical ids and logits; the logits if no memory is added."""
    model, trace, stages = trained.model, Trace(), Trace()
    run = partial(forward, trained.parameters, ids, model, addressing=trained.addressing, check_values=False)
    run(trace=trace)
    without = run(ops=replace(ops.NAMESPACE, add_residual=lambda hidden, update, rounding: hidden))
    path = next(f"layers.{i}." for i in range(model.backbone.n_layers) if model.engram_layer(i) == layer)
    for key, array in trace.arrays.items():
        if key.startswith(path) or "." not in key:
            stages.record(key.removeprefix(path).removeprefix("engram."), at_positions(key, array[0], span))
    return stages, without[span.start :]


def figure_span(focus: int, length: int) -> range:
    """The positions around `focus` that are in the figure."""
    first = max(0, min(focus - MAX_TOKENS // 2, length - MAX_TOKENS))
    return range(first, min(first + MAX_TOKENS, length))


def address_stages(addressing: Addressing, layer: int, canonical_ids: np.ndarray, first: int = 0) -> Trace:
    """canonical_ids, windows, mix and rows from position `first` on, all without a batch axis."""
    start, trace = max(first - addressing.config.max_ngram + 1, 0), Trace()         # an n-gram reads N-1 earlier ids
    addressing.rows(canonical_ids[start:], layer, trace=trace)
    trace.arrays = {name: array[0, first - start :] for name, array in trace.arrays.items()}
    return trace


def axes_of(key: str, array: np.ndarray) -> list[str]:
    """The axis letters of a stage's array, with or without B."""
    return stage_of(key).axes.split()[-array.ndim :]


def at_positions(key: str, array: np.ndarray, positions: Sequence[int]) -> np.ndarray:
    """Select positions of a stage's array along its axis T."""
    return array.take(positions, axis=axes_of(key, array).index("T"))
