"""Run the code blocks of a specification document as modules, without the package's own slow versions."""

import ast
import re
from functools import cache
from types import SimpleNamespace

from engram_ref.oracle.specification import FOLDER, render

SLOW = FOLDER.parent / "slow"
BLOCK = re.compile(r"```python\n# slow/(\w+)\.py\n(.*?)```", re.S)
PREFIX = "engram_ref.oracle.slow"


@cache
def modules_of(*names):
    """Return the slow versions that documents show: their definitions, with the imports of their files."""
    modules = {}
    for module, code in BLOCK.findall("\n".join(map(render, names))):
        space = modules.setdefault(module, SimpleNamespace())
        for statement in ast.parse((SLOW / f"{module}.py").read_text(encoding="utf-8")).body:
            if isinstance(statement, ast.Import | ast.ImportFrom) and PREFIX not in ast.unparse(statement):
                exec(ast.unparse(statement), vars(space))
        lend(space, module, modules)
        exec(code, vars(space))
    for module, space in modules.items():
        lend(space, module, modules)
    return SimpleNamespace(**modules)


def lend(space, module, modules):
    """Give a module what its file imports from other slow versions, if the document shows it."""
    for statement in ast.parse((SLOW / f"{module}.py").read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.ImportFrom) and statement.module == PREFIX:
            vars(space).update({alias.name: modules[alias.name] for alias in statement.names if alias.name in modules})
        elif isinstance(statement, ast.ImportFrom) and statement.module.startswith(f"{PREFIX}."):
            shown = vars(modules.get(statement.module.rpartition(".")[2], SimpleNamespace()))
            vars(space).update({alias.name: shown[alias.name] for alias in statement.names if alias.name in shown})


def steps_of(name):
    """Return {title: {bullet: text}} of every step, in order."""
    sections = re.split(r"^## \d+\. ", render(name), flags=re.M)[1:]
    bullet = re.compile(r"^- \*\*(\w+(?: \w+)?):\*\*\s((?:.|\n(?!- |\n))*)", re.M)
    return {section.split("\n", 1)[0]: dict(bullet.findall(section)) for section in sections}
