"""Small modules of every dialect, their random parameters and their slow answers."""

from dataclasses import replace

import ml_dtypes
import numpy as np

from engram_ref.addressing import Addressing
from engram_ref.config import EngramConfig
from engram_ref.model.engram_parameters import shapes
from engram_ref.ops.codecs import quantise
from engram_ref.oracle.slow import module as slow
from engram_ref.presets import GATES, preset

DEMO = replace(preset("tiny"), name="demo-like", layer_ids=(1,), hidden_size=10, n_branches=3, n_heads=2,
               table_sizes=(23, 31), row_width=5)
PAPER = replace(DEMO, name="paper-like", hidden_size=7, projection_bias=False, **GATES["paper"])
TILEKERNELS = replace(DEMO, name="tilekernels-like", hidden_size=9, projection_bias=False, **GATES["tilekernels"])
QWEN = replace(DEMO, name="qwen-like", vocabulary=None, vocab_size=300, canonical_size=300, pad_id=299, eos_id=299,
               dead_barrier=False, hidden_size=6, table_codec="bf16", row_multiple=128, projection_bias=False,
               conv_norm_eps=1e-6, **GATES["qwen"])
SHORT = replace(DEMO, name="short-kernel", hidden_size=1, n_branches=1, n_heads=1, max_ngram=4,
                table_sizes=(11, 13, 17), row_width=3, conv_kernel=2, conv_dilation=4)
NO_CONV = replace(DEMO, name="no-conv", hidden_size=3, conv_kernel=0)
V41 = replace(preset("deepseek-v4.1-flash"), name="v4.1-like", layer_ids=(1,), multipliers=None, hidden_size=4,
              n_branches=3, n_heads=2, table_sizes=(23, 31, 37), row_width=32)

DIALECTS = {config.name: config for config in (DEMO, PAPER, TILEKERNELS, QWEN, SHORT, NO_CONV)}


def random_parameters(config: EngramConfig, rng: np.random.Generator, layer_id: int | None = None,
                      dtype: type = np.float64) -> dict[str, np.ndarray]:
    """Return random values for every array, so that branches, gains and biases cannot be mixed up unnoticed."""
    layer_id = config.layer_ids[0] if layer_id is None else layer_id
    parameters: dict[str, np.ndarray] = {}
    for name, shape in shapes(config, layer_id).items():
        values = rng.standard_normal(shape) * (shape[-1] ** -0.5 if name.endswith("weight") else 1.0)
        if name.endswith("gain"):
            values = 0.3 * values + (0.0 if config.gain_form == "zero_centred" else 1.0)
        parameters[name] = values.astype(dtype)
    if config.table_codec == "bf16":
        parameters["table"] = parameters["table"].astype(ml_dtypes.bfloat16)
    elif config.table_codec == "fp8_e8m0":
        values = rng.standard_normal(parameters["table_codes"].shape, dtype=np.float32)
        parameters["table_codes"], scales = quantise(values)
        parameters["table_scales"] = np.where(rng.random(scales.shape) < 0.1, np.uint8(0), scales)       # 2^-127
    parameters["column_offsets"] = Addressing(config).offsets[layer_id]
    return parameters


def random_inputs(config, rng, batch=2, length=5, dtype=np.float64):
    """Return hidden states [B, T, M, D] whose branches differ in scale, and valid rows [B, T, C]."""
    sizes = Addressing(config).primes[config.layer_ids[0]]
    hidden = rng.standard_normal((batch, length, config.n_branches, config.hidden_size))
    hidden *= 10.0 ** (2 * np.arange(config.n_branches) - 2)[:, None]
    return hidden.astype(dtype), rng.integers(0, sizes, (batch, length, config.columns))


def demo_names(parameters, config):
    """Return the parameters under the demo's names as float64 arrays, with effective gains and explicit biases."""
    p = {name: np.asarray(array, dtype=np.float64) for name, array in parameters.items()}
    M, D = config.n_branches, config.hidden_size
    shift = 1.0 if config.gain_form == "zero_centred" else 0.0
    key_bias, value_bias = p.get("key_bias", np.zeros((M, D))), p.get("value_bias", np.zeros(D))
    named = {"value_proj.weight": p["value_weight"], "value_proj.bias": value_bias}
    if "table" in p:
        named["multi_head_embedding.embedding.weight"] = p["table"]
    for m in range(M):
        named |= {f"key_projs.{m}.weight": p["key_weight"][m], f"key_projs.{m}.bias": key_bias[m],
                  f"norm1.{m}.weight": p["key_gain"][m] + shift, f"norm2.{m}.weight": p["query_gain"][m] + shift}
    if config.conv_kernel:
        named["short_conv.conv.weight"] = p["conv_weight"].reshape(M * D, 1, -1)
        named |= {f"short_conv.norms.{m}.weight": p["conv_gain"][m] + shift for m in range(M)}
    return named


def slow_gated(parameters, memory, hidden, config, dead=None):
    """Return the gated values [T][M][D] of one sequence, computed by the slow module."""
    p = as_lists(demo_names(parameters, config))
    gated = [slow.gated_values(p, e, h, norm_eps(config), config.gate_form)
             for e, h in zip(memory.tolist(), hidden.tolist(), strict=True)]
    for t in np.flatnonzero(np.zeros(len(gated)) if dead is None else dead):
        gated[t] = [[0.0] * config.hidden_size for _ in range(config.n_branches)]
    return gated


def slow_engram(parameters, hidden, rows, config, dead=None):
    """Return Y [B, T, M, D], computed by the slow module one sequence at a time."""
    table = np.asarray(parameters["table"], dtype=np.float64)
    memory = table[rows + parameters["column_offsets"]].reshape(*rows.shape[:2], config.memory_width)
    output = [slow_tail(parameters, slow_gated(parameters, e, h, config, None if dead is None else dead[b]), config)
              for b, (e, h) in enumerate(zip(memory, hidden, strict=True))]
    return np.array(output, dtype=float).reshape(hidden.shape)


def slow_tail(parameters, gated, config):
    """Apply the convolution to gated values, or return them unchanged if the dialect has none."""
    if not config.conv_kernel:
        return gated
    return slow.with_conv(as_lists(demo_names(parameters, config)), gated, config.conv_norm_eps, config.conv_dilation)


def as_lists(parameters):
    """Return the parameters as nested lists, as the slow versions expect them."""
    return {name: array.tolist() for name, array in parameters.items()}


def norm_eps(config):
    """Return the float64 eps of the norms before the gate."""
    return slow.FLOAT64_EPS if config.norm_eps is None else config.norm_eps
