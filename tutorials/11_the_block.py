# %% [markdown]
# # The block, end to end
#
# ## What you will be able to do
#
# - follow one sentence from token ids to logits, and compute each step with the package's ops;
# - read the keys of a model's trace, and use them to find the first stage at which two runs differ;
# - say which tokens the gate depends on in the first and in the second block;
# - say which results change when Engram is switched off or its rows are shuffled, and what loss an untrained model has.
#
# The earlier tutorials covered the parts separately: [Engram](01_why_lookup.md), the [residual
# branches](08_hyper_connections.md), [attention](09_mla.md), the [experts](10_experts.md). This one combines them. The
# model `tiny` has two blocks and a width of 16. Only its vocabulary, with 129,280 tokens, has full size.

# %%
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np

from engram_ref import Addressing, Trace, Vocabulary, ops
from engram_ref.model.block import below
from engram_ref.model.parameters import initialise
from engram_ref.model.transformer import forward
from engram_ref.model_presets import model_preset

config = model_preset("tiny")
b, engram, attention = config.backbone, config.engram, config.backbone.attention
parameters = initialise(config, np.random.default_rng(0))         # random, not trained
vocabulary = Vocabulary.load(engram.vocabulary)
ids = vocabulary.encode("Only Alexander the Great could tame the horse Bucephalus.")
words = [vocabulary.text(int(token)) for token in ids]
T, M, D, V = len(ids), b.n_branches, b.hidden_size, b.vocab_size
print(T, "tokens:", "|".join(words))
assert (b.n_layers, M, D, V) == (2, 4, 16, 129_280) and T == 13

# %% [markdown]
# A *residual branch* is one of the $M = 4$ vectors that the model has for each position; together they form the state
# $X$. A *block* updates $X$ in three steps. A *site* applies one network $F$: it mixes the four branches into one
# vector, applies $F$ to it, and adds the output to all four.
#
# $$
# \begin{align*}
# X &\leftarrow X + \mathrm{Engram}(X) \\
# X &\leftarrow \mathrm{site}(X,\ F = \text{attention}) \\
# X &\leftarrow \mathrm{site}(X,\ F = \text{feed-forward})
# \end{align*}
# $$
#
# One call computes everything, down to the *logits*: a score for every token that might come next. The *trace* records
# a copy of every stage. A key is a path: block, part, stage. Blocks are counted from 0 here.

# %%
trace = Trace()
logits = forward(parameters, ids, config, trace=trace)          # [T, V]
second_block = [key for key in trace if key.startswith("layers.1")]
for part in dict.fromkeys(key.split(".")[2] for key in second_block):
    stages = [key.split(".")[3] for key in second_block if f".{part}." in key]
    print(f"layers.1.{part:14}", " ".join(stages[:4]), "..." * (len(stages) > 4))
first, second = ({k[9:] for k in trace if k.startswith(f"layers.{i}.")} for i in (0, 1))
assert second - first == {"experts.experts", "experts.expert_weights"} and first < second

# %% [markdown]
# The first block has a *dense* feed-forward network, which processes every token. The second has experts, so its trace
# also records which experts were chosen. (The path contains `experts` in both blocks.) Otherwise the two blocks have
# the same stages.
#
# ## Step by step
#
# First, each token's row of the embedding matrix is copied into all four branches. Then **Engram** computes rows from
# the token ids, a memory from the rows, a gate per branch from memory and state, and the short convolution, and adds
# the result to the state. `below` selects the parameters under a path. (Engram's own layer numbers count from 1.)

# %%
X = ops.expand(ops.embed(parameters["embed.weight"], ids[None]), M)      # [1, T, M, D]
states = {"embedding": X}
assert X.shape == (1, T, M, D) and np.array_equal(X[:, :, 3], X[:, :, 0])

addressing, canonical = Addressing(engram), vocabulary.canonical[ids][None]
taps = np.zeros((1, engram.conv_span, M, D))              # zeros before the start of the text
def engram_step(p: dict, X: np.ndarray, rows: np.ndarray) -> np.ndarray:
    e = below(p, "engram")
    memory = ops.gather_decode(e, rows, engram, X.dtype)
    gated = ops.project_and_gate(e, memory, X, None, engram)
    Y, _ = ops.gated_conv(e, gated, taps, engram)
    return X + Y
block_0, block_1 = (below(parameters, f"layers.{i}") for i in (0, 1))
states["Engram 0"] = X = engram_step(block_0, X, addressing.rows(canonical, layer_id=1))
assert np.array_equal(X, trace["layers.0.engram.residual"])

# %% [markdown]
# **Attention, at its site**, comes next. Three *maps* are computed from the state itself: the weights for reading the
# branches, for writing to them, and for mixing them.
#
# $$
# \begin{align*}
# u &= \sum_i H^{\mathrm{pre}}_i X^{(i)}, \qquad y = F(\mathrm{RMSNorm}(u)) \\
# X^{(i)} &\leftarrow \sum_j H^{\mathrm{res}}_{ij} X^{(j)} + H^{\mathrm{post}}_i\, y
# \end{align*}
# $$

# %%
positions = np.arange(T)[None]
angle = ops.angles(positions, ops.frequencies(attention.qk_rope_head_dim, attention.rope_theta))

def site(p: dict, X: np.ndarray, name: str, F) -> np.ndarray:
    pre, post, res = ops.branch_maps(below(p, f"{name}_hc"), X, b.rms_norm_eps, b.hyper)
    u = ops.read_branches(X, pre)                             # [1, T, D]
    y = F(ops.rms_norm(u, p[f"{name}_norm.weight"], b.rms_norm_eps))
    return ops.write_branches(X, y, post, res)

def attend(p: dict, x: np.ndarray) -> np.ndarray:
    a = below(p, "attn")
    c_kv, k_pe = ops.latents(a, x, angle, attention)          # what a cache would store
    return ops.mla(a, x, c_kv, k_pe, positions, angle, attention)

states["attention 0"] = X = site(block_0, X, "attn", lambda x: attend(block_0, x))
assert np.array_equal(X, trace["layers.0.attn_branches.branches"])

# %% [markdown]
# **Feed-forward, at its site**, does the same with a different $F$, which processes each position separately. The
# second block repeats these steps, with experts instead of the dense network. At the end the branches are *collapsed*
# into one vector (here: summed), normalised once more, and multiplied by the output matrix, which has one row per token
# of the vocabulary. The logits are bitwise equal to those of `forward`.

# %%
def feed_forward(p: dict, x: np.ndarray, index: int) -> np.ndarray:
    f = below(p, "ffn")
    if index < b.n_dense_layers:
        return ops.swiglu(x, *(f[f"w{i}.weight"] for i in (1, 2, 3)))
    return ops.moe(f, x, b.experts)

def head(X: np.ndarray, form: str = "sum") -> np.ndarray:
    x = ops.collapse(X, form, {}, b.rms_norm_eps)             # [1, T, D]
    x = ops.rms_norm(x, parameters["norm.weight"], b.rms_norm_eps)
    return ops.linear(x, parameters["head.weight"])[0]        # [T, V]

states["feed-forward 0"] = X = site(block_0, X, "ffn", lambda x: feed_forward(block_0, x, 0))
assert np.array_equal(X, trace["layers.0.ffn_branches.branches"])
states["Engram 1"] = X = engram_step(block_1, X, addressing.rows(canonical, layer_id=2))
states["attention 1"] = X = site(block_1, X, "attn", lambda x: attend(block_1, x))
states["feed-forward 1"] = X = site(block_1, X, "ffn", lambda x: feed_forward(block_1, x, 1))
assert np.array_equal(head(X), logits)
assert b.hyper.collapse == "sum" and abs(head(X, "mean") - head(X)).max() < 1e-5

# %% [markdown]
# ## The effect of each step on the branches
#
# We compute two numbers per state. The *size* of a branch is its root mean square. The *spread* is the root mean square
# of the differences from the mean of the four branches: 0 means four copies.

# %%
def rms(x: np.ndarray, axis=None) -> np.ndarray:
    return np.sqrt((x**2).mean(axis=axis))

size = np.array([rms(X, axis=(0, 1, 3)) for X in states.values()])               # [7, M]
spread = [rms(X - X.mean(axis=2, keepdims=True)) for X in states.values()]
mixing = [trace[key] for key in trace if key.endswith("branch_residual")]
assert len(mixing) == 4 and abs(np.array(mixing) - 1 / M).max() < 0.15
grown = np.diff(size, axis=0)                             # rows 1 and 4: attention
assert grown[[0, 2, 3, 5]].min() > 0 and abs(grown[[1, 4]]).max() < 0.06
assert size[0].round(1).tolist() == [1.0] * M and size[-1].round(1).tolist() == [1.8] * M

# %% tags=["fold"]
fig, (top, low) = plt.subplots(2, 1, figsize=(6.2, 4.2), sharex=True)
for m in range(M):
    top.plot(size[:, m], marker="os^D"[m], markersize=5, label=f"branch {m}")
top.set(ylabel="size", ylim=(0.9, 1.85))
top.legend(fontsize=8, ncols=2, loc="lower right")
colours = ["C0" if "Engram" in name else "C5" for name in states]
low.bar_label(low.bar(range(7), spread, color=colours), fmt="%.2f", fontsize=8, padding=2)
low.set(ylabel="spread", ylim=(0, 0.35))
low.set_xticks(range(7), [name.replace(" ", "\nblock ") for name in states], fontsize=8)
fig.suptitle("Engram makes the branches different; the next site averages them", x=0.02, ha="left")
fig.set_label("Above: the size of four branches in seven states, rising from 1.0 to 1.8. Below: "
              "the spread between them, 0.28 after each Engram step, under 0.06 elsewhere.")
assert spread[0] == 0 and min(spread[1::3]) > 0.27 and max(spread[2:4] + spread[5:]) < 0.06

# %% [markdown]
# All four branches grow in the Engram and feed-forward steps, but hardly in attention. Engram makes them different
# because it has a separate gate for each. The sites mix them. With these random weights all entries of
# $H^{\mathrm{res}}$ are near a quarter, so mixing makes the branches nearly equal again. Training can change that.
#
# ## Which tokens Engram depends on
#
# The gate compares the memory with the *state*. Which tokens does the state depend on at that point? We find out by
# experiment: replace one earlier token, run again, and check whether a stage at the last position changes. A disc in
# the figure means that the stage changes.

# %%
stages = {"gate, block 0": "layers.0.engram.gate",
          "after Engram, block 0": "layers.0.engram.residual",
          "after attention, block 0": "layers.0.attn_branches.branches",
          "memory, block 1": "layers.1.engram.memory", "gate, block 1": "layers.1.engram.gate"}
other = 1000                                      # a token that is not in the sentence
depends = np.zeros((len(stages), T), dtype=bool)
for position in range(T):
    changed = Trace()
    forward(parameters, np.where(np.arange(T) == position, other, ids), config, trace=changed)
    for stage, key in enumerate(stages.values()):
        depends[stage, position] = (changed[key][0, -1] != trace[key][0, -1]).any()
assert depends[:, -1].all()
assert vocabulary.canonical[other] not in canonical
assert (engram.conv_kernel - 1) * engram.conv_dilation + engram.max_ngram == 12
paper = model_preset("engram-27b").engram
assert paper.layer_ids[0] == 2 and paper.layer_base == 1 and engram.layer_ids == (1, 2)

# %% tags=["fold"]
fig, ax = plt.subplots(figsize=(6.4, 2.7))
for dot, colour, cells in (("o", "C0", depends), ("x", "C5", ~depends)):
    ax.plot(*np.nonzero(cells)[::-1], dot, color=colour, markersize=9 if dot == "o" else 4)
ax.set_xticks(range(T), map(str.strip, words), rotation=55, ha="right", fontsize=8)
ax.set_yticks(range(len(stages)), stages, fontsize=9)
ax.set(ylim=(4.5, -0.5), title="Block 0's gate depends on 3 tokens, block 1's on all 13")
fig.set_label("A grid, five stages down, 13 tokens across; a disc if the last position "
              "depends on the token. Gate in block 0: last 3. After Engram: last 12. After "
              "attention: all 13. Memory in block 1: last 3. Gate in block 1: all.")
assert depends.sum(axis=1).tolist() == [3, 12, 13, 3, 13]

# %% [markdown]
# Before block 0 there is no attention. The state is the token's own embedding, so the gate can only check whether the
# n-gram fits its last token. The convolution extends further: four taps, three apart, each over a 3-gram, cover 12
# tokens. In block 1 the memory still depends on three tokens, as in every block. But its gate now uses a state that has
# passed one round of attention. The paper puts its first module in layer 2, counted from 1, so its first gate already
# uses such a state.
#
# ## Switch it off, shuffle its rows
#
# We compare three modified models: one without Engram, one with tables of zeros, and one with all rows of its tables in
# a different order. How much do the logits change, relative to their size?

# %%
tables = {n: a for n, a in parameters.items() if n.endswith("engram.table")}
bare = {n: a for n, a in parameters.items() if ".engram." not in n}
other_order = {n: np.random.default_rng(1).permutation(a) for n, a in tables.items()}
after = Trace()
off = forward(bare, ids, replace(config, engram=None))
zeros = forward(parameters | {n: 0 * a for n, a in tables.items()}, ids, config)
shuffled = forward(parameters | other_order, ids, config, trace=after)
for name, result in (("switched off", off), ("zeros", zeros), ("shuffled", shuffled)):
    print(f"{name:12} relative change of the logits {rms(result - logits) / rms(logits):.2f}")
first_difference = next(key for key in trace if not np.array_equal(trace[key], after[key]))
print("the shuffled run first differs at", first_difference)
assert np.array_equal(zeros, off) and first_difference == "layers.0.engram.memory"
assert rms(shuffled - logits) > rms(off - logits) > 0.8 * rms(logits)

# %% [markdown]
# Zeros and "off" are bitwise equal: a value of zero adds nothing (the biases of this model are initialised to zero).
# Shuffling changes the logits more because it replaces each memory by a different one. The trace shows the first stage
# that differs: the row indices are right, but the contents of the rows are wrong. A port that loads its table in the
# wrong order shows exactly this symptom.
#
# ## The loss of an untrained model
#
# The *loss* at a position is the negative log-probability that the model assigns to the token that actually comes next,
# in *nats* (units of the natural logarithm). A model that considers all $V$ tokens equally likely has a loss of $\ln V$
# everywhere:
#
# $$ \mathrm{loss} = -\ln\, \mathrm{softmax}(\mathrm{logits})[\text{next}], \qquad -\ln \frac{1}{V} = \ln V $$

# %%
print(f"{'ln V':14} {np.log(V):.2f}")
for name, z in (("with Engram", logits), ("switched off", off), ("shuffled", shuffled)):
    sentence = ops.cross_entropy(z[:-1], ids[1:]).mean()      # predictions of tokens 1 to 12
    any_token = (ops.cross_entropy(z, 0 * ids) + z[:, 0] - z.mean(axis=-1)).mean()     # all V
    print(f"{name:14} {sentence:.2f} on the sentence, {any_token:.2f} over all tokens")
    assert abs(any_token - np.log(V) - 0.5) < 0.02 and abs(z.std() - 1) < 0.01
    assert abs(sentence - np.log(V)) < 0.5
assert np.allclose(ops.cross_entropy(0 * logits, ids), np.log(V))

# %% [markdown]
# An untrained model is slightly worse than a uniform prediction because its logits vary at random. They have a standard
# deviation of 1, and normally distributed logits with deviation $\sigma$ increase the loss by $\sigma^2/2$, here half a
# nat. Twelve tokens are too few to show this effect. For a port this is a cheap check: an initial loss far from $\ln V$
# means that something is scaled incorrectly. Engram makes no difference before training because its tables contain no
# information yet.
#
# ## How the versions differ
#
# The demo implements Engram alone: its attention and experts return their input, its four branches are equal copies,
# and at the end it uses the first branch. The [mHC paper](https://arxiv.org/abs/2512.24880) does not say how branches
# are collapsed. Here a field selects the form: `sum`, `mean`, or `head`, the learned weighting of DeepSeek-V4. The
# first two differ only through the eps of the norm that follows, because the norm removes the factor of 4.
#
# ## Exercise
#
# Suppose the rows of the first module are stored in a different order, and every address is translated accordingly. Do
# the logits change?
#
# ??? tip "Hint"
#     `engram_step` accepts any rows. Flat rows index one table of all columns, so with them the column offsets are 0.

# %% tags=["answer"]
order = np.random.default_rng(2).permutation(addressing.table_rows[1])
translated = np.argsort(order)[addressing.rows(canonical, 1, flat=True)]
stored = {"engram.table": block_0["engram.table"][order],     # new row i is the old order[i]
          "engram.column_offsets": np.zeros(engram.columns, dtype=np.int64)}
again = engram_step(block_0 | stored, states["embedding"], translated)
assert np.array_equal(again, states["Engram 0"])

# %% [markdown] tags=["answer"]
# No, they are bitwise equal. The index of a row has no meaning in itself, as long as the same n-gram always reads the
# same row.

# %% [markdown]
# Next: [decoding](12_decoding.md), the state that a model keeps between chunks of a text.
