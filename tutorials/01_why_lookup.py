# %% [markdown]
# # Why look up phrases?
#
# When you read "Alexander the Great", you do not work out who that is from three separate words: you remember the
# phrase as a whole. A plain transformer has no such memory and rebuilds the meaning each time. Engram adds tables in
# which the model can look up such phrases.
#
# **What you will be able to do**
#
# - say what problem Engram solves, and what it adds to a transformer block;
# - use the package to compute which table rows Engram reads for a sentence, and say which words determine those rows;
# - compare the number of parameters in the tables with the number that one token reads;
# - follow the data through one diagram; tutorials 02 to 06 explain its steps one by one.
#
# You need Python and some linear algebra. A word in *italics* is explained where it first appears. Every claim in the
# text is checked by an `assert`, either in the code shown or in a folded box called *Code* or *Checks*.

# %% [markdown]
# ## Three tokens, one king
#
# A language model reads *tokens*: pieces of text, each with a number called its *id*. A *vocabulary* is the list of all
# tokens. Here is a sentence, split into tokens of DeepSeek-V4's vocabulary. DeepSeek-V4.1-Flash, the released model
# with Engram, uses the same vocabulary; we call it *V4.1*. (A comment such as `[T]` gives the shape of an array: T
# tokens.)

# %%
from dataclasses import replace
from pydoc_data.topics import topics

import matplotlib.pyplot as plt
import numpy as np

from engram_ref import Addressing, Trace, Vocabulary, engram, preset, presets, residual
from engram_ref.model.engram_parameters import initialise, table_bytes

vocabulary = Vocabulary.load("deepseek-v4")
sentence = "Only Alexander the Great could tame the horse Bucephalus."
raw_ids = vocabulary.encode(sentence)                           # int64 [T]
tokens = [vocabulary.text(int(token)) for token in raw_ids]
print(len(tokens), "tokens:", "|".join(tokens))
print("ids:", *raw_ids)

# %% [markdown]
# The king's name occupies positions 1, 2 and 3 (we count from 0). The model starts from one vector per id, so at first
# it has no information about a king: both occurrences of `the` in this sentence get the same vector, and `Great` gets
# the same vector as in "Great Britain".

# %%
assert tokens[1:4] == [" Alexander", " the", " Great"] and raw_ids[2] == raw_ids[6]
assert raw_ids[3] == vocabulary.encode("in Great Britain")[1]

# %% [markdown]
# The layers have to compute the meaning. *Attention* carries information from earlier positions to later ones; a
# *feed-forward* step then transforms each position separately. One attention step and one feed-forward step, each with
# its own weights, form a *layer*, or *block*. Several layers are needed before the vectors represent one person. Table
# 3 of the [Engram paper](https://arxiv.org/abs/2601.07372), taken from a study by Ghandeharioun and others (2024),
# lists the meaning of the vector at the last token of "Diana, Princess of Wales" after each layer:
#
# | layer | meaning of the vector, in short |
# |---|---|
# | 1-2 | a country in the United Kingdom |
# | 3 | a country in Europe |
# | 4-5 | a title, not a particular person |
# | 6 | Diana, the person |
#
# So a fixed phrase takes six layers. The result is not stored: when the phrase occurs again, the model repeats the
# computation.

# %% [markdown]
# ## Phrases repeat
#
# How often do phrases repeat? An *n-gram* is a sequence of $n$ consecutive tokens. We take the help topics of `pydoc`,
# which ship with every Python installation, and count the n-grams that occurred earlier in the same text:
#
# $$ \text{fraction that occurred before} = 1 - \frac{\text{distinct n-grams}}{\text{n-grams}} $$

# %%
help_text = "\n".join(topics[name] for name in sorted(topics))
help_ids = vocabulary.encode(help_text)

def fraction_repeated(ids, n):
    ngrams = np.lib.stride_tricks.sliding_window_view(ids, n)   # [n-grams, n]
    return 1 - len(np.unique(ngrams, axis=0)) / len(ngrams)

orders = range(1, 9)
fractions = [fraction_repeated(help_ids, n) for n in orders]
print(f"{len(help_ids):,} tokens")
assert fractions[1] > 0.6 and fractions == sorted(fractions)[::-1]

# %% tags=["fold"]
fig, ax = plt.subplots(figsize=(6.2, 2.9))
ax.bar(orders, fractions, color=["none"] + ["C0"] * 3 + ["none"] * 4, edgecolor="C0", width=0.7)
for n, fraction in zip(orders, fractions, strict=True):
    ax.text(n, fraction + 0.02, f"{fraction:.0%}", ha="center")
ax.set(xlabel="n: tokens per n-gram", ylabel="fraction that occurred before", ylim=(0, 1.08), xticks=list(orders))
ax.set_title("More than 40% of the 3-grams in this text occurred before")
fig.set_label("Bar chart of the fraction of n-grams that occurred earlier in the same text. It falls from 95% for "
              "single tokens to about 69%, 44% and 32% for 2-, 3- and 4-grams and 23% for 8-grams. The bars for 2 to 4 "
              "are highlighted.")
assert 0.4 < fractions[2] < 0.5
assert np.allclose(np.array(fractions)[[0, 1, 2, 3, 7]], [0.95, 0.69, 0.44, 0.32, 0.23], atol=0.04)

# %% [markdown]
# Short phrases repeat even within one small text. V4.1 looks up n-grams of the highlighted lengths, 2 to 4.

# %% [markdown]
# ## A lookup whose key is a phrase
#
# Every language model already has one lookup table: the *embedding table*, with one row per token. Row $x_t$ is the
# vector for the token $x_t$ at position $t$. Engram adds tables whose key is an n-gram:
#
# $$
# \begin{align*}
# \text{embedding:} \quad & E[\,x_t\,] \\
# \text{Engram:} \quad & E_{n,k}[\,\varphi_{n,k}(x_{t-n+1}, \ldots, x_t)\,]
# \qquad n = 2 \ldots N, \quad k = 1 \ldots K
# \end{align*}
# $$
#
# $\varphi$ maps the n-gram to a row index, $N$ is the length of the longest n-gram, and $K$ is explained below. The
# rows are learned in training, like those of the embedding table. An n-gram cannot have a row to itself because there
# are far too many n-grams. Here are the numbers for V4.1. (A *preset* is a named configuration, here the configuration
# of the released model.)

# %%
config = preset("deepseek-v4.1-flash")
for n in (2, 3, 4):
    print(f"possible {n}-grams: {float(config.canonical_size) ** n:.1e}")
assert 9e9 < config.canonical_size**2 < 1e10 and config.canonical_size**3 > 9e14
print(f"rows in one table: about {config.table_sizes[0]:,}")

# %% [markdown]
# So $\varphi$ is a *hash*: a fixed function that spreads all n-grams over a table of limited size. Different n-grams
# can share a row, which is called a *collision*. Engram tolerates collisions: each *order* $n$ has $K$ tables, called
# *heads*, and two phrases that collide in one head almost never collide in a second one. [Tutorial
# 03](03_hash_by_hand.md) computes the hash by hand, and [04](04_collisions.md) counts the collisions.

# %% [markdown]
# ## Which rows does Engram read for the sentence?
#
# The configuration and the ids determine the rows; no weights are needed. First the ids are mapped to *canonical ids*,
# so that `The` and `the` count as the same token ([tutorial 02](02_canonical_ids.md)). Two layers of V4.1 have an
# Engram module. The first of them is layer 1, counted from 0.

# %%
addressing = Addressing(config)
ids = vocabulary.canonical[raw_ids]                             # canonical, [T]
rows = addressing.rows(ids, layer_id=1)                         # [T, C], C columns
K = config.n_heads
print(f"{rows.shape[0]} tokens, {rows.shape[1]} columns; at '{tokens[3].strip()}':")
for i, n in enumerate(config.orders):
    print(f"n={n}", *(f"{row:8}" for row in rows[3, i * K : (i + 1) * K]))
assert rows.shape == (13, 24) and (len(config.orders), K) == (3, 8)
assert config.orders == (2, 3, 4) and config.layer_ids == (1, 14)

# %% [markdown]
# Three orders times eight heads make 24 columns: at every position the model reads 24 rows, one from each table.
#
# ## Rows depend on the last few tokens only
#
# Replace the first word, "Only", with "Young" and check which rows change. The longest n-gram has $N = 4$ tokens, so
# token 0 affects only positions 0 to 3.

# %%
swapped = vocabulary.canonical[vocabulary.encode(sentence.replace("Only", "Young"))]
assert (swapped != ids).tolist() == [True] + [False] * 12       # only token 0
changed = (addressing.rows(swapped, layer_id=1) != rows).reshape(13, 3, K)
by_order = changed.all(axis=2)                                  # [T, orders]
assert (by_order == changed.any(axis=2)).all()                  # all heads or none
positions = [by_order[:, i].nonzero()[0].tolist() for i in range(3)]
assert positions == [[0, 1], [0, 1, 2], [0, 1, 2, 3]]

# %% tags=["fold"]
fig, ax = plt.subplots(figsize=(6.2, 2.6))
for position, order in np.ndindex(by_order.shape):
    hit = by_order[position, order]
    ax.add_patch(plt.Rectangle((position - 0.45, order - 0.42), 0.9, 0.84, facecolor="C1" if hit else "none",
                               edgecolor="C1" if hit else "C5", linewidth=1))
ax.set(xlim=(-0.6, 12.6), ylim=(-0.6, 2.6), yticks=range(3), yticklabels=[f"{n}-grams" for n in config.orders])
ax.set_xticks(range(13), [token.strip() for token in tokens], rotation=45, ha="right", rotation_mode="anchor")
ax.tick_params(length=0)
ax.spines[["left", "bottom"]].set_visible(False)
ax.set_title("A different first word changes only the rows of the first four tokens")
fig.set_label("A grid of 13 tokens by three orders. A filled cell means that the rows changed: 2-grams at tokens 0 and "
              "1, 3-grams at tokens 0 to 2, 4-grams at tokens 0 to 3. All other cells are empty.")
assert by_order.any(axis=1).nonzero()[0].tolist() == [0, 1, 2, 3]

# %% [markdown]
# Two things follow.
#
# **The same phrase reads the same rows in every text.** Here is the king in a different sentence:

# %%
second = "A statue of Alexander THE great stood there."
second_ids = vocabulary.canonical[vocabulary.encode(second)]
great = second_ids.tolist().index(ids[3])                   # the position of "great"
other_rows = addressing.rows(second_ids, layer_id=1)[great]
same = (other_rows == rows[3]).reshape(3, K).sum(axis=1)
print("heads that read the same row, n=2, 3, 4:", *same)
assert same.tolist() == [8, 8, 0] and great != 3

# %% [markdown]
# The 2-gram and the 3-gram read the same row in all eight heads. The 4-gram begins with "of" here, not with "Only", so
# its rows differ.
#
# **The rows are known before the model runs.** A server can fetch the rows of layer 14 from large, slow memory while
# layer 0 is still computing. The authors of the paper kept 100 billion table parameters in main memory, outside the
# GPU; this reduced the speed by at most 2.8% (Table 4). To compute the rows of the next token, a program that generates
# text needs to keep only the last three ids:

# %%
step = addressing.rows(ids[3:4], layer_id=1, history=ids[0:3])
assert (step[0] == rows[3]).all()

# %% [markdown]
# ## The whole data flow in one diagram
#
# What happens to the rows? They are concatenated into one long vector, the *memory* of this token. Two linear maps turn
# this vector into a *value* (the content to add) and *keys* (used to decide whether the value fits). The memory depends
# on only four tokens, so it can be wrong in context: `Great` may be part of the name of a ship, or two phrases may
# share a row. Therefore the model's own state $H$, which depends on the whole text so far, controls through a *gate*, a
# number from 0 to 1, how much of the value is added.
#
# $H$ is the *residual stream*: the vectors that every block reads and adds to. These models have four of them per
# token, called *branches*; each has its own key and its own gate.
#
# {{ diagram: overview | Top row, integers computed from the text alone: text "... the Great", raw id 9327, canonical id
# 2049, window 2049, 237, 15695, 1134, one mix for each of the orders 2, 3 and 4, then 8 rows per order, 24 in all. Each
# row is read from its own table of about 16 million rows; concatenated they form a memory of 24 times 256, that is
# 6,144 numbers. In the Engram module the memory is projected to a value and keys; keys and residual stream H determine
# the gate, which multiplies the value; after a short convolution the result Y is added to the residual stream, before
# attention and experts. Circled numbers refer to tutorials: 2 canonical ids; 3 window, mix and rows; 4 tables; 5 gate;
# 6 convolution. }}

# %% tags=["fold"]
losses = [1 - 8858.28 / 9031.62, 1 - 6140.02 / 6315.52]     # the paper's Table 4, tokens per second
assert round(100 * max(losses), 1) == 2.8
assert config.vocabulary == "deepseek-v4"
# The numbers in the diagram; the marks in its tables are at the positions of these rows, in percent.
assert (raw_ids[3], ids[3]) == (9327, 2049) and ids[3::-1].tolist() == [2049, 237, 15695, 1134]
assert (config.columns, config.row_width, config.memory_width, config.conv_kernel) == (24, 256, 6144, 0)
assert all(round(size / 1e6) == 16 for size in addressing.primes[1])
assert all(preset(name).n_branches == 4 for name in presets())
assert (100 * rows[3] // addressing.primes[1]).tolist() == [
    67, 93, 14, 81, 35, 21, 64, 11, 11, 64, 43, 95, 99, 56, 46, 54, 11, 8, 42, 59, 71, 90, 22, 85]

# %% [markdown]
# In formulas, with $e$ for the memory and $m$ for a branch:
#
# $$
# \begin{align*}
# v &= W_V\, e, \qquad k^{(m)} = W_K^{(m)} e \\
# u^{(m)} &= \alpha^{(m)}\, v, \qquad \alpha^{(m)} = \text{gate}\bigl(H^{(m)}, k^{(m)}\bigr) \\
# Y &= u + \text{convolution of } u \\
# H &\leftarrow H + Y
# \end{align*}
# $$
#
# The *convolution* is a weighted sum over a few earlier positions ([tutorial 06](06_short_conv.md)). The rest of the
# block is unchanged: attention, then the feed-forward step (here a set of *experts*, of which each token uses a few).
# Engram replaces neither.
#
# Now run the module once, with the preset `tiny`, random weights, and a *trace*, which records every intermediate
# array. The letters in the printed shapes are the same on all pages: B sequences, T tokens, M branches, D numbers per
# branch, C columns, W numbers per row. (The number of heads is $K$ in the paper and on these pages, H in the package's
# own shapes.)

# %%
tiny = preset("tiny")
rng = np.random.default_rng(0)
weights = initialise(tiny, 1, rng)
H = rng.standard_normal((len(ids), tiny.n_branches, tiny.hidden_size))
tiny_rows = Addressing(tiny).rows(ids, layer_id=1)
trace = Trace()
Y = engram(weights, H, tiny_rows, tiny, trace=trace)
print(trace)

# %%
e, v, u = trace["memory"], trace["value"], trace["gated"]       # [B=1, T, ...]
b = weights["value_bias"]                                       # tiny also has biases
assert np.allclose(v, e @ weights["value_weight"].T + b)
assert np.allclose(u, trace["gate"][..., None] * v[:, :, None, :])
assert np.allclose(Y, (u + trace["conv"])[0]) and Y.shape == H.shape
assert np.allclose(residual(H, Y, tiny), H + Y)
assert ((trace["gate"] >= 0) & (trace["gate"] <= 1)).all()

# %% [markdown]
# These tables and weights are random, so only the shapes are meaningful.
#
# ## Large tables, few reads
#
# A token reads one row from each table, regardless of the table's size. For every preset of a published model, count
# the parameters stored in its tables and the parameters that one token reads.

# %%
published = [name for name in presets() if name != "tiny"]
stored, read = {}, {}
for name in published:
    c = preset(name)
    table_rows = Addressing(c).primes             # {layer: rows of each table}, all prime
    stored_rows = sum(int(p.sum()) for p in table_rows.values())
    stored[name] = stored_rows * c.row_width
    read[name] = len(c.layer_ids) * c.columns * c.row_width

# %% tags=["fold"]
fig, ax = plt.subplots(figsize=(6.2, 3.0))
for y, name in enumerate(published[::-1]):
    ax.plot([read[name], stored[name]], [y, y], color="C5", linestyle="-", linewidth=1, zorder=0)
    ax.plot(read[name], y, "o", color="C1", markersize=7)
    ax.plot(stored[name], y, "s", color="C0", markersize=7)
    ax.text((read[name] * stored[name]) ** 0.5, y + 0.12, f"1 in {stored[name] // read[name]:,}", ha="center", size=9)
ax.text(read[published[0]], len(published) - 0.6, "read per token", ha="center", color="C1")
ax.text(stored[published[0]], len(published) - 0.6, "stored", ha="center", color="C0")
ax.set(xscale="log", xlim=(800, 2e12), ylim=(-0.5, len(published) - 0.2), xlabel="table parameters")
ax.set_yticks(range(len(published)), published[::-1])
ax.set_title("A token reads only thousands of the billions of parameters")
fig.set_label("For each of five presets, a disc marks the number of table parameters that one token reads, between "
              "2,048 and 12,288, and a square the number stored, between 1.3 and 197 billion, on a logarithmic axis.")
v41 = "deepseek-v4.1-flash"
assert min(read.values()) == 2048 and max(read.values()) == read[v41] == 12_288
assert min(stored.values()) > 1.3e9
assert max(stored.values()) == stored[v41] == 196_613_849_600
assert sum(table_bytes(config, layer) for layer in (1, 14)) == 202_758_032_400
assert read["engram-27b"] == read["engram-40b"] == 2560
assert f"{stored['engram-40b'] / stored['engram-27b']:.1f}" == "3.2"

# %% [markdown]
# The tables of V4.1 store 196.6 billion parameters, 203 GB, and a token reads 12,288 of them. The tables of the paper's
# larger model, Engram-40B, are 3.2 times as large as the tables of the smaller model, Engram-27B. Both models read
# 2,560 numbers per token: larger tables do not mean more reads.
#
# A *mixture of experts* also uses only a few of its parameters per token: it sends each token through a few of many
# feed-forward networks. That is *conditional computation*: which networks run depends on the state. Engram is
# *conditional memory*: which rows are read depends on the text. The paper studies how to divide a parameter budget
# between the two.

# %% [markdown]
# ## How the versions differ
#
# Along with the paper, the authors published a [*demo*](https://github.com/deepseek-ai/Engram): one file of code with
# a real implementation of Engram and placeholders for the rest of the model. [Sources](../paper/sources.md) lists the
# papers and the code that these pages are based on.
#
# - **Length of the n-grams.** The paper and the demo look up 2- and 3-grams; V4.1 also looks up 4-grams.
# - **Layers.** The paper uses layers 2 and 15, V4.1 layers 1 and 14. These are the same blocks if the paper counts from
#   1, as its text suggests. The demo uses layers 1 and 15. The layer number matters because it determines the constants
#   of the hash.
# - **The convolution.** V4.1 has no convolution.
#
# [Tutorial 07](07_dialects.md) compares all versions.

# %% tags=["fold"]
paper, demo = preset("paper"), preset("demo")
assert paper.orders == demo.orders == (2, 3) and paper.conv_kernel == 4
assert (paper.layer_ids, paper.layer_base) == ((2, 15), 1)
assert (config.layer_ids, config.layer_base) == ((1, 14), 0)
assert demo.layer_ids == (1, 15)
# the same blocks with different numbers have different hash constants
renumbered = Addressing(replace(paper, layer_ids=(1, 14), layer_base=0))
assert (renumbered.multipliers[1] != Addressing(paper).multipliers[2]).all()

# %% [markdown]
# ## Exercises
#
# **1.** Replace ` the` at position 2 with ` a`. At which positions do the rows change for 2-grams, for 3-grams and for
# 4-grams? Predict the answer, then run the code.
#
# ??? tip "Hint"
#     An n-gram that ends at position $t$ consists of the tokens at positions $t-n+1$ to $t$. For which $t$ is position
#     2 among them?

# %% tags=["answer"]
a = ids.copy()
a[2] = vocabulary.canonical[vocabulary.encode(" a")[0]]
by_order = (addressing.rows(a, layer_id=1) != rows).reshape(13, 3, K).any(axis=2)
positions = [by_order[:, i].nonzero()[0].tolist() for i in range(3)]
assert positions == [[2, 3], [2, 3, 4], [2, 3, 4, 5]]

# %% [markdown] tags=["answer"]
# From position 2 on, the rows change at two positions for 2-grams, at three for 3-grams and at four for 4-grams.

# %% [markdown]
# **2.** V4.1 stores a row in `config.bytes_per_row` bytes and all its tables in 202,758,032,400 bytes. A server
# generates 1,000 tokens per second. How many bytes per second does it read from the tables, and what fraction of the
# tables is that?
#
# ??? tip "Hint"
#     Each token reads 24 rows in each of two layers.

# %% tags=["answer"]
per_second = 1000 * 2 * config.columns * config.bytes_per_row
total = sum(table_bytes(config, layer) for layer in (1, 14))
assert config.bytes_per_row == 264 and per_second == 12_672_000
assert round(total / per_second, -3) == 16_000
print(f"{per_second / 1e6:.1f} MB/s, which is 1/{total // per_second:,} of the tables")

# %% [markdown]
# **Next:** [canonical ids](02_canonical_ids.md), which let ` The` and `the` share their rows.
