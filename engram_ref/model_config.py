"""ModelConfig: the backbone that Engram sits in, every choice a named field.

Names are those of the DeepSeek releases (kv_lora_rank, n_routed_experts, hc_mult, ...). What a paper does
not publish is a field as well; the presets say which values were chosen.
"""

from dataclasses import dataclass

from engram_ref.config import EngramConfig
from engram_ref.errors import InputError

CHOICES = {
    "scoring_func": ("sigmoid", "sqrt_softplus", "softmax"),
    "group_score": ("best_two", "best"),
    "collapse": ("sum", "mean", "head"),
}
"""The fields that take a name, and the names they take."""


@dataclass(frozen=True)
class YarnConfig:
    """YaRN: how a trained model is stretched to longer texts."""

    factor: float                        # s, by how much
    mscale: float                        # f; m = 0.1 f ln(s) + 1 sharpens queries and keys
    original_length: int = 4096          # L0, tokens the model was trained on
    beta_fast: float = 32.0              # pairs that turn more often than this over L0 stay as they are
    beta_slow: float = 1.0               # pairs that turn less often than this are slowed down fully

    def __post_init__(self):
        if min(self.factor, self.original_length, self.beta_fast, self.beta_slow) <= 0:
            raise InputError("factor, original_length, beta_fast, beta_slow", "numbers above 0",
                             (self.factor, self.original_length, self.beta_fast, self.beta_slow))


@dataclass(frozen=True)
class AttentionConfig:
    """Multi-head latent attention (MLA)."""

    n_heads: int                         # A
    qk_nope_head_dim: int                # channels of a head's query and key that carry no position
    qk_rope_head_dim: int                # channels that do
    v_head_dim: int
    kv_lora_rank: int                    # r, width of the latent that is cached
    q_lora_rank: int | None              # width of the query's latent; None: straight from the hidden state
    latent_norm_eps: float               # eps of the norms on both latents
    rope_theta: float = 10_000.0
    yarn: YarnConfig | None = None

    def __post_init__(self):
        if self.qk_rope_head_dim % 2:
            raise InputError("qk_rope_head_dim", "an even number of rotary channels", self.qk_rope_head_dim)
        if self.rope_theta <= 1:
            raise InputError("rope_theta", "more than 1", self.rope_theta)

    @property
    def qk_head_dim(self) -> int:
        """Width of one head's query: the part without position, then the part with it."""
        return self.qk_nope_head_dim + self.qk_rope_head_dim


@dataclass(frozen=True)
class ExpertsConfig:
    """DeepSeekMoE: routed and shared SwiGLU experts."""

    n_routed_experts: int                # E
    num_experts_per_tok: int             # K
    n_shared_experts: int                # one SwiGLU of this many widths
    moe_intermediate_size: int           # F
    n_group: int = 1                     # experts come in this many contiguous groups
    topk_group: int = 1                  # and only this many groups may serve one token
    routed_scaling_factor: float = 1.0
    scoring_func: str = "sigmoid"        # V3's; "sqrt_softplus" is V4's, "softmax" V2's
    norm_topk_prob: bool = True          # do the chosen weights sum to one before scaling?
    group_score: str = "best_two"        # V3's: the sum of a group's two best; "best", V2's: its best expert alone
    router_bias: bool = True             # is there a balancing bias? V2 has none, and no parameter "gate.bias"

    def __post_init__(self):
        check_choice(self, "scoring_func")
        check_choice(self, "group_score")
        E, K, G = self.n_routed_experts, self.num_experts_per_tok, self.n_group
        if G < 1 or E % G or not 1 <= self.topk_group <= G:
            raise InputError("n_group, topk_group", f"a divisor of {E} experts, and at most that many groups",
                             (G, self.topk_group))
        if G > 1 and E // G < 2 and self.group_score == "best_two":
            raise InputError("n_group", "at least two experts per group", E // G, "a group's score is its best two")
        if not 1 <= K <= self.topk_group * E // G:
            raise InputError("num_experts_per_tok", f"1 to {self.topk_group * E // G}, what the kept groups hold", K)


@dataclass(frozen=True)
class HyperConfig:
    """Manifold-constrained hyper-connections (mHC): the residual stream as several branches."""

    hc_mult: int = 4                     # M, branches
    iterations: int = 20                 # Sinkhorn-Knopp steps, each a column and a row normalisation
    post_mult: float = 2.0               # H_post = post_mult * sigmoid
    pre_eps: float = 0.0                 # added to H_pre; V4's code adds 1e-6
    sinkhorn_eps: float = 0.0            # added in every Sinkhorn division; V4's code has 1e-6
    alpha_init: float = 0.01             # what the dynamic part of the maps starts with
    collapse: str = "sum"                # at the end: "sum", "mean", or "head", a learned weighting

    def __post_init__(self):
        check_choice(self, "collapse")
        if self.hc_mult < 1 or self.iterations < 1:
            raise InputError("hc_mult, iterations", "at least 1", (self.hc_mult, self.iterations))


@dataclass(frozen=True)
class BackboneConfig:
    """The transformer around Engram."""

    n_layers: int
    n_dense_layers: int                  # the first so many have a dense SwiGLU instead of experts
    hidden_size: int                     # D
    vocab_size: int                      # V
    intermediate_size: int               # width of a dense SwiGLU
    attention: AttentionConfig
    experts: ExpertsConfig | None        # None: all layers are dense
    hyper: HyperConfig | None            # None: one plain residual stream
    rms_norm_eps: float
    tie_embeddings: bool = False         # is the output matrix the embedding?

    def __post_init__(self):
        if not 0 <= self.n_dense_layers <= self.n_layers or self.n_layers < 1:
            raise InputError("n_layers, n_dense_layers", "at least 1 layer, of which some are dense",
                             (self.n_layers, self.n_dense_layers))
        if self.experts is None and self.n_dense_layers != self.n_layers:
            raise InputError("n_dense_layers", f"{self.n_layers}, all layers, where there are no experts",
                             self.n_dense_layers)

    @property
    def n_branches(self) -> int:
        """M, residual branches: 1 without hyper-connections."""
        return 1 if self.hyper is None else self.hyper.hc_mult


@dataclass(frozen=True)
class ModelConfig:
    """A whole model: a backbone, and the Engram modules in some of its layers."""

    name: str
    source: str
    backbone: BackboneConfig
    engram: EngramConfig | None = None

    def __post_init__(self):
        if self.engram is None:
            return
        backbone, engram = self.backbone, self.engram
        if (engram.hidden_size, engram.n_branches) != (backbone.hidden_size, backbone.n_branches):
            raise InputError("engram.hidden_size, n_branches", f"the backbone's {backbone.hidden_size} and "
                             f"{backbone.n_branches}", (engram.hidden_size, engram.n_branches))
        if engram.vocab_size > backbone.vocab_size:
            raise InputError("engram.vocab_size", f"at most the backbone's {backbone.vocab_size}", engram.vocab_size)
        last = backbone.n_layers - 1 + engram.layer_base
        if max(engram.layer_ids) > last:
            raise InputError("engram.layer_ids", f"blocks up to {last}", engram.layer_ids)

    def engram_layer(self, index: int) -> int | None:
        """The Engram layer id of the block with this index, counted from 0; None where it has no module."""
        if self.engram is None:
            return None
        layer_id = index + self.engram.layer_base
        return layer_id if layer_id in self.engram.layer_ids else None


def check_choice(config: object, field: str) -> None:
    """Refuse a name that is not among CHOICES[field]."""
    value = getattr(config, field)
    if value not in CHOICES[field]:
        raise InputError(field, f"one of {', '.join(CHOICES[field])}", repr(value))
