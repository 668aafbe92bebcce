"""Generate the word list, the constants and the default rows of the page "Type your own text".

    python explorable.py    ->  {"assets": {"assets/try-data.js": ...}, "marks": {"try: rows": ..., ...}}

Everything is read from the package when the site is built; assets/try.js then computes in the browser.
`marks` are the pieces of HTML that the page includes as `{{ try: rows }}`. One of them is the table:
try.js updates its cells, and without JavaScript it is shown as it is.
"""

import html
import json
from typing import NamedTuple

import numpy as np

from engram_ref.addressing import Addressing
from engram_ref.cli.walk_data import DEFAULT_TEXT, address_stages
from engram_ref.config import EngramConfig
from engram_ref.presets import preset
from engram_ref.text.vocabulary import Vocabulary

DIALECTS = (("deepseek-v4.1-flash", 1), ("engram-27b", 2))      # preset and layer
POSITION = 3                                                    # " Great", the token selected at first
PUNCTUATION = [",", ".", ";", ":", "!", "?"]
TEXT = """
    the of and a to in is was it for on with as by that this he she they we you I his her their our not but or if
    an are were be been have has had do does did will would can could may must shall should who what when where why
    how which all any some no one two three four five six seven eight nine ten first last new old young great small
    big little good bad long short high low man woman child boy girl king queen prince princess city country world
    house home water fire earth air sea river mountain tree horse dog cat bird fish lion only Alexander tame
    Bucephalus rode ran run walk walked said say says saw see seen know knew think thought make made take took give
    gave come came go went find found tell told read write word words book letter name number table row head memory
    model language token time day night year month hour morning evening summer winter spring war peace love life
    death hand eye heart mind red green blue white black gold silver brown north south east west left right up down
    out over under before after between through again always never often here there then now very more most much
    many than too so also into from about against like Diana Wales London Paris Rome Greece Athens Macedonia Persia
    India China America
"""
WORDS = TEXT.split()


def spellings(word: str) -> list[str]:
    """A word in lower case, capitalised and as listed, each with and without a leading space."""
    forms = dict.fromkeys([word.lower(), word.capitalize(), word, *(["THE"] if word == "the" else [])])
    return [space + form for form in forms for space in ("", " ")]


def word_list(vocabulary: Vocabulary) -> tuple[dict[str, tuple[int, int]], dict[str, list[str]]]:
    """{token: (raw id, canonical id)} and {word of several tokens: its tokens}."""
    tokens, split = {}, {}
    for piece in [form for word in WORDS for form in spellings(word)] + [s + p for p in PUNCTUATION for s in ("", " ")]:
        ids = [int(i) for i in vocabulary.encode(piece)]
        parts = [vocabulary.text(i) for i in ids]
        tokens.update({part: (i, int(vocabulary.canonical[i])) for part, i in zip(parts, ids, strict=True)})
        if len(parts) > 1:
            split[piece] = parts
    return tokens, split


def script() -> str:
    """assets/try-data.js. Numbers that are hashed are written as BigInt literals, such as 237n."""
    vocabulary = Vocabulary.load(preset(DIALECTS[0][0]).vocabulary)
    tokens, split = word_list(vocabulary)
    token_lines = lines({text: f"[{raw}, {canonical}n]" for text, (raw, canonical) in tokens.items()})
    split_lines = lines({piece: json.dumps(parts) for piece, parts in split.items()})
    dialects = ",\n".join(dialect_literal(name, layer) for name, layer in DIALECTS)
    return ("// Generated from engram_ref when the site was built; read by try.js.\n"
            "globalThis.engramTry = {\n"
            f"  dialects: [\n{dialects}\n  ],\n"
            "  // token: [raw id, canonical id]\n"
            f"  tokens: {{\n{token_lines}\n  }},\n"
            "  // words that the tokenizer splits into several tokens\n"
            f"  split: {{\n{split_lines}\n  }},\n"
            "};\n")


def lines(entries: dict[str, str]) -> str:
    """Lines `key: value` of a JavaScript object."""
    return ",\n".join(f"    {json.dumps(key)}: {value}" for key, value in entries.items())


def dialect_literal(name: str, layer: int) -> str:
    """The constants of one layer as a JavaScript object."""
    config, addressing = preset(name), Addressing(preset(name))
    fields = {"name": json.dumps(name), "size": f"{config.canonical_size}n", "pad": f"{addressing.pad_id}n",
              "heads": config.n_heads, "multipliers": big(addressing.multipliers[layer]),
              "primes": big(addressing.primes[layer])}
    return "    {" + ", ".join(f"{field}: {value}" for field, value in fields.items()) + "}"


def big(values: np.ndarray) -> str:
    return "[" + ", ".join(f"{int(value)}n" for value in values) + "]"


class Column(NamedTuple):
    """One dialect's column of the table: the results for the default sentence in one layer."""

    config: EngramConfig
    layer: int
    primes: np.ndarray       # int64 [C]
    mixes: np.ndarray        # int64 [N-1], at POSITION
    rows: np.ndarray         # int64 [C], at POSITION


def column(name: str, layer: int, ids: np.ndarray) -> Column:
    config = preset(name)
    addressing = Addressing(config)
    trace = address_stages(addressing, layer, ids)
    return Column(config, layer, addressing.primes[layer], trace["mix"][POSITION], trace["rows"][POSITION])


def figure() -> str:
    """The tokens of the default sentence and the rows read at one of them in both dialects."""
    # The tokens, and the results of each dialect.
    vocabulary = Vocabulary.load(preset(DIALECTS[0][0]).vocabulary)
    raw_ids = vocabulary.encode(DEFAULT_TEXT)
    ids = vocabulary.canonical[raw_ids]
    texts = [shown(vocabulary.text(int(i))) for i in raw_ids]
    columns = [column(name, layer, ids) for name, layer in DIALECTS]
    # The radio buttons, the table head, and one table body per order.
    chips = "".join(chip(t, texts[t], raw_ids[t], ids[t]) for t in range(len(ids)))
    heads = "".join(f'<th scope="col"><code>{c.config.name}</code>, layer {c.layer}</th>' for c in columns)
    blocks = ""
    for order in range(2, max(c.config.max_ngram for c in columns) + 1):
        members = " | ".join(f"{texts[t]} {ids[t]}" for t in range(POSITION - order + 1, POSITION + 1))
        blocks += f"<tbody>{ngram_line(order, members, len(columns))}{block(order, columns)}</tbody>"
    return (f'<figure class="explorable" data-try="figure" data-search-exclude>'
            f'<fieldset data-try="tokens" disabled>'
            f'<legend>Tokens with raw and canonical ids<span>: select one to see its rows</span></legend>'
            f'<div>{chips}</div></fieldset>'
            f'<table class="rows"><thead><tr><td></td>{heads}</tr></thead>{blocks}</table></figure>')


def chip(position: int, text: str, raw: int, canonical: int) -> str:
    """One token as a radio button; try.js clones the first one."""
    checked = " checked" if position == POSITION else ""
    return (f'<label><input type="radio" name="try-position" value="{position}"{checked}>'
            f'<code>{html.escape(text)}</code><small>raw {raw}</small><b>{canonical}</b></label>')


def ngram_line(order: int, members: str, width: int) -> str:
    return (f'<tr><th scope="rowgroup">{order}-gram</th>'
            f'<td colspan="{width}" data-cell="{order}">{html.escape(members)}</td></tr>')


def block(order: int, columns: list[Column]) -> str:
    """The lines of one order: the mix, then one row per head."""
    drawn = ""
    for head in [None, *range(columns[0].config.n_heads)]:
        name, label = ("mix", "mix") if head is None else (head, f"head {head}")
        cells = "".join(cell(side, f"{d} {order} {name}", order, head) for d, side in enumerate(columns))
        drawn += f'<tr><th scope="row">{label}</th>{cells}</tr>'
    return drawn


def cell(side: Column, name: str, order: int, head: int | None = None) -> str:
    """A value that try.js finds by its name; empty if the dialect lacks this order."""
    if order not in side.config.orders:
        return f"<td>no {order}-grams</td>" if head is None else "<td></td>"
    if head is None:
        return f'<td><span data-cell="{name}">0x{side.mixes[order - 2]:016x}</span></td>'
    at = (order - 2) * side.config.n_heads + head
    return f'<td><span data-cell="{name}">{side.rows[at]}</span> <small>of {side.primes[at]}</small></td>'


def shown(text: str) -> str:
    """A token with spaces made visible."""
    return text.replace(" ", "\N{OPEN BOX}")


def words_html() -> str:
    """The words of the list in alphabetical order."""
    ordered = sorted(WORDS, key=str.lower)
    return (f'<p>{len(WORDS)} words, capitalised or not, and {len(PUNCTUATION)} punctuation marks: '
            f'{" ".join(PUNCTUATION)}</p><p>{" ".join(map(html.escape, ordered))}</p>')


def main() -> None:
    print(json.dumps({"assets": {"assets/try-data.js": script()},
                      "marks": {"try: rows": figure(), "try: words": words_html()}}))


if __name__ == "__main__":
    main()
