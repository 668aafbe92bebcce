"""What `walk` shows: a sentence followed through addressing, and through a tiny module.

Addressing is that of the chosen preset: real ids, real n-grams, real row numbers. Values come from the
tiny preset, whose weights are random (seeded), since the real tables do not fit on a desk.
"""

from dataclasses import dataclass, replace

import numpy as np

from engram_ref.addressing import Addressing
from engram_ref.config import EngramConfig
from engram_ref.model import tree
from engram_ref.model.engram import engram, residual
from engram_ref.model.engram_parameters import initialise
from engram_ref.model.transformer import forward
from engram_ref.model_config import ModelConfig
from engram_ref.ops.canonical import REPLACEMENT, canonical_key, canonicalise
from engram_ref.presets import preset
from engram_ref.stages import stage_of
from engram_ref.text.vocabulary import Vocabulary
from engram_ref.trace import Trace

DEFAULT_TEXT = "Only Alexander the Great could tame the horse Bucephalus."
SEED = 0
PAD = "<pad>"            # shown where an n-gram begins before the text


@dataclass(frozen=True)
class Walk:
    """One sentence on its way through Engram."""

    config: EngramConfig
    layer: int
    text: str
    vocabulary: Vocabulary
    raw_ids: np.ndarray          # int64 [T]
    addressing: Trace            # canonical_ids, windows, mix, rows of the chosen preset, without B
    tiny: EngramConfig
    values: Trace                # memory ... residual of the tiny preset, without B
    model: ModelConfig | None = None
    block: Trace | None = None   # the whole block of that layer and the logits, with B

    @property
    def length(self) -> int:
        """T, the number of tokens."""
        return len(self.raw_ids)

    def token(self, position: int) -> str:
        """What the token at a position says; its raw spelling where it is a piece of a letter."""
        return self.spell(int(self.raw_ids[position]))

    def spell(self, raw_id: int) -> str:
        """The text of a raw id, or its raw spelling where that is no whole letter."""
        text = self.vocabulary.text(raw_id)
        return self.vocabulary.spelling(raw_id) if REPLACEMENT in text else text

    def ngram(self, position: int, order: int) -> list[str]:
        """The canonical texts of an n-gram, oldest first; PAD to the left of the text."""
        window = self.addressing["windows"][position, :order][::-1]
        tokens = [position - order + 1 + i for i in range(order)]
        return [self.canonical_text(int(c)) if t >= 0 else PAD for t, c in zip(tokens, window, strict=True)]

    def canonical_text(self, canonical_id: int) -> str:
        """The key that the members of a class share."""
        first = int(self.vocabulary.members(canonical_id)[0])
        return canonical_key(self.vocabulary.text(first), self.vocabulary.spelling(first))

    def mates(self, position: int) -> list[str]:
        """The other tokens of this one's class."""
        canonical_id = int(self.addressing["canonical_ids"][position])
        return [self.spell(int(i)) for i in self.vocabulary.members(canonical_id) if i != self.raw_ids[position]]


def follow(text: str, config: EngramConfig, layer: int, model: ModelConfig | None = None) -> Walk:
    """Take a text through the chosen preset's addressing and the tiny preset's values, or a whole model's."""
    vocabulary = Vocabulary.load(config.vocabulary)
    raw_ids = vocabulary.encode(text)
    canonical_ids = canonicalise(raw_ids, vocabulary.canonical)
    if model is not None:
        return follow_model(text, config, layer, model, vocabulary, raw_ids)
    tiny = replace(preset("tiny"), vocabulary=config.vocabulary, vocab_size=config.vocab_size,
                   canonical_size=config.canonical_size)
    return Walk(config, layer, text, vocabulary, raw_ids, address_stages(config, layer, canonical_ids), tiny,
                value_stages(tiny, canonical_ids))


def follow_model(text: str, config: EngramConfig, layer: int, model: ModelConfig, vocabulary: Vocabulary,
                 raw_ids: np.ndarray) -> Walk:
    """The same with the values of a whole model: those of the last block that has an Engram module."""
    parameters = tree.initialise(model, np.random.default_rng(SEED))
    whole, values = Trace(), Trace()
    forward(parameters, raw_ids, model, trace=whole, check_values=False)
    index = max(i for i in range(model.backbone.n_layers) if model.engram_layer(i) is not None)
    block = Trace()
    for key in whole:
        below = key.removeprefix(f"layers.{index}.")
        if below.startswith("engram.") and stage_of(key).kind == "float":
            values.record(below.removeprefix("engram."), whole[key][0])
        elif below != key or key in ("final_norm", "logits"):
            block.record(below, whole[key])
    canonical_ids = canonicalise(raw_ids, vocabulary.canonical)
    return Walk(config, layer, text, vocabulary, raw_ids, address_stages(config, layer, canonical_ids), model.engram,
                values, model, block)


def address_stages(config: EngramConfig, layer: int, canonical_ids: np.ndarray) -> Trace:
    """canonical_ids, windows, mix and rows of one sentence, all without a batch axis."""
    batched = Trace()
    Addressing(config).rows(canonical_ids, layer, trace=batched)
    return without_batch(batched)


def value_stages(tiny: EngramConfig, canonical_ids: np.ndarray) -> Trace:
    """memory ... residual of the tiny module on random weights and a random hidden state."""
    rng = np.random.default_rng(SEED)
    layer = tiny.layer_ids[0]
    parameters = initialise(tiny, layer, rng)
    hidden = rng.standard_normal((1, len(canonical_ids), tiny.n_branches, tiny.hidden_size))
    rows = Addressing(tiny).rows(canonical_ids[None], layer)
    batched = Trace()
    residual(hidden, engram(parameters, hidden, rows, tiny, trace=batched), tiny, trace=batched)
    return without_batch(batched)


def without_batch(batched: Trace) -> Trace:
    """The first row of every stage."""
    trace = Trace()
    for name in batched:
        trace.record(name, batched[name][0])
    return trace
