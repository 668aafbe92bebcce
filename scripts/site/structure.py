"""The structure of the package, read from its source: its modules, their imports, and the reading order of `ops`.

The Design page is generated from these, so it lists exactly the modules that exist.
"""

import ast
import functools
import re
from pathlib import Path

from introspect import plain, table

PACKAGE = "engram_ref"
ROOT = Path(__file__).resolve().parents[2]


def modules(root: Path = ROOT) -> dict[str, Path]:
    """{name: file} of every top-level module and subpackage."""
    files = {path.stem: path for path in (root / PACKAGE).glob("*.py") if not path.stem.startswith("__")}
    files |= {path.parent.name: path for path in (root / PACKAGE).glob("*/__init__.py")}
    return dict(sorted(files.items()))


def layers(root: Path = ROOT) -> list[list[str]]:
    """Names by layer: a module is one layer below the lowest module that it imports."""
    known = modules(root)
    needs = {name: _imported(path, name) & set(known) for name, path in known.items()}

    @functools.cache
    def depth(name: str) -> int:
        return 1 + max(map(depth, needs[name]), default=-1)

    depths = {name: depth(name) for name in known}
    return [[name for name in known if depths[name] == level] for level in range(max(depths.values(), default=-1) + 1)]


def _imported(path: Path, name: str) -> set[str]:
    """Top-level names imported from the package by a module or by any file of a subpackage."""
    files = path.parent.rglob("*.py") if path.name == "__init__.py" else [path]
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))]
    paths = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    paths += [f"{node.module}.{alias.name}" for node in nodes if isinstance(node, ast.ImportFrom)
              for alias in node.names]
    return {path.split(".")[1] for path in paths if path.startswith(f"{PACKAGE}.")} - {name}


def modules_table(root: Path = ROOT) -> str:
    """Markdown table of modules by layer: the name, linked to its page, and the first line of its docstring."""
    files = modules(root)
    rows = [[f"[`{name}`](reference/api/{name}.md)", plain(_summary(files[name]))]
            for layer in layers(root) for name in layer]
    return table(["module", "content"], rows)


def reading_order(root: Path = ROOT) -> list[list[str]]:
    """The files of ops in the order of its docstring: Engram, the backbone, and the supporting files."""
    text = (root / PACKAGE / "ops" / "__init__.py").read_text(encoding="utf-8")
    words = " ".join(ast.get_docstring(ast.parse(text)).split())
    return [part.split(", ") for part in re.findall(r"\((\w+(?:, \w+)+)\)", words)]


def reading_tables() -> str:
    """Markdown: one table per part of the reading order, with the first docstring line of every file."""
    titles = "Engram", "The backbone", "Supporting files"
    parts = []
    for title, names in zip(titles, reading_order(), strict=True):
        rows = [[f"[`{name}`](reference/api/ops/{name}.md)", plain(_summary(ROOT / PACKAGE / "ops" / f"{name}.py"))]
                for name in names]
        parts.append(table([title, "idea"], rows))
    return "\n\n".join(parts)


def _summary(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n")[0]
