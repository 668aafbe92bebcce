# %% [markdown]
# # Collisions, heads and primes
#
# ## What you will be able to do
#
# - predict how many n-grams of a text share a row in a table of any size;
# - explain the effect of several heads, how many are enough, and why their sizes should be distinct primes;
# - choose a table size for a given number of n-grams, and interpret the sizes of the released models;
# - assess the claim that "a table of size 1 works as well".
#
# ## Real n-grams
#
# The [previous tutorial](03_hash_by_hand.md) computed one large number, the *mix*, from an n-gram; each *head* takes
# the mix modulo the size of its own table. A **collision** occurs when two different n-grams read the same row. We
# count collisions among the 3-grams of the help pages that ship with Python, with the multipliers of
# DeepSeek-V4.1-Flash (V4.1).

# %%
import dataclasses
import math
import pydoc_data.topics

import matplotlib.pyplot as plt
import numpy as np

from engram_ref import Addressing, Trace, Vocabulary, engram, ops, preset, presets
from engram_ref.model.engram_parameters import initialise

flash = preset("deepseek-v4.1-flash")
layer, addressing = flash.layer_ids[0], Addressing(flash)
vocabulary, topics = Vocabulary.load("deepseek-v4"), pydoc_data.topics.topics
text = "\n".join(topics[name] for name in sorted(topics))
ids = vocabulary.canonical[vocabulary.encode(text)]

windows = ops.windows(ids[None], addressing.start(1), addressing.pad_id)  # [1, T, 4]
every_mix = ops.mix(windows, addressing.multipliers[layer])[0]  # [T, orders 2, 3, 4]
three_grams = every_mix[:, 1]                                   # [T]
mixes, reads = np.unique(three_grams, return_counts=True)       # how often each is read
G = len(mixes)
print(f"{len(ids):,} tokens, {G:,} different 3-grams; the most frequent occurs {reads.max()} times")
assert G == len(np.unique(windows[0, :, :3], axis=0)) > 30_000  # no two share a mix

# %% [markdown]
# ## One head: the birthday problem
#
# N-grams share rows the way people in a room share birthdays. With $G$ different n-grams and $R$ equally likely rows,
#
# $$
# \begin{align*}
# \text{fraction of n-grams in shared rows} &= 1 - \left(1 - \frac{1}{R}\right)^{G-1} \approx 1 - e^{-G/R} \\
# \text{expected number of colliding pairs} &= \frac{G(G-1)}{2R}
# \end{align*}
# $$
#
# The result depends on the **load** $G/R$, the number of n-grams per row. The formula assumes random rows; text and
# hash are not random, so we measure.

# %%
def rows_of(mixes: np.ndarray, sizes: list[int]) -> np.ndarray:
    """Row of each n-gram in one head per size: [G, heads]"""
    return ops.table_rows(mixes[None, :, None], np.array(sizes))[0]


def expected_sharing(n_grams: float, rows: float) -> float:
    """Expected fraction of n-grams in shared rows, by the formula"""
    return -math.expm1((n_grams - 1) * math.log1p(-1 / rows))


def shares_row(mixes: np.ndarray, size: int) -> np.ndarray:
    """Whether each n-gram shares its row in a table of this size, counted: bool [G]"""
    rows = rows_of(mixes, [size])[:, 0]
    return np.bincount(rows, minlength=size)[rows] > 1


loads = np.array([1 / 32, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4])
sizes = [int(ops.table_primes((round(G / load),), 1, 1)[0, 0]) for load in loads]
measured = np.array([shares_row(mixes, size).mean() for size in sizes])
formula = np.array([expected_sharing(G, size) for size in sizes])
for i, load in enumerate(loads):
    print(f"load {load:5.3f}: {sizes[i]:9,} rows   measured {measured[i]:6.1%}"
          f"   formula {formula[i]:6.1%}")
assert abs(measured - formula).max() < 0.01

# %% tags=["fold"]
fig, ax = plt.subplots(figsize=(6.2, 2.9))
fine = np.geomspace(loads[0], loads[-1], 100)
ax.semilogx(fine, 1 - np.exp(-fine), color="C0", label="formula")
ax.semilogx(loads, measured, "s", color="C1", label="3-grams of real text")
ax.set(xlabel="load: different n-grams per row", ylabel="fraction in shared rows", ylim=(0, 1.03),
       title="Real n-grams collide as often as random rows would")
ax.set_xticks(loads, ["1/32", "1/8", "1/4", "1/2", "1", "2", "4"])
ax.minorticks_off()
ax.legend()
fig.set_label("Fraction of n-grams that share their row, against the load from 1/32 to 4. The measured points lie on "
              "the formula's curve: 3 percent at load 1/32, 63 percent at load 1, 98 percent at load 4.")
assert abs(measured[[0, 4, 6]] - [0.03, 0.63, 0.98]).max() < 0.01

# %% [markdown]
# ## Several heads: joint collisions
#
# The rows of $k$ heads are remainders of the same mix. By the **Chinese remainder theorem**, these remainders together
# determine exactly the remainder of the mix modulo the *least common multiple* (lcm) of the $k$ sizes. So for two
# n-grams with mixes $\mathrm{mix}$ and $\mathrm{mix}'$,
#
# $$
# \text{they collide in all } k \text{ heads}
# \iff \mathrm{lcm}(p_1, \dots, p_k) \text{ divides } \mathrm{mix} - \mathrm{mix}'
# $$
#
# If all sizes are equal, the lcm is that size, and further heads add nothing. If the sizes have common factors, the lcm
# grows a little with each head. If the sizes are distinct primes, the lcm is their product: each head divides the
# number of pairs that still collide by its table size.

# %%
def collisions(keys: np.ndarray) -> int:
    """Number of pairs of n-grams with equal keys; keys [G] or [G, heads]"""
    counts = np.unique(keys, axis=0, return_counts=True)[1]
    return int((counts * (counts - 1) // 2).sum())


schemes = {"one size": [1_009] * 4, "common factors": [1_000, 1_200, 1_500, 1_800],
           "distinct primes": ops.table_primes((1_000,), 4, 1)[0].tolist()}
joint, expected = {}, {}
for name, sizes in schemes.items():
    rows = rows_of(mixes, sizes)
    joint[name] = [collisions(rows[:, :k]) for k in (1, 2, 3, 4)]
    lcms = [math.lcm(*sizes[:k]) for k in (1, 2, 3, 4)]
    expected[name] = [G * (G - 1) / 2 / lcm for lcm in lcms]
    assert joint[name] == [collisions(mixes % lcm) for lcm in lcms]  # the theorem
    print(f"{name:16} sizes {sizes}, lcm {lcms[-1]:,}")
    print("    pairs that collide in 1 to 4 heads:", joint[name])

# %% tags=["fold"]
assert all(abs(joint[name][k] / expected[name][k] - 1) < 0.1 for name in schemes for k in (0, 1))
assert len(set(joint["one size"])) == 1
assert joint["distinct primes"][3] == 0 and all(1_000 < p < 1_050 for p in schemes["distinct primes"])
fig, ax = plt.subplots(figsize=(6.2, 3.1))
for i, name in enumerate(schemes):
    heads = [k for k in (1, 2, 3, 4) if joint[name][k - 1]]
    ax.semilogy((1, 2, 3, 4), expected[name], color=f"C{i}", linestyle=("-", "--", "-.")[i], label=name)
    ax.semilogy(heads, [joint[name][k - 1] for k in heads], "os^"[i], color=f"C{i}")
ax.set(xticks=(1, 2, 3, 4), xlabel="heads", ylabel="pairs that collide in all heads",
       title="Each distinct prime divides the collisions by about a thousand")
ax.legend(title="line: formula, mark: count", alignment="left")
fig.set_label("Pairs of 3-grams that collide in all of the first k heads, k from 1 to 4, on a logarithmic axis; lines "
              "show the formula, marks the count. With one size the curve is flat; with common factors it falls a "
              "little and stops; with distinct primes it falls a thousandfold per head and reaches zero at four.")

# %% [markdown]
# The essential property is that no two sizes have a common factor. The sizes 1,000, 1,001 and 1,003 work as well,
# although none of them is prime. Using primes is the easy way to get this property for any number of heads.

# %% tags=["fold"]
coprime = [1_000, 1_001, 1_003]
assert math.lcm(*coprime) == math.prod(coprime)
assert not any(ops.is_prime(size) for size in coprime)
rows = rows_of(mixes, coprime)
assert abs(collisions(rows[:, :2]) / joint["distinct primes"][1] - 1) < 0.2

# %% [markdown]
# ## How many heads are enough?
#
# The first criterion is that all n-grams can be distinguished. A mix is below $2^{63}$. Once the product of the primes
# exceeds $2^{63}$, only n-grams with *equal mixes* can collide in all heads. No two 3-grams of our text have equal
# mixes. If mixes are as good as random, a hundred million n-grams have 0.0005 such pairs on average.

# %%
for name in presets():
    c = preset(name)
    primes = [int(p) for p in Addressing(c).primes[c.layer_ids[0]][:c.n_heads]]
    enough = [k for k in range(1, c.n_heads + 1) if math.prod(primes[:k]) >= 2**63]
    print(f"{name:19} {c.n_heads} heads of {primes[0]:>10,} rows or more;"
          f" needed to distinguish all: {enough[0] if enough else 'more'}")
    assert enough[:1] == {"demo": [4], "tiny": []}.get(name, [3])
assert collisions(mixes) == 0 and mixes.min() >= 0
assert round(1e8 * (1e8 - 1) / 2 / 2**63, 4) == 0.0005

# %% [markdown]
# Three or four heads are enough for this; the published models have eight. More heads have a second effect: they reduce
# noise. The memory at a position is made up of *all* the rows that it reads, and a shared row is trained on all the
# n-grams that read it. Call a head **clean** for an n-gram if no other n-gram shares its row there. The more heads $K$,
# the more likely it is that at least one head is clean:
#
# $$ P(\text{no clean head}) = P(\text{row is shared})^K \approx \bigl(1 - e^{-G/R}\bigr)^K $$
#
# More heads do not require more parameters. In the paper, a row has 80 numbers, so the eight heads of an order give $8
# \cdot 80 = 640$ numbers. One head with rows of 640 numbers would have the same number of parameters. But more heads
# need more reads: $K$ small reads instead of one large read. Here are the numbers for our text at load 1:

# %%
paper = preset("paper")
tables = ops.table_primes((G,), 8, 1)[0]                             # load 1
dirty = np.stack([shares_row(mixes, p) for p in tables], axis=-1)    # [G, 8]
print("heads  reads  row width  parameters   no clean head (formula)")
for K in (1, 2, 4, 8):
    c = dataclasses.replace(paper, n_heads=K, row_width=640 // K)
    parameters = sum(Addressing(c).table_rows.values()) * c.row_width
    counted, predicted = dirty[:, :K].all(axis=-1).mean(), expected_sharing(G, G) ** K
    print(f"{K:5} {c.columns:6} {c.row_width:10} {parameters / 1e9:8.2f}e9"
          f" {counted:15.1%} ({predicted:.1%})")
    assert abs(counted - predicted) < 0.01 and abs(parameters / 5.79e9 - 1) < 0.001

# %% [markdown]
# ## How to choose a table size
#
# Count your different n-grams, choose the fraction $s$ of them that may share a row, and solve the formula for $R$:
#
# $$ R \approx \frac{-G}{\ln(1 - s)} $$
#
# The tables below apply the formula in the other direction: they start from the published sizes. Each line is a preset,
# each column a number of different n-grams. The first table shows the fraction of n-grams in shared rows of one head,
# the second the fraction without a clean head.

# %%
def rows_for(n_grams: float, fraction: float) -> int:
    """Rows of a table in which this fraction of the n-grams are in shared rows"""
    return math.ceil(-n_grams / math.log1p(-fraction))


counts = (10**5, 10**6, 10**7, 10**8)
published = ("demo", "engram-27b", "engram-40b", "deepseek-v4.1-flash", "qwen4exp-ple")
for K, heading in ((1, "shared in one head"), (8, "no clean head of 8")):
    print(f"{heading:22}{'rows':>10}" + "".join(f"{g:>12,}" for g in counts))
    for name in published:
        R = preset(name).table_sizes[0]
        shares = "".join(f"{expected_sharing(g, R)**K:12.1%}" for g in counts)
        print(f"  {name:20}{R:10,}{shares}")
print(f"a million n-grams, at most 10% in shared rows: {rows_for(1e6, 0.1):,} rows")

# %% tags=["fold"]
assert abs(expected_sharing(1e6, rows_for(1e6, 0.1)) - 0.1) < 1e-6
R = {name: preset(name).table_sizes[0] for name in published}
assert expected_sharing(1e6, R["engram-27b"]) ** 8 < 0.001
assert expected_sharing(1e7, R["engram-27b"]) ** 8 > 0.9
assert expected_sharing(1e7, R["deepseek-v4.1-flash"]) ** 8 < 0.003

# %% [markdown]
# The tables of the paper's smaller model (`engram-27b`) are large enough for a million n-grams: almost all of these
# have a clean head. Of ten million n-grams, over 90% have no clean head. V4.1's tables are still large enough for ten
# million. But the number of different n-grams keeps growing with the text: even in the second half of our text, more
# than 30% of the positions have a 3-gram that did not occur before.
#
# Overfull tables are still useful because n-grams are not equally frequent. Of all reads of a row, a certain fraction
# comes from one n-gram. We call this fraction the n-gram's *share* of the row's reads.

# %%
loads = np.array([1 / 4, 1, 4, 16])
classes = {"read once": reads == 1, "2 to 9 times": (reads > 1) & (reads < 10),
           "10 to 49 times": (reads > 9) & (reads < 50),
           "50 times or more": reads > 49}
row_share = {name: [] for name in classes}
for load in loads:
    size = int(ops.table_primes((round(G / load),), 1, 1)[0, 0])
    rows = rows_of(mixes, [size])[:, 0]
    own = reads / np.bincount(rows, weights=reads, minlength=size)[rows]  # [G]
    for name, members in classes.items():
        row_share[name].append(own[members].mean())
print("   share of the row's reads, at load    1/4     1     4    16")
for name, parts in row_share.items():
    print(f"{name:>36} ", *(f"{part:5.0%}" for part in parts))

# %% tags=["fold"]
first_seen = np.unique(three_grams, return_index=True)[1]
assert (first_seen >= len(ids) // 2).sum() / (len(ids) / 2) > 0.3
assert row_share["50 times or more"][2] > 0.8 and row_share["read once"][2] < 0.25
assert all((np.diff(parts) < 0).all() for parts in row_share.values())
assert 0.5 < (reads == 1).mean() < 0.75
fig, ax = plt.subplots(figsize=(6.2, 3.0))
for marker, (name, parts) in zip("osD^", reversed(row_share.items()), strict=True):
    ax.semilogx(loads, parts, marker=marker, label=name)
ax.set(xlabel="load: different n-grams per row", ylabel="share of the row's reads", ylim=(0, 1.03),
       title="In an overfull table, frequent n-grams still dominate their rows")
ax.set_xticks(loads, ["1/4", "1", "4", "16"])
ax.minorticks_off()
ax.legend(title="3-grams", loc="lower left", fontsize=8, title_fontsize=8)
fig.set_label("The fraction of a row's reads that comes from one n-gram, by how often that n-gram is read, for loads "
              "from 1/4 to 16. All curves fall. At load 4 it is over 80 percent for n-grams read 50 times or more and "
              "under 25 percent for those read once.")

# %% [markdown]
# With four n-grams per row, an n-gram that is read 50 times or more still accounts for over 80% of the reads of its
# row; one that is read once accounts for under 25%. Over half of all 3-grams of our text occur only once. So the
# formula is pessimistic: it gives rare n-grams the same weight as frequent ones.
#
# How much does size help a trained model? The paper measured the loss, the error that training minimises, of one model
# with tables of eight sizes (Figure 3, right; the numbers below are read off the plot). In a linear fit, each doubling
# of the rows lowers the loss by 0.0085. In the range tested, the benefit does not level off.

# %% tags=["fold"]
nominal = 129_280 * np.array([2, 5, 10, 15, 20, 30, 50, 80])
loss = [1.7883, 1.7760, 1.7678, 1.7654, 1.7603, 1.7527, 1.7481, 1.7432]
slope, _ = np.polyfit(np.log2(nominal), loss, 1)
print(f"change of the loss per doubling: {slope:.4f}")
assert abs(slope + 0.0085) < 1e-4

# %% [markdown]
# ## Does a table with one row work?
#
# Users of Engram implementations have written in public issues that "a table of size 1 works as well". This claim can
# mean two different things. First, the *nominal size*, the one in the configuration, may be 1. Each table gets the
# smallest unused prime that is at least the nominal size. So the tables are tiny, but they have more than one row:

# %%
smallest = dataclasses.replace(flash, table_sizes=(1, 1, 1))
primes = Addressing(smallest).primes[layer][:8].tolist()  # heads of the 2-grams
two_grams = np.unique(every_mix[:, 0])
rows = rows_of(two_grams, primes)
print(f"sizes {primes}, product {math.prod(primes):,}")
print(f"{len(two_grams):,} 2-grams, pairs that collide in all eight heads: {collisions(rows)}")
assert primes == [2, 3, 5, 7, 11, 13, 17, 19] and math.prod(primes) == 9_699_690
assert collisions(rows) == collisions(two_grams % 9_699_690) < 100

one_hot = [np.eye(p)[rows[:, k]] for k, p in enumerate(primes)]  # 1 for the row that is read
chosen = np.concatenate(one_hot, axis=1)  # [2-grams, 77]
rank = np.linalg.matrix_rank(chosen)
print(f"{chosen.shape[1]} rows in all, {rank} linearly independent memories")
assert chosen.shape[1] == sum(primes) == 77 and rank == 77 - 7

# %% [markdown]
# By the Chinese remainder theorem, eight tiny tables still distinguish almost all 2-grams of our text. But they lack
# *capacity*. Each 2-gram selects eight of 77 rows, one in each table. Encode the selection as a vector of 77 numbers: 1
# for each selected row, 0 for the others. However many 2-grams there are, these vectors have rank at most 70: the
# entries of each table sum to 1, which gives seven linear relations between the eight tables. Key and value are linear
# in the memory ([tutorial 05](05_gate.md)), so these tables cannot store independent vectors for tens of thousands of
# 2-grams.
#
# Second, each table may really have only one row. Then every head reads row 0 for any text. Here is the small preset
# `tiny` with random weights and a random hidden state.

# %%
tiny, rng = preset("tiny"), np.random.default_rng(4)
parameters, sample = initialise(tiny, 1, rng), ids[:24]
hidden = rng.standard_normal((len(sample), tiny.n_branches, tiny.hidden_size))
rows = Addressing(tiny).rows(sample, layer_id=1)
one_row = np.zeros_like(rows)                        # anything modulo 1
assert (rows % 1 == one_row).all()

one, many = Trace(), Trace()
engram(parameters, hidden, one_row, tiny, trace=one)
engram(parameters, hidden, rows, tiny, trace=many)
for stage in ("memory", "key", "value", "gate", "gated", "conv"):
    values = one[stage][0, tiny.conv_span:]  # past the convolution's left edge
    change = np.ptp(values, axis=0).max() / abs(values).max()
    print(f"{stage:7} varies over the tokens by {change:.5f} of its largest value")
    assert change > 0.1 if stage in ("gate", "gated") else change < 1e-3

# %% tags=["fold"]
assert not one_row.any() and np.linalg.matrix_rank(one["gated"][0, :, 0]) == 1
assert np.linalg.matrix_rank(many["gated"][0, :, 0]) > 10
fig, axes = plt.subplots(1, 2, figsize=(6.4, 3.0), sharey=True)
for ax, (name, trace) in zip(axes, {"one row": one, "the real tables": many}.items(), strict=True):
    image = trace["gated"][0, :, 0]
    ax.imshow(image / abs(image).max(), vmin=-1, vmax=1, aspect="auto")
    ax.set(xlabel="channel", title=name)
axes[0].set_ylabel("position")
fig.suptitle("With one row, every position gets a multiple of the same vector", x=0.02, ha="left")
fig.set_label("Two heat maps of the gated value of one branch, positions down, channels across. With one row it "
              "consists of vertical stripes that vary only in strength; with real tables every position differs.")

# %% [markdown]
# The figure shows the *gated value*, the value times the gate: bright is positive, dark is negative. With one row,
# memory, key and value are constant. The output of the short convolution ([tutorial 06](06_short_conv.md)) is also
# constant to within a thousandth, except near the start of the text. Only the **gate** of each branch still varies,
# because it compares the constant key with the hidden state. Such a module is a learned vector scaled by the context.
# It can help a model, like any additional parameter. But it cannot store anything about an n-gram, because the row that
# is read does not depend on the n-gram.
#
# Whether one row "works as well" in training can only be decided by an experiment, which this page does not attempt. A
# fair experiment would compare one row, tiny primes and full tables over several seeds, and measure the recall of facts
# in addition to the average loss.
#
# ## How the versions differ
#
# The paper mentions distinct hash functions, one per head. The demo and the releases compute one mix per order, and
# only the primes are distinct. The primes are distinct across all orders and layers, although distinct primes within
# one order would suffice. Qwen pads its table with 90 rows to a multiple of 128; the padding rows are never read.

# %% tags=["fold"]
for name in ("engram-27b", "demo", "deepseek-v4.1-flash", "qwen4exp-ple"):
    every = np.concatenate(list(Addressing(preset(name)).primes.values()))
    assert len(np.unique(every)) == len(every)
    assert all(ops.is_prime(int(p)) for p in every)
qwen = Addressing(preset("qwen4exp-ple"))
stored, used = qwen.table_rows[2], int(qwen.primes[2].sum())
assert stored % 128 == 0 and stored - used == 90

# %% [markdown]
# ## Exercises
#
# **1.** You expect five million different 3-grams. How many rows must each head have so that at most one 3-gram in ten
# shares its row? How many rows are needed if, with four heads, at most one in a thousand may have no clean head?
#
# ??? tip "Hint"
#     For the second question: which fraction $s$ satisfies $s^4 = 0.001$? Use the function `rows_for` from above.

# %% tags=["answer"]
strict, relaxed = rows_for(5e6, 0.1), rows_for(5e6, 0.001 ** (1 / 4))
print(f"{strict:,} rows, or {relaxed:,}")
assert abs(expected_sharing(5e6, strict) - 0.1) < 1e-6
assert abs(expected_sharing(5e6, relaxed) ** 4 - 0.001) < 1e-6
assert 47e6 < strict < 48e6 and 25e6 < relaxed < 26e6

# %% [markdown]
# **2.** Someone chooses the sizes 6, 10 and 15 for three heads because "no two are equal". How many different triples
# of rows can occur? How many with 7, 11 and 13?
#
# ??? tip "Hint"
#     No two are equal, but every pair has a common factor.

# %% tags=["answer"]
for sizes in ([6, 10, 15], [7, 11, 13]):
    triples = np.unique(rows_of(np.arange(10_000), sizes), axis=0)
    print(f"sizes {sizes}: {len(triples)} triples of {math.prod(sizes)}")
    assert len(triples) == math.lcm(*sizes) == {6: 30, 7: 1_001}[sizes[0]]

# %% [markdown]
# Next: [the gate](05_gate.md), which decides whether a row fits the context.
