"""Named Engram configurations, each with its source.

A value is marked "choice" in a comment if neither the source, nor code by its authors, nor HF transformers states it.
Details that the paper does not state are taken from its authors' demo. A preset that is derived from a different one
inherits every value that it does not set. The presets' multipliers are in literals.py.
"""

from dataclasses import replace
from typing import Any

from engram_ref.config import EngramConfig
from engram_ref.errors import check_name
from engram_ref.text.maps import KNOWN_VOCABULARIES

ALIASES = {"paper": "engram-27b"}

GATES: dict[str, dict[str, Any]] = {
    "paper": {"score_form": "normalised", "gate_form": "sigmoid", "gain_form": "plain",
              "norm_eps": 1e-20},             # choice: as in its backbone and in V4.1; the demo uses machine epsilon
    "demo": {"score_form": "normalised", "gate_form": "signed_sqrt", "gain_form": "plain", "norm_eps": None},
    "tilekernels": {"score_form": "factored", "gate_form": "copysign_sqrt", "gain_form": "plain", "norm_eps": 1e-20},
    "deepseek-v4.1": {"score_form": "factored", "gate_form": "copysign_sqrt", "gain_form": "plain",
                      "norm_eps": 1e-20},
    "qwen": {"score_form": "normalised", "gate_form": "signed_sqrt", "gain_form": "zero_centred",
             "norm_eps": 1e-6},               # HF's rms_norm_eps
}
"""Gate settings by name; `dataclasses.replace(config, **GATES["tilekernels"])` changes the gate of a preset."""


def _deepseek_vocabulary(name: str) -> dict[str, Any]:
    known = KNOWN_VOCABULARIES[name]
    return {"vocabulary": name, "vocab_size": known.size, "canonical_size": known.canonical_size, "pad_id": 2}


_ENGRAM_27B = EngramConfig(
    name="engram-27b", source="paper arXiv 2601.07372, Table 5, column Engram-27B",
    layer_ids=(2, 15), layer_base=1, hidden_size=2560, n_branches=4,
    **_deepseek_vocabulary("deepseek-v3"), dead_barrier=False, eos_id=None,
    max_ngram=3, n_heads=8, table_sizes=(2_262_400, 2_262_400), seed=0,
    multiplier_generator="pcg64", seed_index="layer_id", multipliers=None,
    row_width=80, table_codec="fp32", row_multiple=1,       # the codec is the demo's
    projection_bias=False, **GATES["paper"],
    conv_kernel=4, conv_dilation=3, conv_norm_eps=1e-5, conv_init="zeros",      # eps: the demo's
    rounding="none", quantise_floor=1e-4,     # as in the V4.1 release; unused, since nothing is quantised here
)

_ENGRAM_40B = replace(
    _ENGRAM_27B, name="engram-40b", source="paper arXiv 2601.07372, Table 5, column Engram-40B",
    table_sizes=(7_239_680, 7_239_680))

_DEMO = replace(
    _ENGRAM_27B, name="demo", source="the authors' demo, engram_demo_v1.py",
    layer_ids=(1, 15), layer_base=0, hidden_size=1024, table_sizes=(646_400, 646_400), row_width=64,
    projection_bias=True, **GATES["demo"], conv_init="uniform")

_DEEPSEEK_V41_FLASH = replace(
    _ENGRAM_27B, name="deepseek-v4.1-flash", source="DeepSeek-V4.1-Flash release, September 2026",
    layer_ids=(1, 14), layer_base=0, hidden_size=5120, **_deepseek_vocabulary("deepseek-v4"), dead_barrier=True,
    max_ngram=4, table_sizes=(16_000_000, 16_000_000, 16_000_000), row_width=256, table_codec="fp8_e8m0",
    **GATES["deepseek-v4.1"], conv_kernel=0, conv_dilation=1, conv_norm_eps=1e-20, rounding="fp8_bf16",
    # As in DeepSeek's act_quant (V3 and V4 inference), TileKernels' clamp_min_value and NeMo's V4.1 quantisation;
    # V4.1's own kernel file was not available.
    quantise_floor=1e-4)

_QWEN4EXP_PLE = replace(
    _ENGRAM_27B, name="qwen4exp-ple",
    source="Qwen3.8-Flash-Next / Qwen4Exp release, per-layer embedding; HF transformers 5.23, qwen4_exp",
    layer_ids=(2,), vocabulary=None, vocab_size=248_320, canonical_size=248_320,
    pad_id=248_044, eos_id=248_044,           # the EOS id also pads the window
    table_sizes=(20_000_000, 20_000_000), seed=1234, multiplier_generator="splitmix64", seed_index="ordinal",
    row_width=160, row_multiple=128,
    table_codec="bf16",                       # choice: HF's "95 GiB" implies two bytes per value, not which format
    **GATES["qwen"], conv_norm_eps=1e-6)      # HF's rms_norm_eps, as for the other norms

_TINY = replace(
    _DEMO, name="tiny", source="this project: small enough to print, with every stage of the demo",
    layer_ids=(1, 2), layer_base=1, hidden_size=16, **_deepseek_vocabulary("deepseek-v4"), dead_barrier=True,
    n_heads=4, table_sizes=(997, 1499), row_width=8)

_PRESETS: dict[str, EngramConfig] = {
    config.name: config
    for config in (_DEEPSEEK_V41_FLASH, _ENGRAM_27B, _ENGRAM_40B, _DEMO, _QWEN4EXP_PLE, _TINY)
}


def presets() -> tuple[str, ...]:
    """Return the names of all presets, the default first, without aliases."""
    return tuple(_PRESETS)


def preset(name: str) -> EngramConfig:
    """Return the configuration with this name or alias.

    name      one of presets(), or "paper" for engram-27b
    returns   EngramConfig
    raises    InputError that lists the presets and suggests the closest

    >>> preset("paper").table_sizes
    (2262400, 2262400)
    """
    check_name("preset", name, [*_PRESETS, *ALIASES])
    return _PRESETS[ALIASES.get(name, name)]
