# %% [markdown]
# # The gate: does this memory fit the context?
#
# ## What you will be able to do
#
# - compute the score of a memory against a context, and state the range of possible scores;
# - distinguish the four published gates by their values near zero and for large scores, and by the meaning of a stored
#   gain;
# - say when `eps` matters, and why an ordinary test cannot detect a wrong value;
# - recognise bugs of a *port* (a reimplementation in another language or framework) by their numerical symptoms.
#
# ## Rows are read without regard to context
#
# Which rows are read depends only on the last few tokens. So a row may not fit its sentence: the phrase may be
# ambiguous, or a different phrase may share the row because of a collision.
#
# The *hidden state* $h$ contains more information. It is the model's vector for a position, and earlier layers have
# already added context to it. All models here have $M = 4$ such vectors per position, called *residual branches*. The
# [next tutorial](06_short_conv.md) covers them.
#
# Engram projects the memory $e$ (the concatenated rows of a position) to two kinds of vectors. A **key** $k^{(m)}$ per
# branch $m$ is compared with the hidden state. One **value** $v$, shared by the branches, is the content to add:
#
# $$ k^{(m)} = W_K^{(m)} e, \qquad v = W_V e $$
#
# A number $\alpha$ between 0 and 1, the gate, then determines how much of $v$ is added. We use `tiny`, a preset of this
# package that is small enough to print.

# %%
import dataclasses

import matplotlib.pyplot as plt
import numpy as np

from engram_ref import Addressing, EngramConfig, Trace, load_trained, ops, preset, presets
from engram_ref.model.engram_parameters import initialise
from engram_ref.model.transformer import forward
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
# State and key are each divided by their root mean square (*RMSNorm*), multiplied channel by channel by a learned
# *gain* $g$, and compared by a dot product. (A *channel* is one of the $D$ numbers of a vector.) `eps` is a tiny number
# that keeps the root above zero:
#
# $$
# \begin{align*}
# \mathrm{RMSNorm}(x) &= \frac{g \cdot x}{\sqrt{\mathrm{mean}(x^2) + \mathrm{eps}}} \\
# s^{(m)} &= \frac{\langle \mathrm{RMSNorm}(h^{(m)}),\, \mathrm{RMSNorm}(k^{(m)}) \rangle}{\sqrt{D}}
# \end{align*}
# $$
#
# We try three states: one in the direction of the key, a random one, and one in the opposite direction.

# %%
ones = np.ones((M, D))
random = rng.standard_normal(key.shape)
states = {"aligned": 3.0 * key, "random": random, "opposite": -key}
scores = {}
for name, hidden in states.items():
    query = ops.rms_norm(hidden, ones, 0.0)
    scores[name] = ops.score(query, ops.rms_norm(key, ones, 0.0))
    lengths = np.sqrt((hidden**2).sum(-1) * (key**2).sum(-1))
    cosine = (hidden * key).sum(-1) / lengths
    assert np.allclose(scores[name], np.sqrt(D) * cosine)
    print(f"{name:9} four branches, last token: {scores[name][0, -1].round(2)}")
assert np.allclose(scores["aligned"], 4) and np.allclose(scores["opposite"], -4)

# %% [markdown]
# With gains of 1 the score is the cosine of the angle between state and key, times $\sqrt D$. So the magnitude of the
# score is at most $\sqrt D$: 4 here, 50.6 at the paper's width of 2,560. For unrelated vectors it is about 1 at any
# width.
#
# ## Why the norms are needed
#
# Without the norms the score would be proportional to the *length* of the state. Below, we scale random states and
# count how many gates are still between 0.1 and 0.9, neither closed nor fully open.

# %%
WIDE = preset("paper").hidden_size
h, k = rng.standard_normal((2, 1, 2000, 1, WIDE))
lengths = np.array([0.1, 0.3, 1, 3, 10, 30, 100])


def normed_score(h: np.ndarray, k: np.ndarray, eps: float = 1e-20) -> np.ndarray:
    one = np.ones(h.shape[-2:])                           # gains
    return ops.score(ops.rms_norm(h, one, eps), ops.rms_norm(k, one, eps))


def unsaturated(s: np.ndarray) -> float:
    alpha = ops.gate(s, "sigmoid")                        # the paper's gate, see below
    return float(((alpha > 0.1) & (alpha < 0.9)).mean())


normed = [unsaturated(normed_score(x * h, k)) for x in lengths]
bare = [unsaturated(ops.score(x * h, k)) for x in lengths]

# %% tags=["fold"]
assert min(normed) > 0.95 and bare[-1] < 0.05
for width in (16, 256, WIDE):                             # magnitude about 1
    pair = rng.standard_normal((2, 1, 2000, 1, width))
    s = normed_score(*pair)
    assert abs(s.std() - 1) < 0.05 and abs(s).max() <= np.sqrt(width)
assert WIDE == 2560 and round(np.sqrt(WIDE), 1) == 50.6

fig, ax = plt.subplots(figsize=(6.2, 2.9))
ax.semilogx(lengths, normed, marker="o", label="state and key normalised")
ax.semilogx(lengths, bare, marker="s", label="plain dot product")
ax.set(xlabel="scale of the state", ylim=(0, 1.05),
       ylabel="fraction of gates in (0.1, 0.9)",
       title="Without norms, a long state saturates the gate")
ax.legend(loc="lower left")
fig.set_label("Fraction of gates between 0.1 and 0.9 against the scale of the state. "
              "Normalised: constant near 0.97. Plain dot product: falls from 1 "
              "to under 0.05 at a scale of 100.")

# %% [markdown]
# ## Four keys, one value
#
# Each branch has its own state, key and gate. All branches receive a multiple of the same vector:
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
# The paper applies the logistic sigmoid $\sigma(x) = 1/(1+e^{-x})$ to the score. The authors' demo and the released
# models (DeepSeek-V4.1-Flash, or V4.1, and Qwen's) apply it to a **signed square root**: the root of $|s|$, with the
# sign of $s$. A *clamp* raises $|s|$ to at least $10^{-6}$:
#
# $$
# \begin{align*}
# \text{paper} \qquad \alpha &= \sigma(s) \\
# \text{demo, Qwen} \qquad \alpha &= \sigma\bigl(\mathrm{sign}(s)\,\sqrt{\max(|s|, 10^{-6})}\bigr) \\
# \text{V4.1} \qquad \alpha &= \sigma\bigl(\mathrm{copysign}(\sqrt{\max(|s|, 10^{-6})},\, s)\bigr)
# \end{align*}
# $$
#
# Qwen's form equals the demo's, except that the gains of its norms are *zero-centred*: the checkpoint stores $w$, and
# the gain is $1 + w$. Below, `dialect_gates` builds states and keys with given scores and computes their gates in each
# of the four dialects.

# %% tags=["fold"]
def dialect_gates(dialect: str, s: np.ndarray, stored: float,
                  **changed: str) -> np.ndarray:
    """Gates of states with the given scores; all stored gain weights are equal."""
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
near_zero = ops.gate(np.array([[[-1e-12, 1e-12]]]), "signed_sqrt").ravel()
assert near_zero.round(5).tolist() == [0.49975, 0.50025]

fig, (upper, lower) = plt.subplots(2, 1, figsize=(5.4, 5.6))
near = np.array([-3e-6, -2e-6, -1.5e-6, -1e-6, -3e-7, -1e-12])
for side in (near, -near[::-1]):
    plain, rooted = (ops.gate(side.reshape(1, -1, 1), form).ravel()
                     for form in ("sigmoid", "signed_sqrt"))
    upper.plot(side * 1e6, plain, color="C0", linestyle="-")
    upper.plot(side * 1e6, rooted, color="C1", linestyle="--")
upper.plot(0, 0.5, "o", color="C1", markersize=7)
upper.plot([0, 0], [0.49975, 0.50025], "^", color="C2", markersize=7)
for label, x, y in (("paper", -2.9, 0.50003), ("demo at ±0", 0.3, 0.50003),
                    ("V4.1 at +0", 0.3, 0.50017), ("V4.1 at -0", 0.3, 0.49976),
                    ("with a root", 1.0, 0.50045), ("with a root", -2.2, 0.49955)):
    upper.text(x, y, label, fontsize=8)
upper.set(xlabel="score, in millionths", ylabel="gate")
upper.set_title("near zero", fontsize=10)
lower.plot(far, paper, label="paper")
lower.plot(far, demo, label="demo")
lower.plot(far, v41, label="V4.1")
lower.plot(far[80:321:16], qwen[80:321:16], "D", color="C3", markersize=4,
           label="Qwen, gain 1 + w")
lower.plot(far, misread, color="C5", linestyle=":", label="Qwen, gain w")
lower.set(xlabel="score", xlim=(-32, 32), ylim=(-0.03, 1.03))
lower.set_title("large scores", fontsize=10)
lower.legend(fontsize=8, loc="lower right")
fig.suptitle("The root compresses large scores and causes a step at zero",
             x=0.02, ha="left")
fig.set_label("Above: within three millionths of zero the paper's gate is flat at 0.5, "
              "the gates with a root jump from 0.49975 to 0.50025. Below: the paper's gate "
              "saturates by 8; the demo, V4.1 and Qwen share one slower curve; "
              "Qwen's weights used as plain gains give 0.5 everywhere.")

# %% [markdown]
# For large scores the demo, V4.1 and Qwen have the same curve. At a score of 8 the paper's gate is above 0.999; the
# gates with a root are still below 0.95. The flat line shows a port that uses Qwen's stored $w = 0$ as the gain itself:
# for any text, every score is 0 and every gate 0.5.
#
# ## At zero, and inside the clamp
#
# Because of the clamp the root is at least $\sqrt{10^{-6}} = 0.001$. So every positive score up to $10^{-6}$ has the
# same gate, $\sigma(0.001) = 0.50025$, and every negative score down to $-10^{-6}$ has the gate 0.49975. The versions
# differ only at zero. `sign(0)` is 0, so the demo's gate is exactly 0.5. `copysign` copies the sign *bit*, and a
# floating-point zero has one: there are $+0$ and $-0$.

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
# Neither the paper nor the demo gives a reason. The effect of the root can be measured by the *slope* $d\alpha/ds$, the
# factor by which the gate scales gradients in training. With $r = \sqrt{|s|}$ the slope is
#
# $$
# \begin{align*}
# \text{plain} \qquad & \sigma'(s) = \sigma(s)\,(1 - \sigma(s)) \\
# \text{with the root} \qquad & \sigma'(r) \cdot \frac{1}{2r}, \quad \text{and 0 inside the clamp}
# \end{align*}
# $$

# %%
def slope(size: np.ndarray, form: str) -> np.ndarray:
    """Central difference of the gate at -size, where computing it causes no cancellation"""
    points = -size * np.array([[1 - 1e-4], [1 + 1e-4]])
    high, low = ops.gate(points[..., None], form)[..., 0]
    return (high - low) / (2e-4 * size)


def sigmoid_slope(x: np.ndarray) -> np.ndarray:
    """Derivative of the sigmoid"""
    return ops.sigmoid(x) * ops.sigmoid(-x)


sizes = np.geomspace(1.1e-6, 50, 300)
roots = np.sqrt(sizes)
plain_slope, root_slope = slope(sizes, "sigmoid"), slope(sizes, "signed_sqrt")
assert np.allclose(plain_slope, sigmoid_slope(sizes), rtol=1e-4)
assert np.allclose(root_slope, sigmoid_slope(roots) / (2 * roots), rtol=1e-4)
assert (slope(np.array([1e-9, 1e-7, 9e-7]), "signed_sqrt") == 0).all()

# %% tags=["fold"]
two = np.array([0.01, 16.0])
small, large = slope(two, "signed_sqrt") / slope(two, "sigmoid")
steeper = root_slope > plain_slope
assert (steeper == ((sizes < 0.25) | (sizes > 3.5))).mean() > 0.99
assert round(small) == 5 and 19_000 < large < 20_000
assert plain_slope[sizes > 20].max() < 1e-8 < 1e-5 < root_slope.min()
assert round(sigmoid_slope(0.001) / 0.002) == 125 and round(WIDE**0.25, 2) == 7.11
ends = ops.gate(np.sqrt(WIDE) * np.array([[[-1.0, 1.0]]]), "signed_sqrt")
assert ends.round(4).ravel().tolist() == [0.0008, 0.9992]

fig, ax = plt.subplots(figsize=(6.2, 3.1))
ax.loglog(sizes, plain_slope, label="paper: no root")
ax.loglog(sizes, root_slope, label="signed root")
ax.axvspan(1e-7, 1e-6, color="C5", alpha=0.2, linewidth=0)
ax.annotate("clamp: slope 0", (1.2e-7, 2e-7), fontsize=8)
ax.set(xlabel="|score|", ylabel="slope of the gate",
       xlim=(1e-7, 60), ylim=(1e-8, 400),
       title="With the root, large scores still have a slope")
ax.legend(loc="lower center")
fig.set_label("Slope of the gate against the magnitude of the score, both logarithmic. "
              "Without a root it is near 0.25 below 1, then falls below 1e-8 by "
              "20. With the root it falls from 125 at the clamp through 0.1 at a "
              "score of 1 to 0.0004 at 30.")

# %% [markdown]
# For scores above about 3.5, the root increases the slope, at 16 by a factor of nearly twenty thousand: training can
# still correct a saturated gate. Below about 0.25 the root also increases the slope, to as much as 125 at the edge of
# the clamp, so small scores have a large effect. In between, the root decreases the slope. With gains of 1 no gate ever
# closes or opens completely: at the paper's width the score is limited to $\pm 50.6$, its root to $\pm 7.11$, and the
# gate to the range from 0.0008 to 0.9992.
#
# ## The effect of eps on a tiny state
#
# `eps` is added under the root of the norm. An ordinary vector has $\mathrm{mean}(x^2)$ near 1, so `eps` has no effect.
# A vector whose root mean square is near $\sqrt{\mathrm{eps}}$ is not scaled up to 1, and a much smaller one stays
# small. `None`, the demo's choice, means the machine epsilon of the *input's* dtype, the distance from 1 to the next
# larger number: about $1.19 \cdot 10^{-7}$ in float32 but $2.2 \cdot 10^{-16}$ in float64.

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
    assert np.isclose(edge, np.sqrt(0.5))                 # 0.71 at an rms of sqrt(eps)
    assert max(np.array(after[label])[tiny_to_large < np.sqrt(used) / 10]) < 0.1

# %% tags=["fold"]
assert f"{np.finfo(np.float32).eps:.3g}" == "1.19e-07"
assert f"{np.finfo(np.float64).eps:.2g}" == "2.2e-16"
fig, ax = plt.subplots(figsize=(6.2, 2.9))
for label, curve in after.items():
    ax.semilogx(tiny_to_large, curve, label=label)
ax.set(xlabel="root mean square before the norm", ylabel="after the norm",
       title="A vector much smaller than the root of eps stays small")
ax.legend(title="eps", fontsize=8, title_fontsize=8, loc="lower right")
fig.set_label("Root mean square after the norm against before, five values of eps. "
              "Each curve rises from 0 to 1 where the input is about the square root "
              "of eps: 3e-3, 1e-3, 3e-4, 1.5e-8 and 1e-10.")

# %% [markdown]
# This makes a wrong `eps` hard to detect when testing a port. How much does a wrong `eps` change a gate on random data
# of variance 1?

# %%
def largest_error(eps: float, length: float, form: str = "signed_sqrt") -> float:
    """Largest error of a gate if eps is wrong; the correct value is 1e-20"""
    wrong, right = (ops.gate(normed_score(length * h, length * k, e), form)
                    for e in (eps, 1e-20))
    return float(abs(wrong - right).max())


print("wrong eps    variance 1      rms 1e-4")             # rms: root mean square
for eps in (2.0**-52, 2.0**-23, 1e-6, 1e-5):
    ordinary, small = largest_error(eps, 1.0), largest_error(eps, 1e-4)
    print(f"{eps:9.3g}{ordinary:14.1e}{small:15.1e}")
    assert ordinary < eps / 8 + 1e-13
    assert eps < 1e-7 or small > 0.2

# %% tags=["fold"]
assert 1.3e-8 < largest_error(2.0**-23, 1.0) < 1.5e-8
assert largest_error(1e-5, 1.0, "sigmoid") < 1e-5 / 4      # the paper's gate

# %% [markdown]
# At variance 1 the error is at most an eighth of `eps` (a quarter for the plain sigmoid). Float32's epsilon in place of
# $10^{-20}$ changes gates by 1.4e-8, so any test with a larger tolerance passes either way. With state and key scaled
# to a root mean square of $10^{-4}$, the same mistake changes a gate by more than 0.2. So test a norm with tiny inputs.
#
# ## The factored form
#
# V4.1 and [TileKernels](https://github.com/deepseek-ai/TileKernels), DeepSeek's library of GPU kernels, never store a
# normalised vector. A norm divides by a single number, so this number can be factored out of the sum:
#
# $$ s = \frac{\sum_d h_d\, (g^q_d\, g^k_d)\, k_d}{\sqrt D \;
# \sqrt{\mathrm{mean}(h^2) + \mathrm{eps}}\; \sqrt{\mathrm{mean}(k^2) + \mathrm{eps}}} $$
#
# The score depends only on the product of the two gains. Swapping the query's gain and the key's gain changes nothing,
# so no output can reveal which of the two gains in a checkpoint is the query's.

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
# Positions inside an image contain no text and are marked *DEAD* ([tutorial 03](03_hash_by_hand.md)). They read the
# same rows as a text that consists only of padding. Those rows contain ordinary values, so the gate must suppress them:
# at a dead position it is exactly 0.

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
# ## What a trained gate does
#
# All weights so far were random. The package also contains a small trained model with 1.1 million parameters and one
# residual branch; its text was the King James Bible ([tutorial 19](19_train_one.md) trains such models). Its gates,
# after each token of three sentences:

# %%
trained = load_trained()


def gates_of(text: str) -> tuple[list[str], np.ndarray]:
    """Tokens of a text, and the gate of each"""
    ids = trained.vocabulary.encode(text)
    with Trace(stop="layers.1.engram.gate") as trace:
        forward(trained.parameters, ids, trained.model, addressing=trained.addressing, trace=trace)
    return [trained.vocabulary.text(token).strip() for token in ids.tolist()], trace["layers.1.engram.gate"][0, :, 0]


sentences = ("And the children of Israel did evil in the sight of the LORD", "And it came to pass in those days",
             "The lift is out of order, so we took the stairs to the office")
gates = {}
for text in sentences:
    words, gates[text] = gates_of(text)
    print(*(f"{word} {gate:.2f} " for word, gate in zip(words, gates[text], strict=True)))

# %% tags=["fold"]
israel, passed, lift = gates.values()
assert israel[3] > 0.5 and israel[11] > 0.5 and np.delete(israel, (3, 7, 8, 9, 11)).max() < 0.3
assert passed[2:5].max() > 0.5 and lift.mean() < 0.15 < israel.mean()

# %% [markdown]
# The gate is high after *children of* and *sight of the*, where the last words nearly settle the next one. It is low
# where many continuations are possible, and in most of a sentence whose phrases the training text lacks. A gate
# compares the memory with the state, so it does not know whether a row was ever trained; the training must teach keys
# of useless rows to be unlike the state.
#
# One thing in this training differs from the paper: it added 0.05 times the mean gate to the loss. A model of this size
# without this cost opens almost all gates. So the small gates here are partly due to the cost, and this model cannot
# show what the gates of the paper's models do.
#
# ## How the versions differ
#
# The signed root does not occur in the paper's equations; it is in the demo and in both releases. The paper gives no
# `eps`: the value below is this project's choice, the same as in the paper's backbone. Qwen's value is taken from its
# class in [HF transformers](https://github.com/huggingface/transformers). Only the demo adds biases to the keys and the
# value.

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
# **1.** At which scores are the paper's gate and the demo's gate exactly equal?
#
# ??? tip "Hint"
#     The sigmoid is strictly increasing, so the arguments must be equal. Consider the clamp too.

# %% tags=["answer"]
same = np.array([[[-1.0, 0.0, 1.0]]])
others = np.setdiff1d(np.append(np.linspace(-20, 20, 801), [1e-9, -1e-7, 1e-6]), same)
others = others.reshape(1, -1, 1)
assert (ops.gate(same, "sigmoid") == ops.gate(same, "signed_sqrt")).all()
assert (ops.gate(others, "sigmoid") != ops.gate(others, "signed_sqrt")).all()
assert ops.gate(same, "copysign_sqrt")[0, 0, 1] != 0.5

# %% [markdown] tags=["answer"]
# At −1, 0 and 1: $s = \mathrm{sign}(s)\sqrt{|s|}$ has no other solution. The clamp adds no solution, because inside it
# the root is $\pm 0.001$ while $|s|$ is at most $10^{-6}$. V4.1's gate differs from the paper's even at 0.

# %% [markdown]
# **2.** A port matches the demo except at positions with an all-zero hidden state. At these positions, every gate is
# too large by 0.00025. Which operation is wrong?
#
# ??? tip "Hint"
#     What is the score of an all-zero state? Find it in the table of the section "At zero, and inside the clamp".

# %% tags=["answer"]
s = ops.gate_score(parameters, np.zeros_like(key), key, tiny)
excess = ops.gate(s, "copysign_sqrt") - ops.gate(s, "signed_sqrt")
assert (s == 0).all() and np.allclose(excess, 0.00025, atol=1e-8)

# %% [markdown] tags=["answer"]
# The signed root is wrong: the port uses `copysign`, like V4.1, but the demo multiplies by `sign`.

# %% [markdown]
# Next: [the short convolution and the residual branches](06_short_conv.md).
