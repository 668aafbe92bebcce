"""The Engram module: rows and hidden state in, what is added to the residual stream out.

    e = rows decoded and concatenated         k[m] = W_K[m] e,  v = W_V e
    alpha[m] = gate(h[m], k[m])               u[m] = alpha[m] v
    Y = SiLU(conv(RMSNorm(u))) + u            H <- H + Y, before the block's attention

Composition only: every number is computed by an op.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from engram_ref import ops as numpy_ops
from engram_ref.addressing import addressing_of
from engram_ref.config import EngramConfig
from engram_ref.errors import InputError
from engram_ref.model.engram_parameters import check_parameters, layer_of
from engram_ref.ops.record import Record
from engram_ref.trace import Trace


@dataclass
class EngramState:
    """What one Engram module remembers between chunks of a stream.

    taps   [B, (L-1)*dilation, M, D], the last normalised gated values, oldest first; replaced, never
           written into, so a copy of the object is a snapshot to roll back to
    """

    taps: np.ndarray


def start_state(config: EngramConfig, batch: int, dtype: type = np.float64) -> EngramState:
    """The state of a stream that has not begun: the convolution sees zeros on its left."""
    return EngramState(np.zeros((batch, config.conv_span, config.n_branches, config.hidden_size), dtype=dtype))


def engram(parameters: Mapping[str, np.ndarray], hidden: np.ndarray, rows: np.ndarray, config: EngramConfig, *,
           state: EngramState | None = None, dead: np.ndarray | None = None, ops: ModuleType = numpy_ops,
           trace: Trace | None = None, check: bool = True) -> np.ndarray:
    """Y, what the Engram module of one layer adds to the residual stream.

    parameters   the module's arrays, see engram_ref.model.parameters
    hidden       [B, T, M, D] float32 or float64, the residual stream before the module; B may be missing
    rows         int64 [B, T, C] from Addressing.rows, without offsets
    config       the dialect
    state        the stream so far; its taps are replaced. None: the sequence starts here
    dead         bool [B, T] or None; a dead position's gate is 0. Marking ids DEAD changes the rows only: the same
                 positions must be passed here
    ops          the backend's namespace
    trace        records every stage
    check        look at values (finite, rows in range) as well as shapes
    returns      [B, T, M, D], the dtype of hidden; the release's rounded sum is `residual(hidden, Y, config)`
    raises       InputError naming the argument that does not fit
    source       Paper section 2; demo; V4.1 release

    >>> from engram_ref import preset
    >>> from engram_ref.model.engram_parameters import initialise
    >>> config, rng = preset("tiny"), np.random.default_rng(0)
    >>> rows = addressing_of(config).rows(np.array([10, 20, 30]), layer_id=1)
    >>> engram(initialise(config, 1, rng), rng.normal(size=(3, 4, 16)), rows, config).shape
    (3, 4, 16)
    """
    hidden, rows = np.asarray(hidden), np.asarray(rows)
    dead = None if dead is None else np.asarray(dead)
    check_inputs(hidden, rows, dead, config)
    check_dtypes(parameters, hidden)
    batched = hidden.ndim == 4
    if not batched:
        hidden, rows, dead = hidden[None], rows[None], None if dead is None else dead[None]
    if check:
        check_values(parameters, hidden, rows, config)
    state = start_state(config, len(hidden), hidden.dtype) if state is None else state
    check_state(state, hidden, config)
    record = ops.ignore if trace is None else trace.record
    output, kept = through_module(parameters, hidden, rows, state.taps, dead, config, config.conv_span, ops, record)
    if kept is not None:
        state.taps = ops.next_taps(kept, state.taps)
    return output if batched else output[0]


def through_module(parameters: Mapping[str, np.ndarray], hidden: np.ndarray, rows: np.ndarray, taps: np.ndarray,
                   dead: np.ndarray | None, config: EngramConfig, keep: int, ops: ModuleType,
                   record: Record) -> tuple[np.ndarray, np.ndarray | None]:
    """Y [B, T, M, D], and the last `keep` normalised gated values where there is a convolution."""
    memory = ops.gather_decode(parameters, rows, config, hidden.dtype, record)
    return ops.gated_update(parameters, memory, hidden, taps, dead, config, keep, record)


def residual(hidden: np.ndarray, update: np.ndarray, config: EngramConfig, *, ops: ModuleType = numpy_ops,
             trace: Trace | None = None) -> np.ndarray:
    """H + Y with the dialect's one rounding: [B, T, M, D] -> [B, T, M, D]."""
    total = ops.add_residual(hidden, update, config.rounding)
    if trace is not None:
        trace.record("residual", total)
    return total


def check_inputs(hidden: np.ndarray, rows: np.ndarray, dead: np.ndarray | None, config: EngramConfig) -> None:
    """Shapes and dtypes of what streams through."""
    M, D = config.n_branches, config.hidden_size
    if hidden.ndim not in (3, 4) or hidden.shape[-2:] != (M, D):
        raise InputError("hidden", f"shape [B, T, {M}, {D}] or [T, {M}, {D}]", list(hidden.shape))
    allowed = ("float32",) if config.rounding == "fp8_bf16" else ("float32", "float64")
    if hidden.dtype.name not in allowed:
        raise InputError("hidden", f"dtype {' or '.join(allowed)}", str(hidden.dtype),
                         "dataclasses.replace(config, rounding='none') computes exactly" if len(allowed) == 1 else "")
    places = hidden.shape[:-2]                               # [B, T] or [T]
    expected = (*places, config.columns)
    if rows.shape != expected or rows.dtype != np.int64:
        raise InputError("rows", f"int64, shape {list(expected)}", f"{rows.dtype}, shape {list(rows.shape)}")
    if dead is not None and (dead.shape != places or dead.dtype != bool):
        raise InputError("dead", f"bool {list(places)}", f"{dead.dtype} {list(dead.shape)}")


def check_dtypes(parameters: Mapping[str, np.ndarray], hidden: np.ndarray) -> None:
    """Weights of the dtype that streams through: a mixture would quietly compute in the wider one."""
    for name, array in parameters.items():
        if not name.startswith("table") and array.dtype.kind == "f" and array.dtype != hidden.dtype:
            raise InputError(f"parameter {name}", f"the dtype of hidden, {hidden.dtype}", str(array.dtype))


def check_values(parameters: Mapping[str, np.ndarray], hidden: np.ndarray, rows: np.ndarray,
                 config: EngramConfig) -> None:
    """Parameters that fit and rows that exist; weights and a hidden state that are finite."""
    check_parameters(parameters, config)
    numpy_ops.check_rows(rows, addressing_of(config).primes[layer_of(parameters, config)])
    for name, array in parameters.items():
        if not name.startswith("table") and not np.isfinite(array).all():      # tables may be too large to read
            raise InputError(f"parameter {name}", "finite values", "NaN or infinity")
    if not np.isfinite(hidden).all():
        position = tuple(int(i) for i in np.argwhere(~np.isfinite(hidden))[0])
        raise InputError("hidden", "finite values", f"{hidden[position]} at {position}")


def check_state(state: EngramState, hidden: np.ndarray, config: EngramConfig) -> None:
    """Taps that belong to this batch, dialect and dtype."""
    expected = (len(hidden), config.conv_span, config.n_branches, config.hidden_size)
    if state.taps.shape != expected or state.taps.dtype != hidden.dtype:
        raise InputError("state.taps", f"{hidden.dtype} {list(expected)}",
                         f"{state.taps.dtype} {list(state.taps.shape)}")
