"""The page "Type your own text": its statements are true, and in a browser it shows the package's rows."""

import json
import re

import explorable
import pytest
from browser import Browser, find_chromium, served

from engram_ref import Addressing, Vocabulary, preset
from engram_ref.cli.walk_data import DEFAULT_TEXT
from tests.docs.test_try_js import EMPTY, PAGE, VOCABULARY, expected, tokens_of

PATH = "learn/type-your-own-text/"

needs_chromium = pytest.mark.skipif(find_chromium() is None, reason="no Chromium on the PATH")


def test_the_statements_on_the_page_are_true():
    # Numbers.
    page = " ".join(PAGE.read_text(encoding="utf-8").split())
    v3, v4 = Vocabulary.load("deepseek-v3"), VOCABULARY
    for number in (v3.size, v3.canonical_size, v4.canonical_size, v3.canonical_size - 1, v4.size):
        assert f"{number:,}" in page
    assert (v3.canonical == v4.canonical[: v3.size]).all()
    assert not re.search(r"\son\w+=", page)                          # no inline handlers
    # Heads, table sizes and multipliers of both dialects.
    v41, paper = (Addressing(preset(name)) for name, _ in explorable.DIALECTS)
    primes = [v41.primes[1], paper.primes[2]]
    assert (v41.config.n_heads, paper.config.n_heads) == (8, 8)
    assert f'"of {primes[0][0]}"' in page
    assert all(len(set(p.tolist())) == len(p) for p in primes) and not set(primes[0]) & set(primes[1])
    assert not set(v41.multipliers[1]) & set(paper.multipliers[2])

    def rows(addressing, layer, text):
        return addressing.rows(v4.canonical[v4.encode(text)], layer)

    # The statements under "What to look for".
    assert len(set(v4.canonical[v4.encode("the The THE")])) == 1 and len(set(v4.encode("the The THE"))) == 3
    assert {"the", " The", "THE", " thé"} <= {v4.text(int(i)) for i in v4.members(237)}    # case, accents, spaces
    twice, = [rows(v41, 1, "Alexander the Great saw Alexander the Great")]
    assert (twice[2, :16] == twice[-1, :16]).all() and (twice[2, 16:] != twice[-1, 16:]).all()
    assert (rows(v41, 1, "horse dog")[-1] != rows(v41, 1, "dog horse")[-1]).all()
    changed = DEFAULT_TEXT.replace("Alexander", "Diana")
    differ = [rows(a, layer, DEFAULT_TEXT) != rows(a, layer, changed) for a, layer in ((v41, 1), (paper, 2))]
    could = 4
    assert VOCABULARY.text(int(v4.encode(DEFAULT_TEXT)[could])) == " could"
    assert not differ[0][could, :16].any() and differ[0][could, 16:].all() and not differ[1][could].any()
    assert not differ[0][could + 1:].any() and not differ[1][could + 1:].any()


# The page ---------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def origin(site):
    with served(site) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    with Browser() as one:
        script = "window.problems = []; addEventListener('error', (event) => window.problems.push(event.message))"
        one.call("Page.addScriptToEvaluateOnNewDocument", source=script)
        yield one


@pytest.fixture
def page(browser, origin, request):
    """The page, reloaded, 1280 pixels wide; no script on it may fail."""
    browser.resize(getattr(request, "param", 1280))
    browser.open(f"{origin}/404.html")             # leaves the page if it is already open
    browser.open(f"{origin}/{PATH}")
    yield browser
    assert browser.evaluate("window.problems") == []


TYPE = """(text) => {
  const input = document.querySelector("#try-text");
  input.value = text;
  input.dispatchEvent(new Event("input"));
  const [status, figure] = ["#try-status", "figure.explorable"].map((name) => document.querySelector(name));
  return [status.textContent, figure.offsetHeight > 0];
}"""
CELLS = """() => [...document.querySelectorAll("fieldset input")].map((radio) => {
  radio.click();
  const cells = document.querySelectorAll("[data-cell]");
  return Object.fromEntries([...cells].map((cell) => [cell.dataset.cell, cell.textContent]));
})"""


def call(browser: Browser, function: str, *arguments):
    return browser.evaluate(f"({function})({', '.join(map(json.dumps, arguments))})")


def test_without_javascript_the_page_shows_a_table(site):
    html = (site / PATH / "index.html").read_text(encoding="utf-8")
    assert "{{" not in html and "<noscript>" in html and re.search(r'<form [^>]*\bhidden', html)
    shown = dict(re.findall(r'data-cell="([^"]+)">([^<]*)<', html))
    ids = VOCABULARY.canonical[VOCABULARY.encode(DEFAULT_TEXT)].tolist()
    assert {cell: value for cell, value in shown.items() if " " in cell} == cells_of(ids)[explorable.POSITION]
    assert shown["3"] == "␣Alexander 15695 | ␣the 237 | ␣Great 2049"


def cells_of(ids: list[int]) -> list[dict[str, str]]:
    """For each position, {name of a cell: its expected text}."""
    both = [expected(dialect, ids) for dialect in range(len(explorable.DIALECTS))]
    return [{f"{d} {i + 2} {'mix' if head == 0 else head - 1}": value for d, golden in enumerate(both)
             for i, order in enumerate(golden[position]) for head, value in enumerate(order)}
            for position in range(len(ids))]


@needs_chromium
@pytest.mark.parametrize("text", [DEFAULT_TEXT, "Alexander the Great saw Alexander the Great", "the",
                                  "98626, 0, 98626"], ids=["sentence", "twice", "one-word", "numbers"])
def test_the_page_shows_the_same_rows_as_the_package(page, text):
    status, visible = call(page, TYPE, text)
    ids = [int(n) for n in text.split(",")] if text[0].isdigit() else [int(t[2]) for t in tokens_of(text)]
    assert visible and status.startswith("Token ") and f" of {len(ids)} " in status
    shown = [{cell: value for cell, value in cells.items() if " " in cell} for cells in call(page, CELLS)]
    stale = [cell for cell in shown[0] if cell not in cells_of(ids)[0]]
    assert not stale and shown == cells_of(ids)


@needs_chromium
def test_the_script_first_shows_the_static_content(page):
    static = """fetch(location).then((r) => r.text()).then((text) =>
      new DOMParser().parseFromString(text, "text/html").querySelector("figure.explorable").textContent)"""
    assert page.evaluate(static) == page.evaluate("document.querySelector('figure.explorable').textContent")


@needs_chromium
def test_the_page_shows_errors_and_recovers(page):
    assert call(page, TYPE, "the zebra") == ["Not in the word list below: “zebra”.", False]
    assert page.evaluate("document.querySelector('#try-text').getAttribute('aria-invalid')") == "true"
    assert call(page, TYPE, "") == [EMPTY, False]
    assert call(page, TYPE, "the horse")[1]
    assert page.evaluate("document.querySelector('#try-text').getAttribute('aria-invalid')") == "false"


@needs_chromium
def test_the_page_works_with_the_keyboard(page):
    def press(key):
        for kind in ("keyDown", "keyUp"):
            codes = {"Tab": 9, "ArrowRight": 39, "Enter": 13}
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            page.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key], **text)

    page.evaluate("document.querySelector('#try-text').focus(); document.querySelector('#try-text').select()")
    page.call("Input.insertText", text="the red horse")
    assert page.evaluate("document.querySelector('#try-status').textContent").startswith("Token 3 of 3 (␣horse 12071)")
    for _ in range(5):                                               # four examples, then the tokens
        press("Tab")
    press("ArrowRight")                                              # wraps from the last token to the first
    assert page.evaluate("document.querySelector('#try-status').textContent").startswith("Token 1 of 3 (the 237)")
    page.evaluate("document.querySelector('[data-example^=\"15695\"]').focus()")
    press("Enter")
    assert page.evaluate("document.querySelector('#try-status').textContent").startswith("Token 1 of 3 (15695)")


@needs_chromium
@pytest.mark.parametrize("page, width", [(width, width) for width in (320, 390, 1280)], indirect=["page"],
                         ids=["320", "390", "1280"])
def test_no_element_is_wider_than_the_window(page, width):
    for text in (DEFAULT_TEXT, "98626 " * 40):
        call(page, TYPE, text)
        assert page.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [width, width], text
