"""What `walk` shows: some positions of a text followed through addressing, and through a tiny module.

Addressing is that of the chosen preset: real ids, real n-grams, real row numbers. Values come from the tiny preset,
whose weights are random (seeded), since the real tables do not fit on a desk. Only the positions that are shown are
computed, and what they depend on: the ids and convolution taps just before them, or a whole model's whole prefix.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engram_ref import ops
from engram_ref.addressing import Addressing
from engram_ref.config import EngramConfig
from engram_ref.model import tree
from engram_ref.model.engram import engram, residual
from engram_ref.model.engram_parameters import initialise
from engram_ref.model.transformer import forward
from engram_ref.model_config import ModelConfig
from engram_ref.ops.canonical import DEAD, REPLACEMENT, canonical_key, canonicalise
from engram_ref.presets import preset
from engram_ref.stages import stage_of
from engram_ref.text.pieces import show_bytes, token_bytes
from engram_ref.text.vocabulary import Vocabulary
from engram_ref.trace import Trace

DEFAULT_TEXT = "Only Alexander the Great could tame the horse Bucephalus."
SEED = 0
PAD = "<pad>"            # shown where an n-gram begins before the text
DRAWN_AT_ONCE = 4096     # positions whose random state is drawn and dropped in one go


@dataclass(frozen=True)
class Walk:
    """Some positions of a text on their way through Engram."""

    config: EngramConfig
    layer: int
    text: str
    vocabulary: Vocabulary
    raw_ids: np.ndarray          # int64 [T] of the whole text
    span: range                  # the positions that the arrays below hold
    addressing: Trace            # canonical_ids, windows, mix, rows of the chosen preset, [span, ...]
    tiny: EngramConfig
    values: Trace                # memory ... residual of the tiny preset or the model's, [span, ...]
    model: ModelConfig | None = None
    block: Trace | None = None   # the whole block of that layer and the logits, with B, T = span

    @property
    def length(self) -> int:
        """The number of tokens of the whole text."""
        return len(self.raw_ids)

    def index(self, position: int) -> int:
        """Where the arrays hold a position."""
        return self.span.index(position)

    def at(self, name: str, position: int) -> np.ndarray:
        """A stage of the module at one position."""
        return (self.addressing if name in self.addressing else self.values)[name][self.index(position)]

    def token(self, position: int) -> str:
        """What the token at a position says."""
        return self.spell(int(self.raw_ids[position]))

    def spell(self, raw_id: int) -> str:
        """The text of a raw id; bytes that are no whole letter in angle brackets, such as <E2 82>."""
        text = self.vocabulary.text(raw_id)
        return show_bytes(self.token_bytes(raw_id)) if REPLACEMENT in text else text

    def token_bytes(self, raw_id: int) -> bytes:
        """The bytes that a raw id stands for."""
        text, spelling = self.vocabulary.text(raw_id), self.vocabulary.spelling(raw_id)
        data = token_bytes(spelling) if REPLACEMENT in text else None
        return text.encode() if data is None else data

    def ngram(self, position: int, order: int) -> list[str]:
        """The canonical texts of an n-gram, oldest first; PAD to the left of the text."""
        window = self.at("windows", position)[:order][::-1]
        tokens = [position - order + 1 + i for i in range(order)]
        return [self.canonical_text(int(c)) if t >= 0 else PAD for t, c in zip(tokens, window, strict=True)]

    def canonical_text(self, canonical_id: int) -> str:
        """The key that the members of a class share; the bytes of a piece of a letter."""
        first = int(self.vocabulary.members(canonical_id)[0])
        text = self.spell(first)
        return text if REPLACEMENT in self.vocabulary.text(first) else canonical_key(text, "")

    def mates(self, position: int) -> list[str]:
        """The other tokens of this one's class."""
        canonical_id = int(self.at("canonical_ids", position))
        return [self.spell(int(i)) for i in self.vocabulary.members(canonical_id) if i != self.raw_ids[position]]


def follow(text: str, raw_ids: np.ndarray, vocabulary: Vocabulary, config: EngramConfig, layer: int, span: range,
           model: ModelConfig | None = None) -> Walk:
    """Take positions of a text through the chosen preset's addressing and the tiny preset's values, or a model's.

    raw_ids   int64 [T], all of the text
    span      the positions to compute, one after the other
    """
    canonical_ids = canonicalise(raw_ids[: span.stop], vocabulary.canonical)
    addressing = address_stages(Addressing(config, vocabulary), layer, canonical_ids, span.start)
    if model is not None:
        values, block = model_stages(model, vocabulary, raw_ids[: span.stop], span)
        return Walk(config, layer, text, vocabulary, raw_ids, span, addressing, model.engram, values, model, block)
    tiny = vocabulary.configure(preset("tiny"), config.pad_id)
    values = value_stages(Addressing(tiny, vocabulary), canonical_ids, span.start)
    return Walk(config, layer, text, vocabulary, raw_ids, span, addressing, tiny, values)


def address_stages(addressing: Addressing, layer: int, canonical_ids: np.ndarray, first: int = 0) -> Trace:
    """canonical_ids, windows, mix and rows from one position of a text on, all without a batch axis."""
    batched = Trace()
    history = before(canonical_ids, first, addressing.config)
    addressing.rows(canonical_ids[first:], layer, history, trace=batched)
    return without_batch(batched)


def before(canonical_ids: np.ndarray, position: int, config: EngramConfig) -> np.ndarray:
    """The history of a position: int64 [N-1], the ids just before it, oldest first."""
    span = config.max_ngram - 1
    return np.concatenate([np.full(span, DEAD), canonical_ids[:position]])[-span:]


def value_stages(addressing: Addressing, canonical_ids: np.ndarray, first: int = 0) -> Trace:
    """memory ... residual of the tiny module on random weights and a random hidden state, from a position on."""
    rng, tiny = np.random.default_rng(SEED), addressing.config
    layer = tiny.layer_ids[0]
    parameters = initialise(tiny, layer, rng)
    start = max(first - tiny.conv_span, 0)                  # as far back as the convolution looks
    for drawn in range(0, start, DRAWN_AT_ONCE):            # every position keeps its state, wherever we start
        rng.standard_normal((min(DRAWN_AT_ONCE, start - drawn), tiny.n_branches, tiny.hidden_size))
    hidden = rng.standard_normal((1, len(canonical_ids) - start, tiny.n_branches, tiny.hidden_size))
    rows = addressing.rows(canonical_ids[start:], layer, before(canonical_ids, start, tiny))[None]
    batched = Trace()
    residual(hidden, engram(parameters, hidden, rows, tiny, trace=batched), tiny, trace=batched)
    return without_batch(batched, first - start)


def without_batch(batched: Trace, skip: int = 0) -> Trace:
    """The first row of every stage, its first positions left out."""
    trace = Trace()
    for name in batched:
        trace.record(name, batched[name][0, skip:])
    return trace


def model_stages(model: ModelConfig, vocabulary: Vocabulary, raw_ids: np.ndarray,
                 span: range) -> tuple[Trace, Trace]:
    """Of the last block with an Engram module: that module's values, then the whole block and the logits."""
    parameters = tree.initialise(model, np.random.default_rng(SEED))
    with Trace(stop="final_norm") as whole:                 # before the logits, which few positions need
        forward(parameters, raw_ids, model, addressing=Addressing(model.engram, vocabulary), trace=whole,
                check_values=False)
    index = max(i for i in range(model.backbone.n_layers) if model.engram_layer(i) is not None)
    values, block = Trace(), Trace()
    for key in whole:
        below = key.removeprefix(f"layers.{index}.")
        if below == key and key != "final_norm":
            continue
        shown = at_positions(key, whole[key], span)
        if below.startswith("engram.") and stage_of(key).kind == "float":
            values.record(below.removeprefix("engram."), shown[0])
        else:
            block.record(below, shown)
    head = parameters["embed.weight" if model.backbone.tie_embeddings else "head.weight"]
    block.record("logits", ops.linear(block["final_norm"], head))
    return values, block


def at_positions(key: str, array: np.ndarray, positions: Sequence[int]) -> np.ndarray:
    """The part of a stage that belongs to some positions, wherever its axis T is."""
    return array.take(positions, axis=stage_of(key).axes.split().index("T"))
