"""engram-ref ids: print the table rows that Engram reads for text or token ids."""

import argparse
import io
import json
from collections.abc import Iterator

import numpy as np

from engram_ref.addressing import Addressing
from engram_ref.cli.source import add_input, configured, output_path, read_text
from engram_ref.cli.terminal import DIM, width, wrap
from engram_ref.config import EngramConfig, check_layer
from engram_ref.errors import InputError
from engram_ref.files import write_whole
from engram_ref.ops.canonical import DEAD, canonicalise, check_ids
from engram_ref.text.maps import int64_digest
from engram_ref.text.vocabulary import Vocabulary

HELP = "print the table rows that Engram reads for a text or token ids"
DESCRIPTION = """Print the table rows that Engram reads for a text or token ids. Without TEXT and --tokens, the text is
read from standard input. Output is one line per position, layer and order; rows are relative to each head's table
unless --flat is given. No weights are needed, only a configuration and a tokenizer."""


def arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of `ids`."""
    command.add_argument("--tokens", metavar="IDS", help="token ids instead of text, such as 1,2,dead,3")
    command.add_argument("--canonical", action="store_true", help="--tokens and --history are canonical ids")
    add_input(command)
    command.add_argument("--layer", default="all", metavar="ID", help="layer id, or all (default)")
    command.add_argument("--flat", action="store_true", help="add the column offsets, for rows of the flat table")
    command.add_argument("--history", metavar="IDS", help="ids that precede the text, oldest first, at most N-1")
    command.add_argument("--digest", action="store_true",
                         help="print only the sha256 of the rows as little-endian int64 [1, T, layers, C]")
    command.add_argument("--which-dialect", metavar="FILE", help="print which preset and layer, or which known bug, "
                         "gives the rows in FILE.npy or FILE.json: [T, C] or [1, T, layers, C]")
    command.add_argument("--out", metavar="FILE.npy", help="write the rows to a file, as int64 [1, T, layers, C]")


def run(options: argparse.Namespace) -> int:
    """Print or write the rows or their digest."""
    if options.which_dialect is not None:
        from engram_ref.cli.dialect import report

        options.text = [] if options.tokens is not None else [read_text(options.text)]
        return report(options, ids_and_history)
    config, vocabulary = configured(options)
    layers = chosen_layers(config, options.layer)
    path = output_path(options.out, ".npy", "--out")
    addressing = Addressing(config, None if config.vocabulary is None else vocabulary)
    ids, history = ids_and_history(options, addressing, vocabulary)
    per_layer = [addressing.rows(ids, layer, history=history, flat=options.flat) for layer in layers]
    rows = np.stack(per_layer, axis=1)[None]                 # [1, T, layers, C]
    if path is not None:
        buffer = io.BytesIO()
        np.save(buffer, rows)
        write_whole(path, buffer.getvalue())
    if options.digest:
        print(json.dumps({"sha256": int64_digest(rows)}) if options.json else int64_digest(rows))
    elif options.json:
        print(json.dumps({"preset": config.name, "layers": layers, "flat": options.flat,
                          "axes": ["batch", "position", "layer", "column"], "canonical_ids": ids.tolist(),
                          "rows": rows.tolist()}))
    elif path is None:
        for line in lines(config, layers, ids, rows, options.flat):
            print(line)
    return 0


def chosen_layers(config: EngramConfig, text: str) -> list[int]:
    """Layer ids selected by --layer."""
    if text == "all":
        return list(config.layer_ids)
    try:
        layer = int(text)
    except ValueError as error:
        raise InputError("--layer", "an integer or the word all", repr(text)) from error
    check_layer(config, layer)
    return [layer]


def ids_and_history(options: argparse.Namespace, addressing: Addressing,
              vocabulary: Vocabulary | None) -> tuple[np.ndarray, np.ndarray]:
    """Canonical ids [T] and history [N-1], from the options."""
    config = addressing.config
    if options.text and options.tokens is not None:
        raise InputError("TEXT", "either TEXT or --tokens", "both")
    if options.tokens is not None:
        ids, option = parse_ids(options.tokens, "--tokens"), "--tokens"
    elif options.canonical:
        raise InputError("--canonical", "ids given with --tokens", "text")
    else:
        text, option = read_text(options.text), "TEXT"
        if vocabulary is None:
            raise InputError("TEXT", "--tokens or --tokenizer", "text only",
                             f"{config.name} hashes raw ids of a tokenizer that is not included")
        ids = vocabulary.encode(text)
    ids = to_canonical(ids, addressing, option, options.canonical)
    span, before = config.max_ngram - 1, np.zeros(0, np.int64)
    if options.history is not None:
        before = to_canonical(parse_ids(options.history, "--history"), addressing, "--history", options.canonical)
    if len(before) > span:
        raise InputError("--history", f"at most {span} ids", f"{len(before)} ids")
    return ids, np.concatenate([np.full(span - len(before), DEAD), before])


def parse_ids(text: str, option: str) -> np.ndarray:
    """Parse "1,2,dead,3" as int64 ids; the word dead marks a masked position."""
    ids = []
    for position, part in enumerate(text.split(",")):
        word = part.strip()
        try:
            ids.append(DEAD if word == "dead" else int(word))
        except ValueError as error:
            raise InputError(option, "integers separated by commas", f"{word!r} at position {position}") from error
        if word != "dead" and ids[-1] < 0:
            raise InputError(option, "ids of at least 0", f"{word} at position {position}",
                             "write the word dead for a masked position")
    too_large = [i for i in ids if i > np.iinfo(np.int64).max]
    if too_large:
        raise InputError(option, "ids below 2^63", f"{too_large[0]} at position {ids.index(too_large[0])}")
    return np.array(ids, dtype=np.int64)


def to_canonical(ids: np.ndarray, addressing: Addressing, option: str, already: bool) -> np.ndarray:
    """Check ids and map them, unless `already` is set because they are canonical; DEAD must be in the dialect."""
    config = addressing.config
    check_ids(ids, config.canonical_size if already else config.vocab_size, config.dead_barrier, option)
    return ids if already or addressing.canonical is None else canonicalise(ids, addressing.canonical)


def lines(config: EngramConfig, layers: list[int], ids: np.ndarray, rows: np.ndarray, flat: bool) -> Iterator[str]:
    """Text output: one line per position, layer and order, wrapped if there are many heads."""
    kind = "flat rows, offsets added" if flat else "rows per head"
    yield from wrap(f"{config.name}, {kind}; columns: position, canonical id, layer, order, "
                    f"heads 0..{config.n_heads - 1}", DIM)
    digits, places = len(str(rows.max(initial=0))), max(5, len(str(len(ids) - 1)))
    indent = places + 17                                       # columns of the label and the spaces after it
    n_lines = -(-config.n_heads * (digits + 1) // (width() - indent))
    per_line = -(-config.n_heads // n_lines)                 # the same number of heads per line
    for t, token in enumerate(ids):
        for i, layer in enumerate(layers):
            for order in config.orders:
                heads = rows[0, t, i].reshape(-1, config.n_heads)[order - 2]
                shown = [f"{row:>{digits}}" for row in heads]
                label = f"{t:>{places}} {'dead' if token == DEAD else token:>7} {layer:>3} {order:>2}"
                for start in range(0, len(shown), per_line):
                    yield f"{label if start == 0 else '':{indent}}{' '.join(shown[start : start + per_line])}"
