"""Twin of ops/composite.py: the compositions that models call, of this backend's small ops.

Each refuses arguments that are no tensors or lie on several devices, before any work; it looks at no values.
Where nothing is recorded and nothing differentiated, `kernels` has a Triton kernel for the V4.1 path of three of them.
"""

from collections.abc import Callable

import torch

from engram_ref.backends.torch import kernels
from engram_ref.backends.torch._tensors import Constant, Parameters, torch_dtype
from engram_ref.backends.torch.arrays import check_together, constant
from engram_ref.backends.torch.canonical import canonicalise
from engram_ref.backends.torch.codecs import requantise, round_bf16
from engram_ref.backends.torch.conv import conv_silu
from engram_ref.backends.torch.gate import apply_gate, factored_score, gate, score
from engram_ref.backends.torch.hashing import mix, table_rows, windows
from engram_ref.backends.torch.linear import linear
from engram_ref.backends.torch.norm import effective_gain, rms_norm
from engram_ref.backends.torch.tables import concatenate, decode, gather
from engram_ref.config import EngramConfig
from engram_ref.ops.composite import check_step
from engram_ref.ops.record import Record, ignore


def address(ids: torch.Tensor, history: torch.Tensor, multipliers: Constant, primes: Constant,
            offsets: Constant | None, pad_id: int, eos_id: int | None = None,
            record: Record = ignore) -> torch.Tensor:
    """Twin of ops.composite.address; rows are computed where the ids are."""
    check_together({"ids": ids, "history": history})
    if record is ignore and kernels.usable(ids, history):
        from engram_ref.backends.torch.kernels.rows import rows as kernel

        constants = (None if c is None else constant(c, ids).contiguous() for c in (multipliers, primes, offsets))
        return kernel(ids, history, *constants, pad_id, eos_id)
    shifts = windows(ids, history, pad_id, eos_id)           # [B, T, N]
    record("windows", shifts)
    mixes = mix(shifts, multipliers)                         # [B, T, N-1]
    record("mix", mixes)
    rows = table_rows(mixes, primes)                         # [B, T, C]
    record("rows", rows)
    return rows if offsets is None else rows + constant(offsets, rows)


def address_layers(ids: torch.Tensor, canonical: Constant | None, history: torch.Tensor, multipliers: Constant,
                   primes: Constant, offsets: Constant | None, pad_id: int,
                   eos_id: int | None = None) -> torch.Tensor:
    """Twin of ops.composite.address_layers; an id outside the map is refused by torch itself."""
    check_together({"ids": ids, "history": history})
    hashed = ids if canonical is None else canonicalise(ids, canonical)      # [B, T]
    return torch.stack([address(hashed, history, m, p, None if offsets is None else offsets[y], pad_id, eos_id)
                        for y, (m, p) in enumerate(zip(multipliers, primes, strict=True))])


def stepper(multipliers: Constant, primes: Constant, pad_id: int,
            eos_id: int | None = None) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Twin of ops.composite.stepper."""
    def step(ids: torch.Tensor, history: torch.Tensor) -> torch.Tensor:
        check_step(ids, history, len(multipliers), torch.int64)
        return address(ids[:, None], history, multipliers, primes, None, pad_id, eos_id)[:, 0]

    return step


def gather_decode(parameters: Parameters, rows: torch.Tensor, config: EngramConfig, dtype: torch.dtype | type,
                  record: Record = ignore) -> torch.Tensor:
    """Twin of ops.composite.gather_decode."""
    names = ("table_codes", "table_scales") if config.table_codec == "fp8_e8m0" else ("table",)
    check_together(_named(parameters, names) | {"rows": rows})
    stored = [parameters[name] for name in names]
    single = torch_dtype(dtype) == torch.float32
    if len(stored) == 2 and single and record is ignore and kernels.usable(rows, *stored):
        from engram_ref.backends.torch.kernels.dequantise import gather_dequantise

        offsets = constant(parameters["column_offsets"], rows).contiguous()
        return gather_dequantise(rows, offsets, *stored, config.rounding == "fp8_bf16")
    gathered = tuple(gather(table, rows, parameters["column_offsets"]) for table in stored)
    memory = concatenate(decode(gathered, config.table_codec, dtype))
    if config.rounding == "fp8_bf16":
        memory = round_bf16(memory)
    record("memory", memory)
    return memory


def project(parameters: Parameters, memory: torch.Tensor, config: EngramConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """Twin of ops.composite.project."""
    check_together(_named(parameters, ("key_weight", "value_weight")) | {"memory": memory})
    emulated = config.rounding == "fp8_bf16"
    M = config.n_branches
    x = requantise(memory, config.quantise_floor) if emulated else memory
    key_bias = parameters["key_bias"] if config.projection_bias else [None] * M
    value_bias = parameters["value_bias"] if config.projection_bias else None
    keys = [linear(x, parameters["key_weight"][m], key_bias[m]) for m in range(M)]    # M of [B, T, D]
    key, value = torch.stack(keys, dim=2), linear(x, parameters["value_weight"], value_bias)
    return (round_bf16(key), round_bf16(value)) if emulated else (key, value)


def gate_score(parameters: Parameters, hidden: torch.Tensor, key: torch.Tensor, config: EngramConfig,
               record: Record = ignore) -> torch.Tensor:
    """Twin of ops.composite.gate_score."""
    check_together(_named(parameters, ("query_gain", "key_gain")) | {"hidden": hidden, "key": key})
    query_gain = effective_gain(parameters["query_gain"], config.gain_form)
    key_gain = effective_gain(parameters["key_gain"], config.gain_form)
    if config.score_form == "factored":
        return factored_score(hidden, key, query_gain, key_gain, config.norm_eps)
    query_norm = rms_norm(hidden, query_gain, config.norm_eps)
    record("query_norm", query_norm)
    key_norm = rms_norm(key, key_gain, config.norm_eps)
    record("key_norm", key_norm)
    return score(query_norm, key_norm)


def project_and_gate(parameters: Parameters, memory: torch.Tensor, hidden: torch.Tensor, dead: torch.Tensor | None,
                     config: EngramConfig, record: Record = ignore) -> torch.Tensor:
    """Twin of ops.composite.project_and_gate."""
    check_together({"memory": memory, "hidden": hidden, "dead": dead})
    key, value = project(parameters, memory, config)
    if record is ignore and _kernel_gates(parameters, hidden, key, value, config):
        from engram_ref.backends.torch.kernels.gate import gate as kernel

        gains = (effective_gain(parameters[name], config.gain_form) for name in ("query_gain", "key_gain"))
        return kernel(hidden, key, value, *gains, config.norm_eps, None if dead is None else dead.contiguous())
    record("key", key)
    record("value", value)
    s = gate_score(parameters, hidden, key, config, record)
    record("score", s)
    alpha = gate(s, config.gate_form, dead)
    record("gate", alpha)
    gated = apply_gate(alpha, value)
    record("gated", gated)
    return gated


def gated_conv(parameters: Parameters, gated: torch.Tensor, taps: torch.Tensor, config: EngramConfig,
               record: Record = ignore) -> tuple[torch.Tensor, torch.Tensor]:
    """Twin of ops.composite.gated_conv."""
    check_together(_named(parameters, ("conv_gain", "conv_weight")) | {"gated": gated, "taps": taps})
    normalised = rms_norm(gated, effective_gain(parameters["conv_gain"], config.gain_form), config.conv_norm_eps)
    record("conv_norm", normalised)
    branch = conv_silu(normalised, parameters["conv_weight"], config.conv_dilation, taps)
    record("conv", branch)
    return branch + gated, normalised


def gated_update(parameters: Parameters, memory: torch.Tensor, hidden: torch.Tensor, taps: torch.Tensor,
                 dead: torch.Tensor | None, config: EngramConfig, keep: int,
                 record: Record = ignore) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Twin of ops.composite.gated_update."""
    gated = project_and_gate(parameters, memory, hidden, dead, config, record)
    if not config.conv_kernel:
        record("output", gated)
        return gated, None
    Y, normalised = gated_conv(parameters, gated, taps, config, record)
    record("output", Y)
    return Y, normalised[:, max(normalised.shape[1] - keep, 0) :]


def _kernel_gates(parameters: Parameters, hidden: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
                  config: EngramConfig) -> bool:
    """Has the gate a kernel: the V4.1 forms, in float32?"""
    tensors = (hidden, key, value, parameters["query_gain"], parameters["key_gain"])
    forms = (config.score_form, config.gate_form) == ("factored", "copysign_sqrt")
    return forms and all(t.dtype == torch.float32 for t in tensors) and kernels.usable(*tensors)


def _named(parameters: Parameters, names: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """Some parameters, under the names that errors give them."""
    return {f"parameter {name}": parameters[name] for name in names}
