"""Named models: a backbone and its Engram modules, each with its source.

A value that no source publishes is marked "choice" in a comment.
"""

from dataclasses import replace

from engram_ref.errors import check_name
from engram_ref.model_config import AttentionConfig, BackboneConfig, ExpertsConfig, HyperConfig, ModelConfig
from engram_ref.presets import ALIASES, preset

_MLA_27B = AttentionConfig(
    n_heads=32, qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128, kv_lora_rank=512,
    q_lora_rank=None,                 # choice: 768 and 1536 do not give the mHC paper's active 612M, 1.66B and 4.14B
    latent_norm_eps=1e-20,            # choice: same as rms_norm_eps; HF's DeepSeek-V3 class uses 1e-6
)

_EXPERTS_72 = ExpertsConfig(
    n_routed_experts=72, num_experts_per_tok=6, n_shared_experts=2, moe_intermediate_size=1536,
    n_group=1,                        # choice: no paper mentions groups, and 55 and 64 have no common divisor
    routed_scaling_factor=2.5,        # choice: DeepSeek-V3's; Moonlight, with 64 experts, uses 2.446
)
_EXPERTS_55 = replace(_EXPERTS_72, n_routed_experts=55)

_HYPER_27B = HyperConfig(
    hc_mult=4,
    collapse="sum",                   # choice: not stated; equivalent to "mean" before a norm; V4 learns weights
)

_BACKBONE_27B = BackboneConfig(
    n_layers=30, n_dense_layers=1, hidden_size=2560, vocab_size=129_280,
    intermediate_size=12_288,         # choice: 8 * 1536; of 4 to 12 times, only 8 gives Dense-4B's 4.1B and 3.8B
    attention=_MLA_27B, experts=_EXPERTS_72, hyper=_HYPER_27B, rms_norm_eps=1e-20,
    tie_embeddings=False,             # choice: the mHC paper's totals count two vocabulary matrices
)


def _mhc(name: str, layers: int, hidden: int, heads: int, experts: ExpertsConfig) -> ModelConfig:
    """Return a model of the mHC paper's Table 5; its dense layer is as wide as all active experts of a token."""
    width = (experts.num_experts_per_tok + experts.n_shared_experts) * experts.moe_intermediate_size
    backbone = replace(_BACKBONE_27B, n_layers=layers, hidden_size=hidden, intermediate_size=width,
                       attention=replace(_MLA_27B, n_heads=heads), experts=experts)
    return ModelConfig(name, "mHC paper arXiv 2512.24880, Table 5", backbone)


_V3 = BackboneConfig(
    n_layers=61, n_dense_layers=3, hidden_size=7168, vocab_size=129_280, intermediate_size=18_432,
    attention=replace(_MLA_27B, n_heads=128, q_lora_rank=1536, latent_norm_eps=1e-6),
    experts=ExpertsConfig(256, 8, 1, 2048, n_group=8, topk_group=4, routed_scaling_factor=2.5),
    hyper=None, rms_norm_eps=1e-6)

_TINY = BackboneConfig(
    n_layers=2, n_dense_layers=1, hidden_size=16, vocab_size=129_280, intermediate_size=32,
    attention=AttentionConfig(2, 8, 4, 8, 12, None, 1e-6),
    experts=ExpertsConfig(6, 2, 1, 8, n_group=3, topk_group=2, routed_scaling_factor=1.5),
    hyper=HyperConfig(alpha_init=1.0),    # large, so that the maps visibly depend on the state
    rms_norm_eps=1e-6)

_SMALL = replace(
    _TINY, n_layers=4, hidden_size=64, intermediate_size=256,
    attention=AttentionConfig(4, 16, 8, 16, 32, 48, 1e-6),
    experts=ExpertsConfig(16, 4, 1, 32, n_group=4, topk_group=2, routed_scaling_factor=2.5))

_PRESETS: dict[str, ModelConfig] = {
    config.name: config
    for config in (
        ModelConfig("tiny", "this project: small enough to print", _TINY, preset("tiny")),
        ModelConfig("small", "this project: small enough to train on a laptop", _SMALL,
                    replace(preset("tiny"), name="small", hidden_size=64, row_width=16, table_sizes=(9973, 19937))),
        ModelConfig("dense-4b", "paper arXiv 2601.07372, Table 5, column Dense-4B",
                    replace(_BACKBONE_27B, n_dense_layers=30, experts=None)),
        ModelConfig("moe-27b", "paper arXiv 2601.07372, Table 5, column MoE-27B", _BACKBONE_27B),
        ModelConfig("engram-27b", "paper arXiv 2601.07372, Table 5, column Engram-27B",
                    replace(_BACKBONE_27B, experts=_EXPERTS_55), preset("engram-27b")),
        ModelConfig("engram-40b", "paper arXiv 2601.07372, Table 5, column Engram-40B",
                    replace(_BACKBONE_27B, experts=_EXPERTS_55), preset("engram-40b")),
        _mhc("mhc-3b", 12, 1280, 16, replace(_EXPERTS_72, n_routed_experts=64, moe_intermediate_size=896)),
        _mhc("mhc-9b", 18, 1920, 24, replace(_EXPERTS_72, n_routed_experts=64, moe_intermediate_size=1280)),
        ModelConfig("v3-like", "DeepSeek-V3, arXiv 2412.19437", _V3),
    )
}


def model_presets() -> tuple[str, ...]:
    """Return the names of all model presets."""
    return tuple(_PRESETS)


def model_preset(name: str) -> ModelConfig:
    """Return the model with this name; "paper" is an alias of engram-27b.

    raises   InputError that lists the models and suggests the closest

    >>> model_preset("moe-27b").backbone.experts.n_routed_experts
    72
    """
    check_name("model", name, [*_PRESETS, *ALIASES])
    return _PRESETS[ALIASES.get(name, name)]
