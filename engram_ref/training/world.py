"""Text about an invented world, in simple English: as much as needed, and with labels on the tokens that answer.

The seed determines the world: its people, and four facts about each. The text consists of four kinds of passages:

    facts      two facts about each of three people, often with a set phrase between two people. A person has the same
               facts in every text, and occurs in one passage of a sequence, so a model can only answer from memory.
    look-up    a list of pairs, such as "tree silver, cup iron", then some of the keys again. The values are drawn
               anew for every list, so a model can only answer from the context.
    copy       a list of words, twice
    needles    like look-up, but the pairs are scattered among facts
"""

import random
from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

KINDS = ("other", "fact", "phrase", "look-up", "copy", "needle")
"""What the token answers: a label is an index into this tuple."""
OTHER, FACT, PHRASE, LOOK_UP, COPY, NEEDLE = range(len(KINDS))

LONGEST_COPY = 20       # words

SYLLABLES = "ba be bo da do fe ga ke ki la lo lu ma mi mo na ne pa po ra ri ru sa so su ta to ve vi zo".split()
LAST_SYLLABLES = "dor fel gar hal kan lin mar nor quin ren sil tal ven wyn".split()
TRADES = "baker smith weaver sailor hunter singer mason tailor potter farmer judge clerk nurse pilot cook guard".split()
ANIMALS = "cat dog fox crow goat hare toad swan mole hawk bear wolf bee newt pig hen".split()
COLOURS = "red blue green black white brown grey pink plum teal rust jade sand rose cream lime".split()
KEYS = ("box cup door lamp ring boat tree wall coin book rope bell drum sword chair clock tower bridge basket candle "
        "mirror kettle ladder pillow wagon violin garden window hammer needle").split()
METALS = "gold silver iron copper tin lead zinc brass steel bronze nickel chrome cobalt radium titanium pewter".split()

CLAUSES = {"town": ("comes from", "has a house in"), "trade": ("works as a", "was once a"),
           "animal": ("keeps a", "talks to a"), "colour": ("wears", "loves")}
"""Attribute of a person -> what precedes its value."""

PHRASES = ("Once upon a time in a land of snow", "Once in a while and out of the blue", "In the blink of an eye",
           "In the name of law and order", "In the dead of night", "At the end of the day", "At the drop of a hat",
           "From the bottom of the heart", "From the cradle to the grave", "For better or for worse",
           "By word of mouth", "By hook or by crook", "On the spur of the moment", "On the other side of the hill",
           "As sure as night follows day", "As luck would have it", "Last but not least", "To cut a long story short",
           "Without rhyme or reason", "Against all odds and every promise", "Sooner or later", "Through thick and thin",
           "Much to our own surprise", "With flying colours", "Under the shadow of a great mountain",
           "Before anyone could answer", "Behind closed curtains", "According to an ancient legend")
ENDINGS = (" all was quiet.", " rain came.", " the road was long.", " nobody knew why.", " they began to laugh.",
           " summer returned.", " everyone danced.", " it happened again.")


class Piece(NamedTuple):
    """A part of a passage whose tokens have one label. It starts with a space, a punctuation mark or a line end."""

    text: str
    kind: int = OTHER
    name: bool = False          # a person's name
    chance: float = 0.0         # for an answer in context: one divided by the number of possible answers in the list


class Draws:
    """Random choices that depend only on a key: Python guarantees the numbers of `random` for a seed."""

    def __init__(self, *key: object):
        self.random = random.Random(" ".join(map(str, key))).random

    def below(self, n: int) -> int:
        """Return an integer in [0, n)."""
        return int(n * self.random())

    def one(self, items: Sequence):
        """Return one of the items."""
        return items[self.below(len(items))]

    def some(self, items: Sequence, n: int) -> list:
        """Return n different items in random order."""
        left = list(items)
        return [left.pop(self.below(len(left))) for _ in range(n)]


class World:
    """People and facts, and passages about them.

    people   names of two or three words, each word shared by several people: "Nelosil Dabofel", "Nelosil of Riva"
    facts    (person, attribute) -> value

    >>> world = World(seed=0)
    >>> world.people[0], world.facts[world.people[0], "animal"]
    ('Nelosil of Dabofel', 'pig')
    """

    def __init__(self, seed: int = 0, people: int = 200):
        draws = Draws("world", seed)
        pairs = draws.some([a + b for a in SYLLABLES for b in SYLLABLES if a != b], 96)
        names = [(pair + draws.one(LAST_SYLLABLES)).title() for pair in pairs]
        firsts, lasts, towns = names[:40], names[40:80], names[80:]
        pairs = draws.some([(first, last) for first in firsts for last in lasts], people)
        self.people = [draws.one(("{} {}", "{} of {}")).format(*pair) for pair in pairs]
        values = {"town": towns, "trade": TRADES, "animal": ANIMALS, "colour": COLOURS}
        self.facts = {(person, attribute): draws.one(values[attribute])
                      for person in self.people for attribute in CLAUSES}
        self.passages = 6 * [self.fact_passage] + 8 * [self.look_up] + 5 * [self.copy] + 4 * [self.needles]

    def passage(self, draws: Draws, told: set) -> list[Piece]:
        """Draw a passage, from line end to full stop; `told` contains the people of earlier ones and is extended."""
        return [Piece("\n"), *draws.one(self.passages)(draws, told)]

    def fact_passage(self, draws: Draws, told: set) -> list[Piece]:
        """Draw two facts about each of three people, often with a phrase between two people."""
        parts = [list(self.facts_about(draws, told, 2)) for _ in range(3)]
        if draws.below(10) < 7:
            parts.insert(draws.below(4), phrase(draws))
        return [piece for part in parts for piece in part]

    def facts_about(self, draws: Draws, told: set, n: int) -> Iterator[Piece]:
        """Draw n facts about a person who is not in `told`; the first people of the world are the most frequent."""
        if 2 * len(told) > len(self.people):        # a very long sequence: start again
            told.clear()
        while (person := self.people[int(len(self.people) * draws.random()**3)]) in told:
            pass
        told.add(person)
        yield Piece(f" {person}", name=True)
        for i, attribute in enumerate(draws.some(list(CLAUSES), n)):
            yield Piece(f"{' and' if i else ''} {draws.one(CLAUSES[attribute])}")
            yield Piece(f" {self.facts[person, attribute]}", FACT)
        yield Piece(".")

    def look_up(self, draws: Draws, told: set) -> list[Piece]:
        """Draw a list of two to four pairs, and questions about all but one of them."""
        pairs = draw_pairs(draws, 2 + draws.below(3))
        listed = listing([[Piece(f" {key}"), Piece(f" {value}")] for key, value in pairs])
        return [Piece(" The list says"), *listed, Piece(" Now"), *answers(draws, pairs, len(pairs) - 1, LOOK_UP)]

    def copy(self, draws: Draws, told: set) -> list[Piece]:
        """Draw a list of different words, and its copy."""
        words = draws.some(TRADES + ANIMALS + COLOURS, 1 + draws.below(LONGEST_COPY))
        return [Piece(" Say it twice:"), *(Piece(f" {word}") for word in words), Piece("."), Piece(" Again:"),
                *(Piece(f" {word}", COPY, chance=1 / len(words)) for word in words), Piece(".")]

    def needles(self, draws: Draws, told: set) -> list[Piece]:
        """Draw three or four pairs scattered among facts, and questions about all but one of them."""
        pairs = draw_pairs(draws, 3 + draws.below(2))
        parts = [[Piece(" Remember"), Piece(f" {key}"), Piece(f" {value}"), Piece(".")] for key, value in pairs]
        for _ in range(len(pairs)):
            parts.insert(draws.below(len(parts)) + 1, list(self.facts_about(draws, told, 1)))
        return [*(piece for part in parts for piece in part), Piece(" Recall"),
                *answers(draws, pairs, len(pairs) - 1, NEEDLE)]


def phrase(draws: Draws) -> list[Piece]:
    """Draw a phrase and an ending; the part of the phrase that its first words determine is labelled."""
    opening, rest = split_phrase(draws.one(PHRASES))
    return [Piece(f" {opening}"), Piece(f" {rest}", PHRASE), Piece(draws.one(ENDINGS))]


@cache
def split_phrase(text: str) -> tuple[str, str]:
    """Split a phrase after the first words that no other phrase starts with."""
    words = text.split()
    n = next(n for n in range(len(words)) if sum(other.split()[:n] == words[:n] for other in PHRASES) == 1)
    return " ".join(words[:n]), " ".join(words[n:])


def draw_pairs(draws: Draws, n: int) -> list[tuple[str, str]]:
    """Draw n pairs of a key and a value, all different."""
    return list(zip(draws.some(KEYS, n), draws.some(METALS, n), strict=True))


def listing(parts: list[list[Piece]]) -> list[Piece]:
    """Join parts with commas, and end with a full stop."""
    pieces = [piece for part in parts for piece in (*part, Piece(","))]
    return [*pieces[:-1], Piece(".")]


def answers(draws: Draws, pairs: list[tuple[str, str]], n: int, kind: int) -> list[Piece]:
    """Ask for n of the pairs. A value is asked for only once, so fewer are possible for every further question."""
    return listing([[Piece(f" {key}"), Piece(f" {value}", kind, chance=1 / (len(pairs) - i))]
                    for i, (key, value) in enumerate(draws.some(pairs, n))])
