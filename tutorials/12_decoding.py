# %% [markdown]
#
# # Decoding: what must be remembered
#
# ## What you will be able to do
#
# - list what a model with Engram must keep between two tokens, and what each part costs;
# - recognise from the logits which part was lost;
# - take back rejected drafts, follow several continuations, and serve texts of different lengths together.
#
# ## The state of a stream
#
# *Decoding* means to write on: the model reads a text, gives a score (a *logit*) for every possible next token, one
# is chosen, appended, and so on. To read the whole text anew for every token would be waste. Most parts of a
# model look at one position only: norms, experts, gates, hyper-connections. Three look back, and their past must be
# kept:
#
# - attention reads a latent `c_kv` and a rotary key `k_pe` of every earlier token, in every layer ([MLA](09_mla.md));
# - the n-grams of an Engram layer need the last $N-1$ canonical ids, its *history*
#   ([the hash](03_hash_by_hand.md));
# - its convolution needs the last $(L-1)\,\delta$ normalised gated values, its *taps*
#   ([the convolution](06_short_conv.md)).
#
# And there is a number: how many tokens were seen. It says at which *position* the next one stands. `DecodeState`
# holds all of it. We take the tiny model, with random weights, and 34 tokens.

# %%
import functools

import matplotlib.pyplot as plt
import numpy as np

from engram_ref import Addressing, Vocabulary, ops, preset
from engram_ref.model.generate import generate
from engram_ref.model.parameters import initialise
from engram_ref.model.state import DecodeState
from engram_ref.model.transformer import forward
from engram_ref.model_presets import model_preset

config = model_preset("tiny")
parameters = initialise(config, np.random.default_rng(12))
ids = Vocabulary.load("deepseek-v4").encode(
    "Only Alexander the Great could tame the horse Bucephalus. Only Alexander the Great saw "
    "that it was afraid of its own shadow, and turned it towards the sun.")
T, cut = len(ids), 16
logits_of = functools.partial(forward, parameters, config=config)

whole = logits_of(ids)                                           # [T, V], all at once
state = DecodeState.start(batch=1)
logits_of(ids[None, :cut], state=state)
print("tokens seen:", state.lengths)
for name, cache in state.caches.items():
    print(f"{name:20} {cache.shape}")
assert T == 34 and {cache.shape[:2] for cache in state.caches.values()} == {(1, cut)}
assert config.engram.max_ngram - 1 == 2 and config.engram.conv_span == 9

# %% [markdown]
# Every cache has one slot a position. The model needs the last 2 ids and the last 9 taps only; this state keeps all,
# so that we can go back as far as we like.
#
# ## Any cut gives the same logits
#
# That is the whole contract, and a port should be tested on it: cut the text anywhere, even into single tokens or
# empty pieces, and the logits are those of the whole.

# %%
for name, lengths in (("all at once", [T]), ("in two", [cut, T - cut]), ("odd pieces", [5, 0, 1, 9, T - 15]),
                      ("one by one", [1] * T)):
    for absorbed in (False, True):
        state = DecodeState.start(1)
        pieces = np.split(ids[None], np.cumsum(lengths)[:-1], axis=1)
        found = [logits_of(piece, state=state, absorbed=absorbed) for piece in pieces]
        error = abs(np.concatenate(found, axis=1)[0] - whole).max()
        assert error < 1e-12
    print(f"{name:12} largest difference {error:.0e}")

# %% [markdown]
# ## Forgetting, measured
#
# Now we lose one part after 16 tokens and read the other 18. The lost history becomes "before the stream" (-1), lost taps
# and latents become zeros. To lose the positions means to count from 0 again: then new tokens stand 16 positions too
# close to the old ones, as if the old keys had been turned on by 16.

# %%
attention = config.backbone.attention
frequency = ops.frequencies(attention.qk_rope_head_dim, attention.rope_theta)
turn_on = ops.angles(np.full((1, cut), cut), frequency)
losses = {
    "history": ("canonical_ids", lambda cache: np.full_like(cache, ops.DEAD)),
    "taps": ("conv_norm", np.zeros_like),
    "latents": (("c_kv", "k_pe"), np.zeros_like),
    "positions": ("k_pe", lambda cache: ops.rotate(cache, turn_on)),
}
errors = {}
for lost, (names, damage) in losses.items():
    state = DecodeState.start(1)
    logits_of(ids[None, :cut], state=state)
    state.caches |= {n: damage(c) for n, c in state.caches.items() if n.endswith(names)}
    found = logits_of(ids[None, cut:], state=state)[0]
    errors[lost] = np.sqrt(((found - whole[cut:]) ** 2).mean(axis=-1))
    others = (found.argmax(-1) != whole[cut:].argmax(-1)).sum()
    print(f"{lost:10} error of logits {errors[lost].mean():.2f}, another favourite in {others:2} of {T - cut}")
    assert errors[lost].min() > 0.01
print(f"size of the logits: {whole.std():.2f}")
assert 0.9 < whole.std() < 1.1

# %% tags=["fold"]
fig, ax = plt.subplots(figsize=(6.2, 3.2))
for lost, error in errors.items():
    ax.semilogy(np.arange(T - cut), error, label=lost)
ax.axvline(10.5, color="C5", linestyle=":", linewidth=1)
ax.text(10.7, 1.0, "convolution no longer\nlooks at the damage", fontsize=8, va="top")
ax.set(xlabel="position after the loss", ylabel="error of the logits (their size: 1)",
       ylim=(0.01, 1.3), title="Nothing heals: attention hands every loss on")
ax.legend(loc="lower left", ncols=2)
fig.set_label("Error of the logits at 18 positions after the loss, logarithmic. A lost history starts "
              "near 1 for two positions; all four curves then wander between 0.01 and 0.6 and none "
              "reaches zero, also not after position 10, where the convolution has recovered.")
assert errors["history"][:2].min() > 2 * errors["history"][2:].max() and errors["taps"].max() < 0.35

# %% [markdown]
# In [the convolution's tutorial](06_short_conv.md) one layer alone was right again after eleven positions. In a whole
# model nothing heals: latents made from wrong states stay in the cache, and attention reads them ever after. So test
# the logits *right* after a cut. A lost history is loudest there: two tokens read wrong rows. Lost taps are quiet, and
# a test with a loose tolerance passes them.
#
# ## Padding is not nothing
#
# Texts of a batch differ in length. Filling the short ones up on the *left* with the padding token (id 2) is common.
# Engram's rows do not mind: a window before the stream shows padding anyway. But attention reads these tokens, and so
# does the convolution. We fill up on the right instead and say with `counts` how many ids are real. What stands in the
# rest then changes nothing.

# %%
canonical = Vocabulary.load("deepseek-v4").canonical
addressing = Addressing(config.engram)
left = np.concatenate([[2, 2, 2], ids])
for layer in config.engram.layer_ids:
    rows, padded = (addressing.rows(canonical[stream], layer) for stream in (ids, left))
    assert (padded[3:] == rows).all()
error = (logits_of(left)[3:] - whole).std()
print(f"padding on the left: same rows, but logits off by {error:.2f}")
assert 0.3 < error < 0.6

state, counts = DecodeState.start(batch=3), [T, 5, 0]
for fill in (2, 60_000):
    batch = np.full((3, T), fill)
    for row, count in enumerate(counts):
        batch[row, :count] = ids[:count]
    fresh = DecodeState.start(batch=3)
    found = logits_of(batch, state=fresh, counts=counts)
    assert np.allclose(found[0], whole) and np.allclose(found[1, :5], whole[:5])
print("padding on the right, with counts:", fresh.lengths, "tokens seen, logits as alone")
assert fresh.lengths.tolist() == counts                          # row 2 is finished: a count of 0

# %% [markdown]
# One mark must survive in the history. A *dead* position, such as a part of an image, hides itself and all that is
# older ([the hash](03_hash_by_hand.md)). Whoever stores padding in its place lets the next n-gram reach behind it.

# %%
before = [canonical[ids[3]], ops.DEAD]                           # the last two ids, oldest first
blurred = [canonical[ids[3]], addressing.pad_id]
with_mark, without = (addressing.rows(canonical[ids[4:5]], 1, np.array(history))[0]
                      for history in (before, blurred))
print("rows with the mark", with_mark, "\nrows with padding ", without)
H = config.engram.n_heads
assert (with_mark[:H] == without[:H]).all() and (with_mark[H:] != without[H:]).all()

dead = np.arange(T) == cut - 1                                   # cut right behind it
state = DecodeState.start(1)
pieces = [logits_of(ids[None, part], state=state, dead=dead[None, part])
          for part in (slice(0, cut), slice(cut, T))]
assert np.allclose(np.concatenate(pieces, axis=1)[0], logits_of(ids, dead=dead))

# %% [markdown]
# ## Drafts and rollback
#
# *Speculative decoding* lets something cheap guess a few tokens; the model reads all of them in one call and keeps
# those that it would have chosen itself. The rest must be forgotten. Here a row's slots after its end mean nothing, so
# forgetting is one subtraction, for latents, ids and taps alike. A server that takes back its latents only, and
# keeps the drafts in its history, goes on with wrong rows.

# %%
truth = generate(parameters, ids, config, new_tokens=6)          # what the model would write
drafts = truth[:4] + np.array([0, 0, 1, 0])                      # the third guess is wrong
state = DecodeState.start(1)
choices = [logits_of(ids[None], state=state)[0, -1].argmax()]
choices += logits_of(drafts[None], state=state)[0].argmax(axis=-1).tolist()
agree = drafts == choices[:4]
accepted = 4 if agree.all() else int(agree.argmin())
forgetful = state.fork()
state.rollback(4 - accepted)
print(f"{accepted} drafts accepted, {state.lengths[0]} tokens kept; next comes {choices[accepted]}")
assert accepted == 2 and choices[:3] == truth[:3].tolist() and state.lengths[0] == T + 2

right = logits_of(truth[None, 2:4], state=state)[0]
expected = logits_of(np.concatenate([ids, truth[:4]]))[-2:]
assert np.allclose(right, expected) and (right.argmax(-1) == truth[3:5]).all()

seen = forgetful.caches["canonical_ids"].copy()
seen[:, T:T + 2] = seen[:, T + 2:T + 4]                          # the last two it saw: rejected drafts
forgetful.rollback(2)
forgetful.caches["canonical_ids"] = seen
wrong = logits_of(truth[None, 2:4], state=forgetful)[0]
print("error with the drafts left in the history:", (wrong - right).std(axis=-1).round(2))
assert (wrong - right).std(axis=-1).min() > 0.3

# %% [markdown]
# ## Fork and reorder
#
# *Beam search* follows the few best continuations at once. After every step the best new ones may all come from one old
# beam, and others die. `reorder` makes the batch anew from these parents, all that is remembered included. (`fork`
# copies a whole state; nothing stored is ever written into, so both share it.)

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
    beams, totals = np.concatenate([beams[parents], tokens[:, None]], axis=1), scores.flat[best]
    newest = tokens[:, None]
    print("parents", parents, "log-probabilities", totals.round(2))

for beam, total in zip((*beams, truth[:4]), (*totals, None), strict=True):
    steps = log_softmax(logits_of(np.concatenate([ids, beam])))[T - 1:-1]
    alone = steps[np.arange(4), beam].sum()
    assert alone < totals.min() if total is None else np.isclose(alone, total)

# %% [markdown]
# Each beam's sum is that of a separate run, and here all three beat the greedy text, which takes the best token at
# every step.
#
# ## What it costs
#
# For the paper's 27B model, with 2 bytes a number and 8 an id: latents grow by 34,560 bytes with every token. The taps of
# two Engram layers are 368,640 bytes, the history is 16, however long the text.

# %%
big = model_preset("engram-27b")
a, e, layers = big.backbone.attention, big.engram, len(big.engram.layer_ids)
latents = 2 * big.backbone.n_layers * (a.kv_lora_rank + a.qk_rope_head_dim)
taps = 2 * layers * e.conv_span * e.n_branches * e.hidden_size
history = 8 * (e.max_ngram - 1)
assert (latents, taps, history, layers) == (34_560, 368_640, 16, 2) and 10 < taps / latents < 11
assert taps // e.conv_span == 40_960 > latents                   # the taps of one token
assert (taps + history) / (32_768 * latents) < 0.0004

# %% tags=["fold"]
fig, ax = plt.subplots(figsize=(6.2, 2.9))
tokens = np.geomspace(1, 32_768, 200)
ax.loglog(tokens, latents * tokens, label="latents of 30 layers")
ax.loglog(tokens, np.full(200, taps), label="taps of two Engram layers")
ax.loglog(tokens, np.full(200, history), label="history")
ax.set(xlabel="tokens seen", ylabel="bytes", ylim=(4, 5e9),
       title="From the 11th token on the latents outweigh what Engram keeps")
ax.legend(fontsize=8, loc="upper left")
fig.set_label("Bytes kept against tokens seen, both logarithmic. The latents start at 35 thousand and reach "
              "1.1 billion at 32,768 tokens; the taps stay at 369 thousand, the history at 16.")

# %% [markdown]
# At 32,768 tokens Engram's part is less than 0.04% of the state. (The taps of *all* tokens would be more than the latents,
# 40,960 bytes a token: keeping everything, as we do, is for study.)
#
# ## Generate
#
# `generate` is the loop that all this was for. At temperature 0 it takes the best token. Above 0 it draws one with
# probability $\mathrm{softmax}(\mathrm{logits} / \mathrm{temperature})$, and only from the random generator that it is
# given: the same seed writes the same text.

# %%
slow = ids
for _ in range(6):
    slow = np.append(slow, logits_of(slow)[-1].argmax())         # reads the text anew for every token
assert (slow[T:] == truth).all()
drawn = [generate(parameters, ids, config, 6, temperature=0.5, rng=np.random.default_rng(seed))
         for seed in (1, 1, 2)]
assert (drawn[0] == drawn[1]).all() and (drawn[0] != drawn[2]).any()
print("greedy", truth, "\ndrawn ", drawn[0])

# %% [markdown]
# ## Where the paper, the demo or a release does otherwise
#
# DeepSeek-V4.1-Flash has no convolution: its Engram keeps three ids and no taps. Qwen starts its windows afresh after the
# token that ends a document, so ids from before it change nothing. The paper and the demo do not speak of decoding.

# %%
flash, qwen = preset("deepseek-v4.1-flash"), preset("qwen4exp-ple")
assert (flash.max_ngram - 1, flash.conv_span) == (3, 0)
rows = [Addressing(qwen).rows(np.array([7]), 2, np.array([old, qwen.eos_id])) for old in (5, 6)]
assert (rows[0] == rows[1]).all()

# %% [markdown]
# ## Exercise
#
# A server for the 27B model stores nothing but what it must. It reads up to four drafts in one call and may have to take
# back all four. How many ids and how many taps must it store after that call?
#
# ??? tip "Hint"
#     After the rollback it needs 2 ids and 9 taps. Which four are thrown away?

# %% tags=["answer"]
stream = canonical[np.concatenate([ids, drafts])]
for kept in (5, 6):
    history = stream[-kept:][:-4]                                # newest four taken back
    print(kept, "ids stored,", len(history), "left, needed", e.max_ngram - 1)
assert (history == canonical[ids[-2:]]).all() and e.conv_span + 4 == 13

# %% [markdown] tags=["answer"]
# Six ids and 13 taps: what a rollback leaves over must still be a whole history.

# %% [markdown]
# Next: [Counting 27 billion parameters](13_counting.md).
