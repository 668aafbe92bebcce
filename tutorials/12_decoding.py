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
