# %% [markdown]
# # The same model on torch and CUDA
#
# ## What you will be able to do
#
# - run every model of this package on torch tensors, on any device, and say how closely the results must agree;
# - decode the FP8 numbers of a released table from their bits, including the codes that ports get wrong;
# - compute gradients, and check one against the known error of a finite difference;
# - list common pitfalls of GPU kernels, test a kernel without a GPU, and avoid synchronisation with the device.

# %%
import math
import os
from dataclasses import replace
from importlib.util import find_spec
from unittest import TestCase, mock

import matplotlib.pyplot as plt
import numpy as np

from engram_ref import Addressing, Trace, engram, ops, preset, residual
from engram_ref.model import tree
from engram_ref.model.engram_parameters import initialise
from engram_ref.model.transformer import forward
from engram_ref.model_presets import model_preset

TORCH, INTERPRETED = find_spec("torch") is not None, False
if TORCH:
    import torch

    from engram_ref.backends import torch as torch_ops
    from engram_ref.backends.torch import kernels

    INTERPRETED = find_spec("triton") is not None and not torch.cuda.is_available()
    if INTERPRETED:                                      # see "On a CUDA device"
        with mock.patch.dict(os.environ, TRITON_INTERPRET="1"):
            import triton
            import triton.language as tl
else:
    print("torch is not installed: the code under `if TORCH:` needs `pip install torch`")

# %% [markdown]
# ## One composition, two namespaces
#
# The model code in this package calls no array library directly. It composes the functions of a namespace, `ops`. With
# `engram_ref.ops` it computes with NumPy; with `engram_ref.backends.torch`, the same code computes with torch.
# `tensors` converts parameters to torch, and `to_numpy` converts results back. We use `tiny`, the smallest *preset*
# (named configuration).

# %%
rng, tiny = np.random.default_rng(15), preset("tiny")
weights = initialise(tiny, layer_id=1, rng=rng)          # float64
text = rng.integers(0, tiny.canonical_size, (2, 12))
rows = Addressing(tiny).rows(text, layer_id=1)
hidden = rng.standard_normal((2, 12, tiny.n_branches, tiny.hidden_size))
Y = engram(weights, hidden, rows, tiny)
if TORCH:
    tensor, back = torch.tensor, torch_ops.to_numpy
    their_rows = Addressing(tiny, ops=torch_ops).rows(tensor(text), layer_id=1)
    theirs = torch_ops.tensors(weights, device="cpu", dtype=torch.float64)
    their_Y = engram(theirs, tensor(hidden), their_rows, tiny, ops=torch_ops)
    np.testing.assert_array_equal(rows, back(their_rows))
    terms = tiny.memory_width + 2 * tiny.hidden_size
    assert abs(Y - back(their_Y)).max() <= 2 * (terms + 16) * 2.0**-53 * abs(Y).max()
    print(f"{rows.size} rows equal, outputs differ by {abs(Y - back(their_Y)).max():.0e}")

    config, ids = model_preset("tiny"), np.arange(4)                      # a whole model
    whole = tree.initialise(config, np.random.default_rng(0))
    logits = forward(torch_ops.tensors(whole), tensor(ids), config, ops=torch_ops)
    expected = forward(whole, ids, config)
    assert abs(expected - back(logits)).max() <= 1e-10 * abs(expected).max()

# %% [markdown]
# Two kinds of numbers are compared. Row indices are *integers* and must be equal. Outputs are *floats* and must agree
# within a tolerance: for the module, a bound derived from the length of the sums; `1e-10` is a fixed tolerance for a
# whole model, for which there is no simple bound.
#
# ## What may differ, and what must not
#
# A float32 has 24 significant bits. An addition has a relative rounding error of at most $u = 2^{-24}$, so the last
# bits of a sum depend on the *order* of its additions, and each library chooses an order that suits its device. Integer
# arithmetic wraps around, but never rounds. Adding $n$ numbers one by one takes fewer than $n$ roundings, so to first
# order in $u$ the error satisfies (Higham, *Accuracy and Stability*, ch. 4):
#
# $$ \bigl|\,\widehat{s} - \sum_i x_i\,\bigr| \;\le\; n\,u \sum_i |x_i| $$

# %%
u, lengths = 2.0**-24, 2 ** np.arange(3, 15)
worst = {"one by one": [], "NumPy's sum": []}
for n in lengths:
    x, bits = rng.random(n, dtype=np.float32), rng.integers(-(2**63), 2**63, n)
    exact = math.fsum(map(float, x))
    orders = np.array([rng.permutation(n) for _ in range(100)])
    sums = np.cumsum(x[orders], axis=1)[:, -1], x[orders].sum(axis=1)
    for units, total in zip(worst.values(), sums, strict=True):
        units.append(abs(total.astype(np.float64) - exact).max() / exact / u)
    assert len(set(bits[orders].sum(axis=1).tolist())) == 1
    assert not TORCH or abs(tensor(x).sum().item() - exact) <= n * u * exact
print(f"{n:,} floats in 100 orders:", len(set(sums[0].tolist())), "different sums; integers: 1")

# %% tags=["fold"]
assert np.finfo(np.float32).eps == 2 * u and len(set(sums[0].tolist())) > 20
assert all((np.array(units) < lengths).all() for units in worst.values())
assert max(worst["NumPy's sum"]) < 4 and worst["one by one"][-1] > 20
fig, ax = plt.subplots(figsize=(6.2, 2.9))
ax.loglog(lengths, lengths, "k--", label="bound: n", base=2)
for marker, (name, units) in zip("os", worst.items(), strict=True):
    ax.loglog(lengths, units, marker=marker, label=name, base=2)
ax.set(xlabel="n, positive numbers added", ylabel="worst error / (u sum)")
ax.set_title("Every order satisfies the bound; pairwise sums have almost no error")
ax.legend()
fig.set_label("Worst error of 100 orders against the length of the sum, both logarithmic. "
              "One by one, it grows below the dashed bound. NumPy's sum: it stays near 1.")

# %% [markdown]
# NumPy sums blocks of numbers and then adds the block sums in pairs, so each number goes through only a few roundings.
#
# ## Where low precision rounds
#
# DeepSeek's V4.1 release rounds only at certain points, the *rounding boundaries*, and only to two formats. *bfloat16*
# (bf16) has 8 significant bits. *FP8* (E4M3) has 4, and each block of 32 channels shares a *scale*: the smallest power
# of two that keeps the block's largest magnitude in range, where a magnitude below $10^{-4}$ is replaced by $10^{-4}$.
# (The [next section](#fp8-from-its-bits) decodes FP8 from its bits.) Between the boundaries everything is float32. In
# this package, rounding is therefore a function, `round_bf16` or `requantise`, that is called at a boundary; no
# computation uses a lower-precision dtype.
#
# We use one narrow V4.1 module. From the array before each boundary we compute the array after it and check that it is
# bitwise equal to the package's array. We do this for ordinary rows and for *near-zero* rows, whose numbers are all
# smaller than $10^{-4}$.

# %%
v41, r = preset("deepseek-v4.1-flash"), ops.round_bf16
small = replace(v41, layer_ids=(1,), hidden_size=256, table_sizes=(997,) * 3, row_width=32)
plain = replace(small, rounding="none")
made = initialise(replace(plain, table_codec="fp32"), 1, rng, np.float32)
w32 = {name: r(a) if a.dtype == np.float32 else a for name, a in made.items()}
w32["table_codes"], w32["table_scales"] = ops.quantise(w32.pop("table"))     # to FP8
w64 = {name: a.astype(np.float64) if a.dtype == np.float32 else a for name, a in w32.items()}
token_ids = rng.integers(0, small.canonical_size, (1, 256))
rows = Addressing(small).rows(token_ids, layer_id=1)
H = r(rng.standard_normal((1, 256, small.n_branches, small.hidden_size)).astype(np.float32))

def staged(weights, H, config) -> dict[str, np.ndarray]:
    trace = Trace()
    residual(H, engram(weights, H, rows, config, trace=trace), config, trace=trace)
    return trace.arrays

def boundaries(weights) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The arrays before and after each rounding boundary of V4.1"""
    stages = staged(weights, H, small)
    # each array without its rounding
    memory = ops.gather_decode(weights, rows, plain, np.float32)
    unit = np.eye(small.memory_width, dtype=np.float32)  # identity weights: output equals input
    units = {"key_weight": [unit] * small.n_branches, "value_weight": unit}
    projected = ops.project(units, stages["memory"], small)[1]
    key, value = ops.project(weights, projected, plain)
    pairs = {"memory": (memory, stages["memory"]), "input": (stages["memory"], projected),
             "keys": (key, stages["key"]), "value": (value, stages["value"]),
             "new state": (H + stages["gated"], stages["residual"])}
    # rounding gives the package's arrays
    for name, (before, after) in pairs.items():
        rounded = ops.requantise(before, small.quantise_floor) if name == "input" else r(before)
        assert (rounded == after).all()
    # score, gate and gated value are not rounded
    score = ops.gate_score(weights, H, stages["key"], plain)
    gate = ops.gate(score, plain.gate_form)
    assert (stages["score"] == score).all() and (stages["gate"] == gate).all()
    assert (stages["gated"] == ops.apply_gate(gate, stages["value"])).all()
    return pairs

shape, scales = w32["table_codes"].shape, w32["table_scales"].copy()
scales[0::2], scales[1::2] = 98, 0                       # 2^-29 and 2^-127
codes = np.random.default_rng(1).integers(0, 0x7F, shape).astype(np.uint8)
near_zero = w32 | {"table_codes": codes, "table_scales": scales}
shares = {name: [(before != after).mean() for before, after in boundaries(chosen).values()]
          for name, chosen in (("ordinary", w32), ("near-zero", near_zero))}
names = list(boundaries(w32))
print("numbers changed", *map("{:>9}".format, names))
for name, changed in shares.items():
    print(f"{name + ' rows':15}", *map("{:9.0%}".format, changed))

# %% tags=["fold"]
assert 1e-4 == small.quantise_floor > abs(ops.gather_decode(near_zero, rows, plain, np.float32)).max()
assert small.memory_width == 768 and small.n_branches == 4
assert shares["ordinary"][:2] == [0, 0] and min(shares["ordinary"][2:]) > 0.9
assert min(shares["near-zero"][:2]) > 0.02
fig, ax = plt.subplots(figsize=(5.7, 3.6))
ax.set(xlim=(-1, 101), ylim=(-9, 50))
ax.axis("off")
for x, y, width, text in ((0, 34, 17, "table row\ncode × scale"), (28, 34, 14, "memory"),
                          (53, 34, 16, "projection\nsums: float32"), (85, 34, 15, "keys\nvalue"),
                          (79, 8, 21, "norms, score,\ngate: float32"), (50, 8, 17, "gate × value\nfloat32"),
                          (28, 8, 13, "sum\nfloat32"), (0, 8, 13, "new\nstate"), (56, -8, 20, "state, in bf16")):
    ax.add_patch(plt.Rectangle((x, y), width, 10 if y > 0 else 7, facecolor="none", edgecolor="C5", linewidth=1))
    ax.text(x + width / 2, y + (5 if y > 0 else 3.5), text, ha="center", va="center", fontsize=8)
for x0, y0, x1, y1 in ((17, 39, 28, 39), (42, 39, 53, 39), (69, 39, 85, 39), (95, 34, 95, 18), (88, 34, 62, 18),
                       (79, 13, 67, 13), (50, 13, 41, 13), (28, 13, 13, 13), (76, -4.5, 86, 8), (56, -4.5, 36, 8)):
    ax.annotate("", (x1, y1), (x0, y0), arrowprops={"arrowstyle": "->", "linestyle": "-", "color": "C5"})
percent = [f"{a:.0%} / {b:.0%}" for a, b in zip(*shares.values(), strict=True)]
assert percent[2] == percent[3]                            # equal for keys and value
marks = ((22.5, 39, "o", "bf16", percent[0]), (47.5, 39, "s", "FP8", percent[1]),
         (77, 39, "o", "bf16", percent[2]), (20.5, 13, "o", "bf16", percent[4]))
for number, (x, y, shape, form, changed) in enumerate(marks, 1):
    ax.plot(x, y, shape, color="C3" if form == "FP8" else "C1", markersize=13, markeredgecolor="none")
    ax.text(x, y, number, ha="center", va="center", fontsize=9, color="white", weight="bold")
    ax.text(x, y + 4, form, ha="center", va="bottom", fontsize=8)
    ax.text(x, y - 4, changed, ha="center", va="top", fontsize=7)
ax.set_title("V4.1 rounds at four points; two do not change ordinary rows")
fig.set_label(
    "The path from a table row to the new state, with four numbered roundings. 1: code times scale, giving the memory, "
    "in bf16. 2: the memory to FP8, as input of the projection. 3: keys and value to bf16. 4: state plus gate times "
    "value to the new state, in bf16. Norms, score, gate, product and sum are float32. Below each rounding: the "
    "fraction of numbers that it changes, for ordinary and for near-zero rows: " + "; ".join(
        f"{name} {share}" for name, share in zip(names, percent, strict=True)) + ".")

# %% [markdown]
# Below each mark is the fraction of numbers that the rounding changes, for ordinary and for near-zero rows. Roundings 1
# and 2 do not change ordinary rows. These rows come from FP8 with one scale per 32 channels, the same blocks that
# rounding 2 uses, so each number is exact in bf16, and quantising them again gives the same codes. A port without
# rounding 1 or 2 passes every test on such rows.
#
# Near-zero rows reveal both roundings. A block below $10^{-4}$ gets the scale for $10^{-4}$, which is too coarse: the
# block's numbers lose bits or become 0. Below $2^{-126}$, numbers are subnormal in bf16 and have fewer significant
# bits.
#
# A port that uses bf16 for *all* tensors rounds more often. Here is the same module with three kinds of rounding:

# %%
true, f32 = staged(w64, H.astype(np.float64), plain), staged(w32, H, plain)
every, gains = {"key": r(f32["key"])}, w32["query_gain"]           # every result rounded
query, key = (r(ops.rms_norm(x, gains, plain.norm_eps)) for x in (H, every["key"]))
every["score"] = r(ops.score(query, key))
every["gate"] = r(ops.gate(every["score"], plain.gate_form))
every["gated"] = r(ops.apply_gate(every["gate"], r(f32["value"])))
every["residual"] = r(H + every["gated"])
kinds = {"nothing": f32, "at the boundaries": staged(w32, H, small), "every result": every}

def median_error(array: np.ndarray, stage: str) -> float:     # relative to the size of the stage
    return float(np.median(abs(array - true[stage])) / np.sqrt(np.mean(true[stage] ** 2)))

errors = {kind: [median_error(stages[s], s) for s in every] for kind, stages in kinds.items()}
for kind, values in errors.items():
    print(f"{kind:17}", *(f"{s} {e:.0e} " for s, e in zip(every, values, strict=True)))

# %% tags=["fold"]
assert (gains == 1).all() and (w32["key_gain"] == 1).all()         # the gains of both norms
assert r(np.float32([1 + 2**-7, 1 + 2**-8])).tolist() == [1 + 2**-7, 1]      # 8 bits
unrounded, bounded, everywhere = errors.values()
is_bf16 = {stage: (r(x) == x).all() for stage, x in kinds["at the boundaries"].items()}
assert [stage for stage in is_bf16 if is_bf16[stage]] == ["memory", "key", "value", "residual"]
times = dict(zip(every, np.divide(everywhere, bounded), strict=True))
assert max(unrounded) < 1e-6 < 1e-4 < min(bounded)
assert times["key"] == 1 and 4 < times["gate"] < 6 and 1 < times["residual"] < 1.3
if TORCH:                                                # torch's bfloat16 is no better
    gain = tensor(gains).bfloat16()
    pair = (tensor(x).bfloat16() for x in (H, every["key"]))
    score = torch_ops.factored_score(*pair, gain, gain, plain.norm_eps)
    assert median_error(back(torch_ops.gate(score, plain.gate_form)), "gate") > 4 * bounded[2]
fig, ax = plt.subplots(figsize=(6.2, 2.9))
for marker, (kind, values) in zip("os^", errors.items(), strict=True):
    ax.semilogy(list(every), values, marker=marker, label=kind)
ax.set(ylabel="median relative error", ylim=(1e-8, 1e-2))
ax.set_title("Rounding every result increases the gate's error over fourfold")
ax.legend(loc="center right", title="rounded", fontsize=8)
fig.set_label("Median error of five stages, logarithmic. Nothing rounded: below 1e-6. At "
              "the boundaries: near 1e-3, the gate 2e-4. Every result: the gate 1e-3.")

# %% [markdown]
# If every result is rounded, the error of the gate is over four times as large. In the new residual stream the
# difference is small because the last rounding dominates. So such a port passes a loose test of the output. Compare the
# stages instead.
#
# ## FP8 from its bits
#
# The release's tables store one byte per number and a *scale* per 32 numbers. The byte, a code in the format
# *E4M3*, has a sign, four exponent bits $e$ and three mantissa bits $m$. A scale, *E8M0*, consists of an exponent $b$
# only.
#
# $$
# \begin{align*}
# \text{E4M3} &= \pm 2^{e-7}\,(1 + m/8), \quad \text{or } \pm 2^{-6}\, m/8 \text{ if } e = 0 \\
# \text{E8M0} &= 2^{b-127}
# \end{align*}
# $$
#
# By the formula, code `0x7F` would be $2^8 \cdot 1.875 = 480$. But in the variant that models use, E4M3*FN*, it means
# NaN, *not a number*; the largest number is 448, `0x7E`. To decode a code, shift its seven bits to the position of
# float32's exponent and mantissa, and correct for the different exponent biases.

# %%
codes, one = np.arange(256, dtype=np.uint8), np.full(8, 127, dtype=np.uint8)
wide = codes.astype(np.uint32)
number = ((wide & 0x80) << 24 | (wide & 0x7F) << 20).view(np.float32) * np.float32(2.0**120)
number[(codes & 0x7F) == 0x7F] = np.nan
np.testing.assert_array_equal(ops.dequantise(codes, one), number)
assert number[0x7E] == 448 and np.isnan(number[[0x7F, 0xFF]]).all() and 2**8 * 1.875 == 480
scales = ops.dequantise(np.full((256, 32), 0x38, np.uint8), codes[:, None])[:, 0]  # 0x38: 1
shifted = (wide << 23).view(np.float32)                  # the shortcut
wrong = codes[~((scales == shifted) | np.isnan(scales) & np.isnan(shifted))].tolist()
print(f"a shift alone is wrong for scales {wrong}: it gives {shifted[0]} and {shifted[255]}")
assert wrong == [0, 255] and scales[0] == 2.0**-127 and np.isnan(scales[255])
assert shifted[0] == 0 and np.isinf(shifted[255])
if TORCH:
    as_fp8 = tensor(codes).view(torch.float8_e4m3fn)
    np.testing.assert_array_equal(number, back(as_fp8.float()))
    np.testing.assert_array_equal(number, back(torch_ops.dequantise(tensor(codes), tensor(one))))

# %% [markdown]
# A scale byte has almost the same encoding as float32's exponent. But 0 means $2^{-127}$, which is *subnormal* in
# float32 (represented by mantissa bits), whereas shifting the byte there gives 0; 255 means NaN, whereas the shift
# gives infinity.
#
# ## Gradients by autograd
#
# torch records the computation and differentiates it (*autograd*), for any composition of ops. To check one derivative,
# move the state in a direction, $h + \tau d$, and let $F(\tau)$ be the sum of the gated values. The error of a central
# difference depends on the third derivative, which autograd can also compute:
#
# $$ \frac{F(\tau) - F(-\tau)}{2\tau} - F'(0) \;\approx\; \frac{\tau^2}{6}\, F^{(3)}(0) $$

# %%
if TORCH:
    memory = torch_ops.gather_decode(theirs, their_rows, tiny, torch.float64)[:1, :1]
    h, d = tensor(hidden[:1, :1]), tensor(hidden[1:, :1])
    F = lambda t: torch_ops.project_and_gate(theirs, memory, h + t * d, None, tiny).sum()
    t, tau = torch.zeros((), dtype=torch.float64, requires_grad=True), 1e-3
    slopes = [F(t)]
    for _ in range(3):
        slopes += torch.autograd.grad(slopes[-1], t, create_graph=True)
    error = ((F(t + tau) - F(t - tau)) / (2 * tau) - slopes[1]).item()
    expected = tau**2 / 6 * slopes[3].item()
    print(f"slope {slopes[1].item():.4f}; error of the difference {error:.3e}, expected {expected:.3e}")
    assert abs(error - expected) < 1e-4 * abs(expected) < abs(slopes[1].item())

# %% [markdown]
# The error agrees with the formula to within a relative difference of $10^{-4}$; the rest is due to higher-order terms
# and float64's rounding.
#
# ## On a CUDA device
#
# All functions run on CUDA unchanged. Three also have a *kernel*, a program for the GPU, written in Triton: `rows`
# computes [windows, mix and modulus](03_hash_by_hand.md) in one kernel; `dequantise` gathers FP8 rows and decodes them
# from bits; `gate` computes the score, root, sigmoid and gated value in the forms that V4.1 uses. The last two require
# float32. With a trace, autograd or `torch.compile`, torch's own operations are used instead. The pitfalls of these
# kernels can be shown without a GPU:
#
# - **Offsets need 64 bits.** A row index fits into 32 bits, but the index times 256 bytes does not.
# - **The modulus must be floored.** In C and Triton the result of `%` has the sign of the left operand, so a negative
#   mix gives a negative row. With V4.1's canonical ids no product reaches $2^{63}$; with raw ids, some products do and
#   wrap around.
# - **Division is slow**, particularly for 64-bit integers. So the kernel computes a *reciprocal* once per prime and
#   multiplies by it. The quotient is correct or too small by one, so one conditional subtraction corrects the
#   remainder.

# %%
for layer, count in Addressing(v41).table_rows.items():
    share = 1 - 2**31 / v41.row_width / count
    print(f"layer {layer}: {share:.1%} of {count:,} rows start beyond 2^31 bytes")
    assert v41.row_width == 256 and count < 2**31 and round(share, 2) == 0.98
top = max(int(m) for layer in Addressing(v41).multipliers.values() for m in layer)
assert top * (v41.canonical_size - 1) < 2**63 <= top * (v41.vocab_size - 1)
p, short = int(Addressing(v41).primes[1][0]), 0
mixes = rng.integers(-(2**63), 2**63, 10_000)
for x in mixes.tolist():
    y = ~x if x < 0 else x                               # ~x is -x - 1, never negative
    rest = y - (y * ((2**64 - 1) // p) >> 64) * p
    short += rest >= p
    rest -= p * (rest >= p)
    assert (p - 1 - rest if x < 0 else rest) == x % p    # Python's % is the floor modulus
print(f"{short:,} of {len(mixes):,} quotients were too small by one")
assert (ops.table_rows(mixes[None, :, None], np.array([p]))[0, :, 0] == mixes % p).all()

# %% [markdown]
# One test, `check_on`, works on all devices. It also works with Triton's *interpreter*, which runs kernels on a CPU,
# line by line.

# %%
def check_on(device: str) -> None:
    few, moved = slice(0, 6), torch_ops.tensors(w32, device)
    ids, state = tensor(token_ids[:, few], device=device), tensor(H[:, few], device=device)
    on_device = Addressing(small, ops=torch_ops).rows(ids, layer_id=1)
    memory = torch_ops.gather_decode(moved, on_device, small, torch.float32)
    output = engram(moved, state, on_device, plain, ops=torch_ops)
    np.testing.assert_array_equal(rows[:, few], back(on_device))
    np.testing.assert_array_equal(f32["memory"][:, few], back(memory))
    terms = small.memory_width + 3 * small.hidden_size
    Y_few = true["output"][:, few]
    assert abs(Y_few - back(output)).max() <= 2 * (terms + 16) * 2.0**-24 * abs(Y_few).max()
    how = "Triton's kernels" if kernels.usable(state) else "torch's operations"
    print(f"same result on {device} with {how}")

if TORCH:
    check_on("cpu")
    if torch.cuda.is_available():
        check_on("cuda")
    else:
        print("no CUDA device available")
    if INTERPRETED:
        with mock.patch.dict(os.environ, TRITON_INTERPRET="1"), np.errstate(all="ignore"):
            check_on("cpu")
            assert not kernels.usable(torch.ones(1, requires_grad=True))

# %% [markdown]
# No GPU timings are quoted here. If torch finds a CUDA device, `engram-ref bench` runs the benchmarks whose names begin
# with `cuda-`; each is compared with a copy of the same number of bytes on the device.
#
# ## Avoid synchronisation with the device
#
# A GPU processes a queue of operations while Python runs ahead. Python has to wait whenever it needs a *value*:
# `x.item()`, or `if x > 0`. `meta` tensors have shapes but no values, so reading one raises an error. And
# `torch.compile(fullgraph=True)` raises an error for code that it cannot trace as one graph (`backend="eager"` only
# traces).

# %%
if TORCH:
    def module(weights, hidden, rows, check=False):
        return engram(weights, hidden, rows, tiny, ops=torch_ops, check=check)

    given = theirs, tensor(hidden), their_rows
    meta = torch_ops.tensors(weights, "meta")
    empty = meta, *(x.to("meta") for x in given[1:])
    print("on meta tensors:", module(*empty).dtype, list(module(*empty).shape))
    assert_raises = TestCase().assertRaises
    assert_raises(RuntimeError, torch.ones((), device="meta").item)
    assert_raises(RuntimeError, bool, torch.ones((), device="meta"))
    assert_raises(RuntimeError, module, *empty, check=True)
    compiled = torch.compile(module, fullgraph=True, backend="eager")
    assert torch.equal(compiled(*given), their_Y)

# %% [markdown]
# `check=False` skips the input checks (ids in range, no NaN) because these checks read values.
#
# ## How torch and Triton differ
#
# - **Ties.** If [router scores](10_experts.md) are equal, the definition chooses the expert with the lower index; its
#   sort is *stable*. `torch.topk` specifies no order. Its result here is printed, not asserted.
# - **Triton's `%`** keeps the sign of the left operand, as explained above.
# - **Triton's interpreter** decodes `0x7F` as 480, so it gives a wrong result for a kernel that uses Triton's FP8
#   dtype.

# %%
if TORCH:
    score = tensor([[1.0, 1, 1, 1, 0, 0, 1, 1, 2, 2, 2, 2]])
    six = replace(config.backbone.experts, num_experts_per_tok=6, n_group=1, topk_group=1)
    best = torch_ops.select_experts(score, torch.zeros(12), six)
    print("stable", best.tolist(), " topk", torch.topk(score, 6).indices.tolist())
    assert best.tolist() == ops.select_experts(back(score), np.zeros(12), six).tolist()
    assert best.tolist() == [[8, 9, 10, 11, 0, 1]]
if INTERPRETED:
    with mock.patch.dict(os.environ, TRITON_INTERPRET="1"):
        @triton.jit
        def kernel(x, code, rest, number):
            tl.store(rest, tl.load(x) % 5)
            tl.store(number, tl.load(code).to(tl.float8e4nv, bitcast=True).to(tl.float32))

        rest, number = torch.zeros(1, dtype=torch.int64), torch.zeros(1)
        kernel[(1,)](tensor([-7]), tensor([0x7F], dtype=torch.uint8), rest, number)
    print("interpreter: -7 % 5 is", rest.item(), "and 0x7F is", number.item())
    assert rest.item() == -2 and -7 % 5 == 3 and number.item() == 480

# %% [markdown]
# ## Exercise
#
# A port stores byte offsets in signed 32-bit integers. What fraction of the rows of `engram-27b` can it not address?
#
# ??? tip "Hint"
#     `bytes_per_row` is the length of a row, `Addressing(...).table_rows` the number of rows.

# %% tags=["answer"]
paper = preset("engram-27b")
counts = Addressing(paper).table_rows.values()
lost = [1 - 2**31 / paper.bytes_per_row / count for count in counts]
print(f"{paper.bytes_per_row} bytes per row: {lost[0]:.1%} of each layer")
assert [round(share, 3) for share in lost] == [0.815, 0.815]

# %% [markdown]
# Next: [break a port, and let the kit find it](16_break_a_port.md).
