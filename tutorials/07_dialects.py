# %% [markdown]
# # The dialects of Engram
#
# Engram exists in several versions: the [paper](https://arxiv.org/abs/2601.07372), the authors'
# [demo](https://github.com/deepseek-ai/Engram), DeepSeek-V4.1-Flash (V4.1), and a Qwen variant called per-layer
# embedding, published in [HF transformers](https://github.com/huggingface/transformers) as `qwen4_exp`. All of them
# look up the last few tokens (an **n-gram**) in hashed tables and scale the result by a gate, but they differ in most
# details. We call each version a **dialect**.
#
# ## What you will be able to do
#
# - describe a dialect as a list of choices, and define a new one;
# - say whether a choice changes *addresses* (which rows are read), *values* (the output for given rows), or neither;
# - compute the address of one n-gram in four dialects;
# - infer from the pattern of wrong rows, or from the size of an error, which choice is wrong in a port (a
#   reimplementation in another language or framework).
#
# ## One configuration, many choices
#
# This package has no code that tests for a particular dialect. Every difference is a named field of `EngramConfig`, and
# the code reads that field. A **preset** is one set of values. `DIALECT_FIELDS` lists the choices in which presets
# differ, each with a function that describes the value. The table below is generated from the presets.

# %% tags=["fold"]
from dataclasses import replace
from textwrap import wrap

import matplotlib.pyplot as plt
import ml_dtypes
import numpy as np

from engram_ref import Addressing, EngramConfig, Vocabulary, engram, ops, preset
from engram_ref.dialects import DIALECT_FIELDS, sizes
from engram_ref.model.engram_parameters import initialise
from engram_ref.presets import GATES

DIALECTS = {"paper": preset("engram-27b"), "demo": preset("demo"),
            "V4.1": preset("deepseek-v4.1-flash"),
            "Qwen": preset("qwen4exp-ple")}


def show(label: str, cells: list, width: int = 15) -> None:
    """Print one line of a table; a long cell continues on the next line."""
    columns = [wrap(str(cell), width) or [""] for cell in cells]
    for i in range(max(map(len, columns))):
        line = [c[i] if i < len(c) else "" for c in columns]
        head = f"{'' if i else label:19}"
        print((head + " ".join(f"{c:{width}}" for c in line)).rstrip())


# %%
show("", list(DIALECTS))
for label, in_words in DIALECT_FIELDS:
    show(label, [in_words(config) for config in DIALECTS.values()])

# %% [markdown]
# You need not memorise the table; the tutorials explain the choices that they use, and the
# [glossary](../reference/glossary.md) explains the rest. Two points matter here. Any two columns differ in many
# choices, and no choice is the same in all four. (Not every preset is a dialect: `engram-40b`, the paper's larger
# model, differs from `engram-27b` only in the size of the tables.)
#
# Where no source publishes a value, the cell shows this project's own choice; [Choices](../reference/choices.md) lists
# all such values. The complete table is [in the reference](../reference/dialects.md).

# %% tags=["fold"]
def differing(one: EngramConfig, other: EngramConfig) -> list[str]:
    return [label for label, in_words in DIALECT_FIELDS
            if in_words(one) != in_words(other)]


names = list(DIALECTS)
show("differing choices", names)
for a in names:
    counts = [len(differing(DIALECTS[a], DIALECTS[b])) for b in names]
    show(a, counts)
    assert all(n > 5 for b, n in zip(names, counts, strict=True) if b != a)
same = [label for label, in_words in DIALECT_FIELDS
        if len({in_words(config) for config in DIALECTS.values()}) == 1]
print(len(DIALECT_FIELDS), "choices; the same in all four:", same or "none")
assert len(DIALECT_FIELDS) == 20 and not same
larger = differing(preset("engram-27b"), preset("engram-40b"))
assert larger == ["nominal table size"]

# %% [markdown]
# ## One n-gram, four addresses
#
# We compute the address of the 2-gram " the Great" in the first Engram layer of each dialect. A **canonical id**
# represents all spellings of a token ([tutorial 02](02_canonical_ids.md)). The **mix** is the hash of the n-gram before
# each head takes it modulo the prime size $p$ of its own table ([tutorial 03](03_hash_by_hand.md)):
#
# $$ \mathrm{mix} = (x_t\, m_0) \oplus (x_{t-1}\, m_1), \qquad \mathrm{row} = \mathrm{mix} \bmod p $$
#
# One limitation: Qwen hashes *raw* ids of a tokenizer that this package does not include. The Qwen column uses
# DeepSeek's raw ids instead. So the arithmetic is Qwen's, but the ids are not.

# %%
sentence = "Only Alexander the Great could tame the horse Bucephalus."
raw = Vocabulary.load("deepseek-v4").encode(sentence)
great = 3                                      # the position of " Great"


def ids_of(config: EngramConfig) -> np.ndarray:
    """The ids of the sentence that the dialect hashes: canonical or raw"""
    if config.vocabulary is None:
        return raw
    return Vocabulary.load(config.vocabulary).canonical[raw]


def mixes_of(config: EngramConfig, layer: int) -> np.ndarray:
    """The mixes at " Great", one per order"""
    addressing, ids = Addressing(config), ids_of(config)
    shifts = ops.windows(ids[None], addressing.start(1), addressing.pad_id,
                         addressing.eos_id)
    return ops.mix(shifts, addressing.multipliers[layer])[0, great]


columns = {}
for name, config in DIALECTS.items():
    layer, addressing = config.layer_ids[0], Addressing(config)
    ids = ids_of(config)
    new, old = int(ids[great]), int(ids[great - 1])
    m0, m1 = (int(m) for m in addressing.multipliers[layer][:2])
    mix = int(mixes_of(config, layer)[0])
    p = int(addressing.primes[layer][0])
    row = int(addressing.rows(ids, layer)[great, 0])
    assert mix == (new * m0) ^ (old * m1) and row == mix % p
    columns[name] = {
        "layer": layer, "id of ' Great'": new, "id of ' the'": old,
        "multiplier m0": m0, "multiplier m1": m1, "mix, in hex": f"{mix:x}",
        "p of head 0": p, "row of head 0": row}

show("", list(columns))
for label in columns["paper"]:
    show(label, [column[label] for column in columns.values()])
head_0 = [column["row of head 0"] for column in columns.values()]
assert head_0 == [782_676, 124_270, 10_824_761, 8_408_046]
assert columns["V4.1"]["mix, in hex"] == "229cb25bd57dcc8"
assert columns["paper"]["id of ' Great'"] == columns["V4.1"]["id of ' Great'"]

# %% [markdown]
# The three DeepSeek columns agree on both ids but differ in every line below. Why?
#
# **Paper and demo** use the same vocabulary and the same random number generator for the multipliers. But the seed
# depends on the layer number, and they number the layers differently. In layer 15, which both have, all multipliers and
# mixes are equal. The rows still differ because the table sizes differ:

# %% tags=["fold"]
print("layer 15      mix, in hex         p of head 0   row of head 0")
layer_15 = {}
for name in ("engram-27b", "engram-40b", "demo"):
    config = preset(name)
    addressing = Addressing(config)
    mix = mixes_of(config, 15)[0]
    row = addressing.rows(ids_of(config), 15)[great, 0]
    print(f"{name:12}  {mix:15x}  {addressing.primes[15][0]:14,}  {row:14,}")
    layer_15[name] = (int(mix), int(row))
assert len({mix for mix, _ in layer_15.values()}) == 1
assert len({row for _, row in layer_15.values()}) == 3

# %% [markdown]
# **Demo and V4.1** both use layer 1 and agree on the ids of this sentence. But V4's vocabulary has 465 more tokens and
# therefore more canonical ids, and the range of the multipliers is inversely proportional to that number. The random
# bits are the same, so all multipliers are scaled by the same factor. That is enough to change every row.

# %% tags=["fold"]
v3, v4 = DIALECTS["demo"], DIALECTS["V4.1"]
m_v3 = Addressing(v3).multipliers[1]           # three of them
m_v4 = Addressing(v4).multipliers[1][:3]
print("canonical ids:", f"{v3.canonical_size:,} and {v4.canonical_size:,}")
print("ratio of the sizes      ", f"{v4.canonical_size / v3.canonical_size:.9f}")
print("ratio of the multipliers", (m_v3 / m_v4).round(9))
assert v4.vocab_size - v3.vocab_size == 465 and (ids_of(v3) == ids_of(v4)).all()
factor = v4.canonical_size / v3.canonical_size
assert np.allclose(m_v3 / m_v4, factor, rtol=1e-9, atol=0)

# %% [markdown]
# ## Which choices change addresses?
#
# Now change one choice at a time. We use `tiny`, a small preset of this project, and a text of two documents: the
# sentence, the token that ends a document, and the sentence again. Each variant below differs from `tiny` in one
# choice. What fraction of the rows at each position changes?
#
# Here is what the labels mean. The *seed index* is the number that seeds a layer's multipliers, either the
# layer's own number or its index in the list of layers (its *ordinal*). *SplitMix64* is Qwen's random number generator.
# The *fill* is the id that pads a window before the start of the text. *Separate documents* makes the end mark a
# barrier: the window of the mark itself still includes its document, but the windows of later positions include neither
# the mark nor anything before it. The fill is then the mark, so windows are the same at the start of every document. A
# position marked *DEAD* contains no text, for example because it belongs to an image; n-grams do not extend across it
# either.

# %%
tiny, layer = preset("tiny"), 1
END = 1                                  # raw and canonical id of the end mark
two = np.concatenate([raw, [END], raw])
ids = Vocabulary.load(tiny.vocabulary).canonical[two]
base = Addressing(tiny).rows(ids, layer)                 # [T, C]
T = len(ids)

v3_fields = {"vocabulary": "deepseek-v3", "vocab_size": v3.vocab_size,
             "canonical_size": v3.canonical_size}
raw_fields = {"vocabulary": None, "canonical_size": tiny.vocab_size}
four_fields = {"max_ngram": 4, "table_sizes": (997, 1499, 1499)}
dead = np.where(np.arange(T) == 8, ops.DEAD, ids)        # 8: in an image
variants = {                             # label: changed fields, layer, ids
    "V3's vocabulary": (v3_fields, layer, ids),
    "raw ids": (raw_fields, layer, two),
    "layers one higher": ({"layer_ids": (2, 3)}, 2, ids),
    "seed index: ordinal": ({"seed_index": "ordinal"}, layer, ids),
    "SplitMix64": ({"multiplier_generator": "splitmix64"}, layer, ids),
    "larger tables": ({"table_sizes": (1010, 1510)}, layer, ids),
    "fill: pad id 0": ({"pad_id": 0}, layer, ids),
    "separate documents": ({"eos_id": END}, layer, ids),
    "token 8 is DEAD": ({}, layer, dead),
    "orders up to 4": (four_fields, layer, ids),
}
changed = {}
for label, (fields, at, its_ids) in variants.items():
    rows = Addressing(replace(tiny, **fields)).rows(its_ids, at)
    changed[label] = (rows[:, :tiny.columns] != base).mean(axis=-1)   # [T]
    print(f"{label:20} {changed[label].mean():5.0%} of all rows differ")

# %% tags=["fold"]
fig, ax = plt.subplots(figsize=(6.6, 3.6))
for y, (_, share) in enumerate(changed.items()):
    hit = share > 0
    ax.scatter(np.flatnonzero(~hit), [y] * (~hit).sum(), s=5, color="C5")
    for level in np.unique(share[hit]):
        at_level = np.flatnonzero(share == level)
        ax.scatter(at_level, [y] * len(at_level), s=60, marker="s", color="C0",
                   alpha=0.35 + 0.65 * level, linewidths=0)
ax.axvline(len(raw), color="C1", linestyle="--", linewidth=1)
ax.annotate("the first document ends here", (len(raw) + 0.3, -0.75), fontsize=8)
ax.set(yticks=range(len(changed)), yticklabels=list(changed), xlabel="position",
       ylim=(len(changed) - 0.5, -1.2))
ax.set_title("Most address choices change nearly every row;\n"
             "fill and barriers only the rows near an edge")
fig.set_label("A grid: ten changed choices down, positions across; a square "
              "marks a position with changed rows, darker for more of them. "
              "Vocabulary, raw ids, layer number, seed index, generator and "
              "table size change every position. The fill changes positions "
              "0 and 1. Separating the documents also changes these, since the "
              "end mark is then the fill, and the position after the "
              "document's end. A dead token changes its own position and the "
              "next two. Orders up to 4 change nothing.")
positions = {k: np.flatnonzero(share).tolist() for k, share in changed.items()}
assert ids[len(raw)] == END
everywhere = list(variants)[:6]
assert all(changed[label].mean() > 0.99 for label in everywhere)
assert all((changed[label] > 0.5).all() for label in everywhere)
assert positions["fill: pad id 0"] == [0, 1]
assert positions["separate documents"] == [0, 1, len(raw) + 1]
assert positions["token 8 is DEAD"] == [8, 9, 10]
assert positions["orders up to 4"] == []        # the old columns are unchanged

# %% [markdown]
# Each line is one changed choice; a square marks a position whose rows changed, darker for more of them. Six choices
# change almost every row, however minor they look: a layer number off by one is as bad as a different vocabulary. A
# port with such an error is wrong everywhere, so a test of one token detects it.
#
# The fill and the barriers (a document's end, a DEAD mark) affect only positions whose n-grams extend across an edge. A
# test in the middle of a text does not cover them. Orders up to 4 add tables and leave the existing ones in this layer
# unchanged. But no prime is used twice, so the tables of the *next* layer get different primes.

# %% tags=["fold"]
taller = Addressing(replace(tiny, **four_fields))
assert (taller.primes[1][:tiny.columns] == Addressing(tiny).primes[1]).all()
assert (taller.primes[2][:tiny.columns] != Addressing(tiny).primes[2]).any()

# %% [markdown]
# ## Which choices change values?
#
# The other choices leave the row indices unchanged and affect the computation after the lookup. We keep the rows, the
# random weights and the **hidden state** (the model's vectors for a position) and measure the largest change in the
# output, relative to its size. ("FP8 and bf16 rounding" rounds like the released V4.1, in [four
# places](15_torch_and_cuda.md#where-low-precision-rounds); `eps`, gains and the factored score are explained in
# [tutorial 05](05_gate.md), the dilation in [06](06_short_conv.md).)

# %% tags=["fold"]
rng = np.random.default_rng(7)
weights = initialise(tiny, layer, rng)
for name in ("key_bias", "value_bias", "query_gain", "key_gain", "conv_gain"):
    shape = weights[name].shape
    weights[name] = weights[name] + 0.3 * rng.standard_normal(shape)
hidden = rng.standard_normal((T, tiny.n_branches, tiny.hidden_size))
right = engram(weights, hidden, base, tiny)
size = np.sqrt((right**2).mean())


def without(word: str) -> dict[str, np.ndarray]:
    return {k: w for k, w in weights.items() if word not in k}


bf16_table = {**weights, "table": weights["table"].astype(ml_dtypes.bfloat16)}
single = {k: w if w.dtype == np.int64 else w.astype(np.float32)
          for k, w in weights.items()}

# %%
choices = {                              # label: changed fields, weights
    "no convolution": ({"conv_kernel": 0}, without("conv")),
    "dilation 1, not 3": ({"conv_dilation": 1}, weights),
    "no biases": ({"projection_bias": False}, without("bias")),
    "gains 1 + w": ({"gain_form": "zero_centred"}, weights),
    "gate: plain sigmoid": ({"gate_form": "sigmoid"}, weights),
    "FP8 and bf16 rounding": ({"rounding": "fp8_bf16"}, single),
    "rows kept as bf16": ({"table_codec": "bf16"}, bf16_table),
    "query/key eps 1e-5": ({"norm_eps": 1e-5}, weights),
    "query/key eps 1e-20": ({"norm_eps": 1e-20}, weights),
    "factored score": ({"score_form": "factored"}, weights),
    "gate: copysign": ({"gate_form": "copysign_sqrt"}, weights),
}
effect = {}
for label, (fields, its_weights) in choices.items():
    config = replace(tiny, **fields)
    assert (Addressing(config).rows(ids, layer) == base).all()
    state = hidden.astype(its_weights["value_weight"].dtype)
    output = engram(its_weights, state, base, config)
    effect[label] = float(abs(output - right).max() / size)
    print(f"{label:20} changes the output by {effect[label]:.0e} of its size")

# %% tags=["fold"]
fig, ax = plt.subplots(figsize=(6.6, 3.2))
floor = 1e-17
for y, distance in enumerate(effect.values()):
    if not distance:
        ax.annotate("exactly 0", (2 * floor, y), fontsize=8, va="center")
        continue
    ax.plot([floor, distance], [y, y], color="C5", linewidth=0.8, linestyle="-")
    ax.plot(distance, y, "o", color="C0")
ax.axvline(2.0**-8, color="C1", linestyle="--", linewidth=1)
ax.annotate("rounding error of bf16", (2.0**-9, -0.6), fontsize=8, ha="right")
ax.set(xscale="log", yticks=range(len(effect)), yticklabels=list(effect),
       xlim=(floor, 100), ylim=(len(effect) - 0.5, -1.5),
       xlabel="largest change in the output, relative to its size")
ax.set_title("Value errors come in all sizes, some below any tolerance")
fig.set_label("Eleven changed choices down, the relative change of the output "
              "across, logarithmic. Convolution, dilation, biases, gains and "
              "the gate's form change it by 0.1 to 10, rounding and bf16 rows "
              "by 0.01 to 0.2, an eps of 1e-5 by 1e-5, an eps of 1e-20 and the "
              "factored score by 1e-14 or less, copysign not at all.")
assert all(effect[label] > 0.1 for label in list(choices)[:5])
assert 5e-3 < effect["rows kept as bf16"] < effect["FP8 and bf16 rounding"] < 0.2
assert 1e-7 < effect["query/key eps 1e-5"] < 1e-4
assert max(effect["query/key eps 1e-20"], effect["factored score"]) < 1e-13
assert effect["gate: copysign"] == 0

# %% [markdown]
# Wrong addresses cause large errors; wrong values can go unnoticed. An eps of $10^{-20}$ instead of float64's epsilon,
# or `copysign` instead of `sign`, passes any comparison of random outputs. [Tutorial 05](05_gate.md) has inputs that
# detect these errors.
#
# Two choices change neither addresses nor values. `row_multiple` pads the stored table with rows that are never read,
# and `conv_init` sets the initial values for training.

# %% tags=["fold"]
padded = replace(tiny, row_multiple=128)
spare = sizes(padded)["rows"][0] - sizes(tiny)["rows"][0]
longer = {**weights, "table": np.pad(weights["table"], ((0, spare), (0, 0)))}
assert 0 < spare < 128 and (engram(longer, hidden, base, padded) == right).all()
from_zero = replace(tiny, conv_init="zeros")
assert (engram(weights, hidden, base, from_zero) == right).all()

# %% [markdown]
# ## All gates for the same scores
#
# A **score** measures how well a memory fits its context. The **gate**, between 0 and 1, determines how much of the
# memory is added. `GATES` contains the gates by name; [*TileKernels*](https://github.com/deepseek-ai/TileKernels) is
# DeepSeek's library of GPU kernels.

# %%
scores = [-8.0, -1.0, -0.01, -0.0, 0.0, 0.01, 1.0, 8.0]
print("score         " + " ".join(f"{s:7g}" for s in scores))
alphas = {}
for name, fields in GATES.items():
    alphas[name] = ops.gate(np.array([[scores]]), fields["gate_form"])[0, 0]
    print(f"{name:14}" + " ".join(f"{a:7.5f}" for a in alphas[name]))

# %% tags=["fold"]
assert (alphas["tilekernels"] == alphas["deepseek-v4.1"]).all()
assert (alphas["demo"] == alphas["qwen"]).all()
assert alphas["demo"][3] == alphas["demo"][4] == 0.5
assert (alphas["deepseek-v4.1"][3:5] != 0.5).all()

# %% [markdown]
# The five gates have only three different curves. But dialects also differ in the norms, which determine the score.
# Here are one state, one key and one set of stored gain weights, evaluated in each dialect.

# %%
key = rng.standard_normal((1, 1, 1, 16))
state = key + rng.standard_normal(key.shape)
gains = {"query_gain": np.full((1, 16), 0.8), "key_gain": np.full((1, 16), 0.8)}
scores = {}
for name, fields in GATES.items():
    config = replace(tiny, n_branches=1, **fields)
    s = ops.gate_score(gains, state, key, config)
    scores[name] = float(s.item())
    print(f"{name:13} score {scores[name]:.4f}   gate {ops.gate(s, config.gate_form).item():.4f}")
plain = [scores[name] for name in GATES if name != "qwen"]
assert np.allclose(plain, plain[0])
assert np.isclose(scores["qwen"] / plain[0], (1.8 / 0.8) ** 2, rtol=1e-5)

# %% [markdown]
# Qwen stores a gain minus 1, so a stored 0.8 means a gain of 1.8. There are two norms, so the score is larger by a
# factor of $(1.8/0.8)^2$.
#
# ## How the versions differ
#
# This tutorial as a whole describes the differences. The [errata page](../paper/errata.md) lists the places where the
# paper contradicts the code or itself, with evidence.
#
# ## Exercises
#
# **1.** Define a dialect: the demo with V4.1's gate and without a convolution. Predict which of its rows differ from
# the demo's. Then check.
#
# ??? tip "Hint"
#     Use `dataclasses.replace(config, **GATES[...], conv_kernel=0)`. Do the gate and the convolution appear in the
#     first figure or in the second?

# %% tags=["answer"]
demo = preset("demo")
mine = replace(demo, name="mine", **GATES["deepseek-v4.1"], conv_kernel=0)
for at in mine.layer_ids:
    my_rows, demo_rows = (Addressing(c).rows(ids_of(c), at) for c in (mine, demo))
    assert (my_rows == demo_rows).all()
print(f"differs in: {', '.join(differing(mine, demo))}; all rows are equal")
assert differing(mine, demo) == ["score", "gate", "query/key eps",
                                 "convolution", "conv eps", "conv init"]

# %% [markdown]
# **2.** On texts of three documents, a port's rows are right except at the first positions of the second and third
# documents. Which choice is wrong, and in which ways can it be wrong?
#
# ??? tip "Hint"
#     Which line of the first figure shows this pattern?

# %% tags=["answer"]
three = np.concatenate([ids[:12], [END], ids[:12], [END], ids[:12]])
filled = replace(tiny, pad_id=END)       # as in Qwen: the end mark is also the fill at the start
apart = Addressing(replace(filled, eos_id=END)).rows(three, layer)
joined = Addressing(filled).rows(three, layer)
wrong = np.flatnonzero((apart != joined).any(axis=-1))
print("positions with different rows:", wrong)
assert wrong.tolist() == [13, 26]

# %% [markdown] tags=["answer"]
# The barrier at the end of a document is wrong. Either the port separates documents although its dialect does not, or
# the other way round. The first document is right in both cases because it begins where the stream begins. The second
# position of a document is right too: its 3-gram extends back to the end mark, and the fill is that mark.

# %% [markdown]
# This is the last tutorial about Engram itself; the next ones cover the model around it. Next:
# [hyper-connections](08_hyper_connections.md), which provide the four branches. For more about Engram, [type your own
# text](type-your-own-text.md), or look up [where each equation is computed](../paper/map.md).
