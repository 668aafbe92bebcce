"""Addressing with random configurations and streams, compared with the slow implementation and with itself."""

from dataclasses import replace

import numpy as np
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from engram_ref import Addressing, Vocabulary, preset
from engram_ref.ops.canonical import DEAD, canonicalise
from engram_ref.ops.primes import is_prime, table_primes
from engram_ref.oracle.slow import addressing as slow_addressing
from engram_ref.oracle.slow import primes as slow_primes

# The same examples in every run, without a database of earlier ones.
few = settings(derandomize=True, deadline=None, database=None, max_examples=60)
many = settings(few, max_examples=200)


def first_seen(numbers):
    """Convert a list of numbers to a canonical map, with classes in the order of their first appearance."""
    classes = {}
    return np.array([classes.setdefault(number, len(classes)) for number in numbers])


@st.composite
def vocabularies(draw):
    """(fields of a configuration, its vocabulary): a made-up map, or raw ids and None."""
    if draw(st.booleans()):
        canonical = first_seen(draw(st.lists(st.integers(0, 9), min_size=1, max_size=30)))
        fields = {"vocabulary": "made-up", "vocab_size": len(canonical), "canonical_size": int(canonical.max()) + 1}
        vocabulary = Vocabulary("made-up", canonical)
    else:
        size = draw(st.sampled_from([1, 2, 99_092, 2**29]) | st.integers(1, 1000))
        fields, vocabulary = {"vocabulary": None, "vocab_size": size, "canonical_size": size}, None
    raw = st.integers(0, fields["vocab_size"] - 1)
    return fields | {"pad_id": draw(raw), "eos_id": draw(st.none() | raw)}, vocabulary


@st.composite
def addressings(draw):
    """An Addressing of a random dialect."""
    fields, vocabulary = draw(vocabularies())
    N = draw(st.integers(2, 5))
    literal = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=N, max_size=N).map(tuple)
    layers = draw(st.lists(st.integers(0, 60), min_size=1, max_size=3, unique=True).map(tuple))
    config = replace(
        preset("tiny"), **fields, layer_base=0, layer_ids=layers, max_ngram=N, n_heads=draw(st.integers(1, 3)),
        table_sizes=tuple(draw(st.lists(st.integers(1, 300) | st.just(2**31), min_size=N - 1, max_size=N - 1))),
        seed=draw(st.integers(0, 2**40)), multiplier_generator=draw(st.sampled_from(["pcg64", "splitmix64"])),
        seed_index=draw(st.sampled_from(["layer_id", "ordinal"])), dead_barrier=draw(st.booleans()),
        multipliers=draw(st.none() | st.tuples(*[literal] * len(layers))),
    )  # fmt: skip
    return Addressing(config, vocabulary)


def tokens(addressing):
    """One canonical id; often DEAD or EOS if the dialect has them."""
    kinds = [st.integers(0, addressing.config.canonical_size - 1)]
    if addressing.config.dead_barrier:
        kinds.append(st.just(DEAD))
    if addressing.eos_id is not None:
        kinds.append(st.just(addressing.eos_id))
    return st.one_of(kinds)


def streams(addressing, max_size=12):
    return st.lists(tokens(addressing), max_size=max_size)


def histories(addressing):
    """The last N-1 ids of a stream, padded with DEAD on the left if it is shorter."""
    span = addressing.config.max_ngram - 1
    return streams(addressing, span).map(lambda ids: [DEAD] * (span - len(ids)) + ids)


@many
@given(data=st.data(), addressing=addressings())
def test_rows_equal_the_slow_implementation(data, addressing):
    ids, history = data.draw(streams(addressing)), data.draw(histories(addressing))
    layer, flat = data.draw(st.sampled_from(addressing.config.layer_ids)), data.draw(st.booleans())
    expected = slow_addressing.rows(addressing.config, layer, ids, addressing.pad_id, history, addressing.eos_id, flat)
    rows = addressing.rows(np.array(ids, dtype=np.int64), layer, np.array(history), flat)
    assert rows.shape == (len(ids), addressing.config.columns)
    assert rows.tolist() == expected


@few
@given(addressing=addressings())
def test_constants_equal_the_slow_implementation(addressing):
    config = addressing.config
    assert {layer: m.tolist() for layer, m in addressing.multipliers.items()} == slow_addressing.multipliers(config)
    primes = slow_addressing.table_primes(config)
    assert {layer: p.tolist() for layer, p in addressing.primes.items()} == primes
    assert {layer: o.tolist() for layer, o in addressing.offsets.items()} == {
        layer: slow_primes.offsets(columns) for layer, columns in primes.items()}  # fmt: skip


@few
@given(drawn=vocabularies())
def test_pad_and_eos_are_canonical(drawn):
    fields, vocabulary = drawn
    addressing = Addressing(replace(preset("tiny"), **fields), vocabulary)
    canonical = range(fields["vocab_size"]) if vocabulary is None else vocabulary.canonical.tolist()
    assert addressing.pad_id == canonical[fields["pad_id"]]
    assert addressing.eos_id == (None if fields["eos_id"] is None else canonical[fields["eos_id"]])


@many
@given(data=st.data(), addressing=addressings())
def test_chunked_rows_equal_unchunked_rows(data, addressing):
    ids = np.array(data.draw(streams(addressing)), dtype=np.int64)
    layer = addressing.config.layer_ids[0]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(ids)), max_size=4)))
    history, rows = None, []
    for chunk in np.split(ids, cuts):
        rows.append(addressing.rows(chunk, layer, history))
        history = addressing.advance(history, chunk)
    assert np.array_equal(np.concatenate(rows), addressing.rows(ids, layer))
    assert np.array_equal(history, addressing.advance(None, ids))


@few
@given(data=st.data(), addressing=addressings())
def test_rollback_removes_the_draft(data, addressing):
    layer = addressing.config.layer_ids[-1]
    past, draft, rest = (np.array(data.draw(streams(addressing, 6)), dtype=np.int64) for _ in range(3))
    history = addressing.advance(None, past)
    addressing.rows(draft, layer, addressing.advance(history, draft))
    replayed = addressing.rows(rest, layer, history)
    assert np.array_equal(replayed, addressing.rows(np.concatenate([past, rest]), layer)[len(past) :])


@few
@given(data=st.data(), addressing=addressings())
def test_the_stepper_gives_the_same_rows_as_one_call(data, addressing):
    layer = addressing.config.layer_ids[0]
    ids = np.array([data.draw(streams(addressing))], dtype=np.int64).reshape(1, -1)
    step, history = addressing.stepper(layer), addressing.start(1)
    for t, expected in enumerate(addressing.rows(ids, layer)[0]):
        assert np.array_equal(step(ids[:, t], history)[0], expected)
        history = addressing.advance(history, ids[:, t : t + 1])


@few
@given(data=st.data(), addressing=addressings())
def test_a_token_affects_only_its_window(data, addressing):
    """Changing the id at q, to DEAD or any other id, does not change the rows before q or from q + N on."""
    ids = np.array(data.draw(st.lists(tokens(addressing), min_size=1, max_size=12)), dtype=np.int64)
    q, other = data.draw(st.integers(0, len(ids) - 1)), ids.copy()
    other[q] = data.draw(tokens(addressing))
    layer, N = addressing.config.layer_ids[0], addressing.config.max_ngram
    before, after = addressing.rows(ids, layer), addressing.rows(other, layer)
    assert np.array_equal(before[:q], after[:q])
    assert np.array_equal(before[q + N :], after[q + N :])


@few
@given(data=st.data(), addressing=addressings())
def test_tokens_before_a_barrier_have_no_effect(data, addressing):
    """Rows after a DEAD mark or an EOS do not depend on the tokens before it."""
    marks = [DEAD] if addressing.config.dead_barrier else []
    marks += [] if addressing.eos_id is None else [addressing.eos_id]
    assume(marks)
    mark = data.draw(st.sampled_from(marks))
    one, two, text = (np.array(data.draw(streams(addressing, 6)), dtype=np.int64) for _ in range(3))
    layer = addressing.config.layer_ids[0]
    found = [addressing.rows(np.concatenate([past, [mark], text]), layer)[len(past) + 1 :] for past in (one, two)]
    assert np.array_equal(*found)
    assert np.array_equal(found[0], addressing.rows(text, layer))


@few
@given(data=st.data())
def test_canonicalise_is_a_lookup(data):
    canonical = first_seen(data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=9)))
    ids = data.draw(st.lists(st.integers(DEAD, len(canonical) - 1), max_size=9))
    found = canonicalise(np.array(ids, dtype=np.int64), canonical)
    assert found.tolist() == [DEAD if token == DEAD else canonical[token] for token in ids]


@many
@given(st.integers(0, 10**9))
@example(561).via("Carmichael")
@example(1_373_653).via("passes bases 2 and 3")
def test_is_prime_agrees_with_trial_division(n):
    assert is_prime(n) == slow_primes.is_prime(n)


@many
@given(st.integers(2, 2**31), st.integers(2, 2**31))
def test_a_product_is_never_prime(a, b):
    assert not is_prime(a * b)


@few
@given(st.lists(st.integers(1, 5000), min_size=1, max_size=4), st.integers(1, 5), st.integers(1, 4))
def test_prime_search_against_trial_division(sizes, heads, layers):
    found = table_primes(tuple(sizes), heads, layers)
    assert found.tolist() == slow_primes.table_primes(sizes, heads, layers)
