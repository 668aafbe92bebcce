"""Generate the pages of the specification and the page of the constants.

    python specification.py    ->  {"pages": {"specification/demo.md": ..., "specification/constants.md": ...}}

The documents come from engram_ref.oracle.specification. A drawing in a document is text; the
page shows the diagram of the same name instead.
"""

import json
import re

import numpy as np
from introspect import table

from engram_ref.addressing import Addressing, addressing_of
from engram_ref.oracle.specification import documents
from engram_ref.presets import preset, presets
from engram_ref.text.maps import KNOWN_VOCABULARIES, int64_digest

DRAWING = re.compile(r"<!-- drawing: (.*?) -->\n```text\n.*?\n```", re.S)
KINDS = ("multipliers", "primes", "offsets")

CONSTANTS = """\
# Constants

An implementation needs these numbers to compute rows:

- the canonical map of the vocabulary;
- the multipliers of each layer, newest token first;
- the primes: the number of rows of each column's table, columns sorted by order, then by head;
- the offsets: the first row of each column in the flat table of the layer.

A kit contains all of them as raw files, little-endian int64 in C order, such as
`constants/deepseek-v4.1-flash/layer-1.multipliers.i64.4.bin` and `constants/deepseek-v4/canonical.i64.129280.bin`.
In Python, [`Addressing`][engram_ref.addressing.Addressing] has them. The specifications of
[the demo and the paper](demo.md), [V4.1](v4.1.md) and [Qwen](qwen.md) state how they are derived.

Each digest is the sha256 of such a file. In the lines "all layers", the array has one row per layer, in the order of
the preset; the digests of `deepseek-v4.1-flash` in these lines equal the published ones.

## Canonical maps"""


def constants_page() -> str:
    """The canonical maps, then one section per preset."""
    maps = [[f"`{name}`", f"{v.size:,} raw ids,<br>{v.canonical_size:,} classes", f"`{v.map_digest}`"]
            for name, v in KNOWN_VOCABULARIES.items()]
    parts = [CONSTANTS, table(["vocabulary", "size", "sha256"], maps)]
    for name in presets():
        parts += [f"## {name}", *arrays(addressing_of(preset(name)))]
    return "\n\n".join(parts) + "\n"


def arrays(addressing: Addressing) -> list[str]:
    """The ids and table sizes of a preset, and a table of its arrays with their digests."""
    config = addressing.config
    ids = f"Pad: canonical id {addressing.pad_id}. " + (
        "No EOS." if addressing.eos_id is None else f"EOS, which replaces hidden tokens: id {addressing.eos_id}.")
    stored = ", ".join(f"{rows:,} in layer {layer}" for layer, rows in addressing.table_rows.items())
    words = f"Layers are numbered from {config.layer_base}. {ids} Rows of the stored tables: {stored}."
    rows = [row(f"layer {layer}", kind, getattr(addressing, kind)[layer]) for layer in config.layer_ids
            for kind in KINDS]
    if len(config.layer_ids) > 1:
        rows += [row("all layers", kind, np.stack(list(getattr(addressing, kind).values()))) for kind in KINDS]
    return [words, table(["", "values", "sha256"], rows)]


def row(label: str, kind: str, values: np.ndarray) -> list[str]:
    """One line: all values of a short array, the first and the last of a long one, and the digest."""
    flat = [f"`{number}`" for number in values.ravel().tolist()]
    listed = "<br>".join(flat) if len(flat) <= 4 else f"{flat[0]} to {flat[-1]}"
    shape = ", ".join(map(str, values.shape))
    return [f"{label}<br>{kind} `[{shape}]`", listed, f"`{int64_digest(values)}`"]


def pages() -> dict[str, str]:
    """{path: Markdown} of all pages, in the order of the navigation."""
    shown = {f"specification/{file}": DRAWING.sub(r"{{ diagram: \1 }}", text) for file, text in documents().items()}
    return {**shown, "specification/constants.md": constants_page()}


if __name__ == "__main__":
    print(json.dumps({"pages": pages()}))
