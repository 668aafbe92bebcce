"""Composite ops, fused: what lies between two matrix products is one pass.

The twin of ops/composite.py. Where a trace wants to see the stages on the way, the definition computes them.
"""

from collections.abc import Callable, Mapping

import numpy as np

from engram_ref import ops
from engram_ref.backends.numba._buffers import aligned, result
from engram_ref.backends.numba.conv import update
from engram_ref.backends.numba.gate import FORMS, apply_gate, score_and_gate
from engram_ref.backends.numba.hashing import layers_of_rows, step_function
from engram_ref.backends.numba.tables import gather, gather_dequantise
from engram_ref.checks import check_shapes
from engram_ref.config import EngramConfig
from engram_ref.ops.record import Record, ignore

GEMM_TOKENS = 512       # tokens whose keys are made at a time, and used while they are in the cache
NO_MAP = np.empty(0, dtype=np.int64)

Parameters = Mapping[str, np.ndarray]


def address(ids: np.ndarray, history: np.ndarray, multipliers: np.ndarray, primes: np.ndarray,
            offsets: np.ndarray | None, pad_id: int, eos_id: int | None = None, record: Record = ignore,
            out: np.ndarray | None = None) -> np.ndarray:
    """Twin of ops.composite.address, fused into one pass."""
    if record is not ignore:
        return ops.address(ids, history, multipliers, primes, offsets, pad_id, eos_id, record)
    written = None if out is None else result(out, (*ids.shape, len(primes)), np.int64, ids, history)[None]
    shifts = None if offsets is None else offsets[None]
    return layers_of_rows(ids, NO_MAP, history, multipliers[None], primes[None], shifts, pad_id, eos_id, written)[0]


def address_layers(ids: np.ndarray, canonical: np.ndarray | None, history: np.ndarray, multipliers: np.ndarray,
                   primes: np.ndarray, offsets: np.ndarray | None, pad_id: int, eos_id: int | None = None,
                   out: np.ndarray | None = None) -> np.ndarray:
    """Twin of ops.composite.address_layers: every token is looked up once, and all layers' rows follow."""
    if canonical is not None:
        check_range(ids, len(canonical))
    return layers_of_rows(ids, NO_MAP if canonical is None else canonical, history, multipliers, primes, offsets,
                          pad_id, eos_id, out)


def check_range(ids: np.ndarray, size: int) -> None:
    """Refuse an id outside the map, with the definition's words; two fast passes where there is none."""
    if ids.dtype.kind != "i" or (ids.size and (ids.min() < ops.DEAD or ids.max() >= size)):
        ops.check_ids(ids, size, allow_dead=True)


def stepper(multipliers: np.ndarray, primes: np.ndarray, pad_id: int,
            eos_id: int | None = None) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Twin of ops.composite.stepper; step takes C-contiguous int64 arrays."""
    return step_function(multipliers, primes, pad_id, eos_id)


def gather_decode(parameters: Parameters, rows: np.ndarray, config: EngramConfig, dtype: type, record: Record = ignore,
                  out: np.ndarray | None = None) -> np.ndarray:
    """Twin of ops.composite.gather_decode: rows are decoded as they are read."""
    B, T, C = rows.shape
    offsets, rounded = parameters["column_offsets"], config.rounding == "fp8_bf16"
    if config.table_codec == "fp8_e8m0" and np.dtype(dtype) == np.float32:
        memory = gather_dequantise(parameters["table_codes"], parameters["table_scales"], rows, offsets, rounded, out)
    elif config.table_codec == "fp8_e8m0" or rounded or parameters["table"].dtype != dtype:
        memory = result(out, (B, T, config.memory_width), dtype, rows)
        memory[:] = ops.gather_decode(parameters, rows, config, dtype)
    else:
        W = parameters["table"].shape[1]
        written = None if out is None else result(out, (B, T, C * W), dtype, rows).reshape(B, T, C, W)
        memory = gather(parameters["table"], rows, offsets, written).reshape(B, T, C * W)
    record("memory", memory)
    return memory


def project_and_gate(parameters: Parameters, memory: np.ndarray, hidden: np.ndarray, dead: np.ndarray | None,
                     config: EngramConfig, record: Record = ignore, out: np.ndarray | None = None) -> np.ndarray:
    """Twin of ops.composite.project_and_gate; keys live for a block of tokens only."""
    if record is not ignore:
        return ops.project_and_gate(parameters, memory, hidden, dead, config, record)
    gated = result(out, hidden.shape, hidden.dtype, memory, hidden)
    return apply_gate(*gates_and_value(parameters, memory, hidden, dead, config), out=gated)


def gated_update(parameters: Parameters, memory: np.ndarray, hidden: np.ndarray, taps: np.ndarray,
                 dead: np.ndarray | None, config: EngramConfig, keep: int, record: Record = ignore,
                 out: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray | None]:
    """Twin of ops.composite.gated_update: of the normalised gated values only the last `keep` are written."""
    if record is not ignore:
        return ops.gated_update(parameters, memory, hidden, taps, dead, config, keep, record)
    if not config.conv_kernel:
        return project_and_gate(parameters, memory, hidden, dead, config, out=out), None
    Y, (B, _, M, D) = result(out, hidden.shape, hidden.dtype, memory, hidden, taps), hidden.shape
    check_shapes(taps=(taps, (B, config.conv_span, M, D)), conv_gain=(parameters["conv_gain"], (M, D)),
                 conv_weight=(parameters["conv_weight"], (M, D, config.conv_kernel)))
    alpha, value = gates_and_value(parameters, memory, hidden, dead, config)
    gain = ops.effective_gain(parameters["conv_gain"], config.gain_form)
    kept = update(value, alpha, gain, parameters["conv_weight"], config.conv_dilation, taps, config.conv_norm_eps,
                  keep, Y)
    return Y, kept


def gates_and_value(parameters: Parameters, memory: np.ndarray, hidden: np.ndarray, dead: np.ndarray | None,
                    config: EngramConfig) -> tuple[np.ndarray, np.ndarray]:
    """The factor of every branch and the value they share: alpha [B, T, M], value [B, T, D]."""
    B, T, M, D = hidden.shape
    check_shapes(memory=(memory, (B, T, config.memory_width)), query_gain=(parameters["query_gain"], (M, D)),
                 key_gain=(parameters["key_gain"], (M, D)), dead=(hidden[..., 0, 0] if dead is None else dead, (B, T)))
    emulated, tokens = config.rounding == "fp8_bf16", B * T
    x = memory.reshape(tokens, memory.shape[-1])
    x = ops.requantise(x, config.quantise_floor) if emulated else x
    rounded = ops.round_bf16 if emulated else lambda array: array
    biases = parameters if config.projection_bias else {}
    value = rounded(ops.linear(x, parameters["value_weight"], biases.get("value_bias")))
    key_weight = parameters["key_weight"].reshape(M * D, x.shape[1]).T
    key_bias = biases["key_bias"].reshape(M * D) if biases else None
    gain = (ops.effective_gain(parameters["query_gain"], config.gain_form)
            * ops.effective_gain(parameters["key_gain"], config.gain_form))
    alpha, keys = aligned((tokens, M), hidden.dtype), aligned((min(GEMM_TOKENS, tokens), M * D), hidden.dtype)
    states = hidden.reshape(tokens, M, D)
    for first in range(0, tokens, GEMM_TOKENS):
        block = slice(first, min(first + GEMM_TOKENS, tokens))
        key = np.matmul(x[block], key_weight, out=keys[: block.stop - first])
        if key_bias is not None:
            key += key_bias
        score_and_gate(states[block], rounded(key).reshape(-1, M, D), gain, config.norm_eps, FORMS[config.gate_form],
                       alpha[block])
    if dead is not None:
        alpha[dead.reshape(tokens)] = 0
    return alpha.reshape(B, T, M), value.reshape(B, T, D)
