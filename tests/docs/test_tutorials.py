"""All tutorials and all scripts in docs/ run, and their assertions pass.

Each runs in an empty folder, as it does for a reader who downloads it. The site shows the same results.
"""

import ast
import re
import sys
import tomllib

import pytest

pytest.importorskip("matplotlib")
import percent
import tutorial

SCRIPTS = sorted((tutorial.ROOT / "tutorials").glob("[0-9]*.py")) + tutorial.scripts_in(tutorial.ROOT / "docs")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_imports_only_installed_dependencies(path):
    project = tomllib.loads((tutorial.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["triton"]
    installed = {re.match(r"[\w-]+", need)[0].replace("-", "_") for need in wanted} | {"engram_ref"}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    modules = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    modules += [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert {name.split(".")[0] for name in modules} - sys.stdlib_module_names <= installed


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_does_not_start_with_an_encoding_declaration(path):
    """In the first two lines Python reads "coding: ..." as a declaration (PEP 263), even in the middle of a word."""
    start = path.read_text(encoding="utf-8").split("\n")[:2]
    assert [line for line in start if re.match(r"[ \t\f]*#.*?coding[:=][ \t]*[-_.a-zA-Z0-9]+", line)] == []


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_cell_that_draws_a_figure_asserts_its_title(path):
    drawn = [cell for cell in percent.read_cells(path) if cell.kind == "code" and "subplots(" in cell.text]
    assert [f"{path.name}:{cell.line}" for cell in drawn
            if not any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(cell.text)))] == []


@pytest.mark.thorough          # the docs build runs them, too
@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_tutorial_runs(path):
    result = tutorial.run(path, tutorial.ROOT / ".cache" / "tutorials")
    page, figures = tutorial.to_markdown(path, result)
    assert page.startswith("# ") and all(figure["alt"] for figure in figures.values())
