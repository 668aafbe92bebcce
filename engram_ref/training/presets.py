"""Settings of a training run, and the named ones.

The models are small enough for two cores; every size is a choice of this project. Experts have sigmoid scores with a
balancing bias, and nothing is shared between experts, so that a control without Engram can have exactly as many
parameters: see `without_engram`.
"""

import math
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from engram_ref.checks import Count, NonNegative, Positive, Range, Whole, check_fields
from engram_ref.config import EngramConfig
from engram_ref.errors import InputError, check_name
from engram_ref.model.accounting import summarise
from engram_ref.model_config import AttentionConfig, BackboneConfig, ExpertsConfig, ModelConfig
from engram_ref.presets import GATES
from engram_ref.text.vocabulary import Vocabulary
from engram_ref.training.groups import TABLE_RATE

Fraction = Annotated[float, Range(0.0, math.nextafter(1.0, 0.0))]


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that determines a training run, except the backend and its dtype."""

    name: str
    corpus: str                         # "world", "kjv", or the path of a text file
    vocab_size: Count                   # tokens of the BPE trained on the corpus
    model: ModelConfig                  # its vocabulary is replaced by the corpus's: see `fitted`
    batch: Count = 12                   # texts per step
    length: Count = 128                 # predicted tokens per text
    steps: Count = 125
    init_std: Positive = 0.1            # of all random initial parameters, tables included
    lr: Positive = 6e-3
    table_rate: Positive = TABLE_RATE   # learning rate of the tables, relative to lr
    weight_decay: NonNegative = 0.1     # of matrices; tables have none
    matrices: Literal["adam", "muon"] = "adam"    # at this size, Adam learns faster than Muon
    warm_up: Whole = 20                 # steps
    clip: Positive = 1.0                # limit of the gradients' common norm
    bias_rate: NonNegative = 1e-3       # step of the routers' balancing bias
    gate_cost: NonNegative = 0.0        # times the mean gate, added to the loss; not in the paper
    memory_dropout: Fraction = 0.0      # probability that a text is trained with all gates at 0; not in the paper
    seed: Whole = 0                     # of the initial parameters, the corpus's texts and the dropout

    def __post_init__(self) -> None:
        check_fields(self)
        engram = self.model.engram
        if engram is None and (self.memory_dropout or self.gate_cost):
            raise InputError("memory_dropout, gate_cost", "0 without Engram", (self.memory_dropout, self.gate_cost))
        if self.memory_dropout and not engram.dead_barrier:
            raise InputError("memory_dropout", "0 without dead_barrier", self.memory_dropout)
        if engram is not None and (engram.table_codec, engram.rounding) != ("fp32", "none"):
            raise InputError("model", "an Engram with table_codec fp32 and no rounding",
                             f"{engram.table_codec} and {engram.rounding}")


_ENGRAM = EngramConfig(
    name="desk", source="this project", layer_ids=(1,), layer_base=0, hidden_size=64, n_branches=1,
    vocabulary="world", vocab_size=1024, canonical_size=1024, pad_id=0, dead_barrier=True, eos_id=None,
    max_ngram=3, n_heads=4, table_sizes=(1371, 1371), seed=0, multiplier_generator="pcg64", seed_index="layer_id",
    multipliers=None, row_width=16, table_codec="fp32", row_multiple=1, projection_bias=False, **GATES["paper"],
    conv_kernel=4, conv_dilation=3, conv_norm_eps=1e-5, conv_init="zeros", rounding="none", quantise_floor=1e-4)

_BACKBONE = BackboneConfig(
    n_layers=3, n_dense_layers=0, hidden_size=64, vocab_size=1024, intermediate_size=192,
    attention=AttentionConfig(4, 16, 16, 16, 32, None, 1e-6, rope_theta=100.0),     # for texts of about 100 tokens
    experts=ExpertsConfig(18, 2, 0, 48), hyper=None, rms_norm_eps=1e-6)

_DESK = ModelConfig("desk", "this project", _BACKBONE, _ENGRAM)

_SECONDS = TrainingConfig("seconds", "world", 1024, _DESK)

_READABLE = replace(
    _DESK, engram=replace(_ENGRAM, name="readable", table_sizes=(5000, 5000)),
    backbone=replace(_BACKBONE, n_dense_layers=3, experts=None, tie_embeddings=True))

_PRESETS = {config.name: config for config in (
    _SECONDS,
    replace(_SECONDS, name="minutes", steps=2000),
    TrainingConfig("readable", "kjv", 4096, _READABLE, batch=16, length=96, steps=800, init_std=0.05, lr=1e-2,
                   gate_cost=0.05, memory_dropout=0.15),
)}


def training_presets() -> tuple[str, ...]:
    """Return the names of all training presets."""
    return tuple(_PRESETS)


def training_preset(name: str) -> TrainingConfig:
    """Return the settings with this name.

    "seconds" trains a model of 0.9M parameters for 125 steps, "minutes" the same one for 2,000; "readable" trains the
    model that ships with this package, whose gates cost something.
    """
    check_name("training preset", name, _PRESETS)
    return _PRESETS[name]


def without_engram(config: TrainingConfig) -> TrainingConfig:
    """Return the control: no Engram, and as many more routed experts as the tables and projections had parameters.

    The number of experts is rounded to the nearest; a model without experts only loses its Engram.
    """
    model = config.model
    if model.engram is None:
        raise InputError("config", "a model with Engram", f"{model.name}, which has none")
    plain = replace(model, name=f"{model.name}-moe", engram=None)
    if (experts := model.backbone.experts) is not None:
        total = lambda n: summarise(replace(plain, backbone=replace(plain.backbone, experts=replace(
            experts, n_routed_experts=n)))).total
        now = experts.n_routed_experts
        more = round((summarise(model).total - total(now)) / (total(now + 1) - total(now)))
        plain = replace(plain, backbone=replace(plain.backbone, experts=replace(experts, n_routed_experts=now + more)))
    return replace(config, name=f"{config.name}-moe", memory_dropout=0.0, gate_cost=0.0, model=plain)


def fitted(model: ModelConfig, vocabulary: Vocabulary) -> ModelConfig:
    """Return the model with this vocabulary."""
    engram = None if model.engram is None else vocabulary.configure(model.engram, 0)
    return replace(model, engram=engram, backbone=replace(model.backbone, vocab_size=vocabulary.size))
