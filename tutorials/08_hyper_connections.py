# %% [markdown]
# # Hyper-connections: four residual streams
#
# ## What you will be able to do
#
# - write down one site of such a model: read, compute, carry on, write;
# - do Sinkhorn-Knopp by hand, and say which of its sums are exact and which only nearly so;
# - find a transposed matrix in a port, and name the tests that cannot see it;
# - start a model so that its streams do not stay equal for ever.
#
# ## Several streams, three maps
#
# A transformer carries one vector $x$ per position, the *residual stream*. Each layer has two **sites**: attention and
# a feed-forward network. What a site's function $F$ finds is added, $x \leftarrow x + F(\mathrm{norm}(x))$: all sites
# read the same sum and write into it with weight 1. **Hyper-connections** carry $M$ streams $X_i$ and let each site
# choose what mixture it reads, where it writes, and how the streams are mixed on the way. $F$ still sees one vector.
#
# To choose, a site lays all streams end to end as one vector $v$, divides by its root mean square (rms), multiplies by
# a learned matrix $\phi$, scales by a learned $\alpha$ and adds a bias $b$. That gives $2M + M^2$ numbers, the
# *logits* $\ell$, in three groups, each with an $\alpha$ of its own. $\sigma(z) = 1/(1 + e^{-z})$ is the sigmoid,
# `Sinkhorn` comes below:
#
# $$
# \begin{align*}
# \ell &= \alpha \cdot \phi\,v \,/\, \mathrm{rms}(v) + b \\
# H^{\mathrm{pre}} &= \sigma(\ell^{\mathrm{pre}}) \\
# H^{\mathrm{post}} &= 2\,\sigma(\ell^{\mathrm{post}}) \\
# H^{\mathrm{res}} &= \mathrm{Sinkhorn}(\ell^{\mathrm{res}}) \\
# y &= F\Bigl(\mathrm{norm}\bigl(\sum_i H^{\mathrm{pre}}_i X_i\bigr)\Bigr) \\
# X'_i &= \sum_j H^{\mathrm{res}}_{ij} X_j + H^{\mathrm{post}}_i\, y
# \end{align*}
# $$

# %%
import matplotlib.pyplot as plt
import numpy as np

from engram_ref import ops
from engram_ref.model_config import HyperConfig
from engram_ref.model_presets import model_preset

rng, backbone = np.random.default_rng(8), model_preset("engram-27b").backbone
M, D, ones, config = backbone.n_branches, 16, np.ones(16), backbone.hyper
assert (M, 2 * backbone.n_layers, config.iterations, config.alpha_init) == (4, 60, 20, 0.01)
phi = 0.2 * rng.standard_normal((2 * M + M * M, M * D))
site = {"phi": phi, "bias": np.zeros(2 * M + M * M), "alpha": np.ones(3)}
X = rng.standard_normal((1, 1, M, D))                     # text, position, stream, channel
pre, post, res = ops.branch_maps(site, X, 1e-6, config)   # 1e-6: eps of the rms
y = np.tanh(ops.rms_norm(ops.read_branches(X, pre), ones, 1e-6))  # tanh stands for F
after = ops.write_branches(X, y, post, res)
print("pre ", pre[0, 0].round(2), "  post", post[0, 0].round(2))
print(res[0, 0].round(2))
logits = phi @ X.ravel() / np.sqrt(np.mean(X**2) + 1e-6)  # the same by hand
assert np.allclose([pre[0, 0], post[0, 0] / 2], ops.sigmoid(logits[:8]).reshape(2, 4))
for i in range(M):                                        # the stream that is written
    carried = sum(res[0, 0, i, j] * X[0, 0, j] for j in range(M))
    assert np.allclose(after[0, 0, i], carried + post[0, 0, i] * y[0, 0])

# %% [markdown]
# ## Why the mixing is fenced in
#
# The 27B model has 60 sites; they multiply 60 matrices. If these may be anything, the product may explode. So
# $H^{\mathrm{res}}$ is held near the **doubly stochastic** matrices: nothing negative, each row and each column sums
# to 1. A row that sums to 1 makes a new stream an *average* of old ones: no number grows. A column that sums to 1 hands
# all of an old stream on: their sum stays. (DeepSeek's version is called [**mHC**](https://arxiv.org/abs/2512.24880),
# *manifold-constrained*, for this.)

# %%
free = np.eye(4) + 0.3 * rng.standard_normal((60, 300, 4, 4))     # 60 sites, 300 draws
wild = tame = start = rng.standard_normal((300, 4, 32))           # streams of 32 channels
for matrix in free:
    wild, tame = matrix @ wild, ops.sinkhorn(matrix, 20) @ tame
sizes = [np.median(np.sqrt((a**2).mean(axis=(1, 2)))) for a in (start, wild, tame)]
print("size {:.1f} at first, {:.0f} mixed freely, {:.1f} averaged".format(*sizes))
assert sizes[1] > 100 and 0.45 < sizes[2] < 0.55 and abs(tame).max() <= abs(start).max()
assert np.allclose(tame.sum(axis=1), start.sum(axis=1)) and np.ptp(tame, axis=1).max() < 1e-9
assert (ops.sinkhorn(8 * np.eye(4), 20).diagonal().round(3) == 0.999).all()

# %% [markdown]
# The price: nothing was written here, and 60 averages left four equal streams of half the size. Streams stay apart only
# where sites write different amounts, or $H^{\mathrm{res}}$ is near the identity (8 on the diagonal makes that 0.999).
#
# ## Sinkhorn-Knopp on one matrix
#
# How does one make a doubly stochastic matrix of any 16 numbers? Take exponentials, so that all are positive. Divide
# each column by its sum. Divide each row by its sum, which spoils the columns a little. Repeat, 20 times in all.

# %%
logits = np.array([[2, 0, -1, 1], [0, 1, 3, 0], [-1, 0, 2, 1], [1, -2, 0, 0.0]])
matrix = np.exp(logits)
print("            worst row   worst column")
for iteration in range(1, 21):
    for words, axis in (("columns", 0), ("rows", 1)):
        matrix = matrix / matrix.sum(axis=axis, keepdims=True)
        row, column = (abs(matrix.sum(axis=a) - 1).max() for a in (1, 0))
        if iteration in (1, 2, 20):
            print(f"{iteration:2} {words:8}{row:10.0e}{column:14.0e}")
assert np.allclose(matrix, ops.sinkhorn(logits, 20), rtol=1e-13) and row < 1e-15 < column

# %% [markdown]
# ## Rows exact, columns only nearly
#
# The rows had the last word, so they are exact up to rounding. The columns are as good as 20 iterations made them.
# How good? That depends on the size of the logits. Below, the worst column among 4,000 random matrices of each size.

# %%
normal, spreads, curves = rng.standard_normal((4000, 4, 4)), (0.5, 1, 2, 4, 8), {}
print("logit std   worst row   worst column   typical column")
for std in spreads:
    matrices, curves[std] = np.exp(std * normal), []
    for _ in range(20):                                   # one more iteration each time
        matrices = ops.sinkhorn(np.log(matrices), 1)
        row, column = (abs(matrices.sum(axis=a) - 1).max(axis=-1) for a in (-1, -2))
        curves[std].append(column.max())
    print(f"{std:9}{row.max():12.0e}{column.max():15.0e}{np.median(column):17.0e}")
    assert np.allclose(matrices, ops.sinkhorn(std * normal, 20)) and row.max() < 1e-14
worst = [curves[std][-1] for std in spreads]
assert worst[0] < 1e-8 < 1e-4 < worst[1] < 0.01 < worst[2] < worst[3] < 0.1 < worst[4]

# %% tags=["fold"]
fig, ax = plt.subplots(figsize=(6.2, 3.1))
for std, marker in zip(spreads, "osD^v", strict=True):
    ax.semilogy(range(1, 21), curves[std], marker=marker, markersize=3, label=f"{std}")
ax.set(xlabel="iterations", ylabel="worst column sum, off by", xticks=range(0, 21, 5),
       title="Twenty iterations are a number, not convergence")
ax.legend(title="logit std", fontsize=8, title_fontsize=8, loc="lower left")
fig.set_label("Worst column error against iterations. At 20 it is below 1e-8 for logit std "
              "0.5, near 1e-3 for 1, a few hundredths for 2 and 4, over a tenth for 8.")
assert [curves[std][-1] > 0.01 for std in spreads] == [False, False, True, True, True]

# %% [markdown]
# From a standard deviation of 2 on, some column is off by more than 1%. So 20 belongs to the definition: a port that
# goes on until it converges computes another function. Test rows to $10^{-14}$, columns only where logits are small.
#
# ## Large logits: stay in logarithms
#
# In float32 `exp` overflows from 89 on. The usual cure subtracts the largest number first, here the whole matrix's. But
# then a column that lies 110 below it is all zeros, and dividing by its sum is $0/0$. Each column's own largest only
# moves the trouble to the rows. `ops.sinkhorn` stays in logarithms, where dividing is subtracting and nothing is zero.

# %%
def normalise(matrices: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    for axis in axes:
        matrices = matrices / matrices.sum(axis=axis, keepdims=True)
    return matrices


with np.errstate(over="ignore", invalid="ignore"):
    fine, over, under = np.exp(np.float32([88, 89, -110]))
    assert fine < over == np.inf and under == 0
    for std, whole, columns in ((64, 0.4, 0.01), (128, 0.85, 0.2)):       # at least
        large = (std * normal).astype(np.float32)
        shifted = [np.exp(large - large.max(axis=a, keepdims=True)) for a in ((-2, -1), -2)]
        broken = [np.isnan(normalise(matrices, (-2, -1) * 20)) for matrices in shifted]
        shares = [nan.any(axis=(-2, -1)).mean() for nan in broken]
        print("std {:3}: NaN in {:.0%} (whole), {:.0%} (columns)".format(std, *shares))
        assert shares[0] > whole and shares[1] > columns
        assert abs(ops.sinkhorn(large, 20).sum(axis=-1) - 1).max() < 1e-6

# %% [markdown]
# ## The transpose trap
#
# DeepSeek's code calls its matrix `comb`, and its first index is the stream *read*: `comb` is $H^{\mathrm{res}}$
# transposed. It normalises rows first, then columns, and multiplies the streams by `comb` transposed. Transpose the
# logits, and all of this is the paper's form. Let `view` be the 4x4 of logits as DeepSeek lays them out. There
# are three ways to port it with a Sinkhorn $S$ that takes columns first:

# %%
turn = lambda matrices: matrices.swapaxes(-1, -2)
state = rng.standard_normal((4000, 4, 16))
print("error of the streams (rms)\nlogit std   S(view^T)   S(view)^T   S(view)")
for std in spreads:
    view = std * normal
    comb = normalise(np.exp(view), (-1, -2) * 20)
    true, untouched = turn(comb) @ state, ops.sinkhorn(view, 20)
    ports = ops.sinkhorn(turn(view), 20), turn(untouched), untouched
    right, order, wrong = (np.sqrt(((H @ state - true) ** 2).mean()) for H in ports)
    print(f"{std:9}{right:12.0e}{order:12.0e}{wrong:10.2f}")
    assert right < 1e-14 and order < 0.1 * wrong and 0.15 < wrong < 0.9

# %% [markdown]
# The first port agrees. The second normalises in the other order, which shows only as far as the columns have not
# converged. The third sends stream $i$ to $j$ where $j$ should go to $i$. Its errors are 0.2 to 0.8 on streams of
# size 1, and yet three plausible tests pass: sums of rows and columns, the sum of the streams after the site, and a
# site of equal logits ($\phi = 0$, $b = 0$). What finds it: let each stream take from the next, and fill just one.

# %%
wrong = ops.sinkhorn(0.5 * normal, 20)
gap = (ops.sinkhorn(turn(0.5 * normal), 20) - wrong) @ state
worst, total = abs(gap).max(), abs(gap.sum(axis=1)).max()
print(f"largest error of a stream: {worst:.1f}, of the sum of the streams: {total:.0e}")
assert worst > 1 and total < 1e-7 and np.allclose(wrong.sum(axis=-2), 1)
assert np.allclose(ops.sinkhorn(np.zeros((4, 4)), 20), 1 / 4)
ring = ops.sinkhorn(8 * np.roll(np.eye(4), 1, axis=1), 20)        # 0 from 1, 1 from 2, ...
lands, astray = (H @ np.array([0, 1, 0, 0]) for H in (ring, turn(ring)))
assert lands.round(2).tolist() == [1, 0, 0, 0] and astray.round(2).tolist() == [0, 0, 1, 0]

# %% [markdown]
# ## Equal streams: the symmetry trap
#
# A model begins with the embedding copied into every stream. Suppose $\phi = 0$ and equal biases: all streams are
# read, mixed and written alike, so they stay equal. Equal streams get equal *gradients* (the slopes that training
# follows), so training cannot part them either. To see it, take two streams, two sites, and $\phi$ held at 0.
# A teacher puts the sites *side by side*: the first writes to stream 1, the second reads stream 0 and does not see
# what the first one found. A student learns by gradient descent, once from equal biases, once from slightly noisy ones.

# %%
W, x = 1.5 * rng.standard_normal((2, 4, 4)), rng.standard_normal((1, 16, 4))


def student(biases: np.ndarray) -> np.ndarray:
    streams = ops.expand(x, 2)                            # two copies
    for bias, weight in zip(biases, W, strict=True):
        site = {"phi": np.zeros((8, 8)), "bias": bias, "alpha": np.ones(3)}
        pre, post, res = ops.branch_maps(site, streams, 1e-6, HyperConfig(2, iterations=5))
        y = np.tanh(ops.linear(ops.read_branches(streams, pre), weight))
        streams = ops.write_branches(streams, y, post, res)
    return streams


def learn(biases: np.ndarray) -> tuple[list[float], float]:
    loss = lambda biases: float(((student(biases).sum(axis=2) - target) ** 2).mean())
    losses, nudges = [], 1e-5 * np.eye(16).reshape(16, 2, 8)
    for _ in range(60):
        losses.append(loss(biases))
        slopes = [(loss(biases + n) - loss(biases - n)) / 2e-5 for n in nudges]
        biases = biases - np.reshape(slopes, (2, 8))
    return losses, float(np.ptp(student(biases), axis=2).max())


# for each site 2 biases for pre, 2 for post, 4 for res; the sigmoid of 6 is nearly 1
teacher = 6.0 * np.array([[0, 0, -1, 1, 1, 0, 0, 1], [1, -1, 0, 0, 1, 0, 0, 1]])
target = student(teacher).sum(axis=2)
(equal, gap), (noisy, noisy_gap) = learn(0 * teacher), learn(0.02 * rng.normal(size=(2, 8)))
print(f"equal: loss {equal[0]:.2f} to {equal[-1]:.2f}, streams {gap:.0e} apart")
print(f"noisy: loss {noisy[0]:.2f} to {noisy[-1]:.2f}, streams {noisy_gap:.0e} apart")
assert gap < 1e-9 < 1e-3 < noisy_gap and noisy[-1] < 0.1 * equal[-1]

# %% tags=["fold"]
fig, ax = plt.subplots(figsize=(6.2, 2.6))
ax.semilogy(equal, label="equal biases")
ax.semilogy(noisy, label="noise of 0.02 on the biases")
ax.set(xlabel="step", ylabel="loss", title="Streams that start equal never learn to differ")
ax.legend(loc="lower left")
fig.set_label("Loss against step. From equal biases it stays on a plateau near half of "
              "its start. With a little noise it leaves it and falls to a tenth or less.")
assert gap < 1e-9 and 0.4 < equal[-1] / equal[0] < 0.6 and noisy[-1] < 0.1 * noisy[0]

# %% [markdown]
# The noise was enough to put the sites side by side, which equal streams cannot. So let $\phi$ start at random.
#
# ## Where the paper or a release does otherwise
#
# - At the end the streams *collapse* into one. The mHC paper does not say how. Sum and mean differ by the factor $M$,
#   which the final norm takes out. DeepSeek-V4 learns the weights, from one more $\phi$ (the form "head"; V4's forms
#   are read from its class in [HF transformers](https://github.com/huggingface/transformers)).
# - V4 adds `eps` = $10^{-6}$ to $H^{\mathrm{pre}}$, to the first normalised `comb`, and in every division. Rows then
#   sum to $1 - 10^{-6}$. With large logits it is not small: where the first column step leaves a whole row far below
#   `eps`, it makes the row's entries equal, and the row step blows them up.
# - [TileKernels](https://github.com/deepseek-ai/TileKernels), DeepSeek's kernel library, takes 10 iterations and
#   $H^{\mathrm{post}} = \sigma$ unless told otherwise.
# - The paper publishes how $\alpha$ starts, at 0.01, but not $\phi$ and $b$. All at zero is the trap above.

# %%
head = {"phi": phi[:M], "bias": np.zeros(M), "alpha": ones[:1]}
forms = [ops.collapse(X, form, head, 1e-6) for form in ("sum", "mean", "head")]
total, *others = (ops.rms_norm(x, ones, 1e-6) for x in forms)
mean, learned = (abs(x - total).max() for x in others)
print(f"collapsed and normed, against the sum: mean {mean:.0e}, head {learned:.1f}")
assert np.allclose(forms[0], 4 * forms[1]) and mean < 1e-4 and learned > 0.1
low = np.array([[0.0, 0.0], [-20.0, -25.0]])              # lower row: 2e-9, 1e-11
exact, lifted = ops.sinkhorn(low, 20)[1], ops.sinkhorn(low, 20, 1e-6)[1]
print("lower row: paper", exact.round(2), "  V4", lifted.round(2))
assert exact[0] > 0.9 and abs(lifted - 0.5).max() < 0.01
assert np.isclose(lifted.sum(), 1 - 1e-6, rtol=0, atol=1e-8)

# %% [markdown]
# ## Exercise
#
# $\phi = 0$ and $b = 0$. How does the model differ from a plain residual stream, for $M = 1$ and for $M = 4$? And when
# $M = 1$ has a $\phi$?
#
# ??? tip "Hint"
#     What is each map? What does the norm before $F$ do to a factor?

# %% tags=["answer"]
F = lambda u: np.tanh(ops.rms_norm(u, ones, 0.0) @ phi[:D, :D])
start = rng.standard_normal((1, 8, D))
for M in (1, 4):
    X, size = ops.expand(start, M), 2 * M + M * M
    site = {"phi": np.zeros((size, M * D)), "bias": np.zeros(size), "alpha": np.ones(3)}
    pre, post, res = ops.branch_maps(site, X, 0.0, HyperConfig(M))
    X = ops.write_branches(X, F(ops.read_branches(X, pre)), post, res)
    assert np.allclose(ops.collapse(X, "mean", {}, 0.0), start + F(start))
site = {"phi": phi[:3, :D], "bias": np.zeros(3), "alpha": np.ones(3)}
_, post, res = ops.branch_maps(site, start[:, :, None], 0.0, HyperConfig(1))
assert (res == 1).all() and abs(post - 1).max() > 0.1

# %% [markdown] tags=["answer"]
# Not at all: $H^{\mathrm{post}} = 1$, the rows of $H^{\mathrm{res}}$ sum to 1, and the norm takes out the factor of
# $H^{\mathrm{pre}}$. The symmetry trap is a plain model in four copies. With a $\phi$, $M = 1$ keeps
# $H^{\mathrm{res}} = 1$, but writes with a weight between 0 and 2: nearly a plain stream, not quite.

# %% [markdown]
# Next: [attention from a 576-number cache](09_mla.md), the first of the two functions $F$.
