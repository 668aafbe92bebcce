"""What the oracle and the scripts may import: nothing of the tests; the slow versions nothing of the package."""

import ast
import sys

import pytest

from tests.architecture.test_architecture import FILES, PACKAGE, imported, in_fresh_process, trees

ROOT = PACKAGE.parent
SOURCES = [*FILES, *sorted((ROOT / "scripts").rglob("*.py"))]
SLOW = "engram_ref.oracle.slow"
HANDS_BYTES_TO_A_DIGEST = f"{SLOW}.addressing"
"""The one slow version with NumPy: the arithmetic of all of them is Python's own."""


def slow_versions():
    return {module: tree for module, tree in trees().items() if f"{module}.".startswith(f"{SLOW}.")}


def borrowed(tree, module=""):
    """What a slow version imports and may not: anything but the standard library and other slow versions."""
    own = {"numpy"} if module == HANDS_BYTES_TO_A_DIGEST else set()
    return [name for name in imported(tree)
            if name.split(".")[0] not in sys.stdlib_module_names | own and not f"{name}.".startswith(f"{SLOW}.")]


def of_the_tests(tree):
    """Every import of the tests, or of a name in them."""
    return [name for name in imported(tree) if name.split(".")[0] in ("tests", "conftest")]


def test_slow_versions_share_no_code_with_the_package():
    assert len(slow_versions()) > 9
    found = {module: borrowed(tree, module) for module, tree in slow_versions().items()}
    assert {module: names for module, names in found.items() if names} == {}


@pytest.mark.parametrize("line", ["import engram_ref", "from engram_ref import ops", "import numpy", "import torch",
                                  "from engram_ref.oracle import run", "from engram_ref.oracle.slower import x"])
def test_forbidden_import_in_slow_version_is_detected(line):
    assert borrowed(ast.parse(line))


def test_package_and_scripts_do_not_import_tests():
    found = {path.relative_to(ROOT): of_the_tests(ast.parse(path.read_text(encoding="utf-8"))) for path in SOURCES}
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize("line", ["import tests", "from tests.bounds import rms", "def f():\n    from tests import x"])
def test_import_of_tests_is_detected(line):
    assert of_the_tests(ast.parse(line))


def test_verify_loads_neither_slow_nor_wrong_versions():
    """Who holds a port against the golden vectors loads neither the slow versions nor the wrong ones."""
    loaded = in_fresh_process("import sys, engram_ref.oracle.verify, engram_ref.oracle.vectors; print(*sys.modules)")
    folders = tuple(f"engram_ref.oracle.{name}" for name in ("slow", "wrong", "builders"))
    assert [module for module in loaded if module.startswith(folders)] == []
