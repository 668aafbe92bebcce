"""EngramConfig: every choice in which the dialects of Engram differ is one named field.

Paper, demo and the releases compute the same idea in a dozen different ways. Code never asks which
dialect it is in; it asks for the field that matters. A preset (presets.py) is a set of values.
"""

from dataclasses import dataclass

from engram_ref.errors import InputError

CHOICES: dict[str, tuple[str, ...]] = {
    "multiplier_generator": ("pcg64", "splitmix64"),
    "seed_index": ("layer_id", "ordinal"),
    "table_codec": ("fp32", "bf16", "fp8_e8m0"),
    "score_form": ("normalised", "factored"),
    "gate_form": ("sigmoid", "signed_sqrt", "copysign_sqrt"),
    "gain_form": ("plain", "zero_centred"),
    "conv_init": ("zeros", "uniform"),
    "rounding": ("none", "fp8_bf16"),
}
"""The fields that take a name, and the names they take."""

POSITIVE = ("hidden_size", "n_branches", "vocab_size", "canonical_size", "n_heads", "row_width", "row_multiple")
"""The fields that are counts of at least one."""

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
    layer_ids: tuple[int, ...]               # as numbers they seed the multipliers
    layer_base: int                          # 0 or 1: what the first block is called
    hidden_size: int                         # D
    n_branches: int                          # M

    # which ids are hashed
    vocabulary: str | None                   # a known vocabulary; None hashes raw ids
    vocab_size: int                          # V, raw ids
    canonical_size: int                      # classes; equals vocab_size for raw ids
    pad_id: int                              # raw id whose canonical id replaces hidden tokens if eos_id is None
    dead_barrier: bool                       # may ids be marked DEAD (an image span)?
    eos_id: int | None                       # ends a document, and replaces what a window must not show; None: never

    # hashing
    max_ngram: int                           # N; orders 2..N are hashed
    n_heads: int                             # H, heads per order
    table_sizes: tuple[int, ...]             # nominal rows of one head's table, per order
    seed: int
    multiplier_generator: str                # "pcg64" or "splitmix64"
    seed_index: str                          # what the generator is seeded with: "layer_id" or "ordinal"
    multipliers: tuple[tuple[int, ...], ...] | None   # injected, per layer; None: literals.py or the generator

    # tables
    row_width: int                           # W, values in one row
    table_codec: str                         # "fp32", "bf16" or "fp8_e8m0"
    row_multiple: int                        # the stored table is padded to a multiple of this

    # gate
    projection_bias: bool
    score_form: str                          # "normalised", or "factored": norms pulled out of the dot product
    gate_form: str                           # "sigmoid", "signed_sqrt" or "copysign_sqrt"
    gain_form: str                           # "plain": gain w; "zero_centred": gain 1 + w
    norm_eps: float | None                   # query and key norms; None: the input dtype's machine epsilon

    # short convolution; conv_kernel 0 means there is none
    conv_kernel: int
    conv_dilation: int
    conv_norm_eps: float
    conv_init: str                           # "zeros" (trained models) or "uniform"

    rounding: str                            # "none", or "fp8_bf16": the released model's rounding boundaries
    quantise_floor: float                    # fp8_bf16: max|x| of a block counts as at least this, see ops.quantise

    def __post_init__(self):
        for field in ("layer_ids", "table_sizes", "multipliers"):      # lists, where the values come from JSON
            object.__setattr__(self, field, _as_tuples(getattr(self, field)))
        for field in CHOICES:
            check_choice(field, getattr(self, field))
        _check_whole_numbers(self)
        _check_counts(self)
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


def check_choice(field: str, name: str) -> None:
    """Refuse a name that the field does not take."""
    if name not in CHOICES[field]:
        raise InputError(field, f"one of {', '.join(CHOICES[field])}", repr(name))


def _as_tuples(value: object) -> object:
    """Lists, at any depth, as tuples, so that a configuration can be hashed."""
    return tuple(map(_as_tuples, value)) if isinstance(value, list | tuple) else value


def _check_whole_numbers(config: EngramConfig) -> None:
    """Refuse numbers of another kind before they are compared or drawn with."""
    for field in (*POSITIVE, "max_ngram", "pad_id", "seed", "conv_kernel", "conv_dilation", "layer_base"):
        if type(getattr(config, field)) is not int:
            raise InputError(field, "a whole number", repr(getattr(config, field)))
    for field in ("layer_ids", "table_sizes"):
        numbers = getattr(config, field)
        if type(numbers) is not tuple or any(type(number) is not int for number in numbers):
            raise InputError(field, "whole numbers", repr(numbers))
    if config.seed < 0:
        raise InputError("seed", "at least 0", config.seed)


def _check_counts(config: EngramConfig) -> None:
    """Sizes that would make no module, or address nothing."""
    for field in POSITIVE:
        if getattr(config, field) < 1:
            raise InputError(field, "at least 1", getattr(config, field))
    if config.vocabulary is None and config.canonical_size != config.vocab_size:
        raise InputError("canonical_size", f"{config.vocab_size}, the vocab_size, for raw ids", config.canonical_size)
    if sum(config.table_sizes) * config.n_heads >= MOST_ROWS:
        raise InputError("table_sizes", "fewer than 2^62 rows in a layer", config.table_sizes)
    if config.max_ngram < 2:
        raise InputError("max_ngram", "at least 2", config.max_ngram, "a 1-gram is the token itself")
    if len(config.table_sizes) != config.max_ngram - 1:
        raise InputError("table_sizes", f"{config.max_ngram - 1} sizes, one per order", len(config.table_sizes))
    if min(config.table_sizes) < 1:
        raise InputError("table_sizes", "sizes of at least 1", config.table_sizes)
    for field in ("pad_id", "eos_id"):
        value = getattr(config, field)
        if value is not None and not 0 <= value < config.vocab_size:
            raise InputError(field, f"a raw id in [0, {config.vocab_size})", value)
    if config.table_codec == "fp8_e8m0" and config.row_width % 32:
        raise InputError("row_width", "a multiple of 32, one scale each", config.row_width)
    if config.rounding == "fp8_bf16" and config.memory_width % 32:
        raise InputError("row_width", "a memory width that is a multiple of 32 where it is rounded to FP8",
                         config.memory_width)
    for field in ("norm_eps", "conv_norm_eps", "quantise_floor"):
        if (getattr(config, field) or 0.0) < 0:
            raise InputError(field, "at least 0", getattr(config, field))
    if config.conv_kernel < 0 or config.conv_dilation < 1:
        raise InputError("conv_kernel, conv_dilation", "at least 0 and 1", (config.conv_kernel, config.conv_dilation))


def _check_layers(config: EngramConfig) -> None:
    """Layers are distinct block numbers, and literals cover each of them."""
    layers = config.layer_ids
    if not layers or len(set(layers)) != len(layers) or min(layers) < config.layer_base:
        raise InputError("layer_ids", f"distinct block numbers from {config.layer_base}", layers)
    if config.multipliers is None:
        return
    given = config.multipliers
    lengths = [len(m) if type(m) is tuple else 0 for m in given] if type(given) is tuple else []
    if lengths != [config.max_ngram] * len(layers):
        raise InputError("multipliers", f"{len(layers)} layers of {config.max_ngram}", given)
    if any(type(m) is not int or not -(2**63) <= m < 2**63 for layer in given for m in layer):
        raise InputError("multipliers", "whole numbers that fit int64", given)


def check_layer(config: EngramConfig, layer_id: int) -> None:
    """Refuse a layer that has no Engram module in this configuration."""
    if type(layer_id) is not int or layer_id not in config.layer_ids:
        listed = ", ".join(map(str, config.layer_ids))
        raise InputError("layer", f"one of {listed} ({config.name})", repr(layer_id),
                         f"this preset counts blocks from {config.layer_base}")
