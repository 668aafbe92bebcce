"""The Engram module: from rows and hidden state to the update of the residual stream.

    e = rows decoded and concatenated         k[m] = W_K[m] e,  v = W_V e
    alpha[m] = gate(h[m], k[m])               u[m] = alpha[m] v
    Y = SiLU(conv(RMSNorm(u))) + u            H <- H + Y, before the block's attention

This module only calls ops, which compute every number.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType

import numpy as np
from numpy.typing import DTypeLike

from engram_ref.checks import as_batch, as_ops, check_kind, check_kinds, float_name, integer
from engram_ref.config import EngramConfig
from engram_ref.errors import InputError
from engram_ref.model import engram_parameters
from engram_ref.ops.namespace import NUMPY, Ops
from engram_ref.ops.record import Record
from engram_ref.trace import Trace


@dataclass
class EngramState:
    """State of one Engram module between chunks of a stream.

    taps   [B, (L-1)*dilation, M, D], the last normalised gated values, oldest first. The array is replaced and
           never modified, so a shallow copy of the state is a snapshot for a rollback
    """

    taps: np.ndarray


def start_state(config: EngramConfig, batch: int, dtype: DTypeLike = np.float64, *, like: np.ndarray | None = None,
                ops: Ops = NUMPY) -> EngramState:
    """The state at the start of a stream: zeros, the left padding of the convolution.

    like   an array on the device for the state; only relevant to backends with devices
    """
    ops = as_ops(ops)
    check_kind("config", config, EngramConfig)
    shape = (integer("batch", batch), config.conv_span, config.n_branches, config.hidden_size)
    return EngramState(ops.zeros(shape, float_name("dtype", dtype), like))


def engram(parameters: Mapping[str, np.ndarray], hidden: np.ndarray, rows: np.ndarray, config: EngramConfig, *,
           layer_id: int | None = None, state: EngramState | None = None, dead: np.ndarray | None = None,
           flat_rows: bool = False, ops: Ops = NUMPY, trace: Trace | None = None,
           check: bool = True) -> np.ndarray:
    """Compute Y, the update that one layer's Engram module adds to the residual stream.

    parameters   the module's arrays, see engram_ref.model.parameters
    hidden       [B, T, M, D] float32 or float64, the residual stream before the module; B may be omitted
    rows         int64 [B, T, C] from Addressing.rows, without offsets unless flat_rows
    config       the dialect
    layer_id     the layer that parameters and rows are checked against; None: the configuration's only layer, or any
                 layer if it has several
    state        the stream so far; the call replaces its taps. None: the sequence starts here
    dead         bool [B, T] or None; the gate of a dead position is 0. DEAD ids affect only the rows, so the same
                 positions must be passed here too
    flat_rows    whether the rows are flat, from Addressing.rows(flat=True); the result is the same
    ops          the backend's namespace
    trace        records every stage
    check        check values (floats finite, rows in range) as well as shapes
    returns      [B, T, M, D], the dtype of hidden; `residual(hidden, Y, config)` adds it with the dialect's rounding
    raises       InputError naming the invalid argument
    source       Paper section 2; demo; V4.1 release

    >>> from engram_ref import Addressing, preset
    >>> from engram_ref.model.engram_parameters import initialise
    >>> config, rng = preset("tiny"), np.random.default_rng(0)
    >>> rows = Addressing(config).rows(np.array([10, 20, 30]), layer_id=1)
    >>> engram(initialise(config, 1, rng), rng.normal(size=(3, 4, 16)), rows, config, layer_id=1).shape
    (3, 4, 16)
    """
    ops = as_ops(ops, trace is not None)
    check_kinds(config=(config, EngramConfig), state=(state, EngramState, NoneType), flat_rows=(flat_rows, bool),
                trace=(trace, Trace, NoneType), check=(check, bool))
    hidden, rows = ops.as_array("hidden", hidden), ops.as_int64("rows", rows)
    dead = None if dead is None else ops.as_array("dead", dead)
    check_inputs(hidden, rows, dead, config, ops)
    parameters = engram_parameters.as_parameters(parameters, ops, {"hidden": hidden, "rows": rows, "dead": dead})
    check_dtypes(parameters, hidden, ops)
    batched, hidden, rows, dead = as_batch("hidden", "TMD", hidden, rows, dead)
    if check:
        check_values(parameters, hidden, config, layer_id, ops)
    rows = engram_parameters.without_offsets(rows, parameters) if flat_rows else rows
    if check:
        sizes = engram_parameters.column_sizes(parameters, config, layer_id, ops)
        engram_parameters.check_rows(rows, sizes, flat_rows, ops)
    state = start_state(config, len(hidden), hidden.dtype, like=hidden, ops=ops) if state is None else state
    taps = ops.as_array("state.taps", state.taps)
    ops.check_together({"hidden": hidden, "state.taps": taps})
    check_taps(taps, hidden, config, ops)
    record = ops.ignore if trace is None else trace.record
    output, kept = apply_module(parameters, hidden, rows, taps, dead, config, config.conv_span, ops, record)
    if kept is not None:
        state.taps = ops.next_taps(kept, taps)
    return output if batched else ops.take(output, 0)


def apply_module(parameters: Mapping[str, np.ndarray], hidden: np.ndarray, rows: np.ndarray, taps: np.ndarray,
                   dead: np.ndarray | None, config: EngramConfig, keep: int, ops: Ops,
                   record: Record) -> tuple[np.ndarray, np.ndarray | None]:
    """Y [B, T, M, D] and the last `keep` normalised gated values, or None without a convolution."""
    memory = ops.gather_decode(parameters, rows, config, hidden.dtype, record)
    return ops.gated_update(parameters, memory, hidden, taps, dead, config, keep, record)


def residual(hidden: np.ndarray, update: np.ndarray, config: EngramConfig, *, ops: Ops = NUMPY,
             trace: Trace | None = None) -> np.ndarray:
    """H + Y, rounded if the dialect rounds: [B, T, M, D] -> [B, T, M, D].

    raises   InputError if the shapes or dtypes differ
    """
    ops = as_ops(ops)
    check_kinds(config=(config, EngramConfig), trace=(trace, Trace, NoneType))
    hidden, update = ops.as_array("hidden", hidden), ops.as_array("update", update)
    ops.check_together({"hidden": hidden, "update": update})
    if ops.dtype_name(hidden) not in ("float32", "float64") or hidden.dtype != update.dtype:
        raise InputError("hidden, update", "the same dtype, float32 or float64",
                         f"{ops.dtype_name(hidden)} and {ops.dtype_name(update)}")
    total = ops.add_residual(hidden, update, config.rounding)
    if trace is not None:
        trace.record("residual", total)
    return total


def check_inputs(hidden: np.ndarray, rows: np.ndarray, dead: np.ndarray | None, config: EngramConfig,
                 ops: Ops) -> None:
    """Raise InputError unless the shapes and dtypes of hidden, rows and dead are correct and consistent."""
    M, D = config.n_branches, config.hidden_size
    if hidden.ndim not in (3, 4) or hidden.shape[-2:] != (M, D):
        raise InputError("hidden", f"shape [B, T, {M}, {D}] or [T, {M}, {D}]", f"shape {list(hidden.shape)}")
    allowed = ("float32",) if config.rounding == "fp8_bf16" else ("float32", "float64")
    if ops.dtype_name(hidden) not in allowed:
        raise InputError("hidden", f"dtype {' or '.join(allowed)}", ops.dtype_name(hidden),
                         "dataclasses.replace(config, rounding='none') accepts float64" if len(allowed) == 1 else "")
    leading = hidden.shape[:-2]                              # [B, T] or [T]
    expected = (*leading, config.columns)
    if rows.shape != expected or ops.dtype_name(rows) != "int64":
        raise InputError("rows", f"int64, shape {list(expected)}", f"{ops.dtype_name(rows)}, shape {list(rows.shape)}")
    if dead is not None and (dead.shape != leading or ops.dtype_name(dead) != "bool"):
        raise InputError("dead", f"bool {list(leading)}", f"{ops.dtype_name(dead)} {list(dead.shape)}")


def check_dtypes(parameters: Mapping[str, np.ndarray], hidden: np.ndarray, ops: Ops) -> None:
    """Raise InputError unless float weights have the dtype of hidden; mixed dtypes would be promoted silently."""
    wanted = ops.dtype_name(hidden)
    for name, array in parameters.items():
        dtype = ops.dtype_name(array)
        if not name.startswith("table") and dtype.startswith("float") and dtype != wanted:
            raise InputError(f"parameter {name}", f"the dtype of hidden, {wanted}", dtype)


def check_values(parameters: Mapping[str, np.ndarray], hidden: np.ndarray, config: EngramConfig,
                 layer_id: int | None, ops: Ops) -> None:
    """Raise InputError for wrong parameters or non-finite values, except in tables, which can be too large to read."""
    engram_parameters.check_parameters(parameters, config, layer_id, ops)
    for name, array in parameters.items():
        if not name.startswith("table"):
            engram_parameters.check_finite(name, array, ops)
    position = ops.first_non_finite(hidden)
    if position is not None:
        raise InputError("hidden", "finite values", f"{hidden[position].item()} at position {position}")


def check_taps(taps: np.ndarray, hidden: np.ndarray, config: EngramConfig, ops: Ops) -> None:
    """Raise InputError unless the taps match the batch, dialect and dtype."""
    expected = (len(hidden), config.conv_span, config.n_branches, config.hidden_size)
    dtype, wanted = ops.dtype_name(taps), ops.dtype_name(hidden)
    if taps.shape != expected or dtype != wanted:
        raise InputError("state.taps", f"{wanted} {list(expected)}", f"{dtype} {list(taps.shape)}")
