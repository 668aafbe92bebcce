# %% [markdown]
# # Backpropagation through a hash table
#
# ## What you will be able to do
#
# - write the gradient of a table as rows and values, and add the gradients of rows that are read more than once;
# - explain why a hash has no gradient, and why training does not need one;
# - follow one gradient from the loss through convolution, gate and projections to the rows of an n-gram;
# - check a gradient with finite differences, and choose their step.
#
# You need Python and derivatives. Of Engram you need only this much: a *table* has rows of numbers, a *hash* computes
# from the last few tokens (an *n-gram*) which rows are read, and the rows are learned. [Tutorial 01](01_why_lookup.md)
# gives an overview.
#
# ## What a gradient is
#
# Training makes one number smaller, the *loss* $L$. The *gradient* of $L$ with respect to an array is an array of the
# same shape. Each of its elements says by how much $L$ changes per unit if that element of the array changes a little.
# Training subtracts a small multiple of the gradient from every parameter.
#
# A model is a sequence of steps, and the chain rule handles one step at a time, starting from the loss. Take a step $y
# = f(x)$. If the gradient with respect to its result $y$ is known, the gradient with respect to its input is
#
# $$ \frac{\partial L}{\partial x_i} = \sum_j \frac{\partial L}{\partial y_j} \, \frac{\partial y_j}{\partial x_i} $$
#
# The known gradient $\partial L / \partial y$ is called *upstream*. A function that computes this sum is a
# *vector-Jacobian product*, or VJP. In this package an op `f` has a VJP called `f_vjp`. It takes upstream and the
# inputs of `f`, and returns one gradient per input. For a matrix product $y = W x$ the gradients are $W^T \cdot$
# upstream and upstream $\cdot\, x^T$:

# %%
import textwrap
from collections import Counter
from pydoc_data.topics import topics

import matplotlib.pyplot as plt
import numpy as np

from engram_ref import Addressing, Trace, Vocabulary, engram, ops, preset
from engram_ref.backends import tape
from engram_ref.model.engram_parameters import initialise
from engram_ref.ops.vjp import WITHOUT

rng = np.random.default_rng(17)
W, x = rng.standard_normal((3, 2)), rng.standard_normal(2)
upstream = np.array([1.0, 0.0, -2.0])
of_x, of_W, _ = ops.linear_vjp(upstream, x, W)             # the third input, a bias, is None
print("gradient of x", of_x.round(3), " shapes", of_x.shape, of_W.shape)
assert np.allclose(of_x, W.T @ upstream) and np.allclose(of_W, np.outer(upstream, x))

# %% [markdown]
# ## The gradient of a table
#
# Reading a row copies it, so its derivative is simple: the upstream of the copy is the gradient of the row. Here is a
# table with six rows of two numbers. Three positions of a text read rows 4, 1 and 4.

# %%
table = rng.standard_normal((6, 2))
read = np.array([[[4], [1], [4]]])                         # [B=1, T=3, C=1]
offsets = np.zeros(1, dtype=np.int64)                      # one table, which starts at row 0
copies = ops.gather(table, read, offsets)                  # [1, 3, 1, 2]
upstream = np.array([[1.0, 2.0], [10.0, 20.0], [100.0, 200.0]]).reshape(copies.shape)
gradient, _, _ = ops.gather_vjp(upstream, table, read, offsets)
for row, values in zip(gradient.rows, gradient.values, strict=True):
    print(f"row {row}: {values}")
assert gradient.rows.tolist() == [1, 4] and gradient.values.tolist() == [[10, 20], [101, 202]]

# %% [markdown]
# Row 4 was read twice. If it changes, both copies change, so its gradient is the *sum* of both upstreams. All other
# rows have the gradient 0, which is not stored. The gradient of a table is therefore a list of rows, each once, with a
# vector of values per row:
#
# $$ \frac{\partial L}{\partial E[r]} = \sum_{(t,\,c)\,:\;\mathrm{row}(t,c)\, =\, r} \text{upstream}_{t,c} $$
#
# The sum runs over all positions $t$ and columns $c$ (tables) that read row $r$. A common bug is to add with an indexed
# assignment. It reads each row once, adds, and stores; of several values for one row, only the last survives:

# %%
overwritten = np.zeros_like(table)
overwritten[read.ravel()] += upstream.reshape(3, 2)        # wrong
added = np.zeros_like(table)
np.add.at(added, read.ravel(), upstream.reshape(3, 2))     # right
print("row 4:", overwritten[4], "instead of", added[4])
assert overwritten[4].tolist() == [100, 200] and np.array_equal(added, gradient.dense())

# %% [markdown]
# Why not simply store the whole array with all its zeros? Compare both sizes for DeepSeek-V4.1-Flash, in 4 bytes per
# number, for one step of training on 4,096 tokens:

# %%
flash = preset("deepseek-v4.1-flash")
numbers = sum(Addressing(flash).table_rows.values()) * flash.row_width
reads = 4096 * len(flash.layer_ids) * flash.columns        # an upper limit on the rows
dense_bytes, row_bytes = 4 * numbers, reads * (8 + 4 * flash.row_width)
print(f"whole tables {dense_bytes / 1e9:.0f} GB; rows and values at most {row_bytes / 1e9:.1f} GB")
assert round(dense_bytes / 1e9) == 786 and round(row_bytes / 1e9, 1) == 0.2

# %% [markdown]
# ## The hash has no gradient, and needs none
#
# A step before the table computes the row number from the ids of the last tokens. Its result is an integer. The
# question "how does $L$ change if row 4 becomes row 4.001?" has no answer: there is no such row, and the next row, 5,
# belongs to unrelated n-grams.
#
# Training does not need an answer either. A gradient is needed in order to change something, and nothing before the
# table can change: the ids are the text, and the multipliers and table sizes of the hash are fixed before training. So
# the gradient ends at the rows. The package lists all ops without a gradient:

# %%
print(textwrap.fill(", ".join(sorted(WITHOUT)), 80))
assert {"canonicalise", "windows", "mix", "table_rows"} <= WITHOUT     # the steps of the hash
assert not any(hasattr(ops, f"{name}_vjp") for name in WITHOUT)

# %% [markdown]
# This also means that the addresses are never learned. The gradients of an n-gram go to the same rows from the first
# step of training to the last.
#
# ## Collisions share gradients
#
# The hash still has an effect on training: it decides which n-grams share a row ([tutorial 04](04_collisions.md)).
# N-grams that share a row share its gradient. Here are the 2-gram "the Great" and, from the help pages of Python, the
# 2-grams that read the same row in one of its four tables. We use `tiny`, a small preset of this package.

# %%
tiny, vocabulary = preset("tiny"), Vocabulary.load("deepseek-v4")
addressing, K = Addressing(tiny), tiny.n_heads
parameters = initialise(tiny, layer_id=1, rng=rng)         # random, not trained


def rows_of(text: str) -> np.ndarray:
    """Rows [T, C] of a text"""
    return addressing.rows(vocabulary.canonical[vocabulary.encode(text)], layer_id=1)


def memory(rows: np.ndarray) -> np.ndarray:
    """The memory of each position: its rows, concatenated [T, C*W]"""
    return ops.gather_decode(parameters, rows[None], tiny, np.float64)[0]


help_text = "\n".join(topics[name] for name in sorted(topics))
help_ids, help_rows = vocabulary.encode(help_text), rows_of(help_text)
great = rows_of("Alexander the Great")[-1]                 # [C]: four 2-grams, four 3-grams
shared = (help_rows[:, :K] == great[:K]).sum(axis=1)       # in how many tables of 2-grams
ends = np.flatnonzero(shared[1:] == 1) + 1                 # where a colliding 2-gram ends
canonical = vocabulary.canonical[help_ids]
colliding = {(canonical[t - 1], canonical[t]): t for t in ends}
texts = {"".join(vocabulary.text(int(i)) for i in help_ids[t - 1 : t + 1]): t
         for t in colliding.values()}
words = [pair for pair in texts if pair.replace(" ", "").isalpha() and pair.count(" ") == 2]
print(f"{len(colliding)} 2-grams share one row with 'the Great', such as", *map(repr, words[:3]))
assert len(colliding) > 80 and shared.max() == 1

# %% [markdown]
# Now we train on "the Great" alone. The loss is half the squared distance between its memory $e$ and a target, so the
# gradient of $e$ is $e$ minus the target. One step with a learning rate of 1 moves the memory exactly to the target.

# %%
target = rng.standard_normal(tiny.memory_width)
of_memory = memory(great[None])[0] - target                # the gradient, one part per row
other = help_rows[texts[words[0]]]                         # the rows of a colliding 2-gram
before = memory(other[None])[0]
step = ops.gather_vjp(of_memory.reshape(1, 1, tiny.columns, -1), parameters["table"],
                      great[None, None], parameters["column_offsets"])[0]
parameters["table"] = parameters["table"] - step.dense()
change = np.abs(memory(other[None])[0] - before).reshape(tiny.columns, -1).max(axis=1)
print("'the Great' at its target:", np.allclose(memory(great[None])[0], target))
print(f"change of the rows of {words[0]!r}:", change.round(2))
assert np.allclose(memory(great[None])[0], target)
assert ((change > 0) == (other == great)).all() and (change > 0).sum() == 1

# %% [markdown]
# One of the eight rows of the other n-gram has moved, although that n-gram did not occur in the step. If both occur,
# their gradients are added. If they pull in different directions, the row becomes a compromise, weighted by how often
# each is read. This is one reason for using several tables: in the other seven rows the two n-grams are independent.
#
# ## From the loss to the rows
#
# Now the whole module. It concatenates the rows of a position to a *memory* $e$, and projects it to a *value* $v$, the
# content, and to *keys* $k$. A score compares each key with the model's current state $H$, and the *gate* $\alpha$
# decides how much of the value is added. The model has four states per position, the *branches*; each has its own key
# and gate, and the upper index $m$ denotes the branch:
#
# $$
# \begin{align*}
# k^{(m)} = W_K^{(m)} e, \qquad & v = W_V e \\
# s^{(m)} = \langle \mathrm{RMSNorm}(H^{(m)}), \mathrm{RMSNorm}(k^{(m)}) \rangle / \sqrt D, \qquad
#     & \alpha^{(m)} = \mathrm{gate}(s^{(m)}) \\
# u^{(m)} = \alpha^{(m)} v, \qquad & Y = \mathrm{SiLU}(\mathrm{conv}(\mathrm{RMSNorm}(u))) + u
# \end{align*}
# $$
#
# ([Tutorial 05](05_gate.md) explains the gate, [06](06_short_conv.md) the convolution.) In the text below, the phrase
# "Alexander the Great" occurs twice. The state $H$ and a target $Z$ are random, and the loss is $L = \frac12 \sum (Y -
# Z)^2$. The *trace* records every intermediate array.

# %%
text = "Alexander the Great rode Bucephalus. Nobody else could. Alexander the Great won."
rows = rows_of(text)[None]                                 # [B=1, T, C]
T, M, D = rows.shape[1], tiny.n_branches, tiny.hidden_size
hidden, Z = rng.standard_normal((2, 1, T, M, D))
trace = Trace()
Y = engram(parameters, hidden, rows, tiny, trace=trace)
k, v, s, alpha, u, x = (trace[name] for name in
                        ("key", "value", "score", "gate", "gated", "conv_norm"))
print(trace)

# %% [markdown]
# We go backwards, one step of the module at a time. A name such as `dY` denotes $\partial L/\partial Y$. The first two
# gradients are
#
# $$
# \begin{align*}
# dY &= Y - Z \\
# du &= dY + \text{the gradient that passes through the convolution}
# \end{align*}
# $$
#
# $u$ is used twice in $Y$, so it has two gradients, which are added. The convolution at position $t$ reads the
# positions $t$, $t-3$, $t-6$ and $t-9$ ($x$ below is its input, $\mathrm{RMSNorm}(u)$). Backwards the direction is
# reversed: a vector at $t$ affects the outputs at $t$, $t+3$, $t+6$ and $t+9$, and receives a gradient from each of
# them.

# %%
span, kernel = np.zeros((1, tiny.conv_span, M, D)), parameters["conv_weight"]


def through_conv(dY: np.ndarray) -> np.ndarray:
    """The part of du that passes through the convolution and its norm"""
    dx = ops.conv_silu_vjp(dY, x, kernel, tiny.conv_dilation, span)[0]
    return ops.rms_norm_vjp(dx, u, parameters["conv_gain"], tiny.conv_norm_eps)[0]


dY = Y - Z
du = dY + through_conv(dY)

only_12 = np.where(np.arange(T) == 12, 1.0, 0.0)[None, :, None, None] * dY
reached = np.flatnonzero(through_conv(only_12).any(axis=(0, 2, 3)))
print("the output at position 12 sends a gradient to positions", reached)
assert reached.tolist() == [3, 6, 9, 12]

# %% [markdown]
# The next step is the gate, $u^{(m)} = \alpha^{(m)} v$. This is a product, and each factor receives upstream times the
# other factor. All branches share the value $v$, so its gradient is a sum over branches:
#
# $$ d\alpha^{(m)} = \langle du^{(m)}, v \rangle, \qquad dv = \sum_m \alpha^{(m)}\, du^{(m)} $$
#
# From here on there are two ways to the rows: through the value, which is the content, and through the gate, which
# decides how much of it is added.
#
# ### Through the gate
#
# The demo's gate is $\alpha = \sigma(r)$ with the signed root $r = \mathrm{sign}(s) \sqrt{\max(|s|, 10^{-6})}$ of the
# score $s$. Each of the two functions contributes a factor:
#
# $$
# ds = d\alpha \cdot \alpha\,(1 - \alpha) \cdot
# \begin{cases} \dfrac{1}{2\sqrt{|s|}} & \text{if } |s| \ge 10^{-6} \\ 0 & \text{if } |s| < 10^{-6} \end{cases}
# $$
#
# Inside the clamp the gate is flat, so no gradient passes. At its edge the factor of the root is largest; at exactly
# $10^{-6}$ the upper case applies. The gate jumps at $s = 0$, but the jump has no derivative and contributes nothing.
# The numbers below are for an upstream of 1; the last column is the product of both factors.

# %%
sizes = np.array([0.0, 9e-7, 1e-6, 1e-4, 0.01, 1.0, 16.0])
root = ops.signed_sqrt(sizes)
(of_root,) = ops.sigmoid_vjp(np.ones_like(root), root)
(of_score,) = ops.signed_sqrt_vjp(of_root, sizes)
for size, sigmoid_factor, slope in zip(sizes, of_root, of_score, strict=True):
    print(f"score {size:7g}   sigmoid {sigmoid_factor:.4f}   both {slope:10.4f}")
assert of_score[:2].tolist() == [0, 0] and np.isclose(of_score[2], 125, rtol=1e-5)
assert np.allclose(of_score[2:], of_root[2:] / (2 * np.sqrt(sizes[2:])))

# %% [markdown]
# From the score we reach the key: $s^{(m)} = \langle q^{(m)}, \mathrm{RMSNorm}(k^{(m)}) \rangle / \sqrt D$, with the
# normalised state $q$. A norm removes the length of its input. So a longer key has the same score, and the gradient has
# no part in the direction of the key: $\langle dk, k \rangle = 0$.

# %%
dalpha, dv = ops.apply_gate_vjp(du, alpha, v)
(dr,) = ops.sigmoid_vjp(dalpha, ops.signed_sqrt(s))
(ds,) = ops.signed_sqrt_vjp(dr, s)
assert np.allclose(ds, dalpha * alpha * (1 - alpha) / (2 * np.sqrt(np.abs(s))))

dnormed = ops.score_vjp(ds, trace["query_norm"], trace["key_norm"])[1]
dk = ops.rms_norm_vjp(dnormed, k, parameters["key_gain"], tiny.norm_eps)[0]
cosines = (dk * k).sum(-1) / np.sqrt((dk**2).sum(-1) * (k**2).sum(-1))
print(f"largest cosine between a key and its gradient: {np.abs(cosines).max():.0e}")
assert np.abs(cosines).max() < 1e-10

# %% [markdown]
# ### To the rows
#
# Key and value are linear in the memory: $k^{(m)} = W_K^{(m)} e$ and $v = W_V e$, plus biases. Backwards, the
# transposed matrices apply, and the contributions of the value and of all keys are added:
#
# $$ de = W_V^T\, dv + \sum_m W_K^{(m)T}\, dk^{(m)} $$
#
# The memory is the concatenation of the rows, so cutting $de$ into pieces gives one upstream per row. The last step is
# the sum over equal rows from the beginning of this page.

# %%
by_value = dv @ parameters["value_weight"]                 # [1, T, C*W]
by_gate = np.einsum("btmd,mdi->bti", dk, parameters["key_weight"])
de = by_value + by_gate
pieces = de.reshape(1, T, tiny.columns, tiny.row_width)
dE = ops.gather_vjp(pieces, parameters["table"], rows, parameters["column_offsets"])[0]


def length(array: np.ndarray, t: int) -> float:
    """Length of the vector of position t"""
    return float(np.sqrt((array[0, t] ** 2).sum()))


chain = {"dY": dY, "du": du, "dalpha": dalpha, "ds": ds, "dk": dk, "dv": dv,
         "de through the value": by_value, "de through the gate": by_gate, "de": de}
print(f"{'gradient':22}{'shape':14}length at the first 'Great'")
for name, array in chain.items():
    print(f"{name:22}{array.shape[1:]!s:14}{length(array, 2):.3f}")
first, second = (flat + parameters["column_offsets"] for flat in rows[0, [2, 15]])
same = (first == second).sum()
print(f"{rows.size} reads, {len(dE.rows)} different rows; the two phrases share {same}")

# %% tags=["fold"]
assert (rows[0, 1:3] == rows[0, 14:16])[1].all() and len(dE.rows) < rows.size
at = np.searchsorted(dE.rows, first)
assert (dE.rows[at] == first).all() and np.allclose(dE.values[at], pieces[0, 2] + pieces[0, 15])

# %% [markdown]
# Both occurrences of the phrase read the same eight rows, in different contexts. The gradient of each of these rows is
# the sum of the pieces from positions 2 and 15.
#
# What remains if the gate is flat? A state of zeros has the score 0, inside the clamp. Then nothing passes through the
# gate at that position, but the gradient through the value does not depend on the slope of the gate, and the rows are
# still trained:

# %%
blank = hidden.copy()
blank[0, 2] = 0                                            # the state at the first "Great"
flat = Trace()
engram(parameters, blank, rows, tiny, trace=flat)
dalpha_flat, dv_flat = ops.apply_gate_vjp(du, flat["gate"], flat["value"])    # the same upstream
(dr_flat,) = ops.sigmoid_vjp(dalpha_flat, ops.signed_sqrt(flat["score"]))
(ds_flat,) = ops.signed_sqrt_vjp(dr_flat, flat["score"])
print("gates", flat["gate"][0, 2], " ds", ds_flat[0, 2])
print(f"length of dv {length(dv_flat, 2):.3f}")
assert not ds_flat[0, 2].any() and (flat["gate"][0, 2] == 0.5).all() and length(dv_flat, 2) > 1

# %% [markdown]
# ## A tape does this for you
#
# All steps above follow one pattern: take the ops in reverse order, and call the VJP of each. A *tape* automates it.
# `tape.NAMESPACE` has the same ops as NumPy's namespace. An op that receives a `tape.Value` also records its inputs.
# The module runs unchanged:

# %%
wanted = {name: tape.Value(array) for name, array in parameters.items() if array.dtype.kind == "f"}
output = engram({**parameters, **wanted}, hidden, rows, tiny, ops=tape.NAMESPACE)
found = tape.gradients(output, dY, wanted)
print(*found)
difference = np.abs(found["table"].values - dE.values).max() / np.abs(dE.values).max()
print(f"largest difference between the tape and the steps by hand: {difference:.0e}")
assert (found["table"].rows == dE.rows).all() and difference < 1e-13

# %% [markdown]
# One call returns the gradients of all parameters. A computation that is not recorded would be missing from the
# gradients without a warning. Therefore a `Value` has no arithmetic of its own: `output + 1` raises a `TypeError`,
# while `tape.NAMESPACE.add(output, 1)` is recorded.

# %% tags=["fold"]
try:
    output + 1
    raise RuntimeError("a value was added outside the namespace")
except TypeError:
    pass
assert np.array_equal(tape.NAMESPACE.add(output, 1.0).array, Y + 1)

# %% [markdown]
# ## Is the gradient right?
#
# A gradient can be checked without calculus: change the parameters a little and measure how the loss changes. Let
# $f(h)$ be the loss after all numbers of the table have moved by $h$ times a random direction $d$. By the chain rule
# $f'(0) = \langle \text{gradient}, d \rangle$, so one number checks all rows at once. There are two usual
# approximations of $f'(0)$:
#
# $$
# \begin{align*}
# \text{forward difference} \qquad & \frac{f(h) - f(0)}{h} \\
# \text{central difference} \qquad & \frac{f(h) - f(-h)}{2h}
# \end{align*}
# $$
#
# Which $h$ is best? There are two errors. The *truncation* error is what the approximation neglects; by Taylor's
# formula it is $\frac{h}{2} f''$ for the forward and $\frac{h^2}{6} f'''$ for the central difference. It grows with
# $h$. The *rounding* error comes from the computation of $f$. In float64 a result has a relative error of about $u =
# 2^{-53} \approx 10^{-16}$, and this error is divided by $h$, so it grows as $h$ *shrinks*. If $f$, $f''$ and $f'''$
# are of similar size, the sum of both errors is about $h + u/h$ or $h^2 + u/h$, and the best steps are
#
# $$
# \begin{align*}
# \text{forward:} \quad & h \approx u^{1/2} \approx 10^{-8} \\
# \text{central:} \quad & h \approx u^{1/3} \approx 5 \cdot 10^{-6}
# \end{align*}
# $$

# %%
def f(h: float, direction: np.ndarray) -> float:
    """The loss after a change of the table"""
    moved = {**parameters, "table": parameters["table"] + h * direction}
    return float(0.5 * ((engram(moved, hidden, rows, tiny, check=False) - Z) ** 2).sum())


directions = rng.standard_normal((20, *parameters["table"].shape))
exact = np.array([(dE.dense() * direction).sum() for direction in directions])
steps = np.logspace(-11, -3, 33)
here = f(0, directions[0])
ahead = np.array([[f(h, d) for d in directions] for h in steps])
behind = np.array([[f(-h, d) for d in directions] for h in steps])


def error(estimates: np.ndarray) -> np.ndarray:
    """Relative error, root mean square over the directions"""
    return np.sqrt(((estimates - exact) ** 2).mean(axis=1) / (exact**2).mean())


forward = error((ahead - here) / steps[:, None])
central = error((ahead - behind) / (2 * steps[:, None]))
for name, errors in (("forward", forward), ("central", central)):
    print(f"{name}: best step {steps[errors.argmin()]:.0e}, error {errors.min():.0e}")

# %% tags=["fold"]
unit = 2.0**-53
best = {"forward": steps[forward.argmin()], "central": steps[central.argmin()]}
for name, exponent in (("forward", 1 / 2), ("central", 1 / 3)):
    assert 1 / 6 < best[name] / unit**exponent < 6
assert central.min() < 1e-8 < forward.min()


def slope(errors: np.ndarray, low: float, high: float) -> float:
    """Exponent of the error between two steps"""
    used = (steps >= low) & (steps <= high)
    return np.polyfit(np.log(steps[used]), np.log(errors[used]), 1)[0]


assert abs(slope(central, 1e-11, 1e-7) + 1) < 0.15 and abs(slope(central, 3e-5, 1e-3) - 2) < 0.15
assert abs(slope(forward, 1e-11, 1e-9) + 1) < 0.3 and abs(slope(forward, 1e-6, 1e-3) - 1) < 0.1

fig, ax = plt.subplots(figsize=(6.2, 3.4))
ax.loglog(steps, forward, marker="s", markersize=3, color="C1", linestyle="--", label="forward difference")
ax.loglog(steps, central, marker="o", markersize=3, color="C0", linestyle="-", label="central difference")
for exponent, label in ((1 / 2, "$u^{1/2}$"), (1 / 3, "$u^{1/3}$")):
    ax.axvline(unit**exponent, color="C5", linestyle=":", linewidth=1)
    ax.text(unit**exponent * 1.25, 2e-10, label, fontsize=9)
ax.text(2.5e-11, 2e-6, "rounding:\n$u/h$", fontsize=9, va="top")
ax.text(1.2e-4, 3e-7, "truncation:\n$h^2$", fontsize=9, va="top")
ax.set(xlabel="step h", ylabel="relative error of the derivative", ylim=(1e-10, 1e-1),
       title="The best central step is near the cube root of the rounding error")
ax.legend(loc="upper left", fontsize=8)
fig.set_label("Error of a derivative against the step, both axes logarithmic. The central difference forms a V: the "
              "error falls as 1/h to about 1e-9 near a step of 1e-6, then rises as the square of h. The forward "
              "difference has its lowest error, near 2e-7, at a step near 1e-8, then rises in proportion to h.")

# %% [markdown]
# Both sides of the V have the predicted exponents. The best central step is a few times smaller than $u^{1/3}$ because
# $f'''$ is larger than $f$ here: some scores are near zero, where the gate is steep. The smallest error of the central
# difference is over a hundred times smaller than that of the forward difference, for one more evaluation of the loss. A
# smaller step is not always better: at $10^{-11}$ the error is about $10^{-4}$, so only four digits are right.
#
# Two rules for tests follow. Use central differences in float64. In float32, $u$ is $6 \cdot 10^{-8}$, so the error is
# about $u^{2/3} \approx 10^{-5}$ at best, and a mistake of that size goes unnoticed. And do not cross an edge: the
# formulas assume that $f$ is smooth between $-h$ and $h$. At the edge of the clamp it is not, as exercise 2 shows.

# %% tags=["fold"]
assert 100 < forward.min() / central.min() < 500 and 3e-5 < central[0] < 3e-4
third = 6 * np.sqrt(((ahead - behind)[-1] / (2 * steps[-1]) - exact).var()) / steps[-1] ** 2
assert third > 10 * here                                   # the size of the third derivative
assert 1 < unit ** (1 / 3) / best["central"] < 6
assert f"{2.0**-24:.0e}" == "6e-08" and 1e-5 < (2.0**-24) ** (2 / 3) < 2e-5

# %% [markdown]
# ## Exercises
#
# **1.** A port computes the gradient of the table with `gradient[rows] += pieces`. How many rows of the text above
# receive a wrong gradient? Which n-grams read them?
#
# ??? tip "Hint"
#     The phrase occurs twice. Which 2-grams and 3-grams occur twice with it? Each reads four rows.

# %% tags=["answer"]
flat_rows = (rows + parameters["column_offsets"])[0]       # [T, C]
careless = np.zeros_like(parameters["table"])
careless[flat_rows.ravel()] += pieces.reshape(-1, tiny.row_width)
wrong = np.flatnonzero((np.abs(careless - dE.dense()) > 1e-12).any(axis=1))
twice = [row for row in dE.rows if (flat_rows == row).sum() > 1]
assert wrong.tolist() == twice
reads_of = [(flat_rows == row).any(axis=1) for row in wrong]
readers = Counter(tuple(np.flatnonzero(read).tolist()) for read in reads_of)
for positions, count in readers.items():
    print(f"{count} rows are read at positions {positions}")
assert readers == {(1, 14): 3, (1, 8, 14): 1, (2, 15): 8, (11, 16): 1} and len(wrong) == 13

# %% [markdown] tags=["answer"]
# Thirteen. Twelve of them belong to the phrase: "Alexander the" reads four rows at positions 1 and 14, and "the Great"
# with its 3-gram reads eight at 2 and 15. A collision also counts as a second read. The 2-gram at position 8 shares one
# of the four rows of "Alexander the", and the 3-grams at positions 11 and 16 share a row, the thirteenth.

# %% [markdown]
# **2.** A test checks the gate at a score of $5 \cdot 10^{-7}$ with a central difference and $h = 10^{-5}$. It finds a
# slope of about 79, but the VJP returns 0. Which one is right?
#
# ??? tip "Hint"
#     Which scores does the test evaluate? Where is the gate flat?

# %% tags=["answer"]
def gate_slope(score: float, h: float) -> float:
    """Central difference of the demo's gate"""
    low, high = ops.gate(np.array([[[score - h, score + h]]]), "signed_sqrt").ravel()
    return float(high - low) / (2 * h)


for h in (1e-5, 1e-6, 1e-7):
    print(f"h = {h:.0e}: slope {gate_slope(5e-7, h):8.3f}")
assert round(gate_slope(5e-7, 1e-5)) == 79 and gate_slope(5e-7, 1e-7) == 0
assert gate_slope(5e-7, 1e-6) > 100

# %% [markdown] tags=["answer"]
# The VJP. The test evaluates scores on both sides of the clamp, and across the jump of the gate at 0. With $h =
# 10^{-7}$ both scores lie inside the clamp, and the difference is exactly 0. A test of gradients has to leave out
# scores within $h$ of an edge, or to use a smaller step there.

# %% [markdown]
# Next: [two optimisers, two kinds of parameter](18_two_optimisers.md), which use these gradients.
