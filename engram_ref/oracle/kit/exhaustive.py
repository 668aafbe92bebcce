"""Every finite bfloat16 number as a score: 65,280 of them, through each form of the gate."""

import zlib
from dataclasses import replace

import numpy as np

from engram_ref.config import CHOICES
from engram_ref.oracle.cases import Case, Stage, Vectors
from engram_ref.oracle.noise import FLOAT64, measure
from engram_ref.oracle.run import run

SCORES = "every-bfloat16-score"


def with_every_score(vectors: Vectors) -> Vectors:
    """Return the vectors with one more array and one more case per form of the gate."""
    bits = np.arange(2**16, dtype=np.uint32) << 16
    numbers = bits.view(np.float32)
    s = numbers[np.isfinite(numbers)].reshape(1, -1, 4)
    vectors = replace(vectors, arrays={**vectors.arrays, SCORES: s})
    return replace(vectors, cases=(*vectors.cases, *(gate_case(form, vectors) for form in CHOICES["gate_form"])))


def gate_case(form: str, vectors: Vectors) -> Case:
    """Return the case of one form."""
    case = Case(f"gate/every-score-{form}", "gate", "", {"s": {"array": SCORES}, "form": form, "dead": None}, (),
                ("output",), ("clamp", "minus-zero", "saturated", "subnormal"), (), "solved")
    found, noise = measure(lambda ops: run(case, vectors, ops, FLOAT64, False), zlib.crc32(form.encode()))
    return replace(case, stages=(Stage("output", found["output"], "f32", noise["output"]),))
