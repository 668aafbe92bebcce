# %% [markdown]
# # What a transformer rebuilds every time
#
# Read "Alexander the Great". You did not work out who that is from three separate words: you looked it up.
# A plain transformer has nowhere to look. Engram gives it a place.
#
# **What you will be able to do**
#
# - say what problem Engram solves, and what it adds to a transformer block;
# - ask the package which table rows a sentence reads, and say which words those rows depend on;
# - compare how many numbers the tables hold with how many one token reads;
# - follow the data on one drawing, whose steps tutorials 02 to 06 explain one by one.
#
# You need Python and some linear algebra. A word in *italics* is explained where it stands. What the text claims is
# checked by an `assert`, in the code that you see or in a folded box called *Code*.

# %% [markdown]
# ## Three tokens, one king
#
# A language model reads *tokens*: pieces of text, each with a number, its *id*. A *vocabulary* lists them.
# Here is a sentence in the vocabulary of DeepSeek-V4. The model DeepSeek-V4.1-Flash uses it too; it has Engram, and
# we call it *V4.1*. (A comment such as `[T]` gives the shape of an array: T tokens.)

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
# The king takes positions 1, 2 and 3 (we count from 0). The model starts from one vector per id, so it starts
# with nothing about a king: both `the` in this sentence get the same vector, and `Great` gets the one it also has
# in "Great Britain".

# %%
assert tokens[1:4] == [" Alexander", " the", " Great"] and raw_ids[2] == raw_ids[6]
assert raw_ids[3] == vocabulary.encode("in Great Britain")[1]

# %% [markdown]
# The rest is work. *Attention* carries information from earlier positions to later ones; a *feed-forward* step then
# changes each position by itself. One round of both, with its own weights, is a *layer*, or *block*. Several layers
# pass before the tokens have become one person. The [Engram paper](https://arxiv.org/abs/2601.07372) shows this in its
# Table 3, from a study by Ghandeharioun and others (2024): after each layer, what does the vector at the last token of
# "Diana, Princess of Wales" stand for?
#
# | layer | what the vector stands for, in short |
# |---|---|
# | 1-2 | a country in the United Kingdom |
# | 3 | a country in Europe |
# | 4-5 | a title, of nobody in particular |
# | 6 | Diana, the person |
#
# Six layers for a fixed phrase. And nothing is kept: where the phrase occurs again, the work is done again.

# %% [markdown]
# ## The same phrases come back
#
# How often does that happen? An *n-gram* is $n$ tokens in a row. Take a text that every Python brings along,
# the help topics of `pydoc`, and count the n-grams that occurred earlier in the same text:
#
# $$ \text{share seen before} = 1 - \frac{\text{different n-grams}}{\text{n-grams}} $$

# %%
help_text = "\n".join(topics[name] for name in sorted(topics))
help_ids = vocabulary.encode(help_text)

def share_seen_before(ids, n):
    ngrams = np.lib.stride_tricks.sliding_window_view(ids, n)   # [n-grams, n]
    return 1 - len(np.unique(ngrams, axis=0)) / len(ngrams)

orders = range(1, 9)
shares = [share_seen_before(help_ids, n) for n in orders]
print(f"{len(help_ids):,} tokens")
assert shares[1] > 0.6 and shares == sorted(shares)[::-1]

# %% tags=["fold"]
fig, ax = plt.subplots(figsize=(6.2, 2.9))
ax.bar(orders, shares, color=["none"] + ["C0"] * 3 + ["none"] * 4, edgecolor="C0", width=0.7)
for n, share in zip(orders, shares, strict=True):
    ax.text(n, share + 0.02, f"{share:.0%}", ha="center")
ax.set(xlabel="n: tokens in a row", ylabel="share seen before", ylim=(0, 1.08), xticks=list(orders))
ax.set_title("More than four in ten 3-grams of this text were there before")
fig.set_label("Bars of the share of n-grams seen earlier in the same text, falling from 95 % for single tokens over "
              "about 69, 44 and 32 % for 2-, 3- and 4-grams to 23 % for 8-grams; 2 to 4 are highlighted.")
assert 0.4 < shares[2] < 0.5
assert np.allclose(np.array(shares)[[0, 1, 2, 3, 7]], [0.95, 0.69, 0.44, 0.32, 0.23], atol=0.04)

# %% [markdown]
# Short phrases repeat, even in one small text. The highlighted lengths, 2 to 4, are those that V4.1 looks up.

# %% [markdown]
# ## A look-up whose key is a phrase
#
# Every language model already has one look-up: the *embedding table*, with one row per token. Row $x_t$ is the
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
# $\varphi$ turns the n-gram into a row number, $N$ is the length of the longest n-gram, and $K$ is explained in a
# moment. The rows are learned in training, like those of the embedding table. Why not give each n-gram a row of its
# own? Count them, for V4.1. (A *preset* is a named configuration, here that of the released model.)

# %%
config = preset("deepseek-v4.1-flash")
for n in (2, 3, 4):
    print(f"possible {n}-grams: {float(config.canonical_size) ** n:.1e}")
assert 9e9 < config.canonical_size**2 < 1e10 and config.canonical_size**3 > 9e14
print(f"rows in one table: about {config.table_sizes[0]:,}")

# %% [markdown]
# So $\varphi$ is a *hash*: a fixed recipe that spreads all n-grams over a table of limited size. Different n-grams
# may meet in one row. Engram lives with that: each *order* $n$ has $K$ tables, called *heads*, and two phrases
# that meet in one head nearly always part in the next. [Tutorial 03](03_hash_by_hand.md) works the recipe out by hand,
# [04](04_collisions.md) counts the meetings.

# %% [markdown]
# ## Which rows does the sentence read?
#
# The configuration and the ids are enough; no weights are needed. First the ids are mapped to *canonical ids*, so that
# `The` and `the` count as the same token ([tutorial 02](02_canonical_ids.md)). Two layers of V4.1 have an Engram
# module. The first of them is layer 1, counted from 0.

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
# Three orders times eight heads make 24 columns: at every position the model reads 24 rows, one in each table.
#
# ## Rows depend on the last tokens only
#
# Swap the first word, "Only", for "Young" and see which rows move. The longest n-gram has $N = 4$ tokens, so
# token 0 can be seen from positions 0 to 3.

# %%
swapped = vocabulary.canonical[vocabulary.encode(sentence.replace("Only", "Young"))]
assert (swapped != ids).tolist() == [True] + [False] * 12       # only token 0
moved = (addressing.rows(swapped, layer_id=1) != rows).reshape(13, 3, K)
by_order = moved.all(axis=2)                                    # [T, orders]
assert (by_order == moved.any(axis=2)).all()                    # all heads or none
where = [by_order[:, i].nonzero()[0].tolist() for i in range(3)]
assert where == [[0, 1], [0, 1, 2], [0, 1, 2, 3]]

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
ax.set_title("Another first word changes the rows of four tokens, never more")
fig.set_label("A grid of 13 tokens by three orders. Filled cells, whose rows changed: 2-grams at tokens 0 and 1, "
              "3-grams at tokens 0 to 2, 4-grams at tokens 0 to 3. All other cells are empty.")
assert by_order.any(axis=1).nonzero()[0].tolist() == [0, 1, 2, 3]

# %% [markdown]
# Two things follow.
#
# **The same phrase reads the same rows, anywhere.** Here is the king in another sentence:

# %%
second = "A statue of Alexander THE great stood there."
other = vocabulary.canonical[vocabulary.encode(second)]
there = other.tolist().index(ids[3])                        # where "great" is
other_rows = addressing.rows(other, layer_id=1)[there]
same = (other_rows == rows[3]).reshape(3, K).sum(axis=1)
print("heads that read the same row, n=2, 3, 4:", *same)
assert same.tolist() == [8, 8, 0] and there != 3

# %% [markdown]
# All eight heads agree on the 2-gram and the 3-gram. The 4-gram begins with "of" here, not with "Only".
#
# **The rows are known before the model runs.** A server can fetch the rows of layer 14 from large, slow memory while
# layer 0 is still computing. The paper kept 100 billion table parameters in the computer's main memory, outside the
# GPU, and lost 2.8 % of the speed at worst (Table 4). A program that generates text needs to remember three ids to
# address the next token:

# %%
step = addressing.rows(ids[3:4], layer_id=1, history=ids[0:3])
assert (step[0] == rows[3]).all()

# %% [markdown]
# ## The whole way on one drawing
#
# What happens to the rows? They are laid side by side into one long vector, the *memory* of this token. Two linear
# maps make a *value* (what the memory has to say) and *keys* (what it is about) from it. The memory knows only four
# tokens, so it can be wrong here: `Great` may end the name of a ship, or two phrases may share a row. That is why
# the model's own state $H$, which has seen the whole text, decides through a *gate*, a number from 0 to 1, how much
# of the value enters.
#
# $H$ is the *residual stream*: the vectors that every block reads and adds to. These models carry four of them per
# token, called *branches*; each has its own key and its own gate.
#
# {{ diagram: way | Top row, whole numbers from the text alone: text "... the Great", raw id 9327, canonical id 2049,
# window 2049, 237, 15695, 1134, one mix for each of the orders 2, 3 and 4, then 8 rows per order, 24 in all. Each row
# is read from its own table of about 16 million rows; side by side they make a memory of 24 times 256, that is 6,144
# numbers. In the Engram module the memory gives a value and keys; keys and residual stream H give the gate, which
# multiplies the value; after a short convolution the result Y is added to the residual stream, before attention
# and experts. Circled numbers name tutorials: 2 canonical ids; 3 window, mix and rows; 4 tables; 5 gate;
# 6 convolution. }}

# %% tags=["fold"]
losses = [1 - 8858.28 / 9031.62, 1 - 6140.02 / 6315.52]     # the paper's Table 4, tokens per second
assert round(100 * max(losses), 1) == 2.8
assert config.vocabulary == "deepseek-v4"
# What the drawing says; the marks in its tables sit where these rows lie.
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
# The *convolution* is a weighted sum over a few earlier positions ([tutorial 06](06_short_conv.md)). Then the block
# goes on as before: attention, then the feed-forward step (here a set of *experts*, of which each token uses a few).
# Engram replaces neither.
#
# Do it once, with the preset `tiny`, random weights, and a *trace* that keeps every array on the way. Its letters are
# the same on all pages: B sequences, T tokens, M branches, D numbers per branch, C columns, W numbers per row. (The
# number of heads is $K$ in the paper and on these pages, H in the package's own shapes.)

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
b = weights["value_bias"]                                       # tiny has biases, too
assert np.allclose(v, e @ weights["value_weight"].T + b)
assert np.allclose(u, trace["gate"][..., None] * v[:, :, None, :])
assert np.allclose(Y, (u + trace["conv"])[0]) and Y.shape == H.shape
assert np.allclose(residual(H, Y, tiny), H + Y)
assert ((trace["gate"] >= 0) & (trace["gate"] <= 1)).all()

# %% [markdown]
# These tables and weights are random, so only the shapes mean something.
#
# ## Huge to hold, small to read
#
# A token reads one row from each table, however large the tables are. Count both sides for every preset of a
# published model: the parameters held in its tables, and those that one token reads.

# %%
published = [name for name in presets() if name != "tiny"]
held, read = {}, {}
for name in published:
    c = preset(name)
    table_rows = Addressing(c).primes             # {layer: rows of each table}, all prime
    rows_held = sum(int(p.sum()) for p in table_rows.values())
    held[name] = rows_held * c.row_width
    read[name] = len(c.layer_ids) * c.columns * c.row_width

# %% tags=["fold"]
fig, ax = plt.subplots(figsize=(6.2, 3.0))
for y, name in enumerate(published[::-1]):
    ax.plot([read[name], held[name]], [y, y], color="C5", linestyle="-", linewidth=1, zorder=0)
    ax.plot(read[name], y, "o", color="C1", markersize=7)
    ax.plot(held[name], y, "s", color="C0", markersize=7)
    ax.text((read[name] * held[name]) ** 0.5, y + 0.12, f"1 in {held[name] // read[name]:,}", ha="center", size=9)
ax.text(read[published[0]], len(published) - 0.6, "read per token", ha="center", color="C1")
ax.text(held[published[0]], len(published) - 0.6, "held", ha="center", color="C0")
ax.set(xscale="log", xlim=(800, 2e12), ylim=(-0.5, len(published) - 0.2), xlabel="table parameters")
ax.set_yticks(range(len(published)), published[::-1])
ax.set_title("A token reads thousands of the billions that are held")
fig.set_label("For each of five presets a disc at the table parameters one token reads, between 2,048 and 12,288, and "
              "a square at those its tables hold, between 1.3 billion and 197 billion, on a logarithmic axis.")
v41 = "deepseek-v4.1-flash"
assert min(read.values()) == 2048 and max(read.values()) == read[v41] == 12_288
assert min(held.values()) > 1.3e9
assert max(held.values()) == held[v41] == 196_613_849_600
assert sum(table_bytes(config, layer) for layer in (1, 14)) == 202_758_032_400
assert read["engram-27b"] == read["engram-40b"] == 2560
assert f"{held['engram-40b'] / held['engram-27b']:.1f}" == "3.2"

# %% [markdown]
# V4.1 holds 196.6 billion parameters in its tables, 203 GB, and a token reads 12,288 of them. The paper's larger
# model, Engram-40B, has 3.2 times the tables of its smaller one, Engram-27B. Both read 2,560 numbers per token:
# more is held, no more is read.
#
# A *mixture of experts* uses few of its parameters, too: it sends each token through a few of many feed-forward
# networks. That is *conditional computation*: what runs depends on the state. Engram is *conditional memory*: what is
# read depends on the text. How to share a budget of parameters between the two is what the paper is about.

# %% [markdown]
# ## Where the paper, the demo or a release does otherwise
#
# With the paper, its authors published a [*demo*](https://github.com/deepseek-ai/Engram): one file of code that
# computes Engram for real and imitates the rest. [Sources](../paper/sources.md) lists the papers and the code behind
# these pages.
#
# - **How long the n-grams are.** Paper and demo look up 2- and 3-grams, V4.1 also 4-grams.
# - **Which layers.** Paper: 2 and 15. V4.1: 1 and 14. These are the same blocks if the paper counts from 1, as
#   its text suggests. The demo says 1 and 15. The number matters, for the constants of the hash are drawn from it.
# - **The convolution.** V4.1 has none.
#
# [Tutorial 07](07_dialects.md) sets all versions side by side.

# %% tags=["fold"]
paper, demo = preset("paper"), preset("demo")
assert paper.orders == demo.orders == (2, 3) and paper.conv_kernel == 4
assert (paper.layer_ids, paper.layer_base) == ((2, 15), 1)
assert (config.layer_ids, config.layer_base) == ((1, 14), 0)
assert demo.layer_ids == (1, 15)
# the same blocks under other numbers: other constants in the hash
renumbered = Addressing(replace(paper, layer_ids=(1, 14), layer_base=0))
assert (renumbered.multipliers[1] != Addressing(paper).multipliers[2]).all()

# %% [markdown]
# ## Exercises
#
# **1.** Swap ` the` at position 2 for ` a`. At which positions do the rows of the 2-grams change? Of the 3-grams?
# Of the 4-grams? Decide first, then run it.
#
# ??? tip "Hint"
#     An n-gram that ends at position $t$ holds the tokens $t-n+1$ to $t$. For which $t$ is 2 among them?

# %% tags=["answer"]
a = ids.copy()
a[2] = vocabulary.canonical[vocabulary.encode(" a")[0]]
changed = (addressing.rows(a, layer_id=1) != rows).reshape(13, 3, K).any(axis=2)
where = [changed[:, i].nonzero()[0].tolist() for i in range(3)]
assert where == [[2, 3], [2, 3, 4], [2, 3, 4, 5]]

# %% [markdown] tags=["answer"]
# From position 2 on: two positions for 2-grams, three for 3-grams, four for 4-grams.

# %% [markdown]
# **2.** V4.1 stores a row in `config.bytes_per_row` bytes, and all its tables in 202,758,032,400. A server writes 1,000
# tokens per second. How many bytes per second does it read from the tables, and what share of the tables is that?
#
# ??? tip "Hint"
#     Two layers, 24 rows in each, for every token.

# %% tags=["answer"]
per_second = 1000 * 2 * config.columns * config.bytes_per_row
total = sum(table_bytes(config, layer) for layer in (1, 14))
assert config.bytes_per_row == 264 and per_second == 12_672_000
assert round(total / per_second, -3) == 16_000
print(f"{per_second / 1e6:.1f} MB/s, which is 1/{total // per_second:,} of the tables")

# %% [markdown]
# **Next:** [canonical ids](02_canonical_ids.md), the step that lets ` The` and `the` share their rows.
