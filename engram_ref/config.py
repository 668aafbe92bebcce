"""EngramConfig: every choice in which the dialects of Engram differ is one named field.

Paper, demo and the releases compute the same idea in a dozen different ways. Code never asks which
dialect it is in; it asks for the field that matters. A preset (presets.py) is a set of values.
"""

from dataclasses import dataclass
from numbers import Integral
from typing import Annotated, Literal

from engram_ref.checks import INT64_MAX, Count, Int64, NonNegative, Range, Whole, check_fields, check_kind, choices
from engram_ref.errors import InputError, check_name, described

MOST_ROWS = 2**62
"""Rows of one layer that its flat table may have: row numbers and offsets are int64."""

BYTES_PER_ROW = {
    "fp32": lambda width: 4 * width,
    "bf16": lambda width: 2 * width,
    "fp8_e8m0": lambda width: width + width // 32,
}
"""Stored size of one table row of `width` values, in bytes."""


@dataclass(frozen=True)
class EngramConfig:
    """One Engram dialect at one size. Immutable; use dataclasses.replace to vary it."""

    name: str
    source: str                              # where the values come from

    # where it sits
    layer_ids: tuple[Whole, ...]             # as numbers they seed the multipliers
    layer_base: Annotated[int, Range(0, 1)]  # what the first block is called
    hidden_size: Count                       # D
    n_branches: Count                        # M

    # which ids are hashed
    vocabulary: str | None                   # a known vocabulary; None hashes raw ids
    vocab_size: Count                        # V, raw ids
    canonical_size: Count                    # classes; equals vocab_size for raw ids
    pad_id: Whole                            # raw id whose canonical id replaces hidden tokens if eos_id is None
    dead_barrier: bool                       # may ids be marked DEAD (an image span)?
    eos_id: Whole | None                     # ends a document, and replaces what a window must not show; None: never

    # hashing
    max_ngram: Annotated[int, Range(2, INT64_MAX)]    # N; orders 2..N are hashed, a 1-gram is the token itself
    n_heads: Count                           # H, heads per order
    table_sizes: tuple[Count, ...]           # nominal rows of one head's table, per order
    seed: Whole
    multiplier_generator: Literal["pcg64", "splitmix64"]
    seed_index: Literal["layer_id", "ordinal"]        # the generator takes either; ordinals are by ascending layer
    multipliers: tuple[tuple[Int64, ...], ...] | None # injected, per layer; None: literals.py or the generator

    # tables
    row_width: Count                         # W, values in one row
    table_codec: Literal["fp32", "bf16", "fp8_e8m0"]
    row_multiple: Count                      # the stored table is padded to a multiple of this

    # gate
    projection_bias: bool
    score_form: Literal["normalised", "factored"]     # "factored": norms pulled out of the dot product
    gate_form: Literal["sigmoid", "signed_sqrt", "copysign_sqrt"]
    gain_form: Literal["plain", "zero_centred"]       # "plain": gain w; "zero_centred": gain 1 + w
    norm_eps: NonNegative | None             # query and key norms; None: the input dtype's machine epsilon

    # short convolution; conv_kernel 0 means there is none
    conv_kernel: Whole
    conv_dilation: Count
    conv_norm_eps: NonNegative
    conv_init: Literal["zeros", "uniform"]   # "zeros": as in trained models

    rounding: Literal["none", "fp8_bf16"]    # "fp8_bf16": the released model's rounding boundaries
    quantise_floor: NonNegative              # fp8_bf16: max|x| of a block counts as at least this, see ops.quantise

    def __post_init__(self):
        check_fields(self)
        _check_sizes(self)
        _check_layers(self)

    @property
    def orders(self) -> tuple[int, ...]:
        """The n-gram orders that are hashed: 2..N."""
        return tuple(range(2, self.max_ngram + 1))

    @property
    def columns(self) -> int:
        """C = (N-1) * H: rows read per token and layer, order-major, then head."""
        return (self.max_ngram - 1) * self.n_heads

    @property
    def memory_width(self) -> int:
        """C * W: values that the rows of one token concatenate to."""
        return self.columns * self.row_width

    @property
    def conv_span(self) -> int:
        """(kernel-1) * dilation: how far back the short convolution looks, in tokens."""
        return max(self.conv_kernel - 1, 0) * self.conv_dilation

    @property
    def bytes_per_row(self) -> int:
        """Stored size of one table row, in bytes."""
        return BYTES_PER_ROW[self.table_codec](self.row_width)


CHOICES = choices(EngramConfig)
"""The fields that take a name, and the names they take."""


def check_choice(field: str, name: str) -> None:
    """Raise InputError unless the field takes this name."""
    check_name(field, name, CHOICES[field])


def _check_sizes(config: EngramConfig) -> None:
    """Fields that must agree with each other."""
    if config.vocabulary is None and config.canonical_size != config.vocab_size:
        raise InputError("canonical_size", f"{config.vocab_size}, the vocab_size, for raw ids", config.canonical_size)
    if sum(config.table_sizes) * config.n_heads >= MOST_ROWS:
        raise InputError("table_sizes", "fewer than 2^62 rows in a layer", config.table_sizes)
    if len(config.table_sizes) != config.max_ngram - 1:
        raise InputError("table_sizes", f"{config.max_ngram - 1} sizes, one per order", len(config.table_sizes))
    for field in ("pad_id", "eos_id"):
        value = getattr(config, field)
        if value is not None and value >= config.vocab_size:
            raise InputError(field, f"a raw id in [0, {config.vocab_size})", value)
    if config.table_codec == "fp8_e8m0" and config.row_width % 32:
        raise InputError("row_width", "a multiple of 32, one scale each", config.row_width)
    if config.rounding == "fp8_bf16" and config.memory_width % 32:
        raise InputError("row_width", "a memory width that is a multiple of 32 where it is rounded to FP8",
                         config.memory_width)


def _check_layers(config: EngramConfig) -> None:
    """Layers are distinct block numbers, and the multipliers given cover each of them."""
    layers = config.layer_ids
    if not layers or len(set(layers)) != len(layers) or min(layers) < config.layer_base:
        raise InputError("layer_ids", f"distinct block numbers from {config.layer_base}", layers)
    given = config.multipliers
    if given is not None and [len(m) for m in given] != [config.max_ngram] * len(layers):
        raise InputError("multipliers", f"{len(layers)} layers of {config.max_ngram}", given)


def check_layer(config: EngramConfig, layer_id: int) -> None:
    """Refuse a layer that has no Engram module in this configuration."""
    check_kind("config", config, EngramConfig)
    if isinstance(layer_id, bool) or not isinstance(layer_id, Integral) or layer_id not in config.layer_ids:
        listed = ", ".join(map(str, config.layer_ids))
        raise InputError("layer", f"one of {listed} ({config.name})", described(layer_id),
                         f"this preset counts blocks from {config.layer_base}")
