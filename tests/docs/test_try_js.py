"""The script of the page "Type your own text" computes the package's rows; test_try_page tests it in the page.

Node loads docs/assets/try.js, the file that the site serves, and the package gives the expected rows. A
made-up dialect with multipliers beyond 63 bits is added to test wrapping and the modulus of negative
mixes.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path

import explorable
import numpy as np
import pytest

from engram_ref import Addressing, Vocabulary, ops, preset
from engram_ref.cli.walk_data import DEFAULT_TEXT, address_stages

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "docs/assets/try.js"
PAGE = ROOT / "docs/learn/type-your-own-text.md"

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="no node on the PATH")

HARNESS = """
const [script, data, job] = process.argv.slice(1);
require(data);
const { read, address, hex, InputError } = require(script);
const { dialects, cases, texts } = JSON.parse(require("fs").readFileSync(job));
const big = ({ pad, heads, multipliers, primes }) =>
  ({ pad: BigInt(pad), heads, multipliers: multipliers.map(BigInt), primes: primes.map(BigInt) });
const known = [...globalThis.engramTry.dialects, ...dialects.map(big)];
const at = (ids, dialect) => ids.map((_, t) => address(ids.map((id) => ({ id: BigInt(id) })), t, dialect)
  .map(({ mix, rows }) => [hex(mix), ...rows.map(String)]));
const attempt = (text) => {
  try { return read(text, globalThis.engramTry).map(({ text, raw, id }) => [text ?? null, raw ?? null, String(id)]); }
  catch (error) { return error instanceof InputError ? error.message : `not an InputError: ${error}`; }
};
console.log(JSON.stringify({ cases: cases.map(([d, ids]) => at(ids, known[d])), texts: texts.map(attempt) }));
"""

WRAPPING = {"pad": 2, "heads": 2, "multipliers": [2**63 - 25, 2**62 + 7, 2**61 + 2**60 + 1],
            "primes": [101, 16_000_057, 7, 2_262_409]}
"""The products of these multipliers exceed 63 bits, unlike those of the real dialects."""


@pytest.fixture
def node(tmp_path):
    """Run the harness with a script: node(cases=..., texts=..., source=...) -> its output."""
    def run(cases=(), texts=(), source=None):
        script, data, job = (tmp_path / name for name in ("try.js", "try-data.js", "job.json"))
        script.write_text(source or SCRIPT.read_text(encoding="utf-8"), encoding="utf-8")
        data.write_text(explorable.script(), encoding="utf-8")
        wrapping = {**WRAPPING, **{key: [str(v) for v in WRAPPING[key]] for key in ("multipliers", "primes")}}
        job.write_text(json.dumps({"dialects": [wrapping], "cases": cases, "texts": texts}), encoding="utf-8")
        done = subprocess.run(["node", "-e", HARNESS, str(script), str(data), str(job)],
                              capture_output=True, text=True, encoding="utf-8")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)
    return run


# Rows -------------------------------------------------------------------------------------------------

def sequences(largest: int) -> list[list[int]]:
    """Short, repeated and extreme ids, then random ones."""
    rng = np.random.default_rng(0)
    random = [rng.integers(0, largest + 1, size=length).tolist() for length in (1, 2, 3, 4, 5, 7, 31, 64)]
    return [[0], [2], [largest], [0, 0, 0, 0, 0], [2, 2, 2, 2], [largest] * 6, [237, 237, 2049, 237],
            [0, largest, 0, largest, 0], *random]


def expected(dialect: int, ids: list[int]) -> list:
    """For each position and order: the mix in hexadecimal, then the rows of the heads."""
    if dialect < len(explorable.DIALECTS):
        name, layer = explorable.DIALECTS[dialect]
        mixes = address_stages(Addressing(preset(name)), layer, np.array(ids))["mix"]
        rows = Addressing(preset(name)).rows(np.array(ids), layer)
    else:
        windows = ops.windows(np.array([ids]), np.full((1, 2), ops.DEAD), WRAPPING["pad"])
        (mixes,) = ops.mix(windows, np.array(WRAPPING["multipliers"]))
        (rows,) = ops.table_rows(mixes[None], np.array(WRAPPING["primes"]))
    by_order = rows.reshape(*mixes.shape, -1)
    return [[[f"0x{int(m) % 2**64:016x}", *map(str, r.tolist())] for m, r in zip(*position, strict=True)]
            for position in zip(mixes, by_order, strict=True)]


LARGEST = [*(preset(name).canonical_size - 1 for name, _ in explorable.DIALECTS), 2**40]
CASES = [(dialect, ids) for dialect, largest in enumerate(LARGEST) for ids in sequences(largest)]
GOLDEN = [expected(*case) for case in CASES]


@needs_node
def test_rows_match_the_package(node):
    assert node(CASES)["cases"] == GOLDEN


def test_expected_rows_cover_large_and_negative_mixes():
    mixes = {dialect: [int(order[0], 16) for case, golden in zip(CASES, GOLDEN, strict=True) if case[0] == dialect
                       for position in golden for order in position] for dialect in range(3)}
    assert max(mixes[0] + mixes[1]) < 2**63 <= max(mixes[2])         # negative as int64
    assert max(mixes[0]) > 2**53 < max(mixes[1])                     # beyond the integers of a float64


MUTANTS = {
    "double-rounding": ("token.id * multipliers[back]", "BigInt(Number(token.id) * Number(multipliers[back]))",
                        {0, 1, 2}),
    "multipliers-oldest-first": ("multipliers[back]", "multipliers[newestFirst.length - 1 - back]", {0, 1, 2}),
    "window-late": ("tokens[position - back]", "tokens[position - back - 1]", {0, 1, 2}),
    "pad-zero": ("id: pad }", "id: 0n }", {0, 1, 2}),
    "column-order": ("primes.slice(i * heads, (i + 1) * heads)",
                     "primes.filter((_, c) => c % (multipliers.length - 1) === i)", {0, 1, 2}),
    "trunc-mod": ("((value % prime) + prime) % prime", "value % prime", {2}),
    "no-wrap": ("BigInt.asIntN(64, value)", "value", {2}),
    "unsigned": ("BigInt.asIntN(64, value)", "BigInt.asUintN(64, value)", {2}),
}
"""Text of the script, its replacement, and the dialects whose rows must then differ."""


@needs_node
@pytest.mark.parametrize("name", MUTANTS)
def test_a_wrong_script_is_detected(node, name):
    right, wrong, dialects = MUTANTS[name]
    source = SCRIPT.read_text(encoding="utf-8")
    assert source.count(right) == 1
    found = node(CASES, source=source.replace(right, wrong))["cases"]
    wrong_in = {case[0] for case, got, golden in zip(CASES, found, GOLDEN, strict=True) if got != golden}
    assert wrong_in == dialects


# Reading ----------------------------------------------------------------------------------------------

VOCABULARY = Vocabulary.load("deepseek-v4")


def tokens_of(text: str) -> list:
    """[text, raw id, canonical id] of each token, according to the package."""
    return [[VOCABULARY.text(int(i)), int(i), str(VOCABULARY.canonical[i])] for i in VOCABULARY.encode(text)]


def sentences() -> list[str]:
    rng = np.random.default_rng(1)
    forms = [form for word in explorable.WORDS for form in explorable.spellings(word) if not form.startswith(" ")]
    made = ["".join(part + str(rng.choice(["", "", "", "", " .", *explorable.PUNCTUATION])) + " " for part in
                    rng.choice(forms, size=rng.integers(1, 12))).strip() for _ in range(200)]
    return [DEFAULT_TEXT, *made, *re.findall(r'data-example="([A-Za-z][^"]*)"', PAGE.read_text(encoding="utf-8"))]


@needs_node
def test_ids_of_words_match_the_tokenizer(node):
    texts = [*sentences(), *explorable.WORDS]
    assert node(texts=texts)["texts"] == [tokens_of(text) for text in texts]


def test_every_listed_token_is_a_single_token():
    tokens, split = explorable.word_list(VOCABULARY)
    assert [VOCABULARY.encode(text).tolist() for text in tokens] == [[raw] for raw, _ in tokens.values()]
    assert {part for parts in split.values() for part in parts} <= set(tokens)
    assert not set(split) & set(tokens)
    assert 150 <= len(explorable.WORDS) == len(set(explorable.WORDS)) <= 300


@needs_node
def test_numbers_are_read_as_canonical_ids(node):
    texts = ["237", " 15695,237 , 2049 ", "0,0", "98626", "007", "1\n2\t3"]
    ids = [[text[2] for text in answer] for answer in node(texts=texts)["texts"]]
    assert ids == [["237"], ["15695", "237", "2049"], ["0", "0"], ["98626"], ["7"], ["1", "2", "3"]]


EMPTY = "Type some words or numbers to see which rows they read."
WHOLE = "is not an integer: type canonical ids, or words from the list."
LARGE = "is too large: the largest canonical id of engram-27b is 98626."
BAD_INPUT = {
    "": EMPTY, "  \n\t ": EMPTY,
    "-5": "“-5” is negative, and canonical ids count from 0.",
    "3, -1, x": "“-1” is negative, and canonical ids count from 0.",
    "98627": f"“98627” {LARGE}",
    "1 99999999999999999999999": f"“99999999999999999999999” {LARGE}",
    "12.5": f"“12.5” {WHOLE}", ".5": f"“.5” {WHOLE}", "1e3": f"“1e3” {WHOLE}", "0x1F": f"“0x1F” {WHOLE}",
    "+7": f"“+7” {WHOLE}", "3 horses": f"“horses” {WHOLE}", "1;2": f"“1;2” {WHOLE}",
    "the cat sat": "Not in the word list below: “sat”.",
    "NaN": "Not in the word list below: “NaN”.",
    "constructor __proto__ toString": "Not in the word list below: “constructor”, “__proto__”, “toString”.",
    "gnu yak gnu the emu": "Not in the word list below: “gnu”, “yak”, “emu”.",
    "gnu yak emu ape eel": "Not in the word list below: “gnu”, “yak”, “emu”, “ape” and others.",
    "the,horse": "Not in the word list below: “,horse”.",
    "wait...": "Not in the word list below: “wait”, “...”.",
    "<b>the</b>": "Not in the word list below: “<b>the</b>”.",
    "２３": "Not in the word list below: “２３”.",
    ",": [[",", 14, "14"]],
    "1 " * 64: [[None, None, "1"]] * 64,
    "1 " * 65: "This page takes up to 64 tokens; your text has 65.",
}


@needs_node
def test_bad_input_gives_a_one_sentence_error(node):
    assert dict(zip(BAD_INPUT, node(texts=list(BAD_INPUT))["texts"], strict=True)) == BAD_INPUT


# The files --------------------------------------------------------------------------------------------

def test_the_script_is_short_and_self_contained():
    source = SCRIPT.read_text(encoding="utf-8")
    assert len(source.splitlines()) < 150
    assert max(map(len, source.splitlines())) <= 120
    assert not re.search(r"fetch|XMLHttpRequest|WebSocket|import|https?:|innerHTML|eval", source)
    assert not re.search(r"\d{6}", source)                           # constants come from the package


def test_the_constants_come_from_the_package():
    text = explorable.script()
    for name, layer in explorable.DIALECTS:
        addressing = Addressing(preset(name))
        for values in (addressing.multipliers[layer], addressing.primes[layer]):
            assert "[" + ", ".join(f"{v}n" for v in values) + "]" in text
    assert text == explorable.script()
