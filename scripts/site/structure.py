"""The structure of the package, read off its source: what modules hold, which imports which, how to read `ops`.

The Design page shows all three, so it can neither name a module that does not exist nor leave one out.
"""

import ast
import functools
import re
from pathlib import Path

from introspect import plain, table

PACKAGE = "engram_ref"
ROOT = Path(__file__).resolve().parents[2]


def modules(root: Path = ROOT) -> dict[str, Path]:
    """{name below the package: its file}: every module and subpackage on the top level."""
    found = {path.stem: path for path in (root / PACKAGE).glob("*.py") if not path.stem.startswith("__")}
    found |= {path.parent.name: path for path in (root / PACKAGE).glob("*/__init__.py")}
    return dict(sorted(found.items()))


def layers(root: Path = ROOT) -> list[list[str]]:
    """Names by layer: a module lies one layer below the lowest of those that it imports."""
    known = modules(root)
    needs = {name: _imported(path, name) & set(known) for name, path in known.items()}

    @functools.cache
    def depth(name: str) -> int:
        return 1 + max(map(depth, needs[name]), default=-1)

    depths = {name: depth(name) for name in known}
    return [[name for name in known if depths[name] == level] for level in range(max(depths.values(), default=-1) + 1)]


def _imported(path: Path, name: str) -> set[str]:
    """Top-level names that a module, or any file of a subpackage, imports from the package."""
    files = path.parent.rglob("*.py") if path.name == "__init__.py" else [path]
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))]
    paths = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    paths += [f"{node.module}.{alias.name}" for node in nodes if isinstance(node, ast.ImportFrom)
              for alias in node.names]
    return {path.split(".")[1] for path in paths if path.startswith(f"{PACKAGE}.")} - {name}


def modules_table(root: Path = ROOT) -> str:
    """Markdown: each name, linked to its page, with the first sentence of its docstring; in order of layers."""
    files = modules(root)
    rows = [[f"[`{name}`](reference/api/{name}.md)", plain(_summary(files[name]))]
            for layer in layers(root) for name in layer]
    return table(["module", "what it holds"], rows)


def reading_order(root: Path = ROOT) -> list[list[str]]:
    """The files of ops in the order of its docstring: Engram, the backbone, and what holds them together."""
    text = (root / PACKAGE / "ops" / "__init__.py").read_text(encoding="utf-8")
    words = " ".join(ast.get_docstring(ast.parse(text)).split())
    return [part.split(", ") for part in re.findall(r": (\w+(?:, \w+)+)[.:]", words)]


def reading_tables() -> str:
    """Markdown: a table for each part of that order, with the first sentence of every file."""
    titles = "Engram", "The backbone", "What holds them together"
    parts = []
    for title, names in zip(titles, reading_order(), strict=True):
        rows = [[f"[`{name}`](reference/api/ops/{name}.md)", plain(_summary(ROOT / PACKAGE / "ops" / f"{name}.py"))]
                for name in names]
        parts.append(table([title, "the idea"], rows))
    return "\n\n".join(parts)


def _summary(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n")[0]
