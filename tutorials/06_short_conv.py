# %% [markdown]
# # The short convolution and the residual branches
#
# ## What you will be able to do
#
# - compute the short convolution by hand, including the tap order;
# - state how far back an output depends on gated vectors and on tokens, and measure both;
# - say which parts are zero at the start of training;
# - list the state that a decoder must keep, and recognise the errors that follow if it is lost.
#
# ## A sum over neighbouring positions
#
# The gate produces one vector per position $t$ and branch $m$, the *gated vector* $u_t^{(m)} = \alpha_t^{(m)} v_t$. So
# far no position depends on another. One more step combines each position with a few earlier ones. The formulas omit
# the branch index because all branches are computed in the same way:
#
# $$
# \begin{align*}
# x &= \mathrm{RMSNorm}(u) \\
# c_t &= \sum_{j=0}^{L-1} w_j \, x_{t-(L-1-j)\delta} \\
# Y_t &= \mathrm{SiLU}(c_t) + u_t, \qquad \mathrm{SiLU}(z) = z\,\sigma(z)
# \end{align*}
# $$
#
# The sum is a convolution along time with three properties. It is *causal*: it reads no later positions. It is
# *depthwise*: each channel of each branch has its own $L$ weights and reads no other channel. It is *dilated*: the
# positions that it reads, its *taps*, are $\delta$ apart. All versions of Engram with this convolution use $L = 4$ and
# $\delta = 3$; 3 is also $N$, the length of their longest n-gram. So the taps are $t$, $t-3$, $t-6$ and $t-9$.

# %%
import copy
import dataclasses

import matplotlib.pyplot as plt
import numpy as np

from engram_ref import Addressing, Trace, engram, load_trained, ops, preset, residual
from engram_ref.model.engram import start_state
from engram_ref.model.engram_parameters import initialise, shapes
from engram_ref.model.transformer import forward

rng = np.random.default_rng(6)
config = preset("tiny")
M, D = config.n_branches, config.hidden_size
L, step = config.conv_kernel, config.conv_dilation
assert (M, D, L, step) == (4, 16, 4, 3) and step == config.max_ngram

x = rng.standard_normal((1, 20, M, D))
weight = rng.standard_normal((M, D, L))
zeros = np.zeros((1, config.conv_span, M, D))    # the positions before the text
c = ops.short_conv(x, weight, step, zeros)

t, m, d = 17, 2, 5                                    # one number, by hand
w, line = weight[m, d], x[0, :, m, d]
by_hand = w[3] * line[t] + w[2] * line[t - 3]
by_hand += w[1] * line[t - 6] + w[0] * line[t - 9]
print(f"{c[0, t, m, d]:.6f} from the package, {by_hand:.6f} by hand")
assert np.isclose(c[0, t, m, d], by_hand)

# %% [markdown]
# ## Tap order
#
# The *last* stored weight belongs to the current position, the first to the oldest. (PyTorch's `Conv1d` uses the same
# order; the mathematical definition of a convolution reverses it.) An impulse reveals the order: with a single 1 in the
# input, the output shows the weights.

# %%
impulse = np.zeros((1, 12, 1, 1))
impulse[0, 1] = 1.0
stored = np.array([[[4.0, 3.0, 2.0, 1.0]]])
response = ops.short_conv(impulse, stored, step, np.zeros((1, 9, 1, 1))).ravel()
print("in: ", impulse.ravel().astype(int))
print("out:", response.astype(int))
assert response.tolist() == [0, 1, 0, 0, 2, 0, 0, 3, 0, 0, 4, 0]

# %% [markdown]
# The demo pads both ends with nine zeros and keeps the first $T$ outputs, which is equivalent. A *port* (a
# reimplementation in another language or framework) that keeps the last $T$ outputs reads up to nine positions ahead,
# including the tokens that it should predict.

# %% tags=["fold"]
spread = np.zeros(1 + (L - 1) * step)
spread[::step] = w[::-1]                         # NumPy uses the reverse order
padded = np.convolve(line, spread)               # 9 numbers longer
assert len(padded) == 20 + 9 and np.allclose(padded[:20], c[0, :, m, d])
assert not np.allclose(padded[-20:], c[0, :, m, d])

# %% [markdown]
# ## Measuring the receptive field
#
# Change one input at position 5 of a text, first a gated vector and then a token id, and find the positions of the
# outputs that change. A changed token changes the rows of every 2- and 3-gram that contains it, so the memory changes
# at three positions even before the convolution.

# %%
parameters = initialise(config, layer_id=1, rng=rng)  # random, kernels as well
addressing = Addressing(config)
T, at = 24, 5
ids = rng.integers(0, config.canonical_size, T)
hidden = rng.standard_normal((T, M, D))


def run(ids: np.ndarray, hidden: np.ndarray, **options: object) -> Trace:
    """Trace of the whole module, from ids to Y; it records every intermediate array"""
    trace = Trace()
    rows = addressing.rows(ids, layer_id=1)
    engram(parameters, hidden, rows, config, trace=trace, **options)
    return trace


def changed(before: np.ndarray, after: np.ndarray) -> list[int]:
    """Positions that differ, relative to the changed input"""
    return (np.flatnonzero((before != after).any(axis=(0, 2, 3))) - at).tolist()


base = run(ids, hidden)
other_u = base["gated"].copy()
other_u[0, at] = rng.standard_normal((M, D))
other_Y, _ = ops.gated_conv(parameters, other_u, zeros, config)
vector = changed(base["output"], other_Y)

other_id = run(np.where(np.arange(T) == at, ids + 1, ids), hidden)
token_u = changed(base["gated"], other_id["gated"])
token_Y = changed(base["output"], other_id["output"])
print("one gated vector changes Y at +", vector)
print("one token id     changes u at +", token_u)
print("one token id     changes Y at +", token_Y)
assert vector == [0, 3, 6, 9] and token_u == [0, 1, 2]
assert token_Y == list(range(12))

# %% [markdown]
# Conversely, $Y_t$ depends on four gated vectors, and each of them depends on three tokens. Together they cover the
# last twelve tokens.

# %% tags=["fold"]
fig, ax = plt.subplots(figsize=(6.4, 2.3))
for i, tap in enumerate((0, 3, 6, 9)):
    style = {"color": f"C{i}", "linestyle": "-"}
    ax.plot([-tap - 2, -tap], [1, 1], linewidth=7, alpha=0.35, **style)
    ax.plot([-tap - 2, -tap - 1, -tap], [1, 1, 1], "o", color=f"C{i}", markersize=6)
    ax.plot(-tap, 2, "s", color=f"C{i}", markersize=9)
    ax.plot([-tap, -tap], [1.15, 1.85], linewidth=1, **style)
    ax.plot([-tap, 0], [2.15, 2.9], linewidth=1, **style)
ax.plot(0, 3, "D", color="C5", markersize=9)
ax.set(yticks=[1, 2, 3], yticklabels=["tokens", "gated vectors", "output"],
       xticks=range(-11, 1), ylim=(0.6, 3.4), xlabel="position relative to the output",
       title="Four taps of three tokens each cover twelve tokens once")
fig.set_label("An output at position 0 reads the gated vectors at 0, -3, -6 and -9; "
              "each of these reads the token at its own position and the two "
              "before it: together the tokens from -11 to 0, each once.")
covered = [tap + back for tap in (0, 3, 6, 9) for back in (0, 1, 2)]
assert sorted(covered) == list(range(12))             # no gap, no overlap

# %% [markdown]
# ## The norm cancels the gate
#
# The convolution reads RMSNorm$(u)$, and $u = \alpha v$ differs from $v$ only in length. A norm removes the length. So
# the contribution of a memory to later positions hardly depends on its gate. Only for very small $\alpha$ does the
# norm's `eps` ($10^{-5}$) keep the result small. Here is a value of size 1 (root mean square) at the paper's width,
# scaled by a small gate and by the lowest gate that the signed root allows ([tutorial 05](05_gate.md)):

# %%
def normed_size(alpha: float) -> float:
    """Size of the convolution's input for a value of size 1 and this gate"""
    return ops.rms_norm(alpha * v, gain, config.conv_norm_eps).std()


v, gain = rng.standard_normal(2560), np.ones(2560)
lowest = ops.gate(np.array([[[-np.sqrt(2560)]]]), "signed_sqrt").item()
print(f"size of the input: {normed_size(0.02):.2f} for gate 0.02, {normed_size(lowest):.2f} for gate {lowest:.4f}")

# %% [markdown]
# The whole module shows the same effect if every gate is set to 0.05:

# %%
def size(array: np.ndarray) -> float:
    return float(np.sqrt((array**2).mean()))


small_u = ops.apply_gate(np.full((1, T, M), 0.05), base["value"])
small_Y, _ = ops.gated_conv(parameters, small_u, zeros, config)
u_ratio = size(small_u) / size(base["gated"])
conv_ratio = size(small_Y - small_u) / size(base["conv"])
print(f"relative size of u: {u_ratio:.2f}   of the convolution branch: {conv_ratio:.2f}")
assert u_ratio < 0.15 and conv_ratio > 0.95

# %% tags=["fold"]
assert normed_size(0.02) > 0.95 and 0.23 < normed_size(lowest) < 0.27
assert round(lowest, 4) == 0.0008 and normed_size(1e-6) < 0.001
alphas = np.geomspace(1e-6, 1, 61)
inputs = np.array([normed_size(alpha) for alpha in alphas])
expected = alphas / np.sqrt(alphas**2 + config.conv_norm_eps)
assert config.conv_norm_eps == 1e-5 and np.allclose(inputs, expected, rtol=0.05)
fig, ax = plt.subplots(figsize=(6.2, 2.9))
ax.semilogx(alphas, inputs, label="input of the convolution")
ax.semilogx(alphas, alphas, label="gated value")
ax.plot(lowest, normed_size(lowest), "s", color="C3")
ax.annotate("lowest gate with\nthe signed root", (lowest, normed_size(lowest)),
            (2.5e-5, 0.5), fontsize=8,
            arrowprops={"arrowstyle": "-", "linestyle": "-", "color": "C3"})
ax.set(xlabel="gate", ylabel="size (of the value: 1)",
       title="A nearly closed gate hardly reduces the convolution's input")
ax.legend(loc="upper left")
fig.set_label("Against the gate from 1e-6 to 1: the gated value grows in proportion, "
              "while the convolution's input is already above 0.95 for a gate of 0.02 "
              "and a quarter for 0.0008, the lowest gate the signed root allows.")

# %% [markdown]
# With a gate of 0.02, the convolution's input still has more than 95% of its size. With gains of 1, the signed root
# never gives a gate below 0.0008, where a quarter remains; the paper's plain sigmoid can get closer to 0 and suppress
# the input. No source discusses this effect. It follows from the equations, and a port that "fixes" it will not match
# the reference.
#
# The same in the small trained model that ships with the package: the sizes of the gated value and of the convolution
# branch at every token of a text, and how they change with the gate.

# %%
trained, text = load_trained(), Trace()
words = trained.vocabulary.encode("And the children of Israel did evil in the sight of the LORD")
forward(trained.parameters, words, trained.model, addressing=trained.addressing, trace=text)
stages = {name: text[f"layers.1.engram.{name}"][0, :, 0] for name in ("gate", "gated", "conv")}
sizes = {name: np.sqrt((stages[name] ** 2).mean(axis=-1)) for name in ("gated", "conv")}
for open_or_shut, chosen in (("above 0.5", stages["gate"] > 0.5), ("below 0.05", stages["gate"] < 0.05)):
    means = {name: x[chosen].mean() for name, x in sizes.items()}
    print(f"gate {open_or_shut:10}  gated value {means['gated']:.2f}  convolution branch {means['conv']:.2f}")
shut, opened = stages["gate"] < 0.05, stages["gate"] > 0.5
assert sizes["gated"][opened].mean() > 10 * sizes["gated"][shut].mean()
assert sizes["conv"][shut].mean() > 0.5 * sizes["conv"][opened].mean()

# %% [markdown]
# Where its gates are shut, the convolution branch still adds a vector that is as large as where they are open.
#
# ## Zero initialisation
#
# In the paper, training starts with all convolution weights at 0. Then $c_t = 0$ and $\mathrm{SiLU}(0) = 0$, so the
# convolution contributes nothing. But the module as a whole does contribute: from the first step on it adds $Y = u =
# \alpha v$.

# %%
start = dataclasses.replace(config, conv_init="zeros")
fresh = initialise(start, layer_id=1, rng=np.random.default_rng(6))
rows, first = addressing.rows(ids, layer_id=1), Trace()
Y = engram(fresh, hidden, rows, start, trace=first)
print("largest |conv|:", abs(first["conv"]).max(), " size of Y:", f"{size(Y):.2f}")
assert (fresh["conv_weight"] == 0).all() and (first["conv"] == 0).all()
assert (first["output"] == first["gated"]).all() and size(Y) > 0.1

# %% [markdown]
# The convolution does not stay at zero: SiLU has slope ½ at zero, so training updates the weights from the first step.
# The derivative of $Y_t$ with respect to a weight is half the tap's input; the folded code checks this with a small
# step.

# %% tags=["fold"]
nudge = 1e-6
fresh["conv_weight"] = np.zeros((M, D, L))
fresh["conv_weight"][..., -1] = nudge
bumped = engram(fresh, hidden, rows, start)
assert np.allclose((bumped - Y) / nudge, 0.5 * first["conv_norm"][0], atol=1e-5)

# %% [markdown]
# ## The residual branches
#
# The *residual stream* is the sum that every layer of a transformer adds to. With *hyper-connections* a model has $M =
# 4$ parallel streams, its *branches*. Attention and experts read a mixture of the branches and write back to all of
# them. Engram processes each branch separately: $H^{(m)} \leftarrow H^{(m)} + Y^{(m)}$, before the layer's attention.
#
# {{ diagram: branches | Rows, memory and value are shared. Each of four branches has its own key, gate,
# gated vector, norm and convolution, and adds its own Y to its own state. }}
#
# How many parameters does sharing save? Here are the parameters of one layer of the paper's 27B model.

# %%
paper = preset("paper")
named = shapes(paper, layer_id=2)
del named["column_offsets"]                           # addresses, not learned
count = {name: int(np.prod(shape)) for name, shape in named.items()}
for name, numbers in count.items():
    shared = name in ("table", "value_weight")
    print(f"{name:13}{numbers:15,}   {'shared' if shared else 'four branches together'}")

# %% tags=["fold"]
gains = count["query_gain"] + count["key_gain"] + count["conv_gain"]
assert count["key_weight"] == 4 * count["value_weight"] == 4 * 2560 * 1280
assert (count["conv_weight"], gains) == (40_960, 30_720)
assert count["table"] > 170 * (sum(count.values()) - count["table"])

# %% [markdown]
# The table has more than 170 times as many parameters as everything else together, and it is stored only once.
#
# The branches are independent: if only the state of branch 1 changes, only its own output changes. Within the branch
# all channels change because the gate scales the whole vector. The convolution itself does not mix channels.

# %% tags=["fold"]
poked = hidden.copy()
poked[at, 1] += 1.0
difference = run(ids, poked)["output"] != base["output"]
assert difference.any(axis=(0, 1, 3)).tolist() == [False, True, False, False]
assert difference[0, at, 1].all()

one_channel = x.copy()
one_channel[0, at, 1, 3] += 1.0
leak = (ops.short_conv(one_channel, weight, step, zeros) != c).any(axis=(0, 1))
assert np.argwhere(leak).tolist() == [[1, 3]]

# %% [markdown]
# Ports make two common mistakes here. First, they compute one norm over all $M \cdot D$ numbers instead of one per
# branch, so a branch with large numbers scales down the others. Second, they read the *kernels* (the $L$ weights of a
# channel) in the wrong order. The demo stores the kernels as one list of $M \cdot D$ channels, all channels of branch 0
# first. A port that expects channel 0 of every branch first assigns 60 of `tiny`'s 64 kernels to the wrong channel.

# %% tags=["fold"]
loud = base["gated"] * np.array([10.0, 1, 1, 1])[:, None]
own = ops.rms_norm(loud, np.ones((M, D)), 1e-5)
joint = ops.rms_norm(loud.reshape(1, T, M * D), np.ones(M * D), 1e-5)
joint = joint.reshape(loud.shape)
assert size(own[:, :, 1]) > 0.95 and size(joint[:, :, 1]) < 0.4

listed = weight.reshape(M * D, 1, L)                  # as the demo stores them
assert (listed[2 * D + 5, 0] == weight[2, 5]).all()   # branch 2, channel 5
misread = listed.reshape(D, M, L).transpose(1, 0, 2)
assert M * D == 64 and (misread != weight).any(axis=-1).sum() == 60

# %% [markdown]
# ## The state of a decoder
#
# A *decoder*, a program that generates text, processes one token at a time. To compute $Y_t$ it needs the normalised
# gated vectors at $t-3$, $t-6$, $t-9$, and the next two tokens need the vectors in between. So the decoder keeps the
# last $(L-1)\,\delta = 9$ vectors per branch. We call these vectors the taps; `EngramState` stores them, and the module
# replaces them at each call. Hashing needs the last $N-1 = 2$ ids. With both, chunks of any length give the same output
# as the whole text:

# %%
whole = base["output"]
state, history = start_state(config, batch=1), None
begin, chunks = 0, []
for length in (7, 1, 1, 0, 15):
    end = begin + length
    rows = addressing.rows(ids[begin:end], 1, history)
    states = hidden[None, begin:end]
    chunks.append(engram(parameters, states, rows[None], config, state=state))
    history = addressing.advance(history, ids[begin:end])
    begin = end
chunks = np.concatenate(chunks, axis=1)
print("taps kept:", state.taps.shape, "  ids kept:", history.shape)
assert begin == T and state.taps.shape == (1, 9, M, D) and history.shape == (2,)
assert np.allclose(chunks, whole, rtol=1e-12, atol=1e-13)
assert np.allclose(state.taps, base["conv_norm"][:, -9:], rtol=1e-12, atol=1e-13)

# %% [markdown]
# What happens if a server loses the taps or the ids between two chunks? We cut the text at position 12 and start the
# second chunk without its state. Positions are counted from the cut.

# %%
cut = 12


def second_chunk(keep_taps: bool, keep_ids: bool) -> np.ndarray:
    """Error at each position after the cut"""
    state = start_state(config, batch=1)
    rows = addressing.rows(ids[:cut], 1)
    engram(parameters, hidden[None, :cut], rows[None], config, state=state)
    history = addressing.advance(None, ids[:cut]) if keep_ids else None
    state = state if keep_taps else None
    rows = addressing.rows(ids[cut:], 1, history)
    Y = engram(parameters, hidden[None, cut:], rows[None], config, state=state)
    return abs(Y - whole[:, cut:]).max(axis=(0, 2, 3))


errors = {"taps lost": second_chunk(keep_taps=False, keep_ids=True),
          "ids lost": second_chunk(keep_taps=True, keep_ids=False),
          "both lost": second_chunk(keep_taps=False, keep_ids=False)}
wrong = {}
for name, error in errors.items():
    wrong[name] = np.flatnonzero(error > 1e-9).tolist()
    print(f"{name:9} wrong at +{wrong[name]}")

# %% tags=["fold"]
assert wrong["taps lost"] == list(range(9))
assert wrong["ids lost"] == [0, 1, 3, 4, 6, 7, 9, 10]
assert wrong["both lost"] == list(range(11))
assert second_chunk(keep_taps=True, keep_ids=True).max() < 1e-12
fig, ax = plt.subplots(figsize=(6.2, 2.8))
for i, (name, error) in enumerate(errors.items()):
    ax.bar(np.arange(T - cut) + 0.27 * (i - 1), error, 0.27, label=name,
           color=f"C{i}", hatch=("", "////", "....")[i])
ax.set(xlabel="position after the cut", ylabel="largest error in Y",
       xticks=range(T - cut),
       title="Lost state makes eleven outputs wrong, then the layer recovers")
ax.legend()
fig.set_label("Bars of the largest error at each position after the cut. Taps lost: "
              "positions 0 to 8. Ids lost: positions 0, 1, 3, 4, 6, 7, 9 and 10. Both "
              "lost: positions 0 to 10. Position 11 is correct again.")

# %% [markdown]
# The pattern identifies the cause. With lost taps, the first nine outputs are wrong. With lost ids, two memories are
# wrong, and each also affects the outputs 3, 6 and 9 positions later, so every third output is correct. A check of only
# the twelfth token of a reply does not detect the loss in this layer.
#
# ## How the versions differ
#
# DeepSeek-V4.1-Flash, V4.1 for short, has no convolution: $Y = u$, no taps are kept, and an output depends on the last
# four tokens only, the longest n-gram. The paper's ablations, which remove one part of the model at a time, suggest a
# reason. The *loss*, the error that training minimises, is 1.7678 for the full model and 1.7683 without the convolution
# (read off Figure 5 of the paper). Removing the separate branches costs 13 times as much (1.7743).
#
# The demo initialises the kernels at random instead of with zeros; it has no training code.

# %% tags=["fold"]
layout = "{:20}{:<6}{:<10}{:<4}{:9}{}"
print(layout.format("preset", "taps", "dilation", "N", "start", "kept"))
for name in ("paper", "demo", "deepseek-v4.1-flash", "qwen4exp-ple"):
    p = preset(name)
    conv = (p.conv_kernel, p.conv_dilation, p.conv_init)
    taps, dilation, start = conv if p.conv_kernel else ("none", "-", "-")
    print(layout.format(name, taps, dilation, p.max_ngram, start, p.conv_span))
    released = name == "deepseek-v4.1-flash"
    assert (*conv[:2], p.max_ngram) == ((0, 1, 4) if released else (4, 3, 3))
    assert (p.conv_init == "uniform") == (name == "demo")
reference, without_conv, without_branches = 1.7678, 1.7683, 1.7743
cost = (without_branches - reference) / (without_conv - reference)
assert round(cost) == 13
assert start_state(preset("deepseek-v4.1-flash"), batch=1).taps.size == 0

# %% [markdown]
# The convolution also matters for images. At a *DEAD* position, part of an image ([tutorial 05](05_gate.md)), $u$ is 0.
# With a convolution the output is still nonzero, because the convolution reads earlier positions. `tiny` has both DEAD
# marks and a convolution. V4.1 has no convolution, so there $Y = 0$.

# %% tags=["fold"]
assert config.dead_barrier and config.conv_kernel
dead = np.arange(T) == 10
masked = run(np.where(dead, ops.DEAD, ids), hidden, dead=dead)
assert (masked["gated"][0, 10] == 0).all()
assert (masked["output"][0, 10] != 0).all()
H = residual(hidden, masked["output"][0], config)    # then the layer's attention
assert H.shape == (T, M, D) and np.allclose(H - hidden, masked["output"][0])

# %% [markdown]
# ## Exercises
#
# **1.** With four taps and 3-grams, an output depends on twelve different tokens. On how many does it depend with
# dilation 2 instead of 3? With dilation 4?
#
# ??? tip "Hint"
#     Add every tap's distance to every distance within an n-gram, and count the different sums.

# %% tags=["answer"]
def reach(dilation: int) -> set[int]:
    return {dilation * tap + back for tap in range(4) for back in range(3)}


for dilation in (2, 3, 4):
    lags = reach(dilation)
    print(f"dilation {dilation}: {len(lags)} of the last {max(lags) + 1} tokens")
assert [len(reach(dilation)) for dilation in (2, 3, 4)] == [9, 12, 12]
assert max(reach(3)) == 11 and max(reach(4)) == 14
assert sorted(set(range(15)) - reach(4)) == [3, 7, 11]

# %% [markdown] tags=["answer"]
# With dilation 2 the n-grams overlap and cover nine tokens. With dilation 4 there are again twelve tokens, but they are
# spread over fifteen positions with three gaps. A dilation of $N$ is the largest without gaps.

# %% [markdown]
# **2.** To be faster, a decoder guesses two tokens ahead, finds that both guesses are wrong, and rolls back. It
# restores the ids but not the taps. Which outputs are wrong afterwards? How is a correct rollback done?
#
# ??? tip "Hint"
#     The taps end with two vectors of the rejected tokens, and all others have moved by two. The module never writes
#     into the array of an `EngramState`; it replaces the array.

# %% tags=["answer"]
def after_drafts(restore: bool) -> list[int]:
    state, rows = start_state(config, batch=1), addressing.rows(ids, 1)[None]
    engram(parameters, hidden[None, :cut], rows[:, :cut], config, state=state)
    snapshot = copy.copy(state)                  # refers to the same taps array
    drafts = addressing.rows(np.array([1, 2]), 1, ids[cut - 2 : cut])[None]
    guess = rng.standard_normal((1, 2, M, D))
    engram(parameters, guess, drafts, config, state=state)
    state = snapshot if restore else state
    later = hidden[None, cut:]
    Y = engram(parameters, later, rows[:, cut:], config, state=state)
    error = abs(Y - whole[:, cut:]).max(axis=(0, 2, 3))
    return np.flatnonzero(error > 1e-9).tolist()


print("taps not restored: wrong at +", after_drafts(restore=False))
assert after_drafts(restore=False) == list(range(9))
assert after_drafts(restore=True) == []

# %% [markdown] tags=["answer"]
# The first nine outputs, which read taps from before the cut, are wrong. For a rollback, keep a shallow copy of the
# state and continue from it.

# %% [markdown]
# Next: [the dialects of Engram](07_dialects.md), a comparison.
