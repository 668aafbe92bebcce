"""engram-ref ids: which table rows does this text, or do these ids, read?"""

import argparse
import io
import json
from collections.abc import Iterator

import numpy as np

from engram_ref.addressing import Addressing
from engram_ref.cli.source import (
    add_preset,
    add_text,
    configured,
    encode,
    output_path,
    parse_ids,
    read_text,
    to_canonical,
)
from engram_ref.cli.terminal import style, width, wrap
from engram_ref.config import EngramConfig, check_layer
from engram_ref.errors import InputError
from engram_ref.files import write_whole
from engram_ref.ops.canonical import DEAD, check_ids
from engram_ref.text.maps import int64_digest
from engram_ref.text.vocabulary import Vocabulary

HELP = "the table rows that a text or ids read"
DESCRIPTION = """The table rows that a text, token ids, or text on standard input read.

One line a position, layer and order; rows are counted within each head's own table unless --flat.
Only a configuration and a tokenizer are needed, no weights."""


def arguments(command: argparse.ArgumentParser) -> None:
    """The options of `ids`."""
    add_text(command)
    command.add_argument("--tokens", metavar="IDS", help="token ids instead of text, such as 1,2,dead,3")
    command.add_argument("--canonical", action="store_true", help="the ids are canonical already")
    add_preset(command)
    command.add_argument("--layer", default="all", metavar="ID", help="one layer, or all (default)")
    command.add_argument("--flat", action="store_true", help="add column offsets: rows of the layer's flat table")
    command.add_argument("--history", metavar="IDS", help="the ids before these, oldest first, at most N-1")
    command.add_argument("--digest", action="store_true",
                         help="print only the sha256 of the rows as little-endian int64 [1, T, layers, C]")
    command.add_argument("--out", metavar="FILE.npy", help="write the rows, int64 [1, T, layers, C], instead")


def run(options: argparse.Namespace) -> int:
    """Print, digest or write the rows."""
    config, vocabulary = configured(options)
    layers = chosen_layers(config, options.layer)
    path = None if options.out is None else output_path(options.out, ".npy", "--out")
    addressing = Addressing(config, None if config.vocabulary is None else vocabulary)
    ids, history = canonical_input(options, addressing, vocabulary)
    rows = all_rows(addressing, layers, ids, history, options.flat)
    if path is not None:
        buffer = io.BytesIO()
        np.save(buffer, rows)
        write_whole(path, buffer.getvalue())
    if options.json:
        print(json.dumps(as_json(options, config, layers, ids, rows)))
    elif options.digest:
        print(int64_digest(rows))
    elif path is None:
        for line in lines(config, layers, ids, rows, options.flat):
            print(line)
    return 0


def as_json(options: argparse.Namespace, config: EngramConfig, layers: list[int], ids: np.ndarray,
            rows: np.ndarray) -> dict[str, object]:
    """What a program reads: the digest alone, or everything."""
    if options.digest:
        return {"sha256": int64_digest(rows)}
    return {"preset": config.name, "layers": layers, "flat": options.flat,
            "axes": ["batch", "position", "layer", "column"], "canonical_ids": ids.tolist(), "rows": rows.tolist()}


def chosen_layers(config: EngramConfig, text: str) -> list[int]:
    """The layers that --layer names."""
    if text == "all":
        return list(config.layer_ids)
    try:
        layer = int(text)
    except ValueError as error:
        raise InputError("--layer", "a number or the word all", repr(text)) from error
    check_layer(config, layer)
    return [layer]


def canonical_input(options: argparse.Namespace, addressing: Addressing,
                    vocabulary: Vocabulary | None) -> tuple[np.ndarray, np.ndarray]:
    """Canonical ids [T] and history [N-1] from the options."""
    config = addressing.config
    if options.text and options.tokens is not None:
        raise InputError("TEXT", "either a text or --tokens", "both")
    if options.tokens is not None:
        ids = given_ids(options.tokens, "--tokens", options, addressing)
    else:
        if options.canonical:
            raise InputError("--canonical", "ids given with --tokens", "a text")
        ids = to_canonical(encode(read_text(options.text), config, vocabulary), addressing, "TEXT")
    span = config.max_ngram - 1
    before = np.zeros(0, np.int64) if options.history is None else \
        given_ids(options.history, "--history", options, addressing)
    if len(before) > span:
        raise InputError("--history", f"at most {span} ids, those just before", len(before))
    return ids, np.concatenate([np.full(span - len(before), DEAD), before])


def given_ids(text: str, option: str, options: argparse.Namespace, addressing: Addressing) -> np.ndarray:
    """Ids from an option, made canonical unless they are."""
    ids = parse_ids(text, option)
    if options.canonical:
        check_ids(ids, addressing.config.canonical_size, addressing.config.dead_barrier, option)
        return ids
    return to_canonical(ids, addressing, option)


def all_rows(addressing: Addressing, layers: list[int], ids: np.ndarray, history: np.ndarray,
             flat: bool) -> np.ndarray:
    """Rows of all layers: int64 [1, T, layers, C]."""
    per_layer = [addressing.rows(ids, layer, history=history, flat=flat) for layer in layers]
    return np.stack(per_layer, axis=1)[None]         # [1, T, layers, C]


def lines(config: EngramConfig, layers: list[int], ids: np.ndarray, rows: np.ndarray, flat: bool) -> Iterator[str]:
    """The rows as a person reads them: one line per position, layer and order, wrapped if there are many heads."""
    kind = "flat rows, offsets added" if flat else "rows per head"
    for line in wrap(f"{config.name}, {kind}; columns: position, canonical id, layer, order, "
                     f"heads 0..{config.n_heads - 1}"):
        yield style(line, "2")
    digits, places = len(str(rows.max(initial=0))), max(5, len(str(len(ids) - 1)))
    room = places + 17                                       # of the label and the spaces after it
    n_lines = -(-config.n_heads * (digits + 1) // (width() - room))
    per_line = -(-config.n_heads // n_lines)                 # as many heads on every line
    for t, token in enumerate(ids):
        for i, layer in enumerate(layers):
            for order in config.orders:
                heads = rows[0, t, i].reshape(-1, config.n_heads)[order - 2]
                shown = [f"{row:>{digits}}" for row in heads]
                label = f"{t:>{places}} {'dead' if token == DEAD else token:>7} {layer:>3} {order:>2}"
                for start in range(0, len(shown), per_line):
                    yield f"{label if start == 0 else '':{room}}{' '.join(shown[start : start + per_line])}"
