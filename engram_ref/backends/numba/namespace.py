"""The namespaces of the Numba backend: the definition with the hot loops compiled.

Ops without a kernel are inherited. `Fused` computes everything between two matrix products in one pass.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import DTypeLike

from engram_ref.backends.numba import (
    attention,
    branches,
    conv,
    expanded,
    experts,
    gate,
    gradients,
    hashing,
    loss,
    norm,
    rope,
    tables,
    updates,
)
from engram_ref.backends.numba._buffers import aligned, result
from engram_ref.backends.numba._threads import thread_count, threads
from engram_ref.checks import check_shapes
from engram_ref.config import EngramConfig
from engram_ref.ops.namespace import Ops
from engram_ref.ops.record import Parameters, Record, ignore

GEMM_TOKENS = 2048      # tokens whose keys are computed at once; with fewer, BLAS synchronises its threads more often


class Small(Ops):
    """Small ops; none bypasses another op."""

    __slots__ = ()
    backend = "numba"
    threads, thread_count = staticmethod(threads), staticmethod(thread_count)

    adam_update = staticmethod(updates.adam_update)
    apply_gate = staticmethod(gate.apply_gate)
    cross_entropy = staticmethod(loss.cross_entropy)
    gather = staticmethod(tables.gather)
    rotate = staticmethod(rope.rotate)
    table_rows = staticmethod(hashing.table_rows)

    def routed_grouped(self, parameters: Parameters, x: np.ndarray, chosen: np.ndarray,
                       weights: np.ndarray) -> np.ndarray:
        """Fast version of ops.routed_grouped: sorts the tokens by expert once and adds in the same order."""
        w1, w2, w3 = (parameters[f"experts.w{i}"] for i in (1, 2, 3))
        K, y = chosen.shape[1], np.zeros_like(x)
        check_shapes(chosen=(chosen, (len(x), K)), weights=(weights, (len(x), K)))
        order = np.argsort(chosen.reshape(-1), kind="stable")            # slots, sorted by expert
        ends = np.cumsum(np.bincount(chosen.reshape(-1), minlength=len(w1)))
        token, weight = order // K, weights.reshape(-1)[order]
        for e, end in enumerate(ends):
            slots = slice(ends[e - 1] if e else 0, end)
            if slots.start < end:
                output = self.swiglu(x[token[slots]], w1[e], w2[e], w3[e])
                experts.combine(output, token[slots], weight[slots], y)
        return y


class Steps(Small):
    """Adds ops that bypass others: norms the sum of squares, conv_silu and swiglu all of their parts, attention its
    products and softmax."""

    __slots__ = ()
    attend_expanded = staticmethod(expanded.attend_expanded)
    attend_expanded_vjp = staticmethod(expanded.attend_expanded_vjp)      # a tape records attention as one op
    conv_silu = staticmethod(conv.conv_silu)
    cross_entropy_vjp = staticmethod(loss.cross_entropy_vjp)
    factored_score = staticmethod(gate.factored_score)
    rms_norm = staticmethod(norm.rms_norm)
    routed_grouped_vjp = staticmethod(experts.routed_grouped_vjp)
    silu = staticmethod(conv.silu)
    swiglu = staticmethod(experts.swiglu)

    @property
    def small(self) -> Small:
        """The namespace in which no op bypasses another."""
        return SMALL

    def attend_absorbed(self, q_nope: np.ndarray, q_pe: np.ndarray, c_kv: np.ndarray, k_pe: np.ndarray,
                        w_uk: np.ndarray, w_uv: np.ndarray, allowed: np.ndarray, scale: float,
                        record: Record = ignore) -> np.ndarray:
        """Fast version of ops.attend_absorbed: flattens heads and tokens into the rows of one matrix."""
        (B, T, A, _), flat = q_nope.shape, attention.flatten_heads
        q_latent = np.matmul(q_nope.transpose(0, 2, 1, 3), w_uk)                           # [B, A, T, r]
        scores = (flat(q_latent) @ c_kv.swapaxes(1, 2)
                  + flat(q_pe.transpose(0, 2, 1, 3)) @ k_pe.swapaxes(1, 2))
        weights = self.softmax(scale * scores.reshape(B, A, T, c_kv.shape[1]), allowed)    # [B, A, T, S]
        record("attention_weights", weights)
        context = (flat(weights) @ c_kv).reshape(B, A, T, c_kv.shape[2])               # [B, A, T, r]
        return np.matmul(context, w_uv.swapaxes(1, 2)).transpose(0, 2, 1, 3)               # [B, T, A, dv]


    def einsum(self, axes: str, *arrays: np.ndarray) -> np.ndarray:
        """Fast version of ops.einsum: computes matrix products where the axes allow it."""
        return np.einsum(axes, *arrays, optimize=True)

    def rms_norm_vjp(self, upstream: np.ndarray, x: np.ndarray, gain: np.ndarray, eps: float | None) -> tuple:
        """Fast version of ops.rms_norm_vjp; gains of a different dtype or of an unusual shape use the definition."""
        usual = gain.ndim and x.shape[-gain.ndim :] == gain.shape and x.dtype == gain.dtype == upstream.dtype
        if not usual or x.dtype not in (np.float32, np.float64):
            return super().rms_norm_vjp(upstream, x, gain, eps)
        return *gradients.norms(upstream, x, gain, eps), None

    def softmax_vjp(self, upstream: np.ndarray, scores: np.ndarray, allowed: np.ndarray | None = None) -> tuple:
        """Fast version of ops.softmax_vjp."""
        return gradients.softmaxes(upstream, self.softmax(scores, allowed)), None

    def sinkhorn(self, logits: np.ndarray, iterations: int, eps: float = 0.0) -> np.ndarray:
        """Fast version of ops.sinkhorn: all half-steps of a matrix at once, in the form without eps."""
        return super().sinkhorn(logits, iterations, eps) if eps else branches.sinkhorn(logits, iterations)

    def sinkhorn_vjp(self, upstream: np.ndarray, logits: np.ndarray, iterations: int, eps: float = 0.0) -> tuple:
        """Fast version of ops.sinkhorn_vjp: all half-steps of a matrix at once, in the form without eps."""
        if eps:
            return super().sinkhorn_vjp(upstream, logits, iterations, eps)
        return branches.sinkhorn_vjp(upstream, logits, iterations), None, None


class Fused(Steps):
    """Adds whole compositions, each in one pass; a call with a record computes them step by step.

    Derive your own namespaces from Small or Steps: `replace` and traces do not use this class.
    """

    __slots__ = ()

    @property
    def steps(self) -> Steps:
        """The namespace that a run with a trace uses."""
        return STEPS

    def attend_absorbed(self, q_nope: np.ndarray, q_pe: np.ndarray, c_kv: np.ndarray, k_pe: np.ndarray,
                        w_uk: np.ndarray, w_uv: np.ndarray, allowed: np.ndarray, scale: float,
                        record: Record = ignore) -> np.ndarray:
        """Fast version of ops.attend_absorbed; a few new tokens need only one pass over the latents."""
        arguments = q_nope, q_pe, c_kv, k_pe, w_uk, w_uv
        if record is ignore and attention.is_small(*arguments):
            return attention.absorbed(*arguments, allowed, scale)
        return super().attend_absorbed(*arguments, allowed, scale, record)

    def address(self, ids: np.ndarray, history: np.ndarray, multipliers: np.ndarray, primes: np.ndarray,
                offsets: np.ndarray | None, pad_id: int, eos_id: int | None = None, record: Record = ignore,
                out: np.ndarray | None = None) -> np.ndarray:
        """Fast version of ops.address, fused into one pass."""
        if record is not ignore:
            return super().address(ids, history, multipliers, primes, offsets, pad_id, eos_id, record)
        written = None if out is None else result(out, (*ids.shape, len(primes)), np.int64, ids, history)[None]
        shifts = None if offsets is None else offsets[None]
        return self.address_layers(ids, None, history, multipliers[None], primes[None], shifts, pad_id, eos_id,
                                   written)[0]

    def address_layers(self, ids: np.ndarray, canonical: np.ndarray | None, history: np.ndarray,
                       multipliers: np.ndarray, primes: np.ndarray, offsets: np.ndarray | None, pad_id: int,
                       eos_id: int | None = None, out: np.ndarray | None = None) -> np.ndarray:
        """Fast version of ops.address_layers: looks up each token once and derives the rows of all layers from it."""
        if canonical is None:
            canonical = hashing.NO_MAP
        elif ids.dtype.kind != "i" or (ids.size and (ids.min() < self.DEAD or ids.max() >= len(canonical))):
            self.check_ids(ids, len(canonical), allow_dead=True)         # slower than the min and max above
        return hashing.rows_of_layers(ids, canonical, history, multipliers, primes, offsets, pad_id, eos_id, out)

    def stepper(self, multipliers: np.ndarray, primes: np.ndarray, pad_id: int,
                eos_id: int | None = None) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        """Fast version of ops.stepper; pass C-contiguous int64 arrays to `step`."""
        return hashing.step_function(multipliers, primes, pad_id, eos_id)

    def gather_decode(self, parameters: Parameters, rows: np.ndarray, config: EngramConfig, dtype: DTypeLike,
                      record: Record = ignore, out: np.ndarray | None = None) -> np.ndarray:
        """Fast version of ops.gather_decode: decodes FP8 rows as it reads them."""
        if config.table_codec == "fp8_e8m0" and np.dtype(dtype) == np.float32 and record is ignore:
            return tables.gather_dequantise(parameters["table_codes"], parameters["table_scales"], rows,
                                            parameters["column_offsets"], config.rounding == "fp8_bf16", out)
        memory = super().gather_decode(parameters, rows, config, dtype, record)
        if out is None:
            return memory
        result(out, memory.shape, dtype, rows)[:] = memory
        return out

    def project_and_gate(self, parameters: Parameters, memory: np.ndarray, hidden: np.ndarray,
                         dead: np.ndarray | None, config: EngramConfig, record: Record = ignore,
                         out: np.ndarray | None = None) -> np.ndarray:
        """Fast version of ops.project_and_gate; stores the keys in the result array and overwrites them."""
        if record is not ignore:
            return super().project_and_gate(parameters, memory, hidden, dead, config, record)
        gated = result(out, hidden.shape, hidden.dtype, memory, hidden)
        return self.apply_gate(*self._gates_and_value(parameters, memory, hidden, dead, config, gated), out=gated)

    def gated_update(self, parameters: Parameters, memory: np.ndarray, hidden: np.ndarray, taps: np.ndarray,
                     dead: np.ndarray | None, config: EngramConfig, keep: int, record: Record = ignore,
                     out: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        """Fast version of ops.gated_update: stores only the last `keep` normalised gated values."""
        if record is not ignore:
            return super().gated_update(parameters, memory, hidden, taps, dead, config, keep, record)
        if not config.conv_kernel:
            return self.project_and_gate(parameters, memory, hidden, dead, config, out=out), None
        Y, (B, _, M, D) = result(out, hidden.shape, hidden.dtype, memory, hidden, taps), hidden.shape
        check_shapes(taps=(taps, (B, config.conv_span, M, D)), conv_gain=(parameters["conv_gain"], (M, D)),
                     conv_weight=(parameters["conv_weight"], (M, D, config.conv_kernel)))
        alpha, value = self._gates_and_value(parameters, memory, hidden, dead, config, Y)
        gain = self.effective_gain(parameters["conv_gain"], config.gain_form)
        kept = conv.update(value, alpha, gain, parameters["conv_weight"], config.conv_dilation, taps,
                           config.conv_norm_eps, keep, Y)
        return Y, kept

    def _gates_and_value(self, parameters: Parameters, memory: np.ndarray, hidden: np.ndarray,
                         dead: np.ndarray | None, config: EngramConfig,
                         buffer: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute the gates [B, T, M] and the value of all branches [B, T, D]; write keys to buffer [B, T, M, D]."""
        B, T, M, D = hidden.shape
        check_shapes(memory=(memory, (B, T, config.memory_width)), query_gain=(parameters["query_gain"], (M, D)),
                     key_gain=(parameters["key_gain"], (M, D)),
                     dead=(hidden[..., 0, 0] if dead is None else dead, (B, T)),
                     value_weight=(parameters["value_weight"], (D, config.memory_width)))
        emulated, tokens = config.rounding == "fp8_bf16", B * T
        x = memory.reshape(tokens, memory.shape[-1])
        x = self.requantise(x, config.quantise_floor) if emulated else x
        rounded = self.round_bf16 if emulated else lambda array: array
        biases = parameters if config.projection_bias else {}
        value = np.matmul(x, parameters["value_weight"].T, out=aligned((tokens, D), hidden.dtype))
        if biases:
            check_shapes(value_bias=(biases["value_bias"], (D,)))
            value += biases["value_bias"]
        key_weight = parameters["key_weight"].reshape(M * D, x.shape[1]).T
        key_bias = biases["key_bias"].reshape(M * D) if biases else None
        gain = (self.effective_gain(parameters["query_gain"], config.gain_form)
                * self.effective_gain(parameters["key_gain"], config.gain_form))
        alpha = aligned((tokens, M), hidden.dtype)
        keys, states = buffer.reshape(tokens, M * D), hidden.reshape(tokens, M, D)
        for first in range(0, tokens, GEMM_TOKENS):
            block = slice(first, min(first + GEMM_TOKENS, tokens))
            key = np.matmul(x[block], key_weight, out=keys[block])
            if key_bias is not None:
                key += key_bias
            gate.score_and_gate(states[block], rounded(key).reshape(-1, M, D), gain, config.norm_eps,
                                gate.FORMS[config.gate_form], alpha[block])
        if dead is not None:
            alpha[dead.reshape(tokens)] = 0
        return alpha.reshape(B, T, M), rounded(value).reshape(B, T, D)


SMALL, STEPS, FUSED = Small(), Steps(), Fused()
