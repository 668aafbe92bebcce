"""Compositions: the few functions that models call, each a sequence of smaller ops.

They are written once, as methods of a namespace. A backend supplies its own small ops, and may replace a whole
composition with a fused op. Every stage is passed to `record(stage, array)`, so that a trace can
store it.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import DTypeLike

from engram_ref.config import EngramConfig
from engram_ref.errors import InputError
from engram_ref.ops.conv import Conv
from engram_ref.ops.record import Parameters, Record, ignore


def check_step(ops: Conv, ids: np.ndarray, history: np.ndarray, max_ngram: int) -> None:
    """Raise InputError unless the arrays are ids [B] and history [B, N-1], both int64."""
    dtypes = ops.dtype_name(ids), ops.dtype_name(history)
    if dtypes != ("int64", "int64") or ids.ndim != 1 or history.shape != (len(ids), max_ngram - 1):
        raise InputError("ids, history", f"int64, shapes [B] and [B, {max_ngram - 1}]",
                         f"{dtypes[0]} {list(ids.shape)} and {dtypes[1]} {list(history.shape)}")


class Composite(Conv):
    """The Engram module in three steps: ids to rows, rows to memory, memory to the update of the residual stream."""

    __slots__ = ()

    def address(self, ids: np.ndarray, history: np.ndarray, multipliers: np.ndarray, primes: np.ndarray,
                offsets: np.ndarray | None, pad_id: int, eos_id: int | None = None,
                record: Record = ignore) -> np.ndarray:
        """Compute rows from canonical ids: windows, mix, modulus, offsets.

        ids           int64 [B, T] canonical, DEAD allowed
        history       int64 [B, N-1], oldest first
        multipliers   int64 [N], newest token first
        primes        int64 [C]
        offsets       int64 [C], the column offsets, to get flat rows; None for rows per column
        pad_id        canonical id that replaces hidden tokens if eos_id is None
        eos_id        canonical id that ends a document and replaces hidden tokens, or None
        returns       int64 [B, T, C]
        source        demo (the hash); V4.1 release
        """
        shifts = self.windows(ids, history, pad_id, eos_id)           # [B, T, N]
        record("windows", shifts)
        mixes = self.mix(shifts, multipliers)                         # [B, T, N-1]
        record("mix", mixes)
        rows = self.table_rows(mixes, primes)                         # [B, T, C]
        record("rows", rows)
        return rows if offsets is None else self.add(rows, self.constant(offsets, rows))

    def address_layers(self, ids: np.ndarray, canonical: np.ndarray | None, history: np.ndarray,
                       multipliers: np.ndarray, primes: np.ndarray, offsets: np.ndarray | None, pad_id: int,
                       eos_id: int | None = None) -> np.ndarray:
        """Compute the rows of several layers from raw ids: canonicalise once, then address each layer.

        ids         int64 [B, T] raw, DEAD allowed
        canonical   int64 [V], canonical id of every raw id; None if raw ids are hashed
        others      as for address; multipliers, primes and offsets of Y layers: [Y, N], [Y, C], [Y, C]
        returns     int64 [Y, B, T, C]
        raises      InputError for an id outside the map
        """
        hashed = ids if canonical is None else self.canonicalise(ids, canonical)      # [B, T]
        return self.stack([self.address(hashed, history, m, p, None if offsets is None else offsets[y], pad_id, eos_id)
                           for y, (m, p) in enumerate(zip(multipliers, primes, strict=True))], 0)

    def stepper(self, multipliers: np.ndarray, primes: np.ndarray, pad_id: int,
                eos_id: int | None = None) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        """Return step(ids int64 [B], history int64 [B, N-1]) -> rows int64 [B, C], for decode steps of one token.

        multipliers, primes, pad_id, eos_id   as for address
        raises                                step: InputError for other shapes or dtypes
        """
        def step(ids: np.ndarray, history: np.ndarray) -> np.ndarray:
            check_step(self, ids, history, len(multipliers))
            return self.address(ids[:, None], history, multipliers, primes, None, pad_id, eos_id)[:, 0]

        return step

    def gather_decode(self, parameters: Parameters, rows: np.ndarray, config: EngramConfig, dtype: DTypeLike,
                      record: Record = ignore) -> np.ndarray:
        """Compute the memory of each token from its rows: gather, decode, concatenate.

        parameters   "table" [R, W], or "table_codes" uint8 [R, W] and "table_scales" uint8 [R, W/32];
                     "column_offsets" int64 [C]
        rows         int64 [B, T, C], without offsets
        dtype        float32 or float64, of the result
        config       gives the codec and the rounding
        returns      [B, T, C*W]; rounded to bfloat16 if the dialect rounds
        source       Paper Eq. 1 and 2; V4.1 release
        """
        names = ("table_codes", "table_scales") if config.table_codec == "fp8_e8m0" else ("table",)
        gathered = tuple(self.gather(parameters[name], rows, parameters["column_offsets"]) for name in names)
        memory = self.concatenate(self.decode(gathered, config.table_codec, dtype))
        if config.rounding == "fp8_bf16":
            memory = self.round_bf16(memory)
        record("memory", memory)
        return memory

    def project(self, parameters: Parameters, memory: np.ndarray,
                config: EngramConfig) -> tuple[np.ndarray, np.ndarray]:
        """Compute the keys and the value of each memory.

        parameters   "key_weight" [M, D, C*W], "value_weight" [D, C*W]; with biases "key_bias" [M, D],
                     "value_bias" [D]
        memory       [B, T, C*W]
        returns      key [B, T, M, D], value [B, T, D]
        source       Paper Eq. 3; the V4.1 release quantises the input to FP8 and rounds the result to bfloat16
        """
        emulated = config.rounding == "fp8_bf16"
        x = self.requantise(memory, config.quantise_floor) if emulated else memory
        keys = []                                                     # one per branch; the value is shared
        for m in range(config.n_branches):
            bias = self.take(parameters["key_bias"], m) if config.projection_bias else None
            keys.append(self.linear(x, self.take(parameters["key_weight"], m), bias))     # [B, T, D]
        bias = parameters["value_bias"] if config.projection_bias else None
        key, value = self.stack(keys, 2), self.linear(x, parameters["value_weight"], bias)
        return (self.round_bf16(key), self.round_bf16(value)) if emulated else (key, value)

    def gate_score(self, parameters: Parameters, hidden: np.ndarray, key: np.ndarray, config: EngramConfig,
                   record: Record = ignore) -> np.ndarray:
        """Compute the score of each branch's hidden state and key, in the configured form.

        parameters    "query_gain" [M, D], "key_gain" [M, D]
        hidden, key   [B, T, M, D]
        returns       [B, T, M]
        source        Paper Eq. 4 and 6; V4.1 release (factored)
        """
        query_gain = self.effective_gain(parameters["query_gain"], config.gain_form)
        key_gain = self.effective_gain(parameters["key_gain"], config.gain_form)
        if config.score_form == "factored":
            return self.factored_score(hidden, key, query_gain, key_gain, config.norm_eps)
        query_norm = self.rms_norm(hidden, query_gain, config.norm_eps)
        record("query_norm", query_norm)
        key_norm = self.rms_norm(key, key_gain, config.norm_eps)
        record("key_norm", key_norm)
        return self.score(query_norm, key_norm)

    def project_and_gate(self, parameters: Parameters, memory: np.ndarray, hidden: np.ndarray, dead: np.ndarray | None,
                         config: EngramConfig, record: Record = ignore) -> np.ndarray:
        """Compute the gated value from the memory: project, score, gate.

        parameters   as for `project` and `gate_score`
        memory       [B, T, C*W]
        hidden       [B, T, M, D]
        dead         bool [B, T] or None; the gate of a dead position is exactly 0
        returns      [B, T, M, D]
        source       Paper Eq. 3, 4 and 6
        """
        key, value = self.project(parameters, memory, config)
        record("key", key)
        record("value", value)
        s = self.gate_score(parameters, hidden, key, config, record)
        record("score", s)
        alpha = self.gate(s, config.gate_form, dead)
        record("gate", alpha)
        gated = self.apply_gate(alpha, value)
        record("gated", gated)
        return gated

    def gated_conv(self, parameters: Parameters, gated: np.ndarray, taps: np.ndarray, config: EngramConfig,
                   record: Record = ignore) -> tuple[np.ndarray, np.ndarray]:
        """Compute Y = SiLU(conv(RMSNorm(u))) + u, and also return RMSNorm(u), from which the next taps are taken.

        parameters   "conv_gain" [M, D], "conv_weight" [M, D, L]
        gated        [B, T, M, D]
        taps         [B, (L-1)*dilation, M, D] normalised gated values before these
        returns      Y [B, T, M, D], RMSNorm(u) [B, T, M, D]
        source       Paper Eq. 5; demo
        """
        gain = self.effective_gain(parameters["conv_gain"], config.gain_form)
        normalised = self.rms_norm(gated, gain, config.conv_norm_eps)
        record("conv_norm", normalised)
        branch = self.conv_silu(normalised, parameters["conv_weight"], config.conv_dilation, taps)
        record("conv", branch)
        return self.add(branch, gated), normalised

    def gated_update(self, parameters: Parameters, memory: np.ndarray, hidden: np.ndarray, taps: np.ndarray,
                     dead: np.ndarray | None, config: EngramConfig, keep: int,
                     record: Record = ignore) -> tuple[np.ndarray, np.ndarray | None]:
        """Compute Y from the memory: project, gate and, if the dialect has a convolution, convolve.

        parameters   as for `project_and_gate` and `gated_conv`, like memory, hidden, taps and dead
        keep         number of normalised gated values to return, from the last positions, for the next taps
        returns      Y [B, T, M, D]; [B, min(keep, T), M, D], or None without a convolution
        source       Paper section 2; demo; V4.1 release
        """
        gated = self.project_and_gate(parameters, memory, hidden, dead, config, record)
        if not config.conv_kernel:
            record("output", gated)
            return gated, None
        Y, normalised = self.gated_conv(parameters, gated, taps, config, record)
        record("output", Y)
        return Y, self.tail(normalised, keep)
