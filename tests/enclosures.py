"""Enclosures: a float64 answer for every stage of a module, with a radius that bounds the results of all backends.

tests/bounds.py multiplies a number of roundings by a first-order scale. That fails near a discontinuity: a score whose
sign is uncertain, or a number near a tie between two bfloat16 values. Here every stage is an interval instead, and the
bounds are valid to all orders. The centre is the definition in float64. The radius r bounds |found - centre| if `found`
was computed in float32 or float64 from inputs inside their own intervals, with any order of summation and either form
of the score. With U = u + 2^-53 (`found` rounds by u, the centre by 2^-53) and gamma(n) = n U / (1 - n U):

    n roundings, each relative to the sum of absolute values s      gamma(n) s     (Higham, sections 3.1 and 3.4)
    a monotone function f: bfloat16 rounding, or one of the gates   f(x - r) <= f(found) <= f(x + r)
    1 / L with L = sqrt(mean x^2 + eps)                             |L(x') - L(x)| <= rms(x' - x), and L >= sqrt(eps)
    SiLU                                                            |slope| < 1.1

Roundings of a norm of width D: D + 1 in the mean, 2 for eps and its addition, 2 for the root and the division, 3 for
gain (1 + w) and product. Numba computes the norm of alpha v as alpha v / sqrt(alpha^2 mean(v^2) + eps), which adds 2.
The factored score has 3D + 18 on the path of one addend, and the normalised score fewer; two norms and a dot product,
as counted here, have 3D + 22. Sigmoid: 8 for an exp accurate to 4 ULP, 2 for 1 + e and the division, and the 2 of its
argument z (clamp and root) times |z|. Results below the smallest normal number may be flushed to 0.
"""

from dataclasses import dataclass, replace

import numpy as np

from engram_ref import ops
from tests.bounds import rms
from tests.compare import worst


@dataclass(frozen=True)
class Ball:
    """An elementwise interval: all numbers within `radius` of `centre`, both float64."""

    centre: np.ndarray
    radius: np.ndarray

    @property
    def size(self):
        """The largest absolute value in the interval."""
        return np.abs(self.centre) + self.radius

    @property
    def ends(self):
        return self.centre - self.radius, self.centre + self.radius


def exact(x):
    x = np.asarray(x, dtype=np.float64)
    return Ball(x, np.zeros_like(x))


def between(low, high):
    return Ball((low + high) / 2, (high - low) / 2)


def assert_inside(name, ball, found, dtype):
    """Raise AssertionError with the worst element unless all of `found` is inside the interval."""
    assert found.dtype == dtype and found.shape == ball.centre.shape, f"{name}: {found.dtype} {found.shape}"
    with np.errstate(invalid="ignore"):
        difference = worst(ball.centre, found, np.abs(ball.centre - found.astype(np.float64)), ball.radius)
    assert difference is None, f"{name}: {difference}"


class Arithmetic:
    """Interval arithmetic for the stages of one module in one dtype."""

    def __init__(self, config, parameters, dtype):
        self.tiny, self.U = float(np.finfo(dtype).tiny), float(np.finfo(dtype).eps) / 2 + 2.0**-53
        self.rounded = config.rounding == "fp8_bf16"
        eps = float(np.finfo(dtype).eps) if config.norm_eps is None else config.norm_eps
        self.config = replace(config, rounding="none", norm_eps=eps)
        self.wide = {name: np.asarray(array, dtype=np.float64) for name, array in parameters.items()
                     if not name.startswith(("table", "column"))}
        self.gains = {name: ops.effective_gain(array, config.gain_form)
                      for name, array in self.wide.items() if name.endswith("gain")}

    def gamma(self, n):
        return n * self.U / (1 - n * self.U)

    def project(self, memory):
        """Compute key and value: W products and a bias in any order, then the dialect's rounding."""
        x = (ops.requantise(memory, self.config.quantise_floor) if self.rounded else memory).astype(np.float64)
        centres = ops.project(self.wide, x, self.config)
        sizes = ops.project({name: np.abs(array) for name, array in self.wide.items()}, np.abs(x), self.config)
        balls = [Ball(c, self.gamma(x.shape[-1] + 1) * size) for c, size in zip(centres, sizes, strict=True)]
        return [self.bf16(ball) for ball in balls] if self.rounded else balls

    def bf16(self, ball):
        """Round the ends to float32 and then to bfloat16; both roundings are monotone."""
        low, high = (ops.round_bf16(end.astype(np.float32)).astype(np.float64) for end in ball.ends)
        return between(low, high)

    def norm(self, x, gain, eps):
        D = x.centre.shape[-1]
        length, moved = rms(x.centre, eps), rms(x.radius, 0.0)
        least = np.maximum(length - moved, np.sqrt(eps))
        drift = x.radius + np.abs(x.centre) / length * moved
        return Ball(ops.rms_norm(x.centre, gain, eps),
                    np.abs(gain) * (drift + self.gamma(D + 10) * x.size) / least)

    def score(self, hidden, key, query, key_norm):
        """Compute the configured form in float64; the radius is that of a dot product of two norms."""
        D = hidden.shape[-1]
        largest = (1 + self.gamma(D + 2)) * query.size * key_norm.size
        radius = np.sum(largest - np.abs(query.centre * key_norm.centre), axis=-1) / np.sqrt(D)
        return Ball(ops.gate_score(self.wide, hidden, key.centre, self.config), radius)

    def sigmoid_rounding(self, x):
        """Return the relative rounding error of a sigmoid; a root is at most 1 + |x|."""
        return self.gamma(12) + 2 * self.U * x.size

    def gate(self, s, dead):
        low, high = (ops.gate(end, self.config.gate_form) for end in s.ends)
        rounding = self.sigmoid_rounding(s)
        alpha = between(low * (1 - rounding) - self.tiny, high * (1 + rounding) + self.tiny)
        closed = np.broadcast_to(False if dead is None else dead[..., None], s.centre.shape)
        return Ball(np.where(closed, 0.0, alpha.centre), np.where(closed, 0.0, alpha.radius))

    def apply_gate(self, alpha, value):
        largest = (1 + self.U) * ops.apply_gate(alpha.size, value.size)
        centre = ops.apply_gate(alpha.centre, value.centre)
        return Ball(centre, largest - np.abs(centre))

    def conv_silu(self, x, taps):
        """Compute y sigma(y), where y has L products and additions per channel."""
        weight, dilation = self.wide["conv_weight"], self.config.conv_dilation
        y = ops.short_conv(x.centre, weight, dilation, taps)
        reach = ops.short_conv(x.size, np.abs(weight), dilation, np.abs(taps))
        carried = ops.short_conv(x.radius, np.abs(weight), dilation, np.zeros_like(taps))
        y = Ball(y, carried + self.gamma(weight.shape[-1] + 1) * reach)
        centre = ops.silu(y.centre)
        rounding = (self.sigmoid_rounding(y) + self.U) * (np.abs(centre) + 1.1 * y.radius)
        return Ball(centre, 1.1 * y.radius + rounding + self.tiny * y.size)

    def add(self, a, b):
        centre = a.centre + b.centre
        return Ball(centre, a.radius + b.radius + self.U * (a.size + b.size))


def module(parameters, memory, hidden, taps, dead, config):
    """Return {stage: Ball} for the stages after `memory`, and for "taps", the state of the next chunk.

    memory   [B, T, C*W] of the dtype of the module; bit-identical in all backends
    hidden   [B, T, M, D], taps [B, (L-1)*dilation, M, D] of that dtype; dead bool [B, T] or None
    """
    a = Arithmetic(config, parameters, memory.dtype)
    hidden, taps, eps = hidden.astype(np.float64), taps.astype(np.float64), a.config.norm_eps
    # key, value, score and gate
    key, value = a.project(memory)
    query_norm, key_norm = (a.norm(x, a.gains[f"{name}_gain"], eps)
                            for x, name in ((exact(hidden), "query"), (key, "key")))
    score = a.score(hidden, key, query_norm, key_norm)
    gate = a.gate(score, dead)
    gated = a.apply_gate(gate, value)
    stages = {"key": key, "value": value, "query_norm": query_norm, "key_norm": key_norm, "score": score,
              "gate": gate, "gated": gated, "output": gated, "taps": exact(taps)}
    if config.conv_kernel:      # the convolution changes the output and the taps
        conv_norm = a.norm(gated, a.gains["conv_gain"], config.conv_norm_eps)
        conv = a.conv_silu(conv_norm, taps)
        stages |= {"conv_norm": conv_norm, "conv": conv, "output": a.add(conv, gated),
                   "taps": Ball(*(ops.next_taps(x, before) for x, before in
                                  ((conv_norm.centre, taps), (conv_norm.radius, np.zeros_like(taps)))))}
    return stages
