"""Labels of the invented world, compared with an independent reading of its text."""

import re
from itertools import pairwise

import numpy as np
import pytest

from engram_ref.training.corpus import KINDS, WorldCorpus
from engram_ref.training.world import COPY, LONGEST_COPY, PHRASES, Draws, World

PERSON = r"[A-Z][a-z]+ (?:of )?[A-Z][a-z]+"
SENTENCE = rf"({PERSON}) ([\w ]+)\."
STATED = {"town": r"(?:comes from|has a house in) (\w+)", "trade": r"(?:works as|was once) a (\w+)",
          "animal": r"(?:keeps|talks to) a (\w+)", "colour": r"(?:wears|loves) (\w+)"}
LIST = r"The list says ([\w, ]+)\. Now ([\w, ]+)\."
TWICE = r"Say it twice: ([\w ]+)\. Again: ([\w ]+)\."


class Passages:
    """The complete passages of some sequences as texts, with the labels of every character's token."""

    def __init__(self, vocab_size, batches):
        self.corpus = WorldCorpus(vocab_size, seed=3)
        self.people, self.found = set(self.corpus.world.people), []
        for index in range(batches):
            batch = self.corpus.held_out(index, 8, 150)
            for row in zip(batch.ids, batch.kinds, batch.ends, batch.choices, strict=True):
                starts = np.flatnonzero(row[0] == 0)
                self.found += [self.read(*(x[a:b] for x in row)) for a, b in pairwise(starts)]

    def read(self, ids, kinds, ends, choices):
        texts = [self.corpus.vocabulary.text(token) for token in ids]
        repeated = lambda values: np.repeat(values, [len(text) for text in texts])
        last = np.cumsum([len(text) for text in texts])[ends]
        return "".join(texts), repeated(kinds), repeated(choices), set(last.tolist())


@pytest.fixture(scope="module", params=[1024, 400], ids=["a token per word", "several tokens per word"])
def passages(request):
    return Passages(request.param, batches=30)


def labelled(passages, kind):
    """Texts with the words that have a label, as (text, [(start, end)], chance per character)."""
    for text, kinds, choices, _ in passages.found:
        is_kind = np.append(kinds == KINDS.index(kind), False)
        words = [(m.start(1), m.end(1)) for m in re.finditer(r" (\w+)", text) if is_kind[m.start()]]
        assert is_kind.sum() == sum(end - start + 1 for start, end in words), "whole words with their leading spaces"
        yield text, words, choices


def test_facts(passages):
    world, seen = passages.corpus.world, 0
    for text, words, choices in labelled(passages, "fact"):
        stated = [(m[1], attribute, (m.start(2) + clause.start(1), m.start(2) + clause.end(1)))
                  for m in re.finditer(SENTENCE, text) if m[1] in passages.people
                  for attribute, form in STATED.items() for clause in re.finditer(form, m[2])]
        assert sorted(span for _, _, span in stated) == words
        for person, attribute, (start, end) in stated:
            assert text[start:end] == world.facts[person, attribute]
            assert choices[start] == 0
        assert len({fact[:2] for fact in stated}) == len(stated)
        seen += len(stated)
    assert seen > 200


def test_ends_of_names(passages):
    for text, _, _, ends in passages.found:
        names = [m for m in re.finditer(PERSON, text) if m[0] in passages.people]
        assert {m.end() for m in names} == ends


def test_phrases(passages):
    seen = set()
    for text, words, _ in labelled(passages, "phrase"):
        if words:
            start = max(text.rfind(". ", 0, words[0][0]) + 2, 2)      # of the sentence
            before, determined = text[start : words[0][0] - 1], text[start : words[-1][1]]
            assert determined in PHRASES
            possible = lambda opening: [p for p in PHRASES if f"{p} ".startswith(f"{opening} ")]
            assert possible(before) == [determined]
            assert " " not in before or len(possible(before.rpartition(" ")[0])) > 1
            seen.add(determined)
    assert len(seen) > len(PHRASES) / 2


def pairs(text):
    return [tuple(pair.split()) for pair in text.split(", ")]


def check_answers(text, words, choices, listed, questions):
    """Compare the labelled words with the questions' values, read from the text; return the number of pairs."""
    assert [text[start:end] for start, end in words] == [listed[key] for key, _ in questions]
    assert [value for _, value in questions] == [listed[key] for key, _ in questions]
    assert [choices[start] for start, _ in words] == [1 / (len(listed) - i) for i in range(len(words))]
    assert len(set(listed.values())) == len(listed) == len(questions) + 1
    return len(listed)


def test_look_ups(passages):
    sizes = set()
    for text, words, choices in labelled(passages, "look-up"):
        if m := re.search(LIST, text):
            assert all(start >= m.start(2) for start, _ in words)
            sizes.add(check_answers(text, words, choices, dict(pairs(m[1])), pairs(m[2])))
        else:
            assert words == []
    assert sizes == {2, 3, 4}


def test_needles(passages):
    sizes = set()
    for text, words, choices in labelled(passages, "needle"):
        listed = dict(re.findall(r"Remember (\w+) (\w+)\.", text))
        if m := re.search(r"Recall ([\w, ]+)\.", text):
            sizes.add(check_answers(text, words, choices, listed, pairs(m[1])))
            assert len(re.findall(PERSON, text)) == len(listed)
        else:
            assert words == []
    assert sizes == {3, 4}


def test_copies(passages):
    for text, words, choices in labelled(passages, "copy"):
        if m := re.search(TWICE, text):
            assert m[1] == m[2] == " ".join(text[start:end] for start, end in words)
            assert words[0][0] == m.start(2)
            assert {choices[start] for start, _ in words} == {1 / len(words)}
            assert len(set(m[1].split())) == len(words)
        else:
            assert words == []


def test_every_length_of_copies_occurs(passages):
    draws = Draws("copies")
    copies = [passages.corpus.world.copy(draws, set()) for _ in range(200)]
    lengths = {sum(piece.kind == COPY for piece in copy) for copy in copies}
    assert lengths == set(range(1, LONGEST_COPY + 1))


def test_a_person_occurs_in_one_passage_of_a_sequence(passages):
    found = []
    for ids in passages.corpus.batch(0, 8, 800).ids:
        texts = "".join(map(passages.corpus.vocabulary.text, ids)).split("\n")
        people = [set(re.findall(f"({PERSON}) ", text)) & passages.people for text in texts]
        assert sum(map(len, people)) == len(set().union(*people))
        found += people
    assert sum(map(len, found)) > 40


def test_sequences_longer_than_the_world(passages):
    assert passages.corpus.batch(0, 1, 20_000).ids.shape == (1, 20_001)


@pytest.mark.parametrize("seed", range(3))
def test_names_at_the_size_of_the_presets(seed):
    """Every word of a name is a token; every last word belongs to several people, so that it identifies nobody."""
    corpus = WorldCorpus(1024, seed)
    assert {len(corpus.vocabulary.encode(person)) for person in corpus.world.people} == {2, 3}
    people_by_last = np.unique([person.split()[-1] for person in corpus.world.people], return_counts=True)[1]
    assert np.median(people_by_last) > 1


def test_the_seed_determines_the_world():
    assert World(5).facts == World(5).facts != World(6).facts
    assert len(set(World(5).people)) == 200
