# %% [markdown]
#
# # Decoding: what must be remembered
#
# ## What you will be able to do
#
# - list what a model with Engram must keep between two tokens, and what each part costs;
# - say what becomes of the logits when one part is lost;
# - take back rejected drafts, follow several continuations, and serve texts of different lengths together.
#
# ## The state of a stream
#
# *Decoding* means to write on: the model reads a text, gives a score (a *logit*) for every possible next token, one is
# chosen, appended, and so on. To read all of it anew for every token would be waste. Most parts of a model look at one
# position only: norms, experts, gates, hyper-connections. Three look back, and their past must be kept:
#
# - attention reads a latent `c_kv` and a rotary key `k_pe` of every earlier token, in every layer ([MLA](09_mla.md));
# - Engram's n-grams, at most $N$ long, need the last $N-1$ `canonical_ids`: the *history* ([hash](03_hash_by_hand.md));
# - Engram's convolution, of $L$ weights $\delta$ apart, needs the last $(L-1)\,\delta$ normalised gated values,
#   `conv_norm`: the *taps* ([convolution](06_short_conv.md)).
#
# And there is a number: how many tokens were seen. It says at which *position* the next one stands. `DecodeState`
# holds all of it. We take the tiny model, with random weights, and 34 tokens.

# %%
import functools

import matplotlib.pyplot as plt
import numpy as np

from engram_ref import Addressing, Vocabulary, ops, preset
from engram_ref.backends import replace
from engram_ref.model.generate import generate
from engram_ref.model.state import DecodeState
from engram_ref.model.transformer import forward
from engram_ref.model.tree import initialise
from engram_ref.model_presets import model_preset

config = model_preset("tiny")
parameters = initialise(config, np.random.default_rng(12))
logits_of = functools.partial(forward, parameters, config=config)
vocabulary = Vocabulary.load("deepseek-v4")
ids = vocabulary.encode(
    "Only Alexander the Great could tame the horse Bucephalus. Only Alexander the Great saw "
    "that it was afraid of its own shadow, and turned it towards the sun.")
T, cut = len(ids), 16
whole = logits_of(ids)                                           # [T, V], all at once
state = DecodeState.start(batch=1)
logits_of(ids[None, :cut], state=state)
print("tokens seen:", state.lengths)
for name, cache in state.caches.items():
    print(f"{name:20} {cache.shape}")
assert T == 34 and {cache.shape[:2] for cache in state.caches.values()} == {(1, cut)}
assert (config.engram.max_ngram - 1, config.engram.conv_span) == (2, 9)

# %% [markdown]
# Every cache has one slot a position, its second axis. The model needs the last 2 ids and the last 9 taps only; this
# state keeps all, so that we can go back as far as we like.
#
# ## Any cut gives the same logits
#
# This is what to test a port on: cut the text anywhere, even into empty pieces, and the logits are those of the whole.

# %%
cuts = {"at once": [], "in two": [cut], "odd pieces": [5, 5, 15], "one by one": range(1, T)}
for name, at in cuts.items():
    for absorbed in (False, True):                               # both forms of attention
        state, pieces = DecodeState.start(1), np.split(ids[None], at, axis=1)
        found = [logits_of(piece, state=state, absorbed=absorbed) for piece in pieces]
        error = abs(np.concatenate(found, axis=1)[0] - whole).max()
        assert error < 1e-12
    print(f"{name:12} largest difference {error:.0e}")

# %% [markdown]
# ## Forgetting, measured
#
# Now we lose one part after 16 tokens and read the other 18. A lost history reads "before the stream" (-1), lost taps
# and latents become zeros. To lose the positions means to count from 0 again: new tokens then stand 16 positions too
# close to the old ones, as if the old keys were turned on by 16. We also count how often another token comes out best.

# %%
attention = config.backbone.attention
frequency = ops.frequencies(attention.qk_rope_head_dim, attention.rope_theta)
turn_on = ops.angles(np.full((1, cut), cut), frequency)
losses = {
    "history": ("canonical_ids", lambda cache: np.full_like(cache, ops.DEAD)),
    "taps": ("conv_norm", np.zeros_like),
    "latents": (("c_kv", "k_pe"), np.zeros_like),
    "positions": ("k_pe", lambda cache: ops.rotate(cache, turn_on))}
errors = {}
for lost, (names, damage) in losses.items():
    state = DecodeState.start(1)
    logits_of(ids[None, :cut], state=state)
    state.caches |= {n: damage(c) for n, c in state.caches.items() if n.endswith(names)}
    found = logits_of(ids[None, cut:], state=state)[0]
    errors[lost] = np.sqrt(((found - whole[cut:]) ** 2).mean(axis=-1))
    others = (found.argmax(-1) != whole[cut:].argmax(-1)).sum()
    print(f"{lost:9} mean error {errors[lost].mean():.2f}, another best {others:2} of 18")
    assert others > 4 and 0.99 < whole.std() < 1.01

# %% tags=["fold"]
fig, ax = plt.subplots(figsize=(6.2, 3.2))
for lost, error in errors.items():
    ax.semilogy(np.arange(T - cut), error, label=lost)
ax.axvline(10.5, color="C5", linestyle=":", linewidth=1)
ax.text(10.7, 1, "from here on one layer\nalone would be right again", fontsize=8, va="top")
ax.set(xlabel="position after the loss", ylabel="error of the logits (their size: 1)",
       xticks=range(0, 18, 5), ylim=(0.01, 1.3),
       title="After a loss the errors shrink, but none of them reaches zero")
ax.legend(loc="lower left", ncols=2)
fig.set_label("Error of the logits at 18 positions after the loss, logarithmic. Lost history "
              "is near 1 for two positions. After that all curves stay between 0.01 and 0.6, and are "
              "lower in the last six positions than in the first six.")
assert all(e.min() > 0.01 and e[-6:].mean() < 0.7 * e[:6].mean() for e in errors.values())
assert errors["history"][:2].min() > 2 * errors["history"][2:].max()
assert errors["history"][:2].min() > max(errors[n][:2].max() for n in list(errors)[1:])
assert max(e[2:].max() for e in errors.values()) < 0.6
assert min(errors, key=lambda lost: errors[lost].mean()) == "taps"

# %% [markdown]
# In [the convolution's tutorial](06_short_conv.md) one layer alone was right again after eleven positions. In a whole
# model the errors shrink, but 18 positions later all four losses still show: latents made from wrong states stay in the
# cache, and attention goes on reading them. So test the logits *right* after a cut. A lost history is loudest there:
# two tokens read wrong rows. Lost taps are quietest.
#
# ## Padding is not nothing
#
# Texts of a batch differ in length. Suppose we fill short ones up on the *left* with the padding token (id 2). Engram's
# rows do not mind: a window before the stream shows padding anyway. But attention reads these tokens, and so does the
# convolution. So fill up on the right, and say with `counts` how many ids are real. The rest then changes nothing.

# %%
canonical, addressing = vocabulary.canonical, Addressing(config.engram)
left = np.concatenate([[2, 2, 2], ids])
for layer in config.engram.layer_ids:
    rows, padded = (addressing.rows(canonical[stream], layer) for stream in (ids, left))
    assert (padded[3:] == rows).all()
error = (logits_of(left)[3:] - whole).std()
print(f"padding on the left: same rows, but logits off by {error:.2f}")
assert 0.3 < error < 0.6
counts = [T, 5, 0]                                               # row 2 is finished
for fill in (2, 60_000):
    batch = np.where(np.arange(T) < np.array(counts)[:, None], ids, fill)
    state = DecodeState.start(batch=3)
    found = logits_of(batch, state=state, counts=counts)
    assert np.allclose(found[0], whole) and np.allclose(found[1, :5], whole[:5])
    assert state.lengths.tolist() == counts
print("padding on the right:", state.lengths, "tokens seen, logits as alone")

# %% [markdown]
# A *dead* position, say a part of an image, hides itself and all that is older. Its mark must survive in the history:
# with padding in its place the next 3-gram reaches behind it. Of the eight rows below the last four are then wrong.

# %%
with_mark, without = (addressing.rows(canonical[ids[4:5]], 1, history)[0]
                      for history in np.array([[5, ops.DEAD], [5, addressing.pad_id]]))
print("rows with the mark", with_mark, "\nrows with padding ", without)
assert ((with_mark != without) == ([False] * 4 + [True] * 4)).all()
dead = np.arange(T) == cut - 1                                   # cut right behind it
state = DecodeState.start(1)
pieces = [logits_of(ids[None, part], state=state, dead=dead[None, part])
          for part in (slice(0, cut), slice(cut, T))]
assert np.allclose(np.concatenate(pieces, axis=1)[0], logits_of(ids, dead=dead))

# %% [markdown]
# ## Drafts and rollback
#
# *Speculative decoding* lets something cheap guess a few tokens; the model reads all of them in one call and keeps
# those that it would have chosen itself. The rest must be forgotten. Slots after a row's end mean nothing here, so that
# is one subtraction for latents, ids and taps. A server that takes back its latents only goes on with wrong rows.

# %%
truth = generate(parameters, ids, config, new_tokens=6)          # what it would write
drafts = truth[:4] + np.array([0, 0, 1, 0])                      # the third guess is wrong
state = DecodeState.start(1)
choices = [logits_of(ids[None], state=state)[0, -1].argmax()]
choices += logits_of(drafts[None], state=state)[0].argmax(axis=-1).tolist()
accepted = int(np.append(drafts == choices[:4], False).argmin())  # up to the first mistake
forgetful = state.fork()                                         # shares what is stored
assert all(forgetful.caches[name] is cache for name, cache in state.caches.items())
state.rollback(4 - accepted)
print(f"{accepted} drafts accepted, then comes {choices[accepted]}")
assert accepted == 2 and choices[:3] == truth[:3].tolist() and state.lengths[0] == T + 2
right = logits_of(truth[None, 2:4], state=state)[0]
expected = logits_of(np.concatenate([ids, truth[:4]]))[-2:]
assert np.allclose(right, expected) and (right.argmax(-1) == truth[3:5]).all()

seen = forgetful.caches["canonical_ids"].copy()
seen[:, T:T + 2] = seen[:, T + 2:T + 4]                          # rejected, but seen last
forgetful.rollback(2)
forgetful.caches["canonical_ids"] = seen
error = (logits_of(truth[None, 2:4], state=forgetful)[0] - right).std()
print(f"error with the drafts left in the history: {error:.2f}")
assert error > 0.3

# %% [markdown]
# ## Fork and reorder
#
# *Beam search* follows the few best continuations at once. After every step the best new ones may all come from one old
# beam, and others die. `reorder` makes the batch anew from these parents, all that is remembered included. (`fork`
# makes a second state. Both share what is stored, and each copies it before it writes.)

# %%
def log_softmax(x: np.ndarray) -> np.ndarray:
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))

state, newest = DecodeState.start(1), ids[None]
beams, totals = np.zeros((1, 0), dtype=np.int64), np.zeros(1)
for _ in range(4):
    scores = totals[:, None] + log_softmax(logits_of(newest, state=state)[:, -1])
    best = np.argsort(-scores, axis=None, kind="stable")[:3]
    parents, tokens = np.divmod(best, scores.shape[1])
    state.reorder(parents)
    newest, totals = tokens[:, None], scores.flat[best]
    beams = np.concatenate([beams[parents], newest], axis=1)
    print("parents", parents, "log-probabilities", totals.round(2))

def alone(tokens: np.ndarray) -> float:
    steps = log_softmax(logits_of(np.concatenate([ids, tokens])))
    return steps[np.arange(T - 1, T + 3), tokens].sum()

assert np.allclose([alone(beam) for beam in beams], totals)
assert totals.min() > alone(truth[:4])

# %% [markdown]
# Each beam's sum is that of a separate run. Here all three beat the greedy text, which takes the best token every time.
#
# ## What it costs
#
# For the paper's 27B model, with 2 bytes a number and 8 an id: latents grow by 34,560 bytes with every token. The taps
# of two Engram layers are 368,640 bytes, the history is 16, however long the text.

# %%
big = model_preset("engram-27b")
a, e = big.backbone.attention, big.engram
latents = 2 * big.backbone.n_layers * (a.kv_lora_rank + a.qk_rope_head_dim)
taps = 2 * len(e.layer_ids) * e.conv_span * e.n_branches * e.hidden_size
history = 8 * (e.max_ngram - 1)
assert (latents, taps, history) == (34_560, 368_640, 16)
assert taps // e.conv_span == 40_960 > latents                   # the taps of one token
assert (taps + history) / (32_768 * latents) < 0.0004

# %% [markdown]
# In time, only attention's part grows: it reads all latents. Everything else computes with the new token alone, and its
# entries are written into the caches in place. To see that, we replace `append`, the op that writes, by a function
# that also counts the numbers it is given ([Backends](../reference/backends.md#replace-an-op)).

# %%
def numbers_written(position: int) -> int:
    """By the step of one token at a position, into caches that the steps before it made."""
    written, text, state = [], np.resize(ids, (1, position + 1)), DecodeState.start(1)

    def append(cache: np.ndarray, new: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        written.append(new.size)
        return ops.append(cache, new, lengths)

    logits_of(text[:, :position], state=state)
    logits_of(text[:, position:], state=state, ops=replace(ops, append=append))
    return sum(written)

print("at position 10:", numbers_written(10), "numbers; at position 1,000:", numbers_written(1_000))
assert numbers_written(10) == numbers_written(1_000) > 0

# %% tags=["fold"]
fig, ax = plt.subplots(figsize=(6.2, 2.9))
tokens = np.geomspace(1, 32_768, 200)
ax.loglog(tokens, latents * tokens, label="latents of 30 layers")
ax.loglog(tokens, np.full(200, taps), label="taps of two Engram layers")
ax.loglog(tokens, np.full(200, history), label="history")
ax.set(xlabel="tokens seen", ylabel="bytes", ylim=(4, 5e9),
       title="From the 11th token on the latents outweigh what Engram keeps")
ax.legend(fontsize=8, loc="upper left")
fig.set_label("Bytes kept against tokens seen, both logarithmic. Latents grow to 1.1 "
              "billion at 32,768 tokens; taps stay at 369 thousand, history at 16.")
assert 10 * latents < taps + history < 11 * latents and f"{32_768 * latents / 1e9:.1f}" == "1.1"

# %% [markdown]
# At 32,768 tokens Engram's part is less than 0.04% of the latents. (The taps of *all* tokens would be more than these,
# 40,960 bytes a token: keeping everything, as we do here, is for study.)
#
# ## Generate
#
# `generate` is the loop that all this was for. At temperature 0 it takes the best token. Above 0 it draws one by
# $\mathrm{softmax}(\mathrm{logits} / \mathrm{temperature})$, from the random generator it is given and no other.

# %%
slow = ids
for _ in range(6):
    slow = np.append(slow, logits_of(slow)[-1].argmax())         # the whole text every time
assert (slow[T:] == truth).all()
one, same, two = (generate(parameters, ids, config, 6, temperature=0.5,
                           rng=np.random.default_rng(seed)) for seed in (1, 1, 2))
assert (one == same).all() and (one != two).any()
print("greedy", truth, "\ndrawn ", one)

# %% [markdown]
# ## Where the paper, the demo or a release does otherwise
#
# DeepSeek-V4.1-Flash has no convolution: its Engram keeps three ids and no taps. Qwen starts its windows afresh after
# the token that ends a document, so ids from before it change nothing.

# %%
flash, qwen = preset("deepseek-v4.1-flash"), preset("qwen4exp-ple")
histories = np.array([[5, qwen.eos_id], [6, qwen.eos_id]])
rows = Addressing(qwen).rows(np.array([[7], [7]]), 2, histories)
assert (flash.max_ngram - 1, flash.conv_span) == (3, 0) and (rows[0] == rows[1]).all()

# %% [markdown]
# ## Exercise
#
# A server for the 27B model stores nothing but what it must. It reads four drafts in one call and may have to take back
# all of them. How many ids and how many taps must it store after that call?
#
# ??? tip "Hint"
#     After the rollback it needs 2 ids and 9 taps. Which four are thrown away?

# %% tags=["answer"]
stream = canonical[np.concatenate([ids, drafts])]
needed = e.max_ngram - 1 + 4, e.conv_span + 4
left = stream[-needed[0]:][:-4]                                  # the drafts taken back
print("ids and taps:", needed, "- what is left must still be a whole history")
assert needed == (6, 13) and (left == canonical[ids[-2:]]).all()

# %% [markdown]
# Next: [Counting 27 billion parameters](13_counting.md).
