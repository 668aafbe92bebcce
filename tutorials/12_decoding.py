# %% [markdown]
# # Decoding and the state between tokens
#
# ## What you will be able to do
#
# - list the state that a model with Engram keeps between two tokens, and the size of each part;
# - say how the logits change when one part is lost;
# - roll back rejected drafts, follow several continuations, and process texts of different lengths in one batch.
#
# ## The state of a stream
#
# *Decoding* means generating a continuation: the model reads a text and computes a score (a *logit*) for every possible
# next token; one token is chosen and appended, and so on. Processing the whole text again for every token would be
# wasteful. Most parts of a model use one position only: norms, experts, gates, hyper-connections. Three parts use
# earlier positions and need state:
#
# - attention reads a latent `c_kv` and a rotary key `k_pe` per earlier token, in every layer ([MLA](09_mla.md));
# - Engram's n-grams, at most $N$ long, need the last $N-1$ `canonical_ids`: the *history* ([hash](03_hash_by_hand.md));
# - Engram's convolution, with $L$ weights at a distance of $\delta$, needs the last $(L-1)\,\delta$ normalised gated
#   values, `conv_norm`: the *taps* ([convolution](06_short_conv.md)).
#
# The state also includes the number of tokens processed so far, which is the *position* of the next token.
# `DecodeState` contains all of it. We use the tiny model, with random weights, and 34 tokens.

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
whole = logits_of(ids)                                           # [T, V], in one call
state = DecodeState.start(batch=1)
logits_of(ids[None, :cut], state=state)
print("tokens so far:", state.lengths)
for name, cache in state.caches.items():
    print(f"{name:20} {cache.shape}")
assert T == 34 and {cache.shape[:2] for cache in state.caches.values()} == {(1, cut)}
assert (config.engram.max_ngram - 1, config.engram.conv_span) == (2, 9)

# %% [markdown]
# The second axis of every cache has one slot per position. The model needs only the last 2 ids and the last 9 taps;
# this state keeps all of them so that we can roll back any number of tokens.
#
# ## Any split gives the same logits
#
# Every port should pass this test: split the text anywhere, even into empty chunks, and the logits equal those of the
# whole text.

# %%
splits = {"one chunk": [], "two chunks": [cut], "one empty": [5, 5, 15], "one by one": range(1, T)}
for name, at in splits.items():
    for absorbed in (False, True):                               # both forms of attention
        state, chunks = DecodeState.start(1), np.split(ids[None], at, axis=1)
        logits = [logits_of(chunk, state=state, absorbed=absorbed) for chunk in chunks]
        error = abs(np.concatenate(logits, axis=1)[0] - whole).max()
        assert error < 1e-12
    print(f"{name:12} largest difference {error:.0e}")

# %% [markdown]
# ## The effect of lost state
#
# Now we discard one part of the state after 16 tokens and process the remaining 18. A lost history is set to -1
# ("before the text"), lost taps and latents are set to zero. If the positions are lost, counting restarts at 0: new
# tokens are then 16 positions too close to the old ones, as if the old keys were rotated by 16 more positions. We also
# count how often a different token has the largest logit.

# %%
attention = config.backbone.attention
frequency = ops.frequencies(attention.qk_rope_head_dim, attention.rope_theta)
shift = ops.angles(np.full((1, cut), cut), frequency)
losses = {
    "history": ("canonical_ids", lambda cache: np.full_like(cache, ops.DEAD)),
    "taps": ("conv_norm", np.zeros_like),
    "latents": (("c_kv", "k_pe"), np.zeros_like),
    "positions": ("k_pe", lambda cache: ops.rotate(cache, shift))}
errors = {}
for lost, (names, damage) in losses.items():
    state = DecodeState.start(1)
    logits_of(ids[None, :cut], state=state)
    state.caches |= {n: damage(c) for n, c in state.caches.items() if n.endswith(names)}
    logits = logits_of(ids[None, cut:], state=state)[0]
    errors[lost] = np.sqrt(((logits - whole[cut:]) ** 2).mean(axis=-1))
    changed = (logits.argmax(-1) != whole[cut:].argmax(-1)).sum()
    print(f"{lost:9} mean error {errors[lost].mean():.2f}, best token changed {changed:2} of 18 times")
    assert changed > 4 and 0.99 < whole.std() < 1.01

# %% tags=["fold"]
fig, ax = plt.subplots(figsize=(6.2, 3.2))
for lost, error in errors.items():
    ax.semilogy(np.arange(T - cut), error, label=lost)
ax.axvline(10.5, color="C5", linestyle=":", linewidth=1)
ax.text(10.7, 1, "a single layer would be\ncorrect from here on", fontsize=8, va="top")
ax.set(xlabel="position after the loss", ylabel="error of the logits (their size: 1)",
       xticks=range(0, 18, 5), ylim=(0.01, 1.3),
       title="After a loss the errors decrease, but not to zero")
ax.legend(loc="lower left", ncols=2)
fig.set_label("Error of the logits at 18 positions after the loss, logarithmic. With lost history it "
              "is near 1 for two positions. After that all curves stay between 0.01 and 0.6, and are "
              "lower in the last six positions than in the first six.")
assert all(e.min() > 0.01 and e[-6:].mean() < 0.7 * e[:6].mean() for e in errors.values())
assert errors["history"][:2].min() > 2 * errors["history"][2:].max()
assert errors["history"][:2].min() > max(errors[n][:2].max() for n in list(errors)[1:])
assert max(e[2:].max() for e in errors.values()) < 0.6
assert min(errors, key=lambda lost: errors[lost].mean()) == "taps"

# %% [markdown]
# In [the tutorial on the convolution](06_short_conv.md) a single layer was correct again after eleven positions. In a
# whole model the errors decrease, but after 18 positions all four losses still have an effect: latents computed from
# wrong states stay in the cache, and attention keeps reading them. So test the logits *right* after a split. A lost
# history causes the largest error there because two tokens read wrong rows. Lost taps cause the smallest.
#
# ## Pad on the right
#
# The texts of a batch differ in length. Suppose we pad short ones on the *left* with the padding token (id 2). Engram's
# rows do not change because windows are padded before the text anyway. But attention and the convolution read the
# padding tokens. So pad on the right, and pass the number of real ids per text as `counts`. The padding then has no
# effect.

# %%
canonical, addressing = vocabulary.canonical, Addressing(config.engram)
left = np.concatenate([[2, 2, 2], ids])
for layer in config.engram.layer_ids:
    rows, padded = (addressing.rows(canonical[stream], layer) for stream in (ids, left))
    assert (padded[3:] == rows).all()
error = (logits_of(left)[3:] - whole).std()
print(f"padding on the left: same rows, but an error of {error:.2f} in the logits")
assert 0.3 < error < 0.6
counts = [T, 5, 0]                                               # row 2 is finished
for fill in (2, 60_000):
    batch = np.where(np.arange(T) < np.array(counts)[:, None], ids, fill)
    state = DecodeState.start(batch=3)
    logits = logits_of(batch, state=state, counts=counts)
    assert np.allclose(logits[0], whole) and np.allclose(logits[1, :5], whole[:5])
    assert state.lengths.tolist() == counts
print("padding on the right:", state.lengths, "tokens, same logits as without padding")

# %% [markdown]
# A *dead* position, for example in an image, hides itself and everything before it. The history must keep the mark of
# that position: if padding replaces the mark, the next 3-gram extends across the position. Of the eight rows below, the
# last four are then wrong.

# %%
with_mark, without = (addressing.rows(canonical[ids[4:5]], 1, history)[0]
                      for history in np.array([[5, ops.DEAD], [5, addressing.pad_id]]))
print("rows with the mark", with_mark, "\nrows with padding ", without)
assert ((with_mark != without) == ([False] * 4 + [True] * 4)).all()
dead = np.arange(T) == cut - 1                                   # split right after it
state = DecodeState.start(1)
logits = [logits_of(ids[None, part], state=state, dead=dead[None, part])
          for part in (slice(0, cut), slice(cut, T))]
assert np.allclose(np.concatenate(logits, axis=1)[0], logits_of(ids, dead=dead))

# %% [markdown]
# ## Drafts and rollback
#
# In *speculative decoding*, a cheap method guesses a few tokens; the model processes all of them in one call and keeps
# those that it would have chosen itself. The rest must be removed from the state. Slots beyond a sequence's length are
# ignored here, so subtracting from the length removes latents, ids and taps together. A server that rolls back only its
# latents continues with wrong rows.

# %%
truth = generate(parameters, ids, config, new_tokens=6)          # the model's own continuation
drafts = truth[:4] + np.array([0, 0, 1, 0])                      # the third guess is wrong
state = DecodeState.start(1)
choices = [logits_of(ids[None], state=state)[0, -1].argmax()]
choices += logits_of(drafts[None], state=state)[0].argmax(axis=-1).tolist()
accepted = int(np.append(drafts == choices[:4], False).argmin())  # up to the first mistake
wrong = state.fork()                                             # shares the caches
assert all(wrong.caches[name] is cache for name, cache in state.caches.items())
state.rollback(4 - accepted)
print(f"{accepted} drafts accepted, next token {choices[accepted]}")
assert accepted == 2 and choices[:3] == truth[:3].tolist() and state.lengths[0] == T + 2
right = logits_of(truth[None, 2:4], state=state)[0]
expected = logits_of(np.concatenate([ids, truth[:4]]))[-2:]
assert np.allclose(right, expected) and (right.argmax(-1) == truth[3:5]).all()

history = wrong.caches["canonical_ids"].copy()
history[:, T:T + 2] = history[:, T + 2:T + 4]                    # still ends with rejected drafts
wrong.rollback(2)
wrong.caches["canonical_ids"] = history
error = (logits_of(truth[None, 2:4], state=wrong)[0] - right).std()
print(f"error with rejected drafts in the history: {error:.2f}")
assert error > 0.3

# %% [markdown]
# ## Fork and reorder
#
# *Beam search* follows several continuations at once. After a step, several of the best new beams may extend the same
# old beam, while other old beams are dropped. `reorder` selects the parent beams in all caches. (`fork` creates a
# second state. The two share their caches, and each copies them before it writes.)

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
# Each beam's total log-probability equals that of a separate run. Here all three are better than the greedy text, which
# takes the best token in each step.
#
# ## Size of the state
#
# For the paper's 27B model, with 2 bytes per number and 8 per id, the latents grow by 34,560 bytes per token. The taps
# of two Engram layers take 368,640 bytes and the history 16, regardless of the length of the text.

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
# The time per step grows only in attention, which reads all latents. Everything else is computed for the new token
# alone, whose entries are written into the caches in place. To check this, we replace `append`, the op that writes,
# with a function that also counts the numbers that it receives ([Backends](../reference/backends.md#replace-an-op)).

# %%
def numbers_written(position: int) -> int:
    """Count the numbers that a one-token step at this position writes into the caches"""
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
ax.set(xlabel="tokens", ylabel="bytes", ylim=(4, 5e9),
       title="From the 11th token on, the latents exceed Engram's state")
ax.legend(fontsize=8, loc="upper left")
fig.set_label("Bytes stored against tokens, both logarithmic. Latents grow to 1.1 "
              "billion at 32,768 tokens; taps stay at 369 thousand, history at 16.")
assert 10 * latents < taps + history < 11 * latents and f"{32_768 * latents / 1e9:.1f}" == "1.1"

# %% [markdown]
# At 32,768 tokens Engram's part is less than 0.04% of the latents. (The taps of *all* tokens would take more than the
# latents, 40,960 bytes per token: keeping all of them, as we do here, is only for study.)
#
# ## Generate
#
# `generate` runs the decoding loop. At temperature 0 it takes the best token; at higher temperatures it samples from
# $\mathrm{softmax}(\mathrm{logits} / \mathrm{temperature})$, using only the random generator passed to it.

# %%
slow = ids
for _ in range(6):
    slow = np.append(slow, logits_of(slow)[-1].argmax())         # the whole text in each step
assert (slow[T:] == truth).all()
one, same, two = (generate(parameters, ids, config, 6, temperature=0.5,
                           rng=np.random.default_rng(seed)) for seed in (1, 1, 2))
assert (one == same).all() and (one != two).any()
print("greedy ", truth, "\nsampled", one)

# %% [markdown]
# ## How the versions differ
#
# DeepSeek-V4.1-Flash has no convolution, so its Engram keeps three ids and no taps. Qwen's windows do not extend across
# the token that ends a document, so ids before that token have no effect.

# %%
flash, qwen = preset("deepseek-v4.1-flash"), preset("qwen4exp-ple")
histories = np.array([[5, qwen.eos_id], [6, qwen.eos_id]])
rows = Addressing(qwen).rows(np.array([[7], [7]]), 2, histories)
assert (flash.max_ngram - 1, flash.conv_span) == (3, 0) and (rows[0] == rows[1]).all()

# %% [markdown]
# ## Exercise
#
# A server for the 27B model keeps only the state that it needs. It processes four drafts in one call and may have to
# roll back all of them. How many ids and how many taps must it keep after that call?
#
# ??? tip "Hint"
#     After the rollback it needs 2 ids and 9 taps. Which four of each are removed?

# %% tags=["answer"]
stream = canonical[np.concatenate([ids, drafts])]
needed = e.max_ngram - 1 + 4, e.conv_span + 4
remaining = stream[-needed[0]:][:-4]                             # after the rollback
print("ids and taps:", needed, "- after the rollback, a complete history must remain")
assert needed == (6, 13) and (remaining == canonical[ids[-2:]]).all()

# %% [markdown]
# Next: [Counting 27 billion parameters](13_counting.md).
