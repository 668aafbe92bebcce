# %% [markdown]
# # DeepSeekMoE routing by hand
#
# ## What you will be able to do
#
# - route one token by hand: scores, bias, groups, best experts, weights;
# - say what the bias affects and what it does not;
# - recognise two bugs by the experts that they select: a mask of 0, and groups ranked by their best expert;
# - balance the load of the experts without gradients.
#
# ## Many small networks, few active
#
# Attention is followed by a feed-forward network. A *mixture of experts* (MoE) has many small ones, the **routed
# experts**, and selects a few for each token. **Shared experts** process every token. So a model can have many
# parameters and use few of them per token. Here are some models of this package with the fraction of experts that a
# token uses:

# %%
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np

from engram_ref import ops
from engram_ref.model.declarations import expert_shapes
from engram_ref.model_config import ExpertsConfig
from engram_ref.model_presets import model_preset

known = {n: model_preset(n).backbone.experts for n in ("moe-27b", "engram-27b", "v3-like")}
print("             routed  chosen  shared  groups (kept)     used")
for name, c in known.items():
    K, S, E = c.num_experts_per_tok, c.n_shared_experts, c.n_routed_experts
    print(f"{name:12}{E:7}{K:8}{S:8}{c.n_group:8} ({c.topk_group}){(K + S) / (E + S):13.0%}")
v3 = known["v3-like"]

# %% [markdown]
# ## One expert
#
# Each expert is a **SwiGLU**: two input matrices, an elementwise product in which one projection gates the other, and
# one output matrix. Here $\mathrm{silu}(z) = z\,\sigma(z)$, and $\sigma(z) = 1/(1 + e^{-z})$ is the sigmoid:
#
# $$ E(x) = W_2\,\bigl(\mathrm{silu}(W_1 x) \cdot W_3 x\bigr) $$

# %%
x = np.array([1.0, 2.0])
w1, w2, w3 = np.array([[[1, 0], [0, -1]], [[1, 0], [1, 1]], [[0, 1], [3, 1.0]]])
inner, gate = w1 @ x, w3 @ x
silu = inner / (1 + np.exp(-inner))
product = silu * gate
print("W1 x", inner, "  silu", silu.round(4), "  W3 x", gate)
print("product", product.round(4), "  E(x)", ops.swiglu(x, w1, w2, w3).round(4))
assert np.allclose(ops.swiglu(x, w1, w2, w3), [product[0], product[0] + product[1]])

# %% [markdown]
# ## Scores, and a bias that affects only the choice
#
# The *router* has one vector per expert. A token's **score** for an expert is the sigmoid of their dot product. Each
# expert also has a **bias** $b$. The bias is added to the score when experts are chosen, but not when their weights are
# computed. With $c_k$ for the $k$-th choice:
#
# $$
# \begin{align*}
# s &= \sigma(W_g x) \\
# (c_1, \ldots, c_K) &= \mathrm{top}_K(s + b) \\
# w_k &= \mathrm{scale} \cdot s_{c_k} \,/\, \sum_j s_{c_j} \\
# y &= \sum_k w_k\, E_{c_k}(x) + \mathrm{Shared}(x)
# \end{align*}
# $$

# %%
pair = ExpertsConfig(4, num_experts_per_tok=2, n_shared_experts=0, moe_intermediate_size=8,
                     routed_scaling_factor=2.5)
s, none = np.array([[0.8, 0.4, 0.6, 0.2]]), np.zeros(4)       # one token, four experts
b = np.array([0.0, 0.3, 0.0, 0.0])
for bias in (none, b):
    chosen = ops.select_experts(s, bias, pair)
    print("chosen", chosen[0], "weights", ops.expert_weights(s, chosen, pair)[0].round(3))
assert ops.select_experts(s, none, pair).tolist() == [[0, 2]] and chosen.tolist() == [[0, 1]]
weights = ops.expert_weights(s, chosen, pair)
assert np.allclose(weights, 2.5 * np.array([0.8, 0.4]) / 1.2)     # not 0.7, the biased score
assert np.isclose(weights.sum(), 2.5) and v3.routed_scaling_factor == 2.5
bug = ops.expert_weights(s + b, chosen, pair)             # biased scores as weights
assert abs(bug - weights).max() > 0.3

# %% [markdown]
# Because of the bias, expert 1 is chosen instead of expert 2. Its weight is based on its unbiased score of 0.4. The
# weights always sum to 2.5, the scale of [DeepSeek-V3](https://arxiv.org/abs/2412.19437).
#
# ## Groups
#
# Large models distribute experts over several machines. To limit the number of machines per token, V3 splits the
# experts into contiguous *groups* and lets a token use only some groups. Groups are ranked by the sum of their **two
# best** biased scores. In this example there are eight experts in four groups; two groups are kept, and three experts
# are chosen:

# %%
eight = ExpertsConfig(8, 3, 0, 8, n_group=4, topk_group=2)
s, none = np.array([[0.90, 0.10, 0.60, 0.55, 0.50, 0.62, 0.30, 0.20]]), np.zeros(8)
group_scores = s.reshape(4, 2).sum(axis=-1)               # a group has just two experts
kept = np.argsort(-group_scores, kind="stable")[:2]
masked = np.where(np.isin(np.arange(8) // 2, kept), s[0], -np.inf)
chosen = np.argsort(-masked, kind="stable")[:3]
print("groups", group_scores.round(2), "kept", kept, "experts", chosen)
assert kept.tolist() == [1, 2] and chosen.tolist() == [5, 2, 3]
assert ops.select_experts(s, none, eight)[0].tolist() == chosen.tolist()
by_best_one = np.argsort(-s.reshape(4, 2).max(axis=-1))[:2]
assert by_best_one.tolist() == [0, 2]                     # the bug keeps expert 0
assert ops.select_experts(np.full((1, 8), 0.5), none, eight).tolist() == [[0, 1, 2]]

# %% [markdown]
# Expert 0 has the highest score but is not chosen because the other expert in its group has a low score. A port that
# ranks groups by their best expert, as DeepSeek-V2 did, would choose expert 0. Ties go to the lowest index, for groups
# and for experts.
#
# ## The mask is minus infinity
#
# Experts in excluded groups must not be chosen. Their scores are masked with $-\infty$. Older versions of HF
# transformers use 0 instead because scores are positive. But *biased* scores can be negative. Shifting all biases by
# the same amount must not change the choice because all differences stay the same. With a mask of 0, however, excluded
# experts are chosen as soon as the biased score of a correct choice is below zero.

# %%
def zero_mask(scores: np.ndarray, bias: np.ndarray, config: ExpertsConfig) -> np.ndarray:
    """The bug: experts of excluded groups have a score of 0"""
    best = lambda a, n: np.argsort(-a, axis=-1, kind="stable")[..., :n]
    groups = (scores + bias).reshape(len(scores), config.n_group, -1)
    kept = best(np.sort(groups)[..., -2:].sum(axis=-1), config.topk_group)
    is_kept = (np.arange(config.n_group) == kept[..., None]).any(axis=1)
    masked = np.where(is_kept[..., None], groups, 0.0).reshape(scores.shape)
    return best(masked, config.num_experts_per_tok)


for shift in (0.0, -0.3, -0.58, -1.0):
    right, wrong = (f(s, none + shift, eight)[0] for f in (ops.select_experts, zero_mask))
    print(f"bias {shift:5}: right {right}, with a mask of 0 {wrong}")
    assert right.tolist() == [5, 2, 3]
    assert wrong.tolist() == {-0.58: [5, 2, 0], -1.0: [0, 1, 6]}.get(shift, [5, 2, 3])

# %% [markdown]
# At $-0.58$, expert 3 has a biased score of $-0.03$ and loses to a masked 0; at $-1$ all three chosen experts are from
# excluded groups. At which bias does this happen in V3, which has 256 experts? We try three random routers with median
# scores of 0.5, 0.12 and 0.02.

# %%
rng, shifts, shares = np.random.default_rng(10), np.linspace(-1, 0, 26), {}
noise = rng.standard_normal((200, v3.n_routed_experts))   # 200 tokens, 256 experts
for mean, median in ((0, 0.5), (-2, 0.12), (-4, 0.02)):
    scores = ops.sigmoid(mean + noise)
    assert round(float(np.median(scores)), 2) == median
    right = np.sort(ops.select_experts(scores, np.zeros(256), v3))
    shares[median] = []
    for shift in shifts:
        assert (np.sort(ops.select_experts(scores, np.full(256, shift), v3)) == right).all()
        wrong = np.sort(zero_mask(scores, np.full(256, shift), v3)) != right
        shares[median].append(wrong.any(axis=-1).mean())

# %% tags=["fold"]
fig, ax = plt.subplots(figsize=(6.2, 2.8))
for median, share in shares.items():
    ax.plot(shifts, share, marker="o", markersize=3, label=f"{median}")
ax.set(xlabel="added to every bias (correct code: no effect)", ylabel="fraction of wrong tokens",
       title="A mask of 0 fails if biases make scores negative")
ax.legend(title="median score", loc="lower left")
fig.set_label("Fraction of tokens with a wrong expert for a mask of 0, against a common "
              "bias. All are wrong at -1, none at 0; low scores fail first.")
assert all(share[0] == 1 and share[-1] == 0 for share in shares.values())
assert shares[0.02][-5] > 0.5 > shares[0.5][-5] == 0

# %% [markdown]
# ## The whole layer
#
# The whole layer computes the weighted sum of the routed experts, plus the output of the shared experts, which is
# **neither weighted nor scaled**. The definition processes one token at a time. The grouped form processes all tokens
# of one expert at once and gives the same result.

# %%
config = ExpertsConfig(8, 3, 2, 8, n_group=4, topk_group=2, routed_scaling_factor=2.5)
p = {name: rng.standard_normal(shape) / shape[-1] ** 0.5
     for name, shape in expert_shapes(config, 16).items()}
x = rng.standard_normal((1, 20, 16))
chosen, weights = ops.route(p, x[0], config)
naive = ops.routed_naive(p, x[0], chosen, weights)
grouped = ops.routed_grouped(p, x[0], chosen, weights)
w1, w2, w3 = (p[f"shared_experts.w{i}.weight"] for i in (1, 2, 3))
shared = ops.swiglu(x[0], w1, w2, w3)
assert np.allclose(naive, grouped, rtol=1e-12, atol=1e-13)
assert np.allclose(ops.moe(p, x, config)[0], grouped + shared, rtol=1e-12, atol=1e-13)

halves = [ops.swiglu(x[0], w1[h], w2[:, h], w3[h]) for h in (slice(0, 8), slice(8, 16))]
assert np.allclose(sum(halves), shared)                   # two shared experts equal one of twice the width
load = np.bincount(chosen.ravel(), minlength=8)
print(f"tokens per expert {load}: {load.sum()} calls one by one, {np.sign(load).sum()} grouped")
assert load.sum() == 20 * 3

# %% [markdown]
# ## Balancing without a gradient
#
# Without balancing, a router may send most tokens to a few experts. V3 balances the load by counting. Let $n_i$ be the
# number of tokens of the whole batch that were routed to expert $i$. After every training step, each bias is updated,
# with $\gamma = 0.001$:
#
# $$ b_i \leftarrow b_i + \gamma\,\mathrm{sign}\bigl(\mathrm{mean}(n) - n_i\bigr) $$
#
# An overloaded expert becomes slightly less likely to be chosen. There is no additional loss term, so the router's
# gradients are unaffected, and the weights do not depend on $b$. We simulate 16 experts on tokens that share a common
# component. The router is random and not trained.

# %%
sixteen, TOKENS = ExpertsConfig(16, 2, 0, 8), 512
router, common = rng.standard_normal((16, 16)) / 4, 0.5 * rng.standard_normal(16)


def balance(gamma: float, steps: int = 600) -> tuple[np.ndarray, np.ndarray]:
    """Load of each expert at each step (1 is its fair share), and the final biases"""
    draw, bias, loads = np.random.default_rng(0), np.zeros(16), []
    for _ in range(steps):
        x = common + draw.standard_normal((TOKENS, 16))
        scores = ops.router_scores(x, router, "sigmoid")
        counts = np.bincount(ops.select_experts(scores, bias, sixteen).ravel(), minlength=16)
        bias = bias + gamma * np.sign(counts.mean() - counts)
        loads.append(counts / counts.mean())
    return np.array(loads), bias


(unbalanced, _), (balanced, bias) = balance(0.0), balance(0.001)
for label, loads in (("no bias", unbalanced), ("counting", balanced)):
    end = loads[-100:].mean(axis=0)
    print(f"{label:9} highest load {end.max():.2f}, lowest {end.min():.2f} times a fair share")
assert abs(bias).max() < 0.4

# %% tags=["fold"]
fig, axes = plt.subplots(1, 2, figsize=(6.4, 2.8), sharey=True)
for ax, loads, label in zip(axes, (unbalanced, balanced), ("no bias", "counting"), strict=True):
    ax.plot(loads, color="C5", linestyle="-", linewidth=0.4)
    ax.plot(loads.max(axis=1), color="C1", linestyle="-", label="highest")
    ax.plot(loads.min(axis=1), color="C0", linestyle="-", label="lowest")
    ax.set(xlabel=f"step, {label}", xlim=(0, 600), xticks=(0, 200, 400), ylim=(0, None))
axes[1].legend(loc="upper right")
axes[0].set_ylabel("load (fair share: 1)")
fig.suptitle("Counting alone balances the load", x=0.02, ha="left")
fig.set_label("Load of 16 experts over 600 steps. Without a bias they stay far apart, the "
              "highest at several times a fair share. With counting all converge to 1.")
assert unbalanced[-100:].mean(axis=0).max() > 3 and unbalanced[-100:].mean(axis=0).min() < 0.2
assert abs(balanced[-100:].mean(axis=0) - 1).max() < 0.05

# %% [markdown]
# Balancing has a cost: nearly half of the choices change here, and the mean score of the chosen experts decreases. $b$
# cannot be trained by gradient descent: a change of $b$ that is too small to change a choice does not change the
# output, so its gradient is zero.

# %%
x = common + rng.standard_normal((2000, 16))
scores = ops.router_scores(x, router, "sigmoid")
best, fair = (ops.select_experts(scores, b, sixteen) for b in (0 * bias, bias))
kept = np.mean([len(set(i) & set(j)) / 2 for i, j in zip(best, fair, strict=True)])
before, now = (np.take_along_axis(scores, c, axis=1).mean() for c in (best, fair))
print(f"choices unchanged {kept:.0%}, mean score of the chosen {before:.2f} -> {now:.2f}")
assert 0.5 < kept < 0.6 and 0 < before - now < 0.2

x = rng.standard_normal((1, 20, 16))
nudged = p | {"gate.bias": p["gate.bias"] + 1e-9 * rng.standard_normal(8)}
assert (ops.moe(nudged, x, config) == ops.moe(p, x, config)).all()

# %% [markdown]
# ## How the versions differ
#
# - **The score**: DeepSeek-V4 uses $\sqrt{\ln(1 + e^z)}$ of the dot product $z$ and has no groups. A sigmoid saturates
#   at 1, so two experts that both match well get nearly the same weight; V4's score keeps growing.
# - **The mask**: $-\infty$ in DeepSeek's [inference code](https://github.com/deepseek-ai/DeepSeek-V3), 0 in older
#   versions of [HF transformers](https://github.com/huggingface/transformers).
# - **Ties**: lowest index first here and in [TileKernels](https://github.com/deepseek-ai/TileKernels) (DeepSeek's
#   kernel library); PyTorch's `topk` does not specify an order.
# - **The denominator of the weights**: the plain sum, the sum plus $10^{-20}$ (here), or the sum clamped to at least
#   $10^{-20}$. They differ only if all chosen scores are zero: in that case the weights are 0 here, whereas the plain
#   sum gives 0/0.
# - **The bias** exists in DeepSeek's V3 inference code only if the width is 7,168, so smaller models have no bias.
# - **Order**: the package lists the best expert first; `torch.topk(sorted=False)` specifies no order. Compare sets of
#   experts, or the output of the layer.

# %%
z, one = np.array([[0.0], [6.0], [8.0]]), np.ones((1, 1))
old, new = (ops.router_scores(z, one, form) for form in ("sigmoid", "sqrt_softplus"))
print("scores of 0, 6, 8: sigmoid", old.ravel().round(3), " V4", new.ravel().round(3))
assert np.allclose(new, np.sqrt(np.log(1 + np.exp(z))))
assert old[2] / old[1] < 1.003 and new[2] / new[1] > 1.15
assert (ops.expert_weights(np.zeros((1, 4)), np.array([[0, 1]]), pair) == 0).all()
assert model_preset("v3-like").backbone.hidden_size == 7168

# %% [markdown]
# ## Exercises
#
# (a) With $K = 1$ and normalised weights, what can the router learn from the model's loss? (b) What happens to the load
# and the biases with $\gamma = 0.1$?
#
# ??? tip "Hint"
#     (a) Which values can the weight take? (b) How large are the differences between scores? How many experts are below
#     the mean?

# %% tags=["answer"]
single = replace(pair, num_experts_per_tok=1)
for s in np.array([[[0.01]], [[0.5]], [[0.99]]]):
    assert np.isclose(ops.expert_weights(s, np.array([[0]]), single), 2.5)
loads, large = balance(0.1)
unstable, stable = (a[-100:].max(axis=1).mean() for a in (loads, balanced))
print(f"highest load {unstable:.1f}, not {stable:.1f}; biases {large.min():.1f} to {large.max():.1f}")
assert unstable > 1.5 > stable and large.min() > 1 > np.ptp(large)

# %% [markdown] tags=["answer"]
# (a) Nothing. The weight is a score divided by itself, times the scale, so its gradient is zero.
#
# (b) A step is as large as the differences between scores, so the load keeps oscillating. The rule uses only signs: the
# bias of one overloaded expert decreases while those of many underloaded ones increase, so on average all biases grow.
# With a mask of $-\infty$ such a common shift has no effect.

# %% [markdown]
# Next: [the block, end to end](11_the_block.md), which combines streams, attention and experts with Engram.
