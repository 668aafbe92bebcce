# %% [markdown]
# # Canonical ids: why ' The' and 'the' share a row
#
# A *tokenizer*, the program that splits text into tokens, assigns different tokens to the same word depending on a
# leading space or a capital letter. For a lookup by phrase this is wasteful: the memory of "the Great" would have to be
# learned once for every spelling. So Engram first maps each token id to a *canonical id*, which all spellings of a word
# share.
#
# **What you will be able to do**
#
# - apply the six steps that decide which tokens count as the same;
# - rebuild the map of a whole vocabulary, and say how many keys each step merges;
# - say which distinctions the map loses, and in which scripts;
# - explain why a *port* (a reimplementation in another language or framework) must check the map by its digest, not by
#   its size.
#
# This page covers circle 2 of the diagram in [tutorial 01](01_why_lookup.md).

# %% [markdown]
# ## One word, many ids
#
# A *class* is the set of all ids that share a canonical id. Here are two classes of DeepSeek-V4's vocabulary, each
# printed after its canonical id.

# %%
import textwrap
import unicodedata
from dataclasses import replace
from pydoc_data.topics import topics

import matplotlib.pyplot as plt
import numpy as np

from engram_ref import Addressing, InputError, Vocabulary, ops, preset
from engram_ref.ops import canonical_key, canonical_map, canonicalise, normalise
from engram_ref.ops.canonical import DEAD, REPLACEMENT, STEPS, strip_accents
from engram_ref.text.maps import int64_digest

vocabulary = Vocabulary.load("deepseek-v4")
sizes = []
for word in (" the", " great"):
    canonical_id = vocabulary.canonical[vocabulary.encode(word)[0]]
    members = vocabulary.members(canonical_id)
    sizes.append(len(members))
    spellings = [vocabulary.text(int(i)) for i in members]
    print(f"{canonical_id:4}:", str(spellings)[1:-1])
assert sizes == [9, 5] and 9 * 5 == 45

# %% [markdown]
# One class has nine ids, the other five. With raw ids as keys, the 2-gram "the great" has $9 \cdot 5 = 45$ different
# keys, each with its own rows. With canonical ids it has a single key.
#
# In the formula, $P$ maps each raw id $x$ to a canonical id. The hash uses only canonical ids.
#
# $$ x'_t = P(x_t), \qquad P(a) = P(b) \; \Longleftrightarrow \; \text{key}(a) = \text{key}(b) $$
#
# The *key* is a string. For nearly all tokens it is the token's *normalised* text, that is, the text after six small
# changes.

# %% [markdown]
# ## Six steps
#
# The normaliser consists of six small functions, shown here with examples in the order of application. A space is shown
# as `·`. A *combining mark*, such as an accent encoded as a separate character after its letter, is shown as its code
# point.

# %% tags=["fold"]
def show(text):
    spaces = {" ": "·", "\n": r"\n", "\t": r"\t", "\r": r"\r"}
    marks = {c: f"<{ord(c):04X}>" for c in text if unicodedata.category(c)[0] == "M"}
    return "".join((spaces | marks).get(c, c) for c in text)

# %%
examples = [["ﬁ", "x²", "ＴＨＥ"], ["é", "ế", "が"], ["e\u0301", "か\u3099"],
            [" THE", "Σ"], ["\n\n\t", " a  b"], [" the", " "]]
for step, given in zip(STEPS, examples, strict=True):
    changes = [f"{show(text)} → {show(step(text))}" for text in given]
    print(f"{step.__name__:20}", ",  ".join(changes))

# %% [markdown]
# - `fold_compatibility` replaces full-width letters, ligatures and superscript digits with plain ones, like Unicode's
#   NFKC.
# - `decompose` splits an accented letter into the letter and its marks, like Unicode's NFD.
# - `strip_accents` removes the marks, which are now separate characters.
# - `lowercase` converts to lower case, and `collapse_spaces` replaces any run of white space with one space.
# - `strip_ends` removes white space at both ends, but keeps a single space that is the whole text.
#
# Here is one token after each of the six steps:

# %%
string = " ﬁancée\n"
print(show(string))
for step in STEPS:
    string = step(string)
    print(show(string), " after", step.__name__)
assert string == normalise(" ﬁancée\n") == "fiancee"

# %% [markdown]
# ## Merges per step
#
# Now we normalise the whole vocabulary. A few tokens are not valid text; a later section covers them. For all others,
# we apply the steps one by one and count the distinct strings that are left.

# %%
V = vocabulary.size
texts = [vocabulary.text(i) for i in range(V)]
readable = [text for text in texts if REPLACEMENT not in text]
print(f"{V:,} ids, {len(readable):,} of them valid text")
strings, left = [readable], [len(set(readable))]
for step in STEPS:
    strings.append([step(string) for string in strings[-1]])
    paired = zip(strings[-1], readable, strict=True)
    left.append(len({string or text for string, text in paired}))  # a key is never empty
merged = -np.diff(left)
for step, keys, fewer in zip(STEPS, left[1:], merged, strict=True):
    print(f"{step.__name__:20} leaves {keys:7,} keys, merges {fewer:6,}")

# %% tags=["fold"]
fig, ax = plt.subplots(figsize=(6.2, 2.9))
names = [step.__name__.replace("_", " ") for step in STEPS]
ax.barh(names, merged, color="C0", height=0.65)
for y, count in enumerate(merged):
    ax.text(count + 200, y, f"{count:,}", va="center")
ax.invert_yaxis()
ax.set(xlabel="keys merged by the step", xlim=(0, 18500))
ax.tick_params(axis="y", length=0)
ax.set_title("Lowercasing and stripping spaces cause 86% of all merges")
fig.set_label("Horizontal bars: fold compatibility merges 356 keys, decompose 20, strip accents 3,215, lowercase "
              "16,114, collapse spaces 494, strip ends 9,962.")
respelled = {b for a, b in zip(strings[1], strings[2], strict=True) if a != b} & set(strings[1])
assert len(respelled) == 20 and sum("BENGALI" in unicodedata.name(text.strip()[0]) for text in respelled) == 18
assert merged.tolist() == [356, 20, 3_215, 16_114, 494, 9_962]
assert f"{(merged[3] + merged[5]) / merged.sum():.0%}" == "86%"
assert (V, len(readable), left[-1]) == (129_280, 127_796, 97_635)

# %% [markdown]
# `decompose` merges only 20 keys, 18 of them Bengali letters that Unicode encodes in two ways. Its main purpose is to
# prepare for `strip_accents`, which would otherwise miss every accent encoded together with its letter as one
# character. The first exercise measures this effect.
#
# ## Two kinds of tokens with special keys
#
# **Empty after normalising.** Some tokens consist of marks only, such as vowel signs of Thai or Hindi. The six steps
# reduce such a token to an empty string, so its key is its original text; otherwise all such tokens would form one
# class. (The code above does this with `string or text`.)
#
# **Part of a character.** The tokenizer splits *bytes*, not letters. A rare character can be split into pieces that are
# not valid text: they decode to `�`, the replacement character. The key of such a token is its *raw token*, its
# spelling in the vocabulary file, which represents each of the 256 byte values by a printable character.

# %%
emptied = [text for i, text in enumerate(readable) if strings[-1][i] == ""]
broken = [i for i in range(V) if REPLACEMENT in texts[i]]
print(f"{len(emptied)} tokens become empty, {len(broken):,} contain part of a character")
for i in vocabulary.encode("🐴"):
    raw = vocabulary.spelling(int(i))
    print(f"id {i}: text {texts[i]}  raw {raw}  key {canonical_key(texts[i], raw)}")
assert (len(emptied), len(broken)) == (214, 1484)

# %% tags=["fold"]
assert "\u0e35" in emptied and canonical_key("\u0e35", "à¸µ") == "\u0e35"  # a Thai vowel
assert len(vocabulary.encode("🐴")) == 2
assert len({texts[i] for i in broken}) == 414       # by text they would merge

# %% [markdown]
# ## Building the map
#
# All keys go into one dictionary, in the order of the ids. The first occurrence of a key is assigned the next number:

# %%
tokens = [(texts[i], vocabulary.spelling(i)) for i in range(V)]
canonical = canonical_map(tokens)                                # int64 [V]

numbers = {}                                           # the same, written out
naive = [numbers.setdefault(canonical_key(*token), len(numbers)) for token in tokens]
assert naive == canonical.tolist() and (canonical == vocabulary.canonical).all()

for name in ("deepseek-v3", "deepseek-v4"):
    shipped = Vocabulary.load(name)
    share = 1 - shipped.canonical_size / shipped.size
    print(f"{name}: {shipped.size:,} ids, {shipped.canonical_size:,} classes, {share:.3%} fewer")

# %% tags=["fold"]
v3 = Vocabulary.load("deepseek-v3")
assert (v3.size, v3.canonical_size) == (128_815, 98_627)
assert f"{1 - 98_627 / 128_815:.3%}" == "23.435%"
assert (vocabulary.size, vocabulary.canonical_size) == (129_280, 99_092)
assert f"{1 - 99_092 / 129_280:.3%}" == "23.351%"
assert (canonical[:128_815] == v3.canonical).all()
assert canonical[128_815:].tolist() == list(range(98_627, 99_092))
assert 129_280 - 128_815 == 99_092 - 98_627 == 465

# %% [markdown]
# The paper uses V3's vocabulary and reports a reduction of 23.43%. V4's map extends V3's by 465 added tokens, each in
# its own class.
#
# **Accidental merges.** The raw token of one id can equal the normalised text of a different id. The raw token `ł`
# encodes a single byte; the text `ł` is a Polish letter. Both have the same key, so they share a class. This happens
# for 27 keys. These merges are part of the definition: a port with separate dictionaries for texts and raw tokens gets
# 99,119 classes. The section on digests shows the effect of a wrong count.

# %% tags=["fold"]
broken_keys = {canonical_key(*tokens[i]) for i in broken}
readable_keys = {canonical_key(text, raw) for text, raw in tokens if REPLACEMENT not in text}
both = sorted(broken_keys & readable_keys)
assert len(both) == 27 and "ł" in both and (REPLACEMENT, "ł") in tokens
assert len(broken_keys) + len(readable_keys) == 99_119
assert len(broken_keys | readable_keys) == 99_092

# %% [markdown]
# ## Class sizes

# %%
class_sizes = np.bincount(canonical)                         # int64 [classes]
largest = np.argsort(-class_sizes, kind="stable")[:5]
for c in largest:
    sample = (show(texts[i]) for i in vocabulary.members(c)[:10])
    print(f"{class_sizes[c]:4}  ", *sample, "...")

# %% tags=["fold"]
counts = np.bincount(class_sizes)
fig, ax = plt.subplots(figsize=(6.2, 3.1))
present = counts.nonzero()[0]
ax.plot(present, counts[present], "o", color="C0", markersize=4)
ax.set(xscale="log", yscale="log", xlabel="ids in the class", ylabel="classes of that size", ylim=(0.6, 3e5))
ax.set_xticks([1, 2, 5, 10, 20, 50, 100], ["1", "2", "5", "10", "20", "50", "100"])
ax.annotate(f"{counts[1]:,} have a single id", (1, counts[1]), (1.25, counts[1] * 1.1), va="center")
for size, name, align in [(163, "space", "center"), (54, "a", "center"), (40, "o", "left"), (35, "e", "right")]:
    ax.text(size, 1.6, name, ha=align)
ax.set_title("Five out of six classes have a single id; the class of the space has 163")
fig.set_label("Number of classes by class size on two logarithmic axes, falling steeply: 83,590 classes of one id, "
              "8,959 of two, then ever fewer, down to one class each of 35 ids (e), 40 (o), 54 (a) and 163 (space).")
assert class_sizes[largest].tolist() == [163, 54, 40, 35, 30]
assert [numbers[key] for key in " aoei"] == largest.tolist()
assert counts[1:3].tolist() == [83_590, 8_959]
assert 5 / 6 < counts[1] / 99_092 < 6 / 7
white = [i for i in range(V) if texts[i].strip(" \t\r\n") == ""]
assert (canonical[white] == largest[0]).all()
assert np.bincount(v3.canonical).max() == 163                   # V3: the same

# %% [markdown]
# These five sizes match Table 6 of the paper exactly. The largest class contains every token made of spaces, tabs and
# line breaks. Five out of six classes have only one id, and only about a third of all ids share their class. But these
# ids are common: they make up nearly all of the text in the help topics of `pydoc`:

# %%
shared = class_sizes[canonical] > 1               # ids that share their class
help_text = "\n".join(topics[name] for name in sorted(topics))
help_ids = vocabulary.encode(help_text)
print(f"ids that share their class: {shared.mean():.0%} of the vocabulary, "
      f"{shared[help_ids].mean():.0%} of the text")
assert 0.33 < shared.mean() < 0.36 and shared[help_ids].mean() > 0.85

# %% [markdown]
# ## Distinctions that the map loses
#
# A map that merges spellings also merges different words. All words below are single tokens, and the two tokens in each
# pair share a class:

# %%
pairs = [(" US", " us", "a country / we"),
         (" Polish", " polish", "from Poland / to shine"),
         (" AIDS", " aids", "a disease / helps"),
         (" May", " may", "a month / might"),
         (" si", " sí", "Spanish: if / yes"),
         (" ou", " où", "French: or / where"),
         (" все", " всё", "Russian: everyone / everything"),
         ("か", "が", "Japanese: asks / marks the subject"),
         ("น", "นี้", "Thai: the letter n / this"),
         ("2", "²", "a digit / squared"),
         (" ", "\n\n", "a space / a new paragraph")]
for one, other, meaning in pairs:
    first, second = vocabulary.encode(one), vocabulary.encode(other)
    assert len(first) == len(second) == 1 and canonical[first] == canonical[second]
    print(f"{show(one)} = {show(other)}   ({meaning})")

# %% [markdown]
# The model can still distinguish such words because its own embedding table is indexed by raw id. Only the address of
# the memory is the same for both. It is up to the gate ([tutorial 05](05_gate.md)) to suppress a memory that does not
# fit.
#
# Some scripts lose more than others. In many scripts vowels are written as marks, and `strip_accents` removes marks. We
# group the vocabulary by script and count, for each script, the ids that the map *saves*: ids minus classes. Then we
# repeat the count with a map that omits `strip_accents`.

# %% tags=["fold"]
def script(text):
    """The first word of the Unicode name of the first letter or mark."""
    letters = (c for c in text if unicodedata.category(c)[0] in "LM")
    return unicodedata.name(next(letters, " "), "?").split()[0].capitalize()

def run(string, steps):
    for step in steps:
        string = step(string)
    return string

others = [step for step in STEPS if step is not strip_accents]
scripts = ["Latin", "Cyrillic", "Arabic", "Greek", "Hiragana",
           "Thai", "Bengali", "Devanagari", "Tamil"]
members = {name: [] for name in scripts}                     # texts by script
classes = {name: set() for name in scripts}                      # their keys
for text, string in zip(readable, strings[-1], strict=True):
    if script(text) in members:
        members[script(text)].append(text)
        classes[script(text)].add(string or text)
saved = {}
for name in scripts:
    marks_kept = {run(text, others) or text for text in members[name]}
    saved[name] = 1 - np.array([len(marks_kept), len(classes[name])]) / len(members[name])

fig, ax = plt.subplots(figsize=(6.2, 3.4))
kept, full = np.array([saved[name] for name in scripts]).T
ax.barh(scripts, kept, color="C0", height=0.65, label="marks kept")
ax.barh(scripts, full - kept, left=kept, color="none", edgecolor="C1", hatch="////", height=0.65,
        label="additional, marks removed")
ax.invert_yaxis()
ax.tick_params(axis="y", length=0)
ax.set(xlabel="fraction of the script's ids that the map saves", xlim=(0, 0.95))
ax.legend(loc="upper right")
ax.set_title("Removing marks matters most in scripts whose vowels are marks")
fig.set_label("Stacked bars by script. Latin: 32% saved with marks kept and 2% more when they are removed; "
              "Thai 7% and 24%; Bengali 10% and 45%; Devanagari 14% and 48%; Tamil 6% and 55%.")
percent = {name: (round(100 * a), round(100 * (b - a))) for name, (a, b) in saved.items()}
assert [percent[name] for name in ("Latin", "Thai", "Bengali", "Devanagari", "Tamil")] \
    == [(32, 2), (7, 24), (10, 45), (14, 48), (6, 55)]
assert round(1.7735 - 1.7678, 3) == 0.006               # the paper's Figure 5

# %% [markdown]
# For the Latin script the marks hardly matter. In Bengali, Devanagari (the script of Hindi) and Tamil, this one step
# saves more than 40% of the ids. Overall the map helps, at least on the paper's own data: without the map, the *loss*,
# the error that training minimises, is about 0.006 higher (read off Figure 5 of the paper).
#
# ## Pin the map by its digest
#
# Suppose a port numbers the classes in alphabetical order of their keys instead of in the order of the ids. The classes
# and their number are the same, so nothing looks wrong.

# %%
keys = [canonical_key(*token) for token in tokens]
_, by_key = np.unique(keys, return_inverse=True)     # numbered alphabetically
assert len(by_key) == V and by_key.max() + 1 == 99_092     # every size agrees

config = preset("deepseek-v4.1-flash")
addressing = Addressing(config)
sentence = "Only Alexander the Great could tame the horse Bucephalus."
ids = vocabulary.encode(sentence)
right = addressing.rows(canonical[ids], layer_id=1)
wrong = addressing.rows(by_key[ids], layer_id=1)
print(f"rows that are still correct: {(right == wrong).sum()} of {right.size}")
assert not (right == wrong).any()

# %% [markdown]
# A model with these row indices would silently read the wrong trained values. A *digest*, a short checksum (here
# SHA-256) of all the numbers in the map, detects this. The package compares the digest with the published one.

# %%
print("correct digest", int64_digest(canonical)[:16], " wrong digest", int64_digest(by_key)[:16])
try:
    Addressing(config, Vocabulary("deepseek-v4", by_key))
    raise AssertionError("a wrong map was accepted")
except InputError as error:
    print(textwrap.fill(str(error), 78))

# %% [markdown]
# The number of classes matters too, because the range of the hash constants depends on it. V3 and V4 assign the same
# raw ids and the same canonical ids to our sentence. Yet all rows differ:

# %%
as_v3 = Addressing(replace(config, vocabulary="deepseek-v3", vocab_size=128_815,
                           canonical_size=98_627, multipliers=None))   # None: drawn from the seed
assert (v3.encode(sentence) == ids).all()
assert (v3.canonical[ids] == canonical[ids]).all()
assert not (as_v3.rows(v3.canonical[ids], layer_id=1) == right).any()

# %% tags=["fold"]
# two dictionaries give 27 classes too many, and again different constants
draw = (config.seed, 1, config.max_ngram)              # seed, layer, how many
assert (ops.pcg64_multipliers(*draw, 99_092) == addressing.multipliers[1]).all()
assert (ops.pcg64_multipliers(*draw, 99_119) != addressing.multipliers[1]).all()

# %% [markdown]
# ## How the versions differ
#
# - **The steps.** The paper names NFKC and lowercasing, followed by "etc.". The authors' demo has all six steps.
# - **Marks.** "Strip accents" could mean only the non-spacing marks (Unicode category Mn). The map removes all marks,
#   that is, every category that begins with M. With Mn alone V4 would have 99,510 classes.
# - **Lowercasing** works character by character, while Python's `str.lower` has a special rule for a Greek sigma at the
#   end of a word. In these vocabularies no key is affected.
# - **Unicode versions.** The demo normalises with the `tokenizers` library, whose tables are older than Python's: it
#   keeps U+32FF, the sign of the Japanese era that began in 2019, which current NFKC replaces with two characters. The
#   steps here use the library's tables, which ship with the package, so the map does not depend on the Python version.
# - **The vocabulary.** The paper and the demo use DeepSeek-V3's vocabulary, V4.1 uses DeepSeek-V4's. Qwen's dialect has
#   no map: it hashes raw ids.
# - **Negative ids.** The demo passes them through unchanged. This package raises an error for any negative id except
#   $-1$, which is V4.1's mark `DEAD` for a position without text, such as part of an image.

# %% tags=["fold"]
def drop_mn(text):
    return "".join(c for c in text if unicodedata.category(c) != "Mn")

mn = [run(drop_mn(string), STEPS[3:]) for string in strings[2]]  # strings[2]: decomposed
mn_keys = {string or text for string, text in zip(mn, readable, strict=True)}
assert len(mn_keys | broken_keys) == 99_510
assert normalise("ΟΔΟΣ") == "οδοσ" != "ΟΔΟΣ".lower() == "οδος"
assert [run(s.lower(), STEPS[4:]) for s in strings[3]] == strings[6]
assert normalise("\u32ff") == "\u32ff" and unicodedata.normalize("NFKC", "\u32ff") == "令和"
assert preset("paper").vocabulary == preset("demo").vocabulary == "deepseek-v3"
assert config.vocabulary == "deepseek-v4"
assert preset("qwen4exp-ple").vocabulary is None

# %% [markdown]
# ## Exercises
#
# **1.** Omit `decompose`. How many of the 3,235 merges made by `decompose` and `strip_accents` are then lost?
#
# ??? tip "Hint"
#     Apply `strip_accents` to `strings[1]`, the list after `fold_compatibility`. Count the distinct strings before and
#     after this step.

# %% tags=["answer"]
before = strings[1]                                 # after fold_compatibility
after = [strip_accents(string) for string in before]
kept_keys = {string or text for string, text in zip(after, readable, strict=True)}
alone = len(set(before)) - len(kept_keys)
both_steps = merged[1] + merged[2]
assert (alone, both_steps - alone) == (1_089, 2_146)
print(f"{alone:,} merges remain, {both_steps - alone:,} are lost")

# %% [markdown]
# **2.** A port looks up canonical ids with `canonical[ids]`. A chat contains an image, so its ids include `DEAD`, that
# is $-1$. Which canonical id does the port read for the image? What does the package's `canonicalise` do?
#
# ??? tip "Hint"
#     What does index $-1$ mean in Python?

# %% tags=["answer"]
marked = np.array([270, DEAD, 9327])
assert canonical[marked].tolist() == [237, 99_091, 2049]  # the last id's class
assert canonicalise(marked, canonical).tolist() == [237, DEAD, 2049]

# %% [markdown] tags=["answer"]
# The port reads the class of the vocabulary's last id and hashes it like a word. The package keeps the mark, which ends
# the n-gram.

# %% [markdown]
# **Next:** [from n-gram to row](03_hash_by_hand.md), a hash you can compute by hand.
