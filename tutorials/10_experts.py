# %% [markdown]
# # DeepSeekMoE routing by hand
#
# ## What you will be able to do
#
# - route one token with pencil and paper: scores, bias, groups, best experts, weights;
# - say what the bias may do and what it must not;
# - recognise a mask of 0, and a group judged by its best expert, by the experts they pick;
# - balance the load of the experts without any gradient.
#
# ## Many small networks, few at work
#
# The second function of a block is a feed-forward network. A *mixture of experts* (MoE) has many small ones, the
# **routed experts**, and lets each token choose a few. **Shared experts** serve every token. So a model can hold many
# parameters and use few of them per token. Some models of this package, with the share of their experts that one token
# puts to work:

# %%
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np

from engram_ref import ops
from engram_ref.model.tree import expert_shapes
from engram_ref.model_config import ExpertsConfig
from engram_ref.model_presets import model_preset

names = ("tiny", "moe-27b", "engram-27b", "v3-like")
known = {name: model_preset(name).backbone.experts for name in names}
print("             routed  chosen  shared  groups (kept)  at work")
for name, c in known.items():
    K, S, E = c.num_experts_per_tok, c.n_shared_experts, c.n_routed_experts
    print(f"{name:12}{E:7}{K:8}{S:8}{c.n_group:8} ({c.topk_group}){(K + S) / (E + S):13.0%}")
v3 = known["v3-like"]
assert known["engram-27b"] == replace(known["moe-27b"], n_routed_experts=55)

# %% [markdown]
# ## One expert
#
# Every expert is a **SwiGLU**: two matrices lead in, one leads out, and one of the two inner vectors gates the other,
# channel by channel. Here $\mathrm{silu}(z) = z\,\sigma(z)$, and $\sigma(z) = 1/(1 + e^{-z})$ is the sigmoid:
#
# $$ E(x) = W_2\,\bigl(\mathrm{silu}(W_1 x) \cdot W_3 x\bigr) $$

# %%
x = np.array([1.0, 2.0])
w1, w2, w3 = np.array([[[1, 0], [0, -1]], [[1, 0], [1, 1]], [[0, 1], [3, 1.0]]])
inner, gate = w1 @ x, w3 @ x
product = ops.silu(inner) * gate
print("W1 x", inner, "  silu", ops.silu(inner).round(4), "  W3 x", gate)
print("product", product.round(4), "  E(x)", ops.swiglu(x, w1, w2, w3).round(4))
assert np.allclose(ops.silu(inner), inner / (1 + np.exp(-inner)))
assert np.allclose(ops.swiglu(x, w1, w2, w3), [product[0], product[0] + product[1]])

# %% [markdown]
# ## Scores, and a bias that chooses but never weighs
#
# The *router* has one vector per expert. A token's **score** for an expert is the sigmoid of their dot product. Each
# expert also has a **bias** $b$. It is added to the score for the choice, and is left out of everything after it. With
# $c_k$ for the $k$-th chosen expert:
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
# The bias lifted expert 1 past expert 2. Its weight comes from its own score of 0.4. The weights sum to 2.5,
# DeepSeek-V3's scale, whatever the scores are.
#
# ## Groups
#
# Large models keep experts on several machines. To send a token to few of them, V3 splits the experts into contiguous
# *groups* and lets a token use only some groups. A group is judged by the sum of its **two best** biased scores. Here
# are eight experts in four groups, of which two are kept, and three experts to choose:

# %%
eight = ExpertsConfig(8, 3, 0, 8, n_group=4, topk_group=2)
s, none = np.array([[0.90, 0.10, 0.60, 0.55, 0.50, 0.62, 0.30, 0.20]]), np.zeros(8)
strength = s.reshape(4, 2).sum(axis=-1)                   # in groups of two, both are best
kept = np.argsort(-strength, kind="stable")[:2]
is_open = np.isin(np.arange(8) // 2, kept)
masked = np.where(is_open, s[0], -np.inf)
chosen = np.argsort(-masked, kind="stable")[:3]
print("groups", strength.round(2), "kept", kept, "experts", chosen)
assert kept.tolist() == [1, 2] and chosen.tolist() == [5, 2, 3]
assert ops.select_experts(s, none, eight)[0].tolist() == chosen.tolist()
by_best_one = np.argsort(-s.reshape(4, 2).max(axis=-1))[:2]
assert by_best_one.tolist() == [0, 2]                     # the bug keeps expert 0

# %% [markdown]
# Expert 0 has the highest score of all and is not chosen: its group-mate is weak. A port that judges groups by their
# best expert would keep it (DeepSeek-V2 did it that way). Among equals the lowest index wins, for groups as for
# experts:

# %%
assert ops.select_experts(np.full((1, 8), 0.5), none, eight).tolist() == [[0, 1, 2]]

# %% [markdown]
# ## Closed means minus infinity
#
# The experts of closed groups must not win. The mask is $-\infty$. Some code writes 0 instead, for scores are
# positive. But *biased* scores need not be. Shift all biases by the same amount: nothing may change, for every
# comparison stays as it was. With a mask of 0, the closed groups win as soon as an open one is below zero.

# %%
def zero_mask(scores: np.ndarray, bias: np.ndarray, config: ExpertsConfig) -> np.ndarray:
    """The bug: closed groups take part with 0. Everything else is as it should be."""
    best = lambda a, n: np.argsort(-a, axis=-1, kind="stable")[..., :n]
    groups = (scores + bias).reshape(len(scores), config.n_group, -1)
    kept = best(np.sort(groups)[..., -2:].sum(axis=-1), config.topk_group)
    is_open = (np.arange(config.n_group) == kept[..., None]).any(axis=1)
    masked = np.where(is_open[..., None], groups, 0.0).reshape(scores.shape)
    return best(masked, config.num_experts_per_tok)


for shift in (0.0, -0.3, -0.58, -1.0):
    right, wrong = (f(s, none + shift, eight)[0] for f in (ops.select_experts, zero_mask))
    print(f"bias {shift:5}: right {right}, with a mask of 0 {wrong}")
    assert right.tolist() == [5, 2, 3]
    assert wrong.tolist() == {-0.58: [5, 2, 0], -1.0: [0, 1, 6]}.get(shift, [5, 2, 3])

# %% [markdown]
# At $-0.58$, expert 3 stands at $-0.03$ and loses to a zero; at $-1$ all three come from closed groups. How soon does
# it happen in a large router? V3 has 256 experts, chooses 8, and keeps 4 of 8 groups. We try three random routers,
# whose scores are usually about 0.5, 0.12 and 0.02.

# %%
assert (v3.n_routed_experts, v3.num_experts_per_tok) == (256, 8)
assert (v3.topk_group, v3.n_group) == (4, 8)
rng = np.random.default_rng(10)
shifts, shares = np.linspace(-1, 0, 26), {}
noise = rng.standard_normal((200, 256))                   # 200 tokens
for mean, usual in ((0, 0.5), (-2, 0.12), (-4, 0.02)):
    scores = ops.sigmoid(mean + noise)
    assert round(float(np.median(scores)), 2) == usual
    right = np.sort(ops.select_experts(scores, np.zeros(256), v3))
    shares[usual] = []
    for shift in shifts:
        assert (np.sort(ops.select_experts(scores, np.full(256, shift), v3)) == right).all()
        wrong = np.sort(zero_mask(scores, np.full(256, shift), v3)) != right
        shares[usual].append(wrong.any(axis=-1).mean())
assert all(share[0] == 1 and share[-1] == 0 for share in shares.values())
assert shares[0.02][-5] > 0.5 and shares[0.5][-5] == 0 and np.isclose(shifts[-5], -0.16)

# %% tags=["fold"]
fig, ax = plt.subplots(figsize=(6.2, 2.8))
for (usual, share), marker in zip(shares.items(), "osD", strict=True):
    ax.plot(shifts, share, marker=marker, markersize=3, label=f"{usual}")
ax.set(xlabel="added to every bias (right code: no effect)",
       ylabel="tokens with a wrong expert",
       title="A mask of 0 fails once biases outweigh the scores")
ax.legend(title="usual score", loc="lower left")
fig.set_label("Share of tokens with a wrong expert under a mask of 0, against a common bias "
              "from -1 to 0. Each curve is 1 on the left and 0 on the right; it flips the "
              "nearer to 0 the lower the usual score is.")

# %% [markdown]
# ## The whole layer
#
# Now a layer with real experts: routed answers, weighted, plus the shared answer, which is **neither weighted nor
# scaled**. The definition goes token by token. The grouped form takes all tokens of one expert at once, and gives the
# same.

# %%
config = ExpertsConfig(8, 3, 2, 8, n_group=4, topk_group=2, routed_scaling_factor=2.5)
p = {name: rng.standard_normal(shape) / shape[-1] ** 0.5
     for name, shape in expert_shapes(config, 16).items()}
p["gate.bias"] = 0.1 * p["gate.bias"]
x = rng.standard_normal((1, 20, 16))
chosen, weights = ops.route(p, x[0], config)
naive = ops.routed_naive(p, x[0], chosen, weights)
grouped = ops.routed_grouped(p, x[0], chosen, weights)
w1, w2, w3 = (p[f"shared_experts.w{i}.weight"] for i in (1, 2, 3))
shared = ops.swiglu(x[0], w1, w2, w3)
assert np.allclose(naive, grouped, rtol=1e-12, atol=1e-13)
assert np.allclose(ops.moe(p, x, config)[0], grouped + shared, rtol=1e-12, atol=1e-13)

halves = [ops.swiglu(x[0], w1[h], w2[:, h], w3[h]) for h in (slice(0, 8), slice(8, 16))]
assert np.allclose(sum(halves), shared)                   # two shared: one, twice as wide
load = np.bincount(chosen.ravel(), minlength=8)
calls = int((load > 0).sum())
print(f"tokens per expert {load}: {load.sum()} calls token by token, {calls} grouped")
assert load.sum() == 20 * 3 and calls <= 8

# %% [markdown]
# ## Balance without a gradient
#
# A router left alone may send most tokens to few experts. V3 evens that out by counting. After every training step,
# with $n_i$ the tokens of the whole batch that expert $i$ got,
#
# $$ b_i \leftarrow b_i + \gamma\,\mathrm{sign}\bigl(\mathrm{mean}(n) - n_i\bigr) $$
#
# and $\gamma = 0.001$. An expert with too much work becomes a little harder to choose. No loss is added, so nothing
# pulls at the router, and the weights do not know of $b$. We let 16 experts compete for tokens that are all a bit
# alike. The router is random and never trained.

# %%
sixteen, TOKENS = ExpertsConfig(16, 2, 0, 8), 512
router, common = rng.standard_normal((16, 16)) / 4, 0.5 * rng.standard_normal(16)


def balance(gamma: float, steps: int = 600) -> tuple[np.ndarray, np.ndarray]:
    """Load of each expert after each step, 1 being its fair share; and the last biases."""
    draw, bias, loads = np.random.default_rng(0), np.zeros(16), []
    for _ in range(steps):
        x = common + draw.standard_normal((TOKENS, 16))
        scores = ops.router_scores(x, router, "sigmoid")
        counts = np.bincount(ops.select_experts(scores, bias, sixteen).ravel(), minlength=16)
        bias = bias + gamma * np.sign(counts.mean() - counts)
        loads.append(counts / counts.mean())
    return np.array(loads), bias


(alone, _), (counted, bias) = balance(0.0), balance(0.001)
for words, loads in (("no bias", alone), ("counting", counted)):
    end = loads[-100:].mean(axis=0)
    print(f"{words:9} busiest {end.max():.2f}, idlest {end.min():.2f} times a fair share")
assert alone[-100:].mean(axis=0).max() > 3 and alone[-100:].mean(axis=0).min() < 0.2
assert abs(counted[-100:].mean(axis=0) - 1).max() < 0.05 and abs(bias).max() < 0.4

# %% tags=["fold"]
fig, axes = plt.subplots(1, 2, figsize=(6.4, 2.8), sharey=True)
panels = (alone, "no bias"), (counted, "counting, γ = 0.001")
for ax, (loads, words) in zip(axes, panels, strict=True):
    ax.plot(loads, color="C5", linestyle="-", linewidth=0.4)
    ax.plot(loads.max(axis=1), color="C1", linestyle="-", label="busiest")
    ax.plot(loads.min(axis=1), color="C0", linestyle="-", label="idlest")
    ax.set_title(words, fontsize=10)
    ax.set(xlabel="step", xlim=(0, 600), ylim=(0, None))
axes[1].legend(loc="upper right")
axes[0].set_ylabel("load (fair share: 1)")
fig.suptitle("Counting alone evens out the load", x=0.02, ha="left")
fig.set_label("Load of 16 experts over 600 steps. Without a bias they stay far apart, the "
              "busiest at several times a fair share. With counting all come together.")

# %% [markdown]
# The price: about half of the choices change here, and the mean score of the chosen falls. Why counting, and not
# training? A nudge of the bias that is too small to change a choice changes nothing at all. So $b$ has no slope to
# follow.

# %%
x = common + rng.standard_normal((2000, 16))
scores = ops.router_scores(x, router, "sigmoid")
best, fair = (ops.select_experts(scores, b, sixteen) for b in (np.zeros(16), bias))
kept = np.mean([len(set(i) & set(j)) / 2 for i, j in zip(best, fair, strict=True)])
before, now = (np.take_along_axis(scores, c, axis=1).mean() for c in (best, fair))
print(f"choices kept {kept:.0%}, mean score of the chosen {before:.2f} -> {now:.2f}")
assert 0.4 < kept < 0.6 and 0 < before - now < 0.2

x = rng.standard_normal((1, 20, 16))
nudged = p | {"gate.bias": p["gate.bias"] + 1e-9 * rng.standard_normal(8)}
assert (ops.moe(nudged, x, config) == ops.moe(p, x, config)).all()

# %% [markdown]
# ## V4's scores
#
# A sigmoid ends at 1, so two experts that both fit well weigh nearly the same. DeepSeek-V4 scores by
# $\sqrt{\ln(1 + e^z)}$, the root of the *softplus*. It goes on growing. V4 also drops the groups.

# %%
z = np.array([[-8.0], [0.0], [6.0], [8.0]])
one = np.ones((1, 1))
old, new = (ops.router_scores(z, one, form) for form in ("sigmoid", "sqrt_softplus"))
for row in zip(z.ravel(), old.ravel(), new.ravel(), strict=True):
    print("z {:4}   sigmoid {:.3f}   square root of softplus {:.3f}".format(*row))
assert np.allclose(new, np.sqrt(np.log(1 + np.exp(z))))
assert old[3] / old[2] < 1.003 and new[3] / new[2] > 1.15

# %% [markdown]
# ## What published code disagrees on
#
# - **The mask**: $-\infty$ in DeepSeek's inference code, TileKernels (their kernel library) and current Hugging Face
#   code; 0 in older versions of the last.
# - **Ties**: lowest index first in TileKernels and here. PyTorch's `topk` promises no order among equals.
# - **The sum under the weights**: bare, with $10^{-20}$ added (here), or held at $10^{-20}$ or above. It shows only
#   where all chosen scores are zero: the bare form divides 0 by 0.
# - **The bias** exists in DeepSeek's V3 inference code only where the width is 7,168, so a smaller model has none.
# - **Order**: the package lists the best expert first; others promise none. Compare sets, or the answer itself.

# %%
with np.errstate(invalid="ignore"):
    assert np.isnan(np.zeros(2) / np.zeros(2).sum()).all()
assert (ops.expert_weights(np.zeros((1, 4)), np.array([[0, 1]]), pair) == 0).all()
assert model_preset("v3-like").backbone.hidden_size == 7168
chosen, weights = ops.route(p, x[0], config)
turned = ops.routed_naive(p, x[0], chosen[:, ::-1], weights[:, ::-1])
straight = ops.routed_naive(p, x[0], chosen, weights)
assert np.allclose(turned, straight, rtol=1e-12, atol=1e-13)

# %% [markdown]
# ## Exercises
#
# **1.** With $K = 1$ and normalised weights, what can the router learn from the model's loss?
#
# ??? tip "Hint"
#     Which values can the weight take?

# %% tags=["answer"]
one = replace(pair, num_experts_per_tok=1)
for score in (0.01, 0.5, 0.99):
    s = np.full((1, 4), score)
    assert np.isclose(ops.expert_weights(s, ops.select_experts(s, b, one), one).item(), 2.5)

# %% [markdown] tags=["answer"]
# Nothing. The weight is a score divided by itself, times the scale, whatever the score. So its slope is zero. With one
# chosen expert, leave the weights as they are (`norm_topk_prob=False`).

# %% [markdown]
# **2.** What happens with $\gamma = 0.1$? Look at the load and at the biases. Why is it no trouble that these drift?
#
# ??? tip "Hint"
#     How far apart are two scores at most? How many experts lie below the mean when one is far above?

# %% tags=["answer"]
loads, large = balance(0.1)
swing, calm = (a[-100:].max(axis=1).mean() for a in (loads, counted))
print(f"busiest {swing:.1f}, not {calm:.1f}; biases {large.min():.1f} to {large.max():.1f}")
assert swing > 1.5 > calm
assert large.min() > 1 and np.ptp(large) < 1
biases = large, large - large.mean()
drifted, centred = (ops.select_experts(scores, b, sixteen) for b in biases)
assert (drifted == centred).all()

# %% [markdown] tags=["answer"]
# A step is as large as the differences between scores, so the load keeps swinging. The rule counts heads: one crowded
# expert steps down while many idle ones step up, and all biases rise together. A shift that all share changes no
# choice, as long as closed groups are masked with $-\infty$.

# %% [markdown]
# Next: [the block, end to end](11_the_block.md), where streams, attention and experts meet Engram.
