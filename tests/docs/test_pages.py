"""The pages' statements about the project are true: files and modules exist, and lists are complete."""

import json
import re
from pathlib import Path

import pytest
import specification
import structure
from diagrams import draw
from reference import find_modules

from engram_ref import Addressing, preset, presets
from engram_ref.ops.namespace import Ops
from engram_ref.ops.small import Small
from engram_ref.oracle.slow.addressing import digest
from engram_ref.oracle.specification import documents
from tests.architecture.test_architecture import INFRASTRUCTURE, MAX_FILE, MAX_FUNCTION, READING_ORDER
from tests.docs.test_paper_map import function_exists

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "NOTICE", *sorted((ROOT / "docs").rglob("*.md")),
         *sorted((ROOT / "docs").rglob("*.py")), *sorted((ROOT / "tutorials").glob("*.py"))]
FOLDERS = "docs engram_ref scripts tests tutorials"
NAMED_PATH = re.compile(rf"(?<![\w/.-])(?:{'|'.join(FOLDERS.split())})/[\w./*-]*[\w*/]")
NAMED_MODULE = re.compile(r"(?<![\w/.-])engram_ref(?:\.[a-zA-Z]\w*)+")
DESIGN = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")


def missing(text: str) -> list[str]:
    """Paths and dotted names in a text that do not exist."""
    paths = [name for name in NAMED_PATH.findall(text) if not any(ROOT.glob(name.rstrip("/")))]
    return paths + [name for name in NAMED_MODULE.findall(text) if not function_exists(name)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_file_and_module_that_a_page_names_exists(page):
    assert missing(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("name", ["engram_ref/labs/", "engram_ref.trainings", "engram_ref.ops.gate.sigmoids",
                                  "tests/mutant_*.py", "docs/papers"])
def test_an_unknown_name_is_reported(name):
    assert missing(f"The folder `{name}` holds it.") == [name]


def test_the_design_page_lists_exactly_the_modules():
    modules = {path.stem for path in (ROOT / "engram_ref").iterdir() if not path.name.startswith("__")
             and (path.suffix == ".py" or (path / "__init__.py").exists())}
    rows = re.findall(r"^\| \[`(\w+)`\]\(reference/api/\w+\.md\) \| (\S.*) \|$", structure.modules_table(), re.M)
    assert {name for name, _ in rows} == modules and len(rows) == len(modules)
    assert modules <= set(re.findall(r">([\w]+)</text>", draw("layers")))
    assert "{{ diagram: layers |" in DESIGN and "\n{{ modules }}\n" in DESIGN


def test_the_layers_follow_from_the_imports(tmp_path):
    package = tmp_path / "engram_ref"
    (package / "b").mkdir(parents=True)
    (package / "a.py").write_text("import numpy\n", encoding="utf-8")
    (package / "b" / "__init__.py").write_text('"""B."""\n', encoding="utf-8")
    (package / "b" / "c.py").write_text("def f():\n    from engram_ref import a\n    from engram_ref.b import d\n",
                                        encoding="utf-8")
    (package / "e.py").write_text("import engram_ref.b.c\n", encoding="utf-8")
    assert structure.layers(tmp_path) == [["a"], ["b"], ["e"]]
    assert "| [`b`](reference/api/b.md) | B. |" in structure.modules_table(tmp_path)


def test_the_design_page_states_the_tested_limits():
    assert f"at most {MAX_FILE} lines and functions at most {MAX_FUNCTION}; a test checks both" in DESIGN


def test_docstring_readme_and_design_page_give_the_same_reading_order():
    """A test in tests/architecture compares the order with the imports."""
    order = [*READING_ORDER, *INFRASTRUCTURE]
    assert [name for part in structure.reading_order() for name in part] == order
    paragraph = (ROOT / "README.md").read_text(encoding="utf-8").split("To read the code")[1].split("\n\n")[0]
    assert re.findall(r"`([a-z]+)`", paragraph) == order
    assert re.findall(r"reference/api/ops/(\w+)\.md", structure.reading_tables()) == order
    assert "\n{{ reading order }}\n" in DESIGN
    homes = [kind.__module__.rpartition(".")[2] for kind in reversed(Ops.__mro__) if kind not in (object, Ops, Small)
             and ".vjp." not in kind.__module__]
    assert homes == [name for name in order if name in homes]      # each class derives from the one before it


def test_the_reference_includes_slow_versions_but_no_wrong_ones():
    named = {name for name, _ in find_modules(ROOT)}
    assert {"oracle.slow", "oracle.slow.hashing", "oracle.verify"} <= named
    assert [name for name in named if name.startswith("oracle.bugs")] == ["oracle.bugs"]


def test_the_drawing_in_tutorial_01_refers_to_existing_tutorials():
    circled = {int(number) for number in re.findall(r'r="10"[^>]*/><text [^>]*>(\d+)</text>', draw("overview"))}
    tutorials = {int(path.name[:2]) for path in (ROOT / "tutorials").glob("[0-9]*.py")}
    assert circled == {2, 3, 4, 5, 6} <= tutorials
    assert "tutorials 02 to 06 explain" in (ROOT / "tutorials" / "01_why_lookup.py").read_text(encoding="utf-8")


def test_the_page_of_constants_shows_every_layer():
    page = specification.constants_page()
    file = ROOT / "tests" / "golden" / "addressing.json"
    known = json.loads(file.read_text(encoding="utf-8"))["deepseek-v4.1-flash"]
    published = [str(m) for layer in known["multipliers"] for m in layer] + [
        known["digests"][kind] for kind in ("multipliers", "primes", "offsets")]
    assert len(published) == 11 and [number for number in published if f"`{number}`" not in page] == []
    for name in presets():
        section, addressing = page.split(f"## {name}\n")[1].split("\n## ")[0], Addressing(preset(name))
        assert f"Pad: canonical id {addressing.pad_id}." in section
        for layer, multipliers in addressing.multipliers.items():
            listed = "<br>".join(f"`{m}`" for m in multipliers.tolist())
            assert f"| layer {layer}<br>multipliers `[{len(multipliers)}]` | {listed} |" in section
            for kind in ("multipliers", "primes", "offsets"):
                assert f"`{digest(getattr(addressing, kind)[layer])}`" in section


def test_the_site_shows_every_document_with_its_diagram():
    shown = specification.pages()
    assert [path.removeprefix("specification/") for path in shown] == [*documents(), "constants.md"]
    page, document = shown["specification/v4.1.md"], documents()["v4.1.md"]
    assert "{{ diagram: roundings |" in page and "```text" not in page and "```text" in document
    drawn, text = (set(re.findall(r"\bR\d|bfloat16|E4M3|float32", x)) for x in (draw("roundings"), document))
    assert drawn == {"R1", "R2", "R3", "R4", "bfloat16", "E4M3", "float32"} <= text


CONSTANTS = {
    "comment": ("BLOCK = 32          # channels that share one scale", "channels that share one scale"),
    "number": ("MASK = 2**64 - 1", "<!-- no words -->"),
    "table": ("NAMES = {\n    'a': 'b',  # the first\n}", "<!-- no words -->"),
    "word": ("HELP = 'a command'", ""),
    "computed": ("VALUES = values()", ""),
}


@pytest.mark.parametrize("source, words", CONSTANTS.values(), ids=CONSTANTS)
def test_a_constant_is_shown_with_its_comment_if_it_has_one(source, words):
    docstrings = pytest.importorskip("docstrings", reason="griffe, of the docs extra, is not installed")
    assert docstrings.constant_words(source) == words


ADDRESS = re.compile(r"https?://[^\s)>\"'`]+")
SOURCES = set(ADDRESS.findall((ROOT / "docs" / "paper" / "sources.md").read_text(encoding="utf-8")))
PAPER, MHC = "https://arxiv.org/abs/2601.07372", "https://arxiv.org/abs/2512.24880"
DEMO, KERNELS = "https://github.com/deepseek-ai/Engram", "https://github.com/deepseek-ai/TileKernels"
LINKED = {PAPER: ["README.md", "docs/index.md", "docs/paper/map.md", "docs/paper/errata.py",
                  "tutorials/01_why_lookup.py"],
          DEMO: ["README.md", "docs/index.md", "docs/paper/errata.py", "tutorials/01_why_lookup.py",
                 "tutorials/07_dialects.py"]}


def test_every_external_link_is_in_the_sources():
    elsewhere = {(page.name, address) for page in PAGES for address in ADDRESS.findall(page.read_text(encoding="utf-8"))
                 if address not in SOURCES}
    assert elsewhere == set() and SOURCES.issuperset({
        PAPER, MHC, DEMO, KERNELS, "https://github.com/deepseek-ai/DeepSeek-V3",
        "https://github.com/huggingface/transformers"})


@pytest.mark.parametrize("name, address", [("mHC paper", MHC), ("TileKernels", KERNELS)])
def test_a_page_that_names_a_source_links_it(name, address):
    pages = [page for page in PAGES if name in page.read_text(encoding="utf-8")]
    assert pages and [page.name for page in pages if address not in page.read_text(encoding="utf-8")] == []


def test_paper_and_demo_are_linked_at_their_first_mention():
    assert [(page, address) for address, pages in LINKED.items() for page in pages
            if address not in (ROOT / page).read_text(encoding="utf-8")] == []
