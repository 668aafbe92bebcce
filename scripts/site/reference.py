"""Reference pages that write themselves: one page a module, found by walking the package.

A new module appears by itself; a package that does not exist yet gives no page. Pages about
values (stages, dialects, command line) need the package imported and come from
`introspect.py`, run in a process of its own so that `mkdocs serve` always sees the newest code.
"""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import choices
import structure

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PACKAGE = "engram_ref"
READING_ORDER = [name for part in structure.reading_order() for name in part]
LEFT_OUT = ("oracle.builders", "oracle.wrong")     # tools of those who make the golden vectors and the tests


def api_pages(root: Path = ROOT) -> dict[str, str]:
    """{source path of the page: Markdown}, in the order of reading."""
    folders = [name for layer in structure.layers(root) for name in layer if (root / PACKAGE / name).is_dir()]
    modules = sorted(find_modules(root), key=lambda module: _place(module, folders))
    return {f"reference/api/{name.replace('.', '/')}.md": _api_page(name, is_package)
            for name, is_package in modules}


def find_modules(root: Path) -> list[tuple[str, bool]]:
    """(dotted name without the package's own, is it a package) of each module worth a page."""
    found = []
    for file in sorted((root / PACKAGE).rglob("*.py")):
        parts = file.relative_to(root / PACKAGE).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        hidden = name.startswith(LEFT_OUT) or any(part.startswith("_") for part in name.split("."))
        if not hidden and _says_something(file, is_package):
            found.append((name or PACKAGE, is_package))
    return found


def _says_something(file: Path, is_package: bool) -> bool:
    """A package needs a docstring; a module, a docstring or a public definition."""
    tree = ast.parse(file.read_text(encoding="utf-8"), str(file))
    definitions = (ast.FunctionDef, ast.ClassDef)
    public = any(isinstance(node, definitions) and not node.name.startswith("_") for node in tree.body)
    return ast.get_docstring(tree) is not None or (public and not is_package)


def _place(module: tuple[str, bool], folders: list[str]) -> tuple:
    """Sort key: the package, its own modules, then its folders by layer; ops in the order of reading."""
    name, is_package = module
    if name == PACKAGE:
        return (-1,)
    folder = name if is_package else name.rpartition(".")[0]
    leaf = name.rpartition(".")[2]
    order = READING_ORDER.index(leaf) if leaf in READING_ORDER else len(READING_ORDER)
    return (1 + folders.index(folder.split(".")[0]) if folder else 0, folder, not is_package, order, leaf)


def _api_page(name: str, is_package: bool) -> str:
    path = name if name == PACKAGE else f"{PACKAGE}.{name}"
    members = "\n    options:\n      members: false" if is_package else ""
    return f"# {path}\n\n::: {path}{members}\n"


def value_pages() -> dict[str, str]:
    """Pages about what the package holds; empty while there is no package."""
    return {**ask_package("introspect.py"), **choices.page(ROOT)}


def ask_package(script: str) -> dict:
    """What a script of this folder prints as JSON, with the package as it is now; {} without one."""
    if not (ROOT / PACKAGE).is_dir():
        return {}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80", "NO_COLOR": "1"}
    done = subprocess.run([sys.executable, str(HERE / script)], cwd=ROOT, env=environment,
                          capture_output=True, text=True, encoding="utf-8")
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        place = next((line.strip() for line in reversed(lines) if line.lstrip().startswith("File")), "")
        raise RuntimeError(f"{script} needs the package to work: {lines[-1]} ({place})")
    return json.loads(done.stdout)


def navigation(pages: dict[str, str]) -> list:
    """mkdocs navigation: the value pages, then the API nested as the package is."""
    plain = [path for path in pages if not path.startswith("reference/api/")]
    tree: list = []
    for path in pages:
        if path in plain:
            continue
        *folders, leaf = path.removeprefix("reference/api/").removesuffix(".md").split("/")
        level = tree
        for folder in folders:
            level = _section(level, folder)
        is_folder = any(p.startswith(f"reference/api/{'/'.join([*folders, leaf])}/") for p in pages)
        level = _section(level, leaf) if is_folder else level
        level.append({"overview" if is_folder else leaf: path})
    return [*plain, *([{"API": tree}] if tree else [])]


def _section(level: list, name: str) -> list:
    """The list of section `name` on this level; a new one at the end where there is none."""
    for entry in level:
        if isinstance(entry.get(name), list):
            return entry[name]
    level.append({name: []})
    return level[-1][name]
