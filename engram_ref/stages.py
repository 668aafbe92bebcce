"""Stages: every intermediate result has one public name.

The trace, the command line, golden vectors, comparisons and tutorials all use these names. A key is a path:
`layers.1.engram.gate` is the stage `gate` of the Engram module in layer 1.
"""

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Stage:
    """One intermediate result: name, shape in axis letters (see axes.py), kind of number, meaning, formula and op."""

    name: str
    axes: str
    kind: str       # "int64" or "float"
    about: str
    formula: str
    op: str         # the function of engram_ref.ops that computes it


_TABLE = json.loads((Path(__file__).parent / "data" / "stages.json").read_text(encoding="utf-8"))

STAGES = tuple(Stage(*fields) for fields in _TABLE["module"])
"""The stages of the Engram module, in the order they are computed."""

BACKBONE_STAGES = tuple(Stage(*fields) for fields in _TABLE["backbone"])
"""The stages of the backbone; each block has the branch stages twice, for attention and for feed-forward."""

BY_NAME: dict[str, Stage] = {stage.name: stage for stage in (*STAGES, *BACKBONE_STAGES)}


def stage_of(key: str) -> Stage | None:
    """Return the stage named by the last part of a key, or None if it names no stage.

    >>> stage_of("layers.1.engram.gate").axes
    'B T M'
    """
    return BY_NAME.get(key.rsplit(".", 1)[-1])
