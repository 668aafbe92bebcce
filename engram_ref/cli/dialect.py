"""engram-ref ids --which-dialect: find the preset and layer, or the known bug, that gives the rows in a file."""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from engram_ref.addressing import Addressing
from engram_ref.cli.terminal import wrap
from engram_ref.errors import InputError
from engram_ref.ops.namespace import NUMPY
from engram_ref.oracle.bugs import BUGS, namespace_with, streams_with
from engram_ref.presets import preset, presets
from engram_ref.text.vocabulary import Vocabulary

MOST = 3
"""Number of equally good descriptions that are printed."""


def report(options: argparse.Namespace, ids_and_history: Callable) -> int:
    """Print what gives the rows of each layer in the file; the exit code is 1 if a layer matches nothing."""
    given, found, layers = read_rows(options.which_dialect), list(candidates(options, ids_and_history)), []
    for rows in np.moveaxis(given, 1, 0):
        shares = {text: float(np.mean(rows == other)) for text, other in found if other.shape == rows.shape}
        best = max(shares.values(), default=0.0)
        equal = [text for text, share in shares.items() if share == best > 0]
        plain = [text for text in equal if "bug" not in text]
        layers.append({"share": best, "matches": plain or equal})
        comparable = bool(shares)
    if options.json:
        print(json.dumps({"layers": layers}))
    for number, answer in enumerate(() if options.json else layers):
        nearest = "" if answer["share"] == 1 else f"no known dialect or bug; nearest ({answer['share']:.0%} of rows): "
        names = "; or ".join(answer["matches"][:MOST])
        if not names:
            nearest = "no known dialect or bug gives " + ("any of the rows" if comparable else
                                                          f"rows of shape {list(given[:, 0].shape)}")
        print(*wrap(f"rows {number}: {nearest}{names}"), sep="\n")
    return 0 if all(answer["share"] == 1 for answer in layers) else 1


def read_rows(name: str) -> np.ndarray:
    """Read rows, [T, C], [1, T, C] or [1, T, layers, C], from FILE.npy or from JSON; return int64 [T, layers, C]."""
    try:
        with open(name, "rb") as file:
            parsed = np.load(file, allow_pickle=False) if name.endswith(".npy") else json.load(file)
        rows = np.array(parsed["rows"] if isinstance(parsed, dict) else parsed)
        found = f"{rows.dtype} {list(rows.shape)}"
    except Exception as error:                      # NumPy's errors for a damaged file have several types
        rows, found = np.zeros(0), f"an error: {error}"
    rows = rows[0] if rows.ndim > 2 and len(rows) == 1 else rows
    if rows.dtype.kind not in "iu" or rows.ndim not in (2, 3) or rows.size == 0:
        raise InputError(f"file {name}", "integers [T, C] or [1, T, layers, C] in FILE.npy or JSON", found)
    return rows.reshape(len(rows), -1, rows.shape[-1])


def candidates(options: argparse.Namespace, ids_and_history: Callable) -> Iterator[tuple[str, np.ndarray]]:
    """Yield description and rows [T, C] per preset that accepts the ids and per layer, without and with each bug."""
    found = False
    for name in presets():
        config = preset(name)
        vocabulary = None if config.vocabulary is None else Vocabulary.load(config.vocabulary)
        addressing = Addressing(config, vocabulary)
        try:
            ids, history = ids_and_history(options, addressing, vocabulary)
        except InputError as error:                                      # this dialect has other ids
            if name == presets()[-1] and not found:
                raise InputError(error.argument, "ids or a text of at least one preset", error.found) from error
            continue
        found = True
        for bugs in ((), *BUGS):
            wrong = streams_with(bugs)["addressing"](replace(config, multipliers=None), vocabulary,
                                                     ops=namespace_with(bugs))
            for layer in config.layer_ids:
                for kind, flat in (("rows per head", False), ("flat rows", True)):
                    rows = wrong.unchecked_rows(ids[None], history[None], layer, wrong.ops, NUMPY.ignore, flat)[0]
                    yield f"{name}, layer {layer}, {kind}" + (f", with bug `{bugs}`" if bugs else ""), rows
