# %% [markdown]
# # From n-gram to row: a hash you can compute by hand
#
# ## What you will be able to do
#
# - compute by hand which table row an n-gram reads in DeepSeek-V4.1-Flash;
# - measure the quality of a hash instead of assuming that it behaves randomly;
# - explain why the multipliers are odd and bounded;
# - keep the history that a stream needs to read the same rows as the whole text, and say which rows a masked token
#   changes.
#
# ## The task
#
# An **n-gram** is a token together with the $n-1$ tokens before it; $n$ is its **order**. Engram keeps tables of
# learned vectors. Each order has several tables, one per **head**, and an n-gram reads one **row** of each. This page
# covers only the computation of the row indices.
#
# Every token already has a number, its [canonical id](02_canonical_ids.md). We cannot simply number all n-grams because
# there are far too many pairs, let alone triples. So the row is *computed* by a **hash**: integer arithmetic that gives
# the same row on every machine and spreads the n-grams evenly over the table. Presets are named configurations; `flash`
# is the preset of DeepSeek-V4.1-Flash, or V4.1 for short.

# %%
import dataclasses
import math
import pydoc_data.topics

import matplotlib.pyplot as plt
import numpy as np

from engram_ref import Addressing, InputError, Vocabulary, ops, preset

flash = preset("deepseek-v4.1-flash")
print(f"possible 2-grams  {flash.canonical_size**2:>13,}")
print(f"rows in one table {flash.table_sizes[0]:>13,} or a few more")
assert flash.canonical_size**2 > 600 * flash.table_sizes[0]

# %% [markdown]
# ## A toy hash
#
# Here is a hash that looks reasonable and is easy to write down. Ids are first reduced modulo 500. The *oldest* token
# is multiplied by 1, the next one by 3, and in a 3-gram the newest by 5. The products are combined by XOR, written
# $\oplus$ here and `^` in Python: a bit of the result is 1 if exactly one of the two bits is 1. The result is called
# the **mix**. Each head $h$ XORs the mix with its own constant, and all tables have 5,003 rows:
#
# $$
# \begin{align*}
# \mathrm{mix} &= \bigl( 1\,(x_0 \bmod 500) \bigr) \oplus \bigl( 3\,(x_1 \bmod 500) \bigr)
#                 \oplus \bigl( 5\,(x_2 \bmod 500) \bigr) \\
# \mathrm{row}_h &= (\mathrm{mix} \oplus 10007\,h) \bmod 5003
# \end{align*}
# $$
#
# There are four heads ($h$ from 0 to 3), two orders (2 and 3) and 32 numbers per row. Take the tokens 42, 108, 256 and
# 512. The last two form the 2-gram, and $512 \bmod 500 = 12$.

# %%
HEADS, SIZE = 4, 5_003


def toy_mix(ngrams: np.ndarray) -> np.ndarray:
    """ngrams [..., n], oldest token first"""
    mixed = 0
    for i in range(ngrams.shape[-1]):
        mixed = mixed ^ (ngrams[..., i] % 500) * (2 * i + 1)
    return mixed


def toy_rows(mixed: np.ndarray) -> np.ndarray:
    rows = [(mixed ^ head * 10_007) % SIZE for head in range(HEADS)]
    return np.stack(rows, axis=-1)                       # [..., HEADS]


tokens = np.array([42, 108, 256, 512])
print(f"256 * 1 = {256 * 1:09b}")
print(f" 12 * 3 = {12 * 3:09b}")
print(f"    XOR = {256 ^ 36:09b} = {256 ^ 36}")
for n in (2, 3):
    print(f"{n}-gram rows:", toy_rows(toy_mix(tokens[-n:])))
assert toy_rows(toy_mix(tokens[-2:]))[0] == 256 ^ 36 == 292
assert HEADS * 2 * 32 == 256  # numbers a position reads

# %% [markdown]
# So head 0 reads row 292 for the 2-gram. The eight rows of a position, concatenated, form a vector of 256 numbers. The
# arithmetic works, but is it a good hash? Let us try it on real text: the help pages that ship with Python, tokenised
# with the vocabulary of DeepSeek-V4.

# %%
vocabulary = Vocabulary.load("deepseek-v4")
topics = pydoc_data.topics.topics
text = "\n".join(topics[name] for name in sorted(topics))
ids = vocabulary.canonical[vocabulary.encode(text)]
pairs_of_ids = np.unique(np.stack([ids[:-1], ids[1:]], axis=-1), axis=0)  # oldest first
triples_of_ids = np.unique(np.stack([ids[:-2], ids[1:-1], ids[2:]], axis=-1), axis=0)
print(f"{len(ids):,} tokens, {len(pairs_of_ids):,} different 2-grams,"
      f" {len(triples_of_ids):,} different 3-grams")

# %% [markdown]
# ### Fault 1: the mix is too small
#
# After the modulo, an id is at most 499. Multiplied by 3, it is still below 2,048, so the mix of a 2-gram has at most
# 11 bits. We can compute all possible mixes.

# %%
every = np.arange(500)
mixes_of_2 = np.unique(toy_mix(np.stack(np.meshgrid(every, every), axis=-1)))
mixes_of_3 = np.unique(mixes_of_2[:, None] ^ 5 * every)  # one more product
for n, mixes in ((2, mixes_of_2), (3, mixes_of_3)):
    print(f"{500**n:11,} {n}-grams give {len(mixes):,} mixes, the largest {mixes.max():,}")
assert len(mixes_of_2) == 1_536 == mixes_of_2.max() + 1
assert mixes_of_3.max() < 4_096 < SIZE and flash.canonical_size // 500 == 198

# %% [markdown]
# Two things go wrong before any table is involved. The modulo maps about 198 unrelated canonical ids to the same
# number. And 2-grams have only 1,536 different mixes, so in head 0 they can never read more than 1,536 of the 5,003
# rows.
#
# The modulo is not the only cause of equal mixes. Without it, but with the multipliers 1 and 3, there are still a
# quarter fewer mixes than 2-grams, and 2-grams with the same mix share their row in every head. With the multipliers of
# V4.1, explained below, no two 2-grams share a mix.

# %% tags=["fold"]
layer = flash.layer_ids[0]
addressing = Addressing(flash)
multipliers = addressing.multipliers[layer]
oldest_first = pairs_of_ids[:, 0] * 1 ^ pairs_of_ids[:, 1] * 3
newest_first = pairs_of_ids[None, :, ::-1]  # [1, 2-grams, 2]
real_mixes = ops.mix(newest_first, multipliers[:2])[0, :, 0]
mixes = {"1 and 3, ids modulo 500": toy_mix(pairs_of_ids),
         "1 and 3, full ids": oldest_first, "from V4.1": real_mixes}
distinct = {name: len(np.unique(mixed)) for name, mixed in mixes.items()}
for name, count in distinct.items():
    print(f"multipliers {name:24} {count:6,} mixes for {len(pairs_of_ids):,} 2-grams")
assert distinct["from V4.1"] == len(pairs_of_ids)
assert 0.7 < distinct["1 and 3, full ids"] / len(pairs_of_ids) < 0.8

fig, ax = plt.subplots(figsize=(6.2, 2.8))
edges = np.arange(0, SIZE, 100)
real_rows = ops.table_rows(real_mixes[None, :, None], np.array([SIZE]))[0, :, 0]
used = {"toy, head 0": toy_rows(toy_mix(pairs_of_ids))[:, 0], "V4.1's mix": real_rows}
for i, (name, rows) in enumerate(used.items()):
    ax.stairs(np.histogram(rows, edges)[0], edges, label=name, color=f"C{i}", linewidth=1.8, linestyle=("-", "--")[i])
    print(f"{name:12} rows read: {len(np.unique(rows)):,} of {SIZE:,}")
assert used["toy, head 0"].max() < 1_536 and len(np.unique(real_rows)) > 0.98 * SIZE
ax.set(xlabel="row of a table with 5,003 rows", ylabel="2-grams per 100 rows",
       title="The toy hash uses the first third of the table, the real mix all of it")
ax.legend()
fig.set_label("Number of different 2-grams of real text per hundred rows. The toy hash maps all of them to rows 0 to "
              "1,535 and leaves the rest empty; the real mix spreads them evenly over the table.")

# %% [markdown]
# ### Fault 2: four heads act as one
#
# The purpose of several heads is that two n-grams that collide in one table do not collide in the next. In the toy hash
# they always do. The reason is that a mix is below $4096 = 2^{12}$, so it has twelve bits. XOR with a head's constant
# flips some of these bits, and different mixes stay different. The higher bits equal those of the constant, so all
# results lie within a range of 4,096 consecutive numbers. That is less than 5,003, so the modulus keeps them different
# too. Therefore n-grams that collide in one head have the same mix and collide in all four.

# %%
def collisions(rows: np.ndarray) -> int:
    """Number of pairs of n-grams that collide in all of these heads; rows [n-grams, heads]"""
    counts = np.unique(rows, axis=0, return_counts=True)[1]
    return int((counts * (counts - 1) // 2).sum())


for n, ngrams in ((2, pairs_of_ids), (3, triples_of_ids)):
    in_heads = [collisions(toy_rows(toy_mix(ngrams))[:, :k]) for k in (1, 2, 3, 4)]
    print(f"toy {n}-grams, pairs that collide in 1 to 4 heads: {in_heads}")
    assert len(set(in_heads)) == 1
for column in toy_rows(np.arange(4_096)).T:
    assert len(np.unique(column)) == 4_096  # different mixes never collide, in any head

# %% [markdown]
# If we plot the row in head 0 against the row in head 1, the toy's points lie on a few lines. With two tables of
# different prime sizes, 5,003 and 5,009 rows, the points fill the plane.

# %% tags=["fold"]
primes = ops.table_primes((SIZE,), HEADS, 1)[0]
assert primes[:2].tolist() == [5_003, 5_009]
some = np.random.default_rng(3).permutation(len(pairs_of_ids))[:400]
points = {"toy": toy_rows(toy_mix(pairs_of_ids))[some],
          "distinct primes": ops.table_rows(real_mixes[None, some, None], primes)[0]}
fig, axes = plt.subplots(1, 2, figsize=(6.4, 3.3), sharey=True)
for i, (ax, (name, rows)) in enumerate(zip(axes, points.items(), strict=True)):
    ax.plot(rows[:, 0], rows[:, 1], "o", color=f"C{i}", markersize=2)
    ax.set(xlabel="row in head 0", title=name, xlim=(-100, SIZE), ylim=(-100, SIZE + 100))
axes[0].set_ylabel("row in head 1")
fig.suptitle("In the toy, head 0 determines head 1; with distinct primes it does not", x=0.02, ha="left")
fig.set_label("Two scatter plots of 400 real 2-grams, row in head 0 against row in head 1. The toy's points lie on a "
              "few short diagonal lines; with two distinct primes they fill the whole square.")
both_heads = {"toy": toy_rows(toy_mix(pairs_of_ids))[:, :2],
              "distinct primes": ops.table_rows(real_mixes[None, :, None], primes[:2])[0]}
per_row = {name: len(np.unique(rows, axis=0)) / len(np.unique(rows[:, 0])) for name, rows in both_heads.items()}
print("rows of head 1 per row of head 0:", *(f"{name} {count:.1f}" for name, count in per_row.items()))
assert per_row["toy"] == 1 and per_row["distinct primes"] > 3

# %% [markdown]
# ### Fault 3: all tables have the same size
#
# Would better mixes fix the toy? We use the mixes of V4.1 and compare three ways to make four heads: one shared size
# alone, one shared size with the toy's constants, and four **distinct primes** as sizes. We count the pairs of 2-grams
# that read the same row in head 0, in the first two heads, and in all four. If heads were independent, one in 5,003 of
# the pairs that collide in head 0 would also collide in head 1.

# %%
schemes = {"one size": np.stack([real_mixes % SIZE] * HEADS, axis=-1),
           "one size, constants": toy_rows(real_mixes),
           "distinct primes": ops.table_rows(real_mixes[None, :, None], primes)[0]}
counted = {name: [collisions(rows[:, :k]) for k in (1, 2, 4)]
           for name, rows in schemes.items()}
print("primes", primes)
for name, (one, two, four) in counted.items():
    print(f"{name:20} one head {one:6,}   two heads {two:6,}   all four {four:6,}")
one, two, four = counted["one size, constants"]
print(f"independent heads would have {one / SIZE:.1f} in two heads and none in all four")

# %% tags=["fold"]
assert len(set(counted["one size"])) == 1 and counted["one size"][0] == one
assert (10_007).bit_count() == 8 and 0.8 < two / (one / 2**8) < 1.3
assert 15 < two / (one / SIZE) < 26 and one / SIZE**3 < 1e-6
assert counted["distinct primes"][1] < 2.5 * one / SIZE
assert counted["distinct primes"][2] == 0

# %% [markdown]
# With one shared size alone, all heads are copies of each other. The constants help, but not enough: pairs collide in
# two heads about twenty times as often as in independent heads. The reason is that 10,007 has eight 1-bits. XOR with it
# adds or subtracts eight powers of two, depending on those bits of the mix. Mixes that agree in the eight bits are
# shifted by the same amount, so if they collide in head 0 they also collide in head 1. Two mixes agree in these bits
# about once in $2^8 = 256$ cases, not once in 5,003. Distinct primes need no constant and do better; [the next
# tutorial](04_collisions.md) shows by how much.
#
# ## The real hash, step by step
#
# For a position $t$, count **shifts** backwards: shift 0 is the current token, shift 1 the one before it. Each shift
# has one large odd **multiplier** $m_i$, the same for all orders and heads of a layer. Each head $k$ of order $n$ has
# its own prime $p_{n,k}$, the number of rows in its table:
#
# $$
# \begin{align*}
# \mathrm{mix}_n(t) &= (x_t\, m_0) \oplus (x_{t-1}\, m_1) \oplus \dots \oplus (x_{t-n+1}\, m_{n-1}) \\
# \mathrm{row}_{n,k}(t) &= \mathrm{mix}_n(t) \bmod p_{n,k}
# \end{align*}
# $$
#
# We compute the rows for layer 1 of V4.1-Flash, at the last token of "Only Alexander the Great".

# %%
raw = vocabulary.encode("Only Alexander the Great")
text_ids = vocabulary.canonical[raw]
primes_of_layer = addressing.primes[layer]
for i, m in enumerate(multipliers):
    word, x = vocabulary.text(int(raw[-1 - i])), text_ids[-1 - i]
    print(f"shift {i} {word!r:12} {x:6,} * {m:18,} = {x * m:23,}")

# %% [markdown]
# ### Why the multipliers are bounded
#
# A multiplier is $2r+1$ with a random $r$, drawn once before training, below a limit that depends on the number of
# canonical ids: the product of any id and any multiplier stays below $2^{63}$, the limit of a signed 64-bit integer. So
# products never overflow, and products and mixes are never negative. This matters for the modulus: if a number is
# negative, Python rounds the quotient down, whereas C and Java round it towards zero, so the remainders differ.

# %%
limit = ops.hashing.multiplier_range(flash.canonical_size)  # exclusive, for r
largest_id, largest_multiplier = flash.canonical_size - 1, 2 * (limit - 1) + 1
print(f"largest product possible {largest_id * largest_multiplier:,}")
print(f"                   2**63 {2**63:,}")
assert largest_id * largest_multiplier < 2**63
assert (multipliers <= largest_multiplier).all() and (real_mixes >= 0).all()
assert -7 % 5 == 3 and math.fmod(-7, 5) == -2  # quotient: Python rounds down, C towards 0

# %% [markdown]
# ### Why the multipliers are odd
#
# An odd number is never 0, and a multiplier of 0 would remove its token from the mix. An odd multiplier also preserves
# the lowest bit of the id. With prime table sizes this hardly matters. If we make the multipliers even by adding 1,
# half the rows of a table with $4096 = 2^{12}$ rows are never read. In a table with a prime number of rows, almost all
# rows are still read.

# %% tags=["fold"]
even_mixes = ops.mix(newest_first, multipliers[:2] + 1)[0, :, 0]
for size, expected in ((4_096, 0.5), (4_093, 1.0)):
    odd, even = (len(np.unique(mixed % size)) / size for mixed in (real_mixes, even_mixes))
    print(f"{size} rows: odd multipliers read {odd:.0%} of them, even ones {even:.0%}")
    assert odd > 0.98 and expected - 0.02 < even <= expected
assert ops.is_prime(4_093) and (multipliers % 2 == 1).all()

# %% [markdown]
# ### The XOR, bit by bit
#
# Below are the products of "Great" and "the", and their XOR, as 64 bits in groups of eight. A bit of the mix is 1 if
# exactly one of the two bits is 1. Because the newest token comes first, mixes can be computed incrementally: the mix
# of the 3-gram is the mix of the 2-gram XOR one more product.

# %%
def bits(number: int) -> str:
    return " ".join(f"{number:064b}"[i:i + 8] for i in range(0, 64, 8))


products = [int(x) * int(m)  # Python's big integers
            for x, m in zip(text_ids[::-1], multipliers, strict=True)]
great, the, alexander, only = products
by_hand = "".join(a if a == " " else "01"[a != b]
                  for a, b in zip(bits(great), bits(the), strict=True))
print(f"Great {bits(great)}\n  the {bits(the)}\n  XOR {by_hand}")

shifts = ops.windows(text_ids[None], addressing.start(1), addressing.pad_id)
mixes = ops.mix(shifts, multipliers)[0, -1]                      # at "Great"; orders 2, 3, 4
assert by_hand == bits(int(mixes[0])) and int(mixes[0]) == great ^ the
assert mixes[1] == mixes[0] ^ alexander and by_hand.startswith("0")

# %% [markdown]
# ### The modulus of one row
#
# The last step is a division with remainder. Head 0 of the 2-grams has $p = 16{,}000{,}057$ rows, the first prime above
# the nominal 16 million.

# %%
mixed, p = int(mixes[0]), int(primes_of_layer[0])
quotient, row = divmod(mixed, p)
print(f"{mixed:,} = {quotient:,} * {p:,} + {row:,}")
all_rows = addressing.rows(text_ids, layer)
assert p == 16_000_057
assert [n for n in range(16_000_000, p + 1) if ops.is_prime(n)] == [p]
assert all_rows[-1, 0] == row == 10_824_761

# %% [markdown]
# The other 23 rows of the position are computed the same way:

# %%
slow = []
for n, head_primes in zip(flash.orders, primes_of_layer.reshape(3, 8), strict=True):
    slow += [int(mixes[n - 2]) % int(p_k) for p_k in head_primes]
    print(f"{n}-gram", *(f"{r:>8}" for r in slow[-8:]))
assert slow == all_rows[-1].tolist() and len(slow) == flash.columns == 24

# %% [markdown]
# ## The left edge, and streams
#
# A **window** is a token and the three before it, newest first: the ids at shifts 0 to 3. At the beginning of a text
# there are no earlier tokens. There the window is padded with the canonical id of the padding token, which is 2.
#
# A program that generates text token by token must not hash each token as if it were the first of the text: the rows of
# a token depend on the $N-1$ ids before it, where $N$ is the largest order. These ids are the **history**, oldest
# first, with -1 for positions before the start of the text. With the history, a text split into chunks reads the same
# rows as the whole text. Without the history, the first three positions of a chunk read wrong rows.

# %%
print("windows of [10, 11, 12], newest first, one line per position:")
three = np.array([[10, 11, 12]])
print(ops.windows(three, addressing.start(1), addressing.pad_id)[0])

sample = ids[:40]
whole = addressing.rows(sample, layer)
for cut in range(len(sample) + 1):
    history = addressing.advance(None, sample[:cut])
    assert (addressing.rows(sample[cut:], layer, history) == whole[cut:]).all()
print("history after the whole text:", history)
assert (history == sample[-3:]).all() and flash.max_ngram - 1 == 3 and addressing.pad_id == 2
without_history = addressing.rows(sample[20:], layer)
wrong = (without_history != whole[20:]).any(axis=-1).nonzero()[0]
assert wrong.tolist() == [0, 1, 2]

# %% [markdown]
# ## A dead token
#
# V4.1 also accepts images. The positions of an image contain no text, so they are marked **DEAD** (-1). A DEAD mark
# ends the window: its shift and all older ones are padded, even if there are words before the image. Otherwise an
# n-gram could combine words that are not adjacent in the text. In the figure, a column is the window of one position.
# Bold text on orange marks padding caused by the dead token; grey marks padding at the left edge.

# %% tags=["fold"]
alive, q = np.array([10, 11, 12, 13, 14, 15, 16, 17]), 2
marked = np.where(np.arange(len(alive)) == q, ops.DEAD, alive)
shown = ops.windows(marked[None], addressing.start(1), addressing.pad_id)[0]
hidden = shown == addressing.pad_id
fig, ax = plt.subplots(figsize=(6.2, 2.7))
for t in range(len(alive)):
    for shift in range(4):
        by_dead = hidden[t, shift] and t >= q
        if hidden[t, shift]:
            ax.add_patch(plt.Rectangle((t - 0.47, shift - 0.45), 0.94, 0.9, color="C1" if by_dead else "C5",
                                       alpha=0.35 if by_dead else 0.2, linewidth=0))
        ax.text(t, shift, "pad" if hidden[t, shift] else str(shown[t, shift]), ha="center", va="center",
                weight="bold" if by_dead else None)
ax.set_xticks(range(len(alive)), ["DEAD" if x < 0 else str(x) for x in marked])
ax.set(xlim=(-0.5, len(alive) - 0.5), ylim=(3.5, -0.5), yticks=range(4),
       xlabel="the token at each position", ylabel="shift",
       title="A dead token hides itself and all older tokens for three more positions")
fig.set_label("A grid, positions across, shifts 0 to 3 down. At the dead position all four shifts are padded, at the "
              "next position shifts 1 to 3, then 2 and 3, then only 3; after that no shift is padded.")
assert shown[q + 1].tolist() == [13, 2, 2, 2]
assert all(hidden[q + i].tolist() == [shift >= i for shift in range(4)] for i in range(5))

# %%
before, after = addressing.rows(alive, layer), addressing.rows(marked, layer)
changed = (before != after).reshape(len(alive), 3, 8).any(axis=-1)  # [position, order]
orders = [np.array(flash.orders)[c].tolist() for c in changed]
for t in range(q, q + 5):
    print(f"token {alive[t]}: orders whose rows changed: {orders[t]}")
assert orders == [[], [], [2, 3, 4], [2, 3, 4], [3, 4], [4], [], []]

# %% [markdown]
# ## How the versions differ
#
# The paper says "multiplicative-XOR" and "prime", but gives no formula. The formula above is taken from the authors'
# demo; V4.1 uses it with $N = 4$ and the DEAD mark. Qwen's variant of Engram hashes raw token ids and draws its
# multipliers differently. It also separates documents at the *EOS*, the token that ends a document. The window of the
# EOS itself still includes its own document. The windows of later positions include neither the EOS nor anything before
# it: they are padded with the EOS id, as at the start of the text. The folded code checks this on a short text.
#
# The seed of the multipliers depends on the layer number, and V4.1 counts layers from 0. A *port* (a reimplementation
# in another language or framework) that counts from 1 reads entirely different rows.

# %% tags=["fold"]
for name in ("engram-27b", "demo", "deepseek-v4.1-flash", "qwen4exp-ple"):
    c = preset(name)
    print(f"{name:19} N={c.max_ngram} ids {c.vocabulary or 'raw':11} {c.multiplier_generator:10} "
          f"DEAD {'yes' if c.dead_barrier else 'no':3} resets after {c.eos_id}")
qwen = Addressing(preset("qwen4exp-ple"))
E = qwen.eos_id                                          # two documents: 5, 6, EOS and 7, 8
two_documents = np.array([[5, 6, E, 7, 8]])
assert ops.windows(two_documents, qwen.start(1), qwen.pad_id, E)[0].tolist() == [
    [5, E, E], [6, 5, E], [E, 6, 5], [7, E, E], [8, 7, E]]
try:
    Addressing(preset("demo")).rows(np.array([5, ops.DEAD]), layer_id=1)
    raise AssertionError("the demo accepted a DEAD mark")
except InputError as error:
    assert "canonical_ids" in str(error)
one_off = dataclasses.replace(flash, layer_ids=(2, 15), layer_base=1, multipliers=None)
assert (Addressing(one_off).rows(text_ids, 2) != all_rows).all() and flash.layer_base == 0

# %% [markdown]
# ## Exercises
#
# **1.** A text consists of the canonical ids 0 and 3, in this order. With pencil, paper and a calculator, compute the
# row that head 0 of the 2-grams reads for the 3 in layer 1.
#
# ??? tip "Hint"
#     Which multiplier belongs to the 3, the newer token? What is the product of id 0? Note that $3 \cdot
#     76{,}632{,}096{,}046{,}245 = 229{,}896{,}288{,}138{,}735$.

# %% tags=["answer"]
mixed = 3 * 76_632_096_046_245 ^ 0  # XOR with the product 0 changes nothing
assert mixed == 229_896_288_138_735
print(mixed, "mod", p, "=", mixed % p)
assert addressing.rows(np.array([0, 3]), layer)[1, 0] == mixed % p == 13_136_173

# %% [markdown]
# **2.** A port works token by token. Its history should contain -1 for a DEAD token, but the port stores the padding id
# 2. Which orders are wrong at each of the next three tokens?
#
# ??? tip "Hint"
#     The padding id is an ordinary id: it does not end a window. Which ids come before it in the history?

# %% tags=["answer"]
for t, expected in ((3, [3, 4]), (4, [4]), (5, [])):
    kept = marked[t - 3:t]
    rows = addressing.rows(marked[[t]], layer, np.where(kept == ops.DEAD, 2, kept))[0]
    bad = np.array(flash.orders)[(rows != after[t]).reshape(3, 8).any(axis=-1)].tolist()
    print(f"token {alive[t]}: wrong orders {bad}")
    assert bad == expected

# %% [markdown] tags=["answer"]
# The position of the dead token is padded correctly, but the words before it are included in the 3-gram and 4-gram of
# the next token and in the 4-gram of the token after that. The 2-grams are right, so a test of 2-grams alone would
# pass.

# %% [markdown]
# Next: [collisions, heads and primes](04_collisions.md).
