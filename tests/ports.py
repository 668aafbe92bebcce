"""Honest ports: float32 and float64 namespaces that add the terms of each sum in a chosen order."""

import math

import ml_dtypes
import numpy as np

from engram_ref.ops.namespace import Ops
from engram_ref.ops.record import ignore
from engram_ref.oracle.run import Adapter


def in_sequence(terms):
    """Add from left to right, rounding after each addition."""
    total = terms[..., 0]
    for k in range(1, terms.shape[-1]):
        total = total + terms[..., k]
    return total


def in_pairs(terms):
    """Add neighbours, then neighbours of the sums, and so on."""
    while terms.shape[-1] > 1:
        if terms.shape[-1] % 2:
            terms = np.concatenate([terms, np.zeros_like(terms[..., :1])], axis=-1)
        terms = terms[..., ::2] + terms[..., 1::2]
    return terms[..., 0]


def in_lanes(terms, lanes=8):
    """Add every eighth term in its own accumulator, as a vectorised loop, then the accumulators."""
    missing = -terms.shape[-1] % lanes
    padded = np.concatenate([terms, np.zeros((*terms.shape[:-1], missing), terms.dtype)], axis=-1)
    count = padded.shape[-1] // lanes
    return in_pairs(in_sequence(padded.reshape(*terms.shape[:-1], count, lanes).swapaxes(-1, -2)))


ORDERS = {"sequential": in_sequence, "reversed": lambda terms: in_sequence(terms[..., ::-1]), "pairwise": in_pairs,
          "lanes": in_lanes}


class Ordered(Ops):
    """All sums in the order of the attribute `order`, one of ORDERS; "fused" rounds x*y + z once."""

    __slots__ = ("order",)

    def __init__(self, order):
        self.order = order

    def total(self, *factors):
        """The sum over the last axis of the products of the factors."""
        factors = np.broadcast_arrays(*factors)
        if not factors[0].shape[-1]:
            return np.zeros(factors[0].shape[:-1], factors[0].dtype)
        if self.order == "fused":
            y = np.zeros(factors[0].shape[:-1], factors[0].dtype)
            wide = [x.astype(np.longdouble if y.dtype == np.float64 else np.float64) for x in factors]
            for k in range(wide[0].shape[-1]):
                y = (y + math.prod(x[..., k] for x in wide)).astype(y.dtype)
            return y
        return ORDERS[self.order](math.prod(factors[1:], start=factors[0]))

    def linear(self, x, weight, bias=None):
        y = self.total(x[..., None, :], weight)
        return y if bias is None else y + bias

    def einsum(self, axes, *arrays):
        operands, result = axes.split("->")
        named = list(zip(operands.split(","), arrays, strict=True))
        sizes = {a: n for letters, x in named for a, n in zip(letters, x.shape, strict=True)}
        every = result + "".join(a for a in sizes if a not in result)
        spread = [np.einsum(f"{letters}->{''.join(a for a in every if a in letters)}", x).reshape(
            [sizes[a] if a in letters else 1 for a in every]) for letters, x in named]
        shape, summed = [sizes[a] for a in result], math.prod(sizes[a] for a in every if a not in result)
        return self.total(*[np.broadcast_to(x, [sizes[a] for a in every]).reshape(*shape, summed)
                            for x in spread])

    def score(self, query, key):
        return self.total(query, key) / np.sqrt(query.dtype.type(query.shape[-1]))

    def factored_score(self, hidden, key, query_gain, key_gain, eps):
        h, k = self.inverse_rms(hidden, eps)[..., 0], self.inverse_rms(key, eps)[..., 0]
        return self.total(hidden * query_gain, key_gain * key) * (h * k / math.sqrt(hidden.shape[-1]))

    def inverse_rms(self, x, eps):
        eps = x.dtype.type(np.finfo(x.dtype).eps if eps is None else eps)
        return 1 / np.sqrt(self.total(x, x)[..., None] / x.dtype.type(x.shape[-1]) + eps)

    def softmax(self, scores, allowed=None):
        masked = scores if allowed is None else np.where(allowed[:, None], scores, scores.dtype.type(-np.inf))
        weights = np.exp(masked - masked.max(axis=-1, keepdims=True, initial=-np.inf))
        return weights * (1 / self.total(weights)[..., None])

    def short_conv(self, x, weight, dilation, taps):
        inputs, T = np.concatenate([taps, x], axis=1), x.shape[1]
        return self.total(np.stack([inputs[:, j * dilation : j * dilation + T] for j in range(weight.shape[-1])], -1),
                          weight)

    def merge_branches(self, X, form):
        total = self.total(X.swapaxes(2, 3))
        return total if form == "sum" else total / X.dtype.type(X.shape[2])

    def sigmoid(self, x):
        return 1 / (1 + np.exp(-x))

    def rms_norm(self, x, gain, eps):
        return (gain * x) * self.inverse_rms(x, eps)


FLOAT32 = Adapter(to=lambda array: array.astype(np.float32) if array.dtype == np.float64 else array,
                  dtype=lambda dtype: np.float32)


def in_bfloat16(array):
    """Round float numbers to bfloat16."""
    return array.astype(np.float32).astype(ml_dtypes.bfloat16).astype(array.dtype)


def stored(name):
    """A method that rounds the float results of one op to bfloat16."""
    def method(self, *arguments, **named):
        record = named.pop("record", None) or (arguments[-1] if callable(arguments[-1]) else ignore)
        arguments = [x for x in arguments if not callable(x)]
        narrow = {"record": lambda stage, array: record(stage, in_bfloat16(array))} if name in RECORDING else {}
        result = getattr(super(Stored, self), name)(*arguments, **named, **narrow)
        return tuple(map(in_bfloat16, result)) if isinstance(result, tuple) else in_bfloat16(result)
    return method


RECORDING = ("gather_decode", "gate_score")


class Stored(Ordered):
    """Every stage of the module is rounded to bfloat16 and read again, with float32 inside."""

    __slots__ = ()

    @staticmethod
    def narrow(array):
        """Store a float array in bfloat16."""
        return array.astype(ml_dtypes.bfloat16) if array.dtype.kind == "f" else array


for name in ("gather_decode", "project", "rms_norm", "gate_score", "gate", "apply_gate", "conv_silu", "add"):
    setattr(Stored, name, stored(name))
