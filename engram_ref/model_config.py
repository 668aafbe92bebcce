"""ModelConfig: the backbone that Engram sits in, every choice a named field.

Names are those of the DeepSeek releases (kv_lora_rank, n_routed_experts, hc_mult, ...). What a paper does
not publish is a field as well; the presets say which values were chosen.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from engram_ref.checks import Count, Finite, NonNegative, Positive, Range, Whole, check_fields
from engram_ref.config import EngramConfig
from engram_ref.errors import InputError


@dataclass(frozen=True)
class YarnConfig:
    """YaRN: how a trained model is stretched to longer texts."""

    factor: Positive                     # s, by how much
    mscale: NonNegative                  # f; m = 0.1 f ln(s) + 1 sharpens queries and keys
    original_length: Count = 4096        # L0, tokens the model was trained on
    beta_fast: Positive = 32.0           # pairs that turn more often than this over L0 stay as they are
    beta_slow: Positive = 1.0            # pairs that turn less often than this are slowed down fully

    def __post_init__(self):
        check_fields(self)


@dataclass(frozen=True)
class AttentionConfig:
    """Multi-head latent attention (MLA)."""

    n_heads: Count                       # A
    qk_nope_head_dim: Count              # channels of a head's query and key that carry no position
    qk_rope_head_dim: Count              # channels that do
    v_head_dim: Count
    kv_lora_rank: Count                  # r, width of the latent that is cached
    q_lora_rank: Count | None            # width of the query's latent; None: straight from the hidden state
    latent_norm_eps: NonNegative         # eps of the norms on both latents
    rope_theta: Annotated[float, Range(1, math.inf, above=True)] = 10_000.0
    yarn: YarnConfig | None = None

    def __post_init__(self):
        check_fields(self)
        if self.qk_rope_head_dim % 2:
            raise InputError("qk_rope_head_dim", "an even number of rotary channels", self.qk_rope_head_dim)

    @property
    def qk_head_dim(self) -> int:
        """Width of one head's query: the part without position, then the part with it."""
        return self.qk_nope_head_dim + self.qk_rope_head_dim


@dataclass(frozen=True)
class ExpertsConfig:
    """DeepSeekMoE: routed and shared SwiGLU experts."""

    n_routed_experts: Count              # E
    num_experts_per_tok: Count           # K
    n_shared_experts: Whole              # one SwiGLU of this many widths
    moe_intermediate_size: Count         # F
    n_group: Count = 1                   # experts come in this many contiguous groups
    topk_group: Count = 1                # and only this many groups may serve one token
    routed_scaling_factor: NonNegative = 1.0
    scoring_func: Literal["sigmoid", "sqrt_softplus", "softmax"] = "sigmoid"     # V3's; V4's; V2's
    norm_topk_prob: bool = True          # do the chosen weights sum to one before scaling?
    group_score: Literal["best_two", "best"] = "best_two"     # a group counts by its two best (V3) or its best (V2)
    router_bias: bool = True             # is there a balancing bias? V2 has none, and no parameter "gate.bias"

    def __post_init__(self):
        check_fields(self)
        E, K, G = self.n_routed_experts, self.num_experts_per_tok, self.n_group
        if E % G or self.topk_group > G:
            raise InputError("n_group, topk_group", f"a divisor of {E} experts, and at most that many groups",
                             (G, self.topk_group))
        if G > 1 and E // G < 2 and self.group_score == "best_two":
            raise InputError("n_group", "at least two experts per group", E // G, "a group's score is its best two")
        if self.topk_group * E // G < K:
            raise InputError("num_experts_per_tok", f"1 to {self.topk_group * E // G}, what the kept groups hold", K)


@dataclass(frozen=True)
class HyperConfig:
    """Manifold-constrained hyper-connections (mHC): the residual stream as several branches."""

    hc_mult: Count = 4                   # M, branches
    iterations: Count = 20               # Sinkhorn-Knopp steps, each a column and a row normalisation
    post_mult: NonNegative = 2.0         # H_post = post_mult * sigmoid
    pre_eps: NonNegative = 0.0           # added to H_pre; V4's code adds 1e-6
    sinkhorn_eps: NonNegative = 0.0      # added in every Sinkhorn division; V4's code has 1e-6
    alpha_init: Finite = 0.01            # what the dynamic part of the maps starts with
    collapse: Literal["sum", "mean", "head"] = "sum"    # at the end; "head": a learned weighting

    def __post_init__(self):
        check_fields(self)


@dataclass(frozen=True)
class BackboneConfig:
    """The transformer around Engram."""

    n_layers: Count
    n_dense_layers: Whole                # the first so many have a dense SwiGLU instead of experts
    hidden_size: Count                   # D
    vocab_size: Count                    # V
    intermediate_size: Count             # width of a dense SwiGLU
    attention: AttentionConfig
    experts: ExpertsConfig | None        # None: all layers are dense
    hyper: HyperConfig | None            # None: one plain residual stream
    rms_norm_eps: NonNegative
    tie_embeddings: bool = False         # is the output matrix the embedding?

    def __post_init__(self):
        check_fields(self)
        if self.n_dense_layers > self.n_layers:
            raise InputError("n_dense_layers", f"at most n_layers, {self.n_layers}", self.n_dense_layers)
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
        check_fields(self)
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
