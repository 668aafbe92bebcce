"""Solved cases: inputs at the special points of a formula, so that a bug there changes an answer.

Float inputs are exact in bfloat16. Choices (the sign of a zero score, the best experts, the exponent of a scale) rest
on sums that are exact in any order, or the case lists every acceptable answer.
"""

from dataclasses import replace
from itertools import chain

import numpy as np

from engram_ref.addressing import Addressing
from engram_ref.config import CHOICES
from engram_ref.ops import DEAD
from engram_ref.oracle.slow import module as slow
from engram_ref.oracle.slow import primes
from engram_ref.presets import preset
from scripts.builders import solved_backbone, solved_codecs, solved_modules
from scripts.builders.integers import slow_constants, slow_mix, slow_table_rows
from scripts.builders.planned import case, each
from scripts.builders.small_modules import DEMO

RELEASED = ("deepseek-v4.1-flash", "engram-27b", "demo", "qwen4exp-ple")
LONG = replace(preset("deepseek-v4.1-flash"), name="past-2^31-rows", layer_ids=(1,), table_sizes=(150_000_000,) * 3)
WRAPPING = replace(DEMO, name="wrapping-products", multipliers=((2**62 + 1, 2**63 - 1, 2**61 + 5),))
PADDED = replace(DEMO, name="pad-455", pad_id=455)          # raw id 455 is class 237; the presets' pad maps to itself


UNSORTED = (replace(DEMO, name="layers-15-1", layer_ids=(15, 1)),
            replace(preset("qwen4exp-ple"), name="layers-5-2", layer_ids=(5, 2)))
"""Table sizes and ordinals follow the order of the list in one dialect, and ascending layers in the other."""

NORMALISED = {"unicode-12": ("\u32ff", "\u32ff"), "mark-of-unicode-14": ("a\u0898", "a\u0898"),
              "private-use": ("\ue000", " ")}
"""Title -> text and its normalised form, with the Unicode tables of the release and its sentinel for a single space."""


def text():
    """Yield texts whose form depends on the version of Unicode, and a raw token that equals another token's text."""
    for title, (before, after) in NORMALISED.items():
        yield case(f"normalise/{title}", kind_of_case="solved", slow=lambda text, after=after: after, text=before)
    yield case("canonical_map/one-dictionary", kind_of_case="solved", slow=lambda tokens: [0, 0, 0, 1],
               tokens=[["\ufffd", "abc"], ["ABC", "q"], ["\ufffd", "abc"], ["d", "d"]])


def addressing():
    """Yield constants and rows for the first and the last ids, and for 0, 1 and 3 tokens."""
    small = (LONG, WRAPPING, PADDED)
    kinds = [*((preset(name), "released") for name in RELEASED), *((config, "solved") for config in small + UNSORTED)]
    for config, layer, kind in ((c, layer, kind) for c, kind in kinds for layer in c.layer_ids):
        pads, V = (Addressing(config).pad_id, Addressing(config).eos_id), config.canonical_size
        ids = np.array([[0, V - 1, V - 2], [V - 1, V - 1, 0]])
        for T in (0, 1, 3) if config in small else (3,):
            yield case(f"addressing/{config.name}-layer-{layer}-ends-{T}", kind_of_case=kind, dialect=config.name,
                       outputs=("multipliers", "primes", "offsets", "table_rows", "rows"), config=config,
                       canonical_ids=ids[:, :T], layer_id=layer, history=None, flat=config is not WRAPPING,
                       flags="dialect flat short negative-mix" + {0: " empty", 1: " one-token"}.get(T, ""),
                       slow=lambda pads=pads, **a: slow_constants(pads, **a))


def hashing():
    """Yield products above 2^53, remainders at multiples of primes, and primes that are nominal sizes or bases."""
    V, m = 99_092, np.array([2 * ((2**63 - 1) // 99_092 // 2) - 1, 76_632_096_046_245, 3])
    windows = np.array([[[V - 1, V - 1, V - 1], [V - 1, 0, 1], [0, 0, 0], [2**53 + 1, 1, 2]]])
    yield case("mix/largest-products", kind_of_case="solved", slow=slow_mix, windows=windows, multipliers=m)
    p = np.array([11, 13, 16_000_057, 2_147_483_647])
    edges = [0, 1, -1, 10, 11, -11, -13, 2**31, -(2**31), 2**53 + 1, 2**63 - 1, -(2**63), -(2**63) + 1, 16_000_057]
    yield case("table_rows/edges", kind_of_case="solved", flags="negative-mix", slow=slow_table_rows, primes=p,
               mixes=np.array([[[a, b] for a, b in zip(edges, edges[::-1], strict=True)]]))
    yield case("canonicalise/ends", kind_of_case="solved", flags="dead", ids=np.array([[0, DEAD, 5], [5, 0, DEAD]]),
               canonical=np.array([3, 0, 1, 2, 4, 0]),
               slow=lambda ids, canonical: [DEAD if i == DEAD else canonical[i] for i in ids.ravel()])
    for n in (3, 5, 7, 11, 13, 17, 37, 41, 59, 61, 62):                 # among them every base of Miller-Rabin's test
        yield case(f"is_prime/{n}", kind_of_case="solved", slow=primes.is_prime, n=n)
    for title, sizes in (("tiny", (1, 1, 3)), ("nominal-is-prime", (5003, 61, 5003))):
        yield case(f"table_primes/{title}", kind_of_case="solved", table_sizes=sizes, n_heads=2, n_layers=2,
                   slow=lambda table_sizes, n_heads, n_layers: primes.table_primes(table_sizes, n_heads, n_layers))


def gates():
    """Yield all bfloat16 scores from 2^-21 to 2^-18, on both sides of the clamp, through every gate and root."""
    s = np.concatenate([np.arange(128, 256) * 2.0 ** (e - 7) for e in (-21, -20, -19)])
    s = np.concatenate([s, -s, [0.0, -0.0]])
    for form in CHOICES["gate_form"]:
        yield case(f"gate/{form}-clamp", kind_of_case="solved", flags="clamp minus-zero dialect", form=form, dead=None,
                   s=s.reshape(1, -1, 2), slow=lambda s, form, dead: each(lambda v: slow.gate(v, form), s))


def cases():
    """Yield every solved case."""
    for area in ((text, addressing, hashing, gates), solved_codecs.AREA, solved_modules.AREA, solved_backbone.AREA):
        yield from chain.from_iterable(part() for part in area)
