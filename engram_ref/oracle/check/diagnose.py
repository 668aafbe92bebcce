"""Diagnosis: find the known bug that gives the same answers as a port at the first stage that differs.

A bug is named only if every element agrees, correct ones included, within the rounding noise of the wrong computation.
First each bug of the catalogue is tried alone, then pairs that change different ops. Bugs that give the same answers
in all compared cases are named together.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from engram_ref.ops.namespace import NUMPY, Ops
from engram_ref.oracle.bugs import BUGS, Bug, namespace_with, streams_with
from engram_ref.oracle.cases import Case, Vectors
from engram_ref.oracle.check.judge import judge
from engram_ref.oracle.noise import noise_of
from engram_ref.oracle.run import Adapter, run
from engram_ref.oracle.streams import STREAMS

FAILING, PASSING = 8, 4
"""Largest numbers of compared cases."""

PAIRED = 10
"""Number of bugs, the nearest ones, that are combined with every other."""

LAST_TOPICS = ("addressing", "module", "model")
"""Topics of several ops; the smaller ops are diagnosed before them."""


@dataclass(frozen=True)
class Diagnosis:
    """What is known about wrong answers.

    lines   text for a person
    names   per explanation, the names of its bugs joined by " + "; empty if no known bug explains the answers
    """

    lines: tuple[str, ...]
    names: tuple[str, ...]
'''
'''
