# %% [markdown]
# # MLA: attention from a 576-number cache
#
# ## What you will be able to do
#
# - compute the size of a cache of keys and values, and say what multi-head latent attention (MLA) caches instead;
# - rotate queries and keys by their position, and show that scores depend on distances only;
# - compute the same attention in two orders, and say when each is cheaper;
# - extend a model to longer texts, and convert weights between two layouts of the rotation.
#
# ## What a cache costs
#
# Attention lets a token read earlier ones. A *query* $q$, a *key* $k$ and a *value* $v$ are computed for each token.
# The output at position $t$ is a weighted mean of values; a value's weight is large if its key matches the query:
#
# $$ o_t = \sum_{s \le t} p_{ts}\, v_s, \qquad
# p_{ts} = \mathrm{softmax}_s \bigl( \mathrm{scale} \cdot (q_t \cdot k_s) \bigr) $$
#
# The scale is one over the root of a key's width. Many *heads* do this in parallel; one matrix $W_O$ combines their
# outputs. Old keys and values never change, so a program that generates text stores them in the *KV cache*. This cache
# grows with every token, in every layer. There are three options: cache the keys and values of all heads (*multi-head
# attention*, MHA), share them within groups of heads (*grouped-query attention*, GQA, here 8 groups), or cache one
# small vector, a *latent*, from which each head computes its own keys and values (MLA).

# %%
import dataclasses
import inspect
import math
import re

import matplotlib.pyplot as plt
import numpy as np

from engram_ref import ops
from engram_ref.model.declarations import attention_shapes
from engram_ref.model_config import YarnConfig
from engram_ref.model_presets import model_preset

kinds, cached = ("MHA", "GQA", "MLA"), {}
big, v3 = (model_preset(name).backbone for name in ("engram-27b", "v3-like"))
for name, backbone in (("27B", big), ("V3", v3)):
    a, L = backbone.attention, backbone.n_layers
    one_head = a.qk_head_dim + a.v_head_dim                      # a key and a value
    heads = np.array([a.n_heads, 8, (a.kv_lora_rank + a.qk_rope_head_dim) / one_head])
    cached[name] = L * one_head * heads
    print(f"{name:3} numbers cached per token:", *map("{} {:,.0f} ".format, kinds, cached[name]))
    assert cached[name][2] == L * 576 and heads[2] == 1.8
    assert round(heads[0] / heads[2], 1) == {"27B": 17.8, "V3": 71.1}[name]
    stated = {"27B": (32, None, 1e-20), "V3": (128, 1_536, 1e-6)}[name]
    assert stated == (a.n_heads, a.q_lora_rank, a.latent_norm_eps)

# %% tags=["fold"]
fig, ax = plt.subplots(figsize=(6.2, 2.7))
gigabytes = {name: numbers * 2 * 32_768 / 1e9 for name, numbers in cached.items()}
for i, (name, numbers) in enumerate(gigabytes.items()):
    bars = ax.barh(np.array([2, 1, 0]) + 0.19 - 0.38 * i, numbers, 0.36, color=f"C{i}",
                   hatch=("", "////")[i], label=name)
    ax.bar_label(bars, fmt="%.1f GB", padding=4, fontsize=8)
ax.set(xscale="log", xlim=(0.3, 900), yticks=[2, 1, 0], yticklabels=kinds,
       xlabel="GB for one text of 32,768 tokens, 2 bytes per number",
       title="MLA caches 1 or 2 GB, MHA 20 or 164 GB")
ax.legend(loc="lower right")
fig.set_label("Cache size for one text of 32,768 tokens, logarithmic. 27B: 20.1 GB with MHA, 5.0 "
              "with GQA, 1.1 with MLA. V3: 163.7, 10.2 and 2.3 GB.")
assert np.round([*gigabytes.values()], 1).tolist() == [[20.1, 5.0, 1.1], [163.7, 10.2, 2.3]]

# %% [markdown]
# For any number of heads, MLA caches 576 numbers per token and layer, the same number as 1.8 heads of MHA. The 32 heads
# of the 27B model would need 17.8 times as many, and V3's 128 heads 71.1 times as many.
#
# ## The latent and the one rotary key
#
# One matrix projects a token's hidden state $x$ to both parts of the cache. The first 512 numbers are normalised and
# form the latent $c$. The last 64 are rotated by the position (next section) and form the rotary key $k^R$. All heads
# share this key, which is *not* normalised.
#
# $$ (a \mid b) = W_{KVA}\, x, \qquad c = \mathrm{RMSNorm}(a), \qquad k^R = \mathrm{RoPE}(b) $$
#
# We use the 27B model's attention with random weights, 4 heads instead of 32, and a narrower hidden state.

# %%
rng = np.random.default_rng(9)
attention = dataclasses.replace(big.attention, n_heads=4)
A, dn, dr = attention.n_heads, attention.qk_nope_head_dim, attention.qk_rope_head_dim
dv, r, D, T = attention.v_head_dim, attention.kv_lora_rank, 256, 24
weights = {name: rng.standard_normal(shape) * shape[-1] ** -0.5
           for name, shape in attention_shapes(attention, D).items()}
weights["kv_norm.weight"] = gain = 1 + 0.3 * rng.standard_normal(r)
x = rng.standard_normal((1, T, D))                               # already normalised
positions = np.arange(T)[None]                                   # [1, T]
frequency = ops.frequencies(dr, attention.rope_theta)            # [32]
angle = ops.angles(positions, frequency)                         # [1, T, 32]
c_kv, k_pe = ops.latents(weights, x, angle, attention)           # [1, T, r], [1, T, dr]
a, b = np.split(x @ weights["wkv_a.weight"].T, [r], axis=-1)
assert np.allclose(c_kv, gain * a / np.sqrt((a**2).mean(-1, keepdims=True)), rtol=1e-12)

# %% [markdown]
# ## RoPE: positions as complex numbers
#
# Attention by itself does not depend on the position of a key. *Rotary position embedding* (RoPE) encodes a position as
# a rotation. Treat two adjacent channels as one complex number, $z_i = b_{2i} + \mathrm{i}\, b_{2i+1}$, and rotate it
# at position $t$ by the angle $t f_i$, with the frequency $f_i = 10000^{-2i/64}$. A score is the real part of a product
# with a conjugate ($^*$), so it depends only on the distance:
#
# $$ \mathrm{Re}\bigl( z\, e^{\mathrm{i} t f} \cdot (w\, e^{\mathrm{i} s f})^* \bigr)
#     = \mathrm{Re}\bigl( z\, w^*\, e^{\mathrm{i} (t-s) f} \bigr) $$
#
# Angles need float64: at position 32,767 the angle of pair 1 is 24,572 radians, and float32 numbers of that size are
# 0.002 apart.

# %%
assert np.allclose(frequency, 10000.0 ** (-2 * np.arange(32) / 64))
rotated = (b[..., 0::2] + 1j * b[..., 1::2]) * np.exp(1j * angle)
assert np.allclose(k_pe[..., 0::2], rotated.real) and np.allclose(k_pe[..., 1::2], rotated.imag)
q, k = rng.standard_normal((2, 1, 1, dr))

def score(t: int, s: int) -> float:
    """Score of the query q at position t with the key k at position s"""
    at_t, at_s = (ops.angles(np.array([[p]]), frequency) for p in (t, s))
    return float((ops.rotate(q, at_t) * ops.rotate(k, at_s)).sum())

for t, s in ((5, 0), (30_005, 30_000), (0, 5)):
    print(f"query at {t:6}, key at {s:6}: score {score(t, s):.9f}")
assert np.isclose(score(5, 0), score(30_005, 30_000), rtol=1e-9)
assert abs(score(5, 0) - score(0, 5)) > 1                        # the sign of the distance matters
single = np.arange(32_768, dtype=np.float32)[:, None] * frequency.astype(np.float32)
error = abs(single - np.arange(32_768)[:, None] * frequency).max()
print(f"largest error of a float32 angle: {error:.1e} rad")
assert angle.dtype == np.float64 and single.dtype == np.float32 and 1.1e-3 < error < 1.3e-3
assert round(float(single[-1, 1])) == 24_572 and np.spacing(single[-1, 1]) == 2**-9

# %% [markdown]
# ## Expanded: each head computes its keys and values
#
# Head $h$ computes a key $(W^K_h c \mid k^R)$ and a value $W^V_h c$ from the latent. Its query has the same two parts:
# 128 channels without position, then 64 rotated ones. One stored matrix contains all $W^K_h$ and $W^V_h$: head 0's 128
# rows for keys, head 0's 128 rows for values, then head 1's, and so on.

# %%
w_uk, w_uv = ops.up_projections(weights, attention)              # [A, dn, r], [A, dv, r]
rows_of_head_2 = weights["wkv_b.weight"][2 * 256:3 * 256]
assert (rows_of_head_2[:128] == w_uk[2]).all() and (rows_of_head_2[128:] == w_uv[2]).all()
q_nope, q_pe = ops.queries(weights, x, angle, attention)         # [1, T, A, dn and dr]
scale = ops.softmax_scale(attention.qk_head_dim)
given = (q_nope, q_pe, c_kv, k_pe, w_uk, w_uv, ops.visible(positions, T), scale)
expanded = ops.attend_expanded(*given)                           # [1, T, A, dv]
t, h = 17, 2                                                     # one position and head, by hand
keys = np.concatenate([c_kv[0] @ w_uk[h].T, k_pe[0]], axis=-1)   # [T, dn + dr]
p = np.exp(scale * keys[:t + 1] @ np.concatenate([q_nope[0, t, h], q_pe[0, t, h]]))
by_hand = (p / p.sum()) @ (c_kv[0, :t + 1] @ w_uv[h].T)
assert np.allclose(expanded[0, t, h], by_hand) and np.isclose(scale, 192**-0.5)

# %% [markdown]
# ## Absorbed: attend to the latents directly
#
# Both matrices can be moved to the other factor, since matrix products are associative:
#
# $$ q \cdot (W^K_h c_s) = (W^{K\,\top}_h q) \cdot c_s, \qquad
# \sum_s p_s\, (W^V_h c_s) = W^V_h \Bigl( \sum_s p_s\, c_s \Bigr) $$
#
# Now $W^K_h$ is *absorbed* into the query, and no key or value is ever computed explicitly. This is why the position
# has separate channels: a rotation between the query and $W^K_h$ would depend on the distance and prevent the
# absorption.

# %%
difference = abs(ops.attend_absorbed(*given) - expanded).max()
print(f"largest value {abs(expanded).max():.2f}, largest difference {difference:.1e}")
layer = [ops.mla(weights, x, c_kv, k_pe, positions, angle, attention, absorbed=form)
         for form in (False, True)]                              # queries and W_O included
assert difference < 5e-14 and abs(layer[0] - layer[1]).max() < 5e-14

# %% [markdown]
# ## Which form is cheaper?
#
# Count multiplications for $T$ new tokens that attend to $S$ tokens, including themselves. There are $A$ heads; $r$ is
# the width of the latent, $d_n$ and $d_r$ are the widths of the two parts of a key, $d_v$ is the width of a value:
#
# $$ \begin{align*}
# \text{expanded} \qquad & S \cdot A\,(d_n + d_v)\, r \;+\; T S \cdot A\,(d_n + d_r + d_v) \\
# \text{absorbed} \qquad & T \cdot A\,(d_n + d_v)\, r \;+\; T S \cdot A\,(2r + d_r)
# \end{align*} $$
#
# The first term grows with the number of attended tokens in the expanded form and with the number of new tokens in the
# absorbed form. In return, the absorbed form needs 1,088 multiplications per head for each pair of tokens instead of
# 320. The code below extracts the sums from the package's own source: `"btan,bsan->bats"` takes one multiplication for
# each combination of its indices.

# %%
def multiplications(form: str, **size: np.ndarray | int) -> np.ndarray:
    source = inspect.getsource(getattr(ops, f"attend_{form}"))
    sums = re.findall(r'einsum\("([^"]+)->', source)
    return sum(math.prod(size[letter] for letter in set(names) - {","}) for names in sums)

new = np.arange(1, 4_097)
size = {"b": 1, "t": new, "s": 4_096, "a": 32, "n": dn, "p": dr, "v": dv, "r": r}
counted = {form: multiplications(form, **size) for form in ("expanded", "absorbed")}
for form, numbers in counted.items():
    print(f"{form}: a prompt of 4,096 {numbers[-1]:15,}   one more token {numbers[0]:14,}")
assert (counted["expanded"] == 32 * 4_096 * (256 * 512 + new * 320)).all()
assert (counted["absorbed"] == 32 * new * (256 * 512 + 4_096 * 1_088)).all()
ratio = counted["absorbed"] / counted["expanded"]
assert round(ratio[-1], 1) == 3.2 and round(1 / ratio[0]) == 117 and (ratio < 1).sum() == 163
assert dn + dr + dv == 320 and 2 * r + dr == 1_088 and round(32 * 1_088 / 576) == 60
assert counted["absorbed"][0] > 32 * 4_096 * 320                 # cached keys and values

# %% [markdown]
# So the expanded form is better for a prompt (the absorbed form needs 3.2 times as many multiplications), and the
# absorbed form is better for generating text (117 times fewer). With 4,096 tokens in all, the absorbed form is cheaper
# for up to 163 new ones. Caching the expanded keys and values would save even more multiplications. But then each
# number read from the cache is used once; in the absorbed form, each is used 60 times. If memory bandwidth is the
# bottleneck, the absorbed form is faster.
#
# ## YaRN: the same model, longer texts
#
# Beyond the 4,096 tokens of training, the pairs that rotate slowly reach angles that did not occur in training. *YaRN*
# divides their frequencies by $s$, the factor by which the context grows. Pairs with more than 32 rotations within
# 4,096 tokens are unchanged, pairs with less than one rotation are slowed down by the full factor; in between, $\rho_i$
# rises from 0 to 1. The paper uses $s = 10$. A second parameter, 0.707, sharpens the softmax. The *whole* score is
# scaled, by $m$ for the query and again for the key:
#
# $$ f'_i = (1 - \rho_i)\, f_i + \rho_i\, f_i / s, \qquad
# m = 0.1 \cdot 0.707 \cdot \ln s + 1, \qquad \mathrm{scale} = m^2 / \sqrt{192} $$

# %%
yarn = YarnConfig(factor=10.0, mscale=0.707)
low, high = ops.rope.yarn_range(dr, 10_000.0, yarn)
slow, m = ops.frequencies(dr, 10_000.0, yarn), ops.yarn_mscale(yarn)
rotations = frequency * yarn.original_length / (2 * np.pi)
print(f"ramp {low} to {high}, m^2 = {m**2:.6f}, scale = {ops.softmax_scale(192, yarn):.7f}")
assert (low, high) == (10, 23)
assert rotations[10] > 32 > rotations[11] and rotations[22] > 1 > rotations[23]
assert round(m**2, 6) == 1.352087 and round(ops.softmax_scale(192, yarn), 7) == 0.0975785
rho = np.clip((np.arange(32) - low) / (high - low), 0, 1)
assert np.allclose(slow, (1 - rho) * frequency + rho * frequency / 10)
whole, part = (ops.attend_expanded(q_nope, rotary, *given[2:7], factor)
               for rotary, factor in ((q_pe, m**2 * scale), (m**2 * q_pe, scale)))
print(f"m^2 on the rotary part alone: relative error {(part - whole).std() / whole.std():.0%}")
assert 0.1 < (part - whole).std() / whole.std() < 0.2

# %% tags=["fold"]
fig, ax = plt.subplots(figsize=(6.2, 2.7))
ax.plot(np.arange(32), frequency / slow, "o-", markersize=4)
ax.set(xlabel="pair of channels, fast to slow", ylabel="slow-down factor",
       xticks=(0, 5, low, 17, high, 31),
       title="YaRN keeps pairs 0 to 10 and slows pairs 23 to 31 tenfold")
fig.set_label("Slow-down factor per pair: 1 for pairs 0 to 10; then it rises steeply to 10 at pair 23.")
assert np.allclose((frequency / slow)[:11], 1) and np.allclose((frequency / slow)[23:], 10)

# %% [markdown]
# ## Two layouts, and other mistakes
#
# Here the channels of a pair are adjacent (*interleaved*). [HF
# transformers](https://github.com/huggingface/transformers) with `rope_interleave=False` pairs channel $i$ with $i +
# 32$ (*half-split*). To use the same weights there, reorder the rows that produce the rotary channels: all even ones
# first, then all odd ones. With the original or the inverse order, the code runs but the result is wrong.
#
# The other mistakes below do not raise an error either, because all shapes match. We print the relative error of the
# output.

# %%
def rotate_halves(y: np.ndarray) -> np.ndarray:
    one, two = np.split(y, 2, axis=-1)                           # of [1, T, dr]
    cos, sin = np.cos(angle), np.sin(angle)
    return np.concatenate([one * cos - two * sin, one * sin + two * cos], axis=-1)

to_query, to_key = weights["wq.weight"][dn:dn + dr], weights["wkv_a.weight"][r:]  # head 0's
order = ops.half_split_order(dr)
for label, rows in (("even, then odd", order), ("original order", np.arange(dr)),
                    ("inverse order", np.argsort(order))):
    theirs = rotate_halves(x @ to_query[rows].T)[0] @ rotate_halves(x @ to_key[rows].T)[0].T
    error = abs(theirs - q_pe[0, :, 0] @ k_pe[0].T).max()
    print(f"rows {label:15} scores differ by up to {error:.1e}")
    assert error < 1e-12 if label.startswith("even") else error > 5

raw_q = (x @ weights["wq.weight"].T).reshape(1, T, A, dn + dr)
errors = {
    "all K rows, then all V rows": (4, *weights["wkv_b.weight"].reshape(2, A, dn, r)),
    "query: rotary part first": (0, raw_q[..., dr:], ops.rotate(raw_q[..., :dr], angle)),
    "latent cached before its norm": (2, a),
    "key positions restart at 12": (3, ops.rotate(b, ops.angles(positions % 12, frequency))),
}
for label, (at, *instead) in errors.items():
    wrong = ops.attend_expanded(*given[:at], *instead, *given[at + len(instead):])
    error = (wrong - expanded).std() / expanded.std()
    print(f"{label:33}{error:5.0%}")
    assert error > 0.05

# %% [markdown]
# ## How the versions differ
#
# [DeepSeek-V3](https://arxiv.org/abs/2412.19437) also computes its queries from a latent, 1,536 wide; our 27B presets
# do not ([tutorial 13](13_counting.md) explains why). The norm of the latents has a separate eps, $10^{-6}$ in V3; for
# 27B we chose $10^{-20}$, as in the rest of the model.

# %% [markdown]
# ## Exercise
#
# A colleague tests the conversion between the layouts with 4 rotary channels, and the test passes. On the real model,
# with 64 channels, the scores are wrong. What is the cause, and what is the smallest number of channels that the test
# should use?
#
# ??? tip "Hint"
#     Write down `half_split_order` and its inverse for 4 and for 6 channels.

# %% tags=["answer"]
same = [dim for dim in range(2, 65, 2)
        if (ops.half_split_order(dim) == np.argsort(ops.half_split_order(dim))).all()]
print("The test used the inverse order, which is the same for", same, "channels; with 6 it differs.")
assert same == [2, 4]

# %% [markdown]
# Next: [DeepSeekMoE routing by hand](10_experts.md).
