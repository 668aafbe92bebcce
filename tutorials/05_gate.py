# %% [markdown]
# # The gate: does this memory fit the context?
#
# ## What you will be able to do
#
# - compute the score of a memory against a context, and say which scores are possible at all;
# - tell the four published gates apart: around zero, far out, and by what a stored gain means;
# - say when `eps` matters, and why an ordinary test cannot see a wrong one;
# - recognise the bugs of a *port*, somebody's own implementation, by the numbers they leave behind.
#
# ## A row is found blind
#
# The last few tokens decide which rows are read; nothing else does. So a row can be wrong for
# its sentence: the phrase may mean two things, or another phrase may share the row by collision.
#
# The *hidden state* $h$ knows more. It is the vector that the model carries along for a position, and
# the layers before have already written context into it. All models here carry $M = 4$ such vectors for each
# position, called *residual branches*. The [next tutorial](06_short_conv.md) says more about them.
#
# Engram turns the memory $e$ (all rows of a position, side by side) into two kinds of vector. A **key**
# $k^{(m)}$ for each branch $m$ says what the memory is about. One **value** $v$ is what it has to say:
#
# $$ k^{(m)} = W_K^{(m)} e, \qquad v = W_V e $$
#
# A number $\alpha$ between 0 and 1 then decides how much of $v$ gets in. That number is the gate. We look
# at it in `tiny`, a preset of this package that is small enough to print.

# %%
import dataclasses

import matplotlib.pyplot as plt
import numpy as np

from engram_ref import Addressing, EngramConfig, ops, preset, presets
from engram_ref.model.engram_parameters import initialise
from engram_ref.presets import GATES

rng = np.random.default_rng(5)
tiny = preset("tiny")
M, D = tiny.n_branches, tiny.hidden_size
parameters = initialise(tiny, layer_id=1, rng=rng)        # random, not trained
text = np.array([[11, 22, 33]])                           # three canonical ids
rows = Addressing(tiny).rows(text, layer_id=1)
memory = ops.gather_decode(parameters, rows, tiny, np.float64)
key, value = ops.project(parameters, memory, tiny)
print("memory", memory.shape, " key", key.shape, " value", value.shape)

# %% tags=["fold"]
assert key.shape == (1, 3, M, D) == (1, 3, 4, 16) and value.shape == (1, 3, D)
assert {preset(name).n_branches for name in presets()} == {4}

# %% [markdown]
# ## The score: two norms and a dot product
#
# State and key are each divided by their root mean square (*RMSNorm*), multiplied channel by channel
# with a learned *gain* $g$, and compared by a dot product. (A *channel* is one of the $D$ numbers of a vector.) `eps`
# is a tiny number that keeps the root away from zero:
#
# $$
# \begin{align*}
# \mathrm{RMSNorm}(x) &= \frac{g \cdot x}{\sqrt{\mathrm{mean}(x^2) + \mathrm{eps}}} \\
# s^{(m)} &= \frac{\langle \mathrm{RMSNorm}(h^{(m)}),\, \mathrm{RMSNorm}(k^{(m)}) \rangle}{\sqrt{D}}
# \end{align*}
# $$
#
# Three states to try: one that points where the key points, one at random, one that points away.

# %%
ones = np.ones((M, D))
random = rng.standard_normal(key.shape)
states = {"fits": 3.0 * key, "random": random, "opposite": -key}
scores = {}
for name, hidden in states.items():
    query = ops.rms_norm(hidden, ones, 0.0)
    scores[name] = ops.score(query, ops.rms_norm(key, ones, 0.0))
    lengths = np.sqrt((hidden**2).sum(-1) * (key**2).sum(-1))
    cosine = (hidden * key).sum(-1) / lengths
    assert np.allclose(scores[name], np.sqrt(D) * cosine)
    print(f"{name:9} four branches, last token: {scores[name][0, -1].round(2)}")
assert np.allclose(scores["fits"], 4) and np.allclose(scores["opposite"], -4)

# %% [markdown]
# With gains of 1 the score is the cosine of the angle between state and key, times $\sqrt D$. So its
# size is at most $\sqrt D$: 4 here, 50.6 at the paper's width of 2,560. Two vectors
# that have nothing to do with each other score about 1 in size, whatever the width.
#
# ## Why the norms are there
#
# Without them the score would follow the *length* of the state. Below, random states get longer and
# longer. We count how many gates are still between 0.1 and 0.9, which means: neither shut nor wide open.

# %%
WIDE = preset("paper").hidden_size
h, k = rng.standard_normal((2, 1, 2000, 1, WIDE))
lengths = np.array([0.1, 0.3, 1, 3, 10, 30, 100])


def normed_score(h: np.ndarray, k: np.ndarray, eps: float = 1e-20) -> np.ndarray:
    one = np.ones(h.shape[-2:])                           # gains
    return ops.score(ops.rms_norm(h, one, eps), ops.rms_norm(k, one, eps))


def undecided(s: np.ndarray) -> float:
    alpha = ops.gate(s, "sigmoid")                        # the paper's gate, see below
    return float(((alpha > 0.1) & (alpha < 0.9)).mean())


normed = [undecided(normed_score(x * h, k)) for x in lengths]
bare = [undecided(ops.score(x * h, k)) for x in lengths]

# %% tags=["fold"]
assert min(normed) > 0.95 and bare[-1] < 0.05
for width in (16, 256, WIDE):                             # about 1 in size
    pair = rng.standard_normal((2, 1, 2000, 1, width))
    s = normed_score(*pair)
    assert abs(s.std() - 1) < 0.05 and abs(s).max() <= np.sqrt(width)
assert WIDE == 2560 and round(np.sqrt(WIDE), 1) == 50.6

fig, ax = plt.subplots(figsize=(6.2, 2.9))
ax.semilogx(lengths, normed, marker="o", label="state and key normalised")
ax.semilogx(lengths, bare, marker="s", label="bare dot product")
ax.set(xlabel="how many times longer the state is", ylim=(0, 1.05),
       ylabel="share undecided",
       title="Without norms a long state makes the gate a switch")
ax.legend(loc="lower left")
fig.set_label("Share of undecided gates against the length of the state. "
              "Normalised: constant near 0.97. Bare dot product: falls from 1 "
              "to under 0.05 as states get a hundred times longer.")

# %% [markdown]
# ## Four keys, one value
#
# Each branch asks with its own state and its own key. What gets in is the same vector for all of them,
# only more or less of it:
#
# $$ u^{(m)} = \alpha^{(m)}\, v $$

# %%
hidden = random
s = ops.gate_score(parameters, hidden, key, tiny)
alpha = ops.gate(s, tiny.gate_form)
gated = ops.apply_gate(alpha, value)
print("gates of the four branches:", alpha[0, -1].round(3))
assert gated.shape == (1, 3, M, D) and len(set(alpha[0, -1])) == M
assert np.linalg.matrix_rank(gated[0, -1]) == 1      # multiples of one vector

# %% [markdown]
# ## Four forms of the gate
#
# The paper takes the logistic sigmoid $\sigma(x) = 1/(1+e^{-x})$ of the score. The authors' demo and the
# released models (DeepSeek-V4.1-Flash, or V4.1, and Qwen's) take it of a **signed square root**: the root of $|s|$,
# with the sign of $s$. A *clamp* keeps $|s|$ at $10^{-6}$ or above:
#
# $$
# \begin{align*}
# \text{paper} \qquad \alpha &= \sigma(s) \\
# \text{demo, Qwen} \qquad \alpha &= \sigma\bigl(\mathrm{sign}(s)\,\sqrt{\max(|s|, 10^{-6})}\bigr) \\
# \text{V4.1} \qquad \alpha &= \sigma\bigl(\mathrm{copysign}(\sqrt{\max(|s|, 10^{-6})},\, s)\bigr)
# \end{align*}
# $$
#
# Qwen's form is the demo's, with one change in the norms: its gains are *zero-centred*. The model's file stores
# $w$ and the gain is $1 + w$. Below, `dialect_gates` builds states and keys whose score is known, and computes their
# gates as each of the four does.

# %% tags=["fold"]
def dialect_gates(dialect: str, s: np.ndarray, stored: float,
                  **changed: str) -> np.ndarray:
    """Gates of states built to score s; every stored gain weight is the same."""
    fields = GATES[dialect] | changed
    config: EngramConfig = dataclasses.replace(preset("paper"), **fields)
    cosine = s / np.sqrt(WIDE)
    state, one_key = np.zeros((2, 1, len(s), 1, WIDE))
    state[0, :, 0, 0], state[0, :, 0, 1] = cosine, np.sqrt(1 - cosine**2)
    one_key[..., 0] = 1.0
    state, one_key = np.sqrt(WIDE) * state, np.sqrt(WIDE) * one_key
    gain = np.full((1, WIDE), stored)
    weights = {"query_gain": gain, "key_gain": gain}
    scores = ops.gate_score(weights, state, one_key, config)
    return ops.gate(scores, config.gate_form)[0, :, 0]


# %%
far = np.linspace(-50, 50, 401)
paper = dialect_gates("paper", far, stored=1.0)
demo = dialect_gates("demo", far, stored=1.0)
v41 = dialect_gates("deepseek-v4.1", far, stored=1.0)
qwen = dialect_gates("qwen", far, stored=0.0)
misread = dialect_gates("qwen", far, stored=0.0, gain_form="plain")

# %% tags=["fold"]
assert np.allclose(demo, qwen, atol=1e-6) and (misread == 0.5).all()
assert np.allclose(demo[far != 0], v41[far != 0], rtol=1e-12)
assert paper[far == 8] > 0.999 and 0.94 < demo[far == 8] < 0.95
beside_zero = ops.gate(np.array([[[-1e-12, 1e-12]]]), "signed_sqrt").ravel()
assert beside_zero.round(5).tolist() == [0.49975, 0.50025]

fig, (upper, lower) = plt.subplots(2, 1, figsize=(5.4, 5.6))
near = np.array([-3e-6, -2e-6, -1.5e-6, -1e-6, -3e-7, -1e-12])
for side in (near, -near[::-1]):
    plain, rooted = (ops.gate(side.reshape(1, -1, 1), form).ravel()
                     for form in ("sigmoid", "signed_sqrt"))
    upper.plot(side * 1e6, plain, color="C0", linestyle="-")
    upper.plot(side * 1e6, rooted, color="C1", linestyle="--")
upper.plot(0, 0.5, "o", color="C1", markersize=7)
upper.plot([0, 0], [0.49975, 0.50025], "^", color="C2", markersize=7)
for words, x, y in (("paper", -2.9, 0.50003), ("demo at ±0", 0.3, 0.50003),
                    ("V4.1 at +0", 0.3, 0.50017), ("V4.1 at -0", 0.3, 0.49976),
                    ("with a root", 1.0, 0.50045), ("with a root", -2.2, 0.49955)):
    upper.text(x, y, words, fontsize=8)
upper.set(xlabel="score, in millionths", ylabel="gate")
upper.set_title("around zero", fontsize=10)
lower.plot(far, paper, label="paper")
lower.plot(far, demo, label="demo")
lower.plot(far, v41, label="V4.1")
lower.plot(far[80:321:16], qwen[80:321:16], "D", color="C3", markersize=4,
           label="Qwen, gain 1 + w")
lower.plot(far, misread, color="C5", linestyle=":", label="Qwen, gain w")
lower.set(xlabel="score", xlim=(-32, 32), ylim=(-0.03, 1.03))
lower.set_title("far out", fontsize=10)
lower.legend(fontsize=8, loc="lower right")
fig.suptitle("The root tames large scores and leaves a step at zero",
             x=0.02, ha="left")
fig.set_label("Above: within three millionths of zero the paper's gate is flat at 0.5, "
              "the rooted gates step from 0.49975 to 0.50025. Below: the paper's gate "
              "saturates by 8, the demo, V4.1 and Qwen share one slower curve, and "
              "Qwen's weights taken as plain gains give 0.5 everywhere.")

# %% [markdown]
# Far out, one curve serves the demo, V4.1 and Qwen. At a score of 8 the paper's gate stands above 0.999;
# the rooted ones are still below 0.95. The flat line is a port that takes Qwen's stored $w = 0$ for the
# gain itself: every score becomes 0 and every gate 0.5, whatever the text.
#
# ## At zero, and inside the clamp
#
# The clamp never lets the root fall below $\sqrt{10^{-6}} = 0.001$. So every score from just above 0
# up to $10^{-6}$ has the same gate, $\sigma(0.001) = 0.50025$, and every one from just below 0 down to
# $-10^{-6}$ has 0.49975. Only zero itself is in dispute. `sign(0)` is 0, so the demo answers exactly 0.5.
# `copysign` takes the sign from the sign *bit*, and a floating-point zero has one: there is $+0$ and $-0$.

# %%
forms = ("sigmoid", "signed_sqrt", "copysign_sqrt")
edges = np.array([0.0, -0.0, 1e-30, 1e-7, 1e-6, -1e-7, 2e-6, 0.01, 1.0])
scores = edges.reshape(1, -1, 1)
plain, sign, copied = (ops.gate(scores, form)[0, :, 0] for form in forms)
print("    score      paper     demo      V4.1")
for row in zip(edges, plain, sign, copied, strict=True):
    print("{:9g}   {:.6f}  {:.6f}  {:.6f}".format(*row))

# %% tags=["fold"]
assert sign[:2].tolist() == [0.5, 0.5] == plain[:2].tolist()
assert copied[:2].round(6).tolist() == [0.50025, 0.49975]
assert (sign[2:] == copied[2:]).all()
assert sign[2:6].round(6).tolist() == [0.50025, 0.50025, 0.50025, 0.49975]

# %% [markdown]
# ## Why a signed root?
#
# Neither the paper nor the demo says. What it does can be measured: look at the *slope* $d\alpha/ds$, which
# is what training passes back through the gate. With $r = \sqrt{|s|}$ it is
#
# $$
# \begin{align*}
# \text{plain} \qquad & \sigma'(s) = \sigma(s)\,(1 - \sigma(s)) \\
# \text{with the root} \qquad & \sigma'(r) \cdot \frac{1}{2r}, \quad \text{and 0 inside the clamp}
# \end{align*}
# $$

# %%
def slope(size: np.ndarray, form: str) -> np.ndarray:
    """Central difference of the gate, at -size: there alpha keeps its digits."""
    points = -size * np.array([[1 - 1e-4], [1 + 1e-4]])
    high, low = ops.gate(points[..., None], form)[..., 0]
    return (high - low) / (2e-4 * size)


def bell(x: np.ndarray) -> np.ndarray:
    """The derivative of the sigmoid."""
    return ops.sigmoid(x) * ops.sigmoid(-x)


sizes = np.geomspace(1.1e-6, 50, 300)
roots = np.sqrt(sizes)
plain_slope, root_slope = slope(sizes, "sigmoid"), slope(sizes, "signed_sqrt")
assert np.allclose(plain_slope, bell(sizes), rtol=1e-4)
assert np.allclose(root_slope, bell(roots) / (2 * roots), rtol=1e-4)
assert (slope(np.array([1e-9, 1e-7, 9e-7]), "signed_sqrt") == 0).all()

# %% tags=["fold"]
two = np.array([0.01, 16.0])
small, large = slope(two, "signed_sqrt") / slope(two, "sigmoid")
steeper = root_slope > plain_slope
assert (steeper == ((sizes < 0.25) | (sizes > 3.5))).mean() > 0.99
assert round(small) == 5 and 19_000 < large < 20_000
assert plain_slope[sizes > 20].max() < 1e-8 < 1e-5 < root_slope.min()
assert round(bell(0.001) / 0.002) == 125 and round(WIDE**0.25, 2) == 7.11
ends = ops.gate(np.sqrt(WIDE) * np.array([[[-1.0, 1.0]]]), "signed_sqrt")
assert ends.round(4).ravel().tolist() == [0.0008, 0.9992]

fig, ax = plt.subplots(figsize=(6.2, 3.1))
ax.loglog(sizes, plain_slope, label="paper: no root")
ax.loglog(sizes, root_slope, label="signed root")
ax.axvspan(1e-7, 1e-6, color="C5", alpha=0.2, linewidth=0)
ax.annotate("clamp: slope 0", (1.2e-7, 2e-7), fontsize=8)
ax.set(xlabel="|score|", ylabel="slope of the gate",
       xlim=(1e-7, 60), ylim=(1e-8, 400),
       title="The root keeps a slope where the plain gate has none")
ax.legend(loc="lower center")
fig.set_label("Slope of the gate against the size of the score, both logarithmic. "
              "Without a root it is near 0.25 below 1, then collapses below 1e-8 by "
              "20. With the root it falls from 125 at the clamp through 0.1 at a "
              "score of 1 to 0.0004 at 30.")

# %% [markdown]
# For scores above about 3.5 the root leaves more slope, at 16 nearly twenty thousand times more: a gate
# that is very sure can still be corrected. Below about 0.25 it is steeper as well, with a slope of up to 125 at the
# edge of the clamp, so weak evidence is made loud. In between it is flatter. And with gains of 1 no gate is ever quite
# shut or quite open: at the paper's width the score ends at $\pm 50.6$, its root at $\pm 7.11$, the gate at 0.0008
# and 0.9992.
#
# ## What eps does to a tiny state
#
# `eps` stands under the root of the norm. An ordinary vector has $\mathrm{mean}(x^2)$ near 1 and never notices.
# A vector whose root mean square is near $\sqrt{\mathrm{eps}}$ is not brought up to 1 any more, and a far
# smaller one stays small. `None`, the demo's choice, means the machine epsilon of the *input's* dtype, the distance
# from 1 to the next number: about $1.19 \cdot 10^{-7}$ in float32 but $2.2 \cdot 10^{-16}$ in float64.

# %%
tiny_to_large = np.geomspace(1e-12, 10, 131)
choices = {"1e-5": (1e-5, np.float64), "1e-6": (1e-6, np.float64),
           "None, float32": (None, np.float32),
           "None, float64": (None, np.float64), "1e-20": (1e-20, np.float64)}
after = {}
for label, (eps, dtype) in choices.items():
    used = np.finfo(dtype).eps if eps is None else eps
    x = np.append(tiny_to_large, np.sqrt(used))[:, None].astype(dtype)
    *after[label], edge = ops.rms_norm(x, np.ones(1, dtype=dtype), eps)[:, 0]
    expected = tiny_to_large / np.sqrt(tiny_to_large**2 + used)
    assert np.allclose(after[label], expected, rtol=1e-5)
    assert np.isclose(edge, np.sqrt(0.5))                 # 0.71 at its middle
    assert max(np.array(after[label])[tiny_to_large < np.sqrt(used) / 10]) < 0.1

# %% tags=["fold"]
assert f"{np.finfo(np.float32).eps:.3g}" == "1.19e-07"
assert f"{np.finfo(np.float64).eps:.2g}" == "2.2e-16"
fig, ax = plt.subplots(figsize=(6.2, 2.9))
for label, curve in after.items():
    ax.semilogx(tiny_to_large, curve, label=label)
ax.set(xlabel="root mean square before the norm", ylabel="after the norm",
       title="A vector much shorter than the root of eps stays short")
ax.legend(title="eps", fontsize=8, title_fontsize=8, loc="lower right")
fig.set_label("Root mean square after the norm against before, five values of eps. "
              "Each curve steps from 0 to 1 where the input equals the square root "
              "of eps: 3e-3, 1e-3, 3e-4, 1.5e-8 and 1e-10.")

# %% [markdown]
# Now the trap for everyone who tests a port. On random data of variance 1, how far does a gate move when
# `eps` is wrong?

# %%
def largest_move(eps: float, length: float, form: str = "signed_sqrt") -> float:
    """How far the wrong eps moves a gate, against the right one: 1e-20."""
    found, right = (ops.gate(normed_score(length * h, length * k, e), form)
                    for e in (eps, 1e-20))
    return float(abs(found - right).max())


print("wrong eps    variance 1      rms 1e-4")             # rms: root mean square
for eps in (2.0**-52, 2.0**-23, 1e-6, 1e-5):
    ordinary, small = largest_move(eps, 1.0), largest_move(eps, 1e-4)
    print(f"{eps:9.3g}{ordinary:14.1e}{small:15.1e}")
    assert ordinary < eps / 8 + 1e-13
    assert eps < 1e-7 or small > 0.2

# %% tags=["fold"]
assert 1.3e-8 < largest_move(2.0**-23, 1.0) < 1.5e-8
assert largest_move(1e-5, 1.0, "sigmoid") < 1e-5 / 4      # the paper's gate

# %% [markdown]
# At variance 1 the error is an eighth of `eps` at most (a quarter for the plain sigmoid). Float32's epsilon in place of
# $10^{-20}$ moves gates by 1.4e-8, so any test with a tolerance above that passes either way. Shrink state and key to
# a root mean square of $10^{-4}$, and the same mistake moves a gate by more than 0.2. So test a norm with tiny inputs.
#
# ## The factored form
#
# V4.1 and [TileKernels](https://github.com/deepseek-ai/TileKernels), DeepSeek's library of GPU programs, never write a
# normalised vector down. What a norm divides by is a single number, so it can be pulled out of the sum:
#
# $$ s = \frac{\sum_d h_d\, (g^q_d\, g^k_d)\, k_d}{\sqrt D \;
# \sqrt{\mathrm{mean}(h^2) + \mathrm{eps}}\; \sqrt{\mathrm{mean}(k^2) + \mathrm{eps}}} $$
#
# Only the product of the two gains enters. Swap the query's gain with the key's and nothing happens, so
# no output can tell which of a checkpoint's two gains is which.

# %% tags=["fold"]
query_gain, key_gain = 1 + 0.3 * rng.standard_normal((2, M, D))
query = ops.rms_norm(hidden, query_gain, 1e-20)
normalised = ops.score(query, ops.rms_norm(key, key_gain, 1e-20))
factored = ops.factored_score(hidden, key, query_gain, key_gain, 1e-20)
swapped = ops.factored_score(hidden, key, key_gain, query_gain, 1e-20)
assert np.allclose(factored, normalised, rtol=1e-13, atol=1e-15)
assert (swapped == factored).all()

# %% [markdown]
# ## The dead mask
#
# Positions inside an image hold no text and are marked *DEAD* ([tutorial 03](03_hash_by_hand.md)). They read the rows
# of a text made of padding alone. Those are real rows with real values, so the gate has to do the rest: at a dead
# position it is exactly 0, not small.

# %%
dead = np.array([[False, True, False]])
s = ops.gate_score(parameters, hidden, key, tiny)
free = ops.gate(s, "copysign_sqrt")
masked = ops.gate(s, "copysign_sqrt", dead)
print("free  ", free[0, :, 0].round(3), " (branch 0, three positions)")
print("masked", masked[0, :, 0].round(3))

# %% tags=["fold"]
assert (masked[0, 1] == 0).all() and (free > 0).all()
assert (masked[0, [0, 2]] == free[0, [0, 2]]).all()
addressing = Addressing(tiny)
marked, pad = np.array([[11, ops.DEAD, 33]]), np.array([[addressing.pad_id]])
assert (addressing.rows(marked, 1)[0, 1] == addressing.rows(pad, 1)[0, 0]).all()

# %% [markdown]
# ## Where the paper, the demo or a release does otherwise
#
# The signed root is in no equation of the paper; it is in the demo and in both releases. The paper gives no `eps`: the
# value below is this project's choice, that of the paper's backbone. Qwen's is that of its class in
# [HF transformers](https://github.com/huggingface/transformers). The demo alone adds biases to its keys and its value.

# %% tags=["fold"]
layout = "{:20}{:12}{:15}{:14}{:7}{:6}{}"
print(layout.format("preset", "score", "gate", "gain", "eps", "bias", "mask"))
for name in ("paper", "demo", "deepseek-v4.1-flash", "qwen4exp-ple"):
    c = preset(name)
    bias = "yes" if c.projection_bias else "no"
    mask = "yes" if c.dead_barrier else "no"
    print(layout.format(name, c.score_form, c.gate_form, c.gain_form,
                        str(c.norm_eps), bias, mask))
    assert c.projection_bias == (name == "demo")
    assert c.dead_barrier == (c.gate_form == "copysign_sqrt") == ("v4.1" in name)
    assert (c.gate_form == "sigmoid") == (name == "paper")
assert preset("demo").norm_eps is None and preset("paper").norm_eps == 1e-20
assert preset("deepseek-v4.1-flash").norm_eps == 1e-20

# %% [markdown]
# ## Exercises
#
# **1.** At which scores do the paper's gate and the demo's agree exactly?
#
# ??? tip "Hint"
#     The sigmoid is strictly increasing, so the arguments have to agree. Mind the clamp.

# %% tags=["answer"]
same = np.array([[[-1.0, 0.0, 1.0]]])
others = np.setdiff1d(np.append(np.linspace(-20, 20, 801), [1e-9, -1e-7, 1e-6]), same)
others = others.reshape(1, -1, 1)
assert (ops.gate(same, "sigmoid") == ops.gate(same, "signed_sqrt")).all()
assert (ops.gate(others, "sigmoid") != ops.gate(others, "signed_sqrt")).all()
assert ops.gate(same, "copysign_sqrt")[0, 0, 1] != 0.5

# %% [markdown] tags=["answer"]
# At −1, 0 and 1: $s = \mathrm{sign}(s)\sqrt{|s|}$ has no other solution. The clamp adds none, for inside it
# the root is $\pm 0.001$ while $|s|$ is at most $10^{-6}$. V4.1's gate misses even 0.

# %% [markdown]
# **2.** A port matches the demo except at positions whose hidden state is all zeros. There each of its gates
# is too large by 0.00025. Which line is wrong?
#
# ??? tip "Hint"
#     What is the score of an all-zero state? Look for it in the table of section "At zero, and inside the clamp".

# %% tags=["answer"]
s = ops.gate_score(parameters, np.zeros_like(key), key, tiny)
excess = ops.gate(s, "copysign_sqrt") - ops.gate(s, "signed_sqrt")
assert (s == 0).all() and np.allclose(excess, 0.00025, atol=1e-8)

# %% [markdown] tags=["answer"]
# The root: it was written with `copysign`, V4.1's way, where the demo multiplies by `sign`.

# %% [markdown]
# Next: [The short convolution and the residual branches](06_short_conv.md), what happens to the gated values.
