# %% [markdown]
# # Collisions, heads and primes
#
# ## What you will be able to do
#
# - predict how many n-grams of a text share a row in a table of any size;
# - say what several heads change, how many are enough, and why their sizes should be distinct primes;
# - choose a table size for a number of n-grams, and read the sizes of the released models;
# - judge the claim "a table of size 1 works as well".
#
# ## Real n-grams
#
# The [last tutorial](03_hash_by_hand.md) turned an n-gram into a *mix*, one large number, and each *head* took
# that mix modulo the size of its own table. A **collision** is two different n-grams that read the same row. We
# count collisions among the 3-grams of the help pages that come with Python, with the multipliers of
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
print(f"{len(ids):,} tokens, {G:,} different 3-grams; the most frequent {reads.max()} times")
assert G == len(np.unique(windows[0, :, :3], axis=0)) > 30_000  # no two share a mix

# %% [markdown]
# ## One head: a birthday problem
#
# N-grams share rows as people in a room share birthdays. With $G$ different n-grams and $R$ rows, all equally likely,
#
# $$
# \begin{align*}
# \text{share of n-grams that are not alone} &= 1 - \left(1 - \frac{1}{R}\right)^{G-1} \approx 1 - e^{-G/R} \\
# \text{pairs that meet, on average} &= \frac{G(G-1)}{2R}
# \end{align*}
# $$
#
# What counts is the **load** $G/R$: n-grams per row. But text is not random and our hash is not a die, so we measure.

# %%
def rows_of(mixes: np.ndarray, sizes: list[int]) -> np.ndarray:
    """Row of each n-gram in one head per size: [G, heads]"""
    return ops.table_rows(mixes[None, :, None], np.array(sizes))[0]


def not_alone(n_grams: float, rows: float) -> float:
    """The formula: expected share of n-grams that share their row."""
    return -math.expm1((n_grams - 1) * math.log1p(-1 / rows))


def crowded(mixes: np.ndarray, size: int) -> np.ndarray:
    """Measured: for each n-gram, whether it shares its row of a table of this size."""
    rows = rows_of(mixes, [size])[:, 0]
    return np.bincount(rows, minlength=size)[rows] > 1


loads = np.array([1 / 32, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4])
sizes = [int(ops.table_primes((round(G / load),), 1, 1)[0, 0]) for load in loads]
measured = np.array([crowded(mixes, size).mean() for size in sizes])
formula = np.array([not_alone(G, size) for size in sizes])
for i, load in enumerate(loads):
    print(f"load {load:5.3f}: {sizes[i]:9,} rows   measured {measured[i]:6.1%}"
          f"   formula {formula[i]:6.1%}")
assert abs(measured - formula).max() < 0.01

# %% tags=["fold"]
fig, ax = plt.subplots(figsize=(6.2, 2.9))
fine = np.geomspace(loads[0], loads[-1], 100)
ax.semilogx(fine, 1 - np.exp(-fine), color="C0", label="formula")
ax.semilogx(loads, measured, "s", color="C1", label="3-grams of real text")
ax.set(xlabel="load: different n-grams per row", ylabel="share not alone in their row", ylim=(0, 1.03),
       title="Real n-grams collide as often as dice would")
ax.set_xticks(loads, ["1/32", "1/8", "1/4", "1/2", "1", "2", "4"])
ax.minorticks_off()
ax.legend()
fig.set_label("Share of n-grams that share their row, against the load from 1/32 to 4. The measured points lie on the "
              "formula's curve: 3 percent at load 1/32, 63 percent at load 1, 98 percent at load 4.")
assert abs(measured[[0, 4, 6]] - [0.03, 0.63, 0.98]).max() < 0.01

# %% [markdown]
# ## Several heads: who meets everywhere?
#
# The rows of $k$ heads are remainders of one and the same mix. The **Chinese remainder theorem** says what all of them
# together tell about the mix: its remainder modulo the *least common multiple* (lcm) of the $k$ sizes, no less and no
# more. So for two n-grams, with the mixes $\mathrm{mix}$ and $\mathrm{mix}'$,
#
# $$
# \text{they meet in all } k \text{ heads}
# \iff \mathrm{lcm}(p_1, \dots, p_k) \text{ divides } \mathrm{mix} - \mathrm{mix}'
# $$
#
# If all sizes are equal, the lcm is that size, and further heads add nothing. If the sizes share factors, it
# grows a little. If they are distinct primes, it is their product: each head divides the number of pairs that still
# meet by its size.

# %%
def meetings(keys: np.ndarray) -> int:
    """Pairs of n-grams with equal keys; keys [G] or [G, heads]"""
    counts = np.unique(keys, axis=0, return_counts=True)[1]
    return int((counts * (counts - 1) // 2).sum())


ways = {"one size": [1_009] * 4, "common factors": [1_000, 1_200, 1_500, 1_800],
        "distinct primes": ops.table_primes((1_000,), 4, 1)[0].tolist()}
joint, expected = {}, {}
for name, sizes in ways.items():
    rows = rows_of(mixes, sizes)
    joint[name] = [meetings(rows[:, :k]) for k in (1, 2, 3, 4)]
    lcms = [math.lcm(*sizes[:k]) for k in (1, 2, 3, 4)]
    expected[name] = [G * (G - 1) / 2 / lcm for lcm in lcms]
    assert joint[name] == [meetings(mixes % lcm) for lcm in lcms]  # the theorem
    print(f"{name:16} sizes {sizes}, lcm {lcms[-1]:,}")
    print("    pairs that meet in 1, 2, 3, 4 heads:", joint[name])

# %% tags=["fold"]
assert all(abs(joint[name][k] / expected[name][k] - 1) < 0.1 for name in ways for k in (0, 1))
assert len(set(joint["one size"])) == 1
assert joint["distinct primes"][3] == 0 and all(1_000 < p < 1_050 for p in ways["distinct primes"])
fig, ax = plt.subplots(figsize=(6.2, 3.1))
for i, name in enumerate(ways):
    heads = [k for k in (1, 2, 3, 4) if joint[name][k - 1]]
    ax.semilogy((1, 2, 3, 4), expected[name], color=f"C{i}", linestyle=("-", "--", "-.")[i], label=name)
    ax.semilogy(heads, [joint[name][k - 1] for k in heads], "os^"[i], color=f"C{i}")
ax.set(xticks=(1, 2, 3, 4), xlabel="heads", ylabel="pairs that meet in all of them",
       title="Every distinct prime divides the meetings by about a thousand")
ax.legend(title="line: formula, mark: count", alignment="left")
fig.set_label("Pairs of 3-grams that meet in all of the first k heads, k from 1 to 4, on a logarithmic axis; lines are "
              "the formula, marks the count. One size stays flat, common factors fall a little and stop, distinct "
              "primes fall a thousandfold with each head and reach none at four.")

# %% [markdown]
# What matters is that no two sizes have a common factor. The sizes 1,000, 1,001 and 1,003 do as well, and none of them
# is prime. Primes are the easy way to have this for any number of heads.

# %% tags=["fold"]
coprime = [1_000, 1_001, 1_003]
assert math.lcm(*coprime) == math.prod(coprime)
assert not any(ops.is_prime(size) for size in coprime)
rows = rows_of(mixes, coprime)
assert abs(meetings(rows[:, :2]) / joint["distinct primes"][1] - 1) < 0.2

# %% [markdown]
# ## How many heads are enough?
#
# First, enough to tell all n-grams apart. A mix is below $2^{63}$. Once the product of the primes passes
# $2^{63}$, only n-grams with *equal mixes* can meet in all heads. Our text has no two such 3-grams. If mixes are as
# good as random, a hundred million n-grams have 0.0005 such pairs on average.

# %%
for name in presets():
    c = preset(name)
    primes = [int(p) for p in Addressing(c).primes[c.layer_ids[0]][:c.n_heads]]
    enough = [k for k in range(1, c.n_heads + 1) if math.prod(primes[:k]) >= 2**63]
    print(f"{name:19} {c.n_heads} heads of {primes[0]:>10,} rows or more;"
          f" enough to tell apart: {enough[0] if enough else 'more'}")
    assert enough[:1] == {"demo": [4], "tiny": []}.get(name, [3])
assert meetings(mixes) == 0 and mixes.min() >= 0
assert round(1e8 * (1e8 - 1) / 2 / 2**63, 4) == 0.0005

# %% [markdown]
# Three or four heads would do for that; the published models have eight. More heads do a second thing: they thin out
# noise. A memory is made of *all* rows of the position, and a shared row has learned something from each of its
# n-grams. Call a head **clean** for an n-gram that is alone in its row there. The more heads $K$, the likelier it is
# that one of them is clean:
#
# $$ P(\text{no clean head}) = (\text{share not alone})^K \approx \bigl(1 - e^{-G/R}\bigr)^K $$
#
# More heads need not cost parameters. In the paper, a row has 80 numbers, so the eight heads of an order give
# $8 \cdot 80 = 640$. One head with rows of 640 numbers would hold as many parameters. What more heads cost is reads:
# $K$ small ones in place of a big one. Here is our text at load 1:

# %%
paper = preset("paper")
tables = ops.table_primes((G,), 8, 1)[0]                             # load 1
dirty = np.stack([crowded(mixes, p) for p in tables], axis=-1)       # [G, 8]
print("heads  reads  row width  parameters   no clean head (formula)")
for K in (1, 2, 4, 8):
    c = dataclasses.replace(paper, n_heads=K, row_width=640 // K)
    parameters = sum(Addressing(c).table_rows.values()) * c.row_width
    found, predicted = dirty[:, :K].all(axis=-1).mean(), not_alone(G, G) ** K
    print(f"{K:5} {c.columns:6} {c.row_width:10} {parameters / 1e9:8.2f}e9"
          f" {found:15.1%} ({predicted:.1%})")
    assert abs(found - predicted) < 0.01 and abs(parameters / 5.79e9 - 1) < 0.001

# %% [markdown]
# ## How to choose a table size
#
# Count your different n-grams, choose the share you will tolerate, and solve the formula for $R$:
#
# $$ R \approx \frac{-G}{\ln(1 - \text{share})} $$
#
# The tables below turn it around for the published sizes. Each line is a preset, each column a number of different
# n-grams. The first table has the share that is not alone in one head, the second the share without a clean head.

# %%
def rows_for(n_grams: float, share: float) -> int:
    """Rows of one table in which this share of the n-grams is not alone."""
    return math.ceil(-n_grams / math.log1p(-share))


counts = (10**5, 10**6, 10**7, 10**8)
published = ("demo", "engram-27b", "engram-40b", "deepseek-v4.1-flash", "qwen4exp-ple")
for K, heading in ((1, "not alone in one head"), (8, "no clean head of 8")):
    print(f"{heading:22}{'rows':>10}" + "".join(f"{g:>12,}" for g in counts))
    for name in published:
        R = preset(name).table_sizes[0]
        shares = "".join(f"{not_alone(g, R)**K:12.1%}" for g in counts)
        print(f"  {name:20}{R:10,}{shares}")
print(f"a million n-grams, at most 10% not alone: {rows_for(1e6, 0.1):,} rows")

# %% tags=["fold"]
assert abs(not_alone(1e6, rows_for(1e6, 0.1)) - 0.1) < 1e-6
R = {name: preset(name).table_sizes[0] for name in published}
assert not_alone(1e6, R["engram-27b"]) ** 8 < 0.001
assert not_alone(1e7, R["engram-27b"]) ** 8 > 0.9
assert not_alone(1e7, R["deepseek-v4.1-flash"]) ** 8 < 0.003

# %% [markdown]
# A million n-grams fit the smaller of the paper's tables (`engram-27b`): hardly one is without a clean head. Of ten
# million, over 90% are. V4.1's tables still take the ten million well. But text never stops bringing new n-grams. Even
# in the second half of our text, more than three positions in ten bring a 3-gram that was not seen before.
#
# Are overfull tables useless? No, because n-grams are not equally frequent. Of all the reads of a row, which part comes
# from one n-gram? We call that the n-gram's *own part* of the row.

# %%
loads = np.array([1 / 4, 1, 4, 16])
classes = {"read once": reads == 1, "2 to 9 times": (reads > 1) & (reads < 10),
           "10 to 49 times": (reads > 9) & (reads < 50),
           "50 times or more": reads > 49}
own_part = {name: [] for name in classes}
for load in loads:
    size = int(ops.table_primes((round(G / load),), 1, 1)[0, 0])
    rows = rows_of(mixes, [size])[:, 0]
    own = reads / np.bincount(rows, weights=reads, minlength=size)[rows]  # [G]
    for name, members in classes.items():
        own_part[name].append(own[members].mean())
print("n-gram's own part of its row at load    1/4     1     4    16")
for name, parts in own_part.items():
    print(f"{name:>36} ", *(f"{part:5.0%}" for part in parts))

# %% tags=["fold"]
first_seen = np.unique(three_grams, return_index=True)[1]
assert (first_seen >= len(ids) // 2).sum() / (len(ids) / 2) > 0.3
assert own_part["50 times or more"][2] > 0.8 and own_part["read once"][2] < 0.25
assert all((np.diff(parts) < 0).all() for parts in own_part.values())
assert 0.5 < (reads == 1).mean() < 0.75
fig, ax = plt.subplots(figsize=(6.2, 3.0))
for marker, (name, parts) in zip("osD^", reversed(own_part.items()), strict=True):
    ax.semilogx(loads, parts, marker=marker, label=name)
ax.set(xlabel="load: different n-grams per row", ylabel="own part of the row", ylim=(0, 1.03),
       title="In an overfull table the frequent n-grams still own their rows")
ax.set_xticks(loads, ["1/4", "1", "4", "16"])
ax.minorticks_off()
ax.legend(title="3-grams", loc="lower left", fontsize=8, title_fontsize=8)
fig.set_label("The part of a row's reads that comes from one n-gram, by how often that n-gram is read, for loads "
              "of 1/4 to 16. All curves fall. At load 4 it is over 80 percent for n-grams read 50 times or more and "
              "under 25 percent for those read once.")

# %% [markdown]
# With four n-grams to a row, one that is read 50 times or more still has over 80% of its row; one that is read once has
# under 25%. Over half of all 3-grams of our text occur once. So the formula is the pessimist's answer: it counts them
# like the frequent ones.
#
# What does size buy in the end? The paper measured the loss, the error that training lowers, of one model with tables
# of eight sizes (Figure 3, right; the numbers below are read off the drawing). On a line through them, every doubling
# of the rows lowers the loss by 0.0085. In the range they tried, there is no size at which the text "fits"; there is a
# price per doubling.

# %% tags=["fold"]
nominal = 129_280 * np.array([2, 5, 10, 15, 20, 30, 50, 80])
loss = [1.7883, 1.7760, 1.7678, 1.7654, 1.7603, 1.7527, 1.7481, 1.7432]
slope, _ = np.polyfit(np.log2(nominal), loss, 1)
print(f"change of the loss per doubling: {slope:.4f}")
assert abs(slope + 0.0085) < 1e-4

# %% [markdown]
# ## What would a table of one row do?
#
# Users of Engram implementations have written in public issues that "a table of size 1 works as well". That can mean
# two different things. First: set the *nominal size* to 1, the size in the configuration. Each table gets the next
# unused prime from there up. So the tables are tiny, but they are not one row:

# %%
smallest = dataclasses.replace(flash, table_sizes=(1, 1, 1))
primes = Addressing(smallest).primes[layer][:8].tolist()  # heads of the 2-grams
two_grams = np.unique(every_mix[:, 0])
rows = rows_of(two_grams, primes)
print(f"sizes {primes}, product {math.prod(primes):,}")
print(f"{len(two_grams):,} 2-grams, pairs that meet in all eight heads: {meetings(rows)}")
assert primes == [2, 3, 5, 7, 11, 13, 17, 19] and math.prod(primes) == 9_699_690
assert meetings(rows) == meetings(two_grams % 9_699_690) < 100

one_hot = [np.eye(p)[rows[:, k]] for k, p in enumerate(primes)]  # 1 for the row that is read
chosen = np.concatenate(one_hot, axis=1)  # [2-grams, 77]
rank = np.linalg.matrix_rank(chosen)
print(f"{chosen.shape[1]} rows in all; they give {rank} independent memories")
assert chosen.shape[1] == sum(primes) == 77 and rank == 77 - 7

# %% [markdown]
# By the theorem, eight tiny tables still tell apart almost all 2-grams of our text. What they lack is *room*. Each
# 2-gram picks eight of 77 rows, one in each table. Write a 1 for each picked row and 0 for the others. However many
# 2-grams there are, these vectors of 77 numbers have rank 70 at most: every table has the same sum as the first, and
# that makes seven conditions. Key and value are linear in the memory ([tutorial 05](05_gate.md)), so these tables
# cannot store a vector of its own for each of tens of thousands of 2-grams.
#
# Second: really one row. Every head then reads row 0, whatever the text. Here is the small preset `tiny` with random
# weights and a random hidden state.

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
    print(f"{stage:7} changes from token to token by {change:.5f} of its largest value")
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
fig.suptitle("With one row every position gets the same vector, more or less of it", x=0.02, ha="left")
fig.set_label("Two heat maps of the gated value of one branch, positions down, channels across. With one row it is "
              "made of vertical stripes that only grow stronger or weaker; with real tables every position differs.")

# %% [markdown]
# The figure shows the *gated value*, which is the value times the gate: bright is positive, dark is negative. With one
# row, memory, key and value are constants. So is the short convolution ([tutorial 06](06_short_conv.md)) to within a
# thousandth, once it has left the edge of the text behind. What still moves is the **gate** of each branch, for it
# compares the constant key with the hidden state. Such a module is a learned vector that the context turns up and down.
# It can help a model, like any extra parameter. But it can store nothing about an n-gram, because no n-gram enters it.
#
# Whether it "works as well" in some training run is a question for an experiment, and this page has made none. A
# fair one compares one row, tiny primes and full tables over several seeds, and looks at facts, not at the average
# loss alone.
#
# ## Where the paper, the demo or a release does otherwise
#
# The paper speaks of distinct hash functions, one for each head. In demo and releases there is one mix per order,
# and only the primes are distinct. They are distinct over all orders and layers too, though only the heads of one
# order need it. Qwen adds 90 rows to its table, to a multiple of 128; they are never read.

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
# shares its row? And how many, if all you ask is that with four heads at most one in a thousand has no clean head?
#
# ??? tip "Hint"
#     For the second question: which share $s$ has $s^4 = 0.001$? The function `rows_for` is above.

# %% tags=["answer"]
strict, relaxed = rows_for(5e6, 0.1), rows_for(5e6, 0.001 ** (1 / 4))
print(f"{strict:,} rows, or {relaxed:,}")
assert abs(not_alone(5e6, strict) - 0.1) < 1e-6
assert abs(not_alone(5e6, relaxed) ** 4 - 0.001) < 1e-6
assert 47e6 < strict < 48e6 and 25e6 < relaxed < 26e6

# %% [markdown]
# **2.** Somebody takes sizes 6, 10 and 15 for three heads: "no two are equal". How many different triples of
# rows can occur? How many with 7, 11 and 13?
#
# ??? tip "Hint"
#     No two are equal, but every two share a factor.

# %% tags=["answer"]
for sizes in ([6, 10, 15], [7, 11, 13]):
    triples = np.unique(rows_of(np.arange(10_000), sizes), axis=0)
    print(f"sizes {sizes}: {len(triples)} triples of {math.prod(sizes)}")
    assert len(triples) == math.lcm(*sizes) == {6: 30, 7: 1_001}[sizes[0]]

# %% [markdown]
# Next: [a row was found, perhaps by collision. Does it fit the context?](05_gate.md)
