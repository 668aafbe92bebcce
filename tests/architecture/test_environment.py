"""Results depend neither on Python's Unicode tables nor on the encoding of the locale."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("engram_ref", "scripts", "tests", "tutorials")
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
DEFINITION = [ROOT / "engram_ref" / "unicode.py", *sorted((ROOT / "engram_ref" / "ops").glob("*.py")),
              *sorted((ROOT / "engram_ref" / "text").glob("*.py"))]

UNICODE_METHODS = {"lower", "upper", "casefold", "title", "capitalize", "swapcase", "isspace", "isalpha", "isalnum",
                   "isdigit", "isdecimal", "isnumeric", "isprintable", "isidentifier"}
"""Methods of str that use the Unicode tables of the Python version, as `unicodedata` does."""


def unicode_reads(tree):
    """Yield line numbers where a module uses Python's Unicode tables."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom) and "unicodedata" in ast.unparse(node):
            yield node.lineno
        if isinstance(node, ast.Attribute) and node.attr in UNICODE_METHODS:
            yield node.lineno


def locale_reads(tree):
    """Yield line numbers where a text file is opened in the encoding of the locale."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and "encoding" not in {keyword.arg for keyword in node.keywords}:
            binary = any("b" in ast.unparse(argument) for argument in node.args[1:])
            opens = isinstance(node.func, ast.Name) and node.func.id == "open" and not binary
            if opens or (isinstance(node.func, ast.Attribute) and node.func.attr in ("read_text", "write_text")):
                yield node.lineno


def lines_with(paths, reads):
    return [f"{path.relative_to(ROOT)}:{line}" for path in paths
            for line in reads(ast.parse(path.read_text(encoding="utf-8")))]


def test_definition_does_not_use_pythons_unicode_tables():
    assert lines_with(DEFINITION, unicode_reads) == []


def test_text_files_are_opened_with_an_encoding():
    assert lines_with(SOURCES, locale_reads) == []


@pytest.mark.parametrize("line", ["import unicodedata", "from unicodedata import normalize", "x = text.lower()",
                                  "map(str.isspace, text)"])
def test_use_of_unicode_tables_is_detected(line):
    assert list(unicode_reads(ast.parse(line))) == [1]


@pytest.mark.parametrize("line", ["open(name)", "open(name, 'w')", "path.read_text()", "path.write_text(text)"])
def test_locale_encoding_is_detected(line):
    assert list(locale_reads(ast.parse(line))) == [1]


@pytest.mark.parametrize("line", ["open(name, 'rb')", "open(name, encoding='utf-8')", "read_text(words)"])
def test_bytes_and_explicit_encodings_pass(line):
    assert list(locale_reads(ast.parse(line))) == []
