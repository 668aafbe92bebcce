# %% [markdown]
# # Hyper-connections: four residual streams
#
# ## What you will be able to do
#
# - write down the formulas of one site: read, compute, mix, write;
# - carry out the Sinkhorn-Knopp algorithm by hand, and say which of the row and column sums are exact;
# - detect a transposed matrix in a port, and name tests that do not detect it;
# - initialise a model so that its streams do not stay equal.
#
# ## Several streams, three maps
#
# A transformer has one vector $x$ per position, the *residual stream*. Each layer has two **sites**: attention and a
# feed-forward network. The output of a site's function $F$ is added, $x \leftarrow x + F(\mathrm{norm}(x))$: all sites
# read the same sum and add to it with weight 1. **Hyper-connections** use $M$ streams $X_i$; each site has weights for
# the mixture that it reads, for the streams that it writes to, and for mixing the streams with each other. The input of
# $F$ is still a single vector.
#
# To compute these weights, a site concatenates all streams into one vector $v$, divides $v$ by its root mean square
# (rms), multiplies by a learned matrix $\phi$, scales by a learned $\alpha$ and adds a bias $b$. The result is $2M +
# M^2$ numbers, the *logits* $\ell$, in three groups, each with its own $\alpha$. $\sigma(z) = 1/(1 + e^{-z})$ is the
# sigmoid; `Sinkhorn` is explained below:
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
y = np.tanh(ops.rms_norm(ops.read_branches(X, pre), ones, 1e-6))  # with F = tanh
after = ops.write_branches(X, y, post, res)
print("pre ", pre[0, 0].round(2), "  post", post[0, 0].round(2))
print(res[0, 0].round(2))
logits = phi @ X.ravel() / np.sqrt(np.mean(X**2) + 1e-6)  # the same by hand
assert np.allclose([pre[0, 0], post[0, 0] / 2], ops.sigmoid(logits[:8]).reshape(2, 4))
for i in range(M):                                        # the new stream
    mixed = sum(res[0, 0, i, j] * X[0, 0, j] for j in range(M))
    assert np.allclose(after[0, 0, i], mixed + post[0, 0, i] * y[0, 0])

# %% [markdown]
# ## Why the mixing is constrained
#
# The 27B model has 60 sites, so the streams are multiplied by 60 matrices. Without a constraint the product can grow
# exponentially. So $H^{\mathrm{res}}$ is kept close to a **doubly stochastic** matrix: no entry is negative, and each
# row and each column sums to 1. Because rows sum to 1, a new stream is an *average* of old ones and cannot grow.
# Because columns sum to 1, the sum of the streams is preserved. (For this reason DeepSeek's version is called
# [**mHC**](https://arxiv.org/abs/2512.24880), with m for *manifold-constrained*.)

# %%
matrices = np.eye(4) + 0.3 * rng.standard_normal((60, 300, 4, 4))     # 60 sites, 300 draws
free = averaged = start = rng.standard_normal((300, 4, 32))           # streams of 32 channels
for matrix in matrices:
    free, averaged = matrix @ free, ops.sinkhorn(matrix, 20) @ averaged
sizes = [np.median(np.sqrt((a**2).mean(axis=(1, 2)))) for a in (start, free, averaged)]
print("size {:.1f} at the start, {:.0f} without constraint, {:.1f} with averaging".format(*sizes))
assert sizes[1] > 100 and 0.45 < sizes[2] < 0.55 and abs(averaged).max() <= abs(start).max()
assert np.allclose(averaged.sum(axis=1), start.sum(axis=1))
assert np.ptp(averaged, axis=1).max() < 1e-9
assert (ops.sinkhorn(8 * np.eye(4), 20).diagonal().round(3) == 0.999).all()

# %% [markdown]
# This experiment adds no outputs $y$, so after 60 rounds of averaging the four streams are equal and half as large.
# Streams stay different only if sites write different amounts to them, or if $H^{\mathrm{res}}$ is near the identity
# (logits of 8 on the diagonal give 0.999 there).
#
# ## Sinkhorn-Knopp on one matrix
#
# To make a doubly stochastic matrix from any 16 numbers, take exponentials, so that all entries are positive. Then
# divide each column by its sum, and each row by its sum; the second division changes the column sums a little. Do both
# 20 times.

# %%
logits = np.array([[2, 0, -1, 1], [0, 1, 3, 0], [-1, 0, 2, 1], [1, -2, 0, 0.0]])
matrix = np.exp(logits)
print("            worst row   worst column")
for iteration in range(1, 21):
    for label, axis in (("columns", 0), ("rows", 1)):
        matrix = matrix / matrix.sum(axis=axis, keepdims=True)
        row, column = (abs(matrix.sum(axis=a) - 1).max() for a in (1, 0))
        if iteration in (1, 2, 20):
            print(f"{iteration:2} {label:8}{row:10.0e}{column:14.0e}")
assert np.allclose(matrix, ops.sinkhorn(logits, 20), rtol=1e-13) and row < 1e-15 < column

# %% [markdown]
# ## Rows are exact, columns approximate
#
# Rows are normalised last, so their sums are exact up to rounding. The error of the column sums after 20 iterations
# depends on the size of the logits. Below is the worst column among 4,000 random matrices for each size.

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
ax.set(xlabel="iterations", ylabel="largest error of a column sum", xticks=range(0, 21, 5),
       title="For large logits, twenty iterations do not converge")
ax.legend(title="logit std", fontsize=8, title_fontsize=8, loc="lower left")
fig.set_label("Worst column error against iterations. At 20 it is below 1e-8 for logit std "
              "0.5, near 1e-3 for 1, a few hundredths for 2 and 4, over a tenth for 8.")
assert [curves[std][-1] > 0.01 for std in spreads] == [False, False, True, True, True]

# %% [markdown]
# For standard deviations of 2 and more, some column sum is wrong by more than 1%. So the number 20 is part of the
# definition: a port that iterates until convergence computes a different function. Test row sums with a tolerance of
# $10^{-14}$, and column sums only for small logits.
#
# ## Large logits: compute with logarithms
#
# In float32 `exp` overflows for arguments of 89 and more. The usual remedy is to subtract the maximum first, here the
# maximum of the whole matrix. But if all logits of a column are smaller by 110, their exponentials are all zero, and
# dividing by their sum is $0/0$. Subtracting the maximum of each column moves the problem to the rows. `ops.sinkhorn`
# computes with logarithms: division becomes subtraction, and no entry underflows to zero.

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
        print("std {:3}: NaN in {:.0%} (matrix maximum), {:.0%} (column maxima)".format(std, *shares))
        assert shares[0] > whole and shares[1] > columns
        assert abs(ops.sinkhorn(large, 20).sum(axis=-1) - 1).max() < 1e-6

# %% [markdown]
# ## A transposed matrix
#
# DeepSeek's code calls its matrix `comb`. The first index of `comb` is the stream that is *read*, so `comb` is
# $H^{\mathrm{res}}$ transposed. The code normalises rows first, then columns, and multiplies the streams by `comb`
# transposed. With transposed logits this is equivalent to the paper's form. Let `view` be the 4x4 matrix of logits in
# DeepSeek's layout. There are three plausible ways to port this code with a Sinkhorn function $S$ that normalises
# columns first:

# %%
transpose = lambda matrices: matrices.swapaxes(-1, -2)
state = rng.standard_normal((4000, 4, 16))
print("error of the streams (rms)\nlogit std   S(view^T)   S(view)^T   S(view)")
for std in spreads:
    view = std * normal
    comb = normalise(np.exp(view), (-1, -2) * 20)
    true, untouched = transpose(comb) @ state, ops.sinkhorn(view, 20)
    ports = ops.sinkhorn(transpose(view), 20), transpose(untouched), untouched
    right, order, wrong = (np.sqrt(((H @ state - true) ** 2).mean()) for H in ports)
    print(f"{std:9}{right:12.0e}{order:12.0e}{wrong:10.2f}")
    assert right < 1e-14 and order < 0.1 * wrong and 0.15 < wrong < 0.9

# %% [markdown]
# The first port is correct. The second normalises in the other order; the error is visible only if the columns have not
# converged. The third mixes stream $i$ into $j$ although $j$ should be mixed into $i$. Its errors are 0.2 to 0.8 on
# streams of size 1, but three plausible tests do not detect the mistake: the sums of rows and columns, the sum of the
# streams after the site, and a site with equal logits ($\phi = 0$, $b = 0$). A test that detects it lets each stream
# read from the next and sets only one stream to a nonzero value.

# %%
wrong = ops.sinkhorn(0.5 * normal, 20)
gap = (ops.sinkhorn(transpose(0.5 * normal), 20) - wrong) @ state
worst, total = abs(gap).max(), abs(gap.sum(axis=1)).max()
print(f"largest error of a stream {worst:.1f}, of the sum of the streams {total:.0e}")
assert worst > 1 and total < 1e-7 and np.allclose(wrong.sum(axis=-2), 1)
assert np.allclose(ops.sinkhorn(np.zeros((4, 4)), 20), 1 / 4)
ring = ops.sinkhorn(8 * np.roll(np.eye(4), 1, axis=1), 20)        # 0 from 1, 1 from 2, ...
moved, misplaced = (H @ np.array([0, 1, 0, 0]) for H in (ring, transpose(ring)))
assert moved.round(2).tolist() == [1, 0, 0, 0] and misplaced.round(2).tolist() == [0, 0, 1, 0]

# %% [markdown]
# ## Equal streams stay equal
#
# The embedding is copied into every stream. Suppose $\phi = 0$ and all biases are equal: all streams are read, mixed
# and written with the same weights, so they stay equal. Equal streams get equal *gradients* (the slopes that training
# follows), so training cannot make them different either. To show this, take two streams, two sites, and $\phi$ fixed
# at 0. A *teacher* model generates the targets. Its sites work *in parallel*: the first writes to stream 1, the second
# reads stream 0, which does not contain the output of the first. A *student* model is trained on the targets by
# gradient descent, once from equal biases and once from slightly noisy ones.

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


def train(biases: np.ndarray) -> tuple[list[float], float]:
    loss = lambda biases: float(((student(biases).sum(axis=2) - target) ** 2).mean())
    losses, steps = [], 1e-5 * np.eye(16).reshape(16, 2, 8)
    for _ in range(60):
        losses.append(loss(biases))
        slopes = [(loss(biases + s) - loss(biases - s)) / 2e-5 for s in steps]
        biases = biases - np.reshape(slopes, (2, 8))
    return losses, float(np.ptp(student(biases), axis=2).max())


# for each site 2 biases for pre, 2 for post, 4 for res; the sigmoid of 6 is nearly 1
teacher = 6.0 * np.array([[0, 0, -1, 1, 1, 0, 0, 1], [1, -1, 0, 0, 1, 0, 0, 1]])
target = student(teacher).sum(axis=2)
(equal, gap), (noisy, noisy_gap) = train(0 * teacher), train(0.02 * rng.normal(size=(2, 8)))
print(f"equal: loss {equal[0]:.2f} to {equal[-1]:.2f}, streams differ by {gap:.0e}")
print(f"noisy: loss {noisy[0]:.2f} to {noisy[-1]:.2f}, streams differ by {noisy_gap:.0e}")
assert gap < 1e-9 < 1e-3 < noisy_gap and noisy[-1] < 0.1 * equal[-1]

# %% tags=["fold"]
fig, ax = plt.subplots(figsize=(6.2, 2.6))
ax.semilogy(equal, label="equal biases")
ax.semilogy(noisy, label="noise of 0.02 on the biases")
ax.set(xlabel="step", ylabel="loss", title="Streams that start equal stay equal in training")
ax.legend(loc="lower left")
fig.set_label("Loss against step. With equal biases it stays on a plateau near half of "
              "its start. With a little noise it falls to a tenth or less.")
assert gap < 1e-9 and 0.4 < equal[-1] / equal[0] < 0.6 and noisy[-1] < 0.1 * noisy[0]

# %% [markdown]
# With noise the student learns to use the sites in parallel, which is impossible with equal streams. So initialise
# $\phi$ at random.
#
# ## How the versions differ
#
# - At the end the streams are *collapsed* into one. The mHC paper does not say how. Sum and mean differ by the factor
#   $M$, which the final norm removes. DeepSeek-V4 uses learned weights, computed with one more $\phi$ (the form "head";
#   V4's forms are taken from its class in [HF transformers](https://github.com/huggingface/transformers)).
# - V4 adds `eps` = $10^{-6}$ to $H^{\mathrm{pre}}$, to the first normalised `comb`, and in every division. Rows then
#   sum to $1 - 10^{-6}$. With large logits the effect can be large: if all entries of a row are far below `eps` after
#   the first column step, adding `eps` makes them equal, and the row step scales them up.
# - [TileKernels](https://github.com/deepseek-ai/TileKernels), DeepSeek's kernel library, defaults to 10 iterations and
#   $H^{\mathrm{post}} = \sigma$.
# - The mHC paper gives the initial value of $\alpha$, 0.01, but not the initial values of $\phi$ and $b$. If $\phi$ and
#   $b$ are zero, the streams stay equal, as shown above.

# %%
head = {"phi": phi[:M], "bias": np.zeros(M), "alpha": ones[:1]}
forms = [ops.collapse(X, form, head, 1e-6) for form in ("sum", "mean", "head")]
total, *others = (ops.rms_norm(x, ones, 1e-6) for x in forms)
mean, learned = (abs(x - total).max() for x in others)
print(f"collapsed and normalised, difference from sum: mean {mean:.0e}, head {learned:.1f}")
assert np.allclose(forms[0], 4 * forms[1]) and mean < 1e-4 and learned > 0.1
low = np.array([[0.0, 0.0], [-20.0, -25.0]])              # lower row: 2e-9, 1e-11
exact, lifted = ops.sinkhorn(low, 20)[1], ops.sinkhorn(low, 20, 1e-6)[1]
print("lower row: paper", exact.round(2), "  V4", lifted.round(2))
assert exact[0] > 0.9 and abs(lifted - 0.5).max() < 0.01
assert np.isclose(lifted.sum(), 1 - 1e-6, rtol=0, atol=1e-8)

# %% [markdown]
# ## Exercise
#
# Let $\phi = 0$ and $b = 0$. How does the model differ from a plain residual stream, for $M = 1$ and for $M = 4$? How
# does it differ for $M = 1$ with $\phi \neq 0$?
#
# ??? tip "Hint"
#     What is the value of each map? What does the norm before $F$ do to a constant factor?

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
# The model does not differ from a plain residual stream: $H^{\mathrm{post}} = 1$, the rows of $H^{\mathrm{res}}$ sum to
# 1, and the norm removes the factor of $H^{\mathrm{pre}}$. So a model with equal streams is four copies of a plain
# model. With $\phi \neq 0$, $M = 1$ still has $H^{\mathrm{res}} = 1$, but writes with a weight between 0 and 2, so it
# is no longer a plain residual stream.

# %% [markdown]
# Next: [attention from a 576-number cache](09_mla.md), the first of the two functions $F$.
