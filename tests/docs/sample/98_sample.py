# %% [markdown]
# # A sample: softmax in three cells
#
# You will be able to read a page: inline maths $p_i = e^{s_i} / \sum_j e^{s_j}$, a price of $5 and $6,
# code such as `$HOME`, and a display:
#
# $$
# \begin{align*}
# Y &= \operatorname{SiLU}\bigl(\operatorname{Conv1D}(\tilde V)\bigr) + \tilde V \\
# z &= \Bigl(\bigoplus_{i=0}^{n-1} x_{t-i}\, m_{i}\Bigr) \bmod P_{n,k}
# \end{align*}
# $$
#
# ```bash
# echo $HOME $PATH
# ```

# %%
import matplotlib.pyplot as plt
import numpy as np

from engram_ref.ops.gate import sigmoid

scores = np.array([0.0, 1.0, 2.0])
weights = np.exp(scores) / np.exp(scores).sum()
assert abs(weights.sum() - 1) < 1e-12
print("weights", weights.round(3))

# %% tags=["fold"]
x = np.linspace(-4, 4, 100)
fig, ax = plt.subplots()
for k in (1, 2, 4):
    ax.plot(x, sigmoid(k * x), label=f"slope {k}")
ax.set_title("A steeper slope makes the gate a switch")
ax.set_xlabel("score")
ax.legend()
fig.set_label("Three sigmoid curves from 0 to 1; the steeper, the closer to a step at zero.")

# %% [markdown]
# {{ diagram: layers | The modules of the package in layers. }}
#
# ## Exercise
#
# What does a shift of all scores by 1000 change?
#
# ??? tip "Hint"
#     Look at $e^{s_i + c} = e^{s_i} e^{c}$.

# %% tags=["answer"]
shifted = np.exp(scores - 2) / np.exp(scores - 2).sum()
assert np.allclose(shifted, weights)
print("nothing")

# %% [markdown] tags=["answer"]
# The factor $e^c$ cancels.
