"""The namespaces of the torch backend: the compositions of engram_ref.ops over small ops for tensors on any device.

Ops that work on tensors unchanged are inherited. For three compositions in their V4.1 form, `kernels` has Triton
kernels, which are used if neither a trace nor autograd needs the intermediate values.
"""

import inspect
import math
from collections.abc import Sequence

import torch

from engram_ref.backends.torch import arrays, basic, caches, canonical, codecs, experts, gate, hashing, kernels, tables
from engram_ref.backends.torch._tensors import Constant, Parameters, tensors, torch_dtype
from engram_ref.backends.torch.autograd import vjp_of
from engram_ref.checks import check_shapes
from engram_ref.config import EngramConfig
from engram_ref.ops.codecs import QUANTISE_FLOOR
from engram_ref.ops.namespace import NUMPY, Ops
from engram_ref.ops.record import Record, ignore

TOPICS = (arrays, basic, caches, canonical, codecs, experts, gate, hashing, tables)
"""Files whose functions replace the ops of the same names."""


class Small(Ops):
    """Small ops on tensors; the functions of TOPICS are added below."""

    __slots__ = ()
    backend = "torch"
    tensors = staticmethod(tensors)

    def factored_score(self, hidden: torch.Tensor, key: torch.Tensor, query_gain: torch.Tensor, key_gain: torch.Tensor,
                       eps: float | None) -> torch.Tensor:
        """Torch version of ops.factored_score."""
        D, gains = hidden.shape[-1], hidden.shape[2:]
        check_shapes(key=(key, hidden.shape), query_gain=(query_gain, gains), key_gain=(key_gain, gains))
        product = gate.dot(hidden * (query_gain * key_gain), key)
        return product * self.inverse_rms(hidden, eps)[..., 0] * self.inverse_rms(key, eps)[..., 0] / math.sqrt(D)

    def requantise(self, x: torch.Tensor, floor: float = QUANTISE_FLOOR) -> torch.Tensor:
        """Torch version of ops.requantise; the gradient is passed straight through."""
        return codecs.straight_through(x, super().requantise(x.detach(), floor))

    def routed_naive(self, parameters: Parameters, x: torch.Tensor, chosen: torch.Tensor,
                     weights: torch.Tensor) -> torch.Tensor:
        """Torch version of ops.routed_naive; reads the choice on the host, so it synchronises with the device."""
        w1, w2, w3 = (parameters[f"experts.w{i}"] for i in (1, 2, 3))
        y = list(torch.zeros_like(x))
        for n, selected in enumerate(chosen.tolist()):
            for k, e in enumerate(selected):
                y[n] = y[n] + weights[n, k] * self.swiglu(x[n], w1[e], w2[e], w3[e])
        return torch.stack(y) if y else torch.zeros_like(x)

    def routed_grouped(self, parameters: Parameters, x: torch.Tensor, chosen: torch.Tensor,
                       weights: torch.Tensor) -> torch.Tensor:
        """Torch version of ops.routed_grouped; applies every expert to every token, E/K times the work.

        Selecting only the tokens of an expert would require synchronising with the device.
        """
        w1, w2, w3 = (parameters[f"experts.w{i}"] for i in (1, 2, 3))
        y = torch.zeros_like(x)
        for e in range(len(w1)):
            selected = chosen == e                                               # [N, K], at most one per row
            weight = weights.masked_fill(~selected, 0.0).sum(dim=-1, keepdim=True)
            weighted = weight * self.swiglu(x, w1[e], w2[e], w3[e])              # [N, D]
            y = y + weighted.masked_fill(~selected.any(dim=-1, keepdim=True), 0.0)       # drops NaN of tokens without e
        return y


for op in NUMPY.names():
    if op.endswith("_vjp"):
        setattr(Small, op, vjp_of(op.removesuffix("_vjp")))

for topic in TOPICS:
    for name in NUMPY.names():
        if inspect.getmodule(vars(topic).get(name)) is topic:
            setattr(Small, name, staticmethod(vars(topic)[name]))


class Steps(Small):
    """The namespace of traced runs: each small op calls the others through the namespace."""

    __slots__ = ()


class Fused(Steps):
    """Three compositions as one Triton kernel each, if the tensors and the configuration allow it."""

    __slots__ = ()

    @property
    def small(self) -> Small:
        """The namespace of small ops, without kernels."""
        return SMALL

    @property
    def steps(self) -> Steps:
        """The namespace of traced runs, without kernels."""
        return STEPS

    def address(self, ids: torch.Tensor, history: torch.Tensor, multipliers: Constant, primes: Constant,
                offsets: Constant | None, pad_id: int, eos_id: int | None = None,
                record: Record = ignore) -> torch.Tensor:
        """Torch version of ops.address; the rows are on the device of the ids."""
        if record is not ignore or not kernels.usable(ids, history):
            return super().address(ids, history, multipliers, primes, offsets, pad_id, eos_id, record)
        return self._rows(ids, history, (multipliers, primes, offsets), pad_id, eos_id)

    def address_layers(self, ids: torch.Tensor, canonical: Constant | None, history: torch.Tensor,
                       multipliers: Constant, primes: Constant, offsets: Constant | None, pad_id: int,
                       eos_id: int | None = None) -> torch.Tensor:
        """Torch version of ops.address_layers; the kernel writes the rows of each layer to their place."""
        ids = ids if canonical is None else self.canonicalise(ids, canonical)
        if not kernels.usable(ids, history):
            return super().address_layers(ids, None, history, multipliers, primes, offsets, pad_id, eos_id)
        out = ids.new_empty((len(primes), *ids.shape, len(primes[0])))
        for y, rows in enumerate(out):
            constants = multipliers[y], primes[y], None if offsets is None else offsets[y]
            self._rows(ids, history, constants, pad_id, eos_id, rows)
        return out

    def _rows(self, ids: torch.Tensor, history: torch.Tensor, constants: Sequence[Constant | None], pad_id: int,
              eos_id: int | None, out: torch.Tensor | None = None) -> torch.Tensor:
        """Run the kernel of `address` with these multipliers, primes and offsets."""
        from engram_ref.backends.torch.kernels.rows import rows as kernel

        here = (None if c is None else self.constant(c, ids).contiguous() for c in constants)
        return kernel(ids, history, *here, pad_id, eos_id, out)

    def gather_decode(self, parameters: Parameters, rows: torch.Tensor, config: EngramConfig,
                      dtype: torch.dtype | type, record: Record = ignore) -> torch.Tensor:
        """Torch version of ops.gather_decode."""
        single = config.table_codec == "fp8_e8m0" and torch_dtype(dtype) == torch.float32
        stored = [parameters[name] for name in ("table_codes", "table_scales")] if single else []
        if not stored or record is not ignore or not kernels.usable(rows, *stored):
            return super().gather_decode(parameters, rows, config, dtype, record)
        from engram_ref.backends.torch.kernels.dequantise import gather_dequantise

        offsets = self.constant(parameters["column_offsets"], rows).contiguous()
        return gather_dequantise(rows, offsets, *stored, config.rounding == "fp8_bf16")

    def project_and_gate(self, parameters: Parameters, memory: torch.Tensor, hidden: torch.Tensor,
                         dead: torch.Tensor | None, config: EngramConfig, record: Record = ignore) -> torch.Tensor:
        """Torch version of ops.project_and_gate."""
        if record is not ignore or not _kernel_gates(parameters, memory, hidden, config):
            return super().project_and_gate(parameters, memory, hidden, dead, config, record)
        from engram_ref.backends.torch.kernels.gate import gate as kernel

        key, value = self.project(parameters, memory, config)
        gains = (self.effective_gain(parameters[name], config.gain_form) for name in ("query_gain", "key_gain"))
        return kernel(hidden, key, value, *gains, config.norm_eps, None if dead is None else dead.contiguous())


def _kernel_gates(parameters: Parameters, memory: torch.Tensor, hidden: torch.Tensor, config: EngramConfig) -> bool:
    """Whether the gate kernel applies: the V4.1 forms, in float32."""
    used = ["key_weight", "value_weight", "query_gain", "key_gain"]
    used += ["key_bias", "value_bias"] if config.projection_bias else []
    floats = memory, hidden, *(parameters[name] for name in used)
    forms = (config.score_form, config.gate_form) == ("factored", "copysign_sqrt")
    return forms and all(x.dtype == torch.float32 for x in floats) and kernels.usable(*floats)


SMALL, STEPS, FUSED = Small(), Steps(), Fused()
