"""Import rules: the package and the scripts do not import tests, and the slow versions do not import the package."""

import ast
import sys

import pytest

from tests.architecture.test_architecture import FILES, PACKAGE, imported, in_fresh_process, trees

ROOT = PACKAGE.parent
SOURCES = [*FILES, *sorted((ROOT / "scripts").rglob("*.py"))]
SLOW = "engram_ref.oracle.slow"
MAY_IMPORT_NUMPY = f"{SLOW}.addressing"
"""This slow version uses NumPy to compute a digest; none uses NumPy for arithmetic."""


def slow_versions():
    return {module: tree for module, tree in trees().items() if f"{module}.".startswith(f"{SLOW}.")}


def forbidden_imports(tree, module=""):
    """Return imports of a slow version other than the standard library and other slow versions."""
    extra = {"numpy"} if module == MAY_IMPORT_NUMPY else set()
    return [name for name in imported(tree)
            if name.split(".")[0] not in sys.stdlib_module_names | extra and not f"{name}.".startswith(f"{SLOW}.")]


def imports_of_tests(tree):
    """Return every import of the tests, or of a name in them."""
    return [name for name in imported(tree) if name.split(".")[0] in ("tests", "conftest")]


def test_slow_versions_share_no_code_with_the_package():
    assert len(slow_versions()) > 9
    names_of = {module: forbidden_imports(tree, module) for module, tree in slow_versions().items()}
    assert {module: names for module, names in names_of.items() if names} == {}


@pytest.mark.parametrize("line", ["import engram_ref", "from engram_ref import ops", "import numpy", "import torch",
                                  "from engram_ref.oracle import run", "from engram_ref.oracle.slower import x"])
def test_forbidden_import_in_slow_version_is_detected(line):
    assert forbidden_imports(ast.parse(line))


def test_package_and_scripts_do_not_import_tests():
    parsed = {path.relative_to(ROOT): ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}
    assert {path: names for path, tree in parsed.items() if (names := imports_of_tests(tree))} == {}


@pytest.mark.parametrize("line", ["import tests", "from tests.bounds import rms", "def f():\n    from tests import x"])
def test_import_of_tests_is_detected(line):
    assert imports_of_tests(ast.parse(line))


def test_verify_loads_neither_slow_versions_nor_bugs():
    """Checking a port against the golden vectors does not import `slow` or `bugs`."""
    loaded = in_fresh_process("import sys, engram_ref.oracle.verify, engram_ref.oracle.vectors; print(*sys.modules)")
    folders = tuple(f"engram_ref.oracle.{name}" for name in ("slow", "bugs"))
    assert [module for module in loaded if module.startswith(folders)] == []
