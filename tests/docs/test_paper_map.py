"""All functions, tests and pages named on the map of the paper exist."""

import ast
import importlib
import re
from pathlib import Path

import pytest

from engram_ref.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
MAP = (DOCS / "paper" / "map.md").read_text(encoding="utf-8")
MUST_HAVE = ["Eq. 1", "Eq. 2", "Eq. 3", "Eq. 4", "Eq. 5", "Eq. 6", "Table 5", "Table 6", "Fig. 1", "Fig. 7"]


def entries(text: str) -> dict[str, str]:
    """{label: text of its entry}; an entry is `**Label** {: #anchor }`, then indented lines."""
    return dict(re.findall(r"^\*\*(.*?)\*\* \{: #\S+ \}\n:   ((?:.*\n)+?)(?=\n)", text, re.M))


def missing(text: str) -> list[str]:
    """Functions, tests and pages that a text names but that do not exist."""
    functions = [name for name in re.findall(r"\]\[(engram_ref[\w.]*)\]", text) if not function_exists(name)]
    tests = [name for name in re.findall(r"`(tests/[^`]*)`", text) if not has_test(name)]
    links = re.findall(r"\]\((?!https:)([^)#]+)(?:#[^)]*)?\)", text)
    return functions + tests + [link for link in links if not page_exists(link)]


def function_exists(name: str) -> bool:
    """Whether a dotted name exists; imports the module and looks up the remaining attributes.

    In a backend whose package is not installed, only the folder is checked.
    """
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:cut]))
        except ImportError:
            continue
        except InputError:
            if ROOT.joinpath(*parts[:cut]).is_dir():
                return True
            continue
        for part in parts[cut:]:
            found = getattr(found, part, None)
        return found is not None
    return False


def has_test(name: str) -> bool:
    file, _, function = name.partition("::")
    if not (ROOT / file).is_file() or not function:
        return False
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return any(isinstance(node, ast.FunctionDef) and node.name == function for node in tree.body)


def page_exists(link: str) -> bool:
    """Whether a link is a page or script in docs/, a tutorial, or a generated page."""
    path = (DOCS / "paper" / link).resolve()
    tutorial = ROOT / "tutorials" / f"{path.stem}.py" if path.parent == DOCS / "learn" else path
    generated = path.relative_to(DOCS).as_posix() in ("reference/dialects.md", "reference/stages.md")
    return path.exists() or path.with_suffix(".py").exists() or tutorial.exists() or generated


def test_every_name_on_the_map_exists():
    assert missing(MAP) == []


@pytest.mark.parametrize("label", MUST_HAVE)
def test_every_entry_links_a_function_a_test_and_a_page(label):
    found = [body for name, body in entries(MAP).items() if re.match(rf"{re.escape(label)}\b", name)]
    assert found
    for body in found:
        assert "][engram_ref." in body and "::test_" in body and ".md)" in body, body


WRONG = {
    "function": ("[`mixed`][engram_ref.ops.hashing.mixed]", "engram_ref.ops.hashing.mixed"),
    "module": ("[`mix`][engram_ref.ops.hash.mix]", "engram_ref.ops.hash.mix"),
    "method": ("[`x`][engram_ref.trace.Trace.nothing]", "engram_ref.trace.Trace.nothing"),
    "test-file": ("`tests/unit/test_hash.py::test_windows`", "tests/unit/test_hash.py::test_windows"),
    "test-name": ("`tests/unit/test_hashing.py::test_window`", "tests/unit/test_hashing.py::test_window"),
    "no-test-name": ("`tests/unit/test_hashing.py`", "tests/unit/test_hashing.py"),
    "page": ("[05](../learn/05_gates.md)", "../learn/05_gates.md"),
}


@pytest.mark.parametrize("text, named", WRONG.values(), ids=WRONG)
def test_an_unknown_name_is_reported(text, named):
    assert missing(f"**Eq. 1** {{: #eq-1 }}\n:   {text}\n") == [named]
