# %% [markdown]
# # Making it fast without changing a bit
#
# ## What you will be able to do
#
# - compute eight remainders at once without division, and prove that each is exact;
# - say under which conditions a sum of floats has the same bits with any number of threads;
# - replace a norm over 10,240 numbers with four factors, and judge a benchmark by ratios rather than times.
#
# ## The cost of computing rows
#
# The package has two implementations of its hot loops. `engram_ref.ops` is the definition, in NumPy.
# `engram_ref.backends.numba` contains the fast versions: Python functions of the same names, which Numba compiles to
# machine code. This page explains why they are fast and why their results are the same.
#
# Every token reads a row in every column of every layer, and a row index is a remainder: a [hash](03_hash_by_hand.md),
# the *mix*, modulo a prime.

# %%
import json
import textwrap
from fractions import Fraction
from unittest.mock import patch

import matplotlib.pyplot as plt
import numpy as np

from engram_ref import Addressing, ops, preset
from engram_ref.backends import numba as fast
from engram_ref.backends.numba import _threads, hashing
from engram_ref.backends.numba.conv import branch_factors
from engram_ref.backends.numba.vectors import modulus, sums
from engram_ref.bench.report import amount, heading, machine_text, newest

rng, paper = np.random.default_rng(14), preset("engram-27b")
for config in (paper, preset("deepseek-v4.1-flash")):
    layers, columns = len(config.layer_ids), config.columns
    print(f"{config.name}: {layers} x {columns} = {layers * columns} rows per token")
addressing = Addressing(paper)
primes = np.concatenate(list(addressing.primes.values()))
p = int(primes[0])
assert p == 2_262_409 and len(primes) == 32 and set(ops.__all__) <= set(fast.__all__)

# %% [markdown]
# A processor can multiply eight numbers with one instruction: they are stored in a *vector register*, each in its own
# *lane*. But x86 processors have no vector instruction for integer division; they divide 64-bit integers one at a time.
# So we replace the division with a multiplication.
#
# ## Step 1: multiply by 1/p
#
# The primes are fixed, so $1/p$ can be computed once, as a *double*: a 64-bit float with 53 significant bits. Then $q =
# \lfloor x \cdot 1/p \rfloor$ should be the quotient, and $x - qp$ the remainder. Does this work?

# %%
x = rng.integers(0, 2**63 - 1, 100_000, endpoint=True)
error = np.floor(x * (1 / p)).astype(np.int64) - x // p
bad = x[error != 0]
print(f"{bad.size} of {x.size:,} quotients are wrong. The first: x = {bad[0]},")
print(f"x // p = {bad[0] // p}, x % p = {bad[0] % p}, but x * (1/p) = {bad[0] * (1 / p)}")
assert 0 < bad.size < 100 and (p - bad % p).max() < 2000
assert int(float(bad[0])) != bad[0] and Fraction(1 / p) != Fraction(1, p)
errors = [np.floor(x * (1 / d)).astype(np.int64) - x // d for d in primes]
assert set(np.unique(errors)) == {-1, 0, 1}

# %% [markdown]
# The quotient is wrong in rare cases, and only by one. In these cases the remainder is almost $p$: $x$ is just below a
# multiple of $p$. Both $1/p$ and $x$, which does not fit into 53 bits, were rounded, and the combined error pushed the
# product past the next integer. With other primes of the preset the quotient can also be too small. So the product is a
# good approximation of the quotient. We will round it to the *nearest* integer instead, show that the error is less
# than one, and correct the remainder.
#
# ## Step 2: a float whose bits contain the quotient
#
# Between $2^{52}$ and $2^{53}$ the doubles are exactly the integers. So if we add $1.5 \cdot 2^{52}$ to a smaller
# number, the sum is rounded to an integer, and the low bits of its *bit pattern* are that integer, so no conversion is
# needed. A *fused multiply-add* computes $ab + c$ with a single rounding, in one instruction for eight lanes. Together:
#
# $$
# \begin{align*}
# t &= \mathrm{fma}\big(\mathrm{double}(x),\ 1/p,\ 1.5 \cdot 2^{52}\big) \\
# q &= \text{low 32 bits of } t
# \end{align*}
# $$
#
# NumPy has no fused multiply-add. But Python's fractions are exact, and `float` rounds them once:

# %%
SHIFT = 1.5 * 2.0**52
BITS = int(np.float64(SHIFT).view(np.int64))

def fma(a: float, b: float, c: float) -> float:
    return float(Fraction(a) * Fraction(b) + Fraction(c))

def patterns(x: np.ndarray, p: int) -> np.ndarray:
    """Bit patterns of t for every x, int64"""
    return np.array([fma(float(v), 1 / p, SHIFT) for v in x.tolist()]).view(np.int64)

print(f"1.5 * 2^52 alone: {BITS:#x}")
some = np.array([7 * p + 3, -2 * p + 5, bad[0]])
for v, bits in zip(some.tolist(), patterns(some, p).tolist(), strict=True):
    q = bits - BITS
    print(f"x {v:19}   t {bits:#x}   q {q:13}   x - qp {v - q * p:4}")
    assert abs(q - Fraction(v, p)) < 1
assert (patterns(some, p) - BITS).tolist()[:2] == [7, -2]
assert np.spacing(2.0**52) == 1 == np.spacing(2.0**53 - 1) and SHIFT == modulus.SHIFT

# %% [markdown]
# The first $t$ ends in 7. The second ends in `fffe`, which is $-2$ in *two's complement*, the usual representation of
# signed integers. The factor 1.5 leaves room for positive and negative quotients.
#
# ## Step 3: min(r, r + p)
#
# With the nearest quotient, $r = x - qp$ is between $-p$ and $p$. If it is negative, $p$ must be added. To avoid a
# branch, compute with 32 bits, that is, modulo $2^{32}$, and interpret the result as *unsigned*. A negative $r$ is then
# a large number, larger than $r + p$. So the smaller of $r$ and $r + p$ is the remainder.

# %%
def modulo(x: np.ndarray, p: int) -> np.ndarray:
    """x mod p; 32-bit arithmetic after the quotient"""
    q = (patterns(x, p) - BITS).astype(np.uint32)        # keeps the low 32 bits
    r = x.astype(np.uint32) - q * np.uint32(p)           # wraps around
    return np.minimum(r, r + np.uint32(p))

near = [m * p + d for m in (7, -7, 2**40, 2**63 // p) for d in (-1, 0, 1)]
probes = np.array([*near, 2**63 - 1, -(2**63), *rng.integers(-(2**63), 2**63 - 1, 2000)])
assert modulo(probes, p).tolist() == [v % p for v in probes.tolist()]    # Python's integers
for eight in primes.reshape(4, 8):                       # compiled
    rows = fast.table_rows(probes.reshape(1, -1, 1), eight)[0]
    assert rows.tolist() == [[v % d for d in eight.tolist()] for v in probes.tolist()]
assert modulus.WIDTH == paper.n_heads == 8
r = np.array([-5]).astype(np.uint32)
print(f"as unsigned, r = -5 is {r[0]:,} and r + p is {(r + np.uint32(p))[0]:,}")

# %% [markdown]
# `fast.table_rows` does the same with vector instructions, one lane per column: each n-gram length has eight columns.
# For all 32 primes it agrees with Python's integers.
#
# ## The proof
#
# Testing two thousand of the $2^{64}$ values proves little, but there is a short proof. It covers every 64-bit $x$ and
# all $p$ with $2^{12} < p < 2^{31}$; for other primes the package uses division.
#
# 1. **The relative error before the addition is below $2u$.** Rounding to a double changes a number by a relative error
#    of at most $u / (1 + u)$, where $u = 2^{-53}$. $x$ and $1/p$ are rounded; their product is not, since the fused
#    multiply-add computes it exactly. So the number added to $1.5 \cdot 2^{52}$ is $\frac{x}{p}(1 + e)$ with $|e| <
#    2u$.
# 2. **The absolute error is below 1/2.** The quotient is largest for the smallest $p$: $|x| / p \le 2^{63} / 4097$,
#    which is below $2^{51}$. And $2u \cdot 2^{51} = 1/2$.
# 3. **So the error of $q$ is less than one.** The sum differs from $1.5 \cdot 2^{52}$ by less than $2^{51}$, so it is
#    between $2^{52}$ and $2^{53}$. There, rounding to the nearest integer adds an error of at most 1/2.
# 4. **32 bits suffice.** $q$ may have 51 bits. But by 3, $x - qp$ is strictly between $-p$ and $p$, and $p < 2^{31}$. A
#    number in this range is determined by its value modulo $2^{32}$, which depends only on the low halves of $x$, $q$
#    and $p$. The low half of $t$ equals that of $q$ because the low half of $1.5 \cdot 2^{52}$ is zero.
# 5. **The minimum is correct.** If $r \ge 0$, then $r + p < 2^{32}$ does not wrap and is larger than $r$. If $r < 0$,
#    its unsigned value is more than $2^{31}$, and $r + p < 2^{31}$ is smaller.
# 6. **Negative $x$ are covered.** No step depends on the sign of $x$. The result is in $[0, p)$, like that of `%`.

# %%
u, (low, high) = Fraction(1, 2**53), modulus.FAST_PRIMES
share, largest = u / (1 + u), Fraction(2**63, low + 1)
assert all(abs(Fraction(1 / d) * d - 1) <= share for d in primes.tolist())           # 1
assert all(abs(Fraction(float(v)) / v - 1) <= share for v in probes.tolist() if v)
assert (1 + share) ** 2 - 1 < 2 * u
print(f"p > {low}: quotients below {float(largest / 2**51):.5f} * 2^51, "
      f"error at most {float(2 * u * largest):.5f}")
assert (low, high) == (2**12, 2**31)                                                 # 2
assert 2 * u * largest < Fraction(1, 2) == 2 * u * 2**51
assert int(SHIFT) - 2**51 == 2**52 and int(SHIFT) + 2**51 == 2**53                   # 3
assert largest * (1 + 2 * u) < 2**51 and BITS % 2**32 == 0                           # 3, 4
assert (high - 1) + (high - 1) < 2**32 and 2**32 - (high - 1) > 2**31                # 5
least = next(d for d in range(low, high) if ops.is_prime(d))
for d in (least, high - 1):                              # both ends of the range
    ends = np.array([m * d + s for m in (2**63 // d, -(2**63 // d)) for s in (-1, 0, 1)])
    assert modulo(ends, d).tolist() == [v % d for v in ends.tolist()]                # 6
assert least == 4099 and ops.is_prime(high - 1)

# %% [markdown]
# The proof bounds the error of the quotient by 1. How large is the actual error? For a prime of the paper's tables,
# almost all of it is due to the last rounding. For the smallest prime allowed the error is slightly larger. And 997,
# the first prime of the preset `tiny`, is too small: its quotients exceed $2^{51}$.

# %% tags=["fold"]
draws = np.sort(rng.integers(0, 2**63 - 1, 1200))
tiny = int(Addressing(preset("tiny")).primes[1][0])
exceeds, worst, wrong = draws / tiny > 2**51, {}, {}
fig, axes = plt.subplots(3, 1, figsize=(5.6, 5), sharex=True)
for ax, d, colour in zip(axes, (p, 4099, tiny), ("C0", "C2", "C1"), strict=True):
    pairs = zip((patterns(draws, d) - BITS).tolist(), draws.tolist(), strict=True)
    error = np.array([float(q - Fraction(v, d)) for q, v in pairs])
    worst[d], wrong[d] = abs(error).max(), modulo(draws, d) != draws % d
    print(f"p {d:9,}: error up to {worst[d]:.3g}, {wrong[d].mean():.0%} of remainders wrong")
    ax.plot(draws / 2**63, error, ".", markersize=2.5, color=colour)
    ax.axhspan(-1, 1, color="C5", alpha=0.15, linewidth=0)
    ax.set(ylim=(-1.2, 1.2), ylabel="q - x/p")
    ax.set_title(f"p = {d:,}", fontsize=9)
axes[2].set_yscale("symlog", linthresh=1)
axes[2].set(ylim=(-1e16, 1e16), yticks=[-1e15, 0, 1e15], xlabel="x / 2^63")
axes[2].axvline(tiny * 2**51 / 2**63, color="C3", linestyle=":")
axes[2].text(0.26, 1e5, "x/p exceeds 2^51", fontsize=9)
fig.suptitle("The error is below one unless the prime is too small", x=0.02, ha="left")
fig.set_label("Error of the quotient against x for three primes. For 2262409 it stays below "
              "about 0.5, for 4099 below about 0.6. For 997 it is equally small up to a quarter of the "
              "range; from there on it is about minus ten to the fifteenth.")
assert 0.49 < worst[p] < 0.5 + 2 * u * Fraction(2**63, p) < 0.501
assert 0.55 < worst[4099] < 0.65 and not wrong[p].any() and not wrong[4099].any()
assert tiny == 997 and 1e15 < worst[tiny] < 1e16
assert not wrong[tiny][~exceeds].any() and wrong[tiny][exceeds].mean() > 0.99

# %% [markdown]
# With 997 every remainder is correct as long as the quotient is at most $2^{51}$. Beyond that the sum is outside
# $[2^{52}, 2^{53}]$, the low bits of its pattern are no longer $q$, and remainders are correct only by chance.
#
# ## A block at a time
#
# The definition computes one array after another, each as long as the text. The arrays of a long text do not fit into
# the *cache*, the small and fast memory inside the processor. The fast version processes 512 tokens through all five
# steps (canonical ids, visible counts, windows, mixes, rows) and then reuses the same small arrays for the next 512.
#
# The visible counts need care. An n-gram must not extend across a *barrier*: a dead token, or the token that ended the
# previous document (EOS). The definition checks every shift at every position. The fast version *counts*, in one pass,
# how many ids of its window each position may use: the count increases by one per token, is 0 at a dead token, and
# restarts from 0 *after* an EOS, whose own window still includes its document. The windows contain the fill in place
# of the other ids; the fill is the EOS if the dialect has one.

# %%
lines = paper.max_ngram + len(paper.layer_ids) * (paper.max_ngram - 1)  # windows, mixes
block = lines * (hashing.BLOCK + hashing.PADDING) * 8
print(f"a block: {block:,} bytes; 2^19 tokens at once: {2**19 * lines * 8:,}")
assert hashing.BLOCK == 512 and block < 32 * 1024 < 2**19 * lines * 8 / 800

EOS, PAD, N = 9, 2, 3                # with an EOS, the pad is not used
ids = np.array([[5, 6, ops.DEAD, 7, 8, EOS, 4, 3]])
history = np.array([[ops.DEAD, 1]])                      # one token before these
line = [*history[0].tolist(), *ids[0].tolist()]
count, counts, windows = 0, [], []
for t, token in enumerate(line):
    count = 0 if token == ops.DEAD else count + 1  # visible counts
    counts.append(count)
    windows.append([line[t - i] if count > i else EOS for i in range(N)])  # windows
    count = 0 if token == EOS else count
    if t >= N - 1:
        print(f"token {token:2}  count {counts[-1]}  window {windows[-1]}")
assert counts[N - 1:] == [2, 3, 0, 1, 2, 3, 1, 2]
assert windows[N - 1:] == ops.windows(ids, history, PAD, EOS)[0].tolist()

# %% [markdown]
# ## The same bits with any number of threads
#
# A large input is split into ranges of tokens that are distributed over threads. (The input below is small and is split
# only because the cell lowers the threshold.) A thread that starts in the middle reads the $N - 1$ tokens before its
# range from the input. No thread depends on another thread's result, so the split does not affect the output:

# %%
text = rng.integers(-1, 50, (3, 1500))                   # -1 is DEAD, 9 ends a document
start = np.full((3, 2), ops.DEAD)
constants = (addressing.multipliers[2], addressing.primes[2], None, PAD, EOS)
defined = ops.address(text, start, *constants)           # windows, mixes, rows
for count in (1, 2, 5):
    with fast.threads(count), patch.object(_threads, "MIN_PARALLEL_BYTES", 0):
        assert fast.address(text, start, *constants).tobytes() == defined.tobytes()
assert ops.DEAD == -1

a, b, c = np.float32(2**24), np.float32(1), np.float32(1)
print(f"(a + b) + c = {(a + b) + c:.0f},  a + (b + c) = {a + (b + c):.0f}")
assert (a + b) + c == 2**24 and a + (b + c) == 2**24 + 2

# %% [markdown]
# The last line shows that a sum of floats depends on the order of its additions. A sum that is split between threads
# changes with the number of threads. Here every sum belongs to one token and is never split. The order of additions is
# also specified, not left to the compiler: lane $i$ adds the elements $i$, $i + 16$, $i + 32$ and so on (a vector has
# 16 float32 lanes), then one half of the lanes is added to the other until one lane is left. Do the bits of the
# package's norm match this order?

# %%
def norm(x: np.ndarray, total: np.float32) -> np.ndarray:
    return x * (np.float32(1) / np.sqrt(total / np.float32(x.size)))

vectors = rng.integers(-127, 128, (600, 64)) * 2.0 ** rng.integers(-3, 4, (600, 64))
vectors, ones = vectors.astype(np.float32), np.ones(64, np.float32)      # exact squares
normed, same = fast.rms_norm(vectors, ones, 0.0), {"by lane": 0, "left to right": 0}
for v, y in zip(vectors, normed, strict=True):
    same["by lane"] += norm(v, sums.lane_sum(v * v, 64)).tobytes() == y.tobytes()
    same["left to right"] += norm(v, np.cumsum(v * v)[-1]).tobytes() == y.tobytes()
print("of 600 vectors, bitwise equal when summed", same)
assert same["by lane"] == 600 > same["left to right"] + 100 and sums.BYTES // 4 == 16
for count in (1, 3):
    with fast.threads(count), patch.object(_threads, "MIN_PARALLEL_BYTES", 0):
        assert fast.rms_norm(vectors, ones, 0.0).tobytes() == normed.tobytes()
exact = ops.rms_norm(vectors.astype(float), ones, 0.0)
assert abs(normed - exact).max() <= 2 * (64 + 16) * 2.0**-24 * abs(exact).max()       # 64 products per sum

# %% [markdown]
# So the title holds with a qualification. Integers are bitwise equal to the definition. Floats agree with it within
# stated tolerances, and are bitwise equal for any number of threads.
#
# ## Four numbers instead of 10,240
#
# [The convolution](06_short_conv.md) reads $\mathrm{RMSNorm}(\alpha v)$: one value $v$ of $D$ numbers, and a gate
# $\alpha$ for each of $M$ branches. The definition computes $M \cdot D$ normalised numbers per token. But a gate is one
# number, so it can be moved out of the mean:
#
# $$
# \begin{align*}
# \mathrm{mean}\big((\alpha v)^2\big) &= \alpha^2\, \mathrm{mean}(v^2) \\
# \mathrm{RMSNorm}(\alpha v) &= f v \\
# f &= \frac{\alpha}{\sqrt{\alpha^2\, \mathrm{mean}(v^2) + \varepsilon}}\,
# \end{align*}
# $$
#
# This takes one mean per token, then one factor per branch. (The learned gain is merged into the convolution's
# weights.) Note that $\varepsilon$ is *not* multiplied by $\alpha^2$. If it were, $\alpha$ would cancel, and a closed
# gate would have the same effect as an open one. The last column shows that mistake.

# %%
M, D, eps = paper.n_branches, paper.hidden_size, paper.conv_norm_eps
alpha, v = np.array([[1.0, 0.1, 0.001, 1e-5]]), rng.standard_normal((1, D))
square = (v**2).mean(axis=1, keepdims=True)
f = branch_factors(alpha, square, eps)[0]
cancelled = (alpha / (alpha * np.sqrt(square + eps)))[0]
for m in range(M):
    y = ops.rms_norm(alpha[0, m] * v, np.ones(D), eps)
    print(f"gate {alpha[0, m]:6}  size {y.std():.3f}  by f {(f[m] * v).std():.3f}  "
          f"epsilon scaled {(cancelled[m] * v).std():.3f}")
    assert np.allclose(f[m] * v, y, rtol=1e-12, atol=0)
assert M * D == 10_240 and M == 4 and f[3] < 0.01 and min(cancelled * v.std()) > 0.99

# %% [markdown]
# ## Benchmark results
#
# Timings depend on the machine and its load. So the benchmark, `engram-ref bench`, runs two variants alternately and
# reports a ratio. The ratio to a *baseline*, a plain program for the same task, shows how many times as fast the
# package is. The ratio to a *limit*, a run of only the unavoidable bytes or operations (for example, just filling the
# output), shows what fraction of the machine's capability the package reaches. The following cells show the newest
# result that ships with the package, and the machine on which it was measured:

# %%
result = json.loads(newest().read_text(encoding="utf-8"))
assert {"rows-bulk", "rows-v4.1", "gather", "conv"} <= {row["row"] for row in result["rows"]}
assert not result["quick"], "small sizes (--quick) do not measure speed"
print(textwrap.fill(f"{result['date']}: {machine_text(result)}", 88))

# %% tags=["fold"]
measured = {metric: [(row, c) for row in result["rows"] for c in row["comparisons"]
                     if (c["metric"], c["of"]) == (metric, "engram_ref") and c["median"]]
            for metric in ("speedup", "limit")}
sizes, counts, words = [len(cases) for cases in measured.values()], [], []
fig, axes = plt.subplots(2, 1, figsize=(6.2, 0.38 * sum(sizes) + 1.2), height_ratios=sizes)
for i, (metric, cases) in enumerate(measured.items()):
    for row, c in cases:                                 # ratios agree with the medians
        theirs, ours = (row["variants"][c[name]]["median"] for name in ("against", "of"))
        assert 0.5 < c["median"] / (theirs / ours) < 2, f"{row['row']}: not the ratio of its medians"
    values, goals = np.array([(c["median"], c["goal"]) for _, c in cases], dtype=float).T
    texts = [amount(metric, value) for value in values]
    names = [f"{heading(row)}\n{c['against']}" for row, c in cases]
    ax, places = axes[i], range(len(cases))
    ax.barh(places, values, 0.65, color=("C0", "C2")[i])
    ax.plot(goals, places, "|", color="C1", markersize=10, markeredgewidth=2.5)
    ax.axvline(1, color="C5", linewidth=1, linestyle="-")
    ax.set_yticks(places, names, fontsize=7)
    low, high = min(0.5, *values) / 1.5, np.nanmax([1, *values, *goals]) * 1.3
    ticks = [t for t in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if low < t < high]
    ax.set(xscale="log", xlim=(low, high), ylim=(len(cases) - 0.4, -0.6),
           xlabel=("times as fast as the baseline", "fraction of the limit")[i])
    ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
    ax.minorticks_off()
    for y, text in enumerate(texts):
        ax.text(1.01, y, text, fontsize=8, va="center", transform=ax.get_yaxis_transform())
    counts.append(f"{(values >= (1, 0.5)[i]).sum()} of {len(cases)}")
    words += [f"{name}: {text}".replace("\n", ", against ") for name, text in zip(names, texts, strict=True)]
title = f"Faster in {counts[0]} cases; at half the limit or more in {counts[1]}"
fig.suptitle(title, x=0.02, ha="left")
fig.set_label("Bar charts of the ratios to baselines and of the fractions of limits. " + "; ".join(words) + ".")

# %% [markdown]
# Orange marks show the project's goals. [The performance page](../reference/performance.md) describes each row. The
# limit of "rows, V4.1 layout" is one division per row; the kernel does not divide, so it can exceed that limit.
#
# ## Exercise
#
# Make the method fail at both ends: with 4093, the largest prime below $2^{12}$, and with a prime above $2^{31}$. What
# are the smallest $x$ and the smallest $p$ for which it can fail?
#
# ??? tip "Hint"
#     Step 2 of the proof uses 4097. For a large $p$ the error is hardly more than 1/2, so $|r|$ is hardly more than
#     $p/2$. When does $r + p$ wrap?

# %% tags=["answer"]
def fails(values: list[int], d: int) -> list[bool]:
    remainders = modulo(np.array(values), d).tolist()
    return [r != v % d for r, v in zip(remainders, values, strict=True)]

limit, large = 4093 * 2**51, next(d for d in range(2**33 // 3 + 1, 2**32) if ops.is_prime(d))
assert fails([limit - 1, 1 - limit, limit + 10**5, -(2**63)], 4093) == [0, 0, 1, 1]
assert not any(fails(probes.tolist(), 2**31 + 11)) and fails([large // 2], large) == [1]
assert all(map(ops.is_prime, (4093, 2**31 + 11)))
print(f"4093 fails from x = {limit:,} upwards: {1 - limit / 2**63:.2%} of all x")
print(f"{large:,} fails, with {large // 2:,}")

# %% [markdown] tags=["answer"]
# With 4093 only the largest quotients exceed $2^{51}$: random tests are unlikely to find these cases, but the proof
# reveals them. At the other end, $r + p$ can wrap if $p$ is above two thirds of $2^{32}$. Between $2^{31}$ and that
# bound the samples tested here are correct, but the proof does not cover them.

# %% [markdown]
# Next: [the same model on torch and CUDA](15_torch_and_cuda.md).
