"""Declarations of every parameter array of a model.

Shapes, initial values, checks, parameter counts and optimiser groups are derived from these declarations, never
from a parameter's name.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from engram_ref.config import EngramConfig
from engram_ref.layout import layout
from engram_ref.model_config import AttentionConfig, BackboneConfig, ExpertsConfig, ModelConfig
from engram_ref.ops.codecs import BLOCK


@dataclass(frozen=True)
class Parameter:
    """Declaration of one array.

    kind    "weight": has a gradient; "table": has one only in rows that were read; "constant": fixed by the
            configuration; "statistic": updated by the training step, without a gradient
    start   initial values: "normal", "uniform", "full"; "table": N(0, 1) rows, encoded; "offsets": column offsets
    scale   of the initial values: standard deviation, bound or value; None: standard deviation 1/sqrt(last axis)
    """

    name: str                       # relative to its module, "wq.weight", or the path, "layers.0.attn.wq.weight"
    shape: tuple[int, ...]
    part: str                       # its category in parameter counts, see accounting.PARTS
    group: str      # of the optimiser: "matrix", "vector", "conv", "embedding", "output", "table"; "" for none
    kind: str = "weight"
    start: str = "normal"
    scale: float | None = None
    dtype: str = "float"            # float32 or float64; or "bfloat16", "uint8", "int64"
    layer: int | None = None        # layer id of its Engram module; None outside Engram modules

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Names of the allowed dtypes."""
        return ("float32", "float64") if self.dtype == "float" else (self.dtype,)


def engram_module(c: EngramConfig, layer_id: int) -> Iterator[Parameter]:
    """Parameters of one layer's Engram module. Raises InputError for a layer without one."""
    M, D, W, memory, R = c.n_branches, c.hidden_size, c.row_width, c.memory_width, layout(c, layer_id).table_rows
    tables, projections, rest = "engram tables", "engram projections", "engram rest"
    if c.table_codec == "fp8_e8m0":
        yield Parameter("table_codes", (R, W), tables, "table", "table", "table", dtype="uint8")
        yield Parameter("table_scales", (R, W // BLOCK), tables, "table", "constant", "table", dtype="uint8")
    else:
        stored = "bfloat16" if c.table_codec == "bf16" else "float"
        yield Parameter("table", (R, W), tables, "table", "table", "table", dtype=stored)
    yield Parameter("column_offsets", (c.columns,), rest, "", "constant", "offsets", dtype="int64")
    yield Parameter("key_weight", (M, D, memory), projections, "matrix")
    yield Parameter("value_weight", (D, memory), projections, "matrix")
    if c.projection_bias:
        yield vector("key_bias", (M, D), rest, 0.0)
        yield vector("value_bias", (D,), rest, 0.0)
    gain = 0.0 if c.gain_form == "zero_centred" else 1.0
    yield vector("query_gain", (M, D), rest, gain)
    yield vector("key_gain", (M, D), rest, gain)
    if c.conv_kernel:
        start, scale = ("uniform", c.conv_kernel**-0.5) if c.conv_init == "uniform" else ("full", 0.0)
        yield vector("conv_gain", (M, D), rest, gain)
        yield Parameter("conv_weight", (M, D, c.conv_kernel), rest, "conv", start=start, scale=scale)


def vector(name: str, shape: tuple[int, ...], part: str, value: float) -> Parameter:
    """A gain, bias or vector of scalars, initialised to a constant."""
    return Parameter(name, shape, part, "vector", start="full", scale=value)


def norm(name: str, width: int) -> Parameter:
    """The gain of an RMSNorm of the backbone."""
    return vector(name, (width,), "norms", 1.0)


def attention(c: AttentionConfig, D: int) -> Iterator[Parameter]:
    """Matrices and latent norms of MLA, for hidden states of D channels."""
    A, dq, r = c.n_heads, c.qk_head_dim, c.kv_lora_rank
    matrix = lambda name, *shape: Parameter(name, shape, "attention", "matrix")
    if c.q_lora_rank is None:
        yield matrix("wq.weight", A * dq, D)
    else:
        yield matrix("wq_a.weight", c.q_lora_rank, D)
        yield norm("q_norm.weight", c.q_lora_rank)
        yield matrix("wq_b.weight", A * dq, c.q_lora_rank)
    yield matrix("wkv_a.weight", r + c.qk_rope_head_dim, D)
    yield norm("kv_norm.weight", r)
    yield matrix("wkv_b.weight", A * (c.qk_nope_head_dim + c.v_head_dim), r)
    yield matrix("wo.weight", D, A * c.v_head_dim)


def dense(F: int, D: int, part: str = "dense feed-forward") -> Iterator[Parameter]:
    """One SwiGLU of width F."""
    for name, shape in (("w1", (F, D)), ("w2", (D, F)), ("w3", (F, D))):
        yield Parameter(f"{name}.weight", shape, part, "matrix")


def experts(c: ExpertsConfig, D: int) -> Iterator[Parameter]:
    """Router, stacked routed experts, and shared experts merged into one SwiGLU."""
    E, F = c.n_routed_experts, c.moe_intermediate_size
    yield Parameter("gate.weight", (E, D), "router", "matrix")
    if c.router_bias:
        yield Parameter("gate.bias", (E,), "router", "", "statistic", "full", 0.0)
    for name, shape in (("w1", (E, F, D)), ("w2", (E, D, F)), ("w3", (E, F, D))):
        yield Parameter(f"experts.{name}", shape, "routed experts", "matrix")
    if c.n_shared_experts:
        yield from under("shared_experts", dense(c.n_shared_experts * F, D, "shared experts"))


def hyper_connection(c: BackboneConfig, maps: int, alphas: int) -> Iterator[Parameter]:
    """The parameters of the hyper-connection around attention or feed-forward, or of the learned collapse.

    Only the initial value of alpha is published. phi is random here, so that the branches diverge; with phi = 0
    they would stay identical.
    """
    part = "hyper-connections"
    yield Parameter("phi", (maps, c.n_branches * c.hidden_size), part, "matrix", scale=0.02)
    yield vector("bias", (maps,), part, 0.0)
    yield vector("alpha", (alphas,), part, c.hyper.alpha_init)


def under(path: str, parameters: Iterable[Parameter]) -> Iterator[Parameter]:
    """Prepend `path` to the names of the parameters."""
    return (replace(p, name=f"{path}.{p.name}") for p in parameters)


def block(config: ModelConfig, index: int) -> Iterator[Parameter]:
    """Parameters of one block, Engram first; `index` starts at 0."""
    c, layer_id, M = config.backbone, config.engram_layer(index), config.backbone.n_branches
    if layer_id is not None:
        yield from (replace(p, layer=layer_id) for p in under("engram", engram_module(config.engram, layer_id)))
    for site in ("attn", "ffn"):
        yield norm(f"{site}_norm.weight", c.hidden_size)
        if c.hyper is not None:
            yield from under(f"{site}_hc", hyper_connection(c, 2 * M + M * M, 3))
    yield from under("attn", attention(c.attention, c.hidden_size))
    feed_forward = (dense(c.intermediate_size, c.hidden_size) if index < c.n_dense_layers
                    else experts(c.experts, c.hidden_size))
    yield from under("ffn", feed_forward)


def model(config: ModelConfig) -> Iterator[Parameter]:
    """All parameters of a model, in order."""
    c = config.backbone
    yield Parameter("embed.weight", (c.vocab_size, c.hidden_size), "embedding", "embedding", scale=1.0)
    for index in range(c.n_layers):
        yield from under(f"layers.{index}", block(config, index))
    if c.hyper is not None and c.hyper.collapse == "head":
        yield from under("head_hc", hyper_connection(c, c.n_branches, 1))
    yield norm("norm.weight", c.hidden_size)
    if not c.tie_embeddings:
        yield Parameter("head.weight", (c.vocab_size, c.hidden_size), "output matrix", "output")


def shapes_of(parameters: Iterable[Parameter]) -> dict[str, tuple[int, ...]]:
    """Name -> shape, in order."""
    return {p.name: p.shape for p in parameters}


def attention_shapes(config: AttentionConfig, D: int) -> dict[str, tuple[int, ...]]:
    """Name -> shape of the parameters of one attention layer, for hidden states of D channels."""
    return shapes_of(attention(config, D))


def expert_shapes(config: ExpertsConfig, D: int) -> dict[str, tuple[int, ...]]:
    """Name -> shape of the parameters of one expert layer, for hidden states of D channels."""
    return shapes_of(experts(config, D))
