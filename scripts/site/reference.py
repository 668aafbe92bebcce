"""Generated reference pages: one page per module, found by walking the package.

Pages about values (stages, dialects, command line) require importing the package. `introspect.py` generates them
in a separate process, so that `mkdocs serve` always uses the newest code.
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
LEFT_OUT = ("oracle.bugs.",)                         # the wrong implementations


def api_pages(root: Path = ROOT) -> dict[str, str]:
    """{source path of a page: Markdown}, in reading order."""
    folders = [name for layer in structure.layers(root) for name in layer if (root / PACKAGE / name).is_dir()]
    modules = sorted(find_modules(root), key=lambda module: _sort_key(module, folders))
    return {f"reference/api/{name.replace('.', '/')}.md": _api_page(name, is_package)
            for name, is_package in modules}


def find_modules(root: Path) -> list[tuple[str, bool]]:
    """(dotted name within the package, whether it is a package) of each module that gets a page."""
    modules = []
    for file in sorted((root / PACKAGE).rglob("*.py")):
        parts = file.relative_to(root / PACKAGE).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        hidden = name.startswith(LEFT_OUT) or any(part.startswith("_") for part in name.split("."))
        if not hidden and _has_content(file, is_package):
            modules.append((name or PACKAGE, is_package))
    return modules


def _has_content(file: Path, is_package: bool) -> bool:
    """Whether a package has a docstring, or a module a docstring or a public definition."""
    tree = ast.parse(file.read_text(encoding="utf-8"), str(file))
    definitions = (ast.FunctionDef, ast.ClassDef)
    public = any(isinstance(node, definitions) and not node.name.startswith("_") for node in tree.body)
    return ast.get_docstring(tree) is not None or (public and not is_package)


def _sort_key(module: tuple[str, bool], folders: list[str]) -> tuple:
    """Sort key: the package, its modules, then its folders by layer; the files of ops in reading order."""
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
    """Pages generated from values of the package; empty if there is no package."""
    return {**ask_package("introspect.py"), **choices.page(ROOT)}


def ask_package(script: str) -> dict:
    """Run a script of this folder with the current package and return the JSON it prints; {} without a package."""
    if not (ROOT / PACKAGE).is_dir():
        return {}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80", "NO_COLOR": "1"}
    done = subprocess.run([sys.executable, str(HERE / script)], cwd=ROOT, env=environment,
                          capture_output=True, text=True, encoding="utf-8")
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        location = next((line.strip() for line in reversed(lines) if line.lstrip().startswith("File")), "")
        raise RuntimeError(f"{script} failed: {lines[-1]} ({location})")
    return json.loads(done.stdout)


def navigation(pages: dict[str, str]) -> list:
    """mkdocs navigation: the value pages, then the API pages nested like the package."""
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
    """The list of section `name` on this level, appended if it is missing."""
    for entry in level:
        if isinstance(entry.get(name), list):
            return entry[name]
    level.append({name: []})
    return level[-1][name]
