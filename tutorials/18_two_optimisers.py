# %% [markdown]
# # Two optimisers, two kinds of parameter
#
# ## What you will be able to do
#
# - compute the first steps of Adam, with and without bias correction;
# - say what Newton-Schulz does to the singular values of a matrix, and which of them it leaves small;
# - explain why matrices are updated by Muon, and tables and vectors by Adam;
# - predict how far a rarely read row moves: with dense and with lazy Adam, with and without weight decay.
#
# ## From gradient to update
#
# [Backpropagation](17_backpropagation.md) computes the gradient $G$ of every parameter $W$. An *optimiser* turns it
# into an *update* $O$, and changes the parameter:
#
# $$ W \leftarrow W - \eta\, O - \eta \lambda\, W $$
#
# $\eta$ is the *learning rate*. The last term is *weight decay*: it shrinks the parameter by the fraction $\eta
# \lambda$ per step. The simplest optimiser uses $O = G$. Then a parameter with large gradients takes large steps, and
# one with small gradients hardly moves. The two optimisers on this page remove the size of the gradient, in different
# ways. The paper trains the tables of Engram with *Adam* and the matrices of the model with *Muon*.

# %%
import matplotlib.pyplot as plt
import numpy as np

from engram_ref import Addressing, preset
from engram_ref.model import declarations
from engram_ref.model_presets import model_preset
from engram_ref.ops.updates import NEWTON_SCHULZ, newton_schulz
from engram_ref.ops.vjp.tables import RowGradient
from engram_ref.training.groups import TABLE_RATE, names_by_group
from engram_ref.training.optimisers import Adam, Muon

rng = np.random.default_rng(18)

# %% [markdown]
# ## Adam: each number by itself
#
# Adam keeps two running averages for every number of a parameter, one of its gradient $g$ and one of $g^2$. The update
# is the first divided by the root of the second:
#
# $$
# \begin{align*}
# m_t &= \beta_1 m_{t-1} + (1 - \beta_1)\, g_t \\
# v_t &= \beta_2 v_{t-1} + (1 - \beta_2)\, g_t^2 \\
# O_t &= \frac{m_t / (1 - \beta_1^t)}{\sqrt{v_t / (1 - \beta_2^t)} + \epsilon}
# \end{align*}
# $$
#
# If all gradients are multiplied by 1,000, $O$ stays the same. ($\epsilon$ prevents a division by zero.) Here is the
# first step for three gradients of very different sizes. With a learning rate of 1, no decay and parameters of 0, the
# new parameters are $-O$.

# %%
def first_steps(optimiser: Adam, gradients: list[np.ndarray]) -> np.ndarray:
    """O at each step: [steps, ...]"""
    points = [{"w": np.zeros_like(gradients[0])}]
    for g in gradients:
        points.append(optimiser.step(points[-1], {"w": g}))
    return -np.diff([point["w"] for point in points], axis=0)


g = np.array([0.001, -1.0, 1000.0])
print("first update", first_steps(Adam(lr=1.0), [g])[0].round(4))
assert np.allclose(first_steps(Adam(lr=1.0), [g])[0], np.sign(g), atol=1e-4)

# %% [markdown]
# The size of the first step is the learning rate. It does not depend on the size of the gradient.
#
# This needs the two divisions by $1 - \beta^t$, the *bias correction*. Both averages start at 0, so at first they are
# too small: $m_1 = (1 - \beta_1)\, g$, and $v_1 = (1 - \beta_2)\, g^2$. The correction scales them to $g$ and $g^2$. If
# it is left out, the update for a constant gradient is
#
# $$ \frac{m_t}{\sqrt{v_t}} = \frac{1 - \beta_1^t}{\sqrt{1 - \beta_2^t}} \cdot \mathrm{sign}(g) $$

# %%
t, shown = np.arange(1, 101), (1, 3, 10, 30, 100)
constant = first_steps(Adam(lr=1.0), [np.ones(1)] * 100)[:, 0]
print("step                         ", *(f"{n:5}" for n in shown))
print("with correction              ", *(f"{constant[n - 1]:5.2f}" for n in shown))
uncorrected = {}
for beta2 in (0.95, 0.999):
    uncorrected[beta2] = (1 - 0.9**t) / np.sqrt(1 - beta2**t)
    numbers = (f"{uncorrected[beta2][n - 1]:5.2f}" for n in shown)
    print(f"without, beta 0.9 and {beta2:<7}", *numbers)
assert np.allclose(constant, 1, atol=1e-6)
assert uncorrected[0.95][0].round(2) == 0.45 and 6 < uncorrected[0.999].max() < 7

# %% [markdown]
# With $\beta_2 = 0.95$, the value in DeepSeek's papers, the first step without correction is less than half as long.
# With the common $\beta_2 = 0.999$ the first steps are three to seven times too long, and after a hundred steps the
# error is still large.
#
# ## Muon: a matrix as a whole
#
# A matrix is more than a list of independent numbers: it maps an input vector to an output vector. Every matrix can be
# written as $G = U S V^T$, its *singular value decomposition*. The columns of $V$ are orthogonal directions of the
# input, those of $U$ orthogonal directions of the output. $S$ is diagonal and contains the *singular values*, the
# factors by which the directions are scaled. In the gradient of a matrix, a few singular values are often much larger
# than the rest. An update by $G$ then changes what the matrix does to a few directions only.
#
# Muon sets all singular values to about 1: $O \approx U V^T$. Every direction changes at the same rate. Computing the
# decomposition is slow on a GPU; *Newton-Schulz* needs only matrix products. It divides $G$ by its norm (the root of
# the sum of all squares), so that no singular value exceeds 1, and then repeats
#
# $$ X \leftarrow a X + b\, (X X^T)\, X + c\, (X X^T)^2 X $$
#
# Insert $X = U S V^T$. The products $U^T U$ and $V^T V$ are identities, and what remains is $U\, p(S)\, V^T$ with the
# polynomial $p(s) = a s + b s^3 + c s^5$. So each singular value changes by itself, and the directions stay. Two
# versions are in use: `classic` applies $(a, b, c) = (3.4445, -4.7750, 2.0315)$ five times; `hybrid` applies it eight
# times and then $(2, -1.5, 0.5)$ twice. We try both on a matrix whose singular values span six orders of magnitude.

# %%
def polynomial(s: np.ndarray, steps: str) -> np.ndarray:
    """What a version does to singular values"""
    for a, b, c in NEWTON_SCHULZ[steps]:
        s = a * s + b * s**3 + c * s**5
    return s


U = np.linalg.qr(rng.standard_normal((64, 40)))[0]         # orthogonal directions
V = np.linalg.qr(rng.standard_normal((40, 40)))[0]
sizes = np.geomspace(1, 1e-6, 40)
G = U * sizes @ V.T                                        # [64, 40]
before = sizes / np.linalg.norm(sizes)
after = {}
for steps in NEWTON_SCHULZ:
    result = newton_schulz(G, steps)
    after[steps] = np.diag(U.T @ result @ V)                    # in the same directions
    assert np.allclose(result, U * polynomial(before, steps) @ V.T, rtol=0, atol=1e-12)
    changes = (f"{before[i]:.0e} -> {after[steps][i]:.3f}  " for i in (0, 10, 20, 30))
    print(f"{steps:8}", *changes)

# %% tags=["fold"]
s = np.geomspace(0.01, 1, 100_001)
assert polynomial(s, "classic").min() > 0.68 and polynomial(s, "classic").max() < 1.203
small = np.geomspace(1e-4, 1, 100_001)
first, last = (3.4445, -4.7750, 2.0315), (2.0, -1.5, 0.5)
assert {"classic": (first,) * 5, "hybrid": (first,) * 8 + (last,) * 2} == NEWTON_SCHULZ
assert polynomial(small, "hybrid").min() > 0.999 and polynomial(small, "hybrid").max() < 1.0022
slopes = {steps: polynomial(np.array(1e-12), steps) / 1e-12 for steps in NEWTON_SCHULZ}
assert round(float(slopes["classic"])) == 485 and 79_000 < slopes["hybrid"] < 80_000

fig, ax = plt.subplots(figsize=(6.2, 3.2))
order = np.arange(1, 41)
ax.semilogy(order, before, marker="o", markersize=3, color="C5", linestyle=":", label="before")
ax.semilogy(order, after["classic"], marker="s", markersize=3, color="C1", linestyle="--", label="5 classic steps")
ax.semilogy(order, after["hybrid"], marker="D", markersize=3, color="C0", linestyle="-", label="hybrid, 8 + 2 steps")
ax.set(xlabel="singular value, in order of size", ylabel="size", ylim=(3e-7, 5),
       title="Newton-Schulz raises all but the smallest singular values to about 1")
ax.legend(loc="lower left", fontsize=8)
fig.set_label("Forty singular values on a logarithmic axis. Before, they fall from 0.5 to 5e-7. After five classic "
              "steps the larger half lies between 0.3 and 1.2 and the rest falls to below 0.001; after the hybrid "
              "all but about the last ten are 1.")
assert (after["classic"][:20] > 0.3).all() and after["classic"][-1] < 0.001
assert np.isclose(after["hybrid"][:29], 1, atol=3e-3).all() and after["hybrid"][-1] < 0.1

# %% [markdown]
# The classic version does not converge to 1, and is not meant to: values above 0.01 end anywhere between 0.68 and 1.2.
# Its coefficients are chosen for speed instead. Near zero only the term $a s$ counts, so five steps multiply a small
# value by $3.4445^5 \approx 485$. The hybrid has a factor of about 79,000, and its last two steps converge: values
# above $10^{-4}$ end between 0.999 and 1.0022. Smaller ones stay below 1 in both versions, so a direction that is
# almost absent from the gradient, perhaps only a rounding error, does not get an update of full size.
#
# ### Each matrix by itself
#
# Programs often store several matrices in one array, such as the four key projections of Engram, $16 \times 64$ each in
# the preset `tiny`. Newton-Schulz must be applied to each of them alone. As an array `[4, 16, 64]` they stay separate.
# As one matrix `[64, 64]`, which contains the same numbers, the branches with large gradients change the update of
# branch 0:

# %%
branches = rng.standard_normal((4, 16, 64))                # gradients of four matrices
louder = branches * np.array([1.0, 100, 100, 100])[:, None, None]
alone = newton_schulz(branches[0], "hybrid")
separate = newton_schulz(louder, "hybrid")[0]
merged = newton_schulz(louder.reshape(64, 64), "hybrid").reshape(4, 16, 64)[0]
errors = [float(np.abs(update - alone).max()) for update in (separate, merged)]
print(f"largest error in branch 0: separate {errors[0]:.0e}, as one matrix {errors[1]:.2f}")
assert errors[0] < 1e-12 and errors[1] > 0.1

# %% [markdown]
# ### The same learning rate for both
#
# A matrix with $A$ rows and $B$ columns has $\min(A, B)$ singular values. If all of them are 1, the root mean square of
# the elements is $1/\sqrt{\max(A, B)}$. So the larger the matrix, the smaller the elements. With `scale="rms"` Muon
# multiplies by $0.2 \sqrt{\max(A, B)}$ (the hybrid by $0.18 \sqrt{\max(A, B)}$, as in DeepSeek-V4). Then the root mean
# square of an update is about 0.2 for every shape. That is a typical size of Adam's updates, so both optimisers can use
# the same learning rate and decay.

# %%
print("root mean square of the update")
for shape in ((16, 64), (64, 16), (256, 256)):
    sizes_of = []
    for steps in NEWTON_SCHULZ:
        G = rng.standard_normal(shape)
        moved = Muon(lr=1.0, steps=steps).step({"w": np.zeros(shape)}, {"w": G})["w"]
        sizes_of.append(np.sqrt((moved**2).mean()))
    print(f"{shape!s:11} classic {sizes_of[0]:.3f}, hybrid {sizes_of[1]:.3f}")
    assert 0.15 < sizes_of[0] < 0.2 and abs(sizes_of[1] - 0.18) < 1e-3

# %% [markdown]
# ## Why tables and vectors use Adam
#
# A *vector*, such as the gain of a norm, has a single singular value, its length. Setting it to 1 leaves the
# proportions of the elements as they are, so one large element can still dominate. Adam treats each element separately.
#
# A *table* looks like a matrix but is not used as one: it is never multiplied by a vector. Each row is used by itself,
# by its own n-grams. Newton-Schulz would couple rows that have nothing in common. Here row 0 receives the same gradient
# in both cases, but the other row that is read receives a different one:

# %%
table = {"table": np.zeros((6, 4))}
row_0 = np.array([1.0, 2.0, 0.0, 0.0])
updates = {}
for name in ("Muon", "Adam"):
    for other in ([3.0, 1.0, 0.0, 0.0], [0.0, 0.0, 3.0, 1.0]):
        dense = RowGradient(np.array([0, 3]), np.stack([row_0, other]), (6, 4)).dense()
        optimiser = Muon(lr=1.0) if name == "Muon" else Adam(lr=1.0)
        moved = optimiser.step(table, {"table": dense})["table"]
        updates.setdefault(name, []).append(0 - moved[0])
    print(f"{name}: row 0 moves by", *(update.round(2) for update in updates[name]))
assert np.allclose(*updates["Adam"]) and np.abs(np.subtract(*updates["Muon"])).max() > 0.1

# %% [markdown]
# It would also be expensive. Five steps of Newton-Schulz on all tables of DeepSeek-V4.1-Flash need $5 \cdot 10^{14}$
# multiplications, although a training step reads only a small part of the rows.

# %% tags=["fold"]
flash = preset("deepseek-v4.1-flash")
numbers = sum(Addressing(flash).table_rows.values()) * flash.row_width
multiplications = 5 * 2 * numbers * flash.row_width        # X X^T and one product with X, five times
assert round(multiplications / 1e14) == 5

# %% [markdown]
# ## A row that is read once in a hundred steps
#
# Most rows are read rarely, and in the other steps their gradient is 0. What does Adam do with a gradient of 0? There
# are two answers. *Dense* Adam treats it like any other number: both averages decay, and the row still moves by $m /
# \sqrt v$, a momentum that comes from an old gradient. *Lazy* Adam leaves rows alone that were not read: neither their
# averages nor their numbers change. We read one row with gradient $-1$ at steps 100 and 200.

# %%
def path(lazy: bool, steps: int = 300) -> np.ndarray:
    """The row after each step, in units of the learning rate"""
    optimiser, table = Adam(lr=1.0, lazy=lazy), {"table": np.zeros((2, 1))}
    points = []
    for step in range(1, steps + 1):
        rows = np.array([0, 1] if step in (100, 200) else [1])      # row 1: in every step
        values = np.full((len(rows), 1), -1.0)
        table = optimiser.step(table, {"table": RowGradient(rows, values, (2, 1))})
        points.append(table["table"][0, 0])
    return np.array(points)


dense, lazy = path(lazy=False), path(lazy=True)
at_read, later = dense[99] - dense[98], dense[198] - dense[99]
print(f"dense: moves by {at_read:.2f} when it is read, by {later:.2f} in the 99 steps after it")
print(f"lazy:  moves by {lazy[99]:.2f} when it is read, by {lazy[198] - lazy[99]:.2f} after it")

# %% tags=["fold"]
ratio = 0.9 / np.sqrt(0.95)
assert np.allclose([at_read, later], [0.1 / 0.05**0.5, 0.1 / 0.05**0.5 * ratio / (1 - ratio)], rtol=0.01)
assert 0.92 < later / (at_read + later) < 0.93 and lazy[198] == lazy[99]
fig, ax = plt.subplots(figsize=(6.2, 3.0))
t = np.arange(1, 301)
ax.plot(t, dense, color="C1", linestyle="--", label="dense Adam")
ax.plot(t, lazy, color="C0", linestyle="-", label="lazy Adam")
for read in (100, 200):
    ax.axvline(read, color="C5", linestyle=":", linewidth=1)
ax.text(102, 11.5, "read", fontsize=9)
ax.text(202, 11.5, "read", fontsize=9)
ax.set(xlabel="step", ylabel="row, in learning rates", ylim=(-0.5, 12.8),
       title="With dense Adam, most of the movement follows the read")
ax.legend(loc="upper left", fontsize=8)
fig.set_label("Value of one row over 300 steps, read at steps 100 and 200. With dense Adam it rises in a curve by 5.8 "
              "learning rates after each read, over about forty steps. With lazy Adam it rises by about half a "
              "learning rate at each read and is constant otherwise.")

# %% [markdown]
# With dense Adam, 92% of the movement happens *after* the read, driven by stale momentum. Each further step is smaller
# by the factor $\beta_1 / \sqrt{\beta_2} = 0.923$, so the total is $1 / (1 - 0.923) = 13$ times the first step. The row
# follows one old gradient for dozens of steps, while the rest of the model changes. Lazy Adam does not move the row in
# between, and it processes only the rows that were read. Dense Adam reads and writes all tables in every step. The
# paper does not say which of the two it uses. The package uses lazy Adam for tables unless told otherwise.
#
# ## Five times the learning rate, no decay
#
# The paper trains its tables with five times the learning rate of the rest ($\eta = 4 \cdot 10^{-4}$) and without
# weight decay; the matrices have $\lambda = 0.1$. What does each of the two choices change? Four rows start at 0 and
# should learn the number 1. They are read in every step, and once in 10, 100 and 1,000 steps.

# %%
every = np.array([1, 10, 100, 1000])


def learned(lr: float, decay: float, lazy: bool = False) -> np.ndarray:
    """The four rows after 20,000 steps"""
    optimiser, table = Adam(lr=lr, weight_decay=decay, lazy=lazy), np.zeros((4, 1))
    for step in range(1, 20_001):
        rows = np.flatnonzero(step % every == every // 2)
        gradient = RowGradient(rows, table[rows] - 1, table.shape)  # the loss is (row - 1)^2 / 2
        table = optimiser.step({"table": table}, {"table": gradient})["table"]
    return table[:, 0]


results = {}
print("one read in           " + "".join(f"{n:8,}" for n in every) + " steps")
for times in (1, 5):
    for decay in (0.1, 0.0):
        results[times, decay] = learned(times * 4e-4, decay)
        numbers = "".join(f"{x:8.3f}" for x in results[times, decay])
        print(f"rate x{times}, decay {decay}   {numbers}")

# %% [markdown]
# The row that is read in every step reaches 1 in all cases. For rare rows both choices matter.
#
# **The learning rate limits the speed.** A read moves the row by at most $5.8\, \eta$, as above, however large the
# gradient is. A row that is read 20 times in the whole training moves by less than 0.05 with $\eta = 4 \cdot 10^{-4}$,
# and by 0.23 with five times that.
#
# **Weight decay limits the size.** A row that is read in a small fraction $p$ of the steps gains $5.8\, \eta\, p$ per
# step on average, and loses $\eta \lambda |E|$. Both are equal at
#
# $$ |E| = \frac{5.8\, p}{\lambda} $$
#
# No learning rate and no amount of training lifts a row above this. It is 0.58 for one read in a hundred steps and
# 0.058 for one in a thousand. Decay thus limits the rows that a lookup table is meant for, the rare ones. Matrices do
# not have this problem, because every token uses all of their elements. With lazy Adam, decay also applies only when a
# row is read, so the limit is the same for rare and frequent rows. In this experiment it then costs rare rows less than
# 3%.

# %% tags=["fold"]
per_read = 0.1 / 0.05**0.5 / (1 - ratio)
assert round(per_read, 1) == 5.8
for rows in results.values():
    assert abs(rows[0] - 1) < 0.01
assert results[1, 0.0][3] < 0.05 and round(results[5, 0.0][3], 2) == 0.23
limits = per_read / every / 0.1
assert limits[2:].round(3).tolist() == [0.584, 0.058]
for rows in (results[1, 0.1], results[5, 0.1]):
    assert (rows[2:] < limits[2:]).all()
with_decay, without = (learned(5 * 4e-4, decay, lazy=True) for decay in (0.1, 0.0))
ratios = (with_decay / without)[2:]                        # of the rare rows
assert (ratios < 1).all() and (ratios > 0.97).all()
assert (results[5, 0.1][2:] > 0.95 * limits[2:]).all() and results[5, 0.0][2] > 0.99

# %% [markdown]
# ## Which parameter belongs to which optimiser
#
# Every parameter of a model is declared once in the package, with its shape and its group. Here are the groups of the
# paper's `engram-27b`:

# %%
declared = {p.name: p for p in declarations.model(model_preset("engram-27b"))}
optimiser_of = {"matrix": "Muon", "table": f"Adam, rate x{TABLE_RATE:.0f}, no decay"}
counts = {}
for group, names in names_by_group(declared.values()).items():
    counts[group] = sum(int(np.prod(declared[name].shape)) for name in names)
    print(f"{group:10}{counts[group]:16,}   {optimiser_of.get(group, 'Adam')}")
assert counts["matrix"] > 2 * counts["table"] > 100 * counts["vector"] and TABLE_RATE == 5

# %% [markdown]
# The biases that balance the load of the experts have no gradient and belong to no group.
#
# ## How the versions differ
#
# The paper names Muon for the backbone, Adam for embeddings and tables, and the learning rates. It does not state the
# number of steps of Newton-Schulz, the scale, or Muon's momentum; the package's defaults follow the published
# descriptions of Muon. DeepSeek-V4 uses the hybrid version and the scale 0.18. DeepSeek-V4.1-Flash replaces Adam for
# tables, embeddings and the output matrix with a third method, which this page does not cover.
#
# ## Exercises
#
# **1.** A row is read once and then never again. How many times its first step does it move in total with dense Adam,
# for $\beta_1 = 0.9$ and $\beta_2 = 0.999$? (Assume that the training has run for a long time, so that the bias
# correction has no effect.)
#
# ??? tip "Hint"
#     Each further step is smaller by $\beta_1 / \sqrt{\beta_2}$. Sum the geometric series.

# %% tags=["answer"]
m, v, moves = 0.1, 0.001, []                               # after one gradient of 1
for _ in range(1000):
    moves.append(m / np.sqrt(v))
    m, v = 0.9 * m, 0.999 * v
total = sum(moves)
print(f"first step {moves[0]:.2f} learning rates, in total {total:.1f}, {total / moves[0]:.2f} times")
assert np.isclose(total / moves[0], 1 / (1 - 0.9 / np.sqrt(0.999))) and round(total) == 32

# %% [markdown] tags=["answer"]
# About 10 times, and the total is 32 learning rates. With $\beta_2 = 0.999$ the first step is also larger, 3.16 instead
# of 0.45, because $v$ is far below $g^2$ after a single gradient.

# %% [markdown]
# **2.** Muon divides $G$ by its norm before the first step. What happens to a matrix of rank 1, such as the gradient of
# a single token, $G = x\, y^T$? And to a gradient of zeros?
#
# ??? tip "Hint"
#     How many singular values of a matrix of rank 1 are not 0? How large is this one after the division?

# %% tags=["answer"]
x, y = rng.standard_normal(64), rng.standard_normal(40)
one = np.linalg.svd(newton_schulz(np.outer(x, y), "hybrid"), compute_uv=False)
print("largest singular values:", *(f"{s:.4f}" for s in one[:3]))
assert abs(one[0] - 1) < 3e-3 and one[1] < 1e-6
assert not newton_schulz(np.zeros((64, 40)), "hybrid").any()

# %% [markdown] tags=["answer"]
# The only singular value is 1 after the division and stays near 1. So the update has a single direction, with the same
# size as the directions of any other update. All other singular values are rounding errors. The divisor has a lower
# bound, so for zeros nothing is divided by 0, and the update is 0.

# %% [markdown]
# Next: [train one yourself](19_train_one.md), a small model with Engram and one without it.
