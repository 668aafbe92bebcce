"""EngramConfig: one named field for every difference between the dialects of Engram.

The paper, the demo and the releases implement the same idea with about a dozen differences. Code never branches on the
dialect, only on individual fields. A preset (presets.py) is a set of values.
"""

from dataclasses import dataclass
from numbers import Integral
from typing import Annotated, Literal

from engram_ref.checks import INT64_MAX, Count, Int64, NonNegative, Range, Whole, check_fields, check_kind, choices
from engram_ref.errors import InputError, check_name, described

ROW_LIMIT = 2**62
"""Exclusive upper bound on the rows of a layer's flat table; row indices and offsets are int64."""

BYTES_PER_ROW = {"fp32": lambda width: 4 * width, "bf16": lambda width: 2 * width,
                 "fp8_e8m0": lambda width: width + width // 32}
"""Stored size of one table row of `width` values, in bytes."""


@dataclass(frozen=True)
class EngramConfig:
    """One Engram dialect at one size. Immutable; use dataclasses.replace to derive variants."""

    name: str
    source: str                              # where the values come from

    # position in the model
    layer_ids: tuple[Whole, ...]             # block numbers; they also seed the multipliers
    layer_base: Annotated[int, Range(0, 1)]  # number of the first block
    hidden_size: Count                       # D
    n_branches: Count                        # M

    # which ids are hashed
    vocabulary: str | None                   # name of the vocabulary; None: raw ids are hashed
    vocab_size: Count                        # V, raw ids
    canonical_size: Count                    # number of classes; equals vocab_size for raw ids
    pad_id: Whole                            # raw id whose canonical id replaces hidden tokens if eos_id is None
    dead_barrier: bool                       # whether ids may be marked DEAD, such as an image span
    eos_id: Whole | None                     # raw id that ends a document and replaces hidden tokens; None: no barrier

    # hashing
    max_ngram: Annotated[int, Range(2, INT64_MAX)]    # N; orders 2..N are hashed
    n_heads: Count                           # H, heads per order
    table_sizes: tuple[Count, ...]           # nominal rows of each head's table, per order
    seed: Whole
    multiplier_generator: Literal["pcg64", "splitmix64"]
    seed_index: Literal["layer_id", "ordinal"]        # added to the seed; ordinals count layers in ascending order
    multipliers: tuple[tuple[Int64, ...], ...] | None # explicit, per layer; None: from literals.py or the generator

    # tables
    row_width: Count                         # W, values per row
    table_codec: Literal["fp32", "bf16", "fp8_e8m0"]
    row_multiple: Count                      # the stored table is padded to a multiple of this many rows

    # gate
    projection_bias: bool
    score_form: Literal["normalised", "factored"]     # "factored": the norms are applied after the dot product
    gate_form: Literal["sigmoid", "signed_sqrt", "copysign_sqrt"]
    gain_form: Literal["plain", "zero_centred"]       # "plain": gain w; "zero_centred": gain 1 + w
    norm_eps: NonNegative | None             # of the query and key norms; None: machine epsilon of the input dtype

    # short convolution; conv_kernel 0 disables it
    conv_kernel: Whole
    conv_dilation: Count
    conv_norm_eps: NonNegative
    conv_init: Literal["zeros", "uniform"]   # initial weights; "zeros" as in trained models

    rounding: Literal["none", "fp8_bf16"]    # "fp8_bf16": the released model's rounding boundaries
    quantise_floor: NonNegative              # with fp8_bf16: lower bound on a block's max|x|, see ops.quantise

    def __post_init__(self):
        check_fields(self)
        _check_sizes(self)
        _check_layers(self)

    @property
    def orders(self) -> tuple[int, ...]:
        """Hashed n-gram orders, 2..N."""
        return tuple(range(2, self.max_ngram + 1))

    @property
    def columns(self) -> int:
        """C = (N-1) * H: rows read per token and layer, order-major, then head."""
        return (self.max_ngram - 1) * self.n_heads

    @property
    def memory_width(self) -> int:
        """C * W: width of the concatenated rows of one token."""
        return self.columns * self.row_width

    @property
    def conv_span(self) -> int:
        """(kernel-1) * dilation: distance from the current token to the convolution's oldest tap."""
        return max(self.conv_kernel - 1, 0) * self.conv_dilation

    @property
    def bytes_per_row(self) -> int:
        """Stored size of one table row, in bytes."""
        return BYTES_PER_ROW[self.table_codec](self.row_width)


CHOICES = choices(EngramConfig)
"""Field -> accepted names, for the fields that take a name."""


def check_choice(field: str, name: str) -> None:
    """Raise InputError unless the field accepts this name."""
    check_name(field, name, CHOICES[field])


def _check_sizes(config: EngramConfig) -> None:
    """Check the fields that depend on each other."""
    if config.vocabulary is None and config.canonical_size != config.vocab_size:
        raise InputError("canonical_size", f"{config.vocab_size}, the vocab_size", config.canonical_size,
                         "raw ids are hashed, since vocabulary is None")
    if sum(config.table_sizes) * config.n_heads >= ROW_LIMIT:
        raise InputError("table_sizes", "fewer than 2^62 rows per layer", config.table_sizes)
    if len(config.table_sizes) != config.max_ngram - 1:
        raise InputError("table_sizes", f"{config.max_ngram - 1} sizes, one per order", len(config.table_sizes))
    for field in ("pad_id", "eos_id"):
        value = getattr(config, field)
        if value is not None and value >= config.vocab_size:
            raise InputError(field, f"a raw id in [0, {config.vocab_size})", value)
    if config.table_codec == "fp8_e8m0" and config.row_width % 32:
        raise InputError("row_width", "a multiple of 32", config.row_width, "32 values share a scale")
    if config.rounding == "fp8_bf16" and config.memory_width % 32:
        raise InputError("row_width", "a memory width (columns * row_width) that is a multiple of 32",
                         config.memory_width, "the memory is rounded to FP8 in blocks of 32")


def _check_layers(config: EngramConfig) -> None:
    """Check that layers are distinct block numbers and that explicit multipliers cover each of them."""
    layers = config.layer_ids
    if not layers or len(set(layers)) != len(layers) or min(layers) < config.layer_base:
        raise InputError("layer_ids", f"distinct block numbers of at least {config.layer_base}", layers)
    given = config.multipliers
    if given is not None and [len(m) for m in given] != [config.max_ngram] * len(layers):
        raise InputError("multipliers", f"{len(layers)} tuples of {config.max_ngram} integers", given)


def check_layer(config: EngramConfig, layer_id: int) -> None:
    """Raise InputError unless the layer has an Engram module in this configuration."""
    check_kind("config", config, EngramConfig)
    if isinstance(layer_id, bool) or not isinstance(layer_id, Integral) or layer_id not in config.layer_ids:
        listed = ", ".join(map(str, config.layer_ids))
        raise InputError("layer", f"one of {listed}, the layers of {config.name}", described(layer_id),
                         f"this preset counts blocks from {config.layer_base}")
