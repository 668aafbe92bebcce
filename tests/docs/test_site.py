"""The whole site, built once in strict mode, then parsed and opened in a browser.

No page may make a request to a different origin.
"""

import ast
import functools
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import percent
import pytest
import tutorial
from browser import Browser, find_chromium, requests_in, served, site_pages
from reference import LEFT_OUT

from engram_ref.literals import MULTIPLIERS
from tests.docs.conftest import ROOT, build

SAMPLE = Path(__file__).parent / "sample"
SEARCH = "document.querySelector('.md-search__input').dispatchEvent(new Event('focus'))"   # starts the search worker
SEARCHABLE = "document.querySelector('.md-search-result__meta').textContent.trim() === 'Type to start searching'"

needs_chromium = pytest.mark.skipif(find_chromium() is None, reason="no Chromium on the PATH")


class Tags(HTMLParser):
    """The start tags of a page with their attributes."""

    def __init__(self, page: Path):
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


@functools.cache
def pages_with_tags(site: Path):
    return [(page, Tags(site / page / "index.html" if not page.endswith(".html") else site / page).found)
            for page in site_pages(site)]


LOADS = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "video": "src",
         "object": "data"}


def test_pages_load_no_external_resources(site):
    loaded = [(page, tag, attributes.get(LOADS[tag]) or "") for page, tags in pages_with_tags(site)
              for tag, attributes in tags if tag in LOADS]
    assert loaded and not [entry for entry in loaded if urlsplit(entry[2]).netloc]


def test_every_image_has_alt_text(site):
    images = [(page, a.get("alt") if tag == "img" else a.get("aria-label")) for page, tags in pages_with_tags(site)
              for tag, a in tags if tag == "img" or a.get("role") == "img"]
    assert images and not [entry for entry in images if not entry[1]]


def test_no_id_appears_twice_on_a_page(site):
    for page, tags in pages_with_tags(site):
        ids = [a["id"] for tag, a in tags if "id" in a and not (a["id"] or "").startswith("__")]
        assert len(ids) == len(set(ids)), (page, sorted({i for i in ids if ids.count(i) > 1}))


def test_the_sample_tutorial_is_rendered_completely(site):
    html = (site / "learn/98_sample/index.html").read_text(encoding="utf-8")
    for part in ('href="../98_sample.py"', 'aria-label="Three sigmoid curves', 'aria-label="The modules of the package',
                 '<summary>Answer</summary>', '<summary>Hint</summary>', '<div class="equation"', "weights [0.09",
                 'id="the-ops-on-this-page"', 'href="../../reference/api/ops/gate/#engram_ref.ops.gate.sigmoid"'):
        assert part in html, part
    assert (site / "learn/98_sample.py").read_bytes() == (SAMPLE / "98_sample.py").read_bytes()
    assert (site / "assets/diagrams/layers.svg").exists()


def test_a_script_in_docs_becomes_a_page_at_its_path(site):
    html = (site / "paper/errata/index.html").read_text(encoding="utf-8")
    assert 'href="../errata.py"' in html and 'href="../figures.json"' in html and 'class="drawing figure"' in html
    assert (site / "paper/errata.py").read_bytes() == (ROOT / "docs/paper/errata.py").read_bytes()
    assert 'href="../errata/"' in (site / "paper/map/index.html").read_text(encoding="utf-8")


def constants_of(file: Path) -> list[str]:
    """Public constants of a module that are literal numbers or tables."""
    nodes = [node for node in ast.parse(file.read_text(encoding="utf-8")).body if isinstance(node, ast.Assign)]
    return [node.targets[0].id for node in nodes if isinstance(node.targets[0], ast.Name)
            and node.targets[0].id.isupper() and not node.targets[0].id.startswith("_")
            and not any(isinstance(part, ast.Name | ast.Call | ast.JoinedStr) for part in ast.walk(node.value))
            and not (isinstance(node.value, ast.Constant) and isinstance(node.value.value, str))]


def test_every_constant_is_on_its_page_with_its_value(site):
    modules = {file: f"{'/'.join(file.relative_to(ROOT / 'engram_ref').with_suffix('').parts)}"
               for file in sorted((ROOT / "engram_ref").rglob("*.py")) if "_" not in {p[0] for p in file.parts[-3:]}}
    modules = {file: name for file, name in modules.items() if not name.replace("/", ".").startswith(LEFT_OUT)}
    wanted = [(name, constant) for file, name in modules.items() for constant in constants_of(file)]
    shown = {name: (site / "reference/api" / name / "index.html").read_text(encoding="utf-8")
             for name in dict(wanted)}
    assert len(wanted) > 30
    assert [at for at in wanted if f'id="engram_ref.{at[0].replace("/", ".")}.{at[1]}"' not in shown[at[0]]] == []
    literals = re.sub("<[^>]+>", "", (site / "reference/api/literals/index.html").read_text(encoding="utf-8"))
    assert [m for numbers in MULTIPLIERS.values() for m in numbers if str(m) not in literals] == []


def lines_of(file: Path) -> dict[str, int]:
    """The line of definition of each name in a module; methods are named Class.method."""
    nodes = ast.parse(file.read_text(encoding="utf-8")).body
    found = {node.targets[0].id: node.lineno for node in nodes if isinstance(node, ast.Assign)}
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = node.lineno
            methods = [part for part in node.body if isinstance(part, ast.FunctionDef)]
            found |= {f"{node.name}.{method.name}": method.lineno for method in methods}
    return found


@pytest.mark.parametrize("name, some", [("gate", {"ROOT_CLAMP", "sigmoid", "apply_gate", "Gate", "Gate.gate"}),
                                        ("composite", {"check_step", "Composite", "Composite.address"})])
def test_an_ops_page_shows_formulas_and_methods_in_source_order(site, name, some):
    tags = Tags(site / "reference/api/ops" / name / "index.html").found
    shown = [a["id"].removeprefix(f"engram_ref.ops.{name}.") for tag, a in tags if tag in ("h2", "h3") and "id" in a]
    assert some <= set(shown) and shown == sorted(shown, key=lines_of(ROOT / f"engram_ref/ops/{name}.py").get)


SCRIPTS = sorted((ROOT / "tutorials").glob("[0-9]*.py")) + tutorial.scripts_in(ROOT / "docs")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_the_next_link_in_the_text_matches_the_footer(site, script):
    last = percent.read_cells(script)[-1].text
    [link, *_] = re.findall(r"\bNext:\W*\[[^\]]*\]\(([^)]+)\.md\)", last)
    page = site / (script.parent.name if script.is_relative_to(ROOT / "docs") else "learn") / script.stem / "index.html"
    [footer] = re.findall(r'<a href="([^"]+)" class="[^"]*md-footer__link--next"', page.read_text(encoding="utf-8"))
    assert footer == f"../{link}/"


def test_a_broken_tutorial_stops_the_build(site, tmp_path):
    script = tmp_path / "97_broken.py"
    script.write_text("# %% [markdown]\n# # Broken\n# %%\nassert 1 + 1 == 3, 'sums'\n", encoding="utf-8")
    done = build(tmp_path / "out", str(tmp_path))
    assert done.returncode != 0
    assert "97_broken.py:4: AssertionError: sums" in done.stderr


def test_a_broken_formula_stops_the_build(site, tmp_path):
    script = tmp_path / "97_broken.py"
    script.write_text("# %% [markdown]\n# # Broken\n#\n# A formula $\\nosuch x$.\n", encoding="utf-8")
    done = build(tmp_path / "out", str(tmp_path))
    assert done.returncode != 0
    assert "97_broken.py:4: formula '\\nosuch x' does not convert" in done.stderr


def visit(folder: Path, netlog: Path) -> set[str]:
    """Open every page of a folder in Chromium, start the search, and return the addresses requested elsewhere."""
    with served(folder) as origin:
        with Browser(netlog) as browser:
            for page in site_pages(folder):
                browser.open(f"{origin}/{page}")
            if browser.evaluate("document.querySelector('.md-search__input') !== null"):
                browser.evaluate(SEARCH)                    # once: all pages have the same script and index
                browser.wait_for(SEARCHABLE)
        requested = requests_in(netlog)
        assert f"{origin}/" in requested            # the log records the requests of pages
        return {address for address in requested if not address.startswith(origin)}


@needs_chromium
def test_pages_make_no_requests_to_other_origins(site, tmp_path):
    assert visit(site, tmp_path / "netlog.json") == set()


@needs_chromium
@pytest.mark.parametrize("tag, address", [('<img src="http://images.invalid/x.png">', "http://images.invalid/x.png"),
                                          ('<link rel="preconnect" href="https://fonts.invalid">', "https://fonts.invalid")],
                         ids=["image", "preconnect"])
def test_a_request_to_a_different_origin_is_detected(tmp_path, tag, address):
    folder = tmp_path / "page"
    folder.mkdir()
    (folder / "index.html").write_text(f"<!doctype html><title>page</title>{tag}", encoding="utf-8")
    assert address in visit(folder, tmp_path / "netlog.json")
