# %% [markdown]
# # Break a port, and let the kit find it
#
# ## What you will be able to do
#
# - check a port of Engram in Python with four functions, and read what they report;
# - explain why a test with random data and a tolerance of 1e-2 passes ports that are wrong;
# - choose inputs that show a bug in a gate, a codec, a window or a state;
# - reduce a failure of a decoder to the two or three calls that show it.
#
# A *port* is a reimplementation in another language or framework. We write four small parts of one in NumPy, check
# that they are right, and then break each of them. The bugs are not invented: each was found in public code.

# %%
from collections.abc import Callable
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np

from engram_ref import Addressing, EngramState, engram, ops, preset
from engram_ref.model.engram_parameters import initialise
from engram_ref.oracle.bugs import namespace_with
from engram_ref.oracle.run import Adapter
from engram_ref.oracle.verify import verify_case
from engram_ref.testing import check_rows, check_streaming, port_cases

rng = np.random.default_rng(16)
v41 = preset("deepseek-v4.1-flash")


def report(check: Callable[[], None]) -> str:
    """The report of a check"""
    try:
        check()
    except AssertionError as error:
        return str(error)
    return "no difference"


# %% [markdown]
# ## Rows
#
# First the rows that DeepSeek-V4.1 reads in its layer 1: a window of four ids, a mix per order, and a remainder per
# head ([tutorial 03](03_hash_by_hand.md)). The port takes the ids of a chunk and the *history*, the three ids before
# it. A DEAD id (-1) hides itself and everything older.

# %%
constants = Addressing(v41)
multipliers, pad = constants.multipliers[1], constants.pad_id
primes = constants.primes[1].reshape(v41.max_ngram - 1, v41.n_heads)


def windows(ids: np.ndarray, history: np.ndarray) -> np.ndarray:
    """The last N ids at each position, newest first: [B, T, N]"""
    T, N = ids.shape[1], history.shape[1] + 1
    text = np.concatenate([history, ids], axis=1)
    shifted = [text[:, N - 1 - i : N - 1 - i + T] for i in range(N)]
    window = np.stack(shifted, axis=-1)
    hidden = np.logical_or.accumulate(window == ops.DEAD, axis=-1)
    return np.where(hidden, pad, window)


def rows(ids: np.ndarray, history: np.ndarray) -> np.ndarray:
    """The rows of layer 1: [B, T, C]"""
    products = windows(ids, history) * multipliers
    mixes = np.bitwise_xor.accumulate(products, axis=-1)[..., 1:]
    return (mixes[..., None] % primes).reshape(*ids.shape, primes.size)


print(report(lambda: check_rows(rows, v41)))

# %% tags=["fold"]
assert report(lambda: check_rows(rows, v41)) == "no difference"

# %% [markdown]
# `check_rows` calls the port with a hundred short texts and compares all rows with the definition. Among them are texts
# with no token or only one, DEAD ids, the first and the last id, and histories of every length.
#
# The first bug is from an adapter library: a 2-gram is taken from the wrong end of the window. It hashes the two
# *oldest* ids instead of the two newest, so the current token has no effect.

# %%
def late_rows(ids: np.ndarray, history: np.ndarray) -> np.ndarray:
    """Rows with the oldest n of the N ids in an n-gram"""
    window, N = windows(ids, history), v41.max_ngram
    grams = [window[..., N - n :] * multipliers[:n] for n in range(2, N + 1)]
    mixes = np.stack([np.bitwise_xor.reduce(gram, axis=-1) for gram in grams], axis=-1)
    return (mixes[..., None] % primes).reshape(*ids.shape, primes.size)


late = report(lambda: check_rows(late_rows, v41))
print(late)

# %% tags=["fold"]
assert "`window-late`" in late
assert "shortest inputs: ids [[" in late

# %% [markdown]
# The report has four parts: how many rows differ, and which ones in terms of named axes; the worst element; the name of
# the bug in the [catalogue](../oracle/bugs.md); and the shortest text with a difference. A comparison of two arrays
# would have failed too, but without this information. `engram-ref check --explain window-late` prints where this
# mistake was found and how to recognise it.
#
# ## The gate
#
# V4.1's gate is $\sigma(\mathrm{copysign}(\sqrt{\max(|s|, 10^{-6})}, s))$ ([tutorial 05](05_gate.md)). The demo's uses
# `sign`, the paper's no root at all. `port_cases` returns the cases of an op from the golden vectors of the package.
# They are also in the kit that `engram-ref kit DIR` writes for other languages.

# %%
def sigmoid(x: np.ndarray) -> np.ndarray:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def gate(s: np.ndarray, form: str, dead: np.ndarray | None = None) -> np.ndarray:
    """The gate of each branch: [B, T, M]"""
    size = np.sqrt(np.maximum(np.abs(s), 1e-6))
    roots = {"sigmoid": s, "signed_sqrt": np.sign(s) * size,
             "copysign_sqrt": np.copysign(size, s)}
    alpha = sigmoid(roots[form])
    return alpha if dead is None else np.where(dead[..., None], 0, alpha)


def careless_gate(s: np.ndarray, form: str, dead: np.ndarray | None = None) -> np.ndarray:
    """The sign comes from a comparison, for which -0.0 is not negative"""
    if form != "copysign_sqrt":
        return gate(s, form, dead)
    size = np.sqrt(np.maximum(np.abs(s), 1e-6))
    alpha = sigmoid(np.where(s < 0, -size, size))
    return alpha if dead is None else np.where(dead[..., None], 0, alpha)


scores = rng.standard_normal((1, 4096, 4))
expected = ops.gate(scores, "copysign_sqrt")
found = careless_gate(scores, "copysign_sqrt")
print("N(0, 1) data, rtol = atol = 1e-2:", np.allclose(found, expected, 1e-2, 1e-2))
print("N(0, 1) data, no tolerance:      ", np.array_equal(found, expected))

# %% [markdown]
# The ordinary test passes, and a stricter tolerance would not help: on random scores the two functions are *equal*. No
# random score is exactly $-0$. The case has to be constructed:

# %%
wrong = [report(lambda case=case: case.check(careless_gate)) for case in port_cases("gate")]
failed = [text for text in wrong if text != "no difference"]
print(failed[0])

# %% tags=["fold"]
assert {report(lambda case=case: case.check(gate)) for case in port_cases("gate")} == {"no difference"}
assert np.allclose(found, expected, 1e-14, 0) and "`lt-for-copysign`" in failed[0] and "-0.0" in failed[0]

# %% [markdown]
# ## A codec
#
# The third part decodes a row: one byte per value in the format E4M3, and one byte per 32 values for the power of two
# that scales them, E8M0 ([tutorial 15](15_torch_and_cuda.md)). The byte 0 stands for $2^{-127}$, 255 for NaN. Shifting
# the byte into the exponent of a float32 appears to be equivalent.

# %%
def e4m3(codes: np.ndarray) -> np.ndarray:
    exponent, fraction = (codes >> 3 & 15).astype(int), (codes & 7) / 8
    size = np.where(exponent == 0, fraction * 2.0**-6, (1 + fraction) * 2.0 ** (exponent - 7))
    return np.where(codes & 127 == 127, np.nan, np.where(codes & 128, -size, size))


def decoder(e8m0: Callable[[np.ndarray], np.ndarray]) -> Callable:
    """The function that decodes a row, with a given meaning of the scale bytes"""
    def dequantise(codes: np.ndarray, scales: np.ndarray, dtype: type) -> np.ndarray:
        with np.errstate(all="ignore"):                  # NaN, and values beyond float32
            return (e4m3(codes) * np.repeat(e8m0(scales), 32, axis=-1)).astype(dtype)
    return dequantise


right = decoder(lambda byte: np.where(byte == 255, np.nan, 2.0 ** (byte.astype(int) - 127)))
shifted = decoder(lambda byte: (byte.astype(np.uint32) << 23).view(np.float32))

codes, scales = ops.quantise(rng.standard_normal((512, 64)).astype(np.float32))
close = np.allclose(shifted(codes, scales, float), right(codes, scales, float), 1e-2, 1e-2)
print("N(0, 1) data, rtol = atol = 1e-2:", close)
wrong = [report(lambda case=case: case.check(shifted)) for case in port_cases("dequantise")]
print(next(text for text in wrong if text != "no difference"))

# %% tags=["fold"]
assert close and {report(lambda case=case: case.check(right))
                  for case in port_cases("dequantise")} == {"no difference"}
assert any("`e8m0-shift`" in text and "scale byte" in text for text in wrong)

# %% [markdown]
# Rows of ordinary numbers never have the scale bytes 0 and 255; the cases have all 256.
#
# ## A decoder
#
# The fourth part is a wrapper that calls the module token by token. Its state is the *taps*, the last normalised gated
# values, which the short convolution reads ([tutorial 06](06_short_conv.md)). The wrapper below forgets them if a call
# has one token, as every call of a decoder does. A test that compares one long call cannot see this.

# %%
tiny = replace(preset("tiny"), conv_init="uniform")
parameters = initialise(tiny, layer_id=1, rng=rng)
fresh = lambda B: np.zeros((B, tiny.conv_span, tiny.n_branches, tiny.hidden_size))


def step(hidden: np.ndarray, rows: np.ndarray, dead: np.ndarray | None, taps: np.ndarray | None) -> tuple:
    """Y of the next tokens, and the taps after them"""
    state = EngramState(fresh(len(hidden)) if taps is None else taps)
    return engram(parameters, hidden, rows, tiny, state=state, dead=dead), state.taps


def forgetful(hidden: np.ndarray, rows: np.ndarray, dead: np.ndarray | None, taps: np.ndarray | None) -> tuple:
    return step(hidden, rows, dead, None if hidden.shape[1] == 1 else taps)


prompt = rng.standard_normal((1, 64, tiny.n_branches, tiny.hidden_size))
read = rng.integers(0, 500, (1, 64, tiny.columns))
once = [port(prompt, read, None, None)[0] for port in (step, forgetful)]
print("equal in one call of 64 tokens:", np.array_equal(*once))
lost = report(lambda: check_streaming(lambda B: forgetful, tiny, parameters, schedules=6))
print(lost)

# %% tags=["fold"]
assert report(lambda: check_streaming(lambda B: step, tiny, parameters, schedules=6)) == "no difference"
assert lost.count("feed T =") == 2 and "feed T = 1  WRONG" in lost
assert "`taps-ignored-T1`" in lost

# %% [markdown]
# `check_streaming` draws schedules: chunks of any length, rollbacks of rejected drafts, reordered rows of a batch,
# copies of a state. If one fails, it removes steps and tokens as long as the failure remains, and prints what
# is left. Two calls are enough here: some tokens, then one.
#
# ## What a tolerance of 1e-2 lets through
#
# The catalogue has more bugs of this kind. We compute the gates of 4,096 random states and keys with each of nine wrong
# versions, and compare the largest difference with the tolerance of an ordinary test. Then we count the cases of the
# gate and its norms that fail.

# %%
names = ("eps-1e-6", "eps-1e-5", "eps-outside", "clamp-missing", "clamp-add", "lt-for-copysign",
         "sign-for-copysign", "bf16-gate", "bf16-score")
M, D = v41.n_branches, 256
gains = {"query_gain": np.ones((M, D)), "key_gain": np.ones((M, D))}
states, keys = rng.standard_normal((2, 1, 1024, M, D))


def gates(namespace: object) -> np.ndarray:
    s = namespace.gate_score(gains, states, keys, v41)
    return namespace.gate(s, v41.gate_form)


cases = port_cases("gate", "gate_score", "factored_score", "inverse_rms", "copysign_sqrt")
largest, caught = {}, {}
for name in names:
    wrong_ops = namespace_with(name)
    largest[name] = abs(gates(wrong_ops) - gates(ops)).max()
    results = [verify_case(each.case, each.vectors, wrong_ops, Adapter(), False) for each in cases]
    caught[name] = sum(not result.ok for result in results)

# %% tags=["fold"]
assert max(largest.values()) < 1e-2 and min(caught.values()) >= 1 and len(names) == 9
unseen = [name for name in names if largest[name] == 0]
assert len(unseen) >= 3

fig, ax = plt.subplots(figsize=(6.4, 3.6))
for i, name in enumerate(names):
    size = max(largest[name], 1e-10)
    ax.plot([1e-10, size], [i, i], color="C0", linestyle="-", linewidth=1)
    ax.plot(size, i, "o", color="C0", markerfacecolor="none" if name in unseen else "C0")
    ax.text(2e-2, i, f"{caught[name]} of {len(cases)}", va="center", fontsize=8)
ax.axvline(1e-2, color="C1", linestyle="--")
ax.set(xscale="log", xlim=(5e-11, 1), yticks=range(len(names)), yticklabels=names,
       xlabel="largest error of a gate on N(0, 1) data (open: 0)",
       ylim=(len(names) - 0.5, -1),
       title="Nine wrong gates pass at 1e-2; the cases catch them all")
ax.text(2e-2, -0.6, "cases that fail", fontsize=8)
fig.set_label("Largest error of a gate on N(0, 1) data for nine bugs, on a logarithmic axis; all are below "
              "the dashed line at 1e-2, and some are exactly 0. Beside it, the number of golden cases "
              "that fail for each bug, at least one.")

# %% [markdown]
# The rest of the kit does the same for every other op, in four kinds of cases: plain ones, solved ones, schedules, and
# the shapes of released models. Integers must be equal. Floats must be as close as rounding in the precision of the
# answer explains.
#
# ## Exercises
#
# **1.** A port in float32 adds $10^{-6}$ to $|s|$ instead of taking the maximum (`clamp-add`). By how much can a gate
# differ, and at which score?
#
# ??? tip "Hint"
#     Both versions are equal at 0. Compare the roots at $|s| = 10^{-6}$.

# %% tags=["answer"]
s = np.geomspace(1e-9, 1e-3, 100_001).reshape(1, -1, 1)
added = sigmoid(np.sqrt(s + 1e-6))
error = abs(added - gate(s, "copysign_sqrt"))[0, :, 0]
print(f"at most {error.max():.1e}, at a score of {s[0, error.argmax(), 0]:.1e}")
assert np.isclose(error.max(), (np.sqrt(2) - 1) * 1e-3 / 4, rtol=1e-2)
assert np.isclose(s[0, error.argmax(), 0], 1e-6, rtol=1e-2)

# %% [markdown] tags=["answer"]
# At $|s| = 10^{-6}$ the roots are $\sqrt{2} \cdot 10^{-3}$ and $10^{-3}$. The slope of the sigmoid at 0 is 1/4, so the
# gates differ by about $1.0 \cdot 10^{-4}$: a hundredth of the tolerance.

# %% [markdown]
# **2.** A decoder keeps the history of its beams in one array and forgets to reorder it when beams change places. How
# many calls are needed to show this bug?
#
# ??? tip "Hint"
#     The beams must have read different tokens before they change places.

# %% tags=["answer"]
class Beams:
    """Rows of several beams; the history is not reordered"""

    def __init__(self, batch: int):
        self.history = constants.start(batch)

    def feed(self, ids: np.ndarray) -> np.ndarray:
        found = rows(ids, self.history)
        self.history = constants.advance(self.history, ids)
        return found

    def reorder(self, beams: list[int]) -> None:
        pass


stale = report(lambda: check_streaming(Beams, v41, actions=["feed", "reorder"]))
print(stale)
assert stale.count("feed T =") == 2 and "reorder [1, 0]" in stale and "`beam-reorder`" in stale

# %% [markdown] tags=["answer"]
# Three: a call that gives the beams different histories, the reordering, and a call that reads the wrong history.

# %% [markdown]
# To check a port of your own, see [test a port in Python](../oracle/python.md). Next: [backpropagation through a hash
# table](17_backpropagation.md).
