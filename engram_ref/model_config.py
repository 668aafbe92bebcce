"""ModelConfig: the backbone around Engram, with a named field for every choice.

Names follow the DeepSeek releases (kv_lora_rank, n_routed_experts, hc_mult, ...). Values that no paper publishes are
also fields; the presets mark their values as choices.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from engram_ref.checks import Count, Finite, NonNegative, Positive, Range, Whole, check_fields
from engram_ref.config import EngramConfig
from engram_ref.errors import InputError


@dataclass(frozen=True)
class YarnConfig:
    """YaRN: extends the context of a trained model."""

    factor: Positive                     # s, the factor by which the context is extended
    mscale: NonNegative                  # f; queries and keys are scaled by m = 0.1 f ln(s) + 1
    original_length: Count = 4096        # L0, context length of the trained model
    beta_fast: Positive = 32.0           # pairs with more rotations than this over L0 are unchanged
    beta_slow: Positive = 1.0            # pairs with fewer rotations than this over L0 are slowed down by s

    def __post_init__(self):
        check_fields(self)


@dataclass(frozen=True)
class AttentionConfig:
    """Multi-head latent attention (MLA)."""

    n_heads: Count                       # A
    qk_nope_head_dim: Count              # channels per head of queries and keys without position
    qk_rope_head_dim: Count              # rotary channels per head
    v_head_dim: Count
    kv_lora_rank: Count                  # r, width of the cached latent
    q_lora_rank: Count | None            # width of the query latent; None: queries come from the hidden state
    latent_norm_eps: NonNegative         # eps of both latents' norms
    rope_theta: Annotated[float, Range(1, math.inf, above=True)] = 10_000.0
    yarn: YarnConfig | None = None

    def __post_init__(self):
        check_fields(self)
        if self.qk_rope_head_dim % 2:
            raise InputError("qk_rope_head_dim", "an even number of rotary channels", self.qk_rope_head_dim)

    @property
    def qk_head_dim(self) -> int:
        """Width of one head's query: the channels without position, then the rotary channels."""
        return self.qk_nope_head_dim + self.qk_rope_head_dim


@dataclass(frozen=True)
class ExpertsConfig:
    """DeepSeekMoE: routed and shared SwiGLU experts."""

    n_routed_experts: Count              # E
    num_experts_per_tok: Count           # K
    n_shared_experts: Whole              # stored as one SwiGLU, this many times as wide
    moe_intermediate_size: Count         # F
    n_group: Count = 1                   # number of contiguous groups of experts
    topk_group: Count = 1                # number of groups from which a token's experts are chosen
    routed_scaling_factor: NonNegative = 1.0
    scoring_func: Literal["sigmoid", "sqrt_softplus", "softmax"] = "sigmoid"     # V3, V4, V2
    norm_topk_prob: bool = True          # whether the chosen weights are normalised to sum to one before scaling
    group_score: Literal["best_two", "best"] = "best_two"     # sum of a group's two best scores (V3), or the best (V2)
    router_bias: bool = True             # whether there is a load-balancing bias, parameter "gate.bias"; not in V2

    def __post_init__(self):
        check_fields(self)
        E, K, G = self.n_routed_experts, self.num_experts_per_tok, self.n_group
        if E % G or self.topk_group > G:
            raise InputError("n_group, topk_group", f"n_group to divide {E} experts, and topk_group <= n_group",
                             (G, self.topk_group))
        if G > 1 and E // G < 2 and self.group_score == "best_two":
            raise InputError("n_group", "at least two experts per group", E // G,
                             "a group is scored by its two best experts")
        if self.topk_group * E // G < K:
            raise InputError("num_experts_per_tok", f"at most {self.topk_group * E // G}", K,
                             "only experts in the kept groups can be chosen")


@dataclass(frozen=True)
class HyperConfig:
    """Manifold-constrained hyper-connections (mHC): a residual stream with several branches."""

    hc_mult: Count = 4                   # M, branches
    iterations: Count = 20               # Sinkhorn-Knopp iterations, each normalising columns, then rows
    post_mult: NonNegative = 2.0         # H_post = post_mult * sigmoid
    pre_eps: NonNegative = 0.0           # added to H_pre; V4's code adds 1e-6
    sinkhorn_eps: NonNegative = 0.0      # added in every Sinkhorn division; V4's code adds 1e-6
    alpha_init: Finite = 0.01            # initial scale of the maps' state-dependent part
    collapse: Literal["sum", "mean", "head"] = "sum"    # how branches are merged at the end; "head": learned weights

    def __post_init__(self):
        check_fields(self)


@dataclass(frozen=True)
class BackboneConfig:
    """The transformer around Engram."""

    n_layers: Count
    n_dense_layers: Whole                # number of leading layers with a dense SwiGLU instead of experts
    hidden_size: Count                   # D
    vocab_size: Count                    # V
    intermediate_size: Count             # width of a dense SwiGLU
    attention: AttentionConfig
    experts: ExpertsConfig | None        # None: all layers are dense
    hyper: HyperConfig | None            # None: one plain residual stream
    rms_norm_eps: NonNegative
    tie_embeddings: bool = False         # whether the output matrix is the embedding matrix

    def __post_init__(self):
        check_fields(self)
        if self.n_dense_layers > self.n_layers:
            raise InputError("n_dense_layers", f"at most {self.n_layers}, the number of layers", self.n_dense_layers)
        if self.experts is None and self.n_dense_layers != self.n_layers:
            raise InputError("n_dense_layers", f"{self.n_layers}, the number of layers", self.n_dense_layers,
                             "without experts, all layers are dense")

    @property
    def n_branches(self) -> int:
        """M, number of residual branches: 1 without hyper-connections."""
        return 1 if self.hyper is None else self.hyper.hc_mult


@dataclass(frozen=True)
class ModelConfig:
    """A whole model: a backbone with Engram modules in some of its layers."""

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
            raise InputError("engram.hidden_size, n_branches", f"{backbone.hidden_size} and {backbone.n_branches}, "
                             "as in the backbone", (engram.hidden_size, engram.n_branches))
        if engram.vocab_size > backbone.vocab_size:
            raise InputError("engram.vocab_size", f"at most {backbone.vocab_size}, as in the backbone",
                             engram.vocab_size)
        last = backbone.n_layers - 1 + engram.layer_base
        if max(engram.layer_ids) > last:
            raise InputError("engram.layer_ids", f"block numbers of at most {last}", engram.layer_ids)

    def engram_layer(self, index: int) -> int | None:
        """Return the Engram layer id of block `index`, counted from 0, or None if it has no module."""
        if self.engram is None:
            return None
        layer_id = index + self.engram.layer_base
        return layer_id if layer_id in self.engram.layer_ids else None
