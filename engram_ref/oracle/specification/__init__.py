"""The specification: documents from which Engram can be implemented in any language.

Templates in Markdown explain each step; the code that they show is that of engram_ref/oracle/slow, which computes the
golden answers. A line `{{part NAME}}` includes a template of the folder parts/, `{{code MODULE NAME...}}` shows
definitions of slow/MODULE.py without their docstrings, and a heading `## Step: TITLE` is numbered.
"""

import ast
import itertools
import re
from pathlib import Path

from engram_ref.errors import check_name

FOLDER = Path(__file__).parent
DOCUMENTS = ("demo", "v4.1", "qwen", "backbone", "files")
"""The documents in reading order."""


def documents() -> dict[str, str]:
    """Return {file name: Markdown} of all documents."""
    return {f"{name}.md": render(name) for name in DOCUMENTS}


def render(name: str) -> str:
    """Return a document as plain Markdown; raise InputError if the name is unknown."""
    check_name("document", name, DOCUMENTS)
    numbers = itertools.count(1)
    return re.sub(r"^## Step: ", lambda _: f"## {next(numbers)}. ", expanded(FOLDER / f"{name}.md"), flags=re.M)


def expanded(template: Path) -> str:
    """Return the text of a template with its markers replaced; raise if a marker is unknown."""
    kinds = {"part": lambda name: expanded(FOLDER / "parts" / f"{name}.md").rstrip("\n"), "code": code}
    return re.sub(r"^\{\{(\w+) (.*)\}\}$", lambda marker: kinds[marker[1]](*marker[2].split()),
                  template.read_text(encoding="utf-8"), flags=re.M)


def code(module: str, *names: str) -> str:
    """Return definitions of a slow version as a block of Python code."""
    source = (FOLDER.parent / "slow" / f"{module}.py").read_text(encoding="utf-8")
    nodes = {name: node for node in ast.parse(source).body for name in names_of(node)}
    lines = source.splitlines()
    return "\n".join([f"```python\n# slow/{module}.py", "\n\n".join(body(nodes[name], lines) for name in names), "```"])


def names_of(node: ast.stmt) -> list[str]:
    """Return the names that a statement of a module defines."""
    targets = getattr(node, "targets", [node])
    return [target.id if isinstance(target, ast.Name) else getattr(target, "name", "") for target in targets]


def body(node: ast.stmt, lines: list[str]) -> str:
    """Return the source of a statement without the docstrings in it."""
    documented = [inner for inner in ast.walk(node) if isinstance(inner, ast.FunctionDef | ast.ClassDef)
                  and ast.get_docstring(inner)]
    hidden = {n for inner in documented for n in range(inner.body[0].lineno, inner.body[1].lineno)}
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
    return "\n".join(lines[n - 1] for n in range(first, node.end_lineno + 1) if n not in hidden)
