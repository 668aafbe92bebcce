"""One small call of every op that moves or hashes numbers; tests/op_cases_floats.py has the ops that compute floats.

`call` takes a backend's namespace and arrays of that backend; `arrays` creates them in NumPy from a random generator, a
batch size and a number of tokens. The name of a case is the op, followed by a description if there are several.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from engram_ref.layout import layout
from engram_ref.ops import DEAD
from scripts.builders.small_models import EXPERTS, GROUPED, V2_EXPERTS
from scripts.builders.small_modules import DEMO, QWEN, V41, random_parameters

ALL, D, M, VOCABULARY = slice(None), 9, 3, 61
LENGTHS = np.array([3, 1, 0])
MULTIPLIERS = np.array([2**62 + 1, 3 * 2**60 + 1, 7 * 2**59 + 3])       # most products wrap, many mixes are negative
PRIMES = np.array([[23, 29, 31, 37], [41, 43, 47, 53]])
for constants in (LENGTHS, MULTIPLIERS, PRIMES):
    constants.setflags(write=False)                                     # read-only, like the arrays of Addressing


@dataclass(frozen=True)
class Case:
    """call(ops, *arrays) -> one or several arrays; `terms` is the total length of all sums, 0 for exact results."""

    arrays: Callable
    call: Callable
    terms: int = 0


def op_of(name: str) -> str:
    """Return the op that a case calls: the first word of its name."""
    return name.split()[0]


def ids(rng, B, T):
    """Return canonical ids; one in four is DEAD."""
    return np.where(rng.random((B, T)) < 0.25, DEAD, rng.integers(0, VOCABULARY, (B, T)))


def floats(*shapes, size=1.0):
    """Return a function that creates arrays of normal random numbers; ALL as the first size means [B, T].

    size   standard deviation of the first array
    """
    def make(rng, B, T):
        arrays = [rng.standard_normal((B, T, *shape[1:]) if shape[:1] == (ALL,) else shape) for shape in shapes]
        return *(size * array for array in arrays[:1]), *arrays[1:]

    return make


def streams(rng, B, T):
    return ids(rng, B, T), ids(rng, B, 2)


def streams_with(*more):
    return lambda rng, B, T: (*streams(rng, B, T), *more)


INTEGERS = {
    "canonicalise": Case(lambda r, B, T: (ids(r, B, T), r.integers(0, 9, VOCABULARY)),
                         lambda ops, x, c: ops.canonicalise(x, c)),
    "mark_dead": Case(lambda r, B, T: (ids(r, B, T), r.random((B, T)) < 0.5), lambda ops, x, d: ops.mark_dead(x, d)),
    "windows": Case(streams, lambda ops, x, h: ops.windows(x, h, 7)),
    "windows with EOS": Case(streams, lambda ops, x, h: ops.windows(x % 5 - 1, h % 5 - 1, 7, 3)),
    "mix": Case(lambda r, B, T: (r.integers(0, 10**5, (B, T, 3)), MULTIPLIERS), lambda ops, w, m: ops.mix(w, m)),
    "table_rows": Case(lambda r, B, T: (r.integers(-(2**63), 2**63 - 1, (B, T, 2)), PRIMES[0]),
                       lambda ops, m, p: ops.table_rows(m, p)),
    "next_history": Case(streams, lambda ops, x, h: ops.next_history(h, x)),
    "address": Case(streams_with(MULTIPLIERS, PRIMES[0]), lambda ops, x, h, m, p: ops.address(x, h, m, p, None, 7, 3)),
    "address flat": Case(streams_with(MULTIPLIERS, PRIMES[0], PRIMES[1]),
                         lambda ops, x, h, m, p, o: ops.address(x, h, m, p, o, 7)),
    "address_layers": Case(streams_with(np.arange(VOCABULARY) // 2, np.stack([MULTIPLIERS, MULTIPLIERS[::-1]]), PRIMES),
                           lambda ops, x, h, c, m, p: ops.address_layers(x, c, h, m, p, p, 7, 3)),
    "stepper": Case(lambda r, B, T: (ids(r, B, 1)[:, 0], ids(r, B, 2)),
                    lambda ops, x, h: ops.stepper(MULTIPLIERS, PRIMES[0], 7, 3)(x, h)),
    "positions_after": Case(lambda r, B, T: (LENGTHS,), lambda ops, lengths: ops.positions_after(lengths, 4)),
    "place": Case(lambda r, B, T: (ids(r, 3, 4), ids(r, 3, T)), lambda ops, c, new: ops.place(c, new, LENGTHS)),
    "place floats": Case(lambda r, B, T: (r.random((3, 4, 5)), r.random((3, T, 5))),
                         lambda ops, c, new: ops.place(c, new, LENGTHS)),
    "append": Case(lambda r, B, T: (ids(r, 3, 9), ids(r, 3, T)), lambda ops, c, new: ops.append(c + 0, new, LENGTHS)),
    "append past capacity": Case(lambda r, B, T: (r.random((3, 4, 5)), r.random((3, T, 5))),
                                   lambda ops, c, new: ops.append(c + 0, new, LENGTHS)),
    "last": Case(lambda r, B, T: (ids(r, 3, 4),), lambda ops, c: ops.last(c, LENGTHS, 2, DEAD)),
    "last floats": Case(lambda r, B, T: (r.random((3, 4, 5)),), lambda ops, c: ops.last(c, LENGTHS, 5, 0)),
    "last of empty": Case(lambda r, B, T: (r.random((3, 0, 5)),), lambda ops, c: ops.last(c, 0 * LENGTHS, 2, 0)),
    "visible": Case(lambda r, B, T: (r.integers(0, 5, (B, T)),), lambda ops, p: ops.visible(p, 5)),
    "join": Case(lambda r, B, T: (ids(r, B, 1), ids(r, B, 1)), lambda ops, a, b: ops.join([a, b], a.shape[0])),
    "join none": Case(lambda r, B, T: (ids(r, B, 1),), lambda ops, a: ops.join([], 2)),
    "sample greedily": Case(lambda r, B, T: (r.integers(0, 3, (B, 7)) * 1.0,),
                               lambda ops, x: ops.sample(x, 0.0, None)),
    "select_experts": Case(lambda r, B, T: (r.integers(0, 3, (T, 5)) / 4, r.standard_normal(5)),
                           lambda ops, s, b: ops.select_experts(s, b, EXPERTS)),
    "select_experts with groups": Case(lambda r, B, T: (r.integers(0, 3, (T, 8)) / 4, np.full(8, -1.5)),
                                     lambda ops, s, b: ops.select_experts(s, b, GROUPED)),
    "select_experts as V2": Case(lambda r, B, T: (r.integers(0, 3, (T, 9)) / 4,),
                                 lambda ops, s: ops.select_experts(s, None, V2_EXPERTS)),
}


def rows_of(config):
    """Return a function that creates valid rows."""
    sizes = layout(config, config.layer_ids[0]).primes
    return lambda rng, B, T: rng.integers(0, sizes, (B, T, config.columns))


def table(config):
    """Return a function that creates a stored table, its column offsets and rows; FP8 tables have arbitrary codes."""
    def make(rng, B, T):
        R = layout(config, config.layer_ids[0]).table_rows
        if config.table_codec == "fp8_e8m0":
            stored = {"table_codes": rng.integers(0, 256, (R, config.row_width)).astype(np.uint8),
                      "table_scales": rng.integers(0, 256, (R, config.row_width // 32)).astype(np.uint8)}
        else:
            stored = {"table": random_parameters(config, rng)["table"]}
        offsets = layout(config, config.layer_ids[0]).offsets
        return stored | {"column_offsets": offsets}, rows_of(config)(rng, B, T)

    return make


def gathered(config):
    return Case(table(config), lambda ops, p, rows: ops.gather_decode(p, rows, config, np.float32))


def fp8(rng, B, T):
    return rng.integers(0, 256, (B, T, 64)).astype(np.uint8), rng.integers(0, 256, (B, T, 2)).astype(np.uint8)


def one_channel(rng, B, T):
    """Return a state, a zero key and a gain: the product is -0.0, but the sum is +0.0, the sign that the root keeps."""
    return -np.ones((B, T, M, 1)), np.zeros((B, T, M, 1)), np.ones((M, 1))


def narrow(rng, B, T):
    """Return float32 [B, T, 64] with magnitudes from below the smallest scale to far above the largest number."""
    return ((rng.standard_normal((B, T, 64)) * 10.0 ** rng.uniform(-44, 37, (B, T, 1))).astype(np.float32),)


DATA = {
    "embed": Case(lambda r, B, T: (r.random((VOCABULARY, D)), r.integers(0, VOCABULARY, (B, T))),
                  lambda ops, t, x: ops.embed(t, x)),
    "gather": Case(lambda r, B, T: (r.random((99, 5)), r.integers(0, 40, (B, T, 2)), np.array([0, 40])),
                   lambda ops, t, rows, o: ops.gather(t, rows, o)),
    "concatenate": Case(floats((ALL, 4, 5)), lambda ops, x: ops.concatenate(x)),
    "decode": Case(floats((ALL, 4, 5)), lambda ops, x: ops.decode((x,), "fp32", np.float32)),
    "decode fp8": Case(fp8, lambda ops, c, s: ops.decode((c, s), "fp8_e8m0", np.float64)),
    "dequantise": Case(fp8, lambda ops, c, s: ops.dequantise(c, s)),
    "quantise": Case(narrow, lambda ops, x: ops.quantise(x)),
    "quantise without a floor": Case(narrow, lambda ops, x: ops.quantise(x, 0.0)),
    "requantise": Case(narrow, lambda ops, x: ops.requantise(x)),
    "round_bf16": Case(narrow, lambda ops, x: ops.round_bf16(x)),
    "gather_decode": gathered(DEMO), "gather_decode bf16": gathered(QWEN), "gather_decode fp8": gathered(V41),
    "add_residual": Case(floats((ALL, M, D), (ALL, M, D)), lambda ops, x, y: ops.add_residual(x, y)),
    "add_residual rounded": Case(lambda r, B, T: narrow(r, B, T) * 2,
                                 lambda ops, x, y: ops.add_residual(x, y, "fp8_bf16")),
    "effective_gain": Case(floats((M, D)), lambda ops, g: ops.effective_gain(g, "zero_centred")),
    "apply_gate": Case(floats((ALL, M), (ALL, D)), lambda ops, a, v: ops.apply_gate(a, v)),
    "next_taps": Case(floats((ALL, M, D), (2, 4, M, D)), lambda ops, x, t: ops.next_taps(x, t[: x.shape[0]])),
    "score of one channel": Case(one_channel, lambda ops, h, k, g: ops.score(h, k)),
    "factored_score of one channel": Case(one_channel, lambda ops, h, k, g: ops.factored_score(h, k, g, g, 1e-6)),
    "expand": Case(floats((ALL, D)), lambda ops, x: ops.expand(x, M)),
    "read_single": Case(floats((ALL, 1, D)), lambda ops, x: ops.read_single(x)),
    "write_single": Case(floats((ALL, 1, D), (ALL, D)), lambda ops, x, y: ops.write_single(x, y)),
    "collapse mean of one": Case(floats((ALL, 1, D)), lambda ops, x: ops.collapse(x, "mean", {}, 1e-6)),
}
