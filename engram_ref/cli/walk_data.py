"""The data that `walk` shows: the stages at selected positions of a text.

Ids, n-grams and rows come from the chosen preset. Values come from the preset tiny with seeded random weights,
since the real tables are too large. Only the positions shown are computed, with the ids and convolution taps just
before them, or with all earlier positions for a whole model.
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
PAD = "<pad>"                    # shown for the positions before the text
MAX_TOKENS = 24                  # per figure; a wider figure would be illegible
POSITIONS_PER_DRAW = 4096        # positions whose random hidden states are drawn and discarded at a time


@dataclass(frozen=True)
class Walk:
    """The stages at selected positions of a text, for the pages, the JSON and the figure."""

    config: EngramConfig
    layer: int
    text: str
    vocabulary: Vocabulary
    raw_ids: np.ndarray          # int64 [T] of the whole text
    span: range                  # the positions computed
    model: ModelConfig | None
    module: EngramConfig         # of the module that computed the values: the preset tiny, or the model's
    stages: Trace                # canonical_ids ... rows of config, memory ... residual of module: [T = span, ...];
                                 # with a model also the whole block and the logits, with a batch axis

    def take(self, key: str, positions: Sequence[int]) -> np.ndarray:
        """Return a stage's array at the given positions."""
        return at_positions(key, self.stages[key], [self.span.index(t) for t in positions])

    def at(self, key: str, position: int) -> np.ndarray:
        """Return a stage's array at one position, without the axes B and T."""
        array = self.take(key, [position])
        return array.squeeze(tuple(i for i, letter in enumerate(axes_of(key, array)) if letter in ("B", "T")))

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
                 span: range, model: ModelConfig | None = None) -> Walk:
    """Compute the stages of a span of a text: addressing with the preset, values with the preset tiny or a model."""
    canonical_ids = canonicalise(raw_ids[: span.stop], vocabulary.canonical)
    stages = address_stages(Addressing(config, vocabulary), layer, canonical_ids, span.start)
    module = vocabulary.configure(preset("tiny"), config.pad_id) if model is None else model.engram
    if model is None:
        stages.arrays |= value_stages(Addressing(module, vocabulary), canonical_ids, span.start)
    else:
        stages.arrays |= model_stages(model, vocabulary, raw_ids[: span.stop], span)
    return Walk(config, layer, text, vocabulary, raw_ids, span, model, module, stages)


def figure_span(focus: int, length: int) -> range:
    """The positions around `focus` that are in the figure."""
    first = max(0, min(focus - MAX_TOKENS // 2, length - MAX_TOKENS))
    return range(first, min(first + MAX_TOKENS, length))


def address_stages(addressing: Addressing, layer: int, canonical_ids: np.ndarray, first: int = 0) -> Trace:
    """canonical_ids, windows, mix and rows from position `first` on, all without a batch axis."""
    trace = Trace()
    addressing.rows(canonical_ids[first:], layer, before(canonical_ids, first, addressing.config), trace=trace)
    trace.arrays = {name: array[0] for name, array in trace.arrays.items()}
    return trace


def before(canonical_ids: np.ndarray, position: int, config: EngramConfig) -> np.ndarray:
    """The history of a position: int64 [N-1], the ids just before it, oldest first."""
    span = config.max_ngram - 1
    return np.concatenate([np.full(span, DEAD), canonical_ids[:position]])[-span:]


def value_stages(addressing: Addressing, canonical_ids: np.ndarray, first: int) -> dict[str, np.ndarray]:
    """memory ... residual of the tiny module from position `first` on, for random weights and hidden states."""
    rng, tiny = np.random.default_rng(SEED), addressing.config
    layer = tiny.layer_ids[0]
    parameters = initialise(tiny, layer, rng)
    start = max(first - tiny.conv_span, 0)                  # the first position that the convolution reads
    for drawn in range(0, start, POSITIONS_PER_DRAW):       # skip: a position's state must not depend on `first`
        rng.standard_normal((min(POSITIONS_PER_DRAW, start - drawn), tiny.n_branches, tiny.hidden_size))
    hidden = rng.standard_normal((1, len(canonical_ids) - start, tiny.n_branches, tiny.hidden_size))
    rows = addressing.rows(canonical_ids[start:], layer, before(canonical_ids, start, tiny))[None]
    trace = Trace()
    residual(hidden, engram(parameters, hidden, rows, tiny, trace=trace), tiny, trace=trace)
    return {name: array[0, first - start :] for name, array in trace.arrays.items()}


def model_stages(model: ModelConfig, vocabulary: Vocabulary, raw_ids: np.ndarray, span: range) -> dict[str, np.ndarray]:
    """Stages of the last block with an Engram module: the values of that module, the rest of the block, the logits."""
    parameters = tree.initialise(model, np.random.default_rng(SEED))
    with Trace(stop="final_norm") as whole:                 # before the logits, computed below for `span` only
        forward(parameters, raw_ids, model, addressing=Addressing(model.engram, vocabulary), trace=whole,
                check_values=False)
    index = max(i for i in range(model.backbone.n_layers) if model.engram_layer(i) is not None)
    stages = {}
    for key, array in whole.arrays.items():
        below = key.removeprefix(f"layers.{index}.")
        if below.startswith("engram.") and stage_of(key).kind == "float":
            stages[below.removeprefix("engram.")] = at_positions(key, array, span)[0]
        elif below != key or key == "final_norm":
            stages[below] = at_positions(key, array, span)
    head = parameters["embed.weight" if model.backbone.tie_embeddings else "head.weight"]
    return stages | {"logits": ops.linear(stages["final_norm"], head)}


def axes_of(key: str, array: np.ndarray) -> list[str]:
    """The axis letters of a stage's array, with or without B."""
    return stage_of(key).axes.split()[-array.ndim :]


def at_positions(key: str, array: np.ndarray, positions: Sequence[int]) -> np.ndarray:
    """Select positions of a stage's array along its axis T."""
    return array.take(positions, axis=axes_of(key, array).index("T"))
