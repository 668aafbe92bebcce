# %% [markdown]
# # Counting 27 billion parameters
#
# ## What you will be able to do
#
# - count the parameters of each part of a model, and those that are active for one token;
# - say what a published "26.7B" or "3.8B" includes, and use such numbers to infer values that a paper does not state;
# - compute the allocation $\rho$ of a model, and the number of experts and of rows for a given $\rho$;
# - compute the cost of an Engram table in operations, in bytes stored and in bytes read.
#
# ## Part by part
#
# A *parameter* is one trained number. The [Engram paper](https://arxiv.org/abs/2601.07372) compares four models:
# `dense-4b` has no experts; `moe-27b` has 72 *routed experts* in each layer except the first, and 6 of them process a
# token; `engram-27b` replaces 17 of them with tables; and `engram-40b` has larger tables. Parameters used for one token
# are called *active*.

# %%
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np

from engram_ref import preset
from engram_ref.dialects import sizes
from engram_ref.model import accounting
from engram_ref.model.accounting import BUDGETS, PRINTED, agreement, allocate, count, summarise
from engram_ref.model_presets import model_preset

names = ("dense-4b", "moe-27b", "engram-27b", "engram-40b")
counted = {name: count(model_preset(name)) for name in names}
parts = counted["engram-27b"]
print(f"{'engram-27b':20}{'all':>16}{'active':>16}")
for name, part in parts.items():
    print(f"{name:20}{part.total:16,}{part.active:16,}")

# %% [markdown]
# Here we compute some of these numbers by hand. An expert is three matrices, $F \times D$ or $D \times F$, with $D =
# 2560$ and $F = 1536$. A table has 80 numbers per row, and a token reads 16 rows in each of two layers.

# %%
D, F = 2560, 1536
one_expert = 3 * D * F * 29                                   # in 29 of 30 layers
assert one_expert == accounting.expert_parameters(model_preset("engram-27b"))
assert parts["routed experts"].total == 55 * one_expert == 18_815_385_600
assert parts["routed experts"].active == 6 * one_expert
assert counted["moe-27b"]["routed experts"].total == 72 * one_expert
assert parts["engram tables"].total == 80 * sum(sizes(preset("engram-27b"))["rows"])
assert parts["engram tables"].active == 2 * 16 * 80 == 2560
queries, latent, heads, out = 32 * 192 * D, 576 * D, 32 * 256 * 512, D * 32 * 128
assert parts["attention"].total == 30 * (queries + latent + heads + out)

# %% tags=["fold"]
GROUPS = {"vocabulary": ("embedding", "output matrix"), "attention": ("attention",),
          "dense and shared": ("dense feed-forward", "shared experts"),
          "routed experts": ("routed experts",), "Engram tables": ("engram tables",)}
GROUPS["the rest"] = tuple(set(accounting.PARTS).difference(*GROUPS.values()))
fig, axes = plt.subplots(1, 2, figsize=(6.8, 3.4), sharey=True)
for ax, kind in zip(axes, ("total", "active"), strict=True):
    left = np.zeros(len(names))
    for i, (label, group) in enumerate(GROUPS.items()):
        sums = [[getattr(c[p], kind) for p in group if p in c] for c in counted.values()]
        width = np.array([sum(part) for part in sums]) / 1e9
        ax.barh(names, width, 0.6, left, color=f"C{i}", label=label, edgecolor="white",
                linewidth=0.6, hatch="///" if "tables" in label else "")
        left += width
    ax.set_xlabel(f"{kind} parameters, billions")
    ax.invert_yaxis() if kind == "total" else None
fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
fig.suptitle("Tables add to the total but hardly affect the active parameters", x=0.02, ha="left")
fig.set_label("Stacked bars of four models by part. Total: 4, 27, 27 and 40 billion; in engram-27b "
              "tables replace a quarter of the experts. Active: all four about 4 billion.")
total, active = ([sum(getattr(p, kind) for p in c.values()) / 1e9 for c in counted.values()]
                 for kind in ("total", "active"))
assert np.round(total).tolist() == [4, 27, 27, 40] and np.round(active).tolist() == [4] * 4
assert counted["engram-40b"]["engram tables"].active == parts["engram tables"].active < 1e-6 * 4e9

# %% [markdown]
# ## Which parameters a published number includes
#
# The embedding matrix and the output matrix have 129,280 times 2,560 numbers each: 0.33 billion, enough to change the
# first decimal. So for every published total and active count we try all three possibilities: none of these *vocabulary
# matrices*, one, or both. A star marks the possibility that agrees.

# %%
def readings(name: str, field: str) -> list[int]:
    s = summarise(model_preset(name))
    matrix = s.total - s.total_one_vocab
    bare = s.total - 2 * matrix if field.startswith("total") else s.active
    return [bare, bare + matrix, bare + 2 * matrix]

print(f"{'model':11}{'stated':>7}{'none':>8}{'one':>9}{'both':>9}")
fitting: dict[tuple[str, str], set[int]] = {}
for name, figures in PRINTED.items():
    for field, figure, where in figures:
        if field.startswith(("total", "active")):
            values = readings(name, field)
            [fits] = [n for n in range(3) if agreement(values[n], figure) == "rounded"]
            source, kind = where.split(",")[0], field.split("_")[0]
            fitting.setdefault((source, kind), set()).add(fits)
            cells = [f"{x / 1e9:8.3f}" + " *"[n == fits] for n, x in enumerate(values)]
            print(f"{name:11}{figure:>7}" + "".join(cells), f"{source}, {kind}")
assert fitting == {("Engram", "total"): {1}, ("Engram", "active"): {0},
                   ("mHC", "total"): {2}, ("mHC", "active"): {1}}
assert round(129_280 * D / 1e9, 2) == 0.33

# %% [markdown]
# Each published number agrees with exactly one possibility, and each paper is consistent. The Engram paper includes one
# matrix in a total and none in an active count. The [mHC paper](https://arxiv.org/abs/2512.24880), which uses the same
# 27B backbone, includes both in a total and one in an active count. So its 27.0B and the Engram paper's 26.7B describe
# the same model.
#
# ## Values that the counts rule out
#
# Neither paper says whether queries are computed directly from the hidden state or through a latent (*q-LoRA*, see
# [attention](09_mla.md)). Neither gives the width of the dense layer. But the counts must agree. The mHC paper gives
# the sizes of three models of one design, to three digits each.

# %%
SIZES = {"mhc-3b": "612M", "mhc-9b": "1.66B", "moe-27b": "4.14B"}   # active, one matrix

def changed(name: str, rank: int | None = None, width: int = 8) -> int:
    """Active parameters for a given query latent or dense width (in units of F)"""
    b = model_preset(name).backbone
    wide = width * b.experts.moe_intermediate_size
    b = replace(b, intermediate_size=wide, attention=replace(b.attention, q_lora_rank=rank))
    return summarise(replace(model_preset(name), backbone=b)).active_one_vocab

def agreeing(**change) -> int:
    return sum(agreement(changed(n, **change), f) == "rounded" for n, f in SIZES.items())

for rank in (None, 768, 1536):
    print(f"query latent {rank!s:5}", *(f"{n} {changed(n, rank) / 1e9:.3f}B" for n in SIZES))
assert agreeing() == 3 and agreeing(rank=768) == agreeing(rank=1536) == 0
assert model_preset("v3-like").backbone.attention.q_lora_rank == 1536
assert max(agreeing(rank=rank) for rank in range(64, 2049, 64)) < 3
assert [width for width in range(4, 13) if agreeing(width=width) == 3] == [8]

# %% [markdown]
# No query latent rank that we tried, up to 2,048, fits all three sizes; 1536, the rank of DeepSeek-V3, and half of that
# fit none of them. Of the dense widths from $4F$ to $12F$ only $8F$ agrees, the same width as the experts active per
# token: six routed and two shared. The presets use these values, and the list of [choices](../reference/choices.md)
# documents them.
#
# The numbers of the Engram paper alone would not rule out a latent. One of rank 512 saves about as many parameters as
# one vocabulary matrix has, so it also agrees if each count includes one more matrix:

# %%
for name in names:
    b = model_preset(name).backbone
    b = replace(b, attention=replace(b.attention, q_lora_rank=512))
    s = summarise(replace(model_preset(name), backbone=b))
    shown = [figure for field, figure, where in PRINTED[name] if where.startswith("Engram")][:2]
    assert agreement(s.total, shown[0]) == agreement(s.active_one_vocab, shown[1]) == "rounded"

# %% [markdown]
# ## The allocation
#
# $P_{\mathrm{tot}}$ and $P_{\mathrm{act}}$ are the total and the active parameters, both without vocabulary matrices.
# The difference is called *sparse*: these parameters are stored, but not used for a given token. The paper's Eq. 7
# splits them according to a ratio $\rho$:
#
# $$
# \begin{align*}
# P_{\mathrm{sparse}} &= P_{\mathrm{tot}} - P_{\mathrm{act}} \\
# \text{idle experts} &= \rho\, P_{\mathrm{sparse}} \\
# \text{tables} &= (1 - \rho)\, P_{\mathrm{sparse}}
# \end{align*}
# $$
#
# Note that only idle experts count: six experts are active for any $\rho$.

# %%
pure, e27 = (summarise(model_preset(name)) for name in ("moe-27b", "engram-27b"))
tables, idle = e27.tables, 49 * one_expert                    # 55 experts, 6 of them active
print(f"rho {idle / (idle + tables):.2%};  55 of 72: {55 / 72:.2%};  49 of 66: {49 / 66:.2%}")
assert np.isclose(e27.rho, idle / (idle + tables)) and agreement(e27.rho, "74.3%") == "rounded"
assert agreement(55 / 72, "74.3%") == agreement(49 / 66, "74.3%") == "no"
assert pure.rho == 1 and pure.sparse == 66 * one_expert

# %% [markdown]
# The published 74.3% is the ratio of the idle experts to the sum of idle experts and actual tables. The fraction of the
# original idle experts that remain, 49 of 66, is slightly smaller. Conversely, a budget and a $\rho$ determine the
# number of experts and the number of rows of one table (before rounding up to [a prime](04_collisions.md)). *FLOPs* are
# floating-point operations, discussed below.

# %%
paper = preset("engram-27b")

def spend(rho: float) -> tuple[int, int]:
    return allocate(pure.sparse + pure.active, pure.active, rho, one_expert, 6, paper)

def study(budget: accounting.Budget, rho: float) -> int:
    return accounting.budget_experts(budget, rho, paper)

for rho in (1, 49 / 66, 0):
    print(f"rho {rho:6.2%}: {spend(rho)[0]:2} experts, {spend(rho)[1]:9,} rows per table")
assert [spend(rho)[0] for rho in (1, 49 / 66, 0)] == [72, 55, 6]
assert spend(49 / 66)[1] == 2_271_744 and paper.table_sizes[0] == 2_262_400 == 17.5 * 129_280
for budget in BUDGETS:
    print(f"{budget.flops} FLOPs: {study(budget, 1)} experts, at 40% {study(budget, 0.4)}")
assert [[study(b, rho) for rho in (1, 0.4)] for b in BUDGETS] == [[106, 46], [99, 43]]

# %% tags=["fold"]
fig, (top, low) = plt.subplots(2, 1, figsize=(6.2, 4.6), sharex=True)
share = np.linspace(0, 1, 101)
for i, budget in enumerate(BUDGETS):
    top.plot(100 * share, [study(budget, r) for r in share], label=f"{budget.flops} FLOPs")
    top.plot(40, budget.experts_at_40, "os"[i], color=f"C{i}")
experts, rows = zip(*map(spend, share), strict=True)
top.plot(100 * share, experts, label="27B")
low.plot(100 * share, np.array(rows) / 1e6, color="C2", linestyle="-.")
for ax, y, down in ((top, 55, -10), (low, 2.2624, 4)):
    ax.plot(100 * e27.rho, y, "D", color="C2")
    ax.annotate("engram-27b", (100 * e27.rho, y), (8, down), textcoords="offset points")
top.set(ylabel="routed experts", ylim=(0, 110))
low.set(ylabel="rows per table, millions", xlabel="rho, % of the sparse budget", ylim=(0, 9.5))
top.legend(fontsize=8)
fig.suptitle("One expert fewer allows 134,000 more rows in each of 32 tables", x=0.02, ha="left")
fig.set_label("Above: routed experts against rho, three straight lines that rise from 6; marks at 40% "
              "and, with 55 experts, at 74%. Below: rows of one table fall from 8.8 million to 0.")
assert round(one_expert / (32 * 80), -3) == 134_000 and (round(rows[0] / 1e6, 1), rows[-1]) == (8.8, 0)

# %% [markdown]
# The two smaller budgets, 2e20 and 6e20 training FLOPs, are the paper's, as are all four expert counts.
#
# ## What "the same FLOPs" omits
#
# Each weight of a matrix that is applied to a token costs two *FLOPs*, a multiplication and an addition. Rows are read,
# not multiplied. But projecting them does cost FLOPs: each of the two layers computes one value and four keys from
# 1,280 numbers.

# %%
projections = parts["engram projections"].active
more = e27.flops / pure.flops - 1
print(f"projections {projections:,}: {projections / pure.active:.2%} of the active parameters")
print(f"FLOPs per token {pure.flops:.3e} -> {e27.flops:.3e}, {more:+.2%}")
assert projections == 2 * (4 + 1) * D * 1280 and round(projections / pure.active, 4) == 0.0086
assert round(more, 4) == 0.0076 and e27.total - pure.total == 8_323_200
assert agreement(pure.active, "3.8B") == agreement(e27.active, "3.8B") == "rounded"
attending = e27.flops_per_cached_token * 4096 / e27.flops
assert round(attending, 2) == 0.30

# %% [markdown]
# The paper's claim of equal FLOPs ("iso-FLOPs") holds to within 0.76%. That is little compared with the 30% that
# attention adds with 4,096 tokens in the cache, and both active counts still round to 3.8B. But it is the Engram model
# that uses more. (It also has 8.3 million more parameters in total.)
#
# ## Bytes stored and bytes read
#
# An expert that a token uses must be read in full. From the tables, a token reads only 16 rows per layer (V4.1: 24),
# regardless of the length of the tables.

# %%
routed = parts["routed experts"]
stores = {"routed experts, 27B": (4 * routed.total, 4 * routed.active)}
for c in map(preset, ("engram-27b", "engram-40b", "deepseek-v4.1-flash")):
    read = len(c.layer_ids) * c.columns * c.bytes_per_row
    stores[f"tables, {c.name}"] = sizes(c)["bytes"], read
for label, (stored, read) in stores.items():
    print(f"{label:28} stored {stored / 1e9:5.1f} GB   read per token {read:13,} bytes")
assert stores["tables, engram-27b"][1] == stores["tables, engram-40b"][1] == 4 * 2560
assert stores["tables, deepseek-v4.1-flash"] == (202_758_032_400, 2 * 24 * (256 + 8))
assert 7.3e6 < stores["routed experts, 27B"][0] / stores["tables, engram-27b"][1] < 7.4e6

# %% [markdown]
# (The 27B and 40B models are assumed to use four bytes per number; V4.1 uses one byte per number and eight more per
# row.) So a table can be stored in large and slow memory, and its rows can be prefetched because they depend on the
# tokens alone. The tokens of a batch can share the experts that are read. But even if all tokens share all experts, a
# batch needs more than seven million tokens before it reads as few expert bytes per token as table bytes.
#
# ## Inconsistencies in the paper
#
# All published numbers above agree after rounding, with one exception: the tables of `engram-27b` have 5.792 billion
# parameters, which the paper truncates to 5.7B. Also, the small models of the allocation study have 10 times as many
# total as active parameters; the 27B models have 7 times as many.

# %%
results = {(name, figure): agreement(getattr(summarise(model_preset(name)), field), figure)
           for name, figures in PRINTED.items() for field, figure, _ in figures}
exceptions = {pair: result for pair, result in results.items() if result != "rounded"}
assert exceptions == {("engram-27b", "5.7B"): "truncated"}
assert [round(b.p_total / b.p_active, 1) for b in BUDGETS] == [10.0, 10.0]
assert [round((s.sparse + s.active) / s.active) for s in (pure, e27)] == [7, 7]

# %% [markdown]
# ## Exercises
#
# **1.** For the 27B budget at $\rho = 40\%$: how many experts, and how many rows per table?
#
# ??? tip "Hint"
#     Without tables, 66 experts are idle.

# %% tags=["answer"]
print("{} experts, {:,} rows".format(*spend(0.4)))
assert spend(0.4) == (6 + round(0.4 * 66), 5_291_827)

# %% [markdown]
# **2.** Could the embedding and the output matrix of the Engram models be *tied*, that is, the same matrix?
#
# ??? tip "Hint"
#     Change `tie_embeddings` and look at the total.

# %% tags=["answer"]
tied = replace(model_preset("moe-27b").backbone, tie_embeddings=True)
total = summarise(replace(model_preset("moe-27b"), backbone=tied)).total
assert total == pure.total_one_vocab and agreement(total, "26.7B") == "rounded"

# %% [markdown] tags=["answer"]
# As far as the counts show, yes: they cannot distinguish a tied matrix from one that was not counted. The mHC paper's
# 27.0B is evidence against tying.

# %% [markdown]
# Next: [making it fast without changing a bit](14_making_it_fast.md).
