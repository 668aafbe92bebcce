# %% [markdown]
# # The same model on torch and CUDA
#
# ## What you will be able to do
#
# - run every model of this package on torch tensors, on any device, and say how equal the answers must be;
# - decode the FP8 numbers of a released table from their bits, with the codes that ports get wrong;
# - get gradients, and check one of them by its error law;
# - say what a GPU kernel must take care of, test one without a GPU, and keep a model from waiting for its device.

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
from engram_ref.oracle.compare import assert_close

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
    print("torch is not installed: what stands under `if TORCH:` needs `pip install torch`")

# %% [markdown]
# ## One composition, two namespaces
#
# A model's files here call no array library. They compose the functions of a namespace, `ops`. Given `engram_ref.ops`
# they compute with NumPy; given `engram_ref.backends.torch`, the same lines compute with torch. `tensors` takes the
# parameters over, `to_numpy` brings answers back. We use `tiny`, the smallest *preset* (named configuration).

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
    assert_close("rows", rows, back(their_rows), "exact")
    terms = tiny.memory_width + 2 * tiny.hidden_size
    assert_close("output", Y, back(their_Y), "f64", terms)
    print(f"{rows.size} rows equal, outputs {abs(Y - back(their_Y)).max():.0e} apart")

    config, ids = model_preset("tiny"), np.arange(4)                      # a whole model
    whole = tree.initialise(config, np.random.default_rng(0))
    logits = forward(torch_ops.tensors(whole), tensor(ids), config, ops=torch_ops)
    assert_close("logits", forward(whole, ids, config), back(logits), "model")

# %% [markdown]
# There are two kinds of number. Rows are *integers*: equal, or wrong. Outputs are *floats*: equal within a class. `f64`
# is a bound that follows from the length of the sums; `model` is a promise for a whole model, which has no simple one.
#
# ## What may differ, and what must not
#
# A float32 keeps 24 binary digits. An addition rounds by at most $u = 2^{-24}$ of its result, so the *order* of a sum
# decides its last digits, and a library picks the order that suits its device. Integer arithmetic wraps, but never
# rounds. Adding $n$ numbers one by one takes fewer than $n$ roundings; to first order in $u$ (Higham, *Accuracy and
# Stability*, ch. 4):
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
    for units, found in zip(worst.values(), sums, strict=True):
        units.append(abs(found.astype(np.float64) - exact).max() / exact / u)
    assert len(set(bits[orders].sum(axis=1).tolist())) == 1
    assert not TORCH or abs(tensor(x).sum().item() - exact) <= n * u * exact
print(f"{n:,} floats in 100 orders:", len(set(sums[0].tolist())), "sums; of integers, one")

# %% tags=["fold"]
assert np.finfo(np.float32).eps == 2 * u and len(set(sums[0].tolist())) > 20
assert all((np.array(units) < lengths).all() for units in worst.values())
assert max(worst["NumPy's sum"]) < 4 and worst["one by one"][-1] > 20
fig, ax = plt.subplots(figsize=(6.2, 2.9))
ax.loglog(lengths, lengths, "k--", label="bound: n", base=2)
for marker, (name, units) in zip("os", worst.items(), strict=True):
    ax.loglog(lengths, units, marker=marker, label=name, base=2)
ax.set(xlabel="n, positive numbers added", ylabel="worst error / (u sum)")
ax.set_title("Every order keeps the bound; adding in pairs hardly errs at all")
ax.legend()
fig.set_label("Worst error of 100 orders against the length of the sum, both logarithmic. "
              "One by one: grows, below the dashed bound. NumPy's sum: stays near 1.")

# %% [markdown]
# NumPy adds in blocks, and these in pairs, so a number goes through few additions.
#
# ## Where low precision rounds
#
# DeepSeek's V4.1 release rounds at named places only, its *boundaries*, and to two formats. *bfloat16* (bf16) has 8
# binary digits. *FP8* (E4M3) has 4, and each block of 32 channels shares a *scale*: the smallest power of two that
# keeps the block's largest number in range, where that number counts as at least $10^{-4}$. (The
# [next section](#fp8-from-its-bits) decodes FP8 from its bits.) Between the boundaries everything is float32. So here
# rounding is a function, `round_bf16` or `requantise`, called at a boundary, and never a dtype to compute in.
#
# Take one narrow V4.1 module. From the array before each boundary we compute the array after it, and compare that with
# what the package has there, to the last bit. We do it for ordinary rows, and for *faint* ones, whose numbers are all
# smaller than $10^{-4}$.

# %%
v41, r = preset("deepseek-v4.1-flash"), ops.round_bf16
small = replace(v41, layer_ids=(1,), hidden_size=256, table_sizes=(997,) * 3, row_width=32)
plain = replace(small, rounding="none")
made = initialise(replace(plain, table_codec="fp32"), 1, rng, np.float32)
w32 = {name: r(a) if a.dtype == np.float32 else a for name, a in made.items()}
w32["table_codes"], w32["table_scales"] = ops.quantise(w32.pop("table"))     # to FP8
w64 = {name: a.astype(np.float64) if a.dtype == np.float32 else a for name, a in w32.items()}
words = rng.integers(0, small.canonical_size, (1, 256))
rows = Addressing(small).rows(words, layer_id=1)
H = r(rng.standard_normal((1, 256, small.n_branches, small.hidden_size)).astype(np.float32))

def staged(weights, H, config) -> dict[str, np.ndarray]:
    trace = Trace()
    residual(H, engram(weights, H, rows, config, trace=trace), config, trace=trace)
    return trace.arrays

def boundaries(weights) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The arrays before and after each rounding on V4.1's path."""
    seen = staged(weights, H, small)
    # each array without its rounding
    memory = ops.gather_decode(weights, rows, plain, np.float32)
    unit = np.eye(small.memory_width, dtype=np.float32)  # as weights: hands its input on
    units = {"key_weight": [unit] * small.n_branches, "value_weight": unit}
    projected = ops.project(units, seen["memory"], small)[1]
    key, value = ops.project(weights, projected, plain)
    pairs = {"memory": (memory, seen["memory"]), "input": (seen["memory"], projected),
             "keys": (key, seen["key"]), "value": (value, seen["value"]),
             "new state": (H + seen["gated"], seen["residual"])}
    # rounded here, they are the package's own arrays
    for name, (before, after) in pairs.items():
        rounded = ops.requantise(before, small.quantise_floor) if name == "input" else r(before)
        assert (rounded == after).all()
    # score, gate and gated value are not rounded
    score = ops.gate_score(weights, H, seen["key"], plain)
    gate = ops.gate(score, plain.gate_form)
    assert (seen["score"] == score).all() and (seen["gate"] == gate).all()
    assert (seen["gated"] == ops.apply_gate(gate, seen["value"])).all()
    return pairs

shape, scales = w32["table_codes"].shape, w32["table_scales"].copy()
scales[0::2], scales[1::2] = 98, 0                       # 2^-29 and 2^-127
codes = np.random.default_rng(1).integers(0, 0x7F, shape).astype(np.uint8)
faint = w32 | {"table_codes": codes, "table_scales": scales}
shares = {name: [(before != after).mean() for before, after in boundaries(chosen).values()]
          for name, chosen in (("ordinary", w32), ("faint", faint))}
names = list(boundaries(w32))
print("numbers changed", *map("{:>9}".format, names))
for name, found in shares.items():
    print(f"{name + ' rows':15}", *map("{:9.0%}".format, found))

# %% tags=["fold"]
assert 1e-4 == small.quantise_floor > abs(ops.gather_decode(faint, rows, plain, np.float32)).max()
assert small.memory_width == 768 and small.n_branches == 4
assert shares["ordinary"][:2] == [0, 0] and min(shares["ordinary"][2:]) > 0.9
assert min(shares["faint"][:2]) > 0.02
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
assert percent[2] == percent[3]                            # keys and value, alike
marks = ((22.5, 39, "o", "bf16", percent[0]), (47.5, 39, "s", "FP8", percent[1]),
         (77, 39, "o", "bf16", percent[2]), (20.5, 13, "o", "bf16", percent[4]))
for number, (x, y, shape, form, changed) in enumerate(marks, 1):
    ax.plot(x, y, shape, color="C3" if form == "FP8" else "C1", markersize=13, markeredgecolor="none")
    ax.text(x, y, number, ha="center", va="center", fontsize=9, color="white", weight="bold")
    ax.text(x, y + 4, form, ha="center", va="bottom", fontsize=8)
    ax.text(x, y - 4, changed, ha="center", va="top", fontsize=7)
ax.set_title("V4.1 rounds in four places; ordinary rows show only two of them")
fig.set_label(
    "The path from a table row to the new state, with four numbered roundings. 1: code times scale to the memory, in "
    "bf16. 2: the memory to FP8, as input of the projection. 3: keys and value to bf16. 4: state plus gate times "
    "value to the new state, in bf16. Norms, score, gate, product and sum are float32. Under each rounding the share "
    "of numbers that it changes, for ordinary and for faint rows: " + "; ".join(
        f"{name} {share}" for name, share in zip(names, percent, strict=True)) + ".")

# %% [markdown]
# Under each mark is the share of numbers that the rounding changes, for ordinary rows and for faint ones. Ordinary rows
# pass 1 and 2 unchanged. They come from FP8 with a scale for the same 32 channels, so each of their numbers is a bf16
# number, and quantising them again gives the same codes. A port that leaves out 1 or 2 passes every test on such rows.
#
# Faint rows show both. A block below $10^{-4}$ gets the scale of $10^{-4}$, which is too coarse for it: its numbers
# lose digits or become 0. And below $2^{-126}$ bf16 itself runs out of digits.
#
# A port that makes *all* tensors bf16 rounds more often. The same module, rounded in three ways:

# %%
true, f32 = staged(w64, H.astype(np.float64), plain), staged(w32, H, plain)
every, gains = {"key": r(f32["key"])}, w32["query_gain"]           # every result rounded
query, key = (r(ops.rms_norm(x, gains, plain.norm_eps)) for x in (H, every["key"]))
every["score"] = r(ops.score(query, key))
every["gate"] = r(ops.gate(every["score"], plain.gate_form))
every["gated"] = r(ops.apply_gate(every["gate"], r(f32["value"])))
every["residual"] = r(H + every["gated"])
ways = {"nowhere": f32, "at the boundaries": staged(w32, H, small), "every result": every}

def typical(found: np.ndarray, stage: str) -> float:     # median error, relative
    return float(np.median(abs(found - true[stage])) / np.sqrt(np.mean(true[stage] ** 2)))

error = {way: [typical(stages[s], s) for s in every] for way, stages in ways.items()}
for way, found in error.items():
    print(f"{way:17}", *(f"{s} {e:.0e} " for s, e in zip(every, found, strict=True)))

# %% tags=["fold"]
assert (gains == 1).all() and (w32["key_gain"] == 1).all()         # one for both norms
assert r(np.float32([1 + 2**-7, 1 + 2**-8])).tolist() == [1 + 2**-7, 1]      # 8 digits
free, bounded, all_of_it = error.values()
at = {stage: (r(x) == x).all() for stage, x in ways["at the boundaries"].items()}
assert [stage for stage in at if at[stage]] == ["memory", "key", "value", "residual"]
times = dict(zip(every, np.divide(all_of_it, bounded), strict=True))
assert max(free) < 1e-6 < 1e-4 < min(bounded)
assert times["key"] == 1 and 4 < times["gate"] < 6 and 1 < times["residual"] < 1.3
if TORCH:                                                # with the dtype itself: no better
    gain = tensor(gains).bfloat16()
    pair = (tensor(x).bfloat16() for x in (H, every["key"]))
    score = torch_ops.factored_score(*pair, gain, gain, plain.norm_eps)
    assert typical(back(torch_ops.gate(score, plain.gate_form)), "gate") > 4 * bounded[2]
fig, ax = plt.subplots(figsize=(6.2, 2.9))
for marker, (way, found) in zip("os^", error.items(), strict=True):
    ax.semilogy(list(every), found, marker=marker, label=way)
ax.set(ylabel="typical error, relative", ylim=(1e-8, 1e-2))
ax.set_title("Rounding every result makes the gate more than four times worse")
ax.legend(loc="center right", title="rounded", fontsize=8)
fig.set_label("Typical error of five stages, logarithmic. Nothing rounded: below 1e-6. At "
              "the boundaries: near 1e-3, the gate 2e-4. Every result: the gate 1e-3.")

# %% [markdown]
# The gate errs over four times as much where every result is rounded. In the new residual stream little of that is
# left, for its own rounding covers it. So a loose test of the output lets such a port pass. Compare stages.
#
# ## FP8 from its bits
#
# The release's tables hold a byte a number and a *scale* for 32 numbers. A code, *E4M3*, has a sign, four exponent bits
# $e$ and three mantissa bits $m$. A scale, *E8M0*, is an exponent $b$ and nothing else.
#
# $$
# \begin{align*}
# \text{E4M3} &= \pm 2^{e-7}\,(1 + m/8), \quad \text{or } \pm 2^{-6}\, m/8 \text{ where } e = 0 \\
# \text{E8M0} &= 2^{b-127}
# \end{align*}
# $$
#
# Code `0x7F` would be $2^8 \cdot 1.875 = 480$ by the formula. But in the variant that models use, E4M3*FN*, it means
# NaN, *not a number*; the largest is 448, `0x7E`. To decode, shift seven bits to where float32 keeps exponent and
# mantissa, and correct for the exponents' different zero points.

# %%
codes, one = np.arange(256, dtype=np.uint8), np.full(8, 127, dtype=np.uint8)
wide = codes.astype(np.uint32)
number = ((wide & 0x80) << 24 | (wide & 0x7F) << 20).view(np.float32) * np.float32(2.0**120)
number[(codes & 0x7F) == 0x7F] = np.nan
assert_close("E4M3", ops.dequantise(codes, one), number, "exact")
assert number[0x7E] == 448 and np.isnan(number[[0x7F, 0xFF]]).all() and 2**8 * 1.875 == 480
scales = ops.dequantise(np.full((256, 32), 0x38, np.uint8), codes[:, None])[:, 0]  # 0x38: 1
shifted = (wide << 23).view(np.float32)                  # the short way
wrong = codes[~((scales == shifted) | np.isnan(scales) & np.isnan(shifted))].tolist()
print(f"wrong by a mere shift: scales {wrong}, {shifted[0]} and {shifted[255]}")
assert wrong == [0, 255] and scales[0] == 2.0**-127 and np.isnan(scales[255])
assert shifted[0] == 0 and np.isinf(shifted[255])
if TORCH:
    dtype, twin = tensor(codes).view(torch.float8_e4m3fn), torch_ops.dequantise
    assert_close("E4M3", number, back(dtype.float()), "exact")
    assert_close("E4M3", number, back(twin(tensor(codes), tensor(one))), "exact")

# %% [markdown]
# A scale byte is almost float32's exponent as it stands. But 0 means $2^{-127}$, a *subnormal* number (one that needs
# mantissa bits), where the shift gives 0. And 255 means NaN, where the shift gives infinity.
#
# ## Gradients for free
#
# torch records what it computes and differentiates it (*autograd*), through any composition. To check one slope, move
# the state along a direction, $h + \tau d$, and let $F(\tau)$ be the sum of what the gate lets in. A central difference
# misses the slope by a known amount, and autograd gives the third derivative as well:
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
    miss = ((F(t + tau) - F(t - tau)) / (2 * tau) - slopes[1]).item()
    law = tau**2 / 6 * slopes[3].item()
    print(f"slope {slopes[1].item():.4f}; missed by {miss:.3e}, as the law says: {law:.3e}")
    assert abs(miss - law) < 1e-4 * abs(law) < abs(slopes[1].item())

# %% [markdown]
# The law holds to a ten-thousandth; the rest is terms of higher order and float64's rounding.
#
# ## On a CUDA device
#
# All functions run there as they are. Three have a *kernel* as well, a program for the GPU, written in Triton: `rows`
# makes [windows, mix and modulus](03_hash_by_hand.md) in one go; `dequantise` gathers FP8 rows and decodes them from
# bits; `gate` makes score, root, sigmoid and gated value, in V4.1's forms. The last two want float32. A trace, autograd
# and `torch.compile` get torch's own operations. What a kernel must take care of can be seen without one:
#
# - **Offsets need 64 bits.** A row's number fits into 32, but not its number times 256 bytes.
# - **Modulus means floor.** In C and Triton `%` takes the sign of the left side, so a negative mix gives a negative
#   row. With V4.1's canonical ids no product reaches $2^{63}$; with raw ids some do, and wrap.
# - **Division is slow**, and for 64 bits most of all. So the kernel divides once for a prime and multiplies by this
#   *reciprocal*. The quotient is right or one too small, so one subtraction ends it.

# %%
for layer, count in Addressing(v41).table_rows.items():
    share = 1 - 2**31 / v41.row_width / count
    print(f"layer {layer}: of {count:,} rows {share:.1%} lie beyond 2^31 bytes")
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
print(f"of {len(mixes):,} quotients {short:,} were one too small")
assert (ops.table_rows(mixes[None, :, None], np.array([p]))[0, :, 0] == mixes % p).all()

# %% [markdown]
# One test serves all devices. It also serves Triton's *interpreter*, which runs kernels on a CPU, line by line.

# %%
def same_on(device: str) -> None:
    few, moved = slice(0, 6), torch_ops.tensors(w32, device)
    ids, state = tensor(words[:, few], device=device), tensor(H[:, few], device=device)
    found = Addressing(small, ops=torch_ops).rows(ids, layer_id=1)
    memory = torch_ops.gather_decode(moved, found, small, torch.float32)
    output = engram(moved, state, found, plain, ops=torch_ops)
    assert_close("rows", rows[:, few], back(found), "exact")
    assert_close("memory", f32["memory"][:, few], back(memory), "exact")
    terms = small.memory_width + 3 * small.hidden_size
    assert_close("output", true["output"][:, few], back(output), "f32", terms)
    how = "Triton's kernels" if kernels.usable(state) else "torch's operations"
    print(f"the same on {device} by {how}")

if TORCH:
    same_on("cpu")
    if torch.cuda.is_available():
        same_on("cuda")
    else:
        print("there is no CUDA device here")
    if INTERPRETED:
        with mock.patch.dict(os.environ, TRITON_INTERPRET="1"), np.errstate(all="ignore"):
            same_on("cpu")
            assert not kernels.usable(torch.ones(1, requires_grad=True))

# %% [markdown]
# No speed of a GPU is quoted here. `engram-ref bench` measures it where torch finds one: its rows C1 to C4, each beside
# the device's own copy of as many bytes.
#
# ## Never wait for the device
#
# A GPU works through a queue while Python runs ahead. Python has to wait where it needs a *value*: `x.item()`, or
# `if x > 0`. `meta` tensors have shapes and no values, so asking for one raises. And `torch.compile(fullgraph=True)`
# refuses what it cannot trace in one piece (`backend="eager"` traces and does no more).

# %%
if TORCH:
    def module(weights, hidden, rows, check=False):
        return engram(weights, hidden, rows, tiny, ops=torch_ops, check=check)

    given = theirs, tensor(hidden), their_rows
    meta = torch_ops.tensors(weights, "meta")
    empty = meta, *(x.to("meta") for x in given[1:])
    print("without a single value:", module(*empty).dtype, list(module(*empty).shape))
    refused = TestCase().assertRaises                    # that a call raises
    refused(RuntimeError, torch.ones((), device="meta").item)
    refused(RuntimeError, bool, torch.ones((), device="meta"))
    refused(RuntimeError, module, *empty, check=True)
    compiled = torch.compile(module, fullgraph=True, backend="eager")
    assert torch.equal(compiled(*given), their_Y)

# %% [markdown]
# `check=False` leaves out the checks at the door (ids in range, no NaN), for those do look at values.
#
# ## Where torch and Triton do otherwise
#
# - **Ties.** Of equal [router scores](10_experts.md) the definition takes the lower expert; it sorts *stably*.
#   `torch.topk` promises no order. What it does here is printed, not asserted.
# - **Triton's `%`** keeps the sign, as said.
# - **Triton's interpreter** decodes `0x7F` as 480, so a kernel that trusts its FP8 dtype is tested on a wrong number.

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
# A port keeps byte offsets in 32 bits. Which share of the rows of `engram-27b` does it lose?
#
# ??? tip "Hint"
#     `bytes_per_row` says how long a row is, `Addressing(...).table_rows` how many there are.

# %% tags=["answer"]
paper = preset("engram-27b")
counts = Addressing(paper).table_rows.values()
lost = [1 - 2**31 / paper.bytes_per_row / count for count in counts]
print(f"{paper.bytes_per_row} bytes a row: {lost[0]:.1%} of each layer")
assert [round(share, 3) for share in lost] == [0.815, 0.815]

# %% [markdown]
# This was the last tutorial. Next: [type your own text](type-your-own-text.md) and see which rows it reads, or
# [test your own port](../oracle/test-your-port.md) against the golden vectors.
