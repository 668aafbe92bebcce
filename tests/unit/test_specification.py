"""The specification documents: complete, and correct in every number."""

import doctest
import json
import re
from collections import Counter

import numpy as np
import pytest

from engram_ref import Addressing, InputError, preset
from engram_ref.oracle.cases import Stage
from engram_ref.oracle.check.judge import judge_floats
from engram_ref.oracle.slow.addressing import digest
from engram_ref.oracle.specification import DOCUMENTS, FOLDER, code, documents, expanded, render
from engram_ref.stages import STAGES
from engram_ref.text.maps import KNOWN_VOCABULARIES
from engram_ref.text.vocabulary import Vocabulary
from tests.specification import modules_of, steps_of

MODULES = ("demo", "v4.1", "qwen")
STEPS = [(name, title) for name in DOCUMENTS for title in steps_of(name)]


def columns_of(line):
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def test_documents_have_no_markers_left_and_numbered_steps():
    assert list(documents()) == [f"{name}.md" for name in DOCUMENTS]
    for name, text in documents().items():
        assert "{{" not in text and "## Step" not in text and text.startswith("# Specification: ")
        numbers = [int(n) for n in re.findall(r"^## (\d+)\. ", text, re.M)]
        assert numbers == list(range(1, len(numbers) + 1)) and (len(numbers) > 12) == (name != "files.md")
        links = set(re.findall(r"\]\((.*?)\)", text))
        assert links <= set(documents())


def sections(name):
    """The text of every step by its number, without its number."""
    return {int(number): text for number, text in re.findall(
        r"^## (\d+)\. (.*?)(?=^## |\Z)", render(name), re.M | re.S)}


def test_documents_state_which_steps_they_share_with_the_demo():
    demo, v41, qwen = map(sections, MODULES)
    assert "Steps 1 to 8, from the canonical map to the next history, are the same as in `demo.md`." in render("v4.1")
    assert [n for n in v41 if v41[n] in demo.values()] == [*range(1, 9)] == [n for n in demo if demo[n] == v41.get(n)]
    assert "Steps 5 to 7, 9, 11 and 13 to 18 are steps 6 to 8, 10, 12 and 14 to 19 of the demo." in render("qwen")
    same = {n: next(k for k in demo if demo[k] == qwen[n]) for n in qwen if qwen[n] in demo.values()}
    assert [*same] == [5, 6, 7, 9, 11, *range(13, 19)] and [*same.values()] == [6, 7, 8, 10, 12, *range(14, 20)]


def test_every_part_is_used():
    templates = [path.read_text(encoding="utf-8") for path in FOLDER.rglob("*.md")]
    used = {name for text in templates for name in re.findall(r"\{\{part (\S+)\}\}", text)}
    assert used == {path.stem for path in (FOLDER / "parts").glob("*.md")}


def test_unknown_names_raise(tmp_path):
    with pytest.raises(InputError, match="document"):
        render("dem")
    with pytest.raises(KeyError, match="windw"):
        code("hashing", "windw")
    (tmp_path / "x.md").write_text("{{cod hashing window}}", encoding="utf-8")
    with pytest.raises(KeyError, match="cod"):
        expanded(tmp_path / "x.md")


def test_shown_code_is_the_source_without_docstrings():
    shown = code("hashing", "LAYER_STEP", "splitmix64").split("\n")
    assert shown[:4] == ["```python", "# slow/hashing.py", "LAYER_STEP = 10007", ""] and '"""' not in "\n".join(shown)
    assert shown[4:] == ["def splitmix64(x):", "    x = (x + GOLDEN) & MASK64",
                         "    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & MASK64",
                         "    x = (x ^ x >> 27) * 0x94D049BB133111EB & MASK64", "    return x ^ x >> 31", "```"]
    assert code("codecs", "e4m3").split("\n")[2] == "@cache"


@pytest.mark.parametrize("name, title", STEPS, ids=lambda text: text)
def test_every_step_states_everything(name, title):
    bullets = steps_of(name)[title]
    assert {"Input", "Output", "Formula", "Arithmetic", "Edge cases"} <= set(bullets)
    assert ("NaN" in bullets) != ("integer" in bullets["Arithmetic"] or "int64" in bullets["Arithmetic"]
                                  or "unsigned" in bullets["Arithmetic"] or title == "Ids")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_examples_print_what_the_document_says(name):
    test = doctest.DocTestParser().get_doctest(render(name).replace("```", ""), vars(modules_of(name)), name, name, 0)
    assert doctest.DocTestRunner(verbose=False).run(test).failed == 0
    assert len(test.examples) > 5 or name in ("backbone", "files")


# The numbers in the text

PRESETS = {"demo": {"demo": "demo", "paper": "engram-27b"}, "v4.1": {"V4.1": "deepseek-v4.1-flash"},
           "qwen": {"Qwen": "qwen4exp-ple"}}


def spelling(value):
    """The pattern of a configuration's value in a table of choices."""
    if value is None:
        return "none|machine epsilon"
    if isinstance(value, bool):
        return "yes|(?<!not )accepted" if value else "no|not accepted"
    if isinstance(value, float):
        return re.escape(f"{value:.0e}".replace("e-0", "e-"))
    return f"{value}|{value:,}" if isinstance(value, int) else f"`{value}`"


@pytest.mark.parametrize("name", PRESETS)
def test_the_table_of_choices_equals_the_preset(name):
    head, _, *rows = re.search(r"^\| choice \|(?:.*\n)(?:\|.*\n)+", render(name), re.M)[0].splitlines()
    checked = Counter()
    for line in rows:
        _, fields, *cells = columns_of(line)
        for title, cell in zip(columns_of(head)[2:], cells, strict=True):
            written = (cells[0] if cell == "likewise" else cell).split(", ")
            for i, field in enumerate(re.findall(r"`(\w+)`", fields)):
                value, text = getattr(preset(PRESETS[name][title]), field), written[min(i, len(written) - 1)]
                assert re.search(rf"(?<![\w.])(?:{spelling(value)})(?![\w.])", text), (field, value, text)
                checked[title] += 1
    assert min(checked.values()) >= 13


def test_the_maps_are_those_of_the_package():
    for name in ("demo", "v4.1"):
        for vocabulary, known in KNOWN_VOCABULARIES.items():
            assert (f"| `{vocabulary}` | {known.size:,} | {known.canonical_size:,} | "
                    f"`constants/{vocabulary}/canonical.i64.{known.size}.bin` |") in render(name)
            assert f"\n- `{vocabulary}`: `{known.map_digest}`\n" in render(name)


def test_the_documented_rule_gives_both_maps():
    slow = modules_of("v4.1").canonical
    vocabulary = Vocabulary.load("deepseek-v4")
    file = json.loads(vocabulary.tokenizer.to_str())
    added = {entry["id"]: entry["content"] for entry in file["added_tokens"]}
    raw = {number: token for token, number in file["model"]["vocab"].items()} | added
    tokens = [(raw[i] if i in added else slow.text_of(raw[i]), raw[i]) for i in range(vocabulary.size)]
    canonical = slow.canonical_map(tokens)
    for known in KNOWN_VOCABULARIES.values():
        assert digest(canonical[: known.size]) == known.map_digest
    incomplete = [raw_token for text, raw_token in tokens if "\ufffd" in text]
    normalised = {slow.normalise(text) or text for text, _ in tokens if "\ufffd" not in text}
    empty = sum(not slow.normalise(text) for text, _ in tokens)
    edge = " ".join(steps_of("v4.1")["Canonical map"]["Edge cases"].split())
    assert f"{len(incomplete):,} tokens are incomplete" in edge and f"text of {empty} tokens is empty" in edge
    assert f"({len(normalised & set(incomplete))} do)" in edge


def test_the_table_of_gates_is_correct():
    slow = modules_of("demo").module
    rows = re.findall(r"^\| ([+-]?[\d.e-]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", render("demo"), re.M)
    assert len(rows) == 6
    for s, *gates in rows:
        found = [slow.gate(float(s), form) for form in ("sigmoid", "signed_sqrt", "copysign_sqrt")]
        assert [round(alpha, 5) for alpha in found] == list(map(float, gates))


def test_the_truth_table_of_barriers_is_correct():
    """Each line of the table, read as a rule, gives the windows that the code gives."""
    window, eos, dead, fill = modules_of("v4.1").hashing.window, 9, -1, 2
    assert len(re.findall(r"^\| (?:ordinary|before|DEAD|EOS)[^|]*\| (?:is|can|all|an)", render("v4.1"), re.M)) == 5
    for stream in np.random.default_rng(0).choice([dead, eos, 3, fill], (200, 6)).tolist():
        for with_eos in (False, True):
            hidden, expected = False, []
            for i in range(4):
                token = stream[-1 - i]
                hidden = hidden or token == dead or (with_eos and token == eos and i > 0)
                expected.append((eos if with_eos else fill) if hidden else token)
            assert window(stream, [], 5, 4, fill, eos if with_eos else None) == expected
    assert window([4], [], 0, 4, fill) == [4, fill, fill, fill]


def test_number_formats_in_the_text():
    slow = modules_of("v4.1")
    codecs = slow.codecs
    assert codecs.to_bfloat16(2.0**128 - 2.0**119) == np.inf > codecs.to_bfloat16(2.0**128 - 2.0**119 - 2.0**104)
    assert [codecs.e4m3(code)[1] for code in (0x00, 0x07, 0x08, 0x7E)] == [0, 7 * 2.0**-9, 8 * 2.0**-9, 448]
    assert codecs.e8m0(0) == 2.0**-127 and codecs.e8m0(255) == "nan" and f"{2.0**-127:.3e}" == "5.877e-39"
    brain = [codecs.dequantise(code, byte) for code in range(256) for byte in range(247)]
    different = [f32 for f32, bf16 in brain if f32 != bf16 and f32 == f32]
    assert different and max(map(abs, different)) < 2.0**-126         # R1 changes only subnormal numbers
    faint = slow.released.memory([([1] * 32, [0])])
    assert faint == [codecs.dequantise(1, 0)[1]] * 32 != slow.released.decode([1] * 32, [0])
    for bits in [0x7F7F8000, 0x7F7F7FFF, 0x00018000, *np.random.default_rng(1).integers(0, 0x7F800000, 500).tolist()]:
        value, rounded = np.array([bits, (bits + 0x7FFF + (bits >> 16 & 1)) >> 16 << 16], np.uint32).view(np.float32)
        assert codecs.to_bfloat16(float(value)) == rounded             # the rule for integers in the text
    assert codecs.dequantise(0x7E, 246)[0] < np.inf == codecs.dequantise(0x7E, 247)[0]
    config = preset("deepseek-v4.1-flash")
    assert "264 bytes" in render("v4.1") and config.bytes_per_row == 264 and config.memory_width == 6144
    rows = Addressing(preset("qwen4exp-ple"))
    stored, used = rows.table_rows[2], int(rows.primes[2].sum())
    assert f"{used:,} rows are padded to {stored:,}" in " ".join(render("qwen").split())


@pytest.mark.parametrize("name", MODULES)
def test_stages_are_outputs_in_the_order_of_computation(name):
    outputs = re.findall(r"`(\w+)`", " ".join(step["Output"] for step in steps_of(name).values()))
    left_out = {"v4.1": {"query_norm", "key_norm", "conv_norm", "conv"}, "qwen": {"canonical_ids"}}.get(name, set())
    wanted = [{"canonical_ids": "ids"}.get(stage.name, stage.name) for stage in STAGES if stage.name not in left_out]
    places = [outputs.index(stage) for stage in wanted]
    assert places == sorted(places)


RULES = [
    ("exact", 0.0, -0.0, False), ("exact", np.nan, -np.nan, True), ("exact", 1.0 + 2**-30, np.float32(1.0), True),
    ("exact", 1e300, np.float32(np.inf), True), ("bf16", 1.0, 1.0 + 2**-10, False), ("bf16", 1.0 + 2**-10, 1.0, True),
    ("f64", 0.0, -0.0, True), ("f64", np.nan, np.nan, True), ("f64", np.inf, np.inf, True),
    ("f64", np.inf, -np.inf, False), ("f64", 1.0, np.nan, False), ("f64", 1.0, np.inf, False),
    ("f64", 1.0, 1.0 + 2**-52, True), ("f64", 1.0, 1.01, False)]


@pytest.mark.parametrize("kind, expected, answer, right", RULES, ids=str)
def test_the_judge_follows_the_rules_of_equality(kind, expected, answer, right):
    stage, noise = Stage("output", np.zeros(1), kind), None if kind == "exact" else np.ones(1)
    assert judge_floats(stage, np.array([expected]), noise, np.atleast_1d(answer)).wrong.tolist() == [not right]


def test_the_drawing_and_its_text_show_the_same_roundings():
    text = render("v4.1").split("<!-- drawing: roundings")[1].split("```")[1]
    assert re.findall(r"\bR\d", text) == ["R1", "R2", "R3", "R4"]
    steps = steps_of("v4.1")
    mentioned = [title for title, bullets in steps.items() for _ in re.findall(r"rounding R\d", bullets["Arithmetic"])]
    assert mentioned == ["Memory", "Input of the projection", "Keys and value", "Residual stream"]
